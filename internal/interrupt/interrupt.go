// Package interrupt owns the signals that end a command early: the first one ends its context, the second one the process. It imports internal/exit and
// internal/terminal only.
package interrupt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/terminal"
)

// Err is the error of a command that a signal has ended early, and that has written what there was.
var Err = errors.New("interrupted")

var (
	orderly atomic.Bool // see Orderly
	release func() bool // see Release; Context sets it
)

// Orderly makes a signal the normal end of the command, without a message and without an exit code of its own. serve and host call it when they have started.
func Orderly() { orderly.Store(true) }

// Context ends with the first ^C, TERM or HUP; the second ends the process at once. Call it once.
func Context() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	requests := make(chan chan bool)
	release = func() bool {
		signal.Stop(signals) // a signal that came before is in the channel when it returns
		reply := make(chan bool)
		requests <- reply
		return <-reply
	}
	go func() {
		received := false
		for {
			select {
			case <-signals:
				if received {
					exit.Abort()
					os.Exit(exit.Interrupted)
				}
				received = true
				if !orderly.Load() {
					terminal.Stderr().Erase() // a line that is overwritten, and the terminal's ^C behind it
					fmt.Fprintln(os.Stderr, "kvwire: stopping: the results so far will be written (a second signal stops at once)")
				}
				cancel()
			case reply := <-requests:
				select {
				case <-signals: // the other case was as ready
					received = true
				default:
				}
				reply <- received
			}
		}
	}()
	return ctx
}

// Release restores the default action of the signals, which ends the process, and reports whether a signal came before. Call it before the process executes another
// program.
func Release() bool { return release != nil && release() }

// errEarly is the error of a command that a signal has ended where it waited: unlike Err it is printed.
var errEarly = errors.New("interrupted")

// canceled reports whether the end of a context is all that err is about.
func canceled(err error) bool {
	switch e := err.(type) {
	case nil:
		return false
	case interface{ Unwrap() []error }:
		all := e.Unwrap()
		return len(all) > 0 && !slices.ContainsFunc(all, func(err error) bool { return !canceled(err) })
	}
	return err == context.Canceled || canceled(errors.Unwrap(err))
}

// With gives the error of a command the exit code Interrupted, if a signal has ended ctx early and the error has no code of its own. A command without an error
// ends with Err.
func With(ctx context.Context, err error) error {
	if ctx.Err() == nil || orderly.Load() {
		return err
	}
	if canceled(err) {
		return exit.With(exit.Interrupted, errEarly)
	}
	if exit.Code(err) > exit.Failed {
		return err
	}
	if err == nil {
		err = Err
	}
	return exit.With(exit.Interrupted, err)
}
