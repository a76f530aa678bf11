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
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
)

// A launcher is given two plain words only, the path of kvwire and "launched", since some (ssh) hand their arguments to a shell.
// The process says what host it is on, reads its role as one line of JSON, and becomes what that says. From then on
// standard input and output are that command's. It ends when its standard input does.

// hostWord is the first line that a launched process writes.
type hostWord struct {
	Kvwire  string     `json:"kvwire"`  // its version
	Machine string     `json:"machine"` // machineID
	Env     report.Env `json:"env"`
}

// role is the line that a launched process reads.
type role struct {
	Args []string `json:"args"`
	told
}

// launchable are the commands that a launched process may become.
var launchable = []string{"serve", "loadhost"}

// Bounds of what is read: of a role; of one line from a launched process (a load host's result, with the server's counters);
// of a line of standard error that is kept; and of lines that a shell may write first.
const (
	roleLineMax   = 64 << 10
	wordLineMax   = 16 << 20
	saidLineMax   = 4 << 10
	greetingLines = 100
)

func launchedCommand(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return usagef("launched takes its arguments from standard input: it is what --server-launch and --client-launch start")
	}
	env := environment()
	env.GOMAXPROCS = 0 // of this command
	if err := json.NewEncoder(os.Stdout).Encode(hostWord{Kvwire: version, Machine: machineID(), Env: env}); err != nil {
		return err
	}
	type line struct {
		role
		err error
	}
	read := make(chan line, 1)
	go func() {
		r, err := readRole(os.Stdin)
		read <- line{r, err}
	}()
	var l line
	select {
	case l = <-read:
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.err != nil {
		return l.err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if deaf != nil && deaf() {
		return context.Canceled
	}
	return fmt.Errorf("execute %s: %w", exe, syscall.Exec(exe, append([]string{os.Args[0]}, l.Args...), l.told.env()))
}

// readRole reads a line and not a byte beyond it, which would be the command's.
func readRole(in io.Reader) (r role, err error) {
	var text []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(in, b); err != nil {
			return r, fmt.Errorf("launched: read what to become: %w (is standard input passed on? kubectl exec and docker exec need -i)", err)
		}
		if b[0] == '\n' {
			break
		}
		if text = append(text, b[0]); len(text) > roleLineMax {
			return r, fmt.Errorf("launched: arguments of more than %d bytes", roleLineMax)
		}
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("launched: arguments: %w", err)
	}
	if len(r.Args) == 0 || !slices.Contains(launchable, r.Args[0]) {
		return r, fmt.Errorf("launched: %.100q: it may become %s only", r.Args, strings.Join(launchable, " or "))
	}
	return r, nil
}

// process is this side of a launched process. Its methods are for one goroutine, but kill, which is for any.
type process struct {
	name  string    // as errors and the log name it
	log   io.Writer // of its standard error; nil: this process's
	host  hostWord
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   io.ReadCloser
	lines chan []byte   // of standard output; closed at its end
	quit  chan struct{} // closed when nobody takes lines any more
	said  *sayings
	hung  bool          // it was silent for too long
	ended chan struct{} // closed when err is there
	err   error
}

// launch starts kvwire behind a command and has it become what its role says. The caller stops it, unless there is an error.
func launch(ctx context.Context, name, prefix, path string, r role) (*process, error) {
	if path == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		if path = exe; !plain.MatchString(path) {
			return nil, fmt.Errorf("%s: kvwire is at %q here, a name that shells on the way may change: name another one with --launch-path", name, path)
		}
	}
	words := append(strings.Fields(prefix), path, "launched")
	p := &process{name: name, cmd: exec.Command(words[0], words[1:]...), lines: make(chan []byte), quit: make(chan struct{}), ended: make(chan struct{})}
	if err := p.start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	err := p.greet(ctx)
	if err == nil {
		err = p.send(r)
	}
	if err != nil {
		p.kill() // what has become of it is known, or does not matter
		<-p.ended
		return nil, err
	}
	return p, nil
}

func (p *process) start() (err error) {
	p.said = &sayings{name: p.name, to: os.Stderr}
	if p.log != nil {
		p.said.to = p.log
	}
	p.cmd.Stderr = p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is for this process, which then ends the others in order
	p.cmd.WaitDelay = time.Second                           // a launcher's own children may keep standard error open
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	if p.out, err = p.cmd.StdoutPipe(); err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go p.read()
	return nil
}

// read hands out the lines of standard output, and then waits for the end.
func (p *process) read() {
	s := bufio.NewScanner(p.out)
	s.Buffer(nil, wordLineMax)
	for s.Scan() {
		select {
		case p.lines <- bytes.Clone(s.Bytes()):
		case <-p.quit:
		}
	}
	_, _ = io.Copy(io.Discard, p.out) // after a line that is too long
	close(p.lines)
	if p.err = p.cmd.Wait(); errors.Is(p.err, exec.ErrWaitDelay) {
		p.err = nil
	}
	close(p.ended)
}

// greet reads what host it is. Shells and launchers may have something to say before that.
func (p *process) greet(ctx context.Context) error {
	for range greetingLines {
		line, err := p.next(ctx, patience)
		if err != nil {
			return err
		}
		if json.Unmarshal(line, &p.host) != nil || p.host.Kvwire == "" {
			continue
		}
		quote.Strings(&p.host)
		if p.host.Kvwire != version {
			return fmt.Errorf("%s: kvwire is %.100q there, and %s here: copy this one there, or name it with --launch-path", p.name, p.host.Kvwire, version)
		}
		return nil
	}
	return fmt.Errorf("%s: %d lines, and none of them is kvwire's", p.name, greetingLines)
}

// next is the next line of standard output. It waits for that long.
func (p *process) next(ctx context.Context, wait time.Duration) ([]byte, error) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case line, ok := <-p.lines:
		if !ok {
			return nil, p.died()
		}
		return line, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timeout.C:
		p.hung = true
		return nil, fmt.Errorf("%s said nothing for %v%s", p.name, wait, p.said.last())
	}
}

// send writes a line of JSON to its standard input.
func (p *process) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.write(append(b, '\n'))
}

func (p *process) write(line []byte) error {
	if _, err := p.stdin.Write(line); err != nil {
		return p.died() // which says why
	}
	return nil
}

// died says how a process ended that should not have, with its own reason and exit code where it is kvwire's.
func (p *process) died() error {
	err := p.stop()
	last := p.said.last()
	var status *exec.ExitError
	if errors.As(err, &status) && p.said.kvwires() && (status.ExitCode() == exit.Usage || status.ExitCode() == exit.Missing) {
		return exit.With(status.ExitCode(), fmt.Errorf("%s ended%s", p.name, last))
	}
	if err == nil {
		return fmt.Errorf("%s ended before its time%s", p.name, last)
	}
	return fmt.Errorf("%s ended: %w%s", p.name, err, last)
}

// stop ends it in good order, by the end of its input, or by force when that takes too long. It may be called again.
func (p *process) stop() error {
	_ = p.stdin.Close()
	select {
	case <-p.quit:
	default:
		close(p.quit)
	}
	wait := patience
	if p.hung {
		wait = hungPatience
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case <-p.ended:
		return p.err
	case <-timeout.C:
		p.kill()
		<-p.ended
		return fmt.Errorf("it did not end within %v and was killed", wait)
	}
}

// hungPatience is for the end of a process that was silent for too long already.
const hungPatience = 2 * time.Second

// kill ends the launcher and what it has started here. What it started elsewhere ends with its input.
func (p *process) kill() {
	select {
	case <-p.ended:
		return // its number may be another's by now
	default:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	_ = p.out.Close()
}

// sayings is a process' standard error: passed on line by line, with its name, and the last line is kept.
type sayings struct {
	name string
	to   io.Writer

	mu     sync.Mutex
	part   []byte // of a line
	line   string // the last one
	kvwire string // the last one of kvwire's own, which launchers' words may follow
}

// Write is io.Writer's.
func (s *sayings) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range b {
		switch {
		case c == '\n' || c == '\r':
			s.end()
		case len(s.part) < saidLineMax:
			s.part = append(s.part, c)
		}
	}
	return len(b), nil
}

func (s *sayings) end() {
	line := quote.Line(strings.TrimSpace(string(s.part)))
	s.part = s.part[:0]
	if line == "" {
		return
	}
	s.line = line
	if words, ok := strings.CutPrefix(line, "kvwire: "); ok {
		line, s.kvwire = words, words
	}
	fmt.Fprintf(s.to, "kvwire: %s: %s\n", s.name, line)
}

// last is what it said last, to stand at the end of an error.
func (s *sayings) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
	switch {
	case s.kvwire != "":
		return "; it said last: " + s.kvwire
	case s.line != "":
		return "; it said last: " + s.line
	}
	return ", and has said nothing"
}

// kvwires says whether kvwire itself has said something.
func (s *sayings) kvwires() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kvwire != ""
}

// launchServer starts kvwire serve behind --server-launch, with these flags.
func launchServer(ctx context.Context, f *factors, flags []string) (*child, error) {
	args := append([]string{"serve", "--json", "--exit-with-stdin", "--log-level=warn", "--listen=" + f.launch.listen()}, flags...)
	t, err := f.engage()
	if err != nil {
		return nil, err
	}
	p, err := launch(ctx, behind("the server", f.launch.Server), f.launch.Server, f.launch.Path, role{args, t})
	if err != nil {
		return nil, err
	}
	c := &child{stdin: p.stdin, kill: p.kill, done: make(chan error, 1), p: p}
	line, err := p.next(ctx, patience)
	if err == nil {
		if err = json.Unmarshal(line, &c.hello); err != nil {
			err = fmt.Errorf("%s: %.100q is no server's greeting", p.name, line)
		}
		quote.Strings(&c.hello)
	}
	if err != nil {
		_ = p.stop() // the reason is known
		return nil, err
	}
	if f.control {
		c.control = &server.Control{Write: p.write, Next: func(ctx context.Context, wait time.Duration) ([]byte, error) {
			line, err := p.next(ctx, wait)
			c.hung = c.hung || p.hung
			return line, err
		}}
	} else {
		close(p.quit)
	}
	go func() {
		<-p.ended
		err := p.err
		if err != nil { // with a name: it may be the only thing that is told
			err = fmt.Errorf("%s ended: %w%s", p.name, err, p.said.last())
		}
		c.done <- err
		close(c.done)
	}()
	return c, nil
}

// blameWait is for a launcher to notice that what it started elsewhere has ended.
const blameWait = time.Second

// blame tells of the server behind a launcher, where that has ended, in front of the error that its clients saw.
func (c *child) blame(err error) error {
	if err == nil || c == nil || c.p == nil {
		return err
	}
	timeout := time.NewTimer(blameWait)
	defer timeout.Stop()
	select {
	case <-c.p.ended:
		return fmt.Errorf("%w; %w", c.p.died(), err)
	case <-timeout.C:
		return err
	}
}
