package experiment

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// studied has what claims are about: variants that differ in one flag, flags that only some cells have, and axes.
const studied = `
name: studied
transport: [inproc, tcp, rdma]
backend: mem
mix: [get, put]
depth: [1, 4, 16]
overrides:
  rdma: {rdma-verb: [send, write]}
`

// claimed reads one claim of studied, with these lines of it.
func claimed(t *testing.T, lines string) ([]Claim, error) {
	t.Helper()
	return ReadClaims("x.yaml", []byte("claims:\n  - id: one\n    claim: words\n    source: a report\n    metric: ops_per_s\n"+lines), read(t, studied), testFlags())
}

func TestClaimsFindTheirCells(t *testing.T) {
	x := read(t, studied)
	for _, c := range []struct{ name, lines, want string }{
		{"a cell's own value", "    cells: {transport: tcp, mix: get, depth: [1, 16]}\n    expect: {most: 1/64}\n",
			"tcp get 1 | tcp get 16"},
		{"one beside another", "    cells: {transport: tcp, mix: get, depth: [4, 16]}\n    beside: {transport: inproc}\n    expect: {direction: lower}\n",
			"inproc get 4, tcp get 4 | inproc get 16, tcp get 16"},
		{"a flag that only one has", "    cells: {rdma-verb: [send, write], mix: put, depth: 1}\n    beside: {transport: tcp}\n    expect: {direction: higher}\n",
			"tcp put 1, rdma put 1 send | tcp put 1, rdma put 1 write"},
		{"of the same transport", "    cells: {rdma-verb: write, mix: put, depth: 1}\n    beside: {rdma-verb: send}\n    expect: {direction: higher}\n",
			"rdma put 1 send, rdma put 1 write"},
		{"along an axis", "    cells: {transport: [tcp, inproc], mix: get}\n    along: depth\n    expect: {direction: higher, least: 2}\n",
			"inproc get 1, inproc get 4, inproc get 16 | tcp get 1, tcp get 4, tcp get 16"},
	} {
		all, err := claimed(t, c.lines)
		if err != nil || len(all) != 1 {
			t.Errorf("%s: %+v, %v", c.name, all, err)
			continue
		}
		var got []string
		for _, s := range all[0].Shown {
			var cells []string
			for _, i := range s {
				var v []string
				for _, f := range []string{"transport", "mix", "depth", "rdma-verb"} {
					if value, ok := x.Cells[i].Get(f); ok {
						v = append(v, value)
					}
				}
				cells = append(cells, strings.Join(v, " "))
			}
			got = append(got, strings.Join(cells, ", "))
		}
		if s := strings.Join(got, " | "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}

func TestClaimsAreReadAsWritten(t *testing.T) {
	all, err := ReadClaims("x.yaml", []byte(`
claims:
  - id: one
    claim: |
      In words,
      on two lines.
    source: "a report: page 4"
    metric: batch_mean
    cells: {transport: tcp, mix: get}
    along: depth
    expect: {direction: higher, least: 1.5, most: 1e3}
  - id: two
    claim: words
    source: a report
    metric: ops_per_s
    cells: {transport: tcp, mix: get, depth: 1}
    beside: {transport: inproc}
    expect: {direction: same}
`), read(t, studied), testFlags())
	if err != nil {
		t.Fatal(err)
	}
	a, b := all[0], all[1]
	if a.ID != "one" || a.Text != "In words, on two lines." || a.Source != "a report: page 4" || a.Metric != "batch_mean" || a.Along != "depth" || a.Beside || a.File != "x.yaml" || a.Line != 3 {
		t.Errorf("%+v", a)
	}
	if a.Expect != (Expectation{Higher, 1.5, 1000}) || b.Expect != (Expectation{Same, math.Inf(-1), math.Inf(1)}) || !b.Beside || b.Line != 12 {
		t.Errorf("%+v, %+v", a.Expect, b)
	}
}

func TestMistakeInAClaimIsShownWithItsPlace(t *testing.T) {
	const cells = "    cells: {transport: tcp, mix: get, depth: 1}\n"
	for _, c := range []struct{ name, lines, want string }{
		{"no cells", "    expect: {least: 1}\n", "x.yaml:2:7: a claim without cells"},
		{"no expectation", cells, "x.yaml:2:7: a claim without expect"},
		{"an empty expectation", cells + "    expect: {}\n", "x.yaml:7:5: expect: give a direction, least or most"},
		{"a part misspelt", cells + "    expects: {least: 1}\n", `x.yaml:7:5: "expects" is not a key of a claim; do you mean "expect"?`},
		{"an unknown part", cells + "    colour: red\n", `x.yaml:7:5: "colour" is not a key of a claim (id, claim,`},
		{"a part of an expectation misspelt", cells + "    expect: {leest: 1}\n", `x.yaml:7:14: "leest" is not a key of an expectation; do you mean "least"?`},
		{"a part twice", "    metric: ops_per_s\n", `x.yaml:6:5: "metric" is there twice: first on line 5`},
		{"an unknown flag", "    cells: {dept: 1}\n    expect: {least: 1}\n", `x.yaml:6:13: "dept" is not a flag; do you mean "depth"?`},
		{"a value that the flag refuses", "    cells: {depth: many}\n    expect: {least: 1}\n", `x.yaml:6:20: depth: "many" is not a number`},
		{"a value that no cell has", "    cells: {depth: [1, 5]}\n    expect: {least: 1}\n", `x.yaml:6:24: cells: no cell has depth: 5`},
		{"values that no cell has together", "    cells: {transport: tcp, rdma-verb: send}\n    expect: {least: 1}\n", "x.yaml:6:5: cells: they make 0 comparisons"},
		{"too many comparisons", "    cells: {mix: [get, put]}\n    expect: {least: 1}\n  - id: two\n    claim: words\n    source: s\n    metric: m\n    cells: {mix: [get]}\n    expect: {least: 1}\n",
			"x.yaml:12:5: cells: they make 12 comparisons, and all claims above together 24: choose 1 to 25 in all"},
		{"cells as a value", "    cells: tcp\n    expect: {least: 1}\n", "x.yaml:6:12: cells must be"},
		{"beside and along", cells + "    beside: {transport: inproc}\n    along: depth\n    expect: {direction: higher}\n", "x.yaml:7:5: a claim has beside or along, not both"},
		{"beside several", cells + "    beside: {transport: rdma}\n    expect: {direction: higher}\n", "x.yaml:7:5: beside: 2 cells match beside --transport=tcp"},
		{"beside none", "    cells: {transport: rdma, mix: get, depth: 1}\n    beside: {transport: tcp, rdma-verb: send}\n    expect: {direction: higher}\n", "x.yaml:7:5: beside: 0 cells match beside --transport=rdma"},
		{"beside itself", cells + "    beside: {transport: tcp}\n    expect: {direction: higher}\n", "x.yaml:7:5: beside: 0 cells match beside"},
		{"beside a list", cells + "    beside: {transport: [inproc, rdma]}\n    expect: {direction: higher}\n", "x.yaml:7:5: beside: one value of transport, not 2"},
		{"along no axis", cells + "    along: backend\n    expect: {direction: higher}\n", `x.yaml:7:12: along: "backend" is not one of the flags that sweep (transport, mix, depth, rdma-verb)`},
		{"along one cell", cells + "    along: depth\n    expect: {direction: higher}\n", "x.yaml:7:12: along: 1 cell with 1 value of depth"},
		{"along several at once", "    cells: {mix: get, depth: 1}\n    along: transport\n    expect: {direction: higher}\n", "x.yaml:7:12: along: "},
		{"along without a direction", "    cells: {transport: tcp, mix: get}\n    along: depth\n    expect: {least: 2}\n", "x.yaml:8:5: expect: along an axis the direction is higher or lower"},
		{"a direction of one value", cells + "    expect: {direction: higher}\n", "x.yaml:7:5: expect: a cell's own value has least and most, and no direction"},
		{"an unknown direction", cells + "    expect: {direction: up}\n", `x.yaml:7:25: direction "up" is unknown (higher, lower or same)`},
		{"a bound that is no number", cells + "    expect: {least: 5 apples}\n", `x.yaml:7:21: least "5 apples" is not a number above 0`},
		{"a bound of nothing", cells + "    expect: {least: 0}\n", `least "0" is not a number above 0`},
		{"a bound that is undefined", cells + "    expect: {least: 0/0}\n", `least "0/0" is not a number above 0`},
		{"a bound without end", cells + "    expect: {most: 1/0}\n", `most "1/0" is not a number above 0`},
		{"bounds crossed", cells + "    expect: {least: 2, most: 1}\n", "x.yaml:7:5: expect: least must be below most"},
		{"higher, but at most less", cells + "    beside: {transport: inproc}\n    expect: {direction: higher, most: 0.9}\n", "a ratio between least and most is not higher"},
		{"lower, but at least more", cells + "    beside: {transport: inproc}\n    expect: {direction: lower, least: 1.5}\n", "a ratio between least and most is not lower"},
		{"the same, but at least more", cells + "    beside: {transport: inproc}\n    expect: {direction: same, least: 1.5}\n", "a ratio between least and most is not same"},
		{"an id twice", cells + "    expect: {least: 1}\n  - id: one\n    claim: words\n    source: s\n    metric: m\n    cells: {depth: 1}\n    expect: {least: 1}\n", `x.yaml:8:9: id "one" is there twice: first on line 2`},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, err := claimed(t, c.lines)
			wants(t, all, err, c.want)
		})
	}
}

func TestMistakeInAFileOfClaimsIsShownWithItsPlace(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"another section", "claim:\n  - {}\n", `x.yaml:1:1: "claim" is unknown`},
		{"no list", "claims: {id: one}\n", "x.yaml:1:1: claims must be a list"},
		{"an empty list", "claims: []\n", "x.yaml:1:1: claims must be a list"},
		{"a mapping of nothing", "{}\n", "x.yaml:1:1: claims must be a list"},
		{"a list of texts", "claims: [one]\n", "x.yaml:1:10: a claim must be"},
		{"an empty text", "claims:\n  - {id: one, claim: \"\"}\n", "x.yaml:2:22: claim: a text of 1 to 1000 bytes, not 0"},
		{"a name that is none", "claims:\n  - {id: One, claim: c, source: s, metric: m, cells: {depth: 1}, expect: {least: 1}}\n", `x.yaml:2:10: id "One" must be 1 to 64`},
		{"nothing", "", "x.yaml:1:1: the file is empty"},
		{"not text", "claims: \xff\n", "x.yaml: not UTF-8 text"},
		{"two documents", "claims: [a]\n---\nclaims: [b]\n", "x.yaml:3:7: a second document"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, err := ReadClaims("x.yaml", []byte(c.text), read(t, studied), testFlags())
			wants(t, all, err, c.want)
		})
	}
}

// wants checks that a mistake is reported, on one line.
func wants(t *testing.T, all []Claim, err error, want string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || all != nil {
		t.Fatalf("no *Error: %v, %v", all, err)
	}
	if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestAFileThatIsNotThereHasNoClaims(t *testing.T) {
	all, err := LoadClaims(filepath.Join(t.TempDir(), ClaimsFile), read(t, studied), testFlags())
	if all != nil || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := LoadClaims(t.TempDir(), read(t, studied), testFlags()); err == nil {
		t.Error("a folder is read as a file")
	}
}

func FuzzReadClaims(f *testing.F) {
	for _, s := range []string{"", "{}", "claims: []", "claims: [{}]", "claims:\n  - {id: a}\n  - {id: a}\n", "claims: &a [*a]",
		"claims:\n  - {id: a, claim: c, source: s, metric: m, cells: {transport: tcp, mix: get, depth: 1}, beside: {transport: inproc}, expect: {direction: higher, least: 1.5}}\n",
		"claims:\n  - {id: a, claim: c, source: s, metric: m, cells: {transport: tcp, mix: get}, along: depth, expect: {direction: lower, most: 1/64}}\n",
		"claims:\n  - {id: a, claim: c, source: s, metric: m, cells: {depth: 1}, expect: {least: 1, most: 1e9}}\n"} {
		f.Add([]byte(s))
	}
	x, err := Read("x.yaml", []byte(studied), testFlags())
	if err != nil {
		f.Fatal(err)
	}
	flags := testFlags()
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := ReadClaims("x.yaml", data, x, flags)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || strings.ContainsAny(err.Error(), "\n\r") || all != nil {
				t.Fatalf("%T %q, %v", err, err, all)
			}
			return
		}
		n := 0
		for _, c := range all {
			n += len(c.Shown)
			for _, s := range c.Shown {
				if len(s) == 0 || slices.Max(s) >= len(x.Cells) || c.Beside && len(s) != 2 || c.Along != "" && len(s) < 2 || !c.Beside && c.Along == "" && len(s) != 1 {
					t.Fatalf("%s is shown by %v", c.ID, s)
				}
			}
			if c.Expect.Least >= c.Expect.Most || c.Text == "" || !namePattern.MatchString(c.ID) {
				t.Fatalf("%+v", c)
			}
		}
		if n == 0 || n > MaxShown {
			t.Fatalf("%d comparisons", n)
		}
	})
}
