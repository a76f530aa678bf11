package lab

import "fmt"

// UsageError is an error that the user can correct: a folder or an experiment that does not exist, or an experiment with a mistake.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap is for errors.Is and errors.As.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef returns a UsageError with a text as from fmt.Errorf.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// MissedError is the end of a complete measurement whose figures miss a bound that was set for them.
type MissedError struct{ Err error }

func (e *MissedError) Error() string { return e.Err.Error() }

// Unwrap is for errors.Is and errors.As.
func (e *MissedError) Unwrap() error { return e.Err }
