package experiment

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a file. The parser recurses, so depth is bounded before it begins: brackets by maxDepth,
// indentation and "- - -" by the length of a line. Its time grows with the square of the keys (19 s
// for 60,000), so these are bounded too, by their colons.
const (
	MaxFileBytes = 1 << 20
	MaxCells     = 10_000
	maxLineBytes = 2048
	maxDepth     = 32
	maxColons    = 8192
)

// Error is a mistake in a file. Line and Column count from 1; 0 where there is no place to name.
type Error struct {
	File         string
	Line, Column int
	Message      string
}

// Error is file:line:column: message, on one line.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// LoadAs reads and checks a file. A mistake in it comes back as an *Error, the first one only. If the text has no name, the
// experiment's name is name; "": that of the file, or of its folder.
func LoadAs(path, name string, flags Flags) (*Experiment, error) {
	data, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := reader{file: path, named: name, flags: flags}
	x, err := r.read(data)
	if err != nil {
		return nil, err
	}
	return x, nil
}

// Read checks and unfolds the text of a file; path is for messages, and for the name where the text
// has none.
func Read(path string, data []byte, flags Flags) (*Experiment, error) {
	r := reader{file: path, flags: flags}
	x, err := r.read(data)
	if err != nil {
		return nil, err
	}
	return x, nil
}

type reader struct {
	file  string
	named string // the experiment's name where the text has none; "": from the file's own
	flags Flags
}

func (r *reader) errorAt(t *token.Token, format string, args ...any) *Error {
	e := &Error{File: r.file, Message: fmt.Sprintf(format, args...)}
	if t != nil && t.Position != nil {
		e.Line, e.Column = t.Position.Line, t.Position.Column
	}
	return e
}

// axis is a flag with all its values.
type axis struct {
	name   string
	values []string
	at     *token.Token // the key
	places []*token.Token
}

func (r *reader) read(data []byte) (*Experiment, error) {
	if err := r.checkBounds(data); err != nil {
		return nil, err
	}
	root, err := r.parse(data)
	if err != nil {
		return nil, err
	}
	x := &Experiment{Name: cmp.Or(r.named, nameOf(r.file))}
	var axes []axis
	var require *axis
	var overrides, compare, primary, thresholds, stages, interaction *pair
	for _, p := range root {
		switch p.key {
		case "name":
			err = r.name(p, x)
		case "description":
			x.Description, err = r.text(p)
		case "require":
			var a axis
			a, err = r.values(p)
			require = &a
		case "overrides":
			overrides = &p
		case "compare":
			compare = &p
		case "primary":
			primary = &p
		case "thresholds":
			thresholds = &p
		case "stages":
			stages = &p
		case "interaction":
			interaction = &p
		default:
			var known bool
			if known, err = r.settings(p, x); !known {
				var a axis
				a, err = r.axis(p, "")
				axes = append(axes, a)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if !namePattern.MatchString(x.Name) {
		return nil, &Error{File: r.file, Message: fmt.Sprintf("the folder's name %q cannot name an experiment: give it a name of lower-case letters, digits and dashes", x.Name)}
	}
	if len(axes) == 0 {
		return nil, &Error{File: r.file, Line: 1, Column: 1, Message: "no flag is set: nothing to run"}
	}
	perTransport, err := r.overrides(overrides, axes)
	if err != nil {
		return nil, err
	}
	if err := r.require(require, axes, x); err != nil {
		return nil, err
	}
	if err := r.unfold(x, axes, perTransport); err != nil {
		return nil, err
	}
	if err := r.compare(compare, axes, perTransport, x); err != nil {
		return nil, err
	}
	if err := r.alike(x, axes, perTransport); err != nil {
		return nil, err
	}
	if err := r.interaction(interaction, x); err != nil {
		return nil, err
	}
	if err := r.primary(primary, axes, x); err != nil {
		return nil, err
	}
	if err := r.stages(stages, x); err != nil {
		return nil, err
	}
	return x, r.thresholds(thresholds, x)
}

// mostOneIn is the largest value of --stages.
const mostOneIn = 1_000_000_000

// stages reads one-in, and flags with the values that a cell must have.
func (r *reader) stages(p *pair, x *Experiment) error {
	if p == nil {
		return nil
	}
	pairs, err := r.mapping(p.value, p.key)
	if err != nil {
		return err
	}
	x.Stages = new(Stages)
	for _, q := range pairs {
		if q.key == "one-in" {
			s, err := r.scalar(q.key, q.value)
			if err != nil {
				return err
			}
			if x.Stages.OneIn, err = strconv.Atoi(s); err != nil || x.Stages.OneIn < 1 || x.Stages.OneIn > mostOneIn {
				return r.errorAt(q.value.GetToken(), "stages: one-in %q: 1 to %d, the requests of which one is watched", s, mostOneIn)
			}
			continue
		}
		a, err := r.axis(q, "stages")
		if err != nil {
			return err
		}
		x.Stages.Where = append(x.Stages.Where, Values{a.name, a.values})
	}
	switch {
	case x.Stages.OneIn == 0:
		return r.errorAt(p.at, "stages: one-in is missing, the requests of which one is watched")
	case !slices.ContainsFunc(x.Cells, x.Stages.Concerns):
		return r.errorAt(p.at, "stages: they concern no cell")
	}
	return nil
}

// thresholds reads a list of bounds: a metric, least or most, and flags with the values that a cell must have.
func (r *reader) thresholds(p *pair, x *Experiment) error {
	if p == nil {
		return nil
	}
	list, ok := p.value.(*ast.SequenceNode)
	if !ok {
		return r.errorAt(p.at, "thresholds must be a list: - {metric: lat_p99_ns, most: 5ms}")
	}
	for _, n := range list.Values {
		pairs, err := r.mapping(n, "a threshold")
		if err != nil {
			return err
		}
		t := Threshold{File: r.file, Line: n.GetToken().Position.Line}
		for _, q := range pairs {
			into := map[string]*string{"metric": &t.Metric, "least": &t.Least, "most": &t.Most}[q.key]
			if into != nil {
				if *into, err = r.scalar(q.key, q.value); err != nil {
					return err
				}
				continue
			}
			a, err := r.axis(q, "thresholds")
			if err != nil {
				return err
			}
			t.Where = append(t.Where, Values{a.name, a.values})
		}
		switch {
		case t.Metric == "":
			return r.errorAt(n.GetToken(), "a threshold without metric")
		case t.Least == "" && t.Most == "":
			return r.errorAt(n.GetToken(), "a threshold without least or most")
		case !slices.ContainsFunc(x.Cells, t.Concerns):
			return r.errorAt(n.GetToken(), "a threshold that concerns no cell")
		}
		x.Thresholds = append(x.Thresholds, t)
	}
	return nil
}

// compare finds the compared axis: the one that the file names, or the first that sweeps.
func (r *reader) compare(p *pair, axes []axis, overrides map[string][]axis, x *Experiment) error {
	if p != nil {
		s, err := r.scalar(p.key, p.value)
		if err != nil {
			return err
		}
		if !slices.Contains(x.Axes, s) {
			return r.errorAt(p.value.GetToken(), "compare: %q is not one of the flags that sweep (%s)", s, strings.Join(x.Axes, ", "))
		}
		x.Compare = s
	} else if len(x.Axes) > 0 {
		x.Compare = x.Axes[0]
	}
	x.variants = []string{x.Compare}
	if x.Compare == transportFlag {
		for _, by := range overrides {
			for _, a := range by {
				if find(axes, a.name) == nil && r.flags[a.name].OfTransport {
					x.variants = append(x.variants, a.name)
				}
			}
		}
	}
	return nil
}

// primary reads metrics, and flags with the values that a question must have.
func (r *reader) primary(p *pair, axes []axis, x *Experiment) error {
	if p == nil {
		return nil
	}
	pairs, err := r.mapping(p.value, p.key)
	if err != nil {
		return err
	}
	x.Primary = new(Primary)
	for _, q := range pairs {
		if q.key == "metrics" {
			m, err := r.values(q)
			if err != nil {
				return err
			}
			x.Primary.Metrics = m.values
			continue
		}
		a, err := r.axis(q, "primary")
		if err != nil {
			return err
		}
		in := find(axes, q.key)
		for i, v := range a.values {
			if in == nil || !slices.Contains(in.values, v) {
				return r.errorAt(a.places[i], "primary: no cell has %s: %s", q.key, v)
			}
		}
		if slices.Contains(x.variants, q.key) {
			return r.errorAt(q.at, "primary: %s is the compared flag, and cannot select cells", q.key)
		}
		x.Primary.Where = append(x.Primary.Where, Values{a.name, a.values})
	}
	if len(x.Primary.Metrics) == 0 {
		return r.errorAt(p.at, "primary: metrics is missing, the columns that are compared")
	}
	return nil
}

// checkBounds returns an error for text on which the parser would recurse too deeply or take too long.
func (r *reader) checkBounds(data []byte) error {
	if len(data) > MaxFileBytes {
		return &Error{File: r.file, Message: fmt.Sprintf("larger than %d bytes: not an experiment file", MaxFileBytes)}
	}
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return &Error{File: r.file, Message: "not UTF-8 text"}
	}
	line, depth, colons := 0, 0, 0
	for text := range bytes.Lines(data) {
		line++
		if len(text) > maxLineBytes {
			return &Error{File: r.file, Line: line, Column: maxLineBytes, Message: fmt.Sprintf("the line is longer than %d bytes", maxLineBytes)}
		}
		for i, c := range text {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(0, depth-1)
			case ':':
				colons++
			}
			if colons > maxColons {
				return &Error{File: r.file, Line: line, Column: i + 1, Message: fmt.Sprintf("more than %d keys", maxColons)}
			}
			if depth > maxDepth {
				return &Error{File: r.file, Line: line, Column: i + 1, Message: fmt.Sprintf("brackets nest deeper than %d", maxDepth)}
			}
		}
	}
	return nil
}

// pair is a key with its value.
type pair struct {
	key   string
	at    *token.Token
	value ast.Node
}

func (r *reader) parse(data []byte) (root []pair, err error) {
	defer func() { // a bug in the parser becomes an error about the file, not a crash
		if p := recover(); p != nil {
			root, err = nil, &Error{File: r.file, Message: "not readable as YAML"}
		}
	}()
	f, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var y yaml.Error
		if errors.As(err, &y) {
			return nil, r.errorAt(y.GetToken(), "%s", oneLine(y.GetMessage()))
		}
		return nil, &Error{File: r.file, Message: oneLine(err.Error())}
	}
	var body ast.Node
	for _, d := range f.Docs {
		switch {
		case d.Body == nil || d.Body.Type() == ast.CommentType:
		case body != nil:
			return nil, r.errorAt(d.Body.GetToken(), "a second document: one per file")
		default:
			body = d.Body
		}
	}
	if body == nil {
		return nil, &Error{File: r.file, Line: 1, Column: 1, Message: "the file is empty (docs/experiments.md has its keys)"}
	}
	return r.mapping(body, "the file")
}

// mapping returns a node's pairs in their order. A key that occurs twice is an error.
func (r *reader) mapping(n ast.Node, what string) ([]pair, error) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		return nil, r.errorAt(n.GetToken(), "%s must be `key: value` lines, not %s", what, kind(n))
	}
	pairs := make([]pair, 0, len(values))
	seen := make(map[string]*token.Token, len(values))
	for _, v := range values {
		s, ok := v.Key.(*ast.StringNode)
		if !ok {
			return nil, r.errorAt(v.Key.GetToken(), "a key must be a flag's name, not %s", kind(v.Key))
		}
		at := v.Key.GetToken()
		if first := seen[s.Value]; first != nil {
			return nil, r.errorAt(at, "%q is there twice: first on line %d", s.Value, first.Position.Line)
		}
		seen[s.Value] = at
		pairs = append(pairs, pair{s.Value, at, v.Value})
	}
	return pairs, nil
}

// scalar is a value as it is written.
func (r *reader) scalar(key string, n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.IntegerNode:
		return n.Token.Value, nil
	case *ast.FloatNode:
		return n.Token.Value, nil
	case *ast.BoolNode:
		return n.Token.Value, nil
	case *ast.NullNode:
		// backend: null is the store that answers without looking; an empty place or ~ is nothing.
		if n.Token.Type == token.NullType && n.Token.Value == "null" {
			return n.Token.Value, nil
		}
		return "", r.errorAt(n.GetToken(), "%s has no value", key)
	}
	return "", r.errorAt(n.GetToken(), "%s must be a value or a list of values, not %s", key, kind(n))
}

// values is a value, or each of a list.
func (r *reader) values(p pair) (axis, error) {
	a := axis{name: p.key, at: p.at}
	nodes := []ast.Node{p.value}
	if list, ok := p.value.(*ast.SequenceNode); ok {
		nodes = list.Values
		if len(nodes) == 0 {
			return a, r.errorAt(list.GetToken(), "%s has an empty list: nothing would be run", p.key)
		}
	}
	seen := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		v, err := r.scalar(p.key, n)
		if err != nil {
			return a, err
		}
		if seen[v] {
			return a, r.errorAt(n.GetToken(), "%s has %q twice", p.key, v)
		}
		seen[v] = true
		a.values, a.places = append(a.values, v), append(a.places, n.GetToken())
	}
	return a, nil
}

// axis reads a flag that exists, with values that it accepts. section is where the key stands; "": at the top level.
func (r *reader) axis(p pair, section string) (axis, error) {
	rule, known := r.flags[p.key]
	if !known {
		return axis{}, r.errorAt(p.at, "%s", r.unknown(p.key, section))
	}
	a, err := r.values(p)
	if err != nil {
		return a, err
	}
	spelled := make(map[string]string, len(a.values)) // by normal form
	for i, v := range a.values {
		normal, err := rule.Parse(v)
		if err != nil {
			return a, r.errorAt(a.places[i], "%s", ofKey(p.key, oneLine(err.Error())))
		}
		if first, twice := spelled[normal]; twice {
			return a, r.errorAt(a.places[i], "%s has %q and %q, which are the same: leave one of them", p.key, first, v)
		}
		spelled[normal] = v
	}
	return a, nil
}

// ofKey returns an error's text with the key in front of it, once: a text that begins with the key's flag has it already.
func ofKey(key, text string) string {
	if rest := strings.TrimPrefix(text, "--"); strings.HasPrefix(rest, key+" ") {
		return rest
	}
	return key + ": " + text
}

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

func (r *reader) name(p pair, x *Experiment) (err error) {
	if x.Name, err = r.text(p); err == nil && !namePattern.MatchString(x.Name) {
		err = r.errorAt(p.value.GetToken(), "name %q must be 1 to 64 lower-case letters, digits and dashes", x.Name)
	}
	return err
}

func (r *reader) text(p pair) (string, error) {
	if l, ok := p.value.(*ast.LiteralNode); ok {
		return strings.TrimSpace(l.Value.Value), nil
	}
	return r.scalar(p.key, p.value)
}

// overrides reads the section with one mapping of flags per transport.
func (r *reader) overrides(p *pair, axes []axis) (map[string][]axis, error) {
	if p == nil {
		return nil, nil
	}
	sections, err := r.mapping(p.value, "overrides")
	if err != nil {
		return nil, err
	}
	transports := find(axes, transportFlag)
	all := make(map[string][]axis, len(sections))
	for _, s := range sections {
		if transports == nil || !slices.Contains(transports.values, s.key) {
			return nil, r.errorAt(s.at, "overrides for %q, which is not a transport of this file%s", s.key, listed(transports))
		}
		pairs, err := r.mapping(s.value, "overrides of "+s.key)
		if err != nil {
			return nil, err
		}
		for _, p := range pairs {
			if p.key == transportFlag {
				return nil, r.errorAt(p.at, "a transport's section cannot set the transport")
			}
			a, err := r.axis(p, "overrides")
			if err != nil {
				return nil, err
			}
			all[s.key] = append(all[s.key], a)
		}
	}
	return all, nil
}

func (r *reader) require(a *axis, axes []axis, x *Experiment) error {
	if a == nil {
		return nil
	}
	transports := find(axes, transportFlag)
	for i, v := range a.values {
		if transports == nil || !slices.Contains(transports.values, v) {
			return r.errorAt(a.places[i], "require: %q is not a transport of this file%s", v, listed(transports))
		}
	}
	x.Require = a.values
	return nil
}

// unfold makes the cells: for each transport, in the order of the file, all combinations of the others.
func (r *reader) unfold(x *Experiment, axes []axis, overrides map[string][]axis) error {
	var groups [][]axis
	if t := find(axes, transportFlag); t != nil {
		rest := slices.DeleteFunc(slices.Clone(axes), func(a axis) bool { return a.name == transportFlag })
		for i, v := range t.values {
			one := axis{name: t.name, values: []string{v}, at: t.at, places: t.places[i : i+1]}
			groups = append(groups, append([]axis{one}, replaced(rest, overrides[v])...))
		}
		if len(t.values) > 1 {
			x.Axes = append(x.Axes, t.name)
		}
	} else {
		groups = [][]axis{axes}
	}
	total := 0
	for _, g := range groups {
		cells := 1
		for _, a := range g {
			if cells *= len(a.values); cells+total > MaxCells { // a list has < 2^20 values: no overflow
				return r.errorAt(a.at, "the sweep has more than %d cells: shorten a list", MaxCells)
			}
			if len(a.values) > 1 && !slices.Contains(x.Axes, a.name) {
				x.Axes = append(x.Axes, a.name)
			}
		}
		total += cells
	}
	x.Cells = make([]Cell, 0, total)
	keys := map[*token.Token]int{}
	for _, g := range groups {
		from := len(x.Cells)
		for _, a := range g {
			k, known := keys[a.at]
			if !known {
				k, keys[a.at] = len(x.keys), len(x.keys)
				x.keys = append(x.keys, key{name: a.name, from: from, place: *r.errorAt(a.at, "")})
			}
			x.keys[k].to = from + count(g)
		}
		for i := range count(g) {
			c := make(Cell, len(g))
			for k := len(g) - 1; k >= 0; k-- {
				n := len(g[k].values)
				c[k] = Flag{g[k].name, g[k].values[i%n]}
				i /= n
			}
			x.Cells = append(x.Cells, c)
		}
	}
	return nil
}

func count(axes []axis) int {
	n := 1
	for _, a := range axes {
		n *= len(a.values)
	}
	return n
}

// replaced returns axes with those of the same name replaced by those in by, and the other ones of by at the end.
func replaced(axes, by []axis) []axis {
	out := slices.Clone(axes)
	for _, b := range by {
		if a := find(out, b.name); a != nil {
			*a = b
		} else {
			out = append(out, b)
		}
	}
	return out
}

func find(axes []axis, name string) *axis {
	for i := range axes {
		if axes[i].name == name {
			return &axes[i]
		}
	}
	return nil
}

func listed(a *axis) string {
	if a == nil {
		return " (it sets none)"
	}
	return " (" + strings.Join(a.values, ", ") + ")"
}

// nameOf is the folder's name of NAME/experiment.yaml, and else the file's own.
func nameOf(path string) string {
	base := filepath.Base(path)
	if base == fileName {
		if abs, err := filepath.Abs(path); err == nil {
			return filepath.Base(filepath.Dir(abs))
		}
	}
	return strings.TrimSuffix(base, filepath.Ext(base))
}

func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor or alias"
	case *ast.TagNode:
		return "a tagged value"
	case *ast.LiteralNode:
		return "a block of text"
	case *ast.InfinityNode, *ast.NanNode:
		return "an infinite or undefined number"
	case *ast.IntegerNode, *ast.FloatNode:
		return "a number"
	case *ast.StringNode:
		return "a text"
	}
	return "this"
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
