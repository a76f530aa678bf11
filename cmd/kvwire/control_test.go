package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/transport/access"
)

// controlled is kvwire serve --control in a process of its own.
type controlled struct {
	serving
	stdin io.WriteCloser
	out   *bufio.Reader
}

func serveControlled(t *testing.T, flags ...string) *controlled {
	t.Helper()
	s := &controlled{serving: serving{t: t, cmd: asKvwire(context.Background(), append([]string{"serve", "--json", "--control", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"}, flags...)...)}}
	s.cmd.Stderr = &s.said
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		s.stdin, err = s.cmd.StdinPipe()
	}
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.ended {
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
		}
	})
	watchdog := time.AfterFunc(2*patience, func() { _ = s.cmd.Process.Signal(syscall.SIGQUIT) })
	t.Cleanup(func() { watchdog.Stop() })
	s.out = bufio.NewReader(out)
	if err := json.Unmarshal(s.line(), &s.hello); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *controlled) line() []byte {
	s.t.Helper()
	b, err := s.out.ReadBytes('\n')
	if err != nil {
		s.t.Fatalf("no line: %v; it said %s", err, &s.said)
	}
	return b
}

// ask sends a line and returns the answer.
func (s *controlled) ask(line string) (r server.Reply) {
	s.t.Helper()
	if _, err := io.WriteString(s.stdin, line+"\n"); err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(s.line(), &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// refused requires an error as the answer.
func (s *controlled) refused(line, why string) {
	s.t.Helper()
	if r := s.ask(line); r.Parked != nil || r.Resumed != nil || !strings.Contains(r.Error, why) {
		s.t.Fatalf("%q: %+v, want an error with %q", line, r, why)
	}
}

func (s *controlled) park() *server.Parked {
	s.t.Helper()
	r := s.ask("park")
	if r.Parked == nil {
		s.t.Fatalf("park: %s", r.Error)
	}
	return r.Parked
}

func (s *controlled) resume() int64 {
	s.t.Helper()
	r := s.ask("resume")
	if r.Resumed == nil {
		s.t.Fatalf("resume: %s", r.Error)
	}
	return r.Resumed.CPU
}

// redis sends a command and checks the answer.
func redis(t *testing.T, c net.Conn, command, want string) {
	t.Helper()
	if _, err := io.WriteString(c, command+"\r\n"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("%s: %q, %v, want %q", command, b, err, want)
	}
}

func TestAServerIsParkedAndResumed(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"--wait", "spin", "--backend", "mem"}, {"--wait", "block", "--dir", t.TempDir(), "--cache-bytes", "1M", "--disk-engine", "pool"},
		{"--backend", "mem", "--placement", "dispatched", "--wait", "hybrid"}} {
		t.Run(strings.Join(flags[:2], "_"), func(t *testing.T) {
			t.Parallel()
			s := serveControlled(t, flags...)
			s.refused("resume", "not parked")
			s.refused("", "neither park nor resume")
			s.refused("PARK", "neither park nor resume")
			c := s.dial()
			for i := range 3 {
				redis(t, c, fmt.Sprintf("SET key%d value", i), "+OK\r\n")
				p := s.park()
				if p.Conns != 1 || p.CPU <= 0 || p.Loops.Turns == 0 || p.Stores[0].Items == 0 && len(p.Stores) == 1 || p.Flags["backend"] == "" {
					t.Fatalf("parked: %+v", p)
				}
				s.refused("park", "parked already")
				families, _ := s.scrape() // the metrics port answers
				if n := sum(families, "loop_turns_total"); n != float64(p.Loops.Turns) {
					t.Errorf("%v turns on the metrics port, %d when it was parked", n, p.Loops.Turns)
				}
				if _, err := io.WriteString(c, "GET key0\r\n"); err != nil {
					t.Fatal(err)
				}
				_ = c.SetReadDeadline(time.Now().Add(60 * time.Millisecond))
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("a parked server answered: %v", err)
				}
				_ = c.SetReadDeadline(time.Now().Add(patience))
				untilThreadsAre(t, s.cmd.Process.Pid, asleep)
				if used := s.resume() - p.CPU; used < 0 { // a scrape is in it
					t.Errorf("%d ns of CPU time while parked", used)
				}
				b := make([]byte, len("$5\r\nvalue\r\n"))
				if _, err := io.ReadFull(c, b); err != nil || string(b) != "$5\r\nvalue\r\n" {
					t.Fatalf("after resume: %q, %v", b, err)
				}
			}
			s.park()
			_ = s.stdin.Close() // ends a parked server, too
			s.end(0)
		})
	}
}

func TestAParkedServerEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(s *controlled)
		code int
	}{
		"by SIGTERM":               {func(s *controlled) { s.signal() }, 0},
		"by a line that is no end": {func(s *controlled) { s.refused(strings.Repeat("x", 1<<10), "more than") }, exit.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			s := serveControlled(t, "--backend", "mem", "--wait", "spin")
			s.park()
			c.end(s)
			s.end(c.code)
		})
	}
}

// TestChildrenAreParked starts servers as bench does, in each way, and parks them.
func TestChildrenAreParked(t *testing.T) {
	t.Setenv(asProgram, "1") // what is started is this test's binary
	host := exec.Command(os.Args[0], "host", "--json", "--listen", "127.0.0.1:0")
	out, err := host.StdoutPipe()
	if err == nil {
		err = host.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = host.Process.Kill(); _ = host.Wait() }()
	var at struct{ Listening string }
	if err := json.NewDecoder(out).Decode(&at); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]fleet.ServerOptions{
		"here":           {Listen: "127.0.0.1:0"},
		"launched":       {Launchers: fleet.Launchers{Server: "env", Addr: "127.0.0.1"}, Version: version},
		"by kvwire host": {At: at.Listening},
	} {
		start := func(t *testing.T, control bool) *fleet.Server {
			t.Helper()
			o.Control = control
			cpus := fleet.DefaultCPUs().Server
			o.Flags = []string{"--server-cpus=" + cpus.String(), "--backend=null", "--wait=spin"}
			if o.At == "" {
				var err error
				if o.Credentials, err = new(access.Identity).NewServer(false); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c, err := fleet.StartServer(ctx, &o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Stop() })
			return c
		}
		ctx := context.Background()
		t.Run(name, func(t *testing.T) {
			c := start(t, true)
			for range 3 {
				p, err := c.Control.Park(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Control.Park(ctx); err == nil || !strings.Contains(err.Error(), "parked already") {
					t.Fatalf("parking twice: %v", err)
				}
				untilThreadsAre(t, c.Greeting.Pid, asleep)
				cpu, err := c.Control.Resume(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if cpu < p.CPU || p.CPU == 0 {
					t.Fatalf("%d ns of CPU time until parked, %d when it was resumed", p.CPU, cpu)
				}
			}
			if _, err := c.Control.Park(ctx); err != nil {
				t.Fatal(err)
			}
			if err := c.Stop(); err != nil { // while it is parked
				t.Fatal(err)
			}
			if _, err := c.Control.Resume(ctx); err == nil {
				t.Fatal("a server that has ended was resumed")
			}
		})
		t.Run(name+"/dies", func(t *testing.T) {
			c := start(t, true)
			if _, err := c.Control.Park(ctx); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(c.Greeting.Pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Control.Resume(ctx); err == nil {
				t.Fatal("a server that was killed was resumed")
			}
			if _, err := c.Control.Park(ctx); err == nil {
				t.Fatal("a server that was killed was parked")
			}
		})
		t.Run(name+"/hangs", func(t *testing.T) {
			c := start(t, true)
			stopAll(t, c.Greeting.Pid)
			defer syscall.Kill(c.Greeting.Pid, syscall.SIGKILL)
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			if _, err := c.Control.Park(short); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("parking a server that hangs: %v", err)
			}
			if _, err := c.Control.Resume(ctx); err == nil { // its answer would be taken for the first one's
				t.Fatal("a server that hung was resumed")
			}
		})
		t.Run(name+"/without", func(t *testing.T) {
			if c := start(t, false); c.Control != nil {
				t.Fatal("control of a server that was started without")
			}
		})
	}
}

// stopAll stops a process by SIGSTOP, and waits until each of its threads has stopped: running threads receive the signal a moment later.
func stopAll(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	untilThreadsAre(t, pid, stopped)
}

// States of threads, as /proc has them. One that spins is never asleep, also while it waits for a CPU.
const (
	asleep  = 'S'
	stopped = 'T'
)

// untilThreadsAre waits until all threads of a process are in that state at the same time.
func untilThreadsAre(t *testing.T, pid int, state byte) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		others := 0
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, name := range tasks {
			b, _ := os.ReadFile(name)
			if i := bytes.LastIndexByte(b, ')'); i < 0 || len(b) < i+3 || b[i+2] != state {
				others++
			}
		}
		if err == nil && len(tasks) > 0 && others == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d threads of process %d are not in state %c (%v)", others, len(tasks), pid, state, err)
		}
	}
}

type completed chan *kv.Request

// Complete implements kv.Completer.
func (c completed) Complete(r *kv.Request) { c <- r }

// TestAServerInThisProcessIsParked is for inproc, where client and server share their loops.
func TestAServerInThisProcessIsParked(t *testing.T) {
	f, _ := launchedFactors(t, "--transport=inproc", "--backend=mem", "--server-threads=2", "--wait=spin")
	f.Server.CPUs.Or(fleet.DefaultCPUs().Server)
	s, err := f.Program.Serve(f.Settings)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	back := make(completed, 1)
	for i := range 3 {
		r := &kv.Request{Op: kv.OpPut, Key: fmt.Append(nil, "key", i), Value: []byte("v"), Owner: back}
		s.Group().Net()[0].Do(func() { s.Group().Router(0).Submit(r) })
		<-back
		p, err := s.Park(ctx)
		if err != nil {
			t.Fatal(err)
		}
		items := uint64(0)
		for _, st := range p.Stores {
			items += st.Items
		}
		if items != uint64(i+1) || p.Loops.Turns == 0 {
			t.Fatalf("%d items, %d turns", items, p.Loops.Turns)
		}
		if c, err := s.Counters(); err != nil || c.Loops != p.Loops {
			t.Fatalf("counters of a parked server: %+v, %v", c.Loops, err)
		}
		if _, err := s.Park(ctx); err == nil {
			t.Fatal("parked twice")
		}
		if cpu, err := s.Resume(ctx); err != nil || cpu < p.CPU {
			t.Fatalf("%d ns, %v", cpu, err)
		}
		if _, err := s.Resume(ctx); err == nil {
			t.Fatal("resumed twice")
		}
	}
}
