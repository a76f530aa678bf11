// Package experiment owns the files of an experiment. It reads experiment.yaml, which gives the flags of the runs and their values, and claims.yaml.
// It expands the values to cells and groups these into questions. It has no list of flags: the caller passes their names and functions that check their values.
// It is separate from lab because reading a file needs no code that measures cells, and it is the only package that parses YAML.
// Of kvwire's packages it may import only internal ones.
package experiment

import (
	"slices"
	"strings"
	"time"
)

// Experiment is one file, checked and unfolded.
type Experiment struct {
	Name        string   // lower case, digits and dashes; default: the folder's name
	Description string   // free text; "": none
	Require     []string // transports without which nothing is to be run; each one is among the cells'
	Axes        []string // the flags that sweep, transport first, then in the order of the file

	Generations int           // times that all variants of a question are started and measured; 0: not set
	Time        time.Duration // that a question is measured for, all its generations together; 0: not set
	Slice       time.Duration // counted window of a slice; SliceWhole: each cell by itself, in one piece; 0: not set
	Until       float64       // ratio: measuring stops when all intervals have at most this half-width; 0: no such rule
	Matters     float64       // ratio: the least difference that counts; 0: not set
	Interaction []string      // two flags that sweep, one of them Compare; none: no interaction is computed

	Compare    string   // the axis whose values are compared, the first with each of the others; "" when nothing sweeps
	Primary    *Primary // the claims that the experiment is made for; nil: it explores
	Thresholds []Threshold
	Stages     *Stages // cells that have whole runs of their own, to see where a request's time goes; nil: none
	Cells      []Cell  // 1 … MaxCells, baseline first: the first value of each list; the last axis changes fastest

	keys        []key    // that set flags of cells
	variants    []string // flags that belong to what is compared: Compare, and those that only some of its values have
	onlyPrimary bool
}

// key is a key of the file that sets a flag of the cells from one index up to another one.
type key struct {
	name     string
	from, to int
	place    Error // of the key, without a message
}

// Unused returns an error for the first key of the file that applies to none of its cells. reduced are the cells of the file, in its order, from which the caller has
// removed the flags without effect. where describes the cells to which a flag applies.
func (x *Experiment) Unused(reduced []Cell, where func(flag string) string) error {
	for _, k := range x.keys {
		if !slices.ContainsFunc(reduced[k.from:k.to], func(c Cell) bool { _, has := c.Get(k.name); return has }) {
			e := k.place
			e.Message = k.name + " applies to no cell of this key: it needs " + where(k.name) + " (leave it out)"
			return &e
		}
	}
	return nil
}

// Cell is the flags of one run: transport first, then in the order of the file.
type Cell []Flag

// Flag is a flag and its value, both as written in the file: "value-bytes", "64KiB".
type Flag struct{ Name, Value string }

// Primary chooses the comparisons that are primary claims, which get verdicts.
type Primary struct {
	Metrics []string // as written in the file; the caller checks them
	Where   []Values // a question is primary if each of these flags has one of the values
}

// Threshold is a bound on a metric of cells.
type Threshold struct {
	Metric      string // as written in the file, like the bounds
	Least, Most string // "": none; there is one at least
	Where       []Values
	File        string // that has the threshold, and its line
	Line        int
}

// Concerns reports whether the threshold applies to a cell.
func (t *Threshold) Concerns(c Cell) bool { return has(c, t.Where) }

// Stages chooses the cells, and the share of their requests, whose stages are recorded.
type Stages struct {
	OneIn int // 1 or more
	Where []Values
}

// Concerns reports whether a cell's stages are recorded.
func (s *Stages) Concerns(c Cell) bool { return s != nil && has(c, s.Where) }

// Sweeps reports whether the experiment has several values of a flag.
func (x *Experiment) Sweeps(flag string) bool { return slices.Contains(x.Axes, flag) }

// Values are a flag and some of its values.
type Values struct {
	Name   string
	Values []string
}

// Has reports whether a question is primary.
func (p *Primary) Has(question Cell) bool {
	return p != nil && has(question, p.Where)
}

func has(c Cell, where []Values) bool {
	for _, w := range where {
		if v, ok := c.Get(w.Name); !ok || !slices.Contains(w.Values, v) {
			return false
		}
	}
	return true
}

// Get is a flag's value, and whether the cell sets it.
func (c Cell) Get(name string) (string, bool) {
	for _, f := range c {
		if f.Name == name {
			return f.Value, true
		}
	}
	return "", false
}

// Args is the cell as command line arguments: --name=value.
func (c Cell) Args() []string {
	args := make([]string, len(c))
	for i, f := range c {
		args[i] = "--" + f.Name + "=" + f.Value
	}
	return args
}

// String is the cell as a person would type it.
func (c Cell) String() string { return strings.Join(c.Args(), " ") }

// Flags are the flags that an experiment may set, by name without dashes in front.
type Flags map[string]Rule

// Rule is what an experiment may do with a flag.
type Rule struct {
	// Parse returns the normal form of a value (1KiB and 1024 are the same size), or what is wrong with it.
	Parse func(value string) (normal string, err error)

	OfTransport bool // it belongs to single transports: in a comparison of transports it may differ
}

// transportFlag is the flag whose values overrides and require name.
const transportFlag = "transport"
