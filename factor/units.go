package factor

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/kvwire/kvwire/bench"
)

// Values as users write them: sizes (64KiB, 1MB, 4096), counts (50k, 4M) and lists of CPUs (0,2-3).

// units of sizes and counts, longest suffix first. A bare k, M, G or T is decimal for counts and, as everywhere in
// storage flags, binary for sizes.
var (
	sizeUnits = []unit{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
		{"B", 1}, {"k", 1 << 10}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40}}
	countUnits = []unit{{"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}}
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
	v, err := ParseDecimal(number)
	if err != nil || v < 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0, fmt.Errorf("%q is not a %s (such as %s)", s, what, example)
	}
	return v * factor, nil
}

// ParseDecimal is strconv.ParseFloat without its hexadecimal numbers and underscores.
func ParseDecimal(s string) (float64, error) {
	if strings.ContainsAny(s, "xX_") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(s, 64)
}

// Bytes is a size in bytes.
type Bytes int

// Set implements pflag.Value.
func (b *Bytes) Set(s string) error {
	v, err := parseUnits(s, sizeUnits, "size", "64, 4KiB, 1MB")
	if err != nil {
		return err
	}
	if v != math.Trunc(v) || v > 1<<50 {
		return fmt.Errorf("%q is not a whole number of bytes below 1 PiB", s)
	}
	*b = Bytes(v)
	return nil
}

// String implements pflag.Value: the size as a person would write it.
func (b *Bytes) String() string {
	v := int(*b)
	for _, u := range []unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if f := int(u.factor); v >= f && v%f == 0 {
			return strconv.Itoa(v/f) + u.suffix
		}
	}
	return strconv.Itoa(v)
}

// Type implements pflag.Value.
func (b *Bytes) Type() string { return "size" }

// Sizes is a list of sizes, each with a weight: 60,360:2,4KiB. The weight is 1 unless it is given.
type Sizes []bench.Size

// Set implements pflag.Value. It sorts the list, smallest size first.
func (l *Sizes) Set(s string) error {
	if *l = nil; s == "" {
		return nil
	}
	var list Sizes
	for part := range strings.SplitSeq(s, ",") {
		text, weight, weighted := strings.Cut(strings.TrimSpace(part), ":")
		var size Bytes
		if err := size.Set(text); err != nil {
			return err
		}
		z := bench.Size{Bytes: int(size), Weight: 1}
		if weighted {
			n, err := strconv.Atoi(weight)
			if err != nil {
				return fmt.Errorf("%q: the weight is not a whole number (such as 60,360:2,4KiB)", part)
			}
			z.Weight = n
		}
		list = append(list, z)
	}
	slices.SortFunc(list, func(a, b bench.Size) int { return a.Bytes - b.Bytes })
	*l = list
	return bench.CheckSizes(list)
}

// String implements pflag.Value: the sizes in bytes.
func (l *Sizes) String() string {
	var parts []string
	for _, z := range *l {
		text := strconv.Itoa(z.Bytes)
		if z.Weight != 1 {
			text += ":" + strconv.Itoa(z.Weight)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ",")
}

// Type implements pflag.Value.
func (l *Sizes) Type() string { return "sizes" }

// Count is a whole number: of records, operations and so on.
type Count float64

// Set implements pflag.Value.
func (c *Count) Set(s string) error {
	v, err := parseUnits(s, countUnits, "count", "1000, 50k, 4M")
	if err != nil {
		return err
	}
	if v != math.Trunc(v) {
		return fmt.Errorf("%q is not a whole number", s)
	}
	*c = Count(v)
	return nil
}

// String implements pflag.Value.
func (c *Count) String() string { return strconv.FormatFloat(float64(*c), 'f', -1, 64) }

// Type implements pflag.Value.
func (c *Count) Type() string { return "count" }

// Rate is a number per second. It may be below 1.
type Rate float64

// Set implements pflag.Value.
func (r *Rate) Set(s string) error {
	v, err := parseUnits(s, countUnits, "rate", "1000, 50k, 0.5")
	if err == nil {
		*r = Rate(v)
	}
	return err
}

// String implements pflag.Value.
func (r *Rate) String() string { return strconv.FormatFloat(float64(*r), 'f', -1, 64) }

// Type implements pflag.Value.
func (r *Rate) Type() string { return "rate" }

// Percent is a share: 3% or 0.03.
type Percent float64

// Set implements pflag.Value.
func (p *Percent) Set(s string) error {
	v, err := parseShare(s)
	if err != nil || !(v >= 0.001 && v <= 0.5) {
		return fmt.Errorf("%q is not a share from 0.1%% to 50%%, such as 3%%", s)
	}
	*p = Percent(v)
	return nil
}

// parseShare parses 3% or 0.03.
func parseShare(s string) (float64, error) {
	text, percent := strings.CutSuffix(s, "%")
	v, err := ParseDecimal(strings.TrimSpace(text))
	if percent {
		v /= 100
	}
	return v, err
}

// String implements pflag.Value.
func (p *Percent) String() string {
	if *p == 0 {
		return ""
	}
	return (*Share)(p).String()
}

// Type implements pflag.Value.
func (p *Percent) Type() string { return "percent" }

// Share is a share that may be 0: 0.1% or 0.001.
type Share float64

// Set implements pflag.Value.
func (p *Share) Set(s string) error {
	v, err := parseShare(s)
	if err != nil || !(v >= 0 && v <= 1) {
		return fmt.Errorf("%q is not a share, such as 0.1%%", s)
	}
	*p = Share(v)
	return nil
}

// String implements pflag.Value.
func (p *Share) String() string { return strconv.FormatFloat(100*float64(*p), 'g', 6, 64) + "%" }

// Type implements pflag.Value.
func (p *Share) Type() string { return "share" }

// ParseRate reads a rate in operations per second.
func ParseRate(text string) (float64, error) {
	return parseUnits(text, countUnits, "rate", "50k, 1.5M")
}

// CPUs is a list of CPUs; empty: any. Its default depends on the machine: see Or.
type CPUs []int

// unset marks a flag that the user did not give.
var unset = CPUs{-1}

// Or returns the list. If the user gave none, it first sets the list to def.
func (c *CPUs) Or(def CPUs) CPUs {
	if slices.Equal(*c, unset) {
		*c = def
	}
	return *c
}

// Set implements pflag.Value.
func (c *CPUs) Set(s string) error {
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
			return fmt.Errorf("%q is not a list of CPUs (such as 0,2-3, or any)", s)
		}
		for i := a; i <= b; i++ {
			*c = append(*c, i)
		}
	}
	slices.Sort(*c)
	*c = slices.Compact(*c)
	return nil
}

// String implements pflag.Value.
func (c *CPUs) String() string {
	if len(*c) == 0 {
		return "any"
	}
	var parts []string
	for _, n := range *c {
		parts = append(parts, strconv.Itoa(n))
	}
	return strings.Join(parts, ",")
}

// Type implements pflag.Value.
func (c *CPUs) Type() string { return "cpus" }

// Checks is the share of answers that a load checks: each, none, or one in so many (sample=64). The number is that of bench.Spec.VerifyOneIn.
type Checks int

// sampleOneIn is the sample without a number.
const sampleOneIn = 64

// Set implements pflag.Value.
func (c *Checks) Set(s string) error {
	oneIn, sampled := strings.CutPrefix(s, "sample=")
	n, err := strconv.Atoi(oneIn)
	switch {
	case s == "all":
		*c = 0
	case s == "none":
		*c = -1
	case s == "sample":
		*c = sampleOneIn
	case sampled && err == nil && n >= 2 && n <= 1e9:
		*c = Checks(n)
	default:
		return fmt.Errorf("%q is neither all, none, sample nor sample=N, N from 2 to 1000000000", s)
	}
	return nil
}

// String implements pflag.Value.
func (c *Checks) String() string {
	switch n := int(*c); {
	case n < 0:
		return "none"
	case n <= 1:
		return "all"
	default:
		return "sample=" + strconv.Itoa(n)
	}
}

// Type implements pflag.Value.
func (c *Checks) Type() string { return "checks" }

// Speed is the factor by which a trace is replayed faster than it was recorded.
type Speed float64

// Set implements pflag.Value.
func (v *Speed) Set(s string) error {
	n, err := ParseDecimal(strings.TrimSuffix(s, "x"))
	if err != nil || !(n >= 0.001 && n <= 1e6) {
		return fmt.Errorf("%q is not a speed from 0.001x to 1000000x (such as 2x or 0.5x)", s)
	}
	*v = Speed(n)
	return nil
}

// String implements pflag.Value.
func (v *Speed) String() string { return strconv.FormatFloat(float64(*v), 'f', -1, 64) + "x" }

// Type implements pflag.Value.
func (v *Speed) Type() string { return "speed" }
