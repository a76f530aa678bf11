package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// child is a server in a process of its own, which ends with this one: it watches its standard input.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	hello greeting
	done  chan error
}

// serverFlags are the flags of bench that are serve's too.
var serverFlags = []string{"transport", "backend", "placement", "server-threads", "net-loops", "store-loops", "wait", "spin-max",
	"ring", "durability", "disk-engine", "cache-bytes", "dir", "value-bytes", "scan-items", "server-cpus"}

// startChild runs kvwire serve with f's server flags on a port of its own.
func startChild(ctx context.Context, f *factors) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"serve", "--json", "--exit-with-stdin", "--listen=127.0.0.1:0", "--server-cpus=" + f.serverCPUs.String()}
	for _, name := range serverFlags {
		if f.sets(name) && name != "server-cpus" {
			args = append(args, "--"+name+"="+f.set.Lookup(name).Value.String())
		}
	}
	c := &child{cmd: exec.Command(exe, args...), done: make(chan error, 1)}
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for this process, which then ends the server in order
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	c.stdin = stdin
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	said := make(chan error, 1)
	go func() {
		r := bufio.NewReader(out)
		err := json.NewDecoder(r).Decode(&c.hello)
		said <- err
		_, _ = io.Copy(io.Discard, r)
		c.done <- c.cmd.Wait()
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
		var exit *exec.ExitError
		if errors.As(code, &exit) && exit.ExitCode() > exitFailed {
			return nil, &exitError{exit.ExitCode(), errors.New("the server did not start: its reason is above")}
		}
		if errors.Is(err, io.EOF) {
			err = errors.New("its reason is above")
		}
		return nil, fmt.Errorf("the server did not start: %w", err)
	}
	return c, nil
}

// stop ends the server in good order, or by force when that takes too long.
func (c *child) stop() error {
	_ = c.stdin.Close()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case err := <-c.done:
		return err
	case <-timeout.C:
		_ = c.cmd.Process.Kill()
		<-c.done
		return fmt.Errorf("the server did not end within %v and was killed", patience)
	}
}
