package experiment

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// SliceWhole is Experiment.Slice where each cell is run by itself, in one piece.
const SliceWhole time.Duration = -1

// Bounds of how an experiment is measured.
const (
	TimeMin, TimeMax   = time.Second, 24 * time.Hour
	SliceMin, SliceMax = 5 * time.Millisecond, 10 * time.Second
	PercentMax         = 0.5 // of until and matters
	PercentMin         = 0.001
)

// settings reads a key that sets a parameter of the measurement. known is false for other keys.
func (r *reader) settings(p pair, x *Experiment) (known bool, err error) {
	switch p.key {
	case "generations", "blocks":
		if x.Generations != 0 {
			return true, r.errorAt(p.at, "generations and blocks are the same, of which blocks is the old name: leave generations")
		}
		x.Generations, err = r.generations(p)
	case "time":
		x.Time, err = r.duration(p, "how long a question is measured", TimeMin, TimeMax)
	case "slice":
		x.Slice, err = r.slice(p)
	case "until":
		x.Until, err = r.percent(p, "measuring stops when all intervals are so narrow")
	case "matters":
		x.Matters, err = r.percent(p, "the least difference that counts")
	default:
		return false, nil
	}
	if err == nil && x.Slice == SliceWhole && x.Time > 0 {
		err = r.errorAt(p.at, "time is for slices, and has no effect with slice: whole: leave it out (duration and warmup are the time of a whole run)")
	}
	return true, err
}

func (r *reader) generations(p pair) (int, error) {
	s, err := r.scalar(p.key, p.value)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > MaxGenerations {
		return 0, r.errorAt(p.value.GetToken(), "%s %q: choose 1 to %d, how often all variants are started and measured", p.key, s, MaxGenerations)
	}
	return n, nil
}

func (r *reader) duration(p pair, what string, least, most time.Duration) (time.Duration, error) {
	s, err := r.scalar(p.key, p.value)
	if err != nil {
		return 0, err
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most {
		return 0, r.errorAt(p.value.GetToken(), "%s %q: choose %v to %v, %s", p.key, s, least, most, what)
	}
	return d, nil
}

func (r *reader) slice(p pair) (time.Duration, error) {
	s, err := r.scalar(p.key, p.value)
	if err != nil {
		return 0, err
	}
	if s == "whole" || s == "0" {
		return SliceWhole, nil
	}
	d, err := time.ParseDuration(s)
	switch {
	case err == nil && d == 0:
		return SliceWhole, nil
	case err != nil || d < SliceMin || d > SliceMax:
		return 0, r.errorAt(p.value.GetToken(), "slice %q: choose %v to %v, or whole: each cell by itself, in one piece", s, SliceMin, SliceMax)
	}
	return d, nil
}

// percent reads 3% as 0.03.
func (r *reader) percent(p pair, what string) (float64, error) {
	s, err := r.scalar(p.key, p.value)
	if err != nil {
		return 0, err
	}
	number, isPercent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if v /= 100; err != nil || !isPercent || math.IsNaN(v) || v < PercentMin || v > PercentMax {
		return 0, r.errorAt(p.value.GetToken(), "%s %q: choose %g%% to %g%%, %s", p.key, s, 100*PercentMin, 100*PercentMax, what)
	}
	return v, nil
}

// interaction reads two flags that sweep, one of which is what is compared.
func (r *reader) interaction(p *pair, x *Experiment) error {
	if p == nil {
		return nil
	}
	list, ok := p.value.(*ast.SequenceNode)
	if !ok || len(list.Values) != 2 {
		return r.errorAt(p.at, "interaction must be a list of two flags: [depth, transport]")
	}
	a, err := r.values(*p) // returns an error for a repeated flag
	if err != nil {
		return err
	}
	for i, name := range a.values {
		if !x.Sweeps(name) {
			return r.errorAt(a.places[i], "interaction: %q is not one of the flags that sweep (%s)", name, strings.Join(x.Axes, ", "))
		}
	}
	if !slices.Contains(a.values, x.Compare) {
		return r.errorAt(p.value.GetToken(), "interaction: one of the two must be the compared flag, %s", x.Compare)
	}
	other := a.values[0]
	if other == x.Compare {
		other = a.values[1]
	}
	if slices.Contains(x.variants, other) {
		return r.errorAt(p.value.GetToken(), "interaction: %s belongs to some values of %s only: choose a flag that all of them have", other, x.Compare)
	}
	x.Interaction = a.values
	return nil
}

// Interactions are the pairs of questions that differ in the value of the interaction's other flag alone: each with the one that has the
// flag's first value. None where the file asks for none.
func (x *Experiment) Interactions() (factor string, all []QuestionPair) {
	for _, name := range x.Interaction {
		if name != x.Compare {
			factor = name
		}
	}
	if factor == "" {
		return "", nil
	}
	first := map[string]Question{} // by the flags that both have
	for _, q := range x.Questions() {
		to, ok := q.Flags.Get(factor)
		if !ok {
			continue
		}
		common := slices.DeleteFunc(slices.Clone(q.Flags), func(f Flag) bool { return f.Name == factor })
		from, known := first[common.String()]
		if !known {
			first[common.String()] = q
			continue
		}
		v, _ := from.Flags.Get(factor)
		all = append(all, QuestionPair{Common: common, From: v, To: to, AtFrom: from, AtTo: q})
	}
	return factor, all
}

// QuestionPair are two questions that differ in one flag alone.
type QuestionPair struct {
	Common       Cell   // the flags that both have
	From, To     string // the flag's first value, and another one
	AtFrom, AtTo Question
}
