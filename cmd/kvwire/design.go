package main

import (
	"fmt"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/spf13/pflag"
)

// generationsFlags are the flags for how an experiment is measured.
type generationsFlags struct {
	lab.Choice
	dryRun, estimate bool
	primary          bool
	keepData         bool
	until            factor.Percent
	resume           string
}

func (g *generationsFlags) add(s *pflag.FlagSet) {
	s.IntVar(&g.Generations, "generations", 0, fmt.Sprintf("number of generations: how often each question gets fresh processes; default: the experiment's, else %d (with --until %d)", lab.DefaultGenerations, lab.UntilGenerations))
	s.DurationVar(&g.Slice, "slice", lab.DefaultSlice, "time of load on one variant at a time, while the others are parked; its first tenth is not counted; 0: whole runs, one after the other")
	s.DurationVar(&g.Time, "time", 0, "time for each question, all generations together; 0: the experiment's, else 60s (with more than 5 variants 12s for each; on disk three times as long), in proportion to the number of generations")
	s.Var(&g.until, "until", "end a question when the 98.3 % intervals of its ratios have half-widths of at most this, such as 3%; checked after half of the generations, three quarters and all")
	s.BoolVar(&g.Quick, "quick", false, fmt.Sprintf("%d generations, without verdicts; without --time, the time is in proportion", lab.QuickGenerations))
	s.BoolVar(&g.Paper, "paper", false, fmt.Sprintf("%d generations; without --time, the time is in proportion", lab.PaperGenerations))
	s.IntVar(&g.Blocks, "blocks", 0, "the old name of --generations")
	_ = s.MarkHidden("blocks")
	s.BoolVar(&g.primary, "primary", false, "only the questions with primary claims")
	s.BoolVar(&g.dryRun, "dry-run", false, "print the cells and the time and disk space that they take; run nothing")
	s.BoolVar(&g.estimate, "estimate", false, "print the time and disk space; run nothing")
	s.IntVar(&g.Retry, "retry", 0, "whole runs only: repeat a run that the machine disturbed (steal, a CPU quota, other processes, drift), at most this many times; the column attempts has the number of tries")
	s.BoolVar(&g.keepData, "keep-data", false, "keep the stores that were loaded for the runs; default: they are removed at the end")
	s.StringVar(&g.resume, "resume", "", "a folder of results: measure the generations and runs that are missing or have failed there")
}

// plannedFlags are the flags that are decided when a folder is made.
var plannedFlags = []string{"primary", "retry", "dry-run", "estimate", "generations", "blocks", "quick", "paper", "slice", "time", "until"}

func (g *generationsFlags) checkResume(s *pflag.FlagSet) error {
	if g.resume == "" {
		return nil
	}
	for _, name := range plannedFlags {
		if s.Changed(name) {
			return usagef("--resume goes on as planned when its folder was made: leave out --%s", name)
		}
	}
	return nil
}

// settings are how the experiment is measured: by the flags, else by its file, else by default.
func (g *generationsFlags) settings(s *pflag.FlagSet, x *experiment.Experiment) (lab.Settings, error) {
	g.Changed, g.Until = s.Changed, float64(g.until)
	return g.Choice.Settings(x)
}
