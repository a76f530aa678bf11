package transporttest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"golang.org/x/sys/unix"
)

const (
	childEnv = "KVWIRE_TRANSPORTTEST_SERVER"
	filesEnv = "KVWIRE_TRANSPORTTEST_FILES" // the child's limit of open files
)

// Main is for TestMain of a transport's package: it runs the tests, or, as their child, a server that
// answers nothing and waits to be killed.
func Main(m *testing.M, n Network) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	if err := serveChild(n); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serveChild(n Network) error {
	if files, err := strconv.Atoi(os.Getenv(filesEnv)); err == nil {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(files), Max: uint64(files)}); err != nil {
			return err
		}
	}
	var h *held
	g, err := loop.NewGroup(loop.Plan{NetLoops: 1, Net: loop.Options{Sleep: n.Sleep()}}, func(l *loop.Loop, _, _ int) (loop.Partition, error) {
		h = &held{l: l, items: map[string][]byte{}, hold: os.Getenv(filesEnv) == ""}
		_, err := l.Add(h)
		return h, err
	})
	if err != nil {
		return err
	}
	s, err := n.Serve(n.listen(), g, transport.ServerOptions{Limits: small})
	if err != nil {
		return err
	}
	fmt.Println(s.Addr())
	end := time.After(2 * patience) // nobody killed it: it ends by itself
	tick := time.NewTicker(time.Millisecond)
	for told := int64(0); ; {
		select {
		case <-end:
			return nil
		case <-tick.C:
			if seen := h.seen.Load(); seen != told {
				told = seen
				fmt.Println(seen)
			}
		}
	}
}

// child is a server in a process of its own.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	addr  string
}

// startChild starts one that holds all requests back; with env, it may be told otherwise.
func startChild(t *testing.T, env ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0]), lines: make(chan string, 100)}
	c.cmd.Env = append(append(os.Environ(), childEnv+"=1"), env...)
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
	t.Cleanup(c.kill)
	c.addr = c.line()
	return c
}

func (c *child) line() string {
	c.t.Helper()
	select {
	case s, ok := <-c.lines:
		if !ok {
			c.t.Fatal("the server process ended by itself")
		}
		return strings.TrimSpace(s)
	case <-time.After(patience):
		c.t.Fatalf("the server process said nothing for %v", patience)
		return ""
	}
}

// await waits until the server has seen n requests.
func (c *child) await(n int) {
	c.t.Helper()
	for c.line() != fmt.Sprint(n) {
	}
}

// kill ends the process without a chance to say goodbye.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}
