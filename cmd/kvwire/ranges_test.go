package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"math/big"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/spf13/pflag"
)

// helpOf is what a command prints for --help-all, which ends it before it does anything.
func helpOf(t *testing.T, c command) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	text := make(chan string)
	go func() { b, _ := io.ReadAll(r); text <- string(b) }()
	err = tryFlags(w, c, "--help-all")
	_ = w.Close()
	if !errors.Is(err, pflag.ErrHelp) {
		t.Fatalf("%s --help-all: %v", c.name, err)
	}
	return <-text
}

// tryFlags runs a command, whose output goes to w.
func tryFlags(w *os.File, c command, args ...string) error {
	stdout := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = stdout }()
	return c.run(context.Background(), args)
}

var flagLine = regexp.MustCompile(`(?m)^\s+--([a-z0-9-]+) (int|uint|duration|size|count|rate|speed|share)\b`)

// newBenchFactors are the flags of bench.
func newBenchFactors() *factors {
	f := newFactors("bench", benchHelp)
	f.benchFlags()
	factor.Limit(f.set, spans)
	return f
}

// Of each numeric flag of each command both ends of its range are accepted, and what lies beyond is a usage error. --help
// behind the flag ends the command once its flags are read.
func TestEveryNumericFlagHasARange(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	found, all := map[string]bool{}, allSpans()
	for _, c := range commands {
		if c.name == "launched" || c.name == "complete" { // take no flags
			continue
		}
		var names []string
		for _, m := range flagLine.FindAllStringSubmatch(helpOf(t, c), -1) {
			names = append(names, m[1])
		}
		switch c.name { // what help does not show
		case "run":
			names = append(names, "blocks")
		case "bench":
			names = append(names, factor.All.Names(func(f *factor.Factor) bool { return f.Hidden && f.Range != (factor.Span{}) })...)
		}
		for _, name := range names {
			s, ok := all[name]
			if !ok {
				t.Errorf("%s --%s has no range", c.name, name)
				continue
			}
			found[name] = true
			try := func(value string) error { return tryFlags(null, c, "--"+name+"="+value, "--help") }
			for _, v := range []string{s.Least, s.Most} {
				if err := try(v); !errors.Is(err, pflag.ErrHelp) {
					t.Errorf("%s --%s=%s, an end of its range: %v", c.name, name, v, err)
				}
			}
			bad := []string{beyond(t, s.Most, 1), "99999999999999999999999999", "1e30", "2562048h", "-1", "-1ns", "-9223372036854775808",
				"NaN", "nan", "inf", "+Inf", "0x10", "0o17", "1_0", "", " ", "1e", "٣"}
			if below := beyond(t, s.Least, -1); below != "" {
				bad = append(bad, below)
			}
			for _, v := range bad {
				err := try(v)
				if exit.Code(err) != exit.Usage || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s --%s=%s: %v, want a usage error of one line", c.name, name, v, err)
				}
			}
		}
	}
	for name := range all {
		if !found[name] {
			t.Errorf("the range of --%s is of no flag", name)
		}
	}
}

// allSpans are the ranges of all flags.
func allSpans() map[string]factor.Span {
	all := maps.Clone(spans)
	for _, f := range factor.All {
		if f.Range != (factor.Span{}) {
			all[f.Name] = f.Range
		}
	}
	return all
}

// beyond is the value next to an end of a range, in the end's own unit; "" below 0.
func beyond(t *testing.T, end string, step int64) string {
	t.Helper()
	digits := strings.TrimRight(end, "KMGTiBxhmnus%")
	if strings.Contains(digits, ".") {
		return "0.0009x"
	}
	n, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		t.Fatalf("%q is no number with a unit", end)
	}
	n.Add(n, big.NewInt(step))
	if n.Sign() < 0 {
		return ""
	}
	if step < 0 && n.Sign() == 0 {
		return "0"
	}
	return n.String() + end[len(digits):]
}

// Numbers are decimal: a leading zero does not make them octal, wherever they are set.
func TestALeadingZeroIsDecimal(t *testing.T) {
	for flag, want := range map[string]string{"conns=010": "10", "depth=+0016": "16", "seed=010": "10", "value-bytes=010KiB": "10KiB", "records=0100": "100", "stages=00": "0"} {
		name, value, _ := strings.Cut(flag, "=")
		f := newBenchFactors()
		if err := f.set.Set(name, value); err != nil {
			t.Errorf("--%s: %v", flag, err)
		} else if got := f.set.Lookup(name).Value.String(); got != want {
			t.Errorf("--%s is %s, want %s", flag, got, want)
		}
	}
}

// Every factor of an experiment may be at either end of its range: the cell is run, or refused in one line.
func TestCellsAtTheEndsOfRanges(t *testing.T) {
	for name, s := range allSpans() {
		if newBenchFactors().set.Lookup(name) == nil {
			continue
		}
		for _, v := range []string{s.Least, s.Most} {
			f := newBenchFactors()
			if err := f.parse([]string{"--" + name + "=" + v, "--loop=open", "--target-per-s=1"}, nil); err != nil {
				t.Errorf("--%s=%s: %v", name, v, err)
				continue
			}
			_, err := f.Prepare()
			if err == nil {
				_, err = f.Plan()
			}
			if err == nil {
				c := f.Facts().Data
				if c.Load < 0 || c.Bytes < 0 || c.Extra < 0 {
					t.Errorf("--%s=%s: an estimate below 0: %+v", name, v, c)
				}
			}
			if err != nil && (exit.Code(err) != exit.Usage || strings.Contains(err.Error(), "\n")) {
				t.Errorf("--%s=%s: %v, want a usage error of one line", name, v, err)
			}
		}
	}
}
