package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
)

// A load host and the bench that launched it speak in lines of JSON: orders one way, words the other. The host connects and
// says that it is ready; then it answers each order, one after the other, and meanwhile says where it is.

// order is a line to a load host: one of these.
type order struct {
	Load *loadOrder  `json:"load,omitempty"`
	Run  *bench.Spec `json:"run,omitempty"`  // its share of one measured run
	Stop bool        `json:"stop,omitempty"` // end the order before this one early

	Open    *bench.Spec `json:"open,omitempty"`    // its share of a load in slices: make it, and park
	Prepare bool        `json:"prepare,omitempty"` // be ready for a slice of it
	Slice   *sliceOrder `json:"slice,omitempty"`   // one slice of it
	Close   bool        `json:"close,omitempty"`   // end it
}

// loadOrder has the store loaded.
type loadOrder struct {
	Spec bench.Spec `json:"spec"`
	Kept bool       `json:"kept"` // the store is kept: if it has as many records, it has been loaded
}

// word is a line from a load host: one of these.
type word struct {
	Ready    *ready          `json:"ready,omitempty"`
	Loaded   bool            `json:"loaded,omitempty"`
	Progress *bench.Progress `json:"progress,omitempty"`
	Found    *portion        `json:"found,omitempty"`

	Opened   bool                `json:"opened,omitempty"`
	Prepared bool                `json:"prepared,omitempty"`
	Slice    *report.ClientSlice `json:"slice,omitempty"`
	Closed   *loadSum            `json:"closed,omitempty"`
}

// ready is what the server is, and what it granted.
type ready struct {
	Flags       map[string]string `json:"flags"`
	InlineBytes int               `json:"inline_bytes"`
	MTU         int               `json:"mtu"`
	Granted     bool              `json:"granted"`
}

// portion is a load host's part of a run, with the server's counters at the ends of its window.
type portion struct {
	Result        json.RawMessage `json:"result"` // bench.Result.Encode's
	Before, After server.Counters
	CountersError string    `json:"counters_error,omitempty"`
	Error         string    `json:"error,omitempty"`
	Port          *portWord `json:"port,omitempty"`
}

// portWord is an rdmaPort on its way.
type portWord struct {
	Choice        device.Choice
	Before, After device.Counters
}

// saySpace is the least time between two words on progress.
const saySpace = time.Second

// orderLineMax bounds an order.
const orderLineMax = 1 << 20

// loadhostCommand is a load process behind --client-launch: what its flags connect, its orders drive.
func loadhostCommand(ctx context.Context, args []string) error {
	f := newFactors("loadhost", "What --client-launch starts.")
	f.benchFlags()
	if err := f.parse(args, nil); err != nil {
		return err
	}
	if err := f.readIdentity(); err != nil {
		return err
	}
	s, err := prepare(ctx, f)
	if err != nil {
		return err
	}
	d := &driven{s: s, out: json.NewEncoder(os.Stdout)}
	err = d.obey(ctx, fleet.Stdin())
	if d.load != nil {
		ending, cancel := context.WithTimeout(context.Background(), fleet.HungPatience)
		defer cancel()
		d.load.abandon(ending)
	}
	return errors.Join(err, s.close())
}

// driven is a session that orders drive.
type driven struct {
	s    *session
	out  *json.Encoder
	load *localLoad // in slices; nil: none
}

// job is an order, and what ends it early.
type job struct {
	order
	ctx    context.Context
	cancel context.CancelFunc
}

// obey does what it is told until ctx ends, or its input, which ends the order under way, too.
func (d *driven) obey(ctx context.Context, in io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	jobs, failed := make(chan job), make(chan error, 1)
	go func() { // it ends with its input, or with the process
		failed <- readOrders(ctx, in, jobs)
		cancel()
	}()
	g := &d.s.granted
	if err := d.out.Encode(word{Ready: &ready{Flags: d.s.flags, InlineBytes: g.inlineBytes, MTU: g.mtu, Granted: g.known}}); err != nil {
		return err
	}
	for {
		select {
		case j := <-jobs:
			err := d.do(j)
			j.cancel()
			if err != nil {
				return err
			}
		case <-ctx.Done():
			select {
			case err := <-failed:
				return err
			default:
				return nil
			}
		}
	}
}

// readOrders hands on orders until the input ends; one to stop is done at once.
func readOrders(ctx context.Context, in io.Reader, jobs chan<- job) error {
	last := func() {}
	return fleet.EachLine(in, func(line []byte) (more bool, err error) {
		o, err := readOrder(line)
		if err != nil {
			return false, err
		}
		if o.Stop {
			last()
			return true, nil
		}
		j := job{order: o}
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

// readOrder reads one line.
func readOrder(b []byte) (o order, err error) {
	if err := json.Unmarshal(b, &o); err != nil {
		return o, fmt.Errorf("loadhost: an order that is none: %w", err)
	}
	n := 0
	for _, has := range []bool{o.Load != nil, o.Run != nil, o.Stop, o.Open != nil, o.Prepare, o.Slice != nil, o.Close} {
		if has {
			n++
		}
	}
	if n != 1 {
		return o, fmt.Errorf("loadhost: %.100q are %d orders in one", b, n)
	}
	return o, nil
}

func (d *driven) do(j job) error {
	switch {
	case j.Load != nil:
		return d.fill(j.ctx, j.Load)
	case j.Open != nil:
		return d.open(j.Open)
	case j.Prepare, j.Slice != nil, j.Close:
		return d.slice(j)
	}
	if err := fitsRequests(*j.Run); err != nil {
		return err
	}
	m, err := window(j.ctx, d.s, *j.Run, d.progress())
	if m == nil {
		return err
	}
	p := &portion{Before: m.before, After: m.after, Error: text(err), CountersError: text(m.err)}
	if p.Result, err = m.result.Encode(); err != nil {
		return err
	}
	if port := d.s.port; port != nil {
		p.Port = &portWord{Choice: port.choice, Before: port.before, After: port.after}
	}
	return d.out.Encode(word{Found: p})
}

// open makes a load in slices.
func (d *driven) open(spec *bench.Spec) (err error) {
	if err := fitsRequests(*spec); err != nil {
		return err
	}
	if d.load, err = d.s.openLocalLoad(*spec); err != nil {
		return err
	}
	d.load.slices.Latencies = true // percentiles of several hosts need them
	return d.out.Encode(word{Opened: true})
}

// slice makes one slice of the load that is open, or ends it.
func (d *driven) slice(j job) error {
	if d.load == nil {
		return errors.New("loadhost: an order for a load in slices, and none is open")
	}
	if j.Prepare {
		if err := d.load.ready(j.ctx); err != nil {
			return err
		}
		return d.out.Encode(word{Prepared: true})
	}
	if j.Slice != nil {
		s, err := d.load.slice(j.ctx, j.Slice.Settle, j.Slice.Window)
		if err != nil {
			return err
		}
		return d.out.Encode(word{Slice: &s})
	}
	sum, err := d.load.close(j.ctx)
	d.load = nil
	if err == nil {
		err = sum.encode(d.s.port)
	}
	if err != nil {
		return err
	}
	return d.out.Encode(word{Closed: &sum})
}

// fill loads the store.
func (d *driven) fill(ctx context.Context, o *loadOrder) error {
	if o.Kept {
		switch items, err := d.s.items(); {
		case err != nil:
			return err
		case items >= o.Spec.Records:
			return d.out.Encode(word{Loaded: true})
		}
	}
	if _, err := bench.Load(ctx, o.Spec, d.s.client.threads, d.progress()); err != nil {
		return fmt.Errorf("load %d records: %w", o.Spec.Records, err)
	}
	return d.out.Encode(word{Loaded: true})
}

// progress says now and then where an order is. An error is not lost: the next word has it, too.
func (d *driven) progress() func(bench.Progress) {
	var last time.Time
	return func(p bench.Progress) {
		if now := time.Now(); now.Sub(last) >= saySpace {
			last = now
			_ = d.out.Encode(word{Progress: &p})
		}
	}
}

// text is an error on one line; "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}
