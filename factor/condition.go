package factor

import (
	"fmt"
	"slices"
	"strings"
)

// A Condition is about the values of other factors: of each clause one need must be met. The zero value always holds.
type Condition []clause

type clause []need

// need is met by a factor that has one of the values, or with not: none of them.
type need struct {
	name   string
	values []string
	not    bool
}

// Where is the condition that a factor has one of these values.
func Where(name string, values ...string) Condition { return Condition{}.And(name, values...) }

// Unless is the condition that a factor has none of these values.
func Unless(name string, values ...string) Condition { return Condition{}.AndNot(name, values...) }

// And adds a need.
func (c Condition) And(name string, values ...string) Condition {
	return append(slices.Clone(c), clause{{name: name, values: values}})
}

// AndNot adds the need that a factor has none of these values.
func (c Condition) AndNot(name string, values ...string) Condition {
	return append(slices.Clone(c), clause{{name: name, values: values, not: true}})
}

// Or adds an alternative to the last need.
func (c Condition) Or(name string, values ...string) Condition {
	last := len(c) - 1
	c = slices.Clone(c)
	c[last] = append(slices.Clone(c[last]), need{name: name, values: values})
	return c
}

// Holds reports whether the condition holds for these values, as users would write them.
func (c Condition) Holds(get func(name string) string) bool { return c.broken(get) == nil }

// broken is the first clause that does not hold.
func (c Condition) broken(get func(name string) string) clause {
	for _, all := range c {
		if !slices.ContainsFunc(all, func(n need) bool { return slices.Contains(n.values, get(n.name)) != n.not }) {
			return all
		}
	}
	return nil
}

// Refused is why a flag has no meaning among these values; nil: it has.
func (f *Factor) Refused(get func(name string) string) error {
	broken := f.When.broken(get)
	if broken == nil {
		return nil
	}
	n := broken[0]
	return fmt.Errorf("--%s needs --%s %s, not %s", f.Name, n.name, either(n.values), get(n.name))
}

// either is "a", "a or b", or "a, b or c".
func either(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// Applies reports whether a factor has an effect among these values: else its column is empty.
func (f *Factor) Applies(get func(name string) string) bool {
	return f.When.Holds(get) && f.Effect.Holds(get)
}

// Swept reports whether a cell with these values may have this factor.
func (f *Factor) Swept(get func(name string) string) bool {
	return f.Applies(get) && f.Sweep.Holds(get)
}

// String is the condition as documents have it: "transport=rdma and rdma-verb=read", "backend=disk, raw or transport=uring".
func (c Condition) String() string {
	var all []string
	for _, clause := range c {
		var needs []string
		for _, n := range clause {
			is := "="
			if n.not {
				is = " other than "
			}
			needs = append(needs, n.name+is+strings.Join(n.values, ", "))
		}
		text := strings.Join(needs, " or ")
		if len(c) > 1 && len(needs) > 1 {
			text = "(" + text + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, " and ")
}
