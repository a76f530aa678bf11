package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/interrupt"
	"github.com/kvwire/kvwire/server/serve"
)

const hostHelp = `Usage: kvwire host [flags]

Examples:
  kvwire host --listen 10.78.0.1:7069 --insecure
  kvwire run experiments/quick --server-at 10.78.0.1:7069        (on the other machine)

Starts servers on this machine, at the request of a kvwire on another machine, until ^C. Several servers can run at the same time. A server ends with the connection over which
it was requested. All clients may request servers and use them. So it needs --insecure, except on loopback; use it only on networks without other users.
It is for machines without a launcher between them, such as the two guests of kvwire run --vm=two. Elsewhere use a launcher (docs/hosts.md): its servers accept only the run.`

// hostCommand starts one server for each connection from another machine, which ends with the connection.
func hostCommand(ctx context.Context, args []string) error {
	f := newFactors("host", hostHelp)
	var listen string
	var access serve.Access
	f.set.StringVar(&listen, "listen", "127.0.0.1:7069", "host:port; the servers listen on the same host")
	access.BindInsecure(f.set, "allow all clients that reach --listen, also from other machines")
	f.logging.Bind(f.set)
	f.set.BoolVar(&f.json, "json", false, "print the address as one line of JSON")
	if err := f.parse(args, nil); err != nil {
		return err
	}
	if err := f.logging.Check(); err != nil {
		return err
	}
	if err := factor.CheckHostPort("listen", listen, 0); err != nil {
		return exit.With(exit.Usage, err)
	}
	if err := access.CheckOpen(listen, "allow all clients (--insecure), or start servers by --server-launch, which allow only the run"); err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for requests of servers on %s: %w (is the port free, and the address one of this machine?)", listen, err)
	}
	interrupt.Orderly()
	f.log.Info("started", "address", l.Addr().String(), "version", version)
	if f.json {
		err = json.NewEncoder(stdout).Encode(struct {
			Listening string `json:"listening"`
		}{l.Addr().String()})
	} else {
		_, err = fmt.Fprintf(stdout, "kvwire accepts requests for servers on %s\n", l.Addr())
	}
	if err != nil {
		return errors.Join(err, l.Close())
	}
	h := fleet.Host{Log: f.log, Flags: append(f.logging.Args(), fmt.Sprintf("--insecure=%t", access.Insecure()))}
	return h.Serve(ctx, l)
}
