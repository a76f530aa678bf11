package main

import (
	"fmt"
	"os"
	"time"

	"github.com/kvwire/kvwire/bench"
	"golang.org/x/sys/unix"
)

// progress writes one line to a terminal again and again, and nothing elsewhere: there, a line per
// finished run is enough. All on stderr.
type progress struct {
	terminal bool
	shown    bool
	prefix   string
}

func newProgress(prefix string) *progress {
	_, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS)
	return &progress{terminal: err == nil, prefix: prefix}
}

// show is for bench.Run and bench.Load.
func (p *progress) show(s bench.Progress) {
	if !p.terminal {
		return
	}
	left := ""
	switch {
	case s.Records > 0 && s.OpsPerS > 0:
		left = fmt.Sprintf("%d %%, %v left", 100*s.Ops/s.Records, time.Duration(float64(s.Records-min(s.Ops, s.Records))/s.OpsPerS*1e9).Round(time.Second))
	case s.Total > 0:
		left = fmt.Sprintf("%v left", max(0, s.Total-s.Elapsed).Round(time.Second))
	}
	p.line("%s%-8s %s, %.0f/s", p.prefix, s.Phase, left, s.OpsPerS)
}

func (p *progress) line(format string, args ...any) {
	if p.terminal {
		fmt.Fprintf(os.Stderr, "\r\033[K"+format, args...)
		p.shown = true
	}
}

// clear takes the line away, before something else is written.
func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(os.Stderr, "\r\033[K")
		p.shown = false
	}
}
