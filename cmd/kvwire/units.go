package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Values as people write them: sizes (64KiB, 1MB, 4096), counts (50k, 4M) and lists of CPUs (0,2-3).

// units of sizes and counts, longest suffix first. A bare k, M or G is decimal for counts and, as everywhere in
// storage flags, binary for sizes.
var (
	sizeUnits = []unit{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
		{"B", 1}, {"k", 1 << 10}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}}
	countUnits = []unit{{"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}}
)

type unit struct {
	suffix string
	factor float64
}

func parseUnits(s string, units []unit, what, example string) (float64, error) {
	number, factor := s, 1.0
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	v, err := parseDecimal(number)
	if err != nil || v < 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0, fmt.Errorf("%q is no %s (such as %s)", s, what, example)
	}
	return v * factor, nil
}

// parseDecimal is strconv.ParseFloat without its hexadecimal numbers and underscores.
func parseDecimal(s string) (float64, error) {
	if strings.ContainsAny(s, "xX_") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(s, 64)
}

// bytesFlag is a size in bytes.
type bytesFlag int

// Set is pflag.Value's.
func (b *bytesFlag) Set(s string) error {
	v, err := parseUnits(s, sizeUnits, "size", "64, 4KiB, 1MB")
	if err != nil {
		return err
	}
	if v != math.Trunc(v) || v > 1<<50 {
		return fmt.Errorf("%q is not a whole number of bytes below 1 PiB", s)
	}
	*b = bytesFlag(v)
	return nil
}

// String is pflag.Value's: as a person would write it.
func (b *bytesFlag) String() string {
	v := int(*b)
	for _, u := range []unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if f := int(u.factor); v >= f && v%f == 0 {
			return strconv.Itoa(v/f) + u.suffix
		}
	}
	return strconv.Itoa(v)
}

// Type is pflag.Value's.
func (b *bytesFlag) Type() string { return "size" }

// countFlag is a number of things.
type countFlag float64

// Set is pflag.Value's.
func (c *countFlag) Set(s string) error {
	v, err := parseUnits(s, countUnits, "count", "1000, 50k, 4M")
	if err != nil {
		return err
	}
	if v != math.Trunc(v) {
		return fmt.Errorf("%q is not a whole number", s)
	}
	*c = countFlag(v)
	return nil
}

// String is pflag.Value's.
func (c *countFlag) String() string { return strconv.FormatFloat(float64(*c), 'f', -1, 64) }

// Type is pflag.Value's.
func (c *countFlag) Type() string { return "count" }

// rateFlag is how many there are in a second, which may be less than one.
type rateFlag float64

// Set is pflag.Value's.
func (r *rateFlag) Set(s string) error {
	v, err := parseUnits(s, countUnits, "rate", "1000, 50k, 0.5")
	if err == nil {
		*r = rateFlag(v)
	}
	return err
}

// String is pflag.Value's.
func (r *rateFlag) String() string { return strconv.FormatFloat(float64(*r), 'f', -1, 64) }

// Type is pflag.Value's.
func (r *rateFlag) Type() string { return "rate" }

// percentFlag is a share: 3% or 0.03.
type percentFlag float64

// Set is pflag.Value's.
func (p *percentFlag) Set(s string) error {
	text, percent := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0.001 && v <= 0.5) {
		return fmt.Errorf("%q is not a share from 0.1%% to 50%%, such as 3%%", s)
	}
	*p = percentFlag(v)
	return nil
}

// String is pflag.Value's.
func (p *percentFlag) String() string {
	if *p == 0 {
		return ""
	}
	return strconv.FormatFloat(100*float64(*p), 'g', 6, 64) + "%"
}

// Type is pflag.Value's.
func (p *percentFlag) Type() string { return "percent" }

// cpusFlag is a list of CPUs.
type cpusFlag []int

// Set is pflag.Value's.
func (c *cpusFlag) Set(s string) error {
	*c = nil
	if s == "" || s == "any" {
		return nil
	}
	for _, part := range strings.Split(s, ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		if !isRange {
			hi = lo
		}
		a, err1 := strconv.Atoi(lo)
		b, err2 := strconv.Atoi(hi)
		if err1 != nil || err2 != nil || a < 0 || b < a || b > 1023 {
			return fmt.Errorf("%q is no list of CPUs (such as 0,2-3, or any)", s)
		}
		for i := a; i <= b; i++ {
			*c = append(*c, i)
		}
	}
	slices.Sort(*c)
	*c = slices.Compact(*c)
	return nil
}

// String is pflag.Value's.
func (c *cpusFlag) String() string {
	if len(*c) == 0 {
		return "any"
	}
	var parts []string
	for _, n := range *c {
		parts = append(parts, strconv.Itoa(n))
	}
	return strings.Join(parts, ",")
}

// Type is pflag.Value's.
func (c *cpusFlag) Type() string { return "cpus" }
