package cell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/report"
)

// loadHosts are the load processes of a run, each behind a launcher. One goroutine calls the methods. After an error of a host, only close may be called.
type loadHosts struct {
	f       *Settings
	hosts   []*loadHost
	silence time.Duration // the longest time between two replies of a host at work
}

// loadHost is one of them.
type loadHost struct {
	*fleet.Process
	ready  ready
	result *bench.Result // of a run, or of all slices
	port   *rdmaPort     // nil: not rdma
}

// startLoadHosts starts all of them at once, and returns when each has connected to the server at addr.
func startLoadHosts(ctx context.Context, f *Settings, addr string) (*loadHosts, error) {
	s := &loadHosts{f: f, silence: fleet.Patience, hosts: make([]*loadHost, len(f.Launch.Clients))}
	if err := s.start(ctx, addr); err != nil {
		return nil, err
	}
	return s, nil
}

// start leaves no process behind when it fails.
func (s *loadHosts) start(ctx context.Context, addr string) error {
	f := s.f
	args := []string{"loadhost", "--target=" + addr, "--transport=" + f.Server.Transport, "--client-cpus=" + f.Load.CPUs.String()}
	get := factor.All.Get(&f.Values)
	for _, name := range factor.All.Of(factor.Client) {
		if f.Given(name) {
			args = append(args, "--"+name+"="+get(name))
		}
	}
	err := s.each(ctx, func(ctx context.Context, i int) error {
		p, err := f.Launch.Launch(ctx, fmt.Sprintf("load host %d", i+1), f.Launch.Clients[i], f.Program.Version, fleet.Role{Args: args, Credentials: f.Identity.Credentials()})
		if err != nil {
			return err
		}
		s.hosts[i] = &loadHost{Process: p}
		r, err := s.reply(ctx, i)
		if err == nil && r.Ready == nil {
			err = p.Unexpected("ready")
		}
		if err == nil {
			s.hosts[i].ready = *r.Ready
		}
		return err
	})
	if err == nil && f.Replay != nil {
		err = s.sendTrace(ctx)
	}
	if err != nil {
		_ = s.close() // the first error is the reason, and the others' its consequence
	}
	return err
}

// each calls do for all hosts at once, and waits. The first error ends the context of the others.
func (s *loadHosts) each(ctx context.Context, do func(ctx context.Context, i int) error) (first error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(s.hosts))
	for i := range s.hosts {
		go func() { errs <- do(ctx, i) }()
	}
	for range s.hosts {
		if err := <-errs; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// reply reads a host's next line.
func (s *loadHosts) reply(ctx context.Context, i int) (r reply, err error) {
	h := s.hosts[i]
	line, err := h.Next(ctx, s.silence)
	if err != nil {
		return r, err
	}
	return r, readReply(line, h.Name, &r)
}

func readReply(b []byte, name string, r *reply) error {
	if err := json.Unmarshal(b, r); err != nil {
		return fmt.Errorf("%s: the load host sent %.100q, which is not a message of kvwire: %w", name, b, quote.Error(err))
	}
	quote.Strings(r)
	return nil
}

// result is a host's next reply that is not progress. what describes, for errors, what the reply has if has is true.
func (s *loadHosts) result(ctx context.Context, i int, show func(bench.Progress), what string, has func(*reply) bool) (r reply, err error) {
	for {
		if r, err = s.reply(ctx, i); err != nil {
			return r, err
		}
		if r.Progress == nil {
			break
		}
		if i == 0 && show != nil { // the progress of one is enough
			show(*r.Progress)
		}
	}
	if !has(&r) {
		return r, s.hosts[i].Unexpected(what)
	}
	return r, nil
}

// send sends each host its command, one right after the other.
func (s *loadHosts) send(of func(i int) command) error {
	lines := make([][]byte, len(s.hosts))
	for i := range s.hosts {
		b, err := json.Marshal(of(i))
		if err != nil {
			return err
		}
		lines[i] = append(b, '\n')
	}
	for i, h := range s.hosts {
		if err := h.Write(lines[i]); err != nil {
			return err
		}
	}
	return nil
}

// results waits for the results of all hosts.
func (s *loadHosts) results(ctx context.Context, show func(bench.Progress), what string, has func(*reply) bool) ([]reply, error) {
	all := make([]reply, len(s.hosts))
	err := s.each(ctx, func(ctx context.Context, i int) (err error) {
		all[i], err = s.result(ctx, i, show, what, has)
		return err
	})
	return all, err
}

// do sends each host its command and waits for the results of all.
func (s *loadHosts) do(ctx context.Context, of func(i int) command, what string, has func(*reply) bool) ([]reply, error) {
	if err := s.send(of); err != nil {
		return nil, err
	}
	return s.results(ctx, nil, what, has)
}

// share is a host's share of a load.
func (s *loadHosts) share(spec bench.Spec, i int) *bench.Spec {
	spec.FirstThread = i * s.f.Load.Threads
	return &spec
}

// load makes the first host load the store.
func (s *loadHosts) load(ctx context.Context, spec bench.Spec, show func(bench.Progress)) error {
	spec.AllThreads = 0 // it loads everything by itself
	if err := s.hosts[0].Send(command{Load: &loadCommand{Spec: spec, Kept: s.f.Given("dir")}}); err != nil {
		return err
	}
	_, err := s.result(ctx, 0, show, "the end of the loading", func(r *reply) bool { return r.Loaded })
	return err
}

// stopLine is a command to stop.
const stopLine = `{"stop":true}` + "\n"

// window makes all hosts warm up and measure at the same time. When ctx ends so do their windows, and their results until then are returned. With an error, there may
// be results, too.
func (s *loadHosts) window(ctx context.Context, spec bench.Spec, show func(bench.Progress)) (*Measured, error) {
	m := &Measured{Started: time.Now()}
	if err := s.send(func(i int) command { return command{Run: s.share(spec, i)} }); err != nil {
		return nil, err
	}
	stopped := make(chan struct{})
	cut := context.AfterFunc(ctx, func() {
		defer close(stopped)
		for _, h := range s.hosts {
			h.TryWrite([]byte(stopLine))
		}
	})
	all, err := s.results(context.WithoutCancel(ctx), show, "its result", func(r *reply) bool { return r.Found != nil })
	if !cut() {
		<-stopped
	}
	if err != nil {
		return nil, err
	}
	var errs []string
	for i, h := range s.hosts {
		found := all[i].Found
		if err := h.found(found.Result, found.Port, spec.Trace); err != nil {
			return nil, err
		}
		if found.Error != "" {
			errs = append(errs, h.Name+": "+found.Error)
		}
	}
	if m.Result, m.Hosts, err = s.together(); err != nil {
		return m, err
	}
	m.Result.Started = m.Started // by this machine's clock, as those of all other rows
	first := all[0].Found        // each host has read the server's counters
	m.before, m.after, m.port = first.Before, first.After, s.ports()
	if first.CountersError != "" {
		m.err = errors.New(first.CountersError)
	}
	if len(errs) > 0 {
		return m, errors.New(strings.Join(errs, "; "))
	}
	return m, nil
}

// found keeps a host's result.
func (h *loadHost) found(encoded json.RawMessage, port *rdmaPort, trace *bench.Trace) (err error) {
	h.port = port
	if h.result, err = bench.DecodeResult(encoded, trace); err != nil {
		err = fmt.Errorf("%s: %w", h.Name, quote.Error(err))
	}
	return err
}

// together combines the hosts' results.
func (s *loadHosts) together() (*bench.Result, []report.LoadHost, error) {
	var results []*bench.Result
	var hosts []report.LoadHost
	for i, h := range s.hosts {
		results = append(results, h.result)
		hosts = append(hosts, report.LoadHost{Name: fmt.Sprintf("load host %d", i+1), Result: h.result})
	}
	all, err := bench.Together(results)
	return all, hosts, err
}

// close ends all hosts at once, and waits for them.
func (s *loadHosts) close() error {
	var wait sync.WaitGroup
	errs := make([]error, len(s.hosts))
	for i, h := range s.hosts {
		if h == nil {
			continue
		}
		wait.Go(func() {
			if err := h.Stop(); err != nil {
				errs[i] = fmt.Errorf("%s: %w", h.Name, err)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// hostsLoad is a load in slices by several load hosts.
type hostsLoad struct{ *loadHosts }

var _ sliceLoad = hostsLoad{}

func (s *loadHosts) openLoad(ctx context.Context, spec bench.Spec) (l hostsLoad, err error) {
	l.loadHosts = s
	_, err = s.do(ctx, func(i int) command { return command{Open: s.share(spec, i)} }, "ready for load", func(r *reply) bool { return r.Opened })
	return l, err
}

func (l hostsLoad) ready(ctx context.Context) error {
	_, err := l.do(ctx, func(int) command { return command{Prepare: true} }, "ready for a slice", func(r *reply) bool { return r.Prepared })
	return err
}

func (l hostsLoad) slice(ctx context.Context, settle, window time.Duration) (s report.ClientSlice, err error) {
	all, err := l.do(ctx, func(int) command { return command{Slice: &fleet.SliceCommand{Settle: settle, Window: window}} }, "the result of a slice", func(r *reply) bool { return r.Slice != nil })
	if err != nil {
		return s, err
	}
	var parts []bench.Slice
	var cwnd []int
	for _, r := range all {
		parts = append(parts, r.Slice.Slice)
		s.CPU += r.Slice.CPU
		s.Usage.Add(r.Slice.Usage)
		s.Parked = max(s.Parked, r.Slice.Parked)
		s.ParkedCPU += r.Slice.ParkedCPU
		cwnd = append(cwnd, r.Slice.Cwnd)
	}
	slices.Sort(cwnd)
	first := all[0].Slice
	s.Host, s.Ksoftirqd, s.Visible, s.Cwnd = first.Host, first.Ksoftirqd, first.Visible, cwnd[len(cwnd)/2]
	s.Slice, err = bench.TogetherSlices(parts)
	return s, err
}

func (l hostsLoad) abandon(context.Context) {} // each host does so at the end of its input

func (l hostsLoad) close(ctx context.Context) (sum loadSum, err error) {
	all, err := l.do(ctx, func(int) command { return command{Close: true} }, "all its slices", func(r *reply) bool { return r.Closed != nil })
	if err != nil {
		return sum, err
	}
	for i, h := range l.hosts {
		c := all[i].Closed
		if err := h.found(c.Result, c.Port, nil); err != nil {
			return sum, err
		}
		sum.Parked = max(sum.Parked, c.Parked)
		sum.ParkedCPU += c.ParkedCPU
	}
	first := all[0].Closed
	sum.Ksoftirqd, sum.Visible, sum.SlowStart, sum.TCP, sum.Port = first.Ksoftirqd, first.Visible, first.SlowStart, first.TCP, l.ports()
	sum.result, sum.hosts, err = l.together()
	return sum, err
}
