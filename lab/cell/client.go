package cell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport"
)

// client is the load generator's side: threads with connections, and one more connection for the server's counters.
type client struct {
	loops   []*loop.Loop
	own     bool // the loops are this client's, and not an in-process server's
	threads []bench.Client
	conns   []transport.Conn
	control transport.Conn
	limit   int // bytes of an answer
	redis   bool

	serverLoops int

	// dial connects loop l to loop want of the server, with that many requests in flight, or fewer: granted.
	dial func(ctx context.Context, l *loop.Loop, want, depth int) (k transport.Conn, granted int, err error)
}

// connect makes the client's threads and connections. group is the in-process server's, or nil.
func connect(ctx context.Context, f *Settings, n *server.Network, addr string, group *loop.Group) (*client, error) {
	c := &client{own: group == nil, redis: f.Redis}
	if err := c.open(ctx, f, n, addr, group); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *client) open(ctx context.Context, f *Settings, n *server.Network, addr string, group *loop.Group) (err error) {
	if err := n.Use(&f.Values); err != nil {
		return err
	}
	t := n.Transport(&f.Values, nil, f.Identity.TLS)
	if group != nil {
		c.loops = group.Net()
	} else {
		wait, err := loop.ParseWait(f.Server.Wait)
		if err != nil {
			return exit.Usagef("--wait: %v", err)
		}
		for i := range f.Load.Threads {
			o := loop.Options{Name: fmt.Sprint("client", i), Sleep: t.Sleep(), Wait: wait, SpinMax: f.Server.SpinMax}
			if n.Name == "uring" {
				f.OfSocketRing(&o)
			}
			if len(f.Load.CPUs) > 0 {
				o.CPUs = []int{f.Load.CPUs[i%len(f.Load.CPUs)]}
			}
			l, err := loop.Start(o, nil)
			if err != nil {
				return err
			}
			c.loops = append(c.loops, l)
		}
	}
	c.dial = func(ctx context.Context, l *loop.Loop, want, depth int) (k transport.Conn, granted int, err error) {
		if k, err = t.Dial(ctx, l, addr, transport.DialOptions{Depth: depth, Loop: want, Access: f.Identity.Who, Redis: f.Redis}); err != nil {
			return nil, 0, err
		}
		return k, int(k.Hello().Depth), nil
	}
	if c.control, _, err = c.dial(ctx, c.loops[0], transport.AnyLoop, f.Load.Depth); err != nil {
		return err
	}
	h := c.control.Hello()
	c.limit, c.serverLoops = int(h.MaxValueBytes), int(h.Loops)
	of := make([][]transport.Conn, len(c.loops))
	for i := range f.Load.Conns {
		thread, want := i%len(c.loops), i/len(c.loops)%int(h.Loops)
		k, granted, err := c.dial(ctx, c.loops[thread], want, f.Load.Depth)
		if err != nil {
			return fmt.Errorf("connection %d of %d: %w", i+1, f.Load.Conns, err)
		}
		if granted < f.Load.Depth {
			k.Hangup()
			return exit.Usagef("--depth %d: the server grants %d", f.Load.Depth, granted)
		}
		c.conns = append(c.conns, k)
		of[thread] = append(of[thread], k)
	}
	for i, l := range c.loops {
		if len(of[i]) > 0 {
			c.threads = append(c.threads, bench.Client{Loop: l, Handler: transport.Fan(of[i]), InFlight: len(of[i]) * f.Load.Depth})
		}
	}
	return nil
}

// loaders returns the threads for a load, each with inFlight requests in flight, if the server grants them: with one at a time, a million records take a
// minute or two. A thread with fewer gets a connection for the load. hangUp closes these connections.
func (c *client) loaders(ctx context.Context, inFlight int) (threads []bench.Client, hangUp func()) {
	threads = slices.Clone(c.threads)
	var own []transport.Conn
	for i := range threads {
		t := &threads[i]
		if t.InFlight >= inFlight {
			continue
		}
		k, granted, err := c.dial(ctx, t.Loop, i%max(1, c.serverLoops), inFlight)
		if err != nil { // the server has no room for it: the thread's own connections are used
			continue
		}
		own = append(own, k)
		if granted = min(granted, inFlight); granted > t.InFlight {
			t.Handler, t.InFlight = k, granted
		}
	}
	return threads, func() {
		for _, k := range own {
			k.Hangup()
		}
	}
}

// errNoAnswer means that the server did not answer in time.
var errNoAnswer = errors.New("the server does not answer")

// counters reads the server's counters. It blocks for at most wait.
func (c *client) counters(wait time.Duration) (s server.Counters, err error) {
	b := make([]byte, 0, min(64<<10, c.limit))
	back := make(answered, 1)
	r := &kv.Request{Op: kv.OpStats, Value: b, Owner: back}
	if !c.loops[0].Do(func() { c.control.Submit(r) }) {
		return s, loop.ErrStopped
	}
	select {
	case <-back:
	case <-time.After(wait):
		return s, fmt.Errorf("the server's counters: none after %v: %w", wait, errNoAnswer)
	}
	if r.Status != kv.StatusOK {
		return s, fmt.Errorf("the server's counters: %v", r.Status)
	}
	if c.redis {
		return redisCounters(string(r.Value))
	}
	if err := json.Unmarshal(r.Value, &s); err != nil {
		return s, fmt.Errorf("the server's counters: %w", quote.Error(err))
	}
	quote.Strings(&s)
	return s, nil
}

type answered chan *kv.Request

// Complete implements kv.Completer.
func (a answered) Complete(r *kv.Request) { a <- r }

// close hangs up and ends the client's own loops, which may be parked.
func (c *client) close() {
	c.resume()
	for _, k := range c.conns {
		k.Hangup()
	}
	if c.control != nil {
		c.control.Hangup()
	}
	if c.own {
		for _, l := range c.loops {
			_ = l.Stop()
		}
	}
}

// redisCounters reads from the reply to INFO what a row needs of a server: its CPU time, and its items.
func redisCounters(info string) (c server.Counters, err error) {
	c.Flags = map[string]string{"transport": "redis", "backend": store.Mem.String(), "wait": "block"}
	seconds := func(text string) (time.Duration, error) {
		s, err := strconv.ParseFloat(text, 64)
		if err != nil || !(s >= 0 && s < math.MaxInt64/1e9) {
			return 0, fmt.Errorf("INFO: a CPU time of %.40q s", text)
		}
		return time.Duration(s * 1e9), nil
	}
	items := uint64(0)
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "used_cpu_user":
			c.Process.User, err = seconds(value)
		case "used_cpu_sys":
			c.Process.Sys, err = seconds(value)
		case "db0":
			keys, _, _ := strings.Cut(strings.TrimPrefix(value, "keys="), ",")
			items, err = strconv.ParseUint(keys, 10, 64)
		}
		if err != nil {
			return c, fmt.Errorf("the server's INFO: %.100q: %w", line, err)
		}
	}
	c.Stores = []store.Stats{{Items: items}}
	return c, nil
}
