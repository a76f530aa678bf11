package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/kvwire/kvwire/bench/stats"
	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/report"
)

const claimsHelp = `Examples:
  kvwire verify-claims results/latest
  kvwire verify-claims results/aurora-ring-designs-20261121-100000 results/kvell-ycsb-20261121-120000 --json
  kvwire verify-claims results/old --experiment aurora-ring-designs     (the claims as they are now)

Says of each claim in an experiment's claims.yaml whether the figures in a folder of results agree with it: agrees, disagrees, can't
tell (the figure is too uncertain), not measured, or, of fewer than 6 blocks, no verdict. A claim is about a ratio, paired block
by block, along an axis or between two cells, or about a cell's own figure. The intervals cover 95 %, where the pairs allow it; p is
adjusted for all claims of the file (Holm).

To disagree with somebody is a finding and no failure: exit code 0. With --strict it is 6.`

func claimsCommand(_ context.Context, args []string) error {
	f := newFactors("verify-claims", claimsHelp)
	var name string
	strict := false
	f.set.StringVar(&name, "experiment", "", "take the claims of this experiment (a folder, or a name under experiments/); default: those that the run copied, else those of the experiment's name")
	f.set.BoolVar(&strict, "strict", false, "exit code 6 where a claim is disagreed with")
	f.set.BoolVar(&f.json, "json", false, "print the answers as JSON")
	var dirs []string
	if err := f.parse(args, func(rest []string) error {
		if dirs = rest; len(rest) == 0 {
			return usagef("verify-claims takes folders that kvwire run has made")
		}
		return nil
	}); err != nil {
		return err
	}
	var all []verified
	for _, dir := range dirs {
		v, err := verify(dir, name)
		if err != nil {
			return err
		}
		all = append(all, v)
	}
	if err := printVerified(stdout, all, f.json); err != nil {
		return err
	}
	return disagreements(all, strict)
}

// disagreements are an error where they are to be one.
func disagreements(all []verified, strict bool) error {
	var ids []string
	for _, v := range all {
		for _, c := range v.Claims {
			if c.Answer == report.Disagrees {
				ids = append(ids, v.Experiment+"/"+c.ID)
			}
		}
	}
	if !strict || len(ids) == 0 {
		return nil
	}
	return &exitError{exitMissed, fmt.Errorf("claims that are disagreed with: %s", strings.Join(ids, ", "))}
}

// verified is what a folder says of claims; it is what --json prints.
type verified struct {
	Folder     string          `json:"folder"`
	Experiment string          `json:"experiment"`
	Blocks     int             `json:"blocks"`
	Claims     []verifiedClaim `json:"claims"`
}

type verifiedClaim struct {
	ID     string          `json:"id"`
	Claim  string          `json:"claim"`
	Source string          `json:"source"`
	Metric string          `json:"metric"`
	Expect string          `json:"expect"` // higher, ≥ 1.8
	Answer report.Answer   `json:"answer"`
	Shown  []verifiedShown `json:"shown"`

	metric report.Metric
	ratio  bool
}

// verifiedShown is one comparison; what is not known is left out.
type verifiedShown struct {
	Of           string        `json:"of"`   // uring beside tcp, depth=4
	Kind         string        `json:"kind"` // ratio or value
	Answer       report.Answer `json:"answer"`
	Why          string        `json:"why,omitempty"`
	Value        *float64      `json:"value,omitempty"` // in the metric's unit where it is no ratio
	Low          *float64      `json:"low,omitempty"`
	High         *float64      `json:"high,omitempty"`
	Level        *float64      `json:"level,omitempty"`
	PHolm        *float64      `json:"p_holm,omitempty"`
	DeltaRatio   *float64      `json:"delta_ratio,omitempty"`
	Pairs        int           `json:"pairs"`
	InvalidPairs int           `json:"invalid_pairs"`
	LeftOut      int           `json:"left_out"`

	finding report.Finding
}

// verify answers for one folder. experiment is --experiment.
func verify(dir, experiment string) (v verified, err error) {
	r, err := openResults(dir)
	if err != nil {
		return v, err
	}
	claims, err := r.claimsFor(experiment)
	if err != nil {
		return v, err
	}
	v = verified{Folder: dir, Experiment: r.x.Name, Blocks: r.plan.Blocks}
	var all []report.Shown
	for i := range claims {
		shown, err := r.shown(&claims[i])
		if err != nil {
			return v, err
		}
		all = append(all, shown...)
	}
	findings, err := report.JudgeClaims(all, r.plan.Blocks)
	if err != nil {
		return v, err
	}
	for i := range claims {
		c := &claims[i]
		of := findings[:len(c.Shown)]
		findings = findings[len(c.Shown):]
		v.Claims = append(v.Claims, r.answer(c, of))
	}
	return v, nil
}

// claimsFor are the claims that this folder is held against.
func (r *runner) claimsFor(experiment string) ([]experiments.Claim, error) {
	file := filepath.Join(r.dir, experimentCopy)
	if _, err := os.Stat(experiments.ClaimsPath(file)); err != nil || experiment != "" {
		if experiment == "" {
			experiment = filepath.Join("experiments", r.x.Name) // and no folder of results that is called so
		}
		if file, err = experiments.Find(experiment); err != nil {
			return nil, usagef("%s has no %s, and no experiment has: %v (name one with --experiment)", r.dir, experiments.ClaimsFile, err)
		}
	}
	claims, err := claimsBeside(file, r.x)
	if err == nil && len(claims) == 0 {
		err = usagef("there is no %s beside %s: nobody claimed anything", experiments.ClaimsFile, file)
	}
	return claims, err
}

// claimsBeside reads the claims about an experiment, which arg names as for experiments.Find, and checks their metrics. None is no error.
func claimsBeside(arg string, x *experiments.Experiment) ([]experiments.Claim, error) {
	file, err := experiments.Find(arg)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	path := experiments.ClaimsPath(file)
	if path == "" {
		return nil, nil
	}
	claims, err := experiments.LoadClaims(path, x, experimentFlags())
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	for _, c := range claims {
		if _, err := report.FindQuantity(c.Metric); err != nil {
			return nil, usagef("%s:%d: claim %s: %v", c.File, c.Line, c.ID, err)
		}
	}
	return claims, nil
}

// copyClaims puts the claims about an experiment into the folder of its results.
func copyClaims(file, dir string) error {
	path := experiments.ClaimsPath(file)
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, report.WriteFile(filepath.Join(dir, experiments.ClaimsFile), text))
}

// shown is what a claim's cells measured.
func (r *runner) shown(c *experiments.Claim) (all []report.Shown, err error) {
	m, err := report.FindQuantity(c.Metric)
	if err != nil {
		return nil, err // it was checked
	}
	expect := report.Expected{Least: c.Expect.Least, Most: c.Expect.Most}
	switch c.Expect.Direction {
	case experiments.Higher:
		expect.Direction = stats.Higher
	case experiments.Lower:
		expect.Direction = stats.Lower
	case experiments.Same:
		expect.Direction = stats.Same
	}
	for _, s := range c.Shown {
		noise, err := r.noise(s[0], m)
		if err != nil {
			return nil, err
		}
		one := report.Shown{Metric: m, Expect: expect, Noise: noise}
		for _, cell := range s {
			series := r.series(cell, false)
			series.Label = r.label(c, s, cell)
			one.Series = append(one.Series, series)
		}
		all = append(all, one)
	}
	return all, nil
}

// noise is δ of a cell's question, or, where that has no baseline that was run twice, the largest that the experiment has.
func (r *runner) noise(cell int, m report.Metric) (float64, error) {
	largest := math.NaN()
	for _, q := range r.x.Questions() {
		d, err := report.Noise(r.series(q.Cells[0], false), r.series(q.Cells[0], true), m)
		if err != nil || math.IsNaN(d) {
			if err != nil {
				return d, err
			}
			continue
		}
		if slices.Contains(q.Cells, cell) {
			return d, nil
		}
		if !(d <= largest) { // NaN is smaller than any
			largest = d
		}
	}
	return largest, nil
}

// differs says whether the cells that are shown differ in a flag.
func (r *runner) differs(s experiments.Shown, flag string) bool {
	first, there := r.x.Cells[s[0]].Get(flag)
	return slices.ContainsFunc(s, func(i int) bool {
		v, ok := r.x.Cells[i].Get(flag)
		return v != first || ok != there
	})
}

// label is one of the cells that are shown, by what it differs in from the others; one alone by the flags that sweep.
func (r *runner) label(c *experiments.Claim, s experiments.Shown, cell int) string {
	if c.Along != "" {
		v, _ := r.x.Cells[cell].Get(c.Along)
		return c.Along + "=" + v
	}
	if !c.Beside {
		return r.asked(r.x.Cells[cell])
	}
	var v []string
	for _, f := range r.x.Cells[cell] {
		if r.x.Sweeps(f.Name) && r.differs(s, f.Name) {
			v = append(v, f.Value)
		}
	}
	return strings.Join(v, " ")
}

// of is what is compared, in words: "uring beside tcp, depth=4".
func (r *runner) of(c *experiments.Claim, s experiments.Shown) string {
	first, last := r.label(c, s, s[0]), r.label(c, s, s[len(s)-1])
	if len(s) == 1 {
		return first
	}
	common := slices.DeleteFunc(slices.Clone(r.x.Cells[s[0]]), func(f experiments.Flag) bool { return r.differs(s, f.Name) })
	say := last + " beside " + first
	if c.Along != "" {
		_, last, _ = strings.Cut(last, "=")
		say = first + " to " + last
	}
	if also := r.asked(common); also != "" {
		say += ", " + also
	}
	return say
}

// answer puts together what was found of a claim.
func (r *runner) answer(c *experiments.Claim, findings []report.Finding) verifiedClaim {
	m, _ := report.FindQuantity(c.Metric) // it was checked
	v := verifiedClaim{ID: c.ID, Claim: c.Text, Source: c.Source, Metric: c.Metric, Answer: report.Overall(findings), metric: m, ratio: c.Beside || c.Along != ""}
	v.Expect = expectText(c.Expect, func(bound float64) string {
		if v.ratio {
			return fmt.Sprintf("%.4g", bound)
		}
		return m.Text(bound)
	})
	for i, f := range findings {
		one := verifiedShown{Of: r.of(c, c.Shown[i]), Kind: "value", Answer: f.Answer, Why: f.Why, Value: known(f.Value), Low: known(f.Low), High: known(f.High), Level: known(f.Level),
			PHolm: known(f.PHolm), DeltaRatio: known(f.Delta), Pairs: f.Pairs, InvalidPairs: f.Invalid, LeftOut: f.LeftOut, finding: f}
		if v.ratio {
			one.Kind = "ratio"
		}
		v.Shown = append(v.Shown, one)
	}
	return v
}

func known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// expectText is an expectation as people write it.
func expectText(e experiments.Expectation, number func(float64) string) string {
	var say []string
	if e.Direction != "" {
		say = append(say, e.Direction)
	}
	if !math.IsInf(e.Least, 0) {
		say = append(say, "≥ "+number(e.Least))
	}
	if !math.IsInf(e.Most, 0) {
		say = append(say, "≤ "+number(e.Most))
	}
	return strings.Join(say, ", ")
}

func printVerified(w io.Writer, all []verified, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", " ")
		return e.Encode(all)
	}
	for i := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := all[i].print(w); err != nil {
			return err
		}
	}
	return nil
}

// print prints a line for each comparison, and below the claims in words, with what the answers alone do not say.
func (v *verified) print(w io.Writer) error {
	blocks := "1 block"
	if v.Blocks != 1 {
		blocks = fmt.Sprintf("%d blocks", v.Blocks)
	}
	fmt.Fprintf(w, "%s: claims about %s, %s\n\n", v.Folder, v.Experiment, blocks)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "claim\tanswer\tmeasured\tinterval\tclaimed\tp (Holm)\tδ\tpairs\tof")
	for _, c := range v.Claims {
		for _, s := range c.Shown {
			measured, interval := s.figures(&c)
			x := report.Comparison{Pairs: s.Pairs, Invalid: s.InvalidPairs, LeftOut: s.LeftOut}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s: %s\n", c.ID, s.Answer, measured, interval, c.Expect, report.Number("%.3f", s.finding.PHolm), report.Number("%.2f", s.finding.Delta),
				x.PairsText(), c.Metric, s.Of)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range v.Claims {
		fmt.Fprintf(w, "\n%s: %s\n  “%s” (%s)\n", c.ID, c.Answer, c.Claim, c.Source)
		c.whys(w)
	}
	return nil
}

// whys prints what the answers alone do not say; where that is the same for all, once.
func (c *verifiedClaim) whys(w io.Writer) {
	first := c.Shown[0].Why
	if !slices.ContainsFunc(c.Shown, func(s verifiedShown) bool { return s.Why != first }) {
		if first != "" {
			fmt.Fprintf(w, "  %s\n", first)
		}
		return
	}
	for _, s := range c.Shown {
		if s.Why != "" {
			fmt.Fprintf(w, "  %s: %s\n", s.Of, s.Why)
		}
	}
}

// figures are the measured figure and its interval, as people write them; "" where there is none. An interval of one value is none.
func (s *verifiedShown) figures(c *verifiedClaim) (measured, interval string) {
	text := c.metric.Text
	if c.ratio {
		text = func(v float64) string { return fmt.Sprintf("%.2f", v) }
	}
	f := &s.finding
	if math.IsNaN(f.Value) {
		return "", ""
	}
	if f.Pairs > 1 {
		interval = fmt.Sprintf("%s to %s", text(f.Low), text(f.High))
		if f.Level < 0.95 {
			interval += fmt.Sprintf(" (%.0f %%)", 100*f.Level)
		}
	}
	return text(f.Value), interval
}
