package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport"
)

// A server with --control takes orders from its standard input, one a line: "park" or "resume" (its loops). Each line is answered by one line of JSON
// on standard output, a controlReply. The end of the input ends the server, as with --exit-with-stdin.

// parked is the answer to park: the server's counters when all its loops are parked.
type parked struct {
	counters
	CPU   int64 `json:"cpu_ns"` // CPU time of the process since its start, in ns (CLOCK_PROCESS_CPUTIME_ID), read after the last loop was parked
	Conns int   `json:"conns"`  // connections that are open
}

// resumed is the answer to resume.
type resumed struct {
	CPU int64 `json:"cpu_ns"` // as in parked, read before the first loop woke
}

// controlReply is the answer to a line: one of these.
type controlReply struct {
	Parked  *parked  `json:"parked,omitempty"`
	Resumed *resumed `json:"resumed,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// Bounds of control: the length of an order in bytes; the time in which a server becomes quiet, write-back of its files' cached pages included; and the time
// that the caller waits for the answer, beside that.
const (
	controlLineMax = 256
	quietMax       = 30 * time.Second
	quietSoon      = 5 * time.Second // the same of a server that keeps nothing on a disk
	controlMax     = 10 * time.Second
)

// parker is a server whose loops can be parked.
type parker interface {
	park(ctx context.Context) (parked, error)
	resume(ctx context.Context) (cpuNs int64, err error)
}

var (
	_ parker = (*served)(nil)
	_ parker = (*serverControl)(nil)
)

// parking is the state of a served whose loops can be parked.
type parking struct {
	mu     sync.Mutex           // held while loops are parked or resumed, and while their counters are read
	seen   atomic.Pointer[seen] // written under mu; nil: the loops are awake
	ending atomic.Bool          // the server ends: its loops stay awake
}

// seen are the counters of loops, by their place in the group.
type seen struct {
	loops  []transport.LoopCounters
	conns  []transport.Stats // of network loops
	stores []store.Stats     // by shard
}

// park waits until the server is quiet, parks all its loops and returns what they have counted. An error leaves them awake. Any goroutine but a loop's.
func (s *served) park(ctx context.Context) (p parked, err error) {
	s.parking.mu.Lock()
	defer s.parking.mu.Unlock()
	if s.parking.seen.Load() != nil {
		return p, errors.New("the server is parked already")
	}
	wait := quietMax
	if by, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(by))
	}
	n := s.newSeen()
	all := s.group.All()
	place := make(map[*loop.Loop]int, len(all))
	for i, l := range all {
		place[l] = i
	}
	if err := s.group.Park(wait, func(l *loop.Loop) { s.look(n, l, place[l]) }); err != nil {
		return p, err
	}
	cpu := bench.ProcessCPU()
	if s.parking.ending.Load() {
		s.group.Resume()
		return p, errors.New("the server ends")
	}
	s.parking.seen.Store(n)
	p = parked{counters: s.sum(n.loops, n.stores), CPU: cpu.Nanoseconds()}
	for _, c := range n.conns {
		p.Conns += c.Conns
	}
	return p, nil
}

func (s *served) newSeen() *seen {
	return &seen{make([]transport.LoopCounters, len(s.group.All())), make([]transport.Stats, len(s.group.Net())), make([]store.Stats, s.group.Shards())}
}

// look records the counters of a loop, on that loop. It is number i of the group, in which network loops come first.
func (s *served) look(n *seen, l *loop.Loop, i int) {
	n.loops[i] = transport.Snapshot(l)
	if i < len(n.conns) {
		n.conns[i] = s.server.LoopStats(i)
	}
	for shard, of := range s.group.Store() {
		if of == l {
			n.stores[shard], _ = store.StatsOf(s.group.Partitions()[shard])
		}
	}
}

// resume ends park. It returns the CPU time that the process had used before its loops woke. Any goroutine but a loop's.
func (s *served) resume(context.Context) (cpuNs int64, err error) {
	s.parking.mu.Lock()
	defer s.parking.mu.Unlock()
	if s.parking.seen.Load() == nil {
		return 0, errors.New("the server is not parked")
	}
	loop.Calm()
	cpuNs = bench.ProcessCPU().Nanoseconds()
	s.parking.seen.Store(nil)
	s.group.Resume()
	return cpuNs, nil
}

// unpark resumes the loops at the server's end, for good.
func (s *served) unpark() {
	s.parking.ending.Store(true)
	s.parking.seen.Store(nil)
	if s.group != nil {
		s.group.Resume()
	}
}

// seen returns the loops' counters; of parked loops those of the moment of parking. Any goroutine but a loop's.
func (s *served) seen() (n *seen, err error) {
	s.parking.mu.Lock()
	defer s.parking.mu.Unlock()
	if n := s.parking.seen.Load(); n != nil {
		return n, nil
	}
	n = &seen{}
	if n.loops, err = s.loops(); err == nil {
		n.conns, err = s.server.Stats()
	}
	if err == nil {
		n.stores, err = s.stores()
	}
	return n, err
}

// obey carries out the orders of in, and answers each on out, until in ends or an answer cannot be written.
func (s *served) obey(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, controlLineMax)
	answer := json.NewEncoder(out)
	for lines.Scan() {
		if err := answer.Encode(s.control(ctx, lines.Text())); err != nil {
			return fmt.Errorf("answer on standard output: %w", err)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return errors.Join(answer.Encode(controlReply{Error: fmt.Sprintf("a line of more than %d bytes", controlLineMax)}), fmt.Errorf("--control: %w", err))
	}
	return nil // whatever has ended the input
}

// control carries out one order.
func (s *served) control(ctx context.Context, line string) (r controlReply) {
	var err error
	switch line {
	case "park":
		var p parked
		if p, err = s.park(ctx); err == nil {
			r.Parked = &p
		}
	case "resume":
		var cpu int64
		if cpu, err = s.resume(ctx); err == nil {
			r.Resumed = &resumed{cpu}
		}
	default:
		err = fmt.Errorf("%.100q is neither park nor resume", line)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// serverControl parks and resumes a server in another process, which was started with --control. Its methods are for one goroutine.
type serverControl struct {
	write  func(line []byte) error
	next   func(ctx context.Context, wait time.Duration) ([]byte, error) // the next line of the server's
	quiet  time.Duration                                                 // how long the server may take to become quiet; 0: quietMax
	broken error                                                         // an answer is missing: what comes next would be mistaken for it
}

// park makes the server park its loops, and returns its counters. It waits for the answer no longer than ctx, or quiet and controlMax together. After an
// error of the server's own its loops are awake.
func (c *serverControl) park(ctx context.Context) (parked, error) {
	r, err := c.ask(ctx, "park", cmp.Or(c.quiet, quietMax)+controlMax)
	if err == nil && r.Parked == nil {
		err = c.breaks(errors.New("the server's answer to park is another one"))
	}
	if err != nil {
		return parked{}, err
	}
	return *r.Parked, nil
}

// resume makes the server resume its loops, and returns the CPU time of its process before its loops woke, in ns.
func (c *serverControl) resume(ctx context.Context) (cpuNs int64, err error) {
	r, err := c.ask(ctx, "resume", controlMax)
	if err == nil && r.Resumed == nil {
		err = c.breaks(errors.New("the server's answer to resume is another one"))
	}
	if err != nil {
		return 0, err
	}
	return r.Resumed.CPU, nil
}

func (c *serverControl) breaks(err error) error {
	c.broken = err
	return err
}

// ask writes an order and reads the answer.
func (c *serverControl) ask(ctx context.Context, what string, wait time.Duration) (r controlReply, err error) {
	if c.broken != nil {
		return r, c.broken
	}
	if err := ctx.Err(); err != nil {
		return r, err
	}
	if err := c.write([]byte(what + "\n")); err != nil {
		return r, c.breaks(fmt.Errorf("%s the server: %w", what, err))
	}
	line, err := c.next(ctx, wait)
	if err == nil {
		if err = quote.Error(json.Unmarshal(line, &r)); err != nil {
			err = fmt.Errorf("%.100q: %w", line, err)
		}
		if quote.Strings(&r); r.Parked != nil {
			quote.Strings(&r.Parked.counters)
		}
	}
	if err != nil {
		return r, c.breaks(fmt.Errorf("%s the server: %w", what, err))
	}
	if r.Error != "" {
		return r, fmt.Errorf("%s the server: %s", what, r.Error)
	}
	return r, nil
}

// parker is the session's server, if its loops can be parked: one in this process, or one that was started with --control; nil: neither.
func (s *session) parker() parker {
	switch {
	case s.served != nil:
		return s.served
	case s.child != nil && s.child.control != nil:
		return s.child.control
	}
	return nil
}
