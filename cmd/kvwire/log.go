package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
)

// logging is how a command that goes on for long logs: to standard error, as text or JSON.
type logging struct {
	format string
	level  slog.Level
}

func (f *factors) logFlags() {
	f.set.StringVar(&f.logging.format, "log-format", "text", "what is logged, to standard error: text or json")
	f.set.Var((*levelFlag)(&f.logging.level), "log-level", "least level that is logged: debug, info, warn or error; of a kind of message, "+
		"at most five in a second, and the next one says how many were suppressed")
}

// levelFlag is a level of slog's.
type levelFlag slog.Level

var _ pflag.Value = (*levelFlag)(nil)

// Set is pflag.Value's.
func (l *levelFlag) Set(s string) error { return (*slog.Level)(l).UnmarshalText([]byte(s)) }

// String is pflag.Value's.
func (l *levelFlag) String() string { return strings.ToLower(slog.Level(*l).String()) }

// Type is pflag.Value's.
func (l *levelFlag) Type() string { return "level" }

// logger makes f's logger, which all that f starts shares. Commands without flags for it say what should be known, and not that they begin and end.
func (f *factors) logger() *slog.Logger {
	if f.log != nil {
		return f.log
	}
	level := f.logging.level
	if f.set.Lookup("log-level") == nil {
		level = slog.LevelWarn
	}
	f.log = slog.New(newLimited(newHandler(os.Stderr, f.logging.format, level)))
	return f.log
}

// newHandler writes records to w, in the format of that name.
func newHandler(w io.Writer, format string, level slog.Level) slog.Handler {
	o := &slog.HandlerOptions{Level: level}
	w = masking{w}
	if format == "json" {
		return slog.NewJSONHandler(w, o)
	}
	return slog.NewTextHandler(prefixed{w}, o)
}

// prefixed begins each line with kvwire's name, as all that kvwire says on standard error: launchers tell its words by that from others'.
type prefixed struct{ w io.Writer }

// Write is io.Writer's. slog writes a line at a time.
func (n prefixed) Write(line []byte) (int, error) {
	if _, err := n.w.Write(append([]byte("kvwire: "), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// Bounds of the log: records of a kind in a second, and kinds that are told apart. A kind is a message, which names nobody.
const (
	logsPerSecond = 5
	logKinds      = 256
)

// limited passes on at most logsPerSecond records of a kind within a second. The next one of that kind says how many it did not pass on. Any
// number of goroutines may use it.
type limited struct {
	to    slog.Handler
	kinds *kinds
}

type kinds struct {
	sync.Mutex
	of map[string]*kind
}

// kind is what has come of one message.
type kind struct {
	since      time.Time // the second began
	passed     int       // within it
	suppressed int       // since the last one that passed
}

var _ slog.Handler = limited{}

func newLimited(to slog.Handler) limited { return limited{to, &kinds{of: map[string]*kind{}}} }

// Enabled is slog.Handler's.
func (l limited) Enabled(ctx context.Context, level slog.Level) bool { return l.to.Enabled(ctx, level) }

// Handle is slog.Handler's. The clock is the records' own.
func (l limited) Handle(ctx context.Context, r slog.Record) error {
	suppressed, ok := l.kinds.pass(r.Message, r.Time)
	if !ok {
		return nil
	}
	if suppressed > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("suppressed", suppressed))
	}
	return l.to.Handle(ctx, r)
}

func (k *kinds) pass(message string, now time.Time) (suppressed int, ok bool) {
	k.Lock()
	defer k.Unlock()
	m := k.of[message]
	if m == nil {
		if len(k.of) >= logKinds {
			message = "" // all others together
			m = k.of[message]
		}
		if m == nil {
			m = &kind{since: now}
			k.of[message] = m
		}
	}
	if d := now.Sub(m.since); d >= time.Second || d < 0 { // below 0: the clock was set
		m.since, m.passed = now, 0
	}
	if m.passed == logsPerSecond {
		m.suppressed++
		return 0, false
	}
	m.passed++
	suppressed, m.suppressed = m.suppressed, 0
	return suppressed, true
}

// WithAttrs is slog.Handler's.
func (l limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limited{l.to.WithAttrs(attrs), l.kinds}
}

// WithGroup is slog.Handler's.
func (l limited) WithGroup(name string) slog.Handler { return limited{l.to.WithGroup(name), l.kinds} }

// checkLogging checks what the flags' own types do not.
func (f *factors) checkLogging() error {
	if f.logging.format != "text" && f.logging.format != "json" {
		return usagef("--log-format %q is unknown (text or json)", f.logging.format)
	}
	return nil
}
