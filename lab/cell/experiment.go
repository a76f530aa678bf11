package cell

import (
	"cmp"
	"slices"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/spf13/pflag"
)

// ExperimentFlags returns the flags that an experiment may set, each with the function that checks and normalizes a value: all factors but stages, which has a key of
// its own.
func (p *Program) ExperimentFlags() experiment.Flags {
	flags := experiment.Flags{}
	for _, name := range factor.All.Names(func(x *factor.Factor) bool { return x.Name != "stages" }) {
		parse := func(value string) (string, error) {
			f := p.newCell()
			if err := f.flags.Set(name, value); err != nil {
				return "", factor.Reason(err)
			}
			return f.flags.Lookup(name).Value.String(), f.checkValue()
		}
		flags[name] = experiment.Rule{OfTransport: factor.All.Find(name).BelongsTo("transport"), Parse: parse}
	}
	return flags
}

// newCell returns the settings of a cell with all factors.
func (p *Program) newCell() *Settings {
	f := NewSettings(p, pflag.NewFlagSet("kvwire bench", pflag.ContinueOnError))
	factor.All.Bind(f.flags, &f.Values, factor.Any(factor.Server|factor.Load|factor.Bench))
	return f
}

// checkValue checks each value by itself, so that an experiment's reader finds an error at its line.
func (f *Settings) checkValue() error {
	for _, check := range []func() error{
		func() error { return factor.All.CheckWords(&f.Values) },
		f.RDMA.Check, f.TCP.Check,
		func() error { _, err := bench.ParseMix(f.Load.Mix); return err },
		f.checkSource,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// Cell returns the settings of a cell, checked against each other, and its load.
func (p *Program) Cell(c experiment.Cell) (*Settings, bench.Spec, error) {
	f := p.newCell()
	if err := f.flags.Parse(c.Args()); err != nil {
		return nil, bench.Spec{}, exit.Usagef("%v (see %s --help)", factor.Mistake(err), f.flags.Name())
	}
	spec, err := f.Prepare()
	if err == nil {
		_, err = f.Plan()
	}
	return f, spec, err
}

// Applicable removes the flags that do not apply to a cell: an experiment that sweeps backend may set the disk's cache for all cells. On a command line such a flag is
// an error.
func Applicable(c experiment.Cell) experiment.Cell {
	defaults := factor.NewValues()
	get := factor.All.Get(&defaults)
	of := func(name string) string {
		if v, ok := c.Get(name); ok {
			return v
		}
		return get(name)
	}
	return slices.DeleteFunc(slices.Clone(c), func(f experiment.Flag) bool {
		x := factor.All.Find(f.Name)
		return x != nil && !x.Swept(of)
	})
}

// Describe checks a cell's flags, and describes the cell to e.
func (p *Program) Describe(c experiment.Cell, e *fleet.Exec) (*fleet.Cell, error) {
	f, _, err := p.Cell(c)
	if err != nil {
		return nil, err
	}
	d := &fleet.Cell{Transport: f.Server.Transport, InProcess: f.InProcess(), Writes: f.Writes()}
	if !d.InProcess {
		f.ServerAt, f.Launch = e.At, e.Launchers
	}
	if d.Facts = f.Facts(); d.Facts.Whole == "" && e.Experiment.Sweeps("duration") {
		d.Facts.Whole = "duration has several values, and slices do not use it"
	}
	if set, ok := f.DataSet(); ok {
		d.DataSet, d.LoadArgs = set.Name(), set.LoadArgs
	}
	if f.Launch.Used() { // only the launched hosts know what works
		return d, nil
	}
	n, err := p.Network(f.Server.Transport)
	if err != nil {
		return nil, err
	}
	if d.Missing = cmp.Or(f.LinkWorks(), n.Works(&f.Values)); d.Missing == nil && f.ServerAt == "" {
		d.Missing = p.Works(f)
	}
	return d, nil
}
