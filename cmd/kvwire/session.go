package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
)

// session is a server, of whatever kind, and a client connected to it.
type session struct {
	f      *factors
	served *server.Server // in this process (inproc)
	child  *fleet.Server  // in a process of its own
	client *client
	hosts  *loadHosts        // in the client's place, with --client-launch
	idle   report.Float      // CPUs that are busy without us; NA with --target
	flags  map[string]string // the server's own, by name
	port   *rdmaPort         // nil: not rdma
	data   string            // how the store came to its records: the column data_set; "": not by this run

	granted granted
	parked  *server.Parked // what the server had counted when it was parked; nil: it is awake
}

// idleLook is how long the machine is watched before anything of ours runs. Tests have a shorter one.
var idleLook = 300 * time.Millisecond

// prepare starts what the flags ask for and connects. It confines the whole process to the client's CPUs. The caller closes the session.
func prepare(ctx context.Context, f *factors) (*session, error) {
	n, err := find(f.Server.Transport)
	if err != nil {
		return nil, err
	}
	side, err := f.clientNetwork(n)
	if err != nil {
		return nil, err
	}
	if _, err := f.plan(); err != nil {
		return nil, err
	}
	if f.launch.Server == "" {
		err = n.works()
	}
	if err == nil && len(f.launch.Clients) == 0 {
		err = side.works()
	}
	if err != nil {
		return nil, err
	}
	cpus := fleet.DefaultCPUs()
	if f.launch.Used() {
		cpus = fleet.Split{} // any: they are on hosts of their own
	}
	f.Server.CPUs.Or(cpus.Server)
	f.Load.CPUs.Or(cpus.Client)
	if f.target == "" && f.serverAt == "" && f.launch.Server == "" {
		if err := fleet.CheckAllowed("server-cpus", f.Server.CPUs); err != nil {
			return nil, err
		}
	}
	if len(f.launch.Clients) == 0 {
		if err := fleet.CheckAllowed("client-cpus", f.Load.CPUs); err != nil {
			return nil, err
		}
	}
	s := &session{f: f}
	if f.inProcess() {
		f.Load.CPUs = f.Server.CPUs // one process
	}
	if len(f.launch.Clients) == 0 {
		if err := fleet.Confine(f.Load.CPUs); err != nil {
			return nil, err
		}
	}
	err = s.start(ctx, side)
	if err == nil {
		err = s.agree()
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// agree asks the server what it is, and refuses what would make a row that says something else.
func (s *session) agree() error {
	if s.hosts != nil { // each has agreed
		s.flags, s.granted = s.hosts.agreed()
		return nil
	}
	c, err := s.counters(firstAnswerMax)
	if err != nil {
		return err
	}
	s.flags = c.Flags
	s.granted.inlineBytes, s.granted.mtu, s.granted.known = rdma.Granted(s.client.control)
	if wait := s.flags["wait"]; wait != s.f.Server.Wait {
		return usagef("the server's loops wait by %s and the client's by %s, which is no comparison: give --wait %s here, or serve --wait %s", wait, s.f.Server.Wait, wait, s.f.Server.Wait)
	}
	if s.f.redis || s.f.Load.ClientTransport != s.f.Server.Transport {
		return nil
	}
	get := factor.All.Get(&s.f.Values)
	for _, name := range factor.All.Names(func(x *factor.Factor) bool { return x.Has(factor.Alike) && x.When.Holds(get) }) {
		if here, there := get(name), s.flags[name]; there != here {
			return usagef("the server has --%s=%s and the client %s, which is no comparison: give both the same", name, there, here)
		}
	}
	return nil
}

// clientNetwork is the client's side: the server's transport, or the one that --client-transport names.
func (f *factors) clientNetwork(server *network) (*network, error) {
	if f.Load.ClientTransport == "" || f.Load.ClientTransport == server.name {
		f.Load.ClientTransport = server.name
		return server, nil
	}
	n, err := find(f.Load.ClientTransport)
	if err != nil {
		return nil, err
	}
	sockets := map[string]bool{"tcp": true, "uring": true}
	if !sockets[n.name] || !sockets[server.name] {
		return nil, usagef("--client-transport %s does not speak to --transport %s: only tcp and uring can be mixed", n.name, server.name)
	}
	return n, nil
}

func (s *session) start(ctx context.Context, side *network) (err error) {
	f := s.f
	if f.target == "" && f.serverAt == "" && !f.launch.Used() && !f.control { // variants start together, a server that runs already is not idle, and another machine is not seen
		if busy, err := bench.IdleBusy(ctx, idleLook); err == nil {
			s.idle = report.F(busy)
		}
	}
	fleet.SetGOMAXPROCS(max(f.Load.Threads, f.Server.Threads))
	if f.inProcess() {
		if s.served, err = startServer(f); err != nil {
			return err
		}
		s.client, err = connect(ctx, f, side, s.served.Addr(), s.served.Group())
		return err
	}
	addr := f.target
	if addr == "" {
		if s.child, err = startChild(ctx, f); err != nil {
			return err
		}
		if s.child.Control != nil && !f.OnDisk() {
			s.child.Control.Quiet = server.QuietSoon
		}
		addr = s.child.Greeting.Listening
	}
	if f.launch.Used() {
		if addr, err = f.launch.Reached(addr); err != nil {
			return err
		}
	}
	if len(f.launch.Clients) > 0 {
		s.hosts, err = startLoadHosts(ctx, f, addr)
		return err
	}
	s.port = findRDMAPort(f, addr)
	s.client, err = connect(ctx, f, side, addr, nil)
	return err
}

// temporary makes a folder for a store: where TMPDIR says, or else in /tmp or /var/tmp, whichever has a disk
// under it that O_DIRECT reaches. The caller removes it.
func temporary() (string, error) {
	dir, err := os.MkdirTemp(temporaryParent(), fleet.TemporaryPrefix)
	if err == nil {
		atExit(func() { _ = os.RemoveAll(dir) })
	} else {
		return "", fmt.Errorf("temporary folder for the store: %w (name another one with --dir, or set TMPDIR)", err)
	}
	return dir, nil
}

func temporaryParent() string {
	parent := os.TempDir()
	if os.Getenv("TMPDIR") == "" && probe.DirectIO(probe.Local(), parent).State != probe.Available &&
		probe.DirectIO(probe.Local(), "/var/tmp").State == probe.Available {
		parent = "/var/tmp"
	}
	return parent
}

// How long a server may take to tell its counters: before a run, when it may have only just begun, and at the ends of a window.
const (
	firstAnswerMax = 15 * time.Second
	answerMax      = 5 * time.Second
)

// counters are the server's. One in another process may take that long.
func (s *session) counters(wait time.Duration) (server.Counters, error) {
	if s.served != nil {
		return s.served.Counters()
	}
	return s.client.ask(wait)
}

// noteHang remembers that the server did not answer, after a run or a load: its end is then not waited for. A load host's error
// comes as words.
func (s *session) noteHang(m *measured, err error) {
	silent := m != nil && (m.result.Unanswered > 0 || m.err != nil) ||
		err != nil && (strings.Contains(err.Error(), bench.ErrStuck.Error()) || strings.Contains(err.Error(), errNoAnswer.Error()))
	if s.child != nil && silent {
		s.child.Hung = true
	}
}

// close ends the client, then the server.
func (s *session) close() error {
	var errs []error
	if s.hosts != nil {
		errs = append(errs, s.hosts.close())
	}
	if s.client != nil {
		s.client.close()
	}
	if s.served != nil {
		errs = append(errs, s.served.Close())
	}
	if s.child != nil {
		errs = append(errs, s.child.Stop())
	}
	return errors.Join(errs...)
}

// parker is the session's server, if its loops can be parked: one in this process, or one that was started with --control; nil: neither.
func (s *session) parker() server.Parker {
	switch {
	case s.served != nil:
		return s.served
	case s.child != nil && s.child.Control != nil:
		return s.child.Control
	}
	return nil
}

// startChild runs kvwire serve with f's server flags, on a port of its own.
func startChild(ctx context.Context, f *factors) (*fleet.Server, error) {
	o := fleet.ServerOptions{Control: f.control, Temporary: f.OnDisk() && f.Store.Dir == "", At: f.serverAt, Launchers: f.launch, Version: version}
	o.Flags = []string{"--server-cpus=" + f.Server.CPUs.String()}
	get := factor.All.OfServer(&f.Values)
	for _, name := range factor.All.Names(func(x *factor.Factor) bool { return x.Has(factor.Server) && x.When.Holds(get) }) {
		if f.sets(name) && name != "server-cpus" {
			o.Flags = append(o.Flags, "--"+name+"="+get(name))
		}
	}
	if f.serverAt == "" {
		n, err := find(f.Server.Transport)
		if err != nil {
			return nil, err
		}
		if f.launch.Used() { // its clients are elsewhere
			o.Listen = f.launch.Listen()
		} else if o.Listen, err = n.listenOn(0); err != nil {
			return nil, err
		}
		if o.Credentials, err = f.as.NewServer(f.TCP.TLS == factor.On); err != nil {
			return nil, err
		}
	}
	return fleet.StartServer(ctx, &o)
}
