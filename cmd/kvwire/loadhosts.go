package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/report"
)

// loadHosts are the load processes of a run, each behind a launcher. Its methods are for one goroutine. After an error of a
// host the others are of no use: only close is left.
type loadHosts struct {
	f       *factors
	hosts   []*loadHost
	silence time.Duration // a host that has something to do is not silent for longer
}

// loadHost is one of them.
type loadHost struct {
	*fleet.Process
	ready ready
	found *portion
	res   *bench.Result // found's
}

// startLoadHosts starts all of them at once, and returns when each has connected to the server at addr.
func startLoadHosts(ctx context.Context, f *factors, addr string) (*loadHosts, error) {
	s := &loadHosts{f: f, silence: fleet.Patience, hosts: make([]*loadHost, len(f.launch.Clients))}
	if err := s.start(ctx, addr); err != nil {
		return nil, err
	}
	return s, nil
}

// start leaves no process behind when it fails.
func (s *loadHosts) start(ctx context.Context, addr string) error {
	f := s.f
	args := []string{"loadhost", "--target=" + addr, "--transport=" + f.Server.Transport, "--client-cpus=" + f.Load.CPUs.String()}
	for _, name := range factor.All.Of(factor.Client) {
		if f.sets(name) {
			args = append(args, "--"+name+"="+f.set.Lookup(name).Value.String())
		}
	}
	err := s.each(ctx, func(ctx context.Context, i int) error {
		p, err := f.launch.Launch(ctx, fmt.Sprintf("load host %d", i+1), f.launch.Clients[i], version, fleet.Role{Args: args, Credentials: f.as.Credentials()})
		if err != nil {
			return err
		}
		s.hosts[i] = &loadHost{Process: p}
		w, err := s.word(ctx, i)
		if err == nil && w.Ready == nil {
			err = p.Unexpected("that it is ready")
		}
		if err == nil {
			s.hosts[i].ready = *w.Ready
		}
		return err
	})
	if err != nil {
		_ = s.close() // the first error is the reason, and the others' its consequence
	}
	return err
}

// each does something for all hosts at once, and waits. The first error ends the others' waiting.
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

// word is the next one of a host.
func (s *loadHosts) word(ctx context.Context, i int) (w word, err error) {
	h := s.hosts[i]
	line, err := h.Next(ctx, s.silence)
	if err != nil {
		return w, err
	}
	return w, readWord(line, h.Name, &w)
}

// readWord reads one line of a load host.
func readWord(b []byte, name string, w *word) error {
	if err := json.Unmarshal(b, w); err != nil {
		return fmt.Errorf("%s: the load host sent %.100q, which is not a message of kvwire: %w", name, b, quote.Error(err))
	}
	quote.Strings(w)
	return nil
}

// agreed is what the server told the first of them, which each compared with its own flags.
func (s *loadHosts) agreed() (flags map[string]string, g granted) {
	r := s.hosts[0].ready
	return r.Flags, granted{inlineBytes: r.InlineBytes, mtu: r.MTU, known: r.Granted}
}

// load has the first host load the store.
func (s *loadHosts) load(ctx context.Context, spec bench.Spec, show func(bench.Progress)) error {
	spec.AllThreads = 0 // it loads all by itself
	if err := s.hosts[0].Send(order{Load: &loadOrder{Spec: spec, Kept: s.f.sets("dir")}}); err != nil {
		return err
	}
	w, err := s.await(ctx, 0, show)
	if err == nil && !w.Loaded {
		err = s.hosts[0].Unexpected("that the store is loaded")
	}
	return err
}

// await is the first word of a host that is not about its progress.
func (s *loadHosts) await(ctx context.Context, i int, show func(bench.Progress)) (word, error) {
	for {
		w, err := s.word(ctx, i)
		if err != nil || w.Progress == nil {
			return w, err
		}
		if i == 0 { // one is enough to see how far they are
			show(*w.Progress)
		}
	}
}

// stopLine is an order to stop.
const stopLine = `{"stop":true}` + "\n"

// window has all hosts warm up and measure, at once: all are ready, and they are told one right after the other. When ctx ends
// so do their windows, and what there is comes back. With an error, what the hosts found may come with it.
func (s *loadHosts) window(ctx context.Context, spec bench.Spec, show func(bench.Progress)) (*measured, error) {
	goes := make([][]byte, len(s.hosts))
	for i := range s.hosts {
		spec.FirstThread = i * s.f.Load.Threads
		b, err := json.Marshal(order{Run: &spec})
		if err != nil {
			return nil, err
		}
		goes[i] = append(b, '\n')
	}
	m := &measured{started: time.Now()}
	for i, h := range s.hosts {
		if err := h.Write(goes[i]); err != nil {
			return nil, err
		}
	}
	stopped := make(chan struct{})
	cut := context.AfterFunc(ctx, func() {
		defer close(stopped)
		for _, h := range s.hosts {
			h.TryWrite([]byte(stopLine))
		}
	})
	err := s.each(context.WithoutCancel(ctx), func(ctx context.Context, i int) error {
		w, err := s.await(ctx, i, show)
		if err == nil && w.Found == nil {
			err = s.hosts[i].Unexpected("what it has found")
		}
		if err != nil {
			return err
		}
		h := s.hosts[i]
		h.found = w.Found
		if h.res, err = bench.DecodeResult(w.Found.Result); err != nil {
			err = fmt.Errorf("%s: %w", h.Name, quote.Error(err))
		}
		return err
	})
	if !cut() {
		<-stopped
	}
	if err != nil {
		return nil, err
	}
	return m, s.gather(m)
}

// gather puts together what the hosts have found. The server's counters are those that the first one has read.
func (s *loadHosts) gather(m *measured) (err error) {
	var parts []*bench.Result
	var errs []string
	for i, h := range s.hosts {
		parts = append(parts, h.res)
		m.hosts = append(m.hosts, report.LoadHost{Name: fmt.Sprintf("load host %d", i+1), Result: h.res})
		if h.found.Error != "" {
			errs = append(errs, h.Name+": "+h.found.Error)
		}
	}
	if m.result, err = bench.Together(parts); err != nil {
		return err
	}
	m.result.Started = m.started // by this machine's clock, as those of all other rows
	first := s.hosts[0].found
	m.before, m.after, m.port = first.Before, first.After, s.port()
	if first.CountersError != "" {
		m.err = errors.New(first.CountersError)
	}
	if len(errs) > 0 {
		return errors.New(strings.Join(errs, "; "))
	}
	return nil
}

// port sums what the hosts' RDMA ports have counted, each port once; nil without RDMA.
func (s *loadHosts) port() *rdmaPort {
	var sum *rdmaPort
	seen := map[string]bool{}
	for _, h := range s.hosts {
		if h.found == nil || h.found.Port == nil {
			continue
		}
		p := h.found.Port
		if sum == nil {
			sum = &rdmaPort{choice: p.Choice, before: device.Counters{}, after: device.Counters{}}
		}
		id := fmt.Sprint(cmp.Or(h.Host.Machine, h.Name), p.Choice.Device, p.Choice.Port)
		if seen[id] {
			continue
		}
		seen[id] = true
		for name, n := range p.After.Sub(p.Before) {
			sum.before[name] = 0
			sum.after[name] += n
		}
	}
	return sum
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

// serverHost is the host that the server is on.
func (s *session) serverHost() fleet.HostInfo {
	if s.child != nil && s.f.launch.Server != "" {
		return s.child.Host
	}
	return s.here()
}

// here is this machine, as a launched process would tell of its own.
func (s *session) here() fleet.HostInfo {
	w := fleet.HostInfo{Machine: fleet.MachineID()}
	w.Env.Kernel = kernel()
	return w
}

// places are the hosts of the server and of the load, in this order.
func (s *session) places() []fleet.HostInfo {
	all := []fleet.HostInfo{s.serverHost()}
	if s.hosts == nil {
		return append(all, s.here())
	}
	for _, h := range s.hosts.hosts {
		all = append(all, h.Host)
	}
	return all
}

// serverApart says that the server is on a machine where no load is made, as far as is known.
func (s *session) serverApart() bool {
	if !s.f.launch.Used() {
		return false
	}
	places := s.places()
	return places[0].Machine != "" && !slices.ContainsFunc(places[1:], func(p fleet.HostInfo) bool { return p.Machine == "" || p.Machine == places[0].Machine })
}

// place writes where a run's processes were. Hosts count by their kernels: namespaces and containers of one machine are one.
func (s *session) place(r *report.Row) {
	if !s.f.launch.Used() {
		return
	}
	machines, kernels, known := map[string]bool{}, []string(nil), true
	for _, p := range s.places() {
		machines[p.Machine] = true
		known = known && p.Machine != ""
		if !slices.Contains(kernels, p.Env.Kernel) {
			kernels = append(kernels, p.Env.Kernel)
		}
	}
	if r.Kernel = strings.Join(kernels, ", "); known {
		r.Hosts = report.I(len(machines))
	}
	if ip, err := netip.ParseAddr(s.f.launch.Addr); err == nil && ip.IsLoopback() && len(machines) == 1 && s.f.Server.Transport != "rdma" {
		r.Device = "loopback"
	}
}

// beside fills in what the run's other processes took on each load host's machine.
func (s *session) beside(hosts []report.LoadHost, server *report.Server) {
	for i := range hosts {
		at := s.hosts.hosts[i].Host.Machine
		if at == "" {
			continue
		}
		for j := range hosts {
			if j != i && s.hosts.hosts[j].Host.Machine == at {
				hosts[i].Beside.Add(hosts[j].Result.Process)
			}
		}
		if server != nil && s.serverHost().Machine == at {
			hosts[i].Beside.Add(server.Usage)
		}
	}
}

// writeHosts leaves what the launched hosts are in a folder of results.
func (s *session) writeHosts(dir string) error {
	var hosts []report.HostEnv
	if s.child != nil && s.f.launch.Server != "" {
		hosts = append(hosts, report.HostEnv{Role: "server", Env: s.child.Host.Env})
	}
	if s.hosts != nil {
		for i, h := range s.hosts.hosts {
			hosts = append(hosts, report.HostEnv{Role: fmt.Sprintf("load %d", i+1), Env: h.Host.Env})
		}
	}
	if len(hosts) == 0 {
		return nil
	}
	return report.WriteHosts(dir, hosts)
}
