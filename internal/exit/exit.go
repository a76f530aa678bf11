// Package exit owns kvwire's exit codes, the error that carries one to the end of the command, and the actions that
// an abrupt end must undo. It imports nothing of ours.
package exit

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"
)

// Exit codes.
const (
	OK      = 0
	Failed  = 1
	Usage   = 2 // a flag, an argument, or a file or folder that it names
	Missing = 3 // a required transport does not work here
	Wrong   = 4 // a value that was read is not the one that was written
	Missed  = 6 // an experiment missed a threshold of its own, or (verify-claims --strict) disagrees with a claim

	Interrupted = 130 // ^C, TERM or HUP ended it early, whatever it has written; serve and host end so in good order, with 0
)

// Error is an error with an exit code.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap is for errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }

// With gives err an exit code; nil stays nil.
func With(code int, err error) error {
	if err == nil {
		return nil
	}
	return &Error{code, err}
}

// Usagef is fmt.Errorf with the exit code Usage.
func Usagef(format string, args ...any) error { return With(Usage, fmt.Errorf(format, args...)) }

// badName are the errors for a file or folder whose name is the mistake.
var badName = []error{fs.ErrNotExist, fs.ErrInvalid, fs.ErrExist, syscall.EACCES, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.ENXIO}

// Named takes an error from opening or making a file or folder that the user named. It returns it with the exit code Usage if the name is the cause: the file does
// not exist, is of another kind, or may not be opened by this user. It returns other errors, and those that have a code, unchanged.
func Named(err error) error {
	if e := new(Error); err == nil || errors.As(err, &e) {
		return err
	}
	for _, cause := range badName {
		if errors.Is(err, cause) {
			return With(Usage, err)
		}
	}
	return err
}

// Code is the exit code of a command that ends with err: Failed where err has no code of its own.
func Code(err error) int {
	if err == nil {
		return OK
	}
	if e := new(Error); errors.As(err, &e) {
		return e.Code
	}
	return Failed
}

// cleanups are the functions of OnAbort.
var cleanups struct {
	sync.Mutex
	all []func()
}

// OnAbort registers what must be undone if the process ends abruptly, such as a temporary folder. Any goroutine may call it, and any may call f.
func OnAbort(f func()) {
	cleanups.Lock()
	defer cleanups.Unlock()
	cleanups.all = append(cleanups.all, f)
}

// Abort calls the functions of OnAbort, whose later callers it blocks: the process must end after it.
func Abort() {
	cleanups.Lock()
	for _, f := range cleanups.all {
		f()
	}
}
