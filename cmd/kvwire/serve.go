package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/store"
)

const serveHelp = `Examples:
  kvwire serve --transport uring --listen 127.0.0.1:7070 --dir /data/kv
  kvwire serve --listen unix:/run/user/1000/kvwire --dir /data/kv     (a unix socket, this user's alone: bench --target unix:/run/user/1000/kvwire)
  kvwire serve --listen 10.0.0.1:7070 --auth-file users     (lines such as: ann rw SECRET; bob ro SECRET)
  kvwire serve --listen 10.0.0.1:7070 --auth-file users --tls-cert server.pem --tls-key server.key     (TLS only: bench --target 10.0.0.1:7070 --tls-ca ca.pem)
  kvwire serve --transport rdma --rdma-verb write --auth-file users     (on the first RDMA device's address)
  kvwire serve --backend null --wait spin --server-cpus 1
  kvwire serve --dir /data/kv --listen 10.0.0.1:7070 --auth-file users --check     (could it?)
  kvwire serve --dir /data/kv --drain-deadline 30s --log-format json --metrics 127.0.0.1:9400

Serves a store until ^C or SIGTERM. Then requests that were received are answered, connections close, and the store; a second ^C ends it at once.
With an exit code other than 0 when requests were left without an answer at --drain-deadline.`

func serveCommand(ctx context.Context, args []string) error {
	f := newFactors("serve", serveHelp)
	f.serverFlags()
	f.set.StringVar(&f.listen, "listen", "127.0.0.1:7070", "host:port, where port 0 picks one, or unix:PATH, a unix socket whose file is its owner's alone (tcp, uring); default with rdma: port 7070 of the first device's address")
	f.guardFlags()
	f.boundFlags()
	f.set.DurationVar(&f.drainDeadline, "drain-deadline", 8*time.Second, "at the end, how long to wait for requests that were received, clients that do not take their answers, and the store")
	f.set.StringVar(&f.metrics, "metrics", "", "host:port where GET /metrics tells Prometheus what the server counts, to anybody; port 0 picks one; default: nowhere")
	f.logging.Bind(f.set)
	f.set.BoolVar(&f.keepStdin, "exit-with-stdin", false, "end when standard input closes: for programs that start a server")
	f.set.BoolVar(&f.Control, "control", false, "park and resume the loops, as lines of standard input ask, and end when it closes: for programs that start a server")
	_ = f.set.MarkHidden("control")
	f.set.BoolVar(&f.json, "json", false, "say where it listens as one line of JSON")
	f.set.BoolVar(&f.acceptLoss, "accept-loss", false, "open a store that has lost pages, with what is left: keys may have an older value, be back although they were deleted, or be gone")
	check := false
	f.set.BoolVar(&check, "check", false, "serve nothing: say whether it could be done with these flags, this folder and these addresses, and leave all as it is")
	if err := f.parse(args, nil); err != nil {
		return err
	}
	if err := f.logging.Check(); err != nil {
		return err
	}
	if err := f.checkBounds(); err != nil {
		return err
	}
	if f.acceptLoss && f.Store.Backend != store.Disk.String() {
		return usagef("--accept-loss needs --backend disk, not %s", f.Store.Backend)
	}
	if err := f.checkReach("listen", f.listen, 0); err != nil {
		return err
	}
	if f.metrics != "" {
		if err := checkAddress("metrics", f.metrics, 0); err != nil {
			return err
		}
	}
	if f.InProcess() {
		return usagef("--transport %s has no server: it is for bench and load", f.Server.Transport)
	}
	if err := f.readCertificate(); err != nil {
		return err
	}
	n, err := find(f.Server.Transport)
	if err != nil {
		return err
	}
	plan, err := f.plan()
	if err != nil {
		return err
	}
	if err := fleet.Confine(f.Server.CPUs.Or(fleet.DefaultCPUs().Server)); err != nil {
		return err
	}
	if check {
		return f.check(n, plan)
	}
	if !f.sets("listen") {
		if f.listen, err = n.listenOn(7070); err != nil {
			return err
		}
	}
	if err := f.readGuard(f.listen); err != nil {
		return err
	}
	s, err := startServer(f)
	if err != nil {
		return err
	}
	saysStop.Store(true)
	c, err := s.Counters()
	var m server.Metrics
	if err == nil {
		m, err = s.ServeMetrics(f.metrics, server.Labels{Version: version, Transport: f.Server.Transport, Backend: f.Store.Backend, Engine: f.engines(), Placement: f.Server.Placement})
	}
	defer m.Close() // it tells of the end, too
	if err == nil {
		err = greet(f, s, c, m.Addr())
	}
	if err == nil {
		err = f.serve(ctx, s)
	}
	unfinished, derr := s.Drain(f.drainDeadline)
	if unfinished {
		exit.Abort() // the process ends without what is not over
	}
	return cmp.Or(err, derr)
}

func greet(f *factors, s *server.Server, c server.Counters, metrics string) error {
	o := f.serverOptions()
	f.log.Info("started", "address", s.Addr(), "version", version, "transport", f.Server.Transport, "loops", len(s.Group().All()), "backend", f.Store.Backend, "dir", f.Store.Dir,
		"engine", f.engines(), "direct_io", c.DirectIO(), "guarded", f.guard.list != nil, "key_bytes_max", o.Limits.MaxKeyBytes, "value_bytes_max", o.Limits.MaxValueBytes, "depth_max", o.Depth, "metrics", metrics)
	g := fleet.Greeting{Listening: s.Addr(), Transport: f.Server.Transport, Backend: f.Store.Backend, DirectIO: c.DirectIO(), Dir: f.Store.Dir, Pid: os.Getpid(), Metrics: metrics}
	if f.json {
		return json.NewEncoder(stdout).Encode(g)
	}
	where := ""
	if f.OnDisk() {
		where = " in " + f.Store.Dir
		if !c.DirectIO() {
			where += " (no O_DIRECT there: the page cache is in the way of every figure)"
		}
	}
	if metrics != "" {
		where += ", metrics on http://" + metrics + "/metrics"
	}
	_, err := fmt.Fprintf(stdout, "kvwire serves %s on %s, %d loops, backend %s%s\n", g.Transport, g.Listening, len(s.Group().All()), g.Backend, where)
	return err
}

// serve waits for the end: of ctx, of a loop that failed, or of standard input.
func (f *factors) serve(ctx context.Context, s *server.Server) error {
	ended := make(chan error, 1)
	switch {
	case f.Control:
		go func() { ended <- s.Obey(ctx, fleet.Stdin(), os.Stdout) }()
	case f.keepStdin:
		go func() { _, _ = io.Copy(io.Discard, fleet.Stdin()); ended <- nil }()
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
