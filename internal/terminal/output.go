package terminal

import (
	"io"
	"os"
)

// Output writes to standard output. It keeps the first write error, so that callers need not check each write. The zero value is ready. It belongs to one goroutine.
type Output struct{ err error }

var _ io.Writer = (*Output)(nil)

// Write implements io.Writer.
func (o *Output) Write(b []byte) (int, error) {
	n, err := os.Stdout.Write(b)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// Err returns the first write error.
func (o *Output) Err() error { return o.err }
