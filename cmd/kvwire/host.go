package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/quote"
)

const hostHelp = `Examples:
  kvwire host --listen 10.78.0.1:7069 --insecure
  kvwire run experiments/quick --server-at 10.78.0.1:7069        (on the other machine)

Starts servers on this machine for a kvwire on another one, each as it asks, until ^C: the variants of a question
live at the same time. A server ends with the connection that asked for it. Anybody may ask, and use the servers: off loopback it needs --insecure, and is for networks that nobody else is on.
It is for machines without a launcher between them, such as the two guests of kvwire run --vm=two. Elsewhere use a launcher (docs/hosts.md): its servers accept only the run.`

// hireLineMax bounds what a client asks for, in bytes; hireWait how long it may take to ask; hiredMax the servers that live at the same time:
// who asks for one more waits until one ends.
const (
	hireLineMax = 16 << 10
	hireWait    = 10 * time.Second
	hiredMax    = 64
)

// hostCommand is inetd for servers: a connection's first line is the flags of serve as a JSON list, and from then on it is
// the server's standard input and output.
func hostCommand(ctx context.Context, args []string) error {
	f := newFactors("host", hostHelp)
	f.set.StringVar(&f.listen, "listen", "127.0.0.1:7069", "host:port; the servers listen on the same host")
	f.insecureFlag("let anybody connect who reaches --listen, from other machines, too")
	f.logFlags()
	f.set.BoolVar(&f.json, "json", false, "say where it listens as one line of JSON")
	if err := f.parse(args, nil); err != nil {
		return err
	}
	if err := f.checkLogging(); err != nil {
		return err
	}
	if err := checkAddress("listen", f.listen, 0); err != nil {
		return err
	}
	if err := f.checkOpen(f.listen, "let in anybody, with --insecure, or start servers by --server-launch, which lets in nobody else"); err != nil {
		return err
	}
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fmt.Errorf("listen for those who want servers: %w", err)
	}
	saysStop.Store(true)
	log := f.logger()
	context.AfterFunc(ctx, func() {
		log.Info("stopping")
		_ = l.Close()
	})
	log.Info("started", "address", l.Addr().String(), "version", version)
	if f.json {
		err = json.NewEncoder(stdout).Encode(struct {
			Listening string `json:"listening"`
		}{l.Addr().String()})
	} else {
		_, err = fmt.Fprintf(stdout, "kvwire starts servers for who asks on %s\n", l.Addr())
	}
	if err != nil {
		return errors.Join(err, l.Close())
	}
	var servers sync.WaitGroup
	defer servers.Wait()
	places := make(chan struct{}, hiredMax)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		servers.Go(func() {
			defer func() { <-places }()
			stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) }) // the server's input ends
			log.Info("asked for a server", "peer", conn.RemoteAddr().String())
			if err := hired(conn, f); err != nil {
				log.Error("server failed", "peer", conn.RemoteAddr().String(), "reason", err)
			}
			stop()
			_ = conn.Close()
		})
	}
}

// hired runs a server for a connection, to its end.
func hired(conn net.Conn, f *factors) error {
	_ = conn.SetReadDeadline(time.Now().Add(hireWait))
	r := bufio.NewReaderSize(conn, hireLineMax)
	line, err := r.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("it asks for nothing: %w", err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	var flags []string
	if err := json.Unmarshal(line, &flags); err != nil {
		return fmt.Errorf("read the request for a server: %w", quote.Error(err))
	}
	for _, a := range flags {
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		if name == "dir" || name != "control" && !slices.Contains(factor.All.Of(factor.Server), name) { // no folder of this machine is another's affair
			return fmt.Errorf("the request has the argument %.100q, which is not allowed", a)
		}
	}
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, slices.Concat([]string{"serve", "--json", "--exit-with-stdin", "--listen=" + net.JoinHostPort(host, "0"), fmt.Sprintf("--insecure=%t", f.guard.insecure),
		"--log-format=" + f.logging.format, "--log-level=" + f.set.Lookup("log-level").Value.String()}, flags)...)
	cmd.Stdout, cmd.Stderr = conn, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for this process, which then ends the server in order
	cmd.WaitDelay = time.Second                           // it may end before its input does
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { // until the connection closes: as cmd.Stdin, it would hold up Wait behind a server that has died
		_, _ = io.Copy(in, r)
		_ = in.Close()
	}()
	if err := cmd.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return err
	}
	return nil
}

// hire has a server started by the kvwire host at --server-at.
func hire(ctx context.Context, f *factors, flags []string) (*child, error) {
	d := net.Dialer{Timeout: hireWait}
	conn, err := d.DialContext(ctx, "tcp", f.serverAt)
	if err != nil {
		return nil, fmt.Errorf("--server-at: %w (is kvwire host running there?)", err)
	}
	line, err := json.Marshal(flags)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return nil, errors.Join(fmt.Errorf("--server-at %s: %w", f.serverAt, err), conn.Close())
	}
	c := &child{stdin: hireEnd{conn}, done: make(chan error, 1), kill: func() { _ = conn.Close() }}
	if err := c.greeted(ctx, f.control, conn, conn.Close); err != nil {
		return nil, fmt.Errorf("%w, where kvwire host runs, %s", err, f.serverAt)
	}
	return c, nil
}

// hireEnd ends the server's input, and leaves its output.
type hireEnd struct{ net.Conn }

func (h hireEnd) Close() error {
	if c, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return h.Conn.Close()
}

var _ io.Closer = hireEnd{}
