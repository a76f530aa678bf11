package server

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kvwire/kvwire/internal/quote"
)

// A server with --control reads commands from its standard input, one per line: "park" or "resume" (its loops). It answers each line with one line of
// JSON on standard output, a Reply. The end of the input ends the server, as with --exit-with-stdin.

// Parked is the reply to the command park: the server's counters when all its loops are parked.
type Parked struct {
	Counters
	CPU   int64 `json:"cpu_ns"` // CPU time of the process since its start, in ns (CLOCK_PROCESS_CPUTIME_ID), read after the last loop was parked
	Conns int   `json:"conns"`  // connections that are open
}

// Resumed is the reply to the command resume.
type Resumed struct {
	CPU int64 `json:"cpu_ns"` // CPU time of the process since its start, in ns, read before the first loop woke
}

// Reply is the server's reply to a command. Exactly one field is set.
type Reply struct {
	Parked  *Parked  `json:"parked,omitempty"`
	Resumed *Resumed `json:"resumed,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// controlLineMax is the longest command in bytes. quietMax is the longest time until a server is quiet, including the write-back of cached file pages.
// controlMax is how much longer than that a caller waits for the reply.
const (
	// QuietSoon replaces quietMax for a server without files.
	QuietSoon = 5 * time.Second

	controlLineMax = 256
	quietMax       = 30 * time.Second
	controlMax     = 10 * time.Second
)

// Parker is a server whose loops can be parked.
type Parker interface {
	Park(ctx context.Context) (Parked, error)
	Resume(ctx context.Context) (cpuNs int64, err error)
}

var (
	_ Parker = (*Server)(nil)
	_ Parker = (*Control)(nil)
)

// Obey reads commands from in, executes them one after the other, and writes each reply to out. It blocks until in ends, and returns an error if a reply
// cannot be written or a line is too long.
func (s *Server) Obey(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, controlLineMax)
	answer := json.NewEncoder(out)
	for lines.Scan() {
		if err := answer.Encode(s.control(ctx, lines.Text())); err != nil {
			return fmt.Errorf("answer on standard output: %w", err)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return errors.Join(answer.Encode(Reply{Error: fmt.Sprintf("a line of more than %d bytes", controlLineMax)}), fmt.Errorf("--control: %w", err))
	}
	return nil // the end of the input is no error, whatever its cause
}

// control executes one command.
func (s *Server) control(ctx context.Context, line string) (r Reply) {
	var err error
	switch line {
	case "park":
		var p Parked
		if p, err = s.Park(ctx); err == nil {
			r.Parked = &p
		}
	case "resume":
		var cpu int64
		if cpu, err = s.Resume(ctx); err == nil {
			r.Resumed = &Resumed{cpu}
		}
	default:
		err = fmt.Errorf("%.100q is neither park nor resume", line)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// Control parks and resumes a server in another process, which was started with --control. One goroutine at a time may call its methods.
type Control struct {
	Write  func(line []byte) error
	Next   func(ctx context.Context, wait time.Duration) ([]byte, error) // reads the server's next line
	Quiet  time.Duration                                                 // longest time until the server is quiet; 0: quietMax
	broken error                                                         // set when a reply is missing: the next line would be mistaken for it
}

// Park makes the server park its loops and returns its counters. It blocks until the reply comes, ctx ends, or Quiet plus controlMax have passed. If the
// server replies with an error, its loops are awake.
func (c *Control) Park(ctx context.Context) (Parked, error) {
	r, err := c.ask(ctx, "park", cmp.Or(c.Quiet, quietMax)+controlMax)
	if err == nil && r.Parked == nil {
		err = c.breaks(errors.New("the server's reply to park has no counters (are both the same version of kvwire?)"))
	}
	if err != nil {
		return Parked{}, err
	}
	return *r.Parked, nil
}

// Resume makes the server resume its loops, and returns the CPU time of its process before its loops woke, in ns.
func (c *Control) Resume(ctx context.Context) (cpuNs int64, err error) {
	r, err := c.ask(ctx, "resume", controlMax)
	if err == nil && r.Resumed == nil {
		err = c.breaks(errors.New("the server's reply to resume has no CPU time (are both the same version of kvwire?)"))
	}
	if err != nil {
		return 0, err
	}
	return r.Resumed.CPU, nil
}

func (c *Control) breaks(err error) error {
	c.broken = err
	return err
}

// ask writes a command and reads the reply.
func (c *Control) ask(ctx context.Context, what string, wait time.Duration) (r Reply, err error) {
	if c.broken != nil {
		return r, c.broken
	}
	if err := ctx.Err(); err != nil {
		return r, err
	}
	if err := c.Write([]byte(what + "\n")); err != nil {
		return r, c.breaks(fmt.Errorf("%s the server: %w", what, err))
	}
	line, err := c.Next(ctx, wait)
	if err == nil {
		if err = quote.Error(json.Unmarshal(line, &r)); err != nil {
			err = fmt.Errorf("%.100q: %w", line, err)
		}
		if quote.Strings(&r); r.Parked != nil {
			quote.Strings(&r.Parked.Counters)
		}
	}
	if err != nil {
		return r, c.breaks(fmt.Errorf("%s the server: %w", what, err))
	}
	if r.Error != "" {
		return r, fmt.Errorf("%s the server: %s", what, r.Error)
	}
	return r, nil
}
