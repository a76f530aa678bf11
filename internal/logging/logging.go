// Package logging owns the log of commands: flags for its format and level, a bound on repeated messages, and no secrets of URLs. It may import internal/exit and
// internal/quote.
package logging

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/spf13/pflag"
)

// Options are the format and the level of a log. The zero value is text, and records of level info and above.
type Options struct {
	Format string
	Level  slog.Level
}

// Bind adds the flags of a log, whose defaults are those of the zero value.
func (o *Options) Bind(set *pflag.FlagSet) {
	*o = Options{}
	set.StringVar(&o.Format, "log-format", "text", "format of the log on standard error: text or json")
	set.Var((*levelFlag)(&o.Level), "log-level", "lowest level that is logged: debug, info, warn or error. At most five messages of a kind are logged "+
		"in a second, and the next one has the number of those left out")
}

// Check checks what the flags' own types do not.
func (o *Options) Check() error {
	if o.Format != "text" && o.Format != "json" {
		return exit.Usagef("--log-format %q is unknown (text or json)", o.Format)
	}
	return nil
}

// Args are the flags with these values, for another process.
func (o *Options) Args() []string {
	return []string{"--log-format=" + o.Format, "--log-level=" + (*levelFlag)(&o.Level).String()}
}

// New returns a logger that writes to w. It limits the records of each kind.
func (o *Options) New(w io.Writer) *slog.Logger { return slog.New(newLimited(o.handler(w))) }

// levelFlag is a slog.Level as a flag.
type levelFlag slog.Level

var _ pflag.Value = (*levelFlag)(nil)

// Set implements pflag.Value.
func (l *levelFlag) Set(s string) error {
	if err := (*slog.Level)(l).UnmarshalText([]byte(s)); err != nil {
		return fmt.Errorf("%q is unknown (debug, info, warn or error)", s)
	}
	return nil
}

// String implements pflag.Value.
func (l *levelFlag) String() string { return strings.ToLower(slog.Level(*l).String()) }

// Type implements pflag.Value.
func (l *levelFlag) Type() string { return "level" }

// handler writes records to w, one line each.
func (o *Options) handler(w io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: o.Level}
	if o.Format == "json" {
		return slog.NewJSONHandler(line{w, ""}, options)
	}
	return slog.NewTextHandler(line{w, "kvwire: "}, options)
}

// line writes a log's lines without the secrets of URLs, each behind a prefix. Launchers recognize kvwire's lines on standard error by that prefix.
type line struct {
	w      io.Writer
	prefix string
}

// Write implements io.Writer. slog writes one line at a time.
func (l line) Write(text []byte) (int, error) {
	if _, err := io.WriteString(l.w, l.prefix+quote.URLs(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// Bounds of the log: records of a kind in a second, and the number of kinds that are counted separately. A kind is a message without its attributes.
const (
	logsPerSecond = 5
	logKinds      = 256
)

// limited passes on at most logsPerSecond records of a kind within a second. The next record of that kind has the number of suppressed ones. Any
// goroutine may use it.
type limited struct {
	to    slog.Handler
	kinds *kinds
}

type kinds struct {
	sync.Mutex
	of map[string]*kind
}

// kind counts the records of one message.
type kind struct {
	since      time.Time // when the second began
	passed     int       // within it
	suppressed int       // since the last record that passed
}

var _ slog.Handler = limited{}

func newLimited(to slog.Handler) limited { return limited{to, &kinds{of: map[string]*kind{}}} }

// Enabled implements slog.Handler.
func (l limited) Enabled(ctx context.Context, level slog.Level) bool { return l.to.Enabled(ctx, level) }

// Handle implements slog.Handler. Its clock is the time of the records.
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
			message = "" // one kind for all others
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

// WithAttrs implements slog.Handler.
func (l limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limited{l.to.WithAttrs(attrs), l.kinds}
}

// WithGroup implements slog.Handler.
func (l limited) WithGroup(name string) slog.Handler { return limited{l.to.WithGroup(name), l.kinds} }
