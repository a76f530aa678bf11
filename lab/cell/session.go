package cell

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
)

// Session is a server and a client that is connected to it.
type Session struct {
	Flags map[string]string // the server's, by name

	f       *Settings
	served  *server.Server // in this process (inproc)
	child   *fleet.Server  // in a process of its own
	client  *client
	hosts   *loadHosts   // instead of client, with --client-launch
	link    *link        // between server and client; nil: none of the run's own
	idle    report.Float // CPUs that other processes keep busy; NA with --target
	port    *rdmaPort    // nil: not rdma
	dataSet string       // how the store got its records: the column data_set; "": not by this run
	granted granted
	parked  *server.Parked // the server's counters when it was parked; nil: it is awake
}

// IdleTime is how long the machine's idle CPUs are measured before a session starts. Tests shorten it.
var IdleTime = 300 * time.Millisecond

// Open starts the processes that the settings need and connects the client. It confines this process to the client's CPUs. The caller closes the session.
func Open(ctx context.Context, f *Settings) (*Session, error) {
	n, err := f.Program.Network(f.Server.Transport)
	if err != nil {
		return nil, err
	}
	side, err := f.clientNetwork(n)
	if err != nil {
		return nil, err
	}
	if _, err := f.Plan(); err != nil {
		return nil, err
	}
	if f.Launch.Server == "" {
		err = n.Works(&f.Values)
	}
	if err == nil && len(f.Launch.Clients) == 0 {
		err = side.Use(&f.Values)
	}
	if err != nil {
		return nil, err
	}
	cpus := fleet.DefaultCPUs()
	if f.Launch.Used() {
		cpus = fleet.Split{} // any: they are on hosts of their own
	}
	f.Server.CPUs.Or(cpus.Server)
	f.Load.CPUs.Or(cpus.Client)
	if f.Target == "" && f.ServerAt == "" && f.Launch.Server == "" {
		if err := fleet.CheckAllowed("server-cpus", f.Server.CPUs); err != nil {
			return nil, err
		}
	}
	if len(f.Launch.Clients) == 0 {
		if err := fleet.CheckAllowed("client-cpus", f.Load.CPUs); err != nil {
			return nil, err
		}
	}
	s := &Session{f: f}
	if f.InProcess() {
		f.Load.CPUs = f.Server.CPUs // one process
	}
	if len(f.Launch.Clients) == 0 {
		if err := fleet.Confine(f.Load.CPUs); err != nil {
			return nil, err
		}
	}
	if s.link, err = f.openLink(); err != nil {
		return nil, err
	}
	err = s.start(ctx, side)
	if err == nil {
		err = s.agree()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// agree reads the server's flags, and returns an error if a row would have other values than the server.
func (s *Session) agree() error {
	if s.hosts != nil { // each has compared the flags
		s.Flags, s.granted = s.hosts.hosts[0].ready.Flags, s.hosts.hosts[0].ready.granted
		return nil
	}
	c, err := s.counters(firstAnswerMax)
	if err != nil {
		return err
	}
	s.Flags = c.Flags
	s.granted.InlineBytes, s.granted.MTU, s.granted.Known = s.f.Program.Granted(s.client.control)
	if wait := s.Flags["wait"]; wait != s.f.Server.Wait {
		return exit.Usagef("the server's loops wait by %s and the client's by %s, so the run would not be comparable: give --wait %s here, or serve --wait %s", wait, s.f.Server.Wait, wait, s.f.Server.Wait)
	}
	if s.f.Redis || s.f.Load.ClientTransport != s.f.Server.Transport {
		return nil
	}
	get := factor.All.Get(&s.f.Values)
	for _, name := range factor.All.Names(func(x *factor.Factor) bool { return x.Has(factor.Alike) && x.When.Holds(get) }) {
		if here, there := get(name), s.Flags[name]; there != here {
			return exit.Usagef("the server has --%s=%s and the client %s, so the run would not be comparable: give both the same", name, there, here)
		}
	}
	return nil
}

// clientNetwork is the client's side: the server's transport, or the one that --client-transport names.
func (f *Settings) clientNetwork(of *server.Network) (*server.Network, error) {
	if f.Load.ClientTransport == "" || f.Load.ClientTransport == of.Name {
		f.Load.ClientTransport = of.Name
		return of, nil
	}
	n, err := f.Program.Network(f.Load.ClientTransport)
	if err != nil {
		return nil, err
	}
	sockets := map[string]bool{"tcp": true, "uring": true}
	if !sockets[n.Name] || !sockets[of.Name] {
		return nil, exit.Usagef("--client-transport %s cannot connect to --transport %s: only tcp and uring can be mixed", n.Name, of.Name)
	}
	return n, nil
}

func (s *Session) start(ctx context.Context, side *server.Network) (err error) {
	f := s.f
	if f.Target == "" && f.ServerAt == "" && !f.Launch.Used() && !f.Control { // variants start together, a server that runs already is not idle, and another machine is not seen
		if busy, err := bench.IdleBusy(ctx, IdleTime); err == nil {
			s.idle = report.F(busy)
		}
	}
	loop.SetGOMAXPROCS(max(f.Load.Threads, f.Server.Threads))
	if f.InProcess() {
		return s.startHere(ctx, side)
	}
	addr := f.Target
	if addr == "" {
		if s.child, err = startServer(ctx, f); err != nil {
			return err
		}
		if s.child.Control != nil && !f.OnDisk() {
			s.child.Control.Quiet = server.QuietSoon
		}
		addr = s.child.Greeting.Listening
	}
	if f.Launch.Used() {
		if addr, err = f.Launch.Reached(addr); err != nil {
			return err
		}
	}
	if len(f.Launch.Clients) > 0 {
		s.hosts, err = startLoadHosts(ctx, f, addr)
		return err
	}
	s.port = findRDMAPort(f, addr)
	s.client, err = connect(ctx, f, side, addr, nil)
	return err
}

// openHere starts a server and a client in this process, whose settings are checked. The caller closes the session.
func openHere(ctx context.Context, f *Settings) (*Session, error) {
	n, err := f.Program.Network(f.Server.Transport)
	if err != nil {
		return nil, err
	}
	s := &Session{f: f}
	if err := s.startHere(ctx, n); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Session) startHere(ctx context.Context, side *server.Network) (err error) {
	if s.served, err = s.f.Program.Serve(s.f); err != nil {
		return err
	}
	s.client, err = connect(ctx, s.f, side, s.served.Addr(), s.served.Group())
	return err
}

// Bounds of the time in which a server sends its counters: before a run, when it may have just started, and at the ends of a window.
const (
	firstAnswerMax = 15 * time.Second
	answerMax      = 5 * time.Second
)

// counters reads the server's counters. It blocks for at most wait, if the server is another process.
func (s *Session) counters(wait time.Duration) (server.Counters, error) {
	if s.served != nil {
		return s.served.Counters()
	}
	return s.client.counters(wait)
}

// NoteHang marks the server process as hung if the server did not answer during a run or a load, so that Close does not wait for its end.
// It compares texts, because a load host's error comes as text.
func (s *Session) NoteHang(m *Measured, err error) {
	silent := m != nil && (m.Result.Unanswered > 0 || m.err != nil) ||
		err != nil && (strings.Contains(err.Error(), bench.ErrStuck.Error()) || strings.Contains(err.Error(), errNoAnswer.Error()))
	if s.child != nil && silent {
		s.child.Hung = true
	}
}

// Close ends the client, then the server.
func (s *Session) Close() error {
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
	if s.link != nil {
		errs = append(errs, s.link.close())
	}
	return errors.Join(errs...)
}

// Explain puts the reason for which a launched server has ended in front of the error that the client had.
func (s *Session) Explain(err error) error { return s.child.Explain(err) }

// parker is the session's server, if its loops can be parked: one in this process, or one that was started with --control; nil: neither.
func (s *Session) parker() server.Parker {
	switch {
	case s.served != nil:
		return s.served
	case s.child != nil && s.child.Control != nil:
		return s.child.Control
	}
	return nil
}

// startServer runs kvwire serve with f's server flags, on a port of its own.
func startServer(ctx context.Context, f *Settings) (*fleet.Server, error) {
	o := fleet.ServerOptions{Control: f.Control, Temporary: f.OnDisk() && f.Store.Dir == "", At: f.ServerAt, Launchers: f.Launch, Version: f.Program.Version}
	o.Flags = []string{"--server-cpus=" + f.Server.CPUs.String()}
	get := factor.All.OfServer(&f.Values)
	for _, name := range factor.All.Names(func(x *factor.Factor) bool { return x.Has(factor.Server) && x.When.Holds(get) }) {
		if f.Given(name) && name != "server-cpus" {
			o.Flags = append(o.Flags, "--"+name+"="+get(name))
		}
	}
	if f.ServerAt == "" {
		n, err := f.Program.Network(f.Server.Transport)
		if err != nil {
			return nil, err
		}
		if f.Launch.Used() { // its clients are elsewhere
			o.Listen = f.Launch.Listen()
		} else if o.Listen, err = n.Address(&f.Values, 0); err != nil {
			return nil, err
		}
		if o.Credentials, err = f.Identity.NewServer(f.TCP.TLS == factor.On); err != nil {
			return nil, err
		}
	}
	return fleet.StartServer(ctx, &o)
}
