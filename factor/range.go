package factor

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/internal/names"
	"github.com/spf13/pflag"
)

// A Span is the smallest and the largest accepted value of a flag, as a user writes them. If 0 has a special meaning, the flag's help states it.
type Span struct{ Least, Most string }

// longest is bench.WindowMax, as users write it.
var longest = fmt.Sprintf("%dh", bench.WindowMax/time.Hour)

// numeric maps the types of flags that need a range to their parsers.
var numeric = map[string]func(text string) (float64, error){
	"int": func(s string) (float64, error) {
		v, err := strconv.ParseInt(s, 10, 64)
		return float64(v), wholeNumber(s, err)
	},
	"uint64": func(s string) (float64, error) {
		v, err := strconv.ParseUint(s, 10, 64)
		return float64(v), wholeNumber(s, err)
	},
	"duration": func(s string) (float64, error) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration, such as 10s or 250ms", s)
		}
		return float64(d), nil
	},
	"size":  func(s string) (float64, error) { var b Bytes; err := b.Set(s); return float64(b), err },
	"count": func(s string) (float64, error) { var c Count; err := c.Set(s); return float64(c), err },
	"rate":  func(s string) (float64, error) { var r Rate; err := r.Set(s); return float64(r), err },
	"share": func(s string) (float64, error) { var v Share; err := v.Set(s); return float64(v), err },
	"speed": func(s string) (float64, error) { var v Speed; err := v.Set(s); return float64(v), err },
}

// wholeNumber returns the error for a number that did not parse, or nil. Numbers are decimal: 010 is ten, and 0x10 is not a number.
func wholeNumber(s string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, strconv.ErrRange):
		return errOutOfRange
	}
	return fmt.Errorf("%q is not a whole decimal number", s)
}

var errOutOfRange = errors.New("out of range")

// ranged is a flag's value that accepts only numbers in its range.
type ranged struct {
	pflag.Value
	Span
	number func(text string) (float64, error)
}

var _ pflag.Value = (*ranged)(nil)

// Set implements pflag.Value.
func (r *ranged) Set(s string) error {
	v, err := r.number(s)
	if errors.Is(err, errOutOfRange) {
		return fmt.Errorf("must be from %s to %s", r.Least, r.Most)
	}
	if err != nil {
		return err
	}
	least, err := r.number(r.Least)
	most, err2 := r.number(r.Most)
	if err := errors.Join(err, err2); err != nil {
		panic(err) // a bound in the table is wrong
	}
	if v < least || v > most {
		return fmt.Errorf("must be from %s to %s", r.Least, r.Most)
	}
	if t := r.Type(); t == "int" || t == "uint64" { // pflag treats a leading 0 as octal
		s = cmp.Or(strings.TrimLeft(s, "+-0"), "0")
	}
	return r.Value.Set(s)
}

// Limit sets the ranges of the numeric flags that have none yet, and adds them to the help.
func Limit(set *pflag.FlagSet, spans map[string]Span) {
	set.VisitAll(func(g *pflag.Flag) {
		if _, is := g.Value.(*ranged); is || numeric[g.Value.Type()] == nil {
			return
		}
		s, known := spans[g.Name]
		if !known {
			panic("kvwire: flag --" + g.Name + " has no range")
		}
		limit(g, s)
	})
}

func limit(g *pflag.Flag, s Span) {
	g.Value = &ranged{g.Value, s, numeric[g.Value.Type()]}
	g.Usage += " (" + s.Least + " to " + s.Most + ")"
}

// Mistake replaces the text of pflag's error for an invalid value; it returns other errors as they are. The text has the value once.
func Mistake(err error) error {
	var v *pflag.InvalidValueError
	if !errors.As(err, &v) {
		return err
	}
	name, value, why := v.GetFlag().Name, v.GetValue(), Reason(err)
	switch quoted := strconv.Quote(value); {
	case strings.HasPrefix(why.Error(), quoted+" "):
		return fmt.Errorf("--%s %w", name, why)
	case strings.TrimSpace(value) == "":
		return fmt.Errorf("--%s %s: %w", name, quoted, why)
	}
	return fmt.Errorf("--%s %s: %w", name, value, why)
}

// Reason returns the cause of pflag's error for an invalid value, without the flag's name.
func Reason(err error) error {
	var v *pflag.InvalidValueError
	if !errors.As(err, &v) {
		return err
	}
	if n := new(strconv.NumError); errors.As(err, &n) && n.Func == "ParseBool" {
		return fmt.Errorf("%q is not a truth value (true or false)", v.GetValue())
	}
	return v.Unwrap()
}

// Meant returns a question that names the flag that a misspelled one resembles, for the end of the error; "" if none does.
func Meant(set *pflag.FlagSet, err error) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return ""
	}
	var all []string
	set.VisitAll(func(g *pflag.Flag) {
		if !g.Hidden || g.Name == HelpAll {
			all = append(all, g.Name)
		}
	})
	best := names.Nearest(unknown.GetSpecifiedName(), all)
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; do you mean --%s?", best)
}
