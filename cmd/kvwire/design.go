package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/report"
	"github.com/spf13/pflag"
)

// How often all cells of an experiment are run, where its file does not say.
const (
	quickBlocks    = 3  // no verdicts
	standardBlocks = 10 // the smallest exact p is 0.002
	paperBlocks    = 20
)

// blocksFlags say which runs there are to be.
type blocksFlags struct {
	quick, paper     bool
	dryRun, estimate bool
	primary          bool
	keepData         bool
	retry            int
	blocks           int
	resume           string
}

func (b *blocksFlags) add(s *pflag.FlagSet) {
	s.BoolVar(&b.quick, "quick", false, fmt.Sprintf("%d blocks, and no verdicts", quickBlocks))
	s.BoolVar(&b.paper, "paper", false, fmt.Sprintf("%d blocks", paperBlocks))
	s.IntVar(&b.blocks, "blocks", 0, fmt.Sprintf("how often all cells are run; default: as the experiment says, or %d", standardBlocks))
	s.BoolVar(&b.primary, "primary", false, "only the cells that the experiment makes claims about")
	s.BoolVar(&b.dryRun, "dry-run", false, "print the runs, and how much time and disk space they take, and run nothing")
	s.BoolVar(&b.estimate, "estimate", false, "the same without the runs")
	s.IntVar(&b.retry, "retry", 0, "repeat a run that the machine disturbed (steal, a CPU quota, other processes, drift), at most this many times; the column attempts has the number of tries")
	s.BoolVar(&b.keepData, "keep-data", false, "leave the stores that were loaded for the runs; default: they are removed at the end")
	s.StringVar(&b.resume, "resume", "", "a folder of results: do the runs that are missing or have failed there")
}

// of is the number of blocks; -1 when the flags contradict each other.
func (b *blocksFlags) of(x *experiments.Experiment) int {
	n, said := x.Blocks, 0
	if n == 0 {
		n = standardBlocks
	}
	for _, f := range []struct {
		set    bool
		blocks int
	}{{b.quick, quickBlocks}, {b.paper, paperBlocks}, {b.blocks != 0, b.blocks}} {
		if f.set {
			n = f.blocks
			said++
		}
	}
	if said > 1 || n < 1 || n > experiments.MaxBlocks {
		return -1
	}
	return n
}

// plan is what a folder of results has to be known of to go on with it.
type plan struct {
	ID     string `json:"id"`
	Blocks int    `json:"blocks"`
	Seed   uint64 `json:"seed"` // of the order of the runs
	GitRev string `json:"git_rev"`

	Experiment string      `json:"experiment,omitempty"` // its name, which the folder's is not when it is moved
	Inputs     inputCopies `json:"inputs,omitempty"`     // what its file names, and where it is here

	Launch  launchers `json:"launch,omitzero"`   // where the runs' processes are, which is the same for all runs
	Primary bool      `json:"primary,omitempty"` // only the primary family
	Retry   int       `json:"retry,omitempty"`   // times that a run is done again where the machine disturbed it

	numbers map[int]int // of cells in runs' names; nil: they are counted from 1
}

const (
	planFile       = "design.json"
	experimentCopy = "experiment.yaml"
)

// runID names a run: it is the same when it is tried again.
func (p *plan) runID(run experiments.Run) string {
	number := run.Cell + 1
	if p.numbers != nil {
		number = p.numbers[run.Cell]
	}
	id := fmt.Sprintf("%s-b%02d-c%03d", p.ID, run.Block, number)
	switch {
	case run.AA:
		id += "-aa"
	case run.Stages:
		id += "-stages"
	}
	return id
}

// create makes the folder of a new execution.
func (r *runner) create(path string, b blocksFlags) error {
	now := r.begun.UTC()
	r.plan = plan{Experiment: r.x.Name, ID: r.x.Name + "-" + now.Format("20060102-150405"), Blocks: b.of(r.x), Seed: uint64(now.UnixNano()), GitRev: version, Launch: r.plan.Launch, Primary: b.primary, Retry: b.retry}
	r.runs = r.design()
	if err := r.afford(); err != nil {
		return err
	}
	file, err := experiments.Find(path)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if r.dir != "" {
		if err := os.MkdirAll(r.dir, 0o755); err != nil {
			return fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err)
		}
		if _, err := os.Stat(filepath.Join(r.dir, "runs.csv")); err == nil {
			return hasResults(r.dir)
		}
	} else {
		if r.dir, err = newFolder(resultsFolder, r.plan.ID); err != nil {
			return err
		}
		r.plan.ID = filepath.Base(r.dir)
		r.data.dir = r.dataFolder()
	}
	if r.plan.Inputs, err = copyInputs(r.x, r.dir); err != nil {
		return err
	}
	inputs = opened{r.dir, r.plan.Inputs} // runs take the copies, which nobody changes meanwhile
	j, err := json.MarshalIndent(r.plan, "", " ")
	if err != nil {
		return err
	}
	err = r.claim(os.O_RDWR | os.O_CREATE | os.O_EXCL)
	if errors.Is(err, fs.ErrExist) {
		return hasResults(r.dir)
	}
	if err != nil {
		return err
	}
	_, err = r.claimed.Write(append(j, '\n'))
	return errors.Join(err, copyClaims(file, r.dir), report.WriteFile(filepath.Join(r.dir, experimentCopy), text))
}

func hasResults(dir string) error {
	return usagef("%s has results already: choose another --output-dir (or go on with --resume)", dir)
}

// resultsFolder is where folders of results are made that have no other place.
const resultsFolder = "results"

// newFolder makes a folder of that name, or of the name with -2, -3 and so on where another process has it.
func newFolder(parent, name string) (dir string, err error) {
	if err = os.MkdirAll(parent, 0o755); err == nil {
		dir = filepath.Join(parent, name)
		for n := 2; n <= foldersMax; n++ {
			if err = os.Mkdir(dir, 0o755); !errors.Is(err, fs.ErrExist) {
				break
			}
			dir = filepath.Join(parent, fmt.Sprintf("%s-%d", name, n))
		}
	}
	if err != nil {
		return "", fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err)
	}
	return dir, nil
}

// foldersMax bounds the folders of one experiment that are made in one second.
const foldersMax = 1000

// claim opens the plan's file, whose lock keeps other processes from the folder's runs until this one ends.
func (r *runner) claim(how int) error {
	f, err := os.OpenFile(filepath.Join(r.dir, planFile), how, 0o644)
	if err != nil {
		return err
	}
	if err := report.TryLock(f); err != nil {
		return errors.Join(fmt.Errorf("%s: another kvwire run uses this folder: %w", r.dir, err), f.Close())
	}
	r.claimed = f
	return nil
}

// design are the runs of the plan. Load hosts tell no stages.
func (r *runner) design() []experiments.Run {
	if len(r.plan.Launch.Clients) > 0 {
		r.x.Stages = nil
	}
	return r.x.Design(r.plan.Blocks, r.plan.Seed)
}

// load takes over the plan and the rows of a folder.
func (r *runner) load(dir string) error {
	r.dir, r.rows = dir, map[string]report.Row{}
	if err := r.plan.read(dir); err != nil {
		return err
	}
	if r.plan.Primary && !r.x.OnlyPrimary() {
		return fmt.Errorf("%s has the primary claims alone, and %s names none: run the experiment anew", filepath.Join(dir, planFile), experimentCopy)
	}
	r.runs = r.design()
	rows, err := readRows(filepath.Join(dir, "runs.csv"))
	for _, row := range rows {
		r.rows[row.RunID] = row
	}
	return errors.Join(err, r.number())
}

// number sees that each row is of the cell that its name says. A folder of an early version with the primary claims alone counts
// their cells alone.
func (r *runner) number() error {
	stranger := r.stranger()
	if stranger == nil || !r.plan.Primary {
		return stranger
	}
	var cells []int
	for _, q := range r.x.Questions() {
		cells = append(cells, q.Cells...)
	}
	slices.Sort(cells)
	r.plan.numbers = map[int]int{}
	for i, cell := range cells {
		r.plan.numbers[cell] = i + 1
	}
	if r.stranger() != nil {
		return stranger
	}
	return nil
}

// cellColumns are flags whose values stand in a row as they were given, under the same name.
var cellColumns = []string{"transport", "backend", "mix", "value-bytes", "key-bytes", "depth", "wait", "placement", "loop", "rdma-verb", "disk-engine", "update", "durability"}

// stranger is an error where a row is not of the cell that its name says: the design or the rows are another experiment's.
func (r *runner) stranger() error {
	factors := map[int]*report.Row{} // by cell
	found := 0
	for _, run := range r.runs {
		id := r.plan.runID(run)
		row, there := r.rows[id]
		if !there {
			continue
		}
		found++
		c := r.x.Cells[run.Cell]
		if factors[run.Cell] == nil {
			f, err := cellFactors(c)
			if err != nil {
				return err
			}
			factors[run.Cell] = f.row()
		}
		for _, name := range cellColumns {
			column := strings.ReplaceAll(name, "-", "_")
			want, _ := factors[run.Cell].Value(column)
			got, _ := row.Value(column)
			if _, sets := c.Get(name); sets && want != "" && got != "" && got != want {
				return fmt.Errorf("run %s in runs.csv has %s %s, and its cell in %s has %s: they belong to different experiments", id, column, got, experimentCopy, want)
			}
		}
	}
	if found == 0 && len(r.rows) > 0 {
		return fmt.Errorf("%s names none of the %d runs in runs.csv: they belong to different experiments", planFile, len(r.rows))
	}
	return nil
}

// read reads the plan of a folder.
func (p *plan) read(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, planFile))
	if err != nil {
		return usagef("%w (name a folder that kvwire run has made)", err)
	}
	if err := json.Unmarshal(b, p); err != nil || p.Blocks < 1 || p.Blocks > experiments.MaxBlocks {
		return fmt.Errorf("%s is damaged (%v): run the experiment anew", filepath.Join(dir, planFile), err)
	}
	return nil
}

// timeOfID ends a plan's ID, behind the experiment's name.
var timeOfID = regexp.MustCompile(`-[0-9]{8}-[0-9]{6}(-[0-9]+)?$`)

// readCopy reads the experiment of a folder of results from what lies in it, whatever the folder is called and wherever it is. From
// then on its inputs are the copies in the folder.
func readCopy(dir string) (*experiments.Experiment, error) {
	var p plan
	if err := p.read(dir); err != nil {
		return nil, err
	}
	if err := p.Inputs.check(dir); err != nil {
		return nil, err
	}
	inputs = opened{dir, p.Inputs}
	return readExperimentAs(filepath.Join(dir, experimentCopy), cmp.Or(p.Experiment, timeOfID.ReplaceAllString(p.ID, "")))
}

// failedRun begins the reason of a run that failed, though it counted operations; one that read wrong data is not tried again.
var failedRun = fmt.Sprintf("exit status %d: ", exitFailed)

// resume goes on in a folder. Runs that failed or were cut short are done again.
func (r *runner) resume(dir string) error {
	if err := r.load(dir); err != nil {
		return fmt.Errorf("--resume %s: %w", dir, err)
	}
	if err := r.claim(os.O_RDWR); err != nil {
		return fmt.Errorf("--resume %w", err)
	}
	if r.plan.GitRev != version {
		return fmt.Errorf("--resume %s: it was begun by kvwire %s, this is %s: go on with that one, or run the experiment anew", dir, r.plan.GitRev, version)
	}
	maps.DeleteFunc(r.rows, func(_ string, row report.Row) bool {
		return row.SkippedReason != "" || !row.Ops.Known() || strings.Contains(row.InvalidReason, "interrupted") || strings.HasPrefix(row.InvalidReason, failedRun)
	})
	fmt.Fprintf(os.Stderr, "kvwire: %s has %d of its runs\n", dir, len(r.rows))
	if err := r.afford(); err != nil {
		return fmt.Errorf("--resume %s: %w", dir, err)
	}
	if err := report.Forget(dir, func(run string) bool { _, there := r.rows[run]; return there }); err != nil {
		return fmt.Errorf("--resume %s: %w", dir, err)
	}
	return nil
}

// inOrder are the rows that there are, in the order of the design.
func (r *runner) inOrder() (rows []report.Row) {
	for _, run := range r.runs {
		if row, ok := r.rows[r.plan.runID(run)]; ok {
			rows = append(rows, row)
		}
	}
	return rows
}

// answer is a question with what was measured of it. With several blocks a row is its cell's runs together.
type answer struct {
	experiments.Question
	rows []report.Row              // of the cells that were run
	lats []*hdrhistogram.Histogram // theirs; nil: none
	cell []int                     // whose they are
}

// answers are all questions, in the order in which they are compared.
func (r *runner) answers() (all []answer, err error) {
	for _, q := range r.x.Questions() {
		a := answer{Question: q}
		for _, c := range q.Cells {
			of := r.runsOf(c, false)
			if len(of) == 0 {
				continue
			}
			row, lat, err := report.Together(of, r.histogram)
			if err != nil {
				return all, err
			}
			a.rows, a.lats, a.cell = append(a.rows, row), append(a.lats, lat), append(a.cell, c)
		}
		all = append(all, a)
	}
	return all, nil
}

// histogram has a run's latencies; nil: they are lost.
func (r *runner) histogram(id string) (*hdrhistogram.Histogram, error) {
	h, err := report.ReadHistogram(r.dir, id)
	if errors.Is(err, fs.ErrNotExist) {
		r.lost++
		return nil, nil
	}
	return h, err
}

// compare writes compare.csv, where there are blocks to pair.
func (r *runner) compare() ([]report.Comparison, error) {
	if r.plan.Blocks < 2 {
		return nil, nil
	}
	var pairs []report.Pairs
	for _, q := range r.x.Questions() {
		if len(q.Cells) < 2 {
			continue
		}
		p := report.Pairs{Question: r.asked(q.Flags), Baseline: r.series(q.Cells[0], false), Again: r.series(q.Cells[0], true)}
		if r.x.Primary.Has(q.Flags) && r.plan.Blocks > quickBlocks {
			p.Primary = r.x.Primary.Metrics
		}
		for _, c := range q.Cells[1:] {
			p.Variants = append(p.Variants, r.series(c, false))
		}
		pairs = append(pairs, p)
	}
	all, err := report.Compare(pairs)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all, r.write("compare.csv", func(w io.Writer) error { return report.WriteComparisons(w, all) })
}

// series are a cell's runs by block: those of the cell itself, or those of the baseline once more.
func (r *runner) series(cell int, aa bool) report.Series {
	_, v := r.x.Split(r.x.Cells[cell])
	s := report.Series{Label: named(r.x, v), Rows: map[int]*report.Row{}}
	for _, row := range r.runsOf(cell, aa) {
		block, _ := row.Block.Get()
		s.Rows[int(block)] = &row
	}
	return s
}

// claimsMax bounds a primary family: with 10 blocks Holm's method can reject at most 25.
const claimsMax = 12

// checkClaims sees that the primary metrics exist, and that the claims are few.
func checkClaims(path string, x *experiments.Experiment) error {
	if x.Primary == nil {
		return nil
	}
	for _, name := range x.Primary.Metrics {
		if _, err := report.FindMetric(name); err != nil {
			return usagef("%s: primary: %v", path, err)
		}
	}
	n := 0
	for _, q := range x.Questions() {
		if x.Primary.Has(q.Flags) {
			n += (len(q.Cells) - 1) * len(x.Primary.Metrics)
		}
	}
	if n == 0 || n > claimsMax {
		return usagef("%s: primary makes %d claims: choose its flags and metrics so that there are 1 to %d", path, n, claimsMax)
	}
	return nil
}

// named is what tells a variant from the others: the values of what sweeps, "rdma write"; of a switch its name, where it is on.
func named(x *experiments.Experiment, v experiments.Cell) string {
	var say []string
	for _, f := range v {
		switch {
		case f.Name == x.Compare:
			say = append(say, f.Value)
		case !x.Sweeps(f.Name), f.Value == "false":
		case f.Value == "true":
			say = append(say, f.Name)
		default:
			say = append(say, f.Value)
		}
	}
	return strings.Join(say, " ")
}

// asked is what tells a question from the others: the flags that sweep.
func (r *runner) asked(q experiments.Cell) string {
	var say []string
	for _, f := range q {
		if r.x.Sweeps(f.Name) {
			say = append(say, f.Name+"="+f.Value)
		}
	}
	return strings.Join(say, " ")
}

// printVerdicts prints the claims, or why there are none.
func (r *runner) printVerdicts(w io.Writer, all []report.Comparison) error {
	if r.plan.Blocks < 2 || len(all) == 0 {
		return nil
	}
	var claims []report.Comparison
	for _, c := range all {
		if c.Verdict != "" {
			claims = append(claims, c)
		}
	}
	fmt.Fprintln(w)
	if len(claims) == 0 {
		why := "the experiment has no primary claims"
		if r.plan.Blocks <= quickBlocks {
			why = fmt.Sprintf("%d blocks are too few", r.plan.Blocks)
		}
		fmt.Fprintf(w, "No verdicts: %s. compare.csv has %d ratios with intervals.\n", why, len(all))
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "verdict\tof\tbeside\tin\tratio\t95 % interval\tp (Holm)\tδ\tpairs")
	for _, c := range claims {
		interval := ""
		if c.Pairs > 0 {
			interval = fmt.Sprintf("%.2f to %.2f", c.Low, c.High)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s %s\t%s\t%s\t%s\t%s\t%s\n", c.Verdict, c.Variant, c.Baseline, c.Question, c.Metric.Name, report.Number("%.2f", c.Ratio), interval,
			report.Number("%.3f", c.PHolm), report.Number("%.2f", c.Delta), c.PairsText())
	}
	return t.Flush()
}
