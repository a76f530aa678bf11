package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/report"
)

// running is a kvwire in a process of its own.
type running struct {
	t         *testing.T
	cmd       *exec.Cmd
	out, said bytes.Buffer // read them after end
}

func begin(t *testing.T, args ...string) *running {
	t.Helper()
	return beginWith(t, nil, args...)
}

// beginWith is begin, with more variables in the environment.
func beginWith(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: asKvwire(context.Background(), args...)}
	r.cmd.Env = append(r.cmd.Env, env...)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.said
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// busy waits until a process has used that much more CPU time, in hundredths of a second.
func (r *running) busy(pid, ticks int) {
	r.t.Helper()
	ticks += cpuTicks(pid)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); cpuTicks(pid) < ticks; <-tick.C {
		if time.Now().After(deadline) {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
			r.t.Fatalf("process %d does nothing: %s", pid, &r.said)
		}
	}
}

// end waits for the process and checks that its exit code is 1. It waits less long than a server's shutdown may take.
func (r *running) end() {
	r.t.Helper()
	r.endsWith(exit.Failed)
}

func (r *running) endsWith(want int) {
	r.t.Helper()
	watchdog := time.AfterFunc(patience, func() { _ = r.cmd.Process.Signal(syscall.SIGQUIT) }) // it prints its stacks
	defer watchdog.Stop()
	_ = r.cmd.Wait()
	if code := r.cmd.ProcessState.ExitCode(); code != want {
		r.t.Fatalf("exit code %d, want %d; it said %s", code, want, &r.said)
	}
	if !strings.Contains(r.said.String(), "the server does not answer") {
		r.t.Errorf("it said %q", &r.said)
	}
}

// lost checks the row of a run whose server has stopped.
func (r *running) lost(reasons ...string) {
	r.t.Helper()
	var row report.Row
	if err := json.Unmarshal(r.out.Bytes(), &row); err != nil {
		r.t.Fatalf("%v: %q", err, &r.out)
	}
	n, _ := row.Unanswered.Get()
	valid, known := row.Valid.Get()
	most, _ := row.LatMaxNs.Get()
	if n == 0 || valid || !known || time.Duration(most) < 4*time.Second { // the drain alone takes 5 s
		r.t.Errorf("%d requests without an answer, valid %v, at most %v", n, valid, time.Duration(most))
	}
	for _, reason := range append(reasons, strconv.FormatUint(n, 10)+" requests had no answer") {
		if !strings.Contains(row.InvalidReason, reason) {
			r.t.Errorf("invalid: %q, which does not have %q", row.InvalidReason, reason)
		}
	}
}

// idleTicks is more CPU time than a started server without load uses. It is small, so that a server under load passes it long before the end of the window, even on a busy machine.
const idleTicks = 5

// A server that stops in the middle of a run or a load ends it soon, and the row shows it.
func TestAServerThatStopsEndsTheRun(t *testing.T) {
	t.Parallel()
	stop := func(t *testing.T, pid int) {
		t.Helper()
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(patience); ; <-tick.C {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if _, rest, _ := strings.Cut(string(b), ") "); strings.HasPrefix(rest, "T") {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("process %d does not stop: %s", pid, b)
			}
		}
	}
	needsRing := func(t *testing.T, name string) {
		if name == "uring" {
			testenv.Need(t, "uring", probe.Uring(probe.Local()).Err())
		}
	}
	args := func(s *serving, window string, more ...string) []string {
		return append([]string{"bench", "--json", "--target", s.hello.Listening, "--warmup", "0s", window, "--conns", "2", "--depth", "2"}, more...)
	}
	const endless = "--operations=1000000000"
	for _, name := range []string{"tcp", "uring", "udp"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			needsRing(t, name)
			s := startServer(t, "--transport", name, "--backend", "null")
			r := begin(t, args(s, endless, "--transport", name)...)
			r.busy(s.cmd.Process.Pid, idleTicks)
			stop(t, s.cmd.Process.Pid)
			r.end()
			r.lost()
		})
	}
	t.Run("open", func(t *testing.T) {
		t.Parallel()
		s := startServer(t, "--transport", "tcp", "--tcp-engine", "goroutine", "--backend", "null")
		r := begin(t, args(s, "--duration=20s", "--transport", "tcp", "--tcp-client-engine", "goroutine", "--loop", "open", "--target-per-s", "5000")...)
		r.busy(s.cmd.Process.Pid, idleTicks)
		stop(t, s.cmd.Process.Pid)
		r.end()
		r.lost("arrivals were never sent")
	})
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		s := startServer(t, "--transport", "tcp", "--backend", "null")
		r := begin(t, args(s, endless, "--transport", "tcp")...)
		r.busy(s.cmd.Process.Pid, idleTicks)
		for stop(t, s.cmd.Process.Pid); !s.hasUnread(); stop(t, s.cmd.Process.Pid) { // it may have read all that was sent, or answered it
			if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}
		_ = r.cmd.Process.Signal(syscall.SIGINT)
		r.endsWith(exit.Interrupted)
		r.lost("interrupted")
	})
	t.Run("load", func(t *testing.T) {
		t.Parallel()
		s := startServer(t, "--transport", "tcp", "--dir", filepath.Join(t.TempDir(), "store"), "--disk-engine", "pool")
		r := begin(t, "load", "--target", s.hello.Listening, "--transport", "tcp", "--records", "100M", "--value-bytes", "10")
		r.busy(s.cmd.Process.Pid, idleTicks)
		stop(t, s.cmd.Process.Pid)
		r.end()
	})
	t.Run("its own server", func(t *testing.T) { // which is killed then, and its temporary folder is removed
		t.Parallel()
		dir := t.TempDir()
		r := beginWith(t, []string{"TMPDIR=" + dir}, "bench", "--json", "--transport", "tcp", "--disk-engine", "pool", "--records", "1k", "--warmup", "0s", "--operations", "1000000000")
		pid := r.server()
		r.busy(pid, 25)
		stop(t, pid)
		r.end()
		r.lost("the server's counters")
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

// hasUnread waits for at most half a second until a connection of the server, which is stopped, has bytes that it has not read.
func (s *serving) hasUnread() bool {
	s.t.Helper()
	at, err := netip.ParseAddrPort(s.hello.Listening)
	if err != nil {
		s.t.Fatal(err)
	}
	local := fmt.Sprintf(":%04X", at.Port())
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 500 {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) { // number, local and remote address, state, unsent:unread, …
			f := strings.Fields(line)
			if _, unread, _ := strings.Cut(f[4], ":"); strings.HasSuffix(f[1], local) && f[3] == "01" && unread != "00000000" {
				return true
			}
		}
		<-tick.C
	}
	return false
}

// server is the server that this process has started. It has another child before: Go tests that way what the kernel can do.
func (r *running) server() int {
	r.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", r.cmd.Process.Pid))
		for _, f := range files {
			b, _ := os.ReadFile(f)
			for _, pid := range strings.Fields(string(b)) {
				if words, _ := os.ReadFile("/proc/" + pid + "/cmdline"); bytes.Contains(words, []byte("\x00serve\x00")) {
					n, _ := strconv.Atoi(pid)
					return n
				}
			}
		}
	}
	_ = r.cmd.Process.Kill()
	r.t.Fatal("it starts no server")
	return 0
}

// muteRedis answers so many gets and puts as a Redis without any item does, on all connections together, and then none.
func muteRedis(t *testing.T, answers int64) string {
	var left atomic.Int64
	left.Store(answers)
	return fakeRedis(t, func(words []string) string {
		if (words[0] == "get" || words[0] == "set") && left.Add(-1) < 0 {
			return ""
		}
		return emptyRedis(words)
	})
}

// emptyRedis is the answer of a Redis without any item.
func emptyRedis(words []string) string {
	switch words[0] {
	case "ping":
		return "+PONG\r\n"
	case "info":
		text := "# Server\r\nredis_version:7.0.0\r\n"
		return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text)
	case "get":
		return "$-1\r\n"
	}
	return "+OK\r\n"
}

// fakeRedis is the URL of a server that gives these answers to commands, whose words are in lower case; "": none.
func fakeRedis(t *testing.T, answer func(words []string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	serveConn := func(c net.Conn) {
		defer c.Close()
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
			var words []string
			for range n {
				size, err := r.ReadString('\n')
				if err != nil {
					return
				}
				k, _ := strconv.Atoi(strings.TrimSpace(size[1:]))
				b := make([]byte, k+2)
				if _, err := io.ReadFull(r, b); err != nil {
					return
				}
				words = append(words, strings.ToLower(string(b[:k])))
			}
			if _, err := io.WriteString(c, answer(words)); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveConn(c)
		}
	}()
	return "redis://" + l.Addr().String()
}

func TestARedisThatStopsEndsTheRun(t *testing.T) {
	t.Parallel()
	for _, mix := range []string{"get", "put"} {
		t.Run(mix, func(t *testing.T) {
			t.Parallel()
			r := begin(t, "bench", "--json", "--target", muteRedis(t, 3), "--transport", "tcp", "--mix", mix, "--conns", "2", "--depth", "2", "--warmup", "0s", "--duration", "300ms")
			r.end()
			r.lost()
		})
	}
}

// If a Redis refuses a command, its error is shown and ends the run: a server that refuses commands is not measured.
func TestTheErrorOfARedisIsTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ command, said string }{
		{"get", "LOADING Redis is loading the dataset in memory"},
		{"get", "MOVED 3999 127.0.0.1:6381"},
		{"set", "READONLY You can't write against a read only replica."},
		{"set", "MISCONF Redis is configured to save RDB snapshots, but it's \x1b[31mcurrently unable\x07 to persist to disk."},
	} {
		target := fakeRedis(t, func(words []string) string {
			if words[0] == c.command {
				return "-" + c.said + "\r\n"
			}
			return emptyRedis(words)
		})
		args := [][]string{{"bench", "--mix", map[string]string{"get": "c", "set": "put"}[c.command], "--duration", "10s", "--warmup", "0s"}}
		if c.command == "set" {
			args = append(args, []string{"load"})
		}
		for _, a := range args {
			r := begin(t, append(a, "--target", target, "--transport", "tcp", "--records", "1k")...)
			_ = r.cmd.Wait()
			if code := r.cmd.ProcessState.ExitCode(); code != exit.Failed || !strings.Contains(r.said.String(), strings.Fields(c.said)[0]+" ") || strings.ContainsAny(r.said.String(), "\x1b\x07") {
				t.Errorf("%s, of a Redis that says %q: exit code %d, %q", a[0], c.said, code, &r.said)
			}
		}
	}
}
