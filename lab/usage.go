package lab

import "fmt"

// UsageError is an error that another command line remedies: a folder or an experiment that is not there, or one that is written wrongly.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap is for errors.Is and errors.As.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef is fmt.Errorf of a UsageError.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }
