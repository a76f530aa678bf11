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
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/server"
)

// serving is kvwire serve in a process of its own.
type serving struct {
	t     *testing.T
	cmd   *exec.Cmd
	hello server.Greeting
	said  bytes.Buffer // read it after end
	ended bool
}

// startServer starts a server with these flags. It listens on a free port of loopback.
func startServer(t *testing.T, flags ...string) *serving {
	t.Helper()
	s := &serving{t: t, cmd: asKvwire(context.Background(), append([]string{"serve", "--json", "--listen", "127.0.0.1:0"}, flags...)...)}
	s.cmd.Stderr = &s.said
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.ended {
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
		}
	})
	if err := json.NewDecoder(out).Decode(&s.hello); err != nil {
		_ = s.cmd.Wait()
		s.ended = true
		t.Fatalf("no server.Greeting: %v; %s", err, &s.said)
	}
	return s
}

func (s *serving) signal() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
}

// end waits for the process and checks its exit code.
func (s *serving) end(code int) {
	s.t.Helper()
	watchdog := time.AfterFunc(patience, func() { _ = s.cmd.Process.Signal(syscall.SIGQUIT) }) // it prints its stacks
	defer watchdog.Stop()
	err := s.cmd.Wait()
	s.ended = true
	got := 0
	if status := new(exec.ExitError); errors.As(err, &status) {
		got = status.ExitCode()
	} else if err != nil {
		s.t.Fatal(err)
	}
	if got != code {
		s.t.Fatalf("exit code %d, want %d; it said %s", got, code, &s.said)
	}
}

func (s *serving) dial() net.Conn {
	s.t.Helper()
	c, err := net.DialTimeout("tcp", s.hello.Listening, patience)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func keyOf(conn, i int) string   { return fmt.Sprintf("key-%d-%d", conn, i) }
func valueOf(conn, i int) string { return fmt.Sprintf("value %d of %d", i, conn) }

// fillUntilTheEnd sends puts without waiting for their answers, until the server ends the connection, and returns how many it has acknowledged.
func fillUntilTheEnd(c net.Conn, conn int, acknowledged *atomic.Int64) (n int, last string) {
	go func() {
		w := bufio.NewWriterSize(c, 16<<10)
		for i := 0; ; i++ {
			k, v := keyOf(conn, i), valueOf(conn, i)
			if _, err := fmt.Fprintf(w, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(k), k, len(v), v); err != nil {
				return
			}
		}
	}()
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if line != "+OK\r\n" {
			_ = c.Close() // which ends the goroutine
			return n, fmt.Sprintf("%s%v", line, err)
		}
		n++
		acknowledged.Add(1)
	}
}

// SIGTERM in the middle of many requests: received requests are answered, then the client sees the close, the process ends with exit code 0, and every
// acknowledged put is in the store.
func TestTERMAnswersWhatWasReceived(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{
		"tcp": {"--transport", "tcp"}, "goroutine": {"--transport", "tcp", "--tcp-engine", "goroutine"}, "uring": {"--transport", "uring"},
		"dispatched": {"--transport", "tcp", "--placement", "dispatched", "--net-loops", "2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "uring" {
				testenv.Need(t, "uring", probe.Uring(probe.Local()).Err())
			}
			flags = append(flags, "--dir", t.TempDir())
			s := startServer(t, flags...)
			const conns, enough = 3, 5000
			var acknowledged atomic.Int64
			var of [conns]int
			var last [conns]string
			var wg sync.WaitGroup
			for i := range conns {
				c := s.dial()
				pong := make([]byte, len("+PONG\r\n")) // then the server knows what it speaks
				if _, err := io.WriteString(c, "PING\r\n"); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c, pong); err != nil {
					t.Fatalf("%q, %v", pong, err)
				}
				wg.Go(func() { of[i], last[i] = fillUntilTheEnd(c, i, &acknowledged) })
			}
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for deadline := time.Now().Add(patience); acknowledged.Load() < enough; <-tick.C {
				if time.Now().After(deadline) {
					t.Fatalf("%d puts were acknowledged", acknowledged.Load())
				}
			}
			s.signal()
			wg.Wait()
			s.end(0)
			for i, l := range last {
				if !strings.HasPrefix(l, "-ERR kvwire is shutting down\r\n") && !strings.Contains(l, "reset") { // by what we sent after it
					t.Errorf("connection %d ended with %q", i, l)
				}
			}
			if said := s.said.String(); !strings.Contains(said, "msg=stopped ") || !strings.Contains(said, " requests_unanswered=0\n") {
				t.Errorf("it said %s", said)
			}
			s = startServer(t, flags...)
			c := s.dial()
			r := bufio.NewReader(c)
			for conn, n := range of {
				go func() {
					w := bufio.NewWriter(c)
					for i := range n {
						_, _ = fmt.Fprintf(w, "GET %s\r\n", keyOf(conn, i))
					}
					_ = w.Flush() // an error shows in what is read
				}()
				for i := range n {
					want := valueOf(conn, i)
					want = fmt.Sprintf("$%d\r\n%s\r\n", len(want), want)
					got := make([]byte, len(want))
					if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
						t.Fatalf("put %d of %d was acknowledged, and reads %q (%v)", i, n, got, err)
					}
				}
			}
			t.Logf("%v puts were acknowledged", of)
			s.signal()
			s.end(0)
		})
	}
}

// A client that does not read its answers delays the shutdown until the deadline, and no longer. Then the exit code is 1, and a line has the number of
// unanswered requests.
func TestDrainDeadlineIsKept(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{
		"tcp": {"--transport", "tcp"}, "goroutine": {"--transport", "tcp", "--tcp-engine", "goroutine"}, "uring": {"--transport", "uring"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "uring" {
				testenv.Need(t, "uring", probe.Uring(probe.Local()).Err())
			}
			s := startServer(t, append(flags, "--backend", "mem", "--drain-deadline", "300ms", "--log-format", "json")...)
			c := s.dial()
			large := strings.Repeat("v", 1<<20)
			_, _ = fmt.Fprintf(c, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%s\r\n", len(large), large)
			ok := make([]byte, len("+OK\r\n"))
			if _, err := io.ReadFull(c, ok); err != nil || string(ok) != "+OK\r\n" {
				t.Fatalf("%q, %v", ok, err)
			}
			_, _ = io.WriteString(c, strings.Repeat("GET k\r\n", 64))
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // they are received
				t.Fatal(err)
			}
			s.signal()
			s.end(exit.Failed)
			lines := strings.Split(strings.TrimSpace(s.said.String()), "\n")
			if l := lines[len(lines)-1]; !strings.Contains(l, "requests were not answered within 300ms (--drain-deadline)") || strings.Contains(l, " 0 requests") {
				t.Errorf("the last line is %q", l)
			}
			for _, l := range lines[:len(lines)-1] {
				var r struct{ Time, Level, Msg string }
				if err := json.Unmarshal([]byte(l), &r); err != nil || r.Time == "" || r.Level == "" || r.Msg == "" {
					t.Errorf("the line %q of the log: %v", l, err)
				}
			}
		})
	}
}

// A client without requests under way, which does not notice the shutdown, does not delay it.
func TestIdleClientsDoNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--transport", "tcp", "--backend", "mem")
	c := s.dial()
	_, _ = io.WriteString(c, "PING\r\n")
	if _, err := io.ReadFull(c, make([]byte, len("+PONG\r\n"))); err != nil {
		t.Fatal(err)
	}
	s.signal()
	s.end(0)
}
