package factor

import (
	"fmt"
	"slices"
	"strings"
)

// A Condition restricts the values of other factors. It holds if in each clause at least one need is met. The zero value always holds.
type Condition []clause

type clause []need

// need is met if the factor has one of the values; with not, if it has none of them.
type need struct {
	name   string
	values []string
	not    bool
}

// Where is the condition that a factor has one of these values.
func Where(name string, values ...string) Condition { return Condition{}.And(name, values...) }

// Unless is the condition that a factor has none of these values.
func Unless(name string, values ...string) Condition { return Condition{}.AndNot(name, values...) }

// And returns c with one more clause: the factor has one of these values.
func (c Condition) And(name string, values ...string) Condition {
	return append(slices.Clone(c), clause{{name: name, values: values}})
}

// AndNot returns c with one more clause: the factor has none of these values.
func (c Condition) AndNot(name string, values ...string) Condition {
	return append(slices.Clone(c), clause{{name: name, values: values, not: true}})
}

// Or returns c with one more need in its last clause.
func (c Condition) Or(name string, values ...string) Condition {
	last := len(c) - 1
	c = slices.Clone(c)
	c[last] = append(slices.Clone(c[last]), need{name: name, values: values})
	return c
}

// Holds reports whether the condition holds. get returns a factor's value as a user would write it.
func (c Condition) Holds(get func(name string) string) bool { return c.broken(get) == nil }

// broken returns the first clause that does not hold, or nil.
func (c Condition) broken(get func(name string) string) clause {
	for _, all := range c {
		if !slices.ContainsFunc(all, func(n need) bool { return slices.Contains(n.values, get(n.name)) != n.not }) {
			return all
		}
	}
	return nil
}

// Refused returns an error if When does not hold for these values, with the reason.
func (f *Factor) Refused(get func(name string) string) error {
	broken := f.When.broken(get)
	if broken == nil {
		return nil
	}
	n := broken[0]
	if n.not {
		return fmt.Errorf("--%s has no effect with --%s %s: leave it out", f.Name, n.name, get(n.name))
	}
	return fmt.Errorf("--%s needs --%s %s, not %s", f.Name, n.name, either(n.values), get(n.name))
}

// either joins words: "a", "a or b", or "a, b or c".
func either(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// Applies reports whether the factor has an effect with these values. If not, its column is empty.
func (f *Factor) Applies(get func(name string) string) bool {
	return f.When.Holds(get)
}

// Where describes where the factor applies, for docs/columns.md; "": everywhere.
func (f *Factor) Where() string {
	where := f.When.String()
	if where != "" && f.Scope != "" {
		where += "; "
	}
	return where + f.Scope
}

// WhereSwept describes the cells that have the factor; "": all.
func (f *Factor) WhereSwept() string { return slices.Concat(f.When, f.Sweep).String() }

// Swept reports whether cells with these values have this factor.
func (f *Factor) Swept(get func(name string) string) bool {
	return f.Applies(get) && f.Sweep.Holds(get)
}

// narrower reports whether d is met only where c is, too: both have one need of the same factor, and d allows fewer values.
func (c clause) narrower(d clause) bool {
	return len(c) == 1 && len(d) == 1 && c[0].name == d[0].name && !c[0].not && !d[0].not && len(d[0].values) < len(c[0].values) &&
		!slices.ContainsFunc(d[0].values, func(v string) bool { return !slices.Contains(c[0].values, v) })
}

// String formats the condition for docs/columns.md: "transport=rdma and rdma-verb=read", "backend=disk/raw or transport=uring".
func (c Condition) String() string {
	var all []string
	for _, clause := range c {
		if slices.ContainsFunc(c, clause.narrower) {
			continue
		}
		var needs []string
		for _, n := range clause {
			is := "="
			if n.not {
				is = " other than "
			}
			needs = append(needs, n.name+is+strings.Join(n.values, "/"))
		}
		text := strings.Join(needs, " or ")
		if len(c) > 1 && len(needs) > 1 {
			text = "(" + text + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, " and ")
}
