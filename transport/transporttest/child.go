package transporttest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"golang.org/x/sys/unix"
)

// Plan describes a child process: a server, or with Dial a client, until it is killed.
type Plan struct {
	Dial    string // the server's address
	Depth   int    // of a client: so many gets of the key "large" are always in flight
	Room    int    // of each
	Answers bool   // of a server: requests are answered; else none is
	Stall   time.Duration
	Memory  int // of a server: ConnBytes and PoolBytes; 0: the defaults
	Files   int // limit of open files; 0: unchanged. Then hellos have no deadline
	Memlock int // limit of locked memory in bytes; 0: unchanged
}

const planEnv = "KVWIRE_TRANSPORTTEST_PLAN"

// Main is for TestMain of a transport's package: it runs the tests, or in a child process the plan.
func Main(m *testing.M, n Network) {
	text, isChild := os.LookupEnv(planEnv)
	if !isChild {
		os.Exit(m.Run())
	}
	var p Plan
	err := json.Unmarshal([]byte(text), &p)
	if err == nil {
		err = p.run(n)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (p Plan) run(n Network) error {
	for resource, limit := range map[int]int{unix.RLIMIT_NOFILE: p.Files, unix.RLIMIT_MEMLOCK: p.Memlock} {
		if limit == 0 {
			continue
		}
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: uint64(limit), Max: uint64(limit)}); err != nil {
			return err
		}
	}
	var count *atomic.Int64
	var err error
	if p.Dial != "" {
		count, err = p.client(n)
	} else {
		count, err = p.server(n)
	}
	if err != nil {
		return err
	}
	end := time.After(2 * WaitMax) // not killed: it ends by itself
	tick := time.NewTicker(time.Millisecond)
	for told := int64(0); ; {
		select {
		case <-end:
			return nil
		case <-tick.C:
			if seen := count.Load(); seen != told {
				told = seen
				fmt.Println(seen)
			}
		}
	}
}

// server starts a server, prints its address, and returns its count of received requests.
func (p Plan) server(n Network) (*atomic.Int64, error) {
	var h *Held
	g, err := loop.NewGroup(loop.Plan{NetLoops: 1, Net: loop.Options{Sleep: n.Sleep(), Wait: n.Wait}}, func(l *loop.Loop, _, _ int) (loop.Partition, error) {
		h = &Held{l: l, items: map[string][]byte{}, hold: !p.Answers}
		_, err := l.Add(h)
		return h, err
	})
	if err != nil {
		return nil, err
	}
	o := transport.ServerOptions{Limits: small, HelloMax: WaitMax, StallMax: p.Stall, PoolBytes: p.Memory, ConnBytes: p.Memory}
	if p.Files != 0 || p.Memory != 0 { // clients of which some wait until the others are served
		o.HelloMax = far
	}
	s, err := n.Serve(n.listen(), g, o)
	if err != nil {
		return nil, err
	}
	fmt.Println(s.Addr())
	return &h.seen, nil
}

// resubmitter submits a request whenever it is completed.
type resubmitter struct {
	h    kv.Handler
	done atomic.Int64
}

// Complete implements kv.Completer.
func (a *resubmitter) Complete(r *kv.Request) {
	a.done.Add(1)
	if r.Status == kv.StatusOK {
		a.h.Submit(r)
	}
}

// client connects, prints that it has, and returns its count of completed requests.
func (p Plan) client(n Network) (*atomic.Int64, error) {
	l, err := loop.Start(loop.Options{Name: "client", Sleep: n.Sleep(), Wait: n.Wait}, nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), WaitMax)
	defer cancel()
	c, err := n.Dial(ctx, l, p.Dial, transport.DialOptions{Depth: p.Depth, DialMax: WaitMax})
	if err != nil {
		return nil, err
	}
	fmt.Println("connected")
	a := &resubmitter{h: c}
	return &a.done, l.Call(func() {
		for range p.Depth {
			r := Get("large", p.Room)
			r.Owner = a
			c.Submit(r)
		}
	})
}

// Child is another process, with a server or a client.
type Child struct {
	Addr string // of its server

	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
}

// Command returns the command that runs a plan.
func Command(n Network, p Plan) *exec.Cmd {
	text, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), planEnv+"="+string(text)), n.Env...)
	return cmd
}

// StartChild starts one, and waits until it serves or is connected.
func StartChild(t *testing.T, n Network, p Plan) *Child {
	t.Helper()
	c := &Child{t: t, cmd: Command(n, p), lines: make(chan string, 100)}
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	t.Cleanup(c.Kill)
	c.Addr = c.line()
	return c
}

func (c *Child) line() string {
	c.t.Helper()
	select {
	case s, ok := <-c.lines:
		if !ok {
			c.t.Fatal("the child process ended by itself")
		}
		return strings.TrimSpace(s)
	case <-time.After(WaitMax):
		c.t.Fatalf("the child process said nothing for %v", WaitMax)
		return ""
	}
}

// Resident returns the resident memory of the process, in bytes (VmRSS).
func (c *Child) Resident() int {
	c.t.Helper()
	n, err := sys.Resident(c.cmd.Process.Pid)
	if err != nil {
		c.t.Fatal(err)
	}
	return int(n)
}

// Await waits until a server has received, or a client has completed, n requests.
func (c *Child) Await(n int) {
	c.t.Helper()
	for {
		if k, err := strconv.Atoi(c.line()); err == nil && k >= n {
			return
		}
	}
}

// Kill ends the process by SIGKILL.
func (c *Child) Kill() {
	_ = c.cmd.Process.Kill()
	go func() {
		for range c.lines { // lets the reader of its output end
		}
	}()
	_ = c.cmd.Wait()
}

// Freeze stops the process by SIGSTOP, as ^Z does. The kernel continues to acknowledge for it.
func (c *Child) Freeze() {
	c.t.Helper()
	c.signal(syscall.SIGSTOP)
	Until(c.t, "the child process to stop", func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", c.cmd.Process.Pid))
		for _, f := range threads {
			b, _ := os.ReadFile(f)
			if _, rest, ok := bytes.Cut(b, []byte(") ")); ok && rest[0] != 'T' {
				return false
			}
		}
		return true
	})
}

// Thaw continues a stopped process.
func (c *Child) Thaw() { c.signal(syscall.SIGCONT) }

func (c *Child) signal(s os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatalf("%v to the child process: %v", s, err)
	}
}
