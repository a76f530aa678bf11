package instrument

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
)

// Files that kvwire instrument writes.
const (
	pageFile    = "instrument.md"
	figuresFile = "instrument.json"
	trialsFile  = "instrument.csv"
)

// result is what the command found: instrument.json.
type result struct {
	Command     string           `json:"command"`
	Began       string           `json:"began"`
	Seconds     float64          `json:"seconds"`
	Revision    string           `json:"revision"`
	Interrupted bool             `json:"interrupted,omitempty"`
	Failed      string           `json:"failed,omitempty"`    // the error that ended it early
	SliceNs     int64            `json:"slice_ns"`            // the first tenth is not counted
	TimeNs      int64            `json:"time_ns"`             // of a generation; 0: as short as possible
	WarmupNs    int64            `json:"warmup_ns"`           // of each process
	BusyCPUs    *float64         `json:"busy_cpus,omitempty"` // busy with other processes before the start; nil: not known
	AA          *studyResult     `json:"aa,omitempty"`
	Whole       *studyResult     `json:"whole,omitempty"` // slices compared with uninterrupted load
	Injected    []studyResult    `json:"injected,omitempty"`
	Agreement   *agreementResult `json:"agreement,omitempty"`
	Env         report.Env       `json:"env"`
}

// studyResult is one study: a cell compared with itself, or with variants of known cost.
type studyResult struct {
	Load        bool           `json:"competing_load"`
	Asked       int            `json:"experiments_asked"`
	Generations int            `json:"generations"`
	Conns       int            `json:"conns"`
	Depth       int            `json:"depth"`
	Wait        string         `json:"wait,omitempty"`             // of the loops, in trials with known costs: block or spin
	Coverage    []lab.Coverage `json:"coverage"`                   // of the intervals of a cell compared with itself
	ServerNs    float64        `json:"server_ns_per_op,omitempty"` // the server's CPU time for a request, measured beforehand: median
	Costs       []injectedCost `json:"injected_costs,omitempty"`   // computed from ServerNs
	Injected    []lab.Injected `json:"injected_results,omitempty"` // the results for these costs

	trials []lab.TrialResult
}

// injectedCost is CPU time that a server adds to each request.
type injectedCost struct {
	Label  string  `json:"label"`
	Share  float64 `json:"share"`        // the intended share of the server's CPU time per request
	BusyNs int64   `json:"null_busy_ns"` // the value of --null-busy
	CostNs int64   `json:"cost_ns"`      // the CPU time that it really takes, measured
}

// done is the number of complete trials of the study.
func (s *studyResult) done() (n int) {
	for _, t := range s.trials {
		n = max(n, t.Number)
	}
	return n
}

// disagreements are the metrics whose A/A coverage disagrees with the theory.
func (r *result) disagreements() (metrics []string) {
	if r.AA == nil {
		return nil
	}
	for _, c := range r.AA.Coverage {
		if !c.Agrees() {
			metrics = append(metrics, c.Metric)
		}
	}
	return metrics
}

// write writes the three files into dir.
func (r *result) write(dir string) error {
	figures, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	trials, err := r.csv()
	if err != nil {
		return err
	}
	return errors.Join(report.WriteFile(filepath.Join(dir, figuresFile), append(figures, '\n')), report.WriteFile(filepath.Join(dir, trialsFile), trials),
		report.WriteFile(filepath.Join(dir, pageFile), []byte(r.text())))
}

// csv has a line for each trial, variant and metric.
func (r *result) csv() ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	number := func(v float64) string {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return ""
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	_ = w.Write([]string{"study", "competing_load", "experiment", "variant", "metric", "generations", "left_out", "expected_ratio", "ratio", "low", "high", "level", "aa_low", "aa_high", "aa_level",
		"corrected_low", "corrected_high", "corrected_level", "verdict", "why"})
	add := func(name string, s *studyResult) {
		for _, t := range s.trials {
			_ = w.Write([]string{name, strconv.FormatBool(s.Load), strconv.Itoa(t.Number), t.Variant, t.Metric.Name, strconv.Itoa(t.Pairs), strconv.Itoa(t.LeftOut), number(t.Expected), number(t.Ratio),
				number(t.Low), number(t.High), number(t.Level), number(t.AA.Low), number(t.AA.High), number(t.AA.Level),
				number(t.Corrected.Low), number(t.Corrected.High), number(t.Corrected.Level), t.Verdict, t.Why})
		}
	}
	if r.AA != nil {
		add("aa", r.AA)
	}
	if r.Whole != nil {
		add("whole", r.Whole)
	}
	for i := range r.Injected {
		add("injected", &r.Injected[i])
	}
	w.Flush()
	return b.Bytes(), w.Error()
}

// text is instrument.md.
func (r *result) text() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Is the instrument right?\n")
	p("kvwire compares variants with exact intervals. This page tests these intervals with trials whose true ratios are known beforehand. They are measured as `kvwire run` measures:")
	p("each generation has fresh processes, whose slices of load alternate, and gives one log-ratio; the interval over the generations is that of Hodges and Lehmann.\n")
	r.how(p)
	if r.AA != nil {
		r.aaText(p)
	}
	if r.Whole != nil {
		r.Whole.wholeText(p)
	}
	for i := range r.Injected {
		r.Injected[i].injectedText(p)
	}
	if r.Agreement != nil {
		r.Agreement.text(p)
	}
	p("All tables can be recomputed from instrument.csv, which has the interval of each trial (column experiment), and from instrument.json, which has these figures.")
	return b.String()
}

// how writes how and where it was measured.
func (r *result) how(p func(string, ...any)) {
	p("| | |\n|---|---|")
	p("| command | `%s` |", r.Command)
	p("| start, duration | %s, %v |", r.Began, (time.Duration(r.Seconds) * time.Second).String())
	p("| commit | %s |", r.Revision)
	p("| machine | %s, %d CPUs%s |", cmp.Or(r.Env.CPUModel, r.Env.Arch), r.Env.CPUs, map[bool]string{true: ", virtual"}[r.Env.Hypervisor != nil && *r.Env.Hypervisor])
	p("| kernel | %s, %s |", r.Env.Kernel, r.Env.OS)
	if r.BusyCPUs != nil {
		p("| CPUs busy with other processes before the start | %.2f of %d |", *r.BusyCPUs, r.Env.CPUs)
	}
	time := "as short as possible: 4 slices of each process"
	if r.TimeNs > 0 {
		time = report.Duration(r.TimeNs)
	}
	p("| slice, generation | %s, of which the first tenth is not counted; %s |", report.Duration(r.SliceNs), time)
	p("")
	if r.Failed != "" {
		p("**It ended early:** %s. The figures below are from the complete trials.\n", r.Failed)
	} else if r.Interrupted {
		p("**It was interrupted.** The figures below are from the complete trials.\n")
	}
}

func loadText(load bool) string {
	if load {
		return "with a competing load: one thread of another process that takes CPU time, on and off for 20 to 300 ms at a time"
	}
	return "on the machine as it was, without a competing load"
}

func (r *result) aaText(p func(string, ...any)) {
	s := r.AA
	p("## A cell compared with itself\n")
	p("Two processes of one cell are compared (tcp, get of 64 B, backend null, %d connections with %d requests in flight each), %s. The true ratio is 1. Complete trials: %d of %d, each with %d generations. Two",
		s.Conns, s.Depth, loadText(s.Load), s.done(), s.Asked, s.Generations)
	p("trials are measured together: their four processes alternate, and share nothing but the machine. *Attained* is the coverage of the intervals by theory: with so few generations only some levels are possible.")
	p("*Agrees*: the attained coverage lies within the exact 95 %% interval of the observed share (Clopper and Pearson). A right instrument fails this by chance, for each metric in at most one of 20 runs.\n")
	coverageText(p, s.Coverage, true)
}

// wholeText writes the ratios of slices to uninterrupted load.
func (s *studyResult) wholeText(p func(string, ...any)) {
	p("## Slices compared with uninterrupted load\n")
	p("One process (tcp, get of 64 B, backend null, %d connections with %d requests in flight each) is measured %s. It has 10 s of load in slices of %v, which alternate with slices of a second process, and 10 s in pieces of a second that", s.Conns, s.Depth,
		loadText(false), lab.DefaultSlice)
	p("nothing interrupts. Each of %d generations has fresh processes and ten rounds of both, in random order. If alternation costs nothing, the ratio is 1.\n", s.Asked)
	p("| metric | generations | slices / uninterrupted | interval | level |")
	p("|---|---|---|---|---|")
	for _, t := range s.trials {
		if t.Pairs > 0 {
			p("| %s | %d | %.3f | %.3f to %.3f | %.4f |", t.Metric.Name, t.Pairs, t.Ratio, t.Low, t.High, t.Level)
		}
	}
	p("")
}

// coverageText is a table of coverages.
func coverageText(p func(string, ...any), all []lab.Coverage, judged bool) {
	head, line := "", ""
	if judged {
		head, line = " agrees |", "---|"
	}
	p("| metric | trials | interval contains 1 | share | exact 95 %% interval | attained |%s half-width of the intervals, median |", head)
	p("|---|---|---|---|---|---|%s---|", line)
	short := 0
	for i := range all {
		c := &all[i]
		agrees := ""
		if judged {
			agrees = " " + map[bool]string{true: "yes", false: "**no**"}[c.Agrees()] + " |"
		}
		p("| %s | %d | %d | %.3f | %.3f to %.3f | %.4f |%s %.1f %% |", c.Metric, c.Experiments, c.Covered, float64(c.Covered)/float64(c.Experiments), c.Low, c.High, c.Attained, agrees, 100*c.HalfWidth)
		short = max(short, c.Short)
	}
	p("")
	if short > 0 {
		p("Up to %d trials of a metric lack a generation, because a run was invalid. Their intervals have the level of the remaining generations.\n", short)
	}
}

func (s *studyResult) injectedText(p func(string, ...any)) {
	p("## A known cost in one variant, %s\n", map[bool]string{true: "with a competing load", false: "without a competing load"}[s.Load])
	p("Measured %s. One connection has one request in flight: nothing is batched, so the cost is the same for each request. %d generations each; complete trials: %d of %d.", loadText(s.Load), s.Generations, s.done(), s.Asked)
	if s.Wait == "spin" {
		p("Loops spin (`--wait spin`), so no thread sleeps longer, or wakes up later, than in the baseline. Both sides then take CPU time for as long as")
		p("a request takes, so CPU time is expected to grow by the same ratio as the median latency, which grows by the known cost.")
	} else {
		p("Loops block. A thread that sleeps longer also wakes up later, and waking it takes more CPU time. So on some machines the measured cost is larger than the known cost.")
	}
	p("The baseline and all variants answer %v later than the store would (`--null-delay`), and the variant with the delay %v later: so the cost of the timer is in the baseline, too. The server's CPU time per request was measured", injectedDelay, 2*injectedDelay)
	p("beforehand in the same way: %s (median of %d generations).\n", report.Duration(int64(s.ServerNs)), s.Generations)
	for _, c := range s.Costs {
		p("- %s: `--null-busy %s`, which takes %s.", c.Label, report.Duration(c.BusyNs), report.Duration(c.CostNs))
	}
	p("\nThe expected ratio of a metric (cpu_ns_per_op: client and server together) is computed from the baseline of each trial. *Found*: the 95 %% interval excludes 1, on the right side.")
	p("*Verdict*: there is one, after Holm's correction for the %d claims of a trial and the A/A check.\n", s.claims())
	p("| variant | metric | trials | expected | estimate, median | error, median | found | wrong side | contains the expected ratio | verdict | half-width, median |")
	p("|---|---|---|---|---|---|---|---|---|---|---|")
	for _, x := range s.Injected {
		if x.Experiments == 0 { // no ratio, as on a machine so busy that a slice has too few requests for a percentile
			p("| %s | %s | 0 | | | | | | | | |", x.Variant, x.Metric)
			continue
		}
		share := func(n int) string { return fmt.Sprintf("%.0f %%", 100*float64(n)/float64(x.Experiments)) }
		p("| %s | %s | %d | %.4f | %.4f | %.2f %% | %s | %s | %s | %s | %.1f %% |", x.Variant, x.Metric, x.Experiments, x.Expected, x.Ratio, 100*x.Error, share(x.Found), share(x.Opposite), share(x.Covered),
			share(x.Verdicts), 100*x.HalfWidth)
	}
	p("\nThe second process of the baseline, compared with the first, in the same trials:\n")
	coverageText(p, s.Coverage, false)
}

// claims is the number of claims of a trial.
func (s *studyResult) claims() (n int) {
	for i := range s.trials {
		if s.trials[i].Number == 1 && s.trials[i].Claim() {
			n++
		}
	}
	return n
}

func (a *agreementResult) text(p func(string, ...any)) {
	p("## The same load by redis-benchmark\n")
	if a.Skipped != "" {
		p("Not measured: %s.\n", a.Skipped)
		return
	}
	p("A kvwire server (tcp, mem) speaks Redis's protocol. redis-benchmark and `kvwire bench --target redis://` send gets of %d B among %d keys. They alternate in random order, about %v each, on", agreementBytes,
		agreementRecords, agreementWindow)
	p("the same CPUs; the server has others. The loops are closed, so a faster client gets more answers: the ratio also compares the clients. redis-benchmark sends the requests in flight")
	p("(-P) together and waits for all answers; kvwire sends a new request after each answer. With one in flight (-P 1) both do the same. *Client busy* is the client's CPU time for an operation times its rate:")
	p("near 100 %% the client itself is what limits the rate, and the ratio is that of the clients' costs, not of what they measure.\n")
	p("| connections x in flight | pairs | redis-benchmark, median ops/s | kvwire, median ops/s | client busy: redis-benchmark, kvwire | kvwire / redis-benchmark | interval | level |")
	p("|---|---|---|---|---|---|---|---|")
	for _, l := range a.Loads {
		if len(l.Redis) == 0 {
			continue
		}
		p("| %d x %d | %d | %s | %s | %.0f %%, %.0f %% | %.3f | %.3f to %.3f | %.4f |", l.Conns, l.Depth, len(l.Redis), report.Rate(middle(l.Redis)), report.Rate(middle(l.Kvwire)),
			middle(l.RedisCPU)*middle(l.Redis)/1e7, middle(l.KvwireCPU)*middle(l.Kvwire)/1e7, l.Ratio, l.Low, l.High, l.Level)
	}
	p("")
}

// middle is the median of values, the upper one of two.
func middle(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}
