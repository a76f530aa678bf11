package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// stdout receives the results of commands. It keeps the first write error, which makes the command fail (outputError), so that callers need not check each
// write. It belongs to the main goroutine.
var stdout = &commandOutput{}

type commandOutput struct{ err error }

var _ io.Writer = (*commandOutput)(nil)

// Write implements io.Writer.
func (o *commandOutput) Write(b []byte) (int, error) {
	n, err := os.Stdout.Write(b)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// outputError returns err, the result of a command, or the write error if the command itself had none.
func outputError(err error) error {
	if (err == nil || errors.Is(err, pflag.ErrHelp)) && stdout.err != nil {
		return fmt.Errorf("the output was not written: %w (free some space, or send it elsewhere)", stdout.err)
	}
	return err
}

// unread reports whether a command failed because the reader of its output has gone (| head). This needs no message.
func unread(err error) bool {
	return errors.Is(stdout.err, unix.EPIPE) && errors.Is(err, unix.EPIPE)
}
