package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/server"
)

// child is a server in a process of its own, which ends with this one: it watches its standard input.
type child struct {
	stdin   io.WriteCloser
	kill    func()
	hello   greeting
	done    chan error
	control *server.Control // nil: it was not started with --control
	lines   chan []byte     // with control: of its standard output, after the greeting; closed at its end. A launcher's are the process's
	quit    chan struct{}   // closed when nobody takes lines any more
	p       *process        // the launcher's; nil: none
	hung    bool            // it did not answer: stop does not wait for it
	ours    bool            // its store is in a temporary folder on this machine, which it removes at its end
}

// startChild runs kvwire serve with f's server flags on a port of its own.
func startChild(ctx context.Context, f *factors) (*child, error) {
	flags := []string{"--server-cpus=" + f.Server.CPUs.String()}
	get := factor.All.OfServer(&f.Values)
	for _, name := range factor.All.Names(func(x *factor.Factor) bool { return x.Has(factor.Server) && x.When.Holds(get) }) {
		if f.sets(name) && name != "server-cpus" {
			flags = append(flags, "--"+name+"="+get(name))
		}
	}
	if f.control {
		flags = append(flags, "--control")
	}
	if f.serverAt != "" {
		return hire(ctx, f, flags)
	}
	if f.launch.Server != "" {
		return launchServer(ctx, f, flags)
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n, err := find(f.Server.Transport)
	if err != nil {
		return nil, err
	}
	listen, err := n.listenOn(0)
	if err != nil {
		return nil, err
	}
	if f.launch.used() { // its clients are elsewhere
		listen = f.launch.listen()
	}
	t, err := f.engage()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, append([]string{"serve", "--json", "--exit-with-stdin", "--log-level=warn", "--listen=" + listen}, flags...)...)
	cmd.Stderr = os.Stderr
	cmd.Env = t.env()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for this process, which then ends the server in order
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	c := &child{stdin: stdin, done: make(chan error, 1), kill: func() { _ = cmd.Process.Kill() }, ours: f.OnDisk() && f.Store.Dir == ""}
	if err := c.greeted(ctx, f.control, out, cmd.Wait); err != nil {
		return nil, err
	}
	return c, nil
}

// greeted waits for a server's greeting, and watches over its end. One that does not greet is stopped. With control, what it writes from then on are answers.
func (c *child) greeted(ctx context.Context, control bool, out io.Reader, wait func() error) (err error) {
	said := make(chan error, 1)
	c.lines, c.quit = make(chan []byte), make(chan struct{})
	if control {
		c.control = &server.Control{Write: c.write, Next: c.next}
	}
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, wordLineMax)
		var err error
		if lines.Scan() {
			err = quote.Error(json.Unmarshal(lines.Bytes(), &c.hello))
			quote.Strings(&c.hello)
		} else if err = lines.Err(); err == nil {
			err = io.EOF
		}
		said <- err
		for control && lines.Scan() {
			select {
			case c.lines <- bytes.Clone(lines.Bytes()):
			case <-c.quit:
			}
		}
		close(c.lines)
		_, _ = io.Copy(io.Discard, out)
		c.done <- wait()
		close(c.done)
	}()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case err = <-said:
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout.C:
		err = fmt.Errorf("it said nothing for %v", patience)
	}
	if err != nil {
		code := c.stop()
		var status *exec.ExitError
		if errors.As(code, &status) && status.ExitCode() > exit.Failed {
			return exit.With(status.ExitCode(), errors.New("the server did not start: its reason is above"))
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("its reason is above")
		}
		return fmt.Errorf("the server did not start: %w", err)
	}
	return nil
}

// quits are the channels whose end says that nobody takes lines any more.
func (c *child) quits() (all []chan struct{}) {
	if c.quit != nil {
		all = append(all, c.quit)
	}
	if c.p != nil {
		all = append(all, c.p.quit)
	}
	return all
}

func (c *child) write(line []byte) error {
	_, err := c.stdin.Write(line)
	return err
}

// next is the next line of the server's. It waits for that long.
func (c *child) next(ctx context.Context, wait time.Duration) ([]byte, error) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case line, ok := <-c.lines:
		if !ok {
			return nil, errors.New("it has ended")
		}
		return line, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timeout.C:
		c.hung = true
		return nil, fmt.Errorf("no answer within %v", wait)
	}
}

// stop ends the server in good order, or by force when that takes too long. It may be called again, and then returns nil.
func (c *child) stop() error {
	_ = c.stdin.Close()
	for _, quit := range c.quits() {
		select {
		case <-quit:
		default:
			close(quit)
		}
	}
	wait := patience
	if c.hung {
		wait = hungPatience
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case err := <-c.done:
		return err
	case <-timeout.C:
		c.kill()
		<-c.done
		err := fmt.Errorf("the server did not end within %v and was killed", wait)
		if dir := c.hello.Dir; c.ours && strings.HasPrefix(filepath.Base(dir), temporaryName) {
			err = errors.Join(err, os.RemoveAll(dir)) // what it would have done itself
		}
		return err
	}
}
