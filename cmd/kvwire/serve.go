package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

const serveHelp = `Examples:
  kvwire serve --transport uring --listen 127.0.0.1:7070 --dir /data/kv
  kvwire serve --listen 10.0.0.1:7070 --auth-file users     (lines such as: ann rw SECRET; bob ro SECRET)
  kvwire serve --listen 10.0.0.1:7070 --auth-file users --tls-cert server.pem --tls-key server.key     (TLS only: bench --target 10.0.0.1:7070 --tls-ca ca.pem)
  kvwire serve --transport rdma --rdma-verb write --auth-file users     (on the first RDMA device's address)
  kvwire serve --backend null --wait spin --server-cpus 1

Serves a store until ^C, in good order: what is in flight completes first.`

// greeting is what serve prints when connections can be made, with --json as one line.
type greeting struct {
	Listening string `json:"listening"`
	Transport string `json:"transport"`
	Backend   string `json:"backend"`
	DirectIO  bool   `json:"direct_io"`
	Dir       string `json:"dir,omitempty"`
	Pid       int    `json:"pid"`
}

func serveCommand(ctx context.Context, args []string) error {
	f := newFactors("serve", serveHelp)
	f.serverFlags()
	f.set.StringVar(&f.listen, "listen", "127.0.0.1:7070", "host:port; port 0 picks one; default with rdma: port 7070 of the first device's address")
	f.valueBytes, f.keyBytes, f.depth, f.scanItems = 1<<10, 16, 256, 100
	f.set.Var(&f.valueBytes, "value-bytes", "size of the values that the null backend answers with; values of up to 1 MiB, or this, are taken")
	f.set.IntVar(&f.scanItems, "scan-items", 100, "scans of that many such values fit an answer")
	f.guardFlags()
	f.set.BoolVar(&f.keepStdin, "exit-with-stdin", false, "end when standard input closes: for programs that start a server")
	f.set.BoolVar(&f.json, "json", false, "say where it listens as one line of JSON")
	if err := f.parse(args, nil); err != nil {
		return err
	}
	if f.inProcess() {
		return usagef("--transport %s has no server: it is for bench and load", f.transport)
	}
	if err := f.readCertificate(); err != nil {
		return err
	}
	if _, err := f.plan(); err != nil {
		return err
	}
	if !f.sets("listen") {
		n, err := find(f.transport)
		if err != nil {
			return err
		}
		if f.listen, err = n.listenOn(7070); err != nil {
			return err
		}
	}
	if err := f.readGuard(f.listen); err != nil {
		return err
	}
	if err := confine(f.serverCPUs.or(defaultCPUs().server)); err != nil {
		return err
	}
	s, err := startServer(f)
	if err != nil {
		return err
	}
	c, err := s.counters()
	if err == nil {
		err = greet(f, s, c)
	}
	if err == nil {
		err = s.wait(ctx, f.keepStdin)
	}
	if cerr := s.close(); err == nil {
		err = cerr
	}
	return err
}

func greet(f *factors, s *served, c counters) error {
	g := greeting{Listening: s.server.Addr(), Transport: f.transport, Backend: f.backend, DirectIO: c.directIO(), Dir: f.dir, Pid: os.Getpid()}
	if f.json {
		return json.NewEncoder(os.Stdout).Encode(g)
	}
	where := ""
	if f.onDisk() {
		where = " in " + f.dir
		if !c.directIO() {
			where += " (no O_DIRECT there: the page cache is in the way of every figure)"
		}
	}
	_, err := fmt.Printf("kvwire serves %s on %s, %d loops, backend %s%s\n", g.Transport, g.Listening, len(s.group.All()), g.Backend, where)
	return err
}

// wait ends with ctx, with a loop that failed, or with standard input.
func (s *served) wait(ctx context.Context, stdin bool) error {
	ended := make(chan struct{})
	if stdin {
		go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(ended) }()
	}
	failed := make(chan error, len(s.group.All()))
	for _, l := range s.group.All() {
		go func() { <-l.Done(); failed <- l.Stop() }()
	}
	select {
	case <-ctx.Done():
	case <-ended:
	case err := <-failed:
		return fmt.Errorf("a loop ended: %w", err)
	}
	return nil
}

// patience bounds waits for a server's start and end.
const patience = 60 * time.Second
