package main

import (
	"context"
	"os"
	"time"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/interrupt"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server/serve"
)

const serveHelp = `Usage: kvwire serve [flags]

Examples:
  kvwire serve --transport uring --listen 127.0.0.1:7070 --dir /data/kv
  kvwire serve --listen unix:/run/user/1000/kvwire --dir /data/kv     (a unix socket, this user's alone: bench --target unix:/run/user/1000/kvwire)
  kvwire serve --listen 10.0.0.1:7070 --auth-file users     (lines such as: ann rw SECRET; bob ro SECRET)
  kvwire serve --listen 10.0.0.1:7070 --auth-file users --tls-cert server.pem --tls-key server.key     (TLS only: bench --target 10.0.0.1:7070 --tls-ca ca.pem)
  kvwire serve --transport rdma --rdma-verb write --auth-file users     (on the first RDMA device's address)
  kvwire serve --backend null --wait spin --server-cpus 1
  kvwire serve --dir /data/kv --listen 10.0.0.1:7070 --auth-file users --check     (checks all of this, and does not start)
  kvwire serve --dir /data/kv --drain-deadline 30s --log-format json --metrics 127.0.0.1:9400

Serves a store until ^C or SIGTERM. Then it answers the requests that it has received, closes connections, and closes the store. A second ^C ends it at once.
The exit code is 1 if requests were left without an answer at --drain-deadline.`

func serveCommand(ctx context.Context, args []string) error {
	f := newFactors("serve", serveHelp)
	s := serve.Settings{Values: &f.Values, Given: f.Given}
	s.BindFactors(f.set)
	f.set.StringVar(&s.Listen, "listen", "127.0.0.1:7070", "host:port, where port 0 picks one, or unix:PATH, a unix socket whose file is its owner's alone (tcp, uring); default with rdma: port 7070 of the first device's address")
	s.Access.Bind(f.set)
	s.Bounds.Bind(f.set)
	f.set.DurationVar(&s.DrainDeadline, "drain-deadline", 8*time.Second, "at the end, how long to wait for the answers to received requests, for clients that receive them slowly, and for the store to close")
	f.set.StringVar(&s.Metrics, "metrics", "", "host:port of the server's counters for Prometheus, by GET /metrics, without authentication; port 0 picks one; default: none")
	f.logging.Bind(f.set)
	o := serve.Options{Version: version, Output: stdout, Replies: os.Stdout, Started: interrupt.Orderly}
	f.set.BoolVar(&o.UntilEOF, "exit-with-stdin", false, "end when standard input closes: for programs that start a server")
	f.set.BoolVar(&o.Control, "control", false, "park and resume the loops by commands on standard input, and end when it closes: for programs that start a server")
	_ = f.set.MarkHidden("control")
	f.set.BoolVar(&o.JSON, "json", false, "print the address as one line of JSON")
	f.set.BoolVar(&s.AcceptLoss, "accept-loss", false, "open a store with lost pages, or with an older copy of one of its folders: keys may have an older value, be back although they were deleted, or be missing")
	check := false
	f.set.BoolVar(&check, "check", false, "check whether a server could start with these flags, this folder and these addresses; starts and changes nothing")
	if err := f.parse(args, nil); err != nil {
		return err
	}
	if err := f.logging.Check(); err != nil {
		return err
	}
	plan, err := s.CheckServe()
	if err != nil {
		return err
	}
	if err := fleet.Confine(f.Server.CPUs.Or(fleet.DefaultCPUs().Server)); err != nil {
		return err
	}
	s.Log = f.log
	if check {
		return s.Check(plan, stdout, o.JSON)
	}
	if o.Control || o.UntilEOF {
		o.Input = fleet.Stdin()
	}
	s.Progress = report.NewStoreProgress("opening")
	return s.Serve(ctx, o)
}
