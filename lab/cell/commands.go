package cell

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
)

// commands are what a process reads from its standard input: those of a variant, or of a load host.
type commands[C any] struct {
	of   chan C
	over chan error // the end of the input, with its error
}

// errInputEnded is the cause for which the context of startCommands ends with the input.
var errInputEnded = errors.New("the standard input, where kvwire run writes its commands, ended before the first of them")

// startCommands reads commands in the background, by read, until the input or ctx ends. The context that it returns ends with the input.
func startCommands[C any](ctx context.Context, in io.Reader, read func(context.Context, io.Reader, chan<- C) error) (*commands[C], context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &commands[C]{make(chan C), make(chan error, 1)}
	go func() { // it ends with its input, or with the process
		c.over <- read(ctx, in, c.of)
		cancel(errInputEnded)
	}()
	return c, ctx, func() { cancel(nil) }
}

// serve calls do for each command, until it returns an error or more=false, or ctx ends.
func (c *commands[C]) serve(ctx context.Context, do func(C) (more bool, err error)) error {
	for {
		select {
		case one := <-c.of:
			if more, err := do(one); err != nil || !more {
				return err
			}
		case <-ctx.Done():
			select {
			case err := <-c.over:
				return err
			default:
				return nil
			}
		}
	}
}

// progressInterval is the least time between two reports of progress.
const progressInterval = time.Second

// reportProgress sends reports of progress, at most one in progressInterval. An error is not lost: the next reply has it, too.
func reportProgress(send func(p *bench.Progress) error) func(bench.Progress) {
	var last time.Time
	return func(p bench.Progress) {
		if now := time.Now(); now.Sub(last) >= progressInterval {
			last = now
			_ = send(&p)
		}
	}
}

// text is an error on one line; "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}
