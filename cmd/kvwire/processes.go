package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvwire/kvwire/bench/units"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/cell"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// processes is the lab.Exec of kvwire run: each variant, and each whole run, is a process of kvwire's.
type processes struct {
	x        *experiment.Experiment
	dir      string // of the results
	serverAt string // --server-at
	launch   fleet.Launchers
	log      io.Writer    // run.log
	wrong    atomic.Int32 // processes that read wrong data

	mu    sync.Mutex // of what follows: variants start at the same time
	data  lab.DataSets
	cells map[int]*factors // flags of cells, checked
}

var _ lab.Exec = (*processes)(nil)

// factors are a cell's flags, with the run's --server-at and launchers.
func (p *processes) factors(cell int) (*factors, error) {
	if f := p.cells[cell]; f != nil {
		return f, nil
	}
	f, err := cellFactors(p.x.Cells[cell])
	if err != nil {
		return nil, err
	}
	if !f.InProcess() {
		f.ServerAt, f.Launch = p.serverAt, p.launch
	}
	if p.cells == nil {
		p.cells = map[int]*factors{}
	}
	p.cells[cell] = f
	return f, nil
}

// Facts implements lab.Exec.
func (p *processes) Facts(cell int) (lab.Facts, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, err := p.factors(cell)
	if err != nil {
		return lab.Facts{}, err
	}
	facts := f.Facts()
	facts.Here = p.notHere(f) == nil
	return facts, nil
}

// required is an error if a transport that the experiment requires does not work. With launchers only the launched hosts know, so the first run that needs it fails.
func (p *processes) required() error {
	if p.launch.Used() {
		return nil
	}
	for _, name := range p.x.Require {
		n, err := find(name)
		if err == nil {
			err = n.works()
		}
		if err != nil {
			return exit.With(exit.Missing, fmt.Errorf("experiment %s requires a transport: %w", p.x.Name, err))
		}
	}
	return nil
}

// notHere is why a cell cannot be run on this machine; nil: it can, or only the launched hosts know.
func (p *processes) notHere(f *factors) error {
	if f.Launch.Used() {
		return nil
	}
	n, err := find(f.Server.Transport)
	if err == nil {
		err = n.works()
	}
	if err == nil && f.ServerAt == "" {
		f.settleEngine()
		err = f.engineWorks()
	}
	if err != nil {
		return &lab.NotHere{Reason: quote.Line(err.Error())}
	}
	return nil
}

// explain turns the error with which a process ended into one of package lab.
func (p *processes) explain(f *factors, err error) error {
	if !f.Launch.Used() || exit.Code(err) != exit.Missing {
		return err
	}
	if slices.Contains(p.x.Require, f.Server.Transport) { // only the launched hosts know
		return &lab.Fatal{Err: exit.With(exit.Missing, fmt.Errorf("experiment %s requires transport %s: %w", p.x.Name, f.Server.Transport, err))}
	}
	return &lab.NotHere{Reason: quote.Line(err.Error())}
}

// args are the flags of a run of a cell.
func (p *processes) args(command string, f *factors, cell int, id string) []string {
	args := append([]string{command, "--record-dir=" + p.dir, "--run-id=" + id}, inputs.Args(p.x.Cells[cell])...)
	if f.ServerAt != "" {
		args = append(args, "--server-at="+f.ServerAt)
	}
	return append(args, f.Launch.Args()...)
}

// Start implements lab.Exec.
func (p *processes) Start(ctx context.Context, v lab.Variant) (lab.Process, error) {
	f, err := p.startable(v.Cell)
	if err != nil {
		return nil, err
	}
	args := p.args("variant", f, v.Cell, v.RunID)
	dir, how, err := p.takeData(ctx, f, v.Place)
	if err != nil {
		return nil, err
	}
	if dir != "" {
		args = append(args, "--dir="+dir)
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	proc, err := fleet.Start(v.Label, exec.Command(exe, args...), p.log)
	if err != nil {
		return nil, err
	}
	one := &variantProcess{Process: proc, how: how, wrong: &p.wrong}
	if err := one.ready(ctx); err != nil {
		one.Kill()
		return nil, p.explain(f, err)
	}
	return one, nil
}

// startable are the flags of a cell that can be run here. It may be called for several cells at once.
func (p *processes) startable(cell int) (*factors, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, err := p.factors(cell)
	if err == nil {
		err = p.notHere(f)
	}
	return f, err
}

// takeData gives a variant its store; "": it makes its own.
func (p *processes) takeData(ctx context.Context, f *factors, place int) (dir, how string, err error) {
	d, ok := f.DataSet()
	if !ok {
		return "", "", nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	dir, err = p.data.Place(ctx, d.Name(), func(ctx context.Context, dir string) error {
		_, err := p.program(ctx, "load", d.LoadArgs(dir))
		return err
	}, f.Writes(), place)
	return dir, cell.DataCopied, err
}

// variantProcess is a variant of a generation.
type variantProcess struct {
	*fleet.Process
	how   string            // how its store came to its records; "": it loaded them
	wrong *atomic.Int32     // counts processes that read wrong data
	kin   []fleet.ProcessID // its server and what else it has started, as it was last seen
}

// orderWait is how long a variant may take beyond what it was ordered to do. Its own bounds come first, since it knows better what does not answer: those of
// server.Control to resume and to park the server, and DrainMax twice for requests without an answer. Tests have a shorter one.
var orderWait = 70 * time.Second

// ready waits until the variant has loaded its data and is parked.
func (v *variantProcess) ready(ctx context.Context) error {
	for {
		w, err := v.word(ctx, fleet.Patience)
		v.look()
		if err != nil || w.Ready {
			return err
		}
	}
}

// look takes down which processes the variant has started. Where it dies they outlive it for a moment, and have its store open.
func (v *variantProcess) look() {
	if now := fleet.Descendants(v.Pid()); len(now) > 0 {
		v.kin = now
	}
}

func (v *variantProcess) word(ctx context.Context, wait time.Duration) (w fleet.VariantReply, err error) {
	line, err := v.Next(ctx, wait)
	if err != nil {
		if status := new(exec.ExitError); errors.As(err, &status) && status.ExitCode() == exit.Wrong {
			v.wrong.Add(1)
		}
		return w, err
	}
	if err := json.Unmarshal(line, &w); err != nil {
		return w, fmt.Errorf("%s: %.100q is not a message of kvwire: %w", v.Name, line, quote.Error(err))
	}
	return w, nil
}

// Slice implements lab.Process.
func (v *variantProcess) Slice(ctx context.Context, settle, window time.Duration) (s report.Slice, err error) {
	if err := v.Send(fleet.VariantCommand{Slice: &fleet.SliceCommand{Settle: settle, Window: window}}); err != nil {
		return s, err
	}
	w, err := v.word(ctx, settle+window+orderWait)
	switch {
	case err != nil:
		return s, err
	case w.Slice == nil:
		return s, v.Unexpected("what a slice has found")
	}
	return *w.Slice, nil
}

// Finish implements lab.Process.
func (v *variantProcess) Finish(ctx context.Context) (*report.Row, error) {
	if err := v.Send(fleet.VariantCommand{Finish: true}); err != nil {
		return nil, err
	}
	w, err := v.word(ctx, orderWait)
	switch {
	case err != nil:
		return nil, err
	case w.Row == nil:
		return nil, v.Unexpected("its row")
	}
	if v.how != "" {
		w.Row.DataSet = v.how
	}
	if err := v.End(); err != nil {
		return nil, err
	}
	return w.Row, nil
}

// Kill implements lab.Process. Its server, which ends with it, has ended when it returns.
func (v *variantProcess) Kill() {
	v.Hung = true
	if !v.Ended() {
		v.look()
		_ = v.Stop()
	}
	fleet.AwaitEnd(v.kin, fleet.HungPatience)
	v.kin = nil
}

// Run implements lab.Exec: a whole run is a kvwire bench.
func (p *processes) Run(ctx context.Context, run experiment.Run, id string) (row *report.Row, err error) {
	f, err := p.startable(run.Cell)
	if err != nil {
		return nil, err
	}
	args := append(p.args("bench", f, run.Cell, id), "--json")
	if run.Stages {
		args = append(args, fmt.Sprintf("--stages=%d", p.x.Stages.OneIn))
	}
	dir, how, err := p.takeData(ctx, f, 0)
	if err != nil {
		return nil, err
	}
	if dir != "" {
		args = append(args, "--dir="+dir)
	}
	out, err := p.program(ctx, id, args)
	if len(out) == 0 {
		return nil, p.explain(f, err)
	}
	row = new(report.Row)
	if jerr := json.Unmarshal(out, row); jerr != nil {
		return nil, errors.Join(err, jerr)
	}
	if how != "" {
		row.DataSet = how
	}
	return row, err
}

// program runs a kvwire command and returns its standard output.
func (p *processes) program(ctx context.Context, name string, args []string) ([]byte, error) {
	out, err := fleet.Run(ctx, name, args, p.log)
	if exit.Code(err) == exit.Wrong {
		p.wrong.Add(1)
	}
	return out, err
}

// Calibrate implements lab.Exec: it measures the units of the bill of materials, in a process of its own.
func (p *processes) Calibrate(ctx context.Context) error {
	had, err := report.ReadUnits(p.dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fleet.Patience)
	defer cancel()
	b, err := p.program(ctx, "calibrate", []string{"calibrate", "--json"})
	if err != nil {
		return fmt.Errorf("kvwire calibrate: %w", err)
	}
	var more []units.Unit
	if err := json.Unmarshal(b, &more); err != nil {
		return fmt.Errorf("kvwire calibrate: %w", err)
	}
	return report.WriteUnits(p.dir, units.Join(had, more))
}
