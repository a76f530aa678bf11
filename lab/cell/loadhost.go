package cell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
)

// A load host and the process that launched it exchange lines of JSON: commands to the load host, replies from it. The load host connects and reports that it is
// ready. Then it replies to each command, one after the other, and meanwhile reports its progress.

// command is a line to a load host. One field is set.
type command struct {
	Trace *traceChunk  `json:"trace,omitempty"` // of the trace that all later commands replay
	Load  *loadCommand `json:"load,omitempty"`
	Run   *bench.Spec  `json:"run,omitempty"`  // its share of one measured run
	Stop  bool         `json:"stop,omitempty"` // end the command before this one early

	Open    *bench.Spec         `json:"open,omitempty"`    // its share of a load in slices: make it, and park
	Prepare bool                `json:"prepare,omitempty"` // be ready for a slice of it
	Slice   *fleet.SliceCommand `json:"slice,omitempty"`   // one slice of it
	Close   bool                `json:"close,omitempty"`   // end it
}

// loadCommand loads the store.
type loadCommand struct {
	Spec bench.Spec `json:"spec"`
	Kept bool       `json:"kept"` // the store is kept: if it has as many records, it has been loaded
}

// reply is a line from a load host. One field is set.
type reply struct {
	Ready    *ready          `json:"ready,omitempty"`
	Received *received       `json:"received,omitempty"`
	Loaded   bool            `json:"loaded,omitempty"`
	Progress *bench.Progress `json:"progress,omitempty"`
	Found    *portion        `json:"found,omitempty"`

	Opened   bool                `json:"opened,omitempty"`
	Prepared bool                `json:"prepared,omitempty"`
	Slice    *report.ClientSlice `json:"slice,omitempty"`
	Closed   *loadSum            `json:"closed,omitempty"`
}

// ready has the server's flags, and what it granted.
type ready struct {
	Flags map[string]string `json:"flags"`
	granted
}

// portion is a load host's part of a run, with the server's counters at the ends of its window.
type portion struct {
	Result        json.RawMessage `json:"result"` // by bench.Result.Encode
	Before, After server.Counters
	CountersError string    `json:"counters_error,omitempty"`
	Error         string    `json:"error,omitempty"`
	Port          *rdmaPort `json:"port,omitempty"`
}

// loadHostProcess is the session of a load host.
type loadHostProcess struct {
	s      *Session
	out    *json.Encoder
	arrive *traceArrival // nil: no trace is on its way
	trace  *bench.Trace  // nil: none
	load   *localLoad    // in slices; nil: none
}

// job is a command with a context, which a command to stop ends.
type job struct {
	command
	ctx    context.Context
	cancel context.CancelFunc
}

// ServeLoadHost opens a session and carries out the commands of in, until in or ctx ends; both end the command under way, too.
func ServeLoadHost(ctx context.Context, f *Settings, in io.Reader, out io.Writer) error {
	s, err := Open(ctx, f)
	if err != nil {
		return err
	}
	h := &loadHostProcess{s: s, out: json.NewEncoder(out)}
	err = h.serve(ctx, in)
	if h.arrive != nil {
		h.arrive.abandon()
	}
	if h.load != nil {
		ending, cancel := context.WithTimeout(context.Background(), fleet.HungPatience)
		defer cancel()
		h.load.abandon(ending)
	}
	return errors.Join(err, s.Close())
}

func (h *loadHostProcess) serve(ctx context.Context, in io.Reader) error {
	jobs, ctx, cancel := startCommands(ctx, in, readJobs)
	defer cancel()
	if err := h.out.Encode(reply{Ready: &ready{h.s.Flags, h.s.granted}}); err != nil {
		return err
	}
	return jobs.serve(ctx, func(j job) (more bool, err error) {
		defer j.cancel()
		r, err := h.do(ctx, j)
		if err != nil {
			return false, err
		}
		return true, h.out.Encode(r)
	})
}

// readJobs hands on commands until the input ends. It carries out a command to stop itself.
func readJobs(ctx context.Context, in io.Reader, jobs chan<- job) error {
	last := func() {}
	return fleet.EachLine(in, func(line []byte) (more bool, err error) {
		c, err := readCommand(line)
		if err != nil {
			return false, err
		}
		if c.Stop {
			last()
			return true, nil
		}
		j := job{command: c}
		j.ctx, j.cancel = context.WithCancel(ctx)
		last = j.cancel
		select {
		case jobs <- j:
			return true, nil
		case <-ctx.Done():
			return false, nil
		}
	})
}

// readCommand reads one line.
func readCommand(b []byte) (c command, err error) {
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("loadhost: decode a command: %w", err)
	}
	n := 0
	for _, has := range []bool{c.Trace != nil, c.Load != nil, c.Run != nil, c.Stop, c.Open != nil, c.Prepare, c.Slice != nil, c.Close} {
		if has {
			n++
		}
	}
	if n != 1 {
		return c, fmt.Errorf("loadhost: %.100q has %d commands instead of one", b, n)
	}
	return c, nil
}

// do carries out one command. ctx ends with the process's input.
func (h *loadHostProcess) do(ctx context.Context, j job) (r reply, err error) {
	if h.load == nil && (j.Prepare || j.Slice != nil || j.Close) {
		return r, errors.New("loadhost: a command for a load in slices that is not open")
	}
	switch {
	case j.Trace != nil:
		r.Received, err = h.receive(ctx, j.Trace)
	case j.Load != nil:
		j.Load.Spec.Trace = h.trace
		r.Loaded, err = true, h.fill(j.ctx, j.Load)
	case j.Run != nil:
		j.Run.Trace = h.trace
		r.Found, err = h.run(j.ctx, *j.Run)
	case j.Open != nil:
		r.Opened, err = true, h.open(*j.Open)
	case j.Prepare:
		r.Prepared, err = true, h.load.ready(j.ctx)
	case j.Slice != nil:
		var s report.ClientSlice
		s, err = h.load.slice(j.ctx, j.Slice.Settle, j.Slice.Window)
		r.Slice = &s
	case j.Close:
		var sum loadSum
		sum, err = h.load.close(j.ctx)
		h.load = nil
		if r.Closed = &sum; err == nil {
			sum.Port = h.s.port
			sum.Result, err = sum.result.Encode()
		}
	}
	return r, err
}

// run measures the load host's share of a run.
func (h *loadHostProcess) run(ctx context.Context, spec bench.Spec) (*portion, error) {
	if err := fitsRequests(spec); err != nil {
		return nil, err
	}
	m, err := h.s.window(ctx, spec, h.progress())
	if m == nil {
		return nil, err
	}
	p := &portion{Before: m.before, After: m.after, Error: text(err), CountersError: text(m.err), Port: h.s.port}
	p.Result, err = m.Result.Encode()
	return p, err
}

// open makes a load in slices.
func (h *loadHostProcess) open(spec bench.Spec) (err error) {
	if err := fitsRequests(spec); err != nil {
		return err
	}
	if h.load, err = h.s.openLocalLoad(spec); err == nil {
		h.load.slices.Latencies = true // percentiles of several hosts need them
	}
	return err
}

// fill loads the store.
func (h *loadHostProcess) fill(ctx context.Context, c *loadCommand) error {
	if c.Kept {
		if items, err := h.s.Items(); err != nil || items >= c.Spec.Records {
			return err
		}
	}
	if err := h.s.fillFast(ctx, c.Spec, h.progress()); err != nil {
		return fmt.Errorf("load %d records: %w", c.Spec.Records, err)
	}
	return nil
}

func (h *loadHostProcess) progress() func(bench.Progress) {
	return reportProgress(func(p *bench.Progress) error { return h.out.Encode(reply{Progress: p}) })
}
