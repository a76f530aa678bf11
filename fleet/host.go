package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
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

// requestLineMax bounds a request for a server, in bytes; requestWait is how long a request may take; serversMax bounds the servers that live at the same time: more
// requests wait until one ends.
const (
	requestLineMax = 16 << 10
	requestWait    = 10 * time.Second
	serversMax     = 64
)

// Host starts servers for other hosts. A connection's first line is the flags of serve as a JSON list; from then on the connection is the server's standard input
// and output.
type Host struct {
	Flags []string // of every server
	Log   *slog.Logger
}

// Serve answers the connections of l until ctx ends, which closes l and ends the servers.
func (h *Host) Serve(ctx context.Context, l net.Listener) error {
	context.AfterFunc(ctx, func() {
		h.Log.Info("stopping")
		_ = l.Close()
	})
	var servers sync.WaitGroup
	defer servers.Wait()
	places := make(chan struct{}, serversMax)
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
			stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) }) // this ends the server's input
			h.Log.Info("server requested", "peer", conn.RemoteAddr().String())
			if err := h.run(conn); err != nil {
				h.Log.Error("server failed", "peer", conn.RemoteAddr().String(), "reason", err)
			}
			stop()
			_ = conn.Close()
		})
	}
}

// run runs a server for a connection, to its end.
func (h *Host) run(conn net.Conn) error {
	_ = conn.SetReadDeadline(time.Now().Add(requestWait))
	r := bufio.NewReaderSize(conn, requestLineMax)
	line, err := r.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read the request for a server: %w", err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	var flags []string
	if err := json.Unmarshal(line, &flags); err != nil {
		return fmt.Errorf("read the request for a server: %w", quote.Error(err))
	}
	for _, a := range flags {
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		if name == "dir" || name != "control" && !slices.Contains(factor.All.Of(factor.Server), name) { // other hosts must not choose folders of this host
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
	cmd := exec.Command(exe, slices.Concat([]string{"serve", "--json", "--exit-with-stdin", "--listen=" + net.JoinHostPort(host, "0")}, h.Flags, flags)...)
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
	go func() { // until the connection closes: as cmd.Stdin it would delay Wait after the server's end
		_, _ = io.Copy(in, r)
		_ = in.Close()
	}()
	if err := cmd.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return err
	}
	return nil
}

// requestServer makes the kvwire host at addr start a server.
func requestServer(ctx context.Context, addr string, flags []string) (*Process, error) {
	d := net.Dialer{Timeout: requestWait}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--server-at: %w (is kvwire host running there?)", err)
	}
	p := newProcess("the server")
	p.stdin, p.stdout, p.wait = writeEnd{conn}, conn, conn.Close
	p.signal = func() { _ = conn.Close() }
	line, err := json.Marshal(flags)
	if err == nil {
		_, err = conn.Write(append(line, '\n'))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("--server-at %s: %w", addr, err), conn.Close())
	}
	go p.read()
	return p, nil
}

// writeEnd is a connection whose Close ends what is written, and leaves what is read open.
type writeEnd struct{ net.Conn }

// Close implements io.Closer.
func (w writeEnd) Close() error {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return w.Conn.Close()
}
