package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/kvwire/kvwire/internal/quote"
)

// commandLineMax bounds a command in bytes.
const commandLineMax = 1 << 20

// ReadLines reads lines of JSON and sends them to a channel, until the input or ctx ends.
func ReadLines[T any](ctx context.Context, in io.Reader, to chan<- T) error {
	return EachLine(in, func(line []byte) (more bool, err error) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return false, fmt.Errorf("read a command: %w", quote.Error(err))
		}
		select {
		case to <- v:
			return true, nil
		case <-ctx.Done():
			return false, nil
		}
	})
}

// EachLine calls do for each line of the input, until do returns an error or more=false, or the input ends.
func EachLine(in io.Reader, do func(line []byte) (more bool, err error)) error {
	s := bufio.NewScanner(in)
	s.Buffer(nil, commandLineMax)
	for s.Scan() {
		if more, err := do(s.Bytes()); err != nil || !more {
			return err
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("read commands: %w", err)
	}
	return nil
}
