package fleet

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/kvwire/kvwire/internal/quote"
)

// stderrLineMax bounds what is kept of a line of standard error, in bytes.
const stderrLineMax = 4 << 10

// stderrTee copies a process's standard error line by line, with its name in front, and keeps the last line.
type stderrTee struct {
	name string
	to   io.Writer

	mu     sync.Mutex
	part   []byte // of a line
	line   string // the last one
	kvwire string // the last one of kvwire's own; a launcher may write more after it
}

// Write implements io.Writer.
func (s *stderrTee) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range b {
		switch {
		case c == '\n' || c == '\r':
			s.end()
		case len(s.part) < stderrLineMax:
			s.part = append(s.part, c)
		}
	}
	return len(b), nil
}

func (s *stderrTee) end() {
	line := quote.Line(strings.TrimSpace(string(s.part)))
	s.part = s.part[:0]
	if line == "" {
		return
	}
	s.line = line
	if text, ok := strings.CutPrefix(line, "kvwire: "); ok {
		line, s.kvwire = text, text
	}
	fmt.Fprintf(s.to, "kvwire: %s: %s\n", s.name, line)
}

// last formats the last line for the end of an error; "" without a tee.
func (s *stderrTee) last() string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
	switch {
	case s.kvwire != "":
		return "; its last line of standard error: " + s.kvwire
	case s.line != "":
		return "; its last line of standard error: " + s.line
	}
	return ", without a line on standard error"
}

// hasKvwire reports whether kvwire itself has written a line.
func (s *stderrTee) hasKvwire() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kvwire != ""
}
