package cell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/transport/socket"
)

// sliceLoad is a load in slices: by this process, or by load hosts. One goroutine calls its methods. Between slices the client is parked.
type sliceLoad interface {
	// ready makes the process of the client ready for a slice. It is called before the server resumes, whose costs begin then.
	ready(ctx context.Context) error
	// slice resumes the client, runs one slice, and parks the client.
	slice(ctx context.Context, settle, window time.Duration) (report.ClientSlice, error)
	// close ends the load and returns the sum of its slices. Afterwards the client is parked, and may not be used.
	close(ctx context.Context) (loadSum, error)
	// abandon ends a load whose slices are not used. It waits for no request.
	abandon(ctx context.Context)
}

// loadSum is the sum of all slices of a load. Load hosts send it as JSON.
type loadSum struct {
	Result    json.RawMessage // by bench.Result.Encode, on its way; else result
	Parked    time.Duration   // of all pauses
	ParkedCPU time.Duration
	Ksoftirqd time.Duration
	Visible   bool
	SlowStart bool      // tcp_slow_start_after_idle
	TCP       bool      // and it is known
	Port      *rdmaPort // of load hosts

	result *bench.Result
	hosts  []report.LoadHost // nil: one client here
}

// openLoad makes the load of a session.
func (s *Session) openLoad(ctx context.Context, spec bench.Spec) (sliceLoad, error) {
	if s.hosts != nil {
		return s.hosts.openLoad(ctx, spec)
	}
	return s.openLocalLoad(spec)
}

// localLoad is a load by this process's loops.
type localLoad struct {
	s      *Session
	slices *bench.Slices
	at     time.Time     // of the last park
	cpu    time.Duration // of the process, then
	usage  bench.Usage   // of all slices
	host   bench.HostTimes
	sum    loadSum
	now    report.ClientSlice // under way
	ctx    context.Context    // of the slice under way
	err    error              // of parking

	hostBefore    bench.HostTimes // at ready, and the next three
	hostErr       error
	softBefore    time.Duration
	softIsVisible bool
}

var _ sliceLoad = (*localLoad)(nil)

func (s *Session) openLocalLoad(spec bench.Spec) (l *localLoad, err error) {
	l = &localLoad{s: s}
	spec.OnWindow = l.onWindow
	if err := s.wakeLoad(); err != nil {
		return nil, err
	}
	if l.slices, err = bench.OpenSlices(spec, s.client.threads); err != nil {
		return nil, err
	}
	s.port.look(true)
	return l, l.park()
}

// parkWait bounds the wait for loops to have nothing to do: the longest write-back of a disk.
const parkWait = 20 * time.Second

// resume and park are for a client in a process of its own. The client of an in-process server lives on the server's loops, which the
// server parks.
func (c *client) resume() {
	if c.own {
		loop.ResumeAll(c.loops)
	}
}

func (c *client) park() error {
	if !c.own {
		return nil
	}
	if err := loop.ParkAll(c.loops, parkWait, nil); err != nil {
		return fmt.Errorf("park the client: %w", err)
	}
	return nil
}

// parkServer parks the server, unless it is parked, and returns its counters.
func (s *Session) parkServer(ctx context.Context) (server.Parked, error) {
	if s.parked == nil {
		p, err := s.parker().Park(ctx)
		if err != nil {
			return p, err
		}
		s.parked = &p
	}
	return *s.parked, nil
}

// resumeServer resumes the server, which is parked, and returns its CPU time before that.
func (s *Session) resumeServer(ctx context.Context) (time.Duration, error) {
	s.parked = nil
	cpu, err := s.parker().Resume(ctx)
	return time.Duration(cpu), err
}

// wakeLoad resumes the loops on which the load's generators live, whether or not they are parked.
func (s *Session) wakeLoad() error {
	if s.served == nil {
		s.client.resume()
		return nil
	}
	if s.parked == nil {
		return nil
	}
	_, err := s.resumeServer(context.Background())
	return err
}

// park parks the client, and an in-process server, and notes the time.
func (l *localLoad) park() (err error) {
	if l.s.served != nil {
		_, err = l.s.parkServer(context.Background())
	} else {
		err = l.s.client.park()
	}
	l.at, l.cpu = time.Now(), bench.ProcessCPU()
	return err
}

// onWindow is the OnWindow of bench.Spec: it is called before the load of a slice begins, and when nothing is in flight any more. So other work of the
// process, such as merging latencies, is not in the costs of the slice.
func (l *localLoad) onWindow(begin bool) {
	s := &l.now
	if begin {
		s.Usage, s.CPU = bench.ProcessUsage(), bench.ProcessCPU()
		s.Parked, s.ParkedCPU = time.Since(l.at), s.CPU-l.cpu
		l.s.client.resume()
		return
	}
	s.Cwnd = l.s.client.cwnd()
	if l.err = l.park(); l.err != nil {
		return
	}
	s.CPU = l.cpu - s.CPU
	s.Usage = divide(s.CPU, bench.ProcessUsage().Sub(s.Usage))
	if l.s.parker() != nil {
		_, l.err = l.s.parkServer(l.ctx) // at once: a server that spins takes CPU time until then
	}
}

func (l *localLoad) ready(context.Context) error {
	l.hostBefore, l.hostErr = bench.ReadHostTimes()
	l.softBefore, l.softIsVisible = bench.KsoftirqdCPU()
	if l.s.served == nil { // else the server, which is in this process, does so as it resumes
		loop.WaitForMonitor()
	}
	return nil
}

func (l *localLoad) slice(ctx context.Context, settle, window time.Duration) (report.ClientSlice, error) {
	l.now, l.ctx = report.ClientSlice{}, ctx
	found, err := l.slices.Slice(ctx, settle, window)
	s := l.now
	s.Slice = found
	switch {
	case err != nil:
		return s, err
	case l.err != nil:
		return s, l.err
	case found.Interrupted:
		return s, context.Canceled
	}
	if after, err := bench.ReadHostTimes(); l.hostErr == nil && err == nil {
		s.Host = after.Sub(l.hostBefore)
		l.host.Add(s.Host)
	}
	if after, ok := bench.KsoftirqdCPU(); l.softIsVisible && ok {
		s.Ksoftirqd, s.Visible = after-l.softBefore, true
		l.sum.Ksoftirqd += s.Ksoftirqd
		l.sum.Visible = true
	}
	l.usage.Add(s.Usage)
	l.sum.Parked += s.Parked
	l.sum.ParkedCPU += s.ParkedCPU
	return s, nil
}

// cwnd is the median of the connections' congestion windows, in segments; 0: not known.
func (c *client) cwnd() int {
	var all []int
	for thread, l := range c.loops {
		_ = l.Call(func() {
			for i := thread; i < len(c.conns); i += len(c.loops) { // as open distributes them; only its loop may use a connection
				if n, ok := socket.CongestionWindow(c.conns[i]); ok {
					all = append(all, n)
				}
			}
		})
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// slowStartAfterIdle reads net.ipv4.tcp_slow_start_after_idle: with it a TCP connection that was parked for a retransmission timeout begins
// with a small congestion window again.
func slowStartAfterIdle() (on, known bool) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_slow_start_after_idle")
	return strings.TrimSpace(string(b)) != "0", err == nil
}

func (l *localLoad) abandon(ctx context.Context) {
	if l.s.wakeLoad() == nil {
		_ = l.slices.Close(ctx)
	}
}

func (l *localLoad) close(ctx context.Context) (loadSum, error) {
	if err := l.s.wakeLoad(); err != nil {
		return l.sum, err
	}
	err := l.slices.Close(ctx)
	res := l.slices.Result()
	res.Process, res.Host = l.usage, bench.HostOf(l.host)
	l.s.port.look(false)
	l.sum.result = res
	l.sum.SlowStart, l.sum.TCP = slowStartAfterIdle()
	return l.sum, errors.Join(err, l.park())
}
