package lab

import (
	"cmp"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab/experiment"
)

// Choice holds the user's settings for the measurement of an experiment, from the flags of kvwire run.
type Choice struct {
	Quick, Paper        bool
	Generations, Blocks int // 0: not chosen; Blocks is the old name
	Retry               int
	Slice, Time         time.Duration
	Until               float64
	Changed             func(flag string) bool // reports whether the user gave the flag slice, time or until
}

// Generations of --quick and --paper.
const (
	QuickGenerations = 3 // no verdicts
	PaperGenerations = 24
)

// Settings returns the settings of the measurement: from the choice, else from the experiment's file, else the defaults.
func (c *Choice) Settings(x *experiment.Experiment) (s Settings, err error) {
	s = Settings{Slice: DefaultSlice, Time: x.Time, Until: x.Until, Retry: c.Retry, Generations: x.Generations}
	switch {
	case c.Changed("slice"):
		s.Slice = c.Slice
	case x.Slice == experiment.SliceWhole:
		s.Slice = 0
	case x.Slice > 0:
		s.Slice = x.Slice
	}
	if c.Changed("time") {
		s.Time = c.Time
	}
	if c.Changed("until") {
		s.Until = c.Until
	}
	chosen := 0
	for _, f := range []struct {
		set bool
		n   int
	}{{c.Quick, QuickGenerations}, {c.Paper, PaperGenerations}, {c.Blocks != 0, c.Blocks}, {c.Generations != 0, c.Generations}} {
		if f.set {
			s.Generations = f.n
			chosen++
		}
	}
	if chosen > 0 && s.Time > 0 && !c.Changed("time") { // the time in the file applies to the number of generations in the file
		s.Time = s.Time * time.Duration(s.Generations) / time.Duration(max(1, cmp.Or(x.Generations, DefaultGenerations)))
	}
	if s.Generations == 0 {
		if s.Generations = DefaultGenerations; s.Until > 0 {
			s.Generations = UntilGenerations
		}
	}
	switch {
	case chosen > 1 || s.Generations < 1 || s.Generations > experiment.MaxGenerations:
		return s, exit.Usagef("choose one of --quick, --paper and --generations (1 to %d)", experiment.MaxGenerations)
	case s.Slice != 0 && s.Slice < SliceMin:
		return s, exit.Usagef("--slice %v: %v at least, or 0 for whole runs: starting and ending the load takes some 8 ms", s.Slice, SliceMin)
	case s.Until > 0 && s.Slice == 0:
		return s, exit.Usagef("--until needs slices: leave out --slice 0")
	}
	return s, nil
}
