package fleet

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
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// Exec is the lab.Exec of kvwire run: each variant, and each whole run, is a kvwire process. The fields are set before it is used.
type Exec struct {
	Experiment *experiment.Experiment
	Describe   func(c experiment.Cell, e *Exec) (*Cell, error)
	Dir        string // of the results
	At         string // the kvwire host that starts the servers; "": none
	Launchers  Launchers
	Inputs     lab.Inputs
	Log        io.Writer    // of the processes' standard error
	Wrong      atomic.Int32 // counts processes that read wrong data

	mu    sync.Mutex // of what follows: variants start at the same time
	Data  lab.DataSets
	cells map[int]*Cell // described
}

// Cell describes a cell to an Exec.
type Cell struct {
	Facts     lab.Facts
	Transport string
	InProcess bool  // it has no server to start elsewhere
	Missing   error // why it cannot be run on this machine; nil: it can, or only the launched hosts know

	DataSet  string                    // the name of the data set that it is given; "": it makes its own store
	LoadArgs func(dir string) []string // the kvwire command that loads the data set
	Writes   bool                      // it may change its store
}

var _ lab.Exec = (*Exec)(nil)

// cell describes a cell. It may be called for several cells at the same time.
func (e *Exec) cell(i int) (*Cell, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.cells[i]; c != nil {
		return c, nil
	}
	c, err := e.Describe(e.Experiment.Cells[i], e)
	if err != nil {
		return nil, err
	}
	c.Facts.Here = c.Missing == nil
	if e.cells == nil {
		e.cells = map[int]*Cell{}
	}
	e.cells[i] = c
	return c, nil
}

// Facts implements lab.Exec.
func (e *Exec) Facts(cell int) (lab.Facts, error) {
	c, err := e.cell(cell)
	if err != nil {
		return lab.Facts{}, err
	}
	facts, row := c.Facts, *c.Facts.Row // the runner writes to the row
	facts.Row = &row
	return facts, nil
}

// explain turns the error with which a process ended into one of package lab.
func (e *Exec) explain(c *Cell, err error) error {
	if c.InProcess || !e.Launchers.Used() || exit.Code(err) != exit.Missing {
		return err
	}
	if slices.Contains(e.Experiment.Require, c.Transport) { // only the launched hosts know
		return &lab.Fatal{Err: exit.With(exit.Missing, fmt.Errorf("experiment %s requires transport %s: %w", e.Experiment.Name, c.Transport, err))}
	}
	return notHere(err)
}

func notHere(err error) error { return &lab.NotHere{Reason: quote.Line(err.Error())} }

// prepare returns the arguments of a process that measures a cell, whose data set is in place. column is its column data_set; "": it knows that itself.
func (e *Exec) prepare(ctx context.Context, command string, cell int, id string, place int) (c *Cell, args []string, column string, err error) {
	if c, err = e.cell(cell); err == nil && c.Missing != nil {
		err = notHere(c.Missing)
	}
	if err != nil {
		return nil, nil, "", err
	}
	args = append([]string{command, "--record-dir=" + e.Dir, "--run-id=" + id}, e.Inputs.Args(e.Experiment.Cells[cell])...)
	if !c.InProcess {
		if e.At != "" {
			args = append(args, "--server-at="+e.At)
		}
		args = append(args, e.Launchers.Args()...)
	}
	if c.DataSet == "" { // it makes its own store
		return c, args, "", nil
	}
	dir, err := e.placeData(ctx, c, place)
	return c, append(args, "--dir="+dir), lab.DataCopied, err
}

// placeData puts a data set into place, and returns its folder.
func (e *Exec) placeData(ctx context.Context, c *Cell, place int) (dir string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Data.Place(ctx, c.DataSet, func(ctx context.Context, dir string) error {
		_, err := e.Command(ctx, "load", c.LoadArgs(dir))
		return err
	}, c.Writes, place)
}

// Start implements lab.Exec.
func (e *Exec) Start(ctx context.Context, v lab.Variant) (lab.Process, error) {
	c, args, column, err := e.prepare(ctx, "variant", v.Cell, v.RunID, v.Place)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := Start(v.Label, exec.Command(exe, args...), e.Log)
	if err != nil {
		return nil, err
	}
	one := &variantProcess{Process: p, dataSet: column, wrong: &e.Wrong}
	if err := one.ready(ctx); err != nil {
		one.Kill()
		return nil, e.explain(c, err)
	}
	return one, nil
}

// variantProcess is a variant of a generation.
type variantProcess struct {
	*Process
	dataSet     string        // its column data_set; "": it knows that itself
	wrong       *atomic.Int32 // counts processes that read wrong data
	descendants []ProcessID   // its server and what else it has started, when they were last looked for
}

// CommandWait bounds the time of a variant's reply, beyond the time of its command. The variant's own bounds are shorter, so that its error names what does not answer: those of
// server.Control to resume and to park the server, and DrainMax twice for requests without an answer. Tests shorten it.
var CommandWait = 70 * time.Second

// ready waits until the variant has loaded its data and is parked.
func (v *variantProcess) ready(ctx context.Context) error {
	for {
		r, err := v.reply(ctx, Patience)
		v.look()
		if err != nil || r.Ready {
			return err
		}
	}
}

// look records the processes that the variant has started. After its death they live for a moment, with its store open.
func (v *variantProcess) look() {
	if now := Descendants(v.Pid()); len(now) > 0 {
		v.descendants = now
	}
}

// reply reads the next line. It blocks for at most wait.
func (v *variantProcess) reply(ctx context.Context, wait time.Duration) (r VariantReply, err error) {
	line, err := v.Next(ctx, wait)
	if err != nil {
		if status := new(exec.ExitError); errors.As(err, &status) && status.ExitCode() == exit.Wrong {
			v.wrong.Add(1)
		}
		return r, err
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("%s: %.100q is not a reply of kvwire: %w", v.Name, line, quote.Error(err))
	}
	return r, nil
}

// Slice implements lab.Process.
func (v *variantProcess) Slice(ctx context.Context, settle, window time.Duration) (s report.Slice, err error) {
	if err := v.Send(VariantCommand{Slice: &SliceCommand{Settle: settle, Window: window}}); err != nil {
		return s, err
	}
	r, err := v.reply(ctx, settle+window+CommandWait)
	switch {
	case err != nil:
		return s, err
	case r.Slice == nil:
		return s, v.Unexpected("the result of a slice")
	}
	return *r.Slice, nil
}

// Finish implements lab.Process.
func (v *variantProcess) Finish(ctx context.Context) (*report.Row, error) {
	if err := v.Send(VariantCommand{Finish: true}); err != nil {
		return nil, err
	}
	r, err := v.reply(ctx, CommandWait)
	switch {
	case err != nil:
		return nil, err
	case r.Row == nil:
		return nil, v.Unexpected("its row")
	}
	if v.dataSet != "" {
		r.Row.DataSet = v.dataSet
	}
	if err := v.End(); err != nil {
		return nil, err
	}
	return r.Row, nil
}

// Kill implements lab.Process. Its server, which ends with it, has ended when it returns.
func (v *variantProcess) Kill() {
	v.Hung = true
	if !v.Ended() {
		v.look()
		_ = v.Stop()
	}
	awaitEnd(v.descendants, HungPatience)
	v.descendants = nil
}

// Run implements lab.Exec: a whole run is a kvwire bench.
func (e *Exec) Run(ctx context.Context, run experiment.Run, id string) (row *report.Row, err error) {
	c, args, column, err := e.prepare(ctx, "bench", run.Cell, id, 0)
	if err != nil {
		return nil, err
	}
	args = append(args, "--json")
	if run.Stages {
		args = append(args, fmt.Sprintf("--stages=%d", e.Experiment.Stages.OneIn))
	}
	out, err := e.Command(ctx, id, args)
	if len(out) == 0 {
		return nil, e.explain(c, err)
	}
	row = new(report.Row)
	if jerr := json.Unmarshal(out, row); jerr != nil {
		return nil, errors.Join(err, jerr)
	}
	if column != "" {
		row.DataSet = column
	}
	return row, err
}

// Command runs a kvwire command and returns its standard output.
func (e *Exec) Command(ctx context.Context, name string, args []string) ([]byte, error) {
	out, err := Run(ctx, name, args, e.Log)
	if exit.Code(err) == exit.Wrong {
		e.Wrong.Add(1)
	}
	return out, err
}

// Calibrate implements lab.Exec: it measures the units of the bill of materials, in a process of its own.
func (e *Exec) Calibrate(ctx context.Context) error {
	had, err := report.ReadUnits(e.Dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	b, err := e.Command(ctx, "calibrate", []string{"calibrate", "--json"})
	if err != nil {
		return fmt.Errorf("kvwire calibrate: %w", err)
	}
	var more []units.Unit
	if err := json.Unmarshal(b, &more); err != nil {
		return fmt.Errorf("kvwire calibrate: %w", err)
	}
	return report.WriteUnits(e.Dir, units.Join(had, more))
}
