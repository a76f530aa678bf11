package factor

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// Keys of a flag's annotations: its group, and that --help shows it.
const (
	groupOf = "group"
	common  = "common"
)

// Bind adds flags to set, for the factors for which pass is true. Parsing the flags writes to v; Bind sets v to their defaults.
func (t Table) Bind(set *pflag.FlagSet, v *Values, pass func(*Factor) bool) {
	for i := range t {
		if pass(&t[i]) {
			t[i].bind(set, v)
		}
	}
}

// Any returns a filter for Bind: the factors that have one of these sides.
func Any(s Side) func(*Factor) bool { return func(f *Factor) bool { return f.HasAny(s) } }

func (f *Factor) bind(set *pflag.FlagSet, v *Values) {
	var err error
	switch p := f.At(v).(type) {
	case *bool:
		set.BoolVar(p, f.Name, f.Default == "true", f.Help)
	case *string:
		set.StringVar(p, f.Name, f.Default, f.Help)
	case *int:
		var n int
		n, err = strconv.Atoi(f.Default)
		set.IntVar(p, f.Name, n, f.Help)
	case *uint64:
		var n uint64
		n, err = strconv.ParseUint(f.Default, 10, 64)
		set.Uint64Var(p, f.Name, n, f.Help)
	case *time.Duration:
		var d time.Duration
		d, err = time.ParseDuration(f.Default)
		set.DurationVar(p, f.Name, d, f.Help)
	case *CPUs:
		*p = slices.Clone(unset)
		set.Var(p, f.Name, f.Help)
		set.Lookup(f.Name).DefValue = ""
	case pflag.Value:
		err = p.Set(f.Default)
		set.Var(p, f.Name, f.Help)
	default:
		err = fmt.Errorf("a value of type %T", p)
	}
	if err != nil {
		panic(fmt.Sprintf("factor: %s: default %q: %v", f.Name, f.Default, err))
	}
	g := set.Lookup(f.Name)
	g.Annotations = map[string][]string{groupOf: {f.Group}}
	if f.Common {
		g.Annotations[common] = []string{On}
	}
	g.Hidden = f.Hidden
	if f.Range != (Span{}) {
		limit(g, f.Range)
	}
}

// scratch returns an empty set that keeps its flags in the order in which they are added. It parses no command line.
func scratch() *pflag.FlagSet {
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	set.SortFlags = false
	return set
}

// HelpAll is the flag that prints all flags of a command. --help prints the common ones.
const HelpAll = "help-all"

// Group puts flags that are no factors under a heading of --help-all. --help does not show them.
func Group(set *pflag.FlagSet, heading string, names ...string) {
	for _, name := range names {
		g := set.Lookup(name)
		if g.Annotations == nil {
			g.Annotations = map[string][]string{}
		}
		g.Annotations[groupOf] = []string{heading}
	}
}

// Usage writes the flags of a set: first those without a group, then the others by group. Unless all is true, it writes the common factors
// only, and how many flags it leaves out.
func Usage(w io.Writer, set *pflag.FlagSet, all bool) {
	sets := map[string]*pflag.FlagSet{"": scratch()}
	groups := []string{""}
	shown, total := 0, 0
	set.VisitAll(func(g *pflag.Flag) {
		if g.Hidden {
			return
		}
		total++
		name := ""
		if of := g.Annotations[groupOf]; len(of) > 0 {
			name = of[0]
		}
		if name != "" && !all && g.Annotations[common] == nil {
			return
		}
		shown++
		if sets[name] == nil {
			sets[name] = scratch()
			groups = append(groups, name)
		}
		sets[name].AddFlag(g)
	})
	for _, name := range groups {
		if !sets[name].HasFlags() {
			continue
		}
		heading := "Flags"
		if name != "" {
			heading = "\n" + name
		}
		fmt.Fprintf(w, "%s:\n%s", heading, sets[name].FlagUsagesWrapped(100))
	}
	if shown < total {
		fmt.Fprintf(w, "\nThese are the common flags: %d of %d. %s --%s lists all.\n", shown, total, set.Name(), HelpAll)
	}
}

// CheckWords returns an error for a value that is not among the Words of its factor.
func (t Table) CheckWords(v *Values) error {
	for i := range t {
		f := &t[i]
		if text := f.Text(v); len(f.Words) > 0 && text != f.Default && !slices.Contains(f.Words, text) {
			return fmt.Errorf("--%s %q is unknown (%s)", f.Name, text, either(f.Words))
		}
	}
	return nil
}

// Given reports whether the user has set a flag.
type Given func(name string) bool

// CheckGiven returns an error for a flag that the user gave although its factor's When does not hold. It checks the factors for which pass is true.
func (t Table) CheckGiven(v *Values, given Given, pass func(*Factor) bool) error {
	get := t.Get(v)
	for i := range t {
		if f := &t[i]; given(f.Name) && pass(f) {
			if err := f.Refused(get); err != nil {
				return err
			}
		}
	}
	return nil
}
