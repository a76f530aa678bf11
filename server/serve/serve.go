package serve

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/plural"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/store"
)

// DefaultPort is the port where a server listens by default.
const DefaultPort = 7070

// Options are how a server's process runs.
type Options struct {
	Version  string
	Input    io.Reader // of Control or UntilEOF: standard input
	Control  bool      // Input has commands: see server.Server.Obey
	Replies  io.Writer // to these commands
	UntilEOF bool      // the end of Input ends the server
	Output   io.Writer // of the greeting
	JSON     bool      // of the greeting
	Started  func()    // called when the server has started
}

// CheckServe returns the loops of a server with a network of its own, and an error for flags that contradict each other. It reads the certificate.
func (s *Settings) CheckServe() (p loop.Plan, err error) {
	if err := s.Bounds.Check(); err != nil {
		return p, err
	}
	if s.AcceptLoss && s.Store.Backend != store.Disk.String() {
		return p, exit.Usagef("--accept-loss needs --backend disk, not %s", s.Store.Backend)
	}
	if err := s.CheckAddress(s.Given, "listen", s.Listen, 0, s.Access.certificate != ""); err != nil {
		return p, exit.With(exit.Usage, err)
	}
	if s.Metrics != "" {
		if err := factor.CheckHostPort("metrics", s.Metrics, 0); err != nil {
			return p, exit.With(exit.Usage, err)
		}
	}
	if s.InProcess() {
		return p, exit.Usagef("--transport %s has no server: it is for bench and load", s.Server.Transport)
	}
	if err := s.readCertificate(); err != nil {
		return p, err
	}
	return s.Plan()
}

// Serve runs a server whose settings CheckServe has checked, until ctx ends, a loop fails, or the input ends it. Then it drains the server. If that takes too long
// it returns with parts of the server still running, and the process must end.
func (s *Settings) Serve(ctx context.Context, o Options) error {
	if !s.Given("listen") {
		n, err := FindNetwork(s.Server.Transport)
		if err == nil {
			s.Listen, err = n.Address(s.Values, DefaultPort)
		}
		if err != nil {
			return err
		}
	}
	if err := s.readAccess(s.Listen); err != nil {
		return err
	}
	v, err := s.Start()
	if err != nil {
		return err
	}
	o.Started()
	c, err := v.Counters()
	var m server.Metrics
	if err == nil {
		m, err = v.ServeMetrics(s.Metrics, server.Labels{Version: o.Version, Transport: s.Server.Transport, Backend: s.Store.Backend, Engine: s.engines(), Placement: s.Server.Placement})
	}
	defer m.Close() // after Drain, which it counts
	if err == nil {
		err = s.greet(v, c, m.Addr(), &o)
	}
	if err == nil {
		err = wait(ctx, v, &o)
	}
	unfinished, derr := v.Drain(s.DrainDeadline)
	if unfinished {
		exit.Abort()
	}
	return cmp.Or(err, derr)
}

// greet logs and prints that the server has started.
func (s *Settings) greet(v *server.Server, c server.Counters, metrics string, o *Options) error {
	options := s.options()
	s.log().Info("started", "address", v.Addr(), "version", o.Version, "transport", s.Server.Transport, "loops", len(v.Group().All()), "backend", s.Store.Backend, "dir", s.Store.Dir,
		"engine", s.engines(), "direct_io", c.DirectIO(), "guarded", s.Access.list != nil, "key_bytes_max", options.Limits.MaxKeyBytes, "value_bytes_max", options.Limits.MaxValueBytes,
		"depth_max", options.Depth, "metrics", metrics)
	g := server.Greeting{Listening: v.Addr(), Transport: s.Server.Transport, Backend: s.Store.Backend, DirectIO: c.DirectIO(), Dir: s.Store.Dir, Pid: os.Getpid(), Metrics: metrics}
	if o.JSON {
		return json.NewEncoder(o.Output).Encode(g)
	}
	where := ""
	if s.OnDisk() {
		where = " in " + s.Store.Dir
		if !c.DirectIO() {
			where += " (no O_DIRECT there: the page cache is in the way of every figure)"
		}
	}
	if metrics != "" {
		where += ", metrics on http://" + metrics + "/metrics"
	}
	_, err := fmt.Fprintf(o.Output, "kvwire serves %s on %s, %s, backend %s%s\n", g.Transport, g.Listening, plural.Of(len(v.Group().All()), "loop"), g.Backend, where)
	return err
}

// wait blocks until ctx ends, a loop fails, or the input ends the server.
func wait(ctx context.Context, s *server.Server, o *Options) error {
	ended := make(chan error, 1)
	switch {
	case o.Control:
		go func() { ended <- s.Obey(ctx, o.Input, o.Replies) }()
	case o.UntilEOF:
		go func() { _, _ = io.Copy(io.Discard, o.Input); ended <- nil }()
	}
	failed := make(chan error, len(s.Group().All()))
	for _, l := range s.Group().All() {
		go func() { <-l.Done(); failed <- l.Stop() }()
	}
	select {
	case <-ctx.Done():
	case err := <-ended:
		return err
	case err := <-failed:
		return fmt.Errorf("a loop ended: %w", err)
	}
	return nil
}
