package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// stdout is where commands write their results. It keeps the first error, with which the command has failed (outputError), so that a line need not check
// whether it was written. It belongs to the main goroutine.
var stdout = &results{}

type results struct{ err error }

var _ io.Writer = (*results)(nil)

// Write is io.Writer's.
func (o *results) Write(b []byte) (int, error) {
	n, err := os.Stdout.Write(b)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// outputError is err, the end of a command, or why what it wrote did not arrive, where that is all that went wrong.
func outputError(err error) error {
	if (err == nil || errors.Is(err, pflag.ErrHelp)) && stdout.err != nil {
		return fmt.Errorf("the output was not written: %w (free some space, or send it elsewhere)", stdout.err)
	}
	return err
}

// unread says whether a command failed because nobody reads its output any more (| head), which needs no word.
func unread(err error) bool {
	return errors.Is(stdout.err, unix.EPIPE) && errors.Is(err, unix.EPIPE)
}
