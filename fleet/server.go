package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/transport/access"
)

// ServerOptions describe a server to start.
type ServerOptions struct {
	Flags       []string // of kvwire serve
	Control     bool     // its loops can be parked
	Listen      string   // where one on this host listens
	Temporary   bool     // its store is in a temporary folder of its host
	At          string   // the kvwire host that starts it; "": none
	Launchers   Launchers
	Version     string             // of kvwire
	Credentials access.Credentials // unless a kvwire host starts it
}

// Server is a kvwire serve in a process of its own.
type Server struct {
	*Process
	Greeting  server.Greeting
	Control   *server.Control // nil: it was started without
	temporary bool            // its store is in a temporary folder on this host
}

// StartServer starts a server on this host, behind a launcher, or by a kvwire host, and waits for its greeting.
func StartServer(ctx context.Context, o *ServerOptions) (s *Server, err error) {
	s = &Server{temporary: o.Temporary && o.At == "" && o.Launchers.Server == ""}
	flags := o.Flags
	if o.Control {
		flags = append(slices.Clone(flags), "--control")
	}
	args := func(listen string) []string {
		return append([]string{"serve", "--json", "--exit-with-stdin", "--log-level=warn", "--listen=" + listen}, flags...)
	}
	switch {
	case o.At != "":
		s.Process, err = requestServer(ctx, o.At, flags)
	case o.Launchers.Server != "":
		s.Process, err = o.Launchers.Launch(ctx, "the server", o.Launchers.Server, o.Version, Role{args(o.Launchers.Listen()), o.Credentials})
	default:
		s.Process, err = startHere(args(o.Listen), o.Credentials)
	}
	if err != nil {
		return nil, err
	}
	if err := s.greet(ctx); err != nil {
		if o.At != "" {
			err = fmt.Errorf("%w, where kvwire host runs, %s", err, o.At)
		}
		return nil, err
	}
	if o.Control {
		s.Control = &server.Control{Write: s.Write, Next: s.Next}
	} else {
		s.discard()
	}
	return s, nil
}

func startHere(args []string, c access.Credentials) (*Process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = c.Environ()
	return Start("the server", cmd, nil)
}

// StartOpen starts a server over tcp with backend mem that everybody on this machine may use, without a secret. It ends with this process. The server and its clients
// have CPUs of their own.
func StartOpen(ctx context.Context) (addr, clientCPUs string, stop func() error, err error) {
	exe, err := os.Executable()
	if err != nil {
		return "", "", nil, err
	}
	cpus := DefaultCPUs()
	p, err := Start("the server", exec.Command(exe, "serve", "--json", "--exit-with-stdin", "--log-level=warn", "--listen=127.0.0.1:0", "--transport=tcp", "--backend=mem",
		"--server-cpus="+cpus.Server.String()), io.Discard)
	if err != nil {
		return "", "", nil, err
	}
	var g server.Greeting
	line, err := p.Next(ctx, Patience)
	if err == nil {
		err = json.Unmarshal(line, &g)
	}
	if err != nil {
		return "", "", nil, errors.Join(err, p.Stop())
	}
	return g.Listening, cpus.Client.String(), p.Stop, nil
}

// greet reads a server's greeting. It stops a server that sends none.
func (s *Server) greet(ctx context.Context) error {
	line, err := s.Next(ctx, Patience)
	if err == nil {
		if err = json.Unmarshal(line, &s.Greeting); err == nil {
			quote.Strings(&s.Greeting)
			return nil
		}
		err = fmt.Errorf("%s: %.100q is not the greeting of a server", s.Name, line)
	}
	var status *exec.ExitError
	switch stopped := s.Process.Stop(); {
	case s.stderr != nil: // err has the reason
		return err
	case errors.As(stopped, &status):
		return exit.With(max(status.ExitCode(), exit.Failed), errors.New("the server did not start: the reason is above"))
	}
	return fmt.Errorf("the server did not start: %w", err)
}

// Stop ends the server in good order, or kills it after some time.
func (s *Server) Stop() error {
	err := s.End()
	if dir := s.Greeting.Dir; s.killed && s.temporary && strings.HasPrefix(filepath.Base(dir), server.TemporaryPrefix) {
		err = errors.Join(err, os.RemoveAll(dir)) // the server has not removed it
	}
	return err
}

// endWait bounds the time until a launcher notices that the process that it started elsewhere has ended.
const endWait = time.Second

// Explain puts the reason for which a launched server has ended in front of the error that its clients had. s may be nil.
func (s *Server) Explain(err error) error {
	if err == nil || s == nil || s.stderr == nil {
		return err
	}
	timeout := time.NewTimer(endWait)
	defer timeout.Stop()
	select {
	case <-s.ended:
		return fmt.Errorf("%w; %w", s.Died(), err)
	case <-timeout.C:
		return err
	}
}
