package experiment

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/kvwire/kvwire/internal/names"
	"github.com/kvwire/kvwire/internal/plural"
)

// ClaimsFile is the name of the file of claims that may lie next to an experiment's.
const ClaimsFile = "claims.yaml"

// Bounds of a file of claims. All comparisons of a file are decided together: with 10 generations the smallest exact p is
// 0.00195, of which Holm's method can reject 25.
const (
	MaxShown = 25
	maxWords = 1000 // bytes of a claim's text, or source
)

const noClaims = "claims must be a list: - {id: …, claim: …, source: …, metric: …, cells: {…}, expect: {…}}"

// Claim is a published statement about systems like these, with the cells of the experiment that test it.
type Claim struct {
	ID     string
	Text   string // the claim in words
	Source string // who made it, and where that is written
	Metric string // as written in the file; the caller checks it
	Expect Expectation
	Along  string  // the axis of a trend; "": none
	Beside bool    // one cell is compared with another
	Shown  []Shown // 1 …: each is a comparison of its own
	File   string  // that has the claim, and its line
	Line   int
}

// Shown are indexes of the experiment's Cells that show a claim: one cell, whose own value counts; two cells, of which the second is compared with the
// first; or all cells along an axis, of which the last is compared with the first.
type Shown []int

// Expectation is the claimed range of a ratio, or of one cell's own value.
type Expectation struct {
	Direction   string  // Higher, Lower, Same; "": there are only bounds
	Least, Most float64 // -Inf and +Inf: none
}

// The directions, of the metric's value: less latency is Lower.
const (
	Higher = "higher"
	Lower  = "lower"
	Same   = "same"
)

// LoadClaims reads a file of claims about x, whose flags are flags. A missing file means no claims, and is no error.
func LoadClaims(path string, x *Experiment, flags Flags) ([]Claim, error) {
	data, err := ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return ReadClaims(path, data, x, flags)
}

// ClaimsPath is where the claims about an experiment lie, given its own file: next to NAME/experiment.yaml. "": a file of another name
// has none.
func ClaimsPath(file string) string {
	if filepath.Base(file) != fileName {
		return ""
	}
	return filepath.Join(filepath.Dir(file), ClaimsFile)
}

// ReadClaims checks the text of a file of claims, and finds their cells; path is for messages. A mistake comes back as an
// *Error, the first one only.
func ReadClaims(path string, data []byte, x *Experiment, flags Flags) ([]Claim, error) {
	c := claims{reader: reader{file: path, flags: flags}, x: x, lines: map[string]int{}}
	all, err := c.read(data)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// claims reads a file of claims.
type claims struct {
	reader
	x     *Experiment
	lines map[string]int // line of each claim, by its ID
	shown int
}

func (c *claims) read(data []byte) ([]Claim, error) {
	if err := c.checkBounds(data); err != nil {
		return nil, err
	}
	root, err := c.parse(data)
	if err != nil {
		return nil, err
	}
	if len(root) == 0 { // {}, which is neither empty nor something else than claims
		return nil, &Error{File: c.file, Line: 1, Column: 1, Message: noClaims}
	}
	var all []Claim
	for _, p := range root {
		if p.key != "claims" {
			return nil, c.errorAt(p.at, "%q is unknown: a file of claims is `claims:` and a list", p.key)
		}
		list, ok := p.value.(*ast.SequenceNode)
		if !ok || len(list.Values) == 0 {
			return nil, c.errorAt(p.at, noClaims)
		}
		for _, n := range list.Values {
			claim, err := c.claim(n)
			if err != nil {
				return nil, err
			}
			all = append(all, claim)
		}
	}
	return all, nil
}

// claimKeys are the parts of a claim.
var claimKeys = []string{"id", "claim", "source", "metric", "cells", "beside", "along", "expect"}

func (c *claims) claim(n ast.Node) (claim Claim, err error) {
	pairs, err := c.mapping(n, "a claim")
	if err != nil {
		return claim, err
	}
	claim = Claim{File: c.file, Line: n.GetToken().Position.Line}
	parts := map[string]pair{}
	for _, p := range pairs {
		if !slices.Contains(claimKeys, p.key) {
			return claim, c.unknownPart(p, "a claim", claimKeys)
		}
		parts[p.key] = p
	}
	into := map[string]*string{"id": &claim.ID, "claim": &claim.Text, "source": &claim.Source, "metric": &claim.Metric, "along": &claim.Along}
	for _, p := range pairs {
		if to := into[p.key]; to != nil {
			if *to, err = c.words(p); err != nil {
				return claim, err
			}
		}
	}
	for _, key := range []string{"id", "claim", "source", "metric", "cells", "expect"} {
		if _, there := parts[key]; !there {
			return claim, c.errorAt(n.GetToken(), "a claim without %s", key)
		}
	}
	if err := c.id(&claim, parts["id"]); err != nil {
		return claim, err
	}
	if err := c.cells(&claim, parts); err != nil {
		return claim, err
	}
	claim.Expect, err = c.expect(parts["expect"], &claim)
	return claim, err
}

func (c *claims) unknownPart(p pair, of string, keys []string) error {
	if best := names.Nearest(p.key, keys); best != "" {
		return c.errorAt(p.at, "%q is not a key of %s; do you mean %q?", p.key, of, best)
	}
	return c.errorAt(p.at, "%q is not a key of %s (%s)", p.key, of, strings.Join(keys, ", "))
}

// words is a text that is not empty, on one line.
func (c *claims) words(p pair) (string, error) {
	s, err := c.text(p)
	if s = oneLine(s); err == nil && (s == "" || len(s) > maxWords) {
		err = c.errorAt(p.value.GetToken(), "%s: a text of 1 to %d bytes, not %d", p.key, maxWords, len(s))
	}
	return s, err
}

func (c *claims) id(claim *Claim, p pair) error {
	if !namePattern.MatchString(claim.ID) {
		return c.errorAt(p.value.GetToken(), "id %q must be 1 to 64 lower-case letters, digits and dashes", claim.ID)
	}
	if first := c.lines[claim.ID]; first > 0 {
		return c.errorAt(p.value.GetToken(), "id %q is there twice: first on line %d", claim.ID, first)
	}
	c.lines[claim.ID] = claim.Line
	return nil
}

// cells finds what shows a claim.
func (c *claims) cells(claim *Claim, parts map[string]pair) error {
	where, err := c.where(parts["cells"])
	if err != nil {
		return err
	}
	beside, compared := parts["beside"]
	at := parts["cells"].at
	switch {
	case compared && claim.Along != "":
		return c.errorAt(beside.at, "a claim has beside or along, not both")
	case compared:
		claim.Beside = true
		var base []Values
		if base, err = c.where(beside); err == nil {
			claim.Shown, err = c.besides(where, base, beside)
		}
	case claim.Along != "":
		claim.Shown, err = c.along(where, claim.Along, parts["along"].value.GetToken())
	default:
		for i := range c.x.Cells {
			if has(c.x.Cells[i], where) {
				claim.Shown = append(claim.Shown, Shown{i})
			}
		}
	}
	if err != nil {
		return err
	}
	if c.shown += len(claim.Shown); len(claim.Shown) == 0 || c.shown > MaxShown {
		return c.errorAt(at, "cells: they make %d comparisons, and all claims above together %d: choose 1 to %d in all", len(claim.Shown), c.shown-len(claim.Shown), MaxShown)
	}
	return nil
}

// where reads a mapping of flags to the values of cells.
func (c *claims) where(p pair) (all []Values, err error) {
	pairs, err := c.mapping(p.value, p.key)
	if err != nil {
		return nil, err
	}
	for _, q := range pairs {
		a, err := c.axis(q, "cells")
		if err != nil {
			return nil, err
		}
		for i, v := range a.values {
			if !slices.ContainsFunc(c.x.Cells, func(x Cell) bool { return has(x, []Values{{a.name, []string{v}}}) }) {
				return nil, c.errorAt(a.places[i], "%s: no cell has %s: %s", p.key, q.key, v)
			}
		}
		all = append(all, Values{a.name, a.values})
	}
	return all, nil
}

// besides pairs each cell with the one that differs from it in the flags of base alone. A flag that only one of the two has, such as
// RDMA's verb compared with TCP, is no difference.
func (c *claims) besides(where, base []Values, p pair) (all []Shown, err error) {
	var differ []string
	for _, b := range base {
		if len(b.Values) != 1 {
			return nil, c.errorAt(p.at, "beside: one value of %s, not %d", b.Name, len(b.Values))
		}
		differ = append(differ, b.Name)
	}
	for i, cell := range c.x.Cells {
		if !has(cell, where) {
			continue
		}
		var found Shown
		for k, other := range c.x.Cells {
			if k != i && has(other, base) && alike(cell, other, differ) {
				found = append(found, k)
			}
		}
		if len(found) != 1 {
			return nil, c.errorAt(p.at, "beside: %d cells match beside %s: name flags so that only one does", len(found), cell)
		}
		all = append(all, Shown{found[0], i})
	}
	return all, nil
}

// along puts cells together that differ in one flag alone, in the order of the file.
func (c *claims) along(where []Values, axis string, at *token.Token) (all []Shown, err error) {
	if !slices.Contains(c.x.Axes, axis) {
		return nil, c.errorAt(at, "along: %q is not one of the flags that sweep (%s)", axis, strings.Join(c.x.Axes, ", "))
	}
	for i, cell := range c.x.Cells {
		if _, there := cell.Get(axis); !there || !has(cell, where) {
			continue
		}
		k := slices.IndexFunc(all, func(s Shown) bool {
			return !slices.ContainsFunc(s, func(o int) bool { return !alike(cell, c.x.Cells[o], []string{axis}) })
		})
		if k < 0 {
			k = len(all)
			all = append(all, nil)
		}
		all[k] = append(all[k], i)
	}
	for _, s := range all {
		values := map[string]bool{}
		for _, i := range s {
			v, _ := c.x.Cells[i].Get(axis)
			values[v] = true
		}
		if len(s) < 2 || len(values) != len(s) {
			return nil, c.errorAt(at, "along: %s with %s of %s, among them %s: choose cells that differ in nothing else", plural.Of(len(s), "cell"), plural.Of(len(values), "value"), axis, c.x.Cells[s[0]])
		}
	}
	return all, nil
}

// alike reports whether two cells have the same values of all flags that both have, except the flags in but.
func alike(a, b Cell, but []string) bool {
	for _, f := range a {
		if v, both := b.Get(f.Name); both && v != f.Value && !slices.Contains(but, f.Name) {
			return false
		}
	}
	return true
}

// expect reads a direction and bounds, and checks that they do not contradict each other.
func (c *claims) expect(p pair, claim *Claim) (e Expectation, err error) {
	e = Expectation{Least: math.Inf(-1), Most: math.Inf(1)}
	pairs, err := c.mapping(p.value, p.key)
	if err != nil {
		return e, err
	}
	for _, q := range pairs {
		s, err := c.scalar(q.key, q.value)
		if err != nil {
			return e, err
		}
		switch q.key {
		case "direction":
			if e.Direction = s; !slices.Contains([]string{Higher, Lower, Same}, s) {
				return e, c.errorAt(q.value.GetToken(), "direction %q is unknown (%s, %s or %s)", s, Higher, Lower, Same)
			}
		case "least", "most":
			v, ok := number(s)
			if !ok {
				return e, c.errorAt(q.value.GetToken(), "%s %q is not a number above 0 (such as 1.8, or 1/64)", q.key, s)
			}
			if q.key == "least" {
				e.Least = v
			} else {
				e.Most = v
			}
		default:
			return e, c.unknownPart(q, "an expectation", []string{"direction", "least", "most"})
		}
	}
	if why := e.contradiction(claim); why != "" {
		return e, c.errorAt(p.at, "expect: %s", why)
	}
	return e, nil
}

// contradiction returns the reason why no value, or every value, meets an expectation; "": neither is the case.
func (e *Expectation) contradiction(claim *Claim) string {
	own := claim.Along == "" && !claim.Beside
	switch {
	case e.Direction == "" && math.IsInf(e.Least, 0) && math.IsInf(e.Most, 0):
		return "give a direction, least or most"
	case e.Least >= e.Most:
		return "least must be below most"
	case own && e.Direction != "":
		return "a cell's own value has least and most, and no direction (or give beside, or along)"
	case claim.Along != "" && e.Direction != Higher && e.Direction != Lower:
		return "along an axis the direction is higher or lower"
	case e.Direction == Higher && e.Most <= 1, e.Direction == Lower && e.Least >= 1, e.Direction == Same && (e.Least >= 1 || e.Most <= 1):
		return fmt.Sprintf("a ratio between least and most is not %s", e.Direction)
	}
	return ""
}

// number reads 1.8, or a fraction such as 1/64.
func number(s string) (float64, bool) {
	above, below, fraction := strings.Cut(s, "/")
	v, err := strconv.ParseFloat(above, 64)
	if fraction && err == nil {
		var d float64
		if d, err = strconv.ParseFloat(below, 64); err == nil {
			v /= d
		}
	}
	return v, err == nil && v > 0 && !math.IsInf(v, 0) // NaN is not above 0
}
