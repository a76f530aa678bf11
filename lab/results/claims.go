package results

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/lab/stats"
	"github.com/kvwire/kvwire/report"
)

// FolderClaims has the answers of one folder to all claims about its experiment. It is the JSON of verify-claims --json.
type FolderClaims struct {
	Folder      string        `json:"folder"`
	Experiment  string        `json:"experiment"`
	Generations int           `json:"generations"`
	Claims      []JudgedClaim `json:"claims"`
}

// JudgedClaim is one claim with the answer to it.
type JudgedClaim struct {
	ID      string            `json:"id"`
	Claim   string            `json:"claim"`
	Source  string            `json:"source"`
	Metric  string            `json:"metric"`
	Expect  string            `json:"expect"` // higher, ≥ 1.8
	Finding report.Finding    `json:"answer"`
	Shown   []ShownComparison `json:"shown"`

	metric report.Metric
	ratio  bool
}

// ShownComparison is one comparison that tests a claim; JSON leaves out what is not known.
type ShownComparison struct {
	Of      string         `json:"of"`   // uring compared with tcp, depth=4
	Kind    string         `json:"kind"` // ratio or value
	Finding report.Finding `json:"answer"`
	Why     string         `json:"why,omitempty"`
	Value   *float64       `json:"value,omitempty"` // in the metric's unit where it is no ratio
	Low     *float64       `json:"low,omitempty"`
	High    *float64       `json:"high,omitempty"`
	Level   *float64       `json:"level,omitempty"`
	PHolm   *float64       `json:"p_holm,omitempty"`
	Pairs   int            `json:"pairs"`
	LeftOut int            `json:"left_out"`

	finding report.ClaimResult
}

// JudgeClaims answers the claims about the folder's experiment: the claims.yaml in the folder, else that of the experiment of this name under
// experiments/. If name is not "", it names the experiment whose claims.yaml is used.
func (r *Folder) JudgeClaims(name string) (v FolderClaims, err error) {
	claims, err := r.claimsFor(name)
	if err != nil {
		return v, err
	}
	v = FolderClaims{Folder: r.Dir, Experiment: r.Experiment.Name, Generations: r.Plan.Generations}
	var all []report.ClaimTest
	for i := range claims {
		shown, err := r.shown(&claims[i])
		if err != nil {
			return v, err
		}
		all = append(all, shown...)
	}
	findings, err := report.JudgeClaims(all, r.Plan.Generations)
	if err != nil {
		return v, err
	}
	for i := range claims {
		c := &claims[i]
		of := findings[:len(c.Shown)]
		findings = findings[len(c.Shown):]
		v.Claims = append(v.Claims, r.judgedClaim(c, of))
	}
	return v, nil
}

// claimsFor are the claims for JudgeClaims.
func (r *Folder) claimsFor(name string) ([]experiment.Claim, error) {
	file := filepath.Join(r.Dir, lab.ExperimentCopy)
	if _, err := os.Stat(experiment.ClaimsPath(file)); err != nil || name != "" {
		if name == "" {
			name = filepath.Join("experiments", r.Experiment.Name) // not a folder of results with this name
		}
		if file, err = experiment.Find(name); err != nil {
			return nil, exit.Usagef("%s has no %s, and no experiment has one: %v (name one with --experiment)", r.Dir, experiment.ClaimsFile, err)
		}
	}
	claims, err := ReadClaims(file, r.Experiment, r.reader.Flags)
	if err == nil && len(claims) == 0 {
		err = exit.Usagef("there is no %s next to %s: there are no claims to verify", experiment.ClaimsFile, file)
	}
	return claims, err
}

// ReadClaims reads the claims about an experiment and checks their metrics. arg names the experiment as for experiment.Find. No claims are no error.
func ReadClaims(arg string, x *experiment.Experiment, flags experiment.Flags) ([]experiment.Claim, error) {
	file, err := experiment.Find(arg)
	if err != nil {
		return nil, exit.With(exit.Usage, err)
	}
	path := experiment.ClaimsPath(file)
	if path == "" {
		return nil, nil
	}
	claims, err := experiment.LoadClaims(path, x, flags)
	if err != nil {
		return nil, exit.With(exit.Usage, err)
	}
	for _, c := range claims {
		if _, err := report.FindQuantity(c.Metric); err != nil {
			return nil, exit.Usagef("%s:%d: claim %s: %v", c.File, c.Line, c.ID, err)
		}
	}
	return claims, nil
}

// shown are the comparisons that test a claim.
func (r *Folder) shown(c *experiment.Claim) (all []report.ClaimTest, err error) {
	m, err := report.FindQuantity(c.Metric)
	if err != nil {
		return nil, err // it was checked
	}
	expect := report.Expected{Least: c.Expect.Least, Most: c.Expect.Most}
	switch c.Expect.Direction {
	case experiment.Higher:
		expect.Direction = stats.Higher
	case experiment.Lower:
		expect.Direction = stats.Lower
	case experiment.Same:
		expect.Direction = stats.Same
	}
	for _, s := range c.Shown {
		aa, err := r.checkAA(s[0], m)
		if err != nil {
			return nil, err
		}
		one := report.ClaimTest{Metric: m, Expect: expect, AACheck: aa}
		for _, cell := range s {
			series := r.series(cell, false)
			series.Label = r.label(c, s, cell)
			one.Series = append(one.Series, series)
		}
		all = append(all, one)
	}
	return all, nil
}

// checkAA is the A/A comparison of a cell's question. If its baseline was not measured twice, it is that of another question: one whose baseline
// differs from itself, if there is one.
func (r *Folder) checkAA(cell int, m report.Metric) (other report.AACheck, err error) {
	for _, q := range r.Experiment.Questions() {
		s, err := report.CheckAA(r.series(q.Cells[0], false), r.series(q.Cells[0], true), m)
		if err != nil || s.Checked && slices.Contains(q.Cells, cell) {
			return s, err
		}
		if s.Checked && (s.Differs || !other.Checked) {
			other = s
		}
	}
	return other, nil
}

// differs reports whether the cells of a comparison differ in a flag.
func (r *Folder) differs(s experiment.Shown, flag string) bool {
	first, there := r.Experiment.Cells[s[0]].Get(flag)
	return slices.ContainsFunc(s, func(i int) bool {
		v, ok := r.Experiment.Cells[i].Get(flag)
		return v != first || ok != there
	})
}

// label names a cell of a comparison by the values in which it differs from the others; a single cell by its swept flags.
func (r *Folder) label(c *experiment.Claim, s experiment.Shown, cell int) string {
	return lab.WithDevice(r.values(c, s, cell), r.Experiment.Cells[cell])
}

// values is label without the device.
func (r *Folder) values(c *experiment.Claim, s experiment.Shown, cell int) string {
	if c.Along != "" {
		v, _ := r.Experiment.Cells[cell].Get(c.Along)
		return c.Along + "=" + v
	}
	if !c.Beside {
		return r.questionName(r.Experiment.Cells[cell])
	}
	var v []string
	for _, f := range r.Experiment.Cells[cell] {
		if r.Experiment.Sweeps(f.Name) && r.differs(s, f.Name) {
			v = append(v, f.Value)
		}
	}
	return strings.Join(v, " ")
}

// comparedText names the two sides of a comparison: "uring compared with tcp, depth=4".
func (r *Folder) comparedText(c *experiment.Claim, s experiment.Shown) string {
	first, last := r.label(c, s, s[0]), r.label(c, s, s[len(s)-1])
	if len(s) == 1 {
		return first
	}
	common := slices.DeleteFunc(slices.Clone(r.Experiment.Cells[s[0]]), func(f experiment.Flag) bool { return r.differs(s, f.Name) })
	text := last + " compared with " + first
	if c.Along != "" {
		_, last, _ = strings.Cut(last, "=")
		text = first + " to " + last
	}
	if also := r.questionName(common); also != "" {
		text += ", " + also
	}
	return text
}

// judgedClaim combines the findings of a claim.
func (r *Folder) judgedClaim(c *experiment.Claim, findings []report.ClaimResult) JudgedClaim {
	m, _ := report.FindQuantity(c.Metric) // it was checked
	v := JudgedClaim{ID: c.ID, Claim: c.Text, Source: c.Source, Metric: c.Metric, Finding: report.Overall(findings), metric: m, ratio: c.Beside || c.Along != ""}
	v.Expect = expectText(c.Expect, func(bound float64) string {
		if v.ratio {
			return fmt.Sprintf("%.4g", bound)
		}
		return m.Text(bound)
	})
	for i, f := range findings {
		one := ShownComparison{Of: r.comparedText(c, c.Shown[i]), Kind: "value", Finding: f.Finding, Why: f.Why, Value: finite(f.Value), Low: finite(f.Low), High: finite(f.High), Level: finite(f.Level),
			PHolm: finite(f.PHolm), Pairs: f.Pairs, LeftOut: f.LeftOut, finding: f}
		if v.ratio {
			one.Kind = "ratio"
		}
		v.Shown = append(v.Shown, one)
	}
	return v
}

// finite is a pointer to v, or nil for NaN and infinities.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// expectText formats an expectation for people: "higher, ≥ 1.8".
func expectText(e experiment.Expectation, number func(float64) string) string {
	var words []string
	if e.Direction != "" {
		words = append(words, e.Direction)
	}
	if !math.IsInf(e.Least, 0) {
		words = append(words, "≥ "+number(e.Least))
	}
	if !math.IsInf(e.Most, 0) {
		words = append(words, "≤ "+number(e.Most))
	}
	return strings.Join(words, ", ")
}

// PrintClaims prints the answers of folders, as text or as JSON.
func PrintClaims(w io.Writer, all []FolderClaims, asJSON bool) error {
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

// print prints a line for each comparison, and below them each claim's text with the reasons for its answer.
func (v *FolderClaims) print(w io.Writer) error {
	generations := "1 generation"
	if v.Generations != 1 {
		generations = fmt.Sprintf("%d generations", v.Generations)
	}
	fmt.Fprintf(w, "%s: claims about %s, %s\n\n", v.Folder, v.Experiment, generations)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "claim\tanswer\tmeasured\tinterval\tclaimed\tp (Holm)\tgenerations\tof")
	for _, c := range v.Claims {
		for _, s := range c.Shown {
			measured, interval := s.figures(&c)
			x := report.Comparison{Pairs: s.Pairs, LeftOut: s.LeftOut}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s: %s\n", c.ID, s.Finding, measured, interval, c.Expect, report.Number("%.3f", s.finding.PHolm),
				x.PairsText(), c.Metric, s.Of)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range v.Claims {
		fmt.Fprintf(w, "\n%s: %s\n  “%s” (%s)\n", c.ID, c.Finding, c.Claim, c.Source)
		c.printReasons(w)
	}
	return nil
}

// printReasons prints the reasons for the answers; a reason that all comparisons share, once.
func (c *JudgedClaim) printReasons(w io.Writer) {
	first := c.Shown[0].Why
	if !slices.ContainsFunc(c.Shown, func(s ShownComparison) bool { return s.Why != first }) {
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

// figures formats the measured figure and its interval for people; "" if there is none. A single value has no interval.
func (s *ShownComparison) figures(c *JudgedClaim) (measured, interval string) {
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

// Disagreements are the claims with which a folder disagrees, as EXPERIMENT/ID.
func Disagreements(all []FolderClaims) (ids []string) {
	for _, v := range all {
		for _, c := range v.Claims {
			if c.Finding == report.Disagrees {
				ids = append(ids, v.Experiment+"/"+c.ID)
			}
		}
	}
	return ids
}
