package main

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/report"
	"github.com/spf13/pflag"
)

// A span is the least and the largest value of a flag, as a user writes them. Both are accepted.
type span struct{ least, most string }

// longest is bench.WindowMax, as users write it.
var longest = fmt.Sprintf("%dh", bench.WindowMax/time.Hour)

// spans are the ranges of all flags whose values are numbers, sizes or durations. Where 0 has a special meaning, the flag's help states it.
var spans = map[string]span{
	"server-threads": {"0", "256"}, "net-loops": {"0", "256"}, "store-loops": {"0", "256"},
	"spin-max":   {"1ns", "10s"},
	"disk-depth": {"1", "32768"}, "disk-batch": {"0", "32768"}, "disk-wait": {"0", "32768"}, "disk-wait-max": {"1ns", "10s"},
	"raw-bytes": {"4KiB", "1024TiB"}, "cache-bytes": {"256KiB", "1024TiB"}, "null-busy": {"0s", "10ms"}, "null-delay": {"0s", "10ms"},

	"rdma-slot-bytes": {"256", "1MiB"}, "rdma-inline-bytes": {"0", "1KiB"}, "rdma-signal-every": {"1", "64"}, "rdma-post-batch": {"1", "64"},
	"rdma-mtu": {"256", "4096"}, "rdma-traffic-class": {"0", "255"}, "rdma-service-level": {"0", "15"}, "rdma-export-bytes": {"4KiB", "1TiB"},

	"tcp-send-bytes": {"0", "1GiB"}, "tcp-receive-bytes": {"0", "1GiB"}, "tcp-busy-poll": {"0s", "1s"}, "tcp-zerocopy-bytes": {"0", "1GiB"},

	"uring-buffers": {"1", "32768"}, "uring-buffer-bytes": {"64", "1MiB"}, "uring-body-bytes": {"1", "1GiB"}, "uring-zerocopy-bytes": {"1", "1GiB"},
	"uring-napi": {"0s", "1s"},

	"records": {"1", "1099511627776"}, "key-bytes": {"1", "1KiB"}, "value-bytes": {"0", "16MiB"}, "value-min-bytes": {"0", "16MiB"},
	"scan-items": {"1", "10000"}, "seed": {"0", "18446744073709551615"},
	"conns": {"1", "65536"}, "depth": {"1", "1024"}, "client-threads": {"1", "1024"},
	"target-per-s": {"0.001", "1G"}, "duration": {"1us", longest}, "operations": {"0", "1099511627776"}, "warmup": {"0s", longest}, "stages": {"0", "1000000000"},
	"trace-speed": {"0.001x", "1000000x"},

	"max-conns": {"1", "1048576"}, "max-depth": {"1", "1024"}, "max-key-bytes": {"1", "1KiB"}, "max-value-bytes": {"0", "16MiB"},
	"connection-memory": {"0", "1TiB"}, "message-memory": {"0", "1TiB"},
	"hello-deadline": {"1ms", "24h"}, "stall-deadline": {"1ms", "24h"}, "idle-deadline": {"0s", "8760h"}, "drain-deadline": {"0s", "24h"},

	"generations": {"0", "100"}, "blocks": {"0", "100"}, "slice": {"0s", "10s"}, "time": {"0s", "24h"}, "retry": {"0", "20"},

	"experiments": {"0", "10000"}, "injected": {"0", "10000"}, "injected-generations": {"1", "100"}, "pairs": {"0", "100"}, "whole": {"0", "100"},
}

// numeric has the types of flags that need a range, with their parsers.
var numeric = map[string]func(text string) (float64, error){
	"int": func(s string) (float64, error) {
		v, err := strconv.ParseInt(s, 10, 64)
		return float64(v), wholeNumber(s, err)
	},
	"uint64": func(s string) (float64, error) {
		v, err := strconv.ParseUint(s, 10, 64)
		return float64(v), wholeNumber(s, err)
	},
	"duration": func(s string) (float64, error) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration, such as 10s or 250ms", s)
		}
		return float64(d), nil
	},
	"size":  func(s string) (float64, error) { var b bytesFlag; err := b.Set(s); return float64(b), err },
	"count": func(s string) (float64, error) { var c countFlag; err := c.Set(s); return float64(c), err },
	"rate":  func(s string) (float64, error) { var r rateFlag; err := r.Set(s); return float64(r), err },
	"speed": func(s string) (float64, error) { var v speedFlag; err := v.Set(s); return float64(v), err },
}

// wholeNumber returns the error for a number that did not parse, or nil. Numbers are decimal: 010 is ten, and 0x10 is not a number.
func wholeNumber(s string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, strconv.ErrRange):
		return errOutOfRange
	}
	return fmt.Errorf("%q is not a whole decimal number", s)
}

var errOutOfRange = errors.New("out of range")

// ranged is a flag's value that accepts only values in its range.
type ranged struct {
	pflag.Value
	span
	number func(text string) (float64, error)
}

var _ pflag.Value = (*ranged)(nil)

// Set implements pflag.Value.
func (r *ranged) Set(s string) error {
	v, err := r.number(s)
	if errors.Is(err, errOutOfRange) {
		return fmt.Errorf("must be from %s to %s", r.least, r.most)
	}
	if err != nil {
		return err
	}
	least, err := r.number(r.least)
	most, err2 := r.number(r.most)
	if err := errors.Join(err, err2); err != nil {
		panic(err) // the table's
	}
	if v < least || v > most {
		return fmt.Errorf("must be from %s to %s", r.least, r.most)
	}
	if t := r.Type(); t == "int" || t == "uint64" { // pflag takes a leading 0 for octal
		s = cmp.Or(strings.TrimLeft(s, "+-0"), "0")
	}
	return r.Value.Set(s)
}

// limit sets the ranges of all numeric flags and adds them to the help. It may be called again.
func (f *factors) limit() {
	f.set.VisitAll(func(g *pflag.Flag) {
		if _, is := g.Value.(*ranged); is || numeric[g.Value.Type()] == nil {
			return
		}
		s, known := spans[g.Name]
		if !known {
			panic("kvwire: flag --" + g.Name + " has no range")
		}
		g.Value = &ranged{g.Value, s, numeric[g.Value.Type()]}
		g.Usage += " (" + s.least + " to " + s.most + ")"
	})
}

// mistake returns an error of the flag package in kvwire's words.
func mistake(err error) error {
	var v *pflag.InvalidValueError
	if errors.As(err, &v) {
		return fmt.Errorf("--%s %s: %w", v.GetFlag().Name, v.GetValue(), v.Unwrap())
	}
	return err
}

// reason returns the error of a flag's value, without the flag and the value.
func reason(err error) error {
	var v *pflag.InvalidValueError
	if errors.As(err, &v) {
		return v.Unwrap()
	}
	return err
}

// dataBytesMax bounds the keys and values of all records together: with a multiple of it, the sizes of files, indexes and estimates still fit 63 bits.
const dataBytesMax = 1 << 56

// checkAmounts refuses flags whose product no machine has, or of which this machine has less memory than they take.
func (f *factors) checkAmounts(s bench.Spec) error {
	if f.replay == nil && float64(s.Records)*float64(s.KeyBytes+s.ValueBytes) > dataBytesMax {
		return usagef("--records %s × (--key-bytes %s + --value-bytes %s): 64 PiB of keys and values at most", &f.records, &f.keyBytes, &f.valueBytes)
	}
	if len(f.launch.Clients) > 0 { // the memory of other machines: each looks at its own
		return nil
	}
	return fitsRequests(s)
}

// fitsRequests refuses more requests in flight than this machine has memory for.
func fitsRequests(s bench.Spec) error {
	each := s.RequestBytes()
	return fits(float64(s.Conns)*float64(s.Depth)*float64(each), fmt.Sprintf("--conns %d × --depth %d × %s for each request", s.Conns, s.Depth, report.Size(int64(each))))
}

// checkServerAmounts is checkAmounts for a server on this machine. The memory of connections and messages is a bound, whose pages are taken by their use: memory
// says where there is less.
func (f *factors) checkServerAmounts(p *loop.Plan) error {
	loops := float64(p.NetLoops)
	for _, n := range []struct {
		name  string
		bytes float64
		times float64
		on    bool
	}{
		{"cache-bytes", float64(f.cacheBytes), 1, f.onDisk()},
		{"rdma-export-bytes", float64(f.rdmaExportBytes), 1, f.transport == "rdma"},
		{"uring-buffers", float64(f.uring.options.Buffers) * float64(f.uring.options.BufferBytes), loops, f.uring.options.Multishot},
	} {
		if !f.sets(n.name) || !n.on {
			continue
		}
		what := fmt.Sprintf("--%s %s", n.name, f.set.Lookup(n.name).Value)
		if n.name == "uring-buffers" {
			what += " × --uring-buffer-bytes " + f.uring.bufferBytes.String()
		}
		if n.times > 1 {
			what += fmt.Sprintf(" × %d loops", p.NetLoops)
		}
		if err := fits(n.bytes*n.times, what); err != nil {
			return err
		}
	}
	return nil
}

// fits refuses what takes more bytes than this machine, or its control group, has memory.
func fits(need float64, what string) error {
	have, by, err := probe.Memory(probe.Local())
	if err != nil || need <= float64(have) {
		return nil // where the memory is not known, the kernel decides
	}
	return usagef("%s: %.1f GiB, and %s has %.1f GiB of memory: lower one of them", what, need/(1<<30), by, float64(have)/(1<<30))
}
