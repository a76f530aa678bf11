package main

import (
	"context"
	"fmt"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/run"
)

const runHelp = `Usage: kvwire run EXPERIMENT [flags]
       kvwire run --resume DIR [flags]

Examples:
  kvwire run experiments/quick
  kvwire run quick --output-dir results/mine
  kvwire run network-overhead --estimate        (time and disk space; --dry-run prints the cells, too)
  kvwire run network-overhead --primary         (only the questions with primary claims)
  kvwire run network-overhead --quick           (3 generations: no verdicts, a quarter of the time)
  kvwire run network-overhead --time 20s        (20 seconds for each question)
  kvwire run uring-options --until 3%           (until the half-widths of the intervals are at most 3 %; 24 generations at most)
  kvwire run network-overhead --slice 0         (whole runs, one after the other)
  kvwire run --resume results/network-overhead-20261121-100000
  kvwire run quick --server-launch 'ssh lab1' --server-addr 10.0.0.1 --client-launch 'ssh lab2'     (docs/hosts.md)
  kvwire run quick-rdma --rdma-device model     (RDMA over a modelled device, where this machine has none)
  kvwire run --vm quick-rdma      (in a guest with soft-RoCE)

An experiment consists of questions. A question is all cells that differ only in the compared factor. It is measured in generations. Each
generation starts a server and a client for each variant, and for the baseline twice (A/A). All of these processes run at the same time, and
the variants alternate: one variant has a slice of load (--slice) while the others are parked, so slow changes of the machine are the same
for all. What cannot be cut into slices (a trace, a mix with inserts, a cell with its own dir) is measured in whole runs (the column
method). The results are report.html, runs.csv, slices.csv, compare.csv, hist.csv.gz, datapackage.json and more, in results/NAME-TIME (and
results/latest). A transport that does not work here gets a row with the reason.
When the process of a variant dies, hangs or reads wrong data, its generation is measured once more. If it fails again, the variant's rows
have the reason, and the other variants go on. The first ^C drops the current generation and keeps all complete ones; --resume continues.

Each data set on disk is loaded once, under TMPDIR (else /tmp or /var/tmp, whichever is on a disk), and copied for each variant
(the column data_set). The data sets are removed at the end; --keep-data keeps them for --resume. Cells with a dir of their own
are measured in whole runs. Servers on another host load their own store each time.

With --vm the whole experiment runs in a guest that test/vm/vm.sh boots (kvm where it works, else emulation: the
column accel has which). Compare its rows with each other, never with those of another machine. With --vm=two,
client and servers are in two guests on one wire; on 2 CPUs without kvm that shows that things work, and not how
fast. Exit codes of --vm: 123 the guest's clock ran too fast or too slow, 124 it took too long, 125 a guest cannot
run here, 130 ended by the second ^C.`

func runCommand(ctx context.Context, args []string) error {
	f := newFactors("run", runHelp)
	o := run.Options{Choice: lab.Choice{Changed: f.set.Changed}}
	s := f.set
	s.StringVar(&o.OutputDir, "output-dir", "", "the folder for the results; default: results/NAME-TIME")
	s.BoolVar(&o.JSON, "json", false, "print the rows as JSON")
	o.Bind(s)
	s.StringVar(&o.VM, "vm", "", "run all of it in a guest that has soft-RoCE, or, with =two, client and servers in two of them")
	s.Lookup("vm").NoOptDefVal = "one"
	var until factor.Percent
	s.IntVar(&o.Generations, "generations", 0, fmt.Sprintf("number of generations: how often each question gets fresh processes; default: the experiment's, else %d (with --until %d)", lab.DefaultGenerations, lab.UntilGenerations))
	s.DurationVar(&o.Slice, "slice", lab.DefaultSlice, "time of load on one variant at a time, while the others are parked; its first tenth is not counted; 0: whole runs, one after the other")
	s.DurationVar(&o.Time, "time", 0, "time for each question, all generations together; 0: the experiment's, else 60s (with more than 5 variants 12s for each; on disk three times as long), in proportion to the number of generations")
	s.Var(&until, "until", "end a question when the 98.3 % intervals of its ratios have half-widths of at most this, such as 3%; checked after half of the generations, three quarters and all")
	s.BoolVar(&o.Quick, "quick", false, fmt.Sprintf("%d generations, without verdicts; without --time, the time is in proportion", lab.QuickGenerations))
	s.BoolVar(&o.Paper, "paper", false, fmt.Sprintf("%d generations; without --time, the time is in proportion", lab.PaperGenerations))
	s.IntVar(&o.Blocks, "blocks", 0, "the old name of --generations")
	_ = s.MarkHidden("blocks")
	s.BoolVar(&o.Primary, "primary", false, "only the questions with primary claims")
	s.BoolVar(&o.DryRun, "dry-run", false, "print the cells and the time and disk space that they take; run nothing")
	s.BoolVar(&o.Estimate, "estimate", false, "print the time and disk space; run nothing")
	s.IntVar(&o.Retry, "retry", 0, "whole runs only: repeat a run that was disturbed (steal, a CPU quota, other processes, drift), at most this many times; the column attempts has the number of tries")
	s.BoolVar(&o.KeepData, "keep-data", false, "keep the stores that were loaded for the runs; default: they are removed at the end")
	s.StringVar(&o.Resume, "resume", "", "a folder of results: measure the generations and runs that are missing or have failed there; with --generations N, add generations until there are N")
	if err := f.parse(args, o.SetArguments); err != nil {
		return err
	}
	o.Until = float64(until)
	for _, name := range plannedFlags {
		if g := s.Lookup(name); g.Changed {
			o.Planned = append(o.Planned, "--"+name+"="+g.Value.String())
		}
	}
	return program().Run(ctx, &o, stdout)
}

// plannedFlags are the flags that are decided when a folder is made.
var plannedFlags = []string{"primary", "retry", "dry-run", "estimate", "generations", "blocks", "quick", "paper", "slice", "time", "until", "rdma-device", "rdma-model"}
