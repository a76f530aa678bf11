// Package fleet owns the processes that a kvwire process starts, on this host and on others: it starts them,
// exchanges lines with them, and ends them. It imports no network and no code that measures; lab/cell measures with
// the processes that fleet starts.
package fleet

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
	"syscall"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
)

// Patience bounds waits for a process's start, replies and end; HungPatience is for the end of one that did not answer in time. lineMax bounds a line of its
// standard output in bytes: a load host's result is long, and has the server's counters.
const (
	Patience     = 60 * time.Second
	HungPatience = 2 * time.Second

	lineMax = 16 << 20
)

// Process is a kvwire that this process has started. It reads commands from its standard input, writes replies to its standard output, one line each, and ends
// when its input does. One goroutine at a time may call the methods, except Kill, which any may call.
type Process struct {
	Name string   // in errors and in the log
	Host HostInfo // of a launched process
	Hung bool     // it did not answer in time, so Stop waits for HungPatience only

	pid    int // 0: on another host
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr *stderrTee // nil: standard error goes to this process's, or to another host's
	signal func()     // kills it
	wait   func() error

	lines  chan []byte   // of standard output; closed at its end
	unread chan struct{} // closed when lines are read no more
	ended  chan struct{} // closed when err is set
	err    error
	killed bool // by Stop
}

// Start starts a process. Each line of its standard error is copied to log, with its name in front; with log nil, its standard error is this process's.
func Start(name string, cmd *exec.Cmd, log io.Writer) (p *Process, err error) {
	p = newProcess(name)
	cmd.Stderr = os.Stderr
	if log != nil {
		p.stderr = &stderrTee{name: name, to: log}
		cmd.Stderr = p.stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for this process, which then ends the others in order
	cmd.WaitDelay = time.Second                           // a launcher's own children may keep standard error open
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.stdout, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.pid, p.wait = cmd.Process.Pid, cmd.Wait
	p.signal = func() { _ = syscall.Kill(-p.pid, syscall.SIGKILL) }
	go p.read()
	return p, nil
}

func newProcess(name string) *Process {
	return &Process{Name: name, lines: make(chan []byte), unread: make(chan struct{}), ended: make(chan struct{})}
}

// read sends the lines of standard output to lines, and then waits for the end of the process.
func (p *Process) read() {
	s := bufio.NewScanner(p.stdout)
	s.Buffer(nil, lineMax)
	for s.Scan() {
		select {
		case p.lines <- bytes.Clone(s.Bytes()):
		case <-p.unread:
		}
	}
	_, _ = io.Copy(io.Discard, p.stdout) // after a line that is too long
	close(p.lines)
	if p.err = p.wait(); errors.Is(p.err, exec.ErrWaitDelay) {
		p.err = nil
	}
	close(p.ended)
}

// Pid is the process's number on this host; for a launched process, the launcher's.
func (p *Process) Pid() int { return p.pid }

// Next returns the next line of standard output. It blocks until there is one, for at most wait.
func (p *Process) Next(ctx context.Context, wait time.Duration) ([]byte, error) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case line, ok := <-p.lines:
		if !ok {
			return nil, p.Died()
		}
		return line, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timeout.C:
		p.Hung = true
		return nil, fmt.Errorf("%s: no line on standard output within %v%s", p.Name, wait, p.stderr.last())
	}
}

// Send writes v as a line of JSON to standard input.
func (p *Process) Send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.Write(append(b, '\n'))
}

// Write writes a line to standard input.
func (p *Process) Write(line []byte) error {
	if _, err := p.stdin.Write(line); err != nil {
		return p.Died() // which has the reason
	}
	return nil
}

// TryWrite is Write for any goroutine. It ignores errors: if the process has ended, no reply follows.
func (p *Process) TryWrite(line []byte) { _, _ = p.stdin.Write(line) }

// Unexpected is the error of a reply other than what.
func (p *Process) Unexpected(what string) error {
	return fmt.Errorf("%s: unexpected reply, and not %s (are both the same version of kvwire?)", p.Name, what)
}

// Died waits for the end of a process that should not have ended, and returns the reason, with the exit code if it is kvwire's.
func (p *Process) Died() error {
	err := p.Stop()
	last := p.stderr.last()
	var status *exec.ExitError
	if errors.As(err, &status) && p.stderr.hasKvwire() && (status.ExitCode() == exit.Usage || status.ExitCode() == exit.Missing) {
		return exit.With(status.ExitCode(), fmt.Errorf("%s ended%s", p.Name, last))
	}
	if err == nil {
		return fmt.Errorf("%s ended before its time%s", p.Name, last)
	}
	return fmt.Errorf("%s ended: %w%s", p.Name, err, last)
}

// Stop ends the process in good order, by the end of its input, or kills it after some time. It may be called again.
func (p *Process) Stop() error {
	_ = p.stdin.Close()
	p.discard()
	wait := Patience
	if p.Hung {
		wait = HungPatience
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case <-p.ended:
		return p.err
	case <-timeout.C:
		p.killed = true
		p.Kill()
		<-p.ended
		return fmt.Errorf("it did not end within %v and was killed", wait)
	}
}

// End is Stop, with an error that names the process and has its last line of standard error.
func (p *Process) End() error {
	if err := p.Stop(); err != nil {
		return fmt.Errorf("%s ended: %w%s", p.Name, err, p.stderr.last())
	}
	return nil
}

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// discard makes read drop all further lines.
func (p *Process) discard() {
	select {
	case <-p.unread:
	default:
		close(p.unread)
	}
}

// Kill kills the process and the processes that it has started here. A process that a launcher has started elsewhere ends with its input.
func (p *Process) Kill() {
	if p.Ended() {
		return // another process may have its number by now
	}
	p.signal()
	_ = p.stdout.Close()
}
