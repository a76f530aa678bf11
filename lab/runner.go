package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/kvwire/kvwire/internal/plural"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// Settings are the parameters of an experiment's measurement.
type Settings struct {
	Generations int           `json:"generations"`
	Seed        uint64        `json:"seed"`               // of all random orders
	Slice       time.Duration `json:"slice_ns,omitempty"` // load on one variant at a time, including the settle time; 0: whole runs
	Time        time.Duration `json:"time_ns,omitempty"`  // for each question, all generations together; 0: DefaultTime, in proportion to the number of generations
	Until       float64       `json:"until,omitempty"`    // a question ends when its intervals have at most this half-width: 0.03 for 3 %; 0: all generations are measured
	Retry       int           `json:"retry,omitempty"`    // whole runs: how often a run that the machine disturbed is repeated
}

// Bounds and defaults.
const (
	DefaultSlice       = 50 * time.Millisecond
	SliceMin           = experiment.SliceMin
	DefaultGenerations = 12 // an exact 95 % interval needs 6, verdicts on 12 claims 9
	UntilGenerations   = 24 // default with Until, which looks after half of them, three quarters, and all
	LooksMax           = 3

	timeMin      = 60 * time.Second // least time of a question
	timeEach     = 12 * time.Second // least time of a question for each of its variants
	diskTimes    = 3                // times as long if data sets are copied
	settleShare  = 10               // one part in so many of a slice is settle time
	roundsMin    = 4                // least number of rounds in a generation, whatever its time
	betweenMost  = 9 * time.Millisecond
	breakdownMax = 3 // number of generations with stages runs and calibration of unit costs
)

// DefaultTime is the time of a question for DefaultGenerations. variants includes the baseline's second process.
func DefaultTime(variants int, disk bool) time.Duration {
	t := max(timeMin, time.Duration(variants)*timeEach)
	if disk {
		t *= diskTimes
	}
	return t
}

// Looks are the numbers of generations after which Until looks at the intervals. They are fixed beforehand; the last look is after all generations.
func Looks(generations int) []int {
	return slices.Compact([]int{(generations + 1) / 2, (3*generations + 3) / 4, generations})
}

// Runner measures an experiment. Its exported fields are set before Run, and do not change.
type Runner struct {
	Experiment *experiment.Experiment
	Settings
	Exec    Exec
	Keeper  Keeper
	Watcher Watcher
	Name    func(run experiment.Run) string                               // the run_id of a run's row
	Labels  func(question experiment.Question) (name string, of []string) // the name of a question, and of its variants

	questions []question
	failed    map[string]error // variants that failed twice in one generation, by question and label
	absent    map[string]bool  // variants that cannot be run here, by question and label
	overhead  time.Duration    // time to start and end the processes of the last generation
	spent     time.Duration    // time of the measured steps
	planned   time.Duration    // planned time of the measured steps
	done, of  int
}

// question is a question of the experiment, with its state in Run.
type question struct {
	experiment.Question
	name   string
	labels []string
	facts  []Facts
	whole  bool // its cells are measured in whole runs
	time   time.Duration
	closed bool      // no more generations: its intervals are narrow enough
	only   []Variant // for Measure: the variants; nil: those of the cells
}

// step is one generation of a question, or a whole run.
type step struct {
	question, generation int
	whole                *experiment.Run
}

// Prepare reads the facts of all cells. It starts nothing, and does nothing when called again.
func (r *Runner) Prepare() error {
	if r.questions != nil {
		return nil
	}
	for _, q := range r.Experiment.Questions() {
		one := question{Question: q, whole: r.Slice <= 0}
		one.name, one.labels = r.Labels(q)
		disk := false
		for _, c := range q.Cells {
			f, err := r.Exec.Facts(c)
			if err != nil {
				return err
			}
			one.facts = append(one.facts, f)
			one.whole = one.whole || f.Whole != ""
			disk = disk || f.Disk
		}
		if one.time = r.Time; one.time <= 0 {
			one.time = DefaultTime(one.here(), disk) * time.Duration(r.Generations) / DefaultGenerations
		}
		r.questions = append(r.questions, one)
	}
	return nil
}

// variants are the processes of a generation of a question: one for each cell, and, if there are several cells, the baseline once more.
func (q *question) variants() (all []Variant) {
	if q.only != nil {
		return q.only
	}
	for i, c := range q.Cells {
		all = append(all, Variant{Cell: c, Label: q.labels[i]})
	}
	if len(q.Cells) > 1 {
		all = append(all, Variant{Cell: q.Cells[0], Again: true, Label: q.labels[0] + " again"})
	}
	for i := range all {
		all[i].Place = i
	}
	return all
}

// here is the number of variants that can be run on this machine.
func (q *question) here() (n int) {
	for i := range q.facts {
		if q.facts[i].Here {
			n++
		}
	}
	if n > 0 && len(q.Cells) > 1 && q.facts[0].Here {
		n++
	}
	return n
}

// steps are all steps of the plan, in order: by generation, and within a generation in a random order.
func (r *Runner) steps() (all []step) {
	for g := 1; g <= r.Generations; g++ {
		rng := rand.New(rand.NewPCG(r.Seed, uint64(g)))
		var some []step
		for i := range r.questions {
			q := &r.questions[i]
			if !q.whole {
				some = append(some, step{question: i, generation: g})
				continue
			}
			for _, run := range q.wholeRuns(g, r.Generations > 1 || r.Slice > 0) {
				some = append(some, step{question: i, generation: g, whole: &run})
			}
		}
		if g <= breakdownMax {
			for i, c := range r.Experiment.Cells {
				if r.Experiment.Stages.Concerns(c) && r.measured(i) {
					some = append(some, step{question: -1, generation: g, whole: &experiment.Run{Generation: g, Cell: i, Stages: true}})
				}
			}
		}
		if r.Generations > 1 {
			rng.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		}
		for i, s := range some {
			if s.whole != nil {
				s.whole.Order = i + 1
			}
		}
		all = append(all, some...)
	}
	return all
}

// measured reports whether a cell belongs to a question.
func (r *Runner) measured(cell int) bool {
	return slices.ContainsFunc(r.questions, func(q question) bool { return slices.Contains(q.Cells, cell) })
}

// wholeRuns are the whole runs of one generation of a question.
func (q *question) wholeRuns(generation int, again bool) (runs []experiment.Run) {
	for _, c := range q.Cells {
		runs = append(runs, experiment.Run{Generation: generation, Cell: c})
	}
	if again && len(q.Cells) > 1 {
		runs = append(runs, experiment.Run{Generation: generation, Cell: q.Cells[0], AA: true})
	}
	return runs
}

// Runs are all runs of the plan that have a row, in the order of the plan.
func (r *Runner) Runs() (all []experiment.Run) {
	for _, s := range r.steps() {
		all = append(all, r.runsOf(s)...)
	}
	return all
}

// runsOf are the runs of a step.
func (r *Runner) runsOf(s step) (runs []experiment.Run) {
	if s.whole != nil {
		return []experiment.Run{*s.whole}
	}
	for _, v := range r.questions[s.question].variants() {
		runs = append(runs, experiment.Run{Generation: s.generation, Order: v.Place + 1, Cell: v.Cell, AA: v.Again})
	}
	return runs
}

// Estimate is the planned time of all steps that are not kept yet, without the time to load data.
func (r *Runner) Estimate() (sum time.Duration) {
	for _, s := range r.steps() {
		if !r.kept(s) {
			sum += r.timeOf(s)
		}
	}
	return sum
}

// Together are, for each step of a generation, the cells whose processes live at the same time.
func (r *Runner) Together() (all [][]int) {
	for i := range r.questions {
		q := &r.questions[i]
		var cells []int
		for _, v := range q.variants() {
			if cells = append(cells, v.Cell); q.whole {
				all, cells = append(all, cells), nil
			}
		}
		all = append(all, cells)
	}
	return all
}

// Method is a text for people: "slices of 50ms", "whole runs", or both.
func (r *Runner) Method() string {
	whole := 0
	for _, q := range r.questions {
		if q.whole {
			whole++
		}
	}
	switch whole {
	case 0:
		return fmt.Sprintf("slices of %v", r.Slice)
	case len(r.questions):
		return "whole runs"
	}
	return fmt.Sprintf("slices of %v, %s in whole runs", r.Slice, plural.Of(whole, "question"))
}

// timeOf is the planned time of a step.
func (r *Runner) timeOf(s step) time.Duration {
	if s.whole == nil {
		if !slices.ContainsFunc(r.questions[s.question].facts, func(f Facts) bool { return f.Here }) {
			return 0
		}
		return r.questions[s.question].time / time.Duration(r.Generations)
	}
	f := r.factsOf(s.whole.Cell)
	if !f.Here {
		return 0
	}
	row := f.Row
	window, _ := row.DurationNs.Get()
	warmup, _ := row.WarmupNs.Get()
	return time.Duration(window+warmup) + wholeOverhead
}

// wholeOverhead is the time of a whole run besides its warm-up and window: to start and end processes, and to measure the idle machine.
const wholeOverhead = 450 * time.Millisecond

func (r *Runner) factsOf(cell int) Facts {
	for _, q := range r.questions {
		if i := slices.Index(q.Cells, cell); i >= 0 {
			return q.facts[i]
		}
	}
	f, _ := r.Exec.Facts(cell)
	return f
}

// kept reports whether all rows of a step are kept.
func (r *Runner) kept(s step) bool {
	return r.Keeper != nil && !slices.ContainsFunc(r.runsOf(s), func(run experiment.Run) bool { return !r.Keeper.Has(r.Name(run)) })
}

// Run measures all steps that are not kept yet. When ctx ends, Run drops the current generation, keeps all complete ones, and returns nil.
// A variant that fails twice has a row with the reason. An error means that nothing more can be measured or kept.
func (r *Runner) Run(ctx context.Context) error {
	if err := r.Prepare(); err != nil {
		return err
	}
	r.failed, r.absent, r.done = map[string]error{}, map[string]bool{}, 0
	steps := r.steps()
	r.of = len(steps)
	generation := 0
	for _, s := range steps {
		if s.generation != generation {
			if err := r.look(generation); err != nil {
				return err
			}
			generation = s.generation
			if err := r.calibrate(ctx, s); err != nil || ctx.Err() != nil {
				return err
			}
		}
		r.done++
		if r.kept(s) || s.question >= 0 && r.questions[s.question].closed {
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		begun := time.Now()
		at := r.at(s)
		r.Watcher.Started(at)
		var err error
		if s.whole != nil {
			err = r.runWhole(ctx, s, at)
		} else {
			err = r.generation(ctx, s, at)
		}
		if err != nil {
			return err
		}
		r.spent += time.Since(begun)
		r.planned += r.timeOf(s)
	}
	return r.look(generation)
}

// calibrate measures the unit costs before each of the first breakdownMax generations, unless the generation's first step is kept.
func (r *Runner) calibrate(ctx context.Context, s step) error {
	if s.generation > breakdownMax || r.kept(s) {
		return nil
	}
	err := r.Exec.Calibrate(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// look closes the questions whose intervals over the first generations are narrow enough. It does so only after the generations in Looks. Later generations,
// which an interrupted run has kept, do not count: with them there would be more looks than planned.
func (r *Runner) look(generation int) error {
	if r.Until <= 0 || !slices.Contains(Looks(r.Generations), generation) {
		return nil
	}
	for i := range r.questions {
		q := &r.questions[i]
		if q.closed || len(q.Cells) < 2 {
			continue
		}
		narrow, err := r.Keeper.Narrow(i, generation, r.Until)
		if err != nil {
			return err
		}
		q.closed = narrow
	}
	return nil
}

func (r *Runner) at(s step) Position {
	at := Position{Question: s.question, Generation: s.generation, Generations: r.Generations, Whole: s.whole, Done: r.done, Of: r.of}
	left := time.Duration(0)
	for _, o := range r.steps()[r.done-1:] {
		if !r.kept(o) && !(o.question >= 0 && r.questions[o.question].closed) {
			left += r.timeOf(o)
		}
	}
	if r.planned > 0 {
		left = time.Duration(float64(left) * float64(r.spent) / float64(r.planned))
	}
	at.Left = left
	return at
}

// runWhole measures a cell in one whole run, and repeats it at most Retry times while the machine disturbs it. The last try counts.
func (r *Runner) runWhole(ctx context.Context, s step, at Position) error {
	id := r.Name(*s.whole)
	for n := 1; ; n++ {
		row, err := r.Exec.Run(ctx, *s.whole, id)
		if row == nil {
			row = clone(r.factsOf(s.whole.Cell).Row)
		}
		var fatal *Fatal
		var nothere *NotHere
		switch {
		case errors.As(err, &fatal):
			return err
		case errors.As(err, &nothere):
			row.SkippedReason = nothere.Reason
		case err != nil:
			row.Valid, row.InvalidReason = report.B(false), oneLine(err)
		}
		if row.SkippedReason == "" {
			row.Attempts = report.I(n)
		}
		if n > r.Retry || !row.Disturbed() || ctx.Err() != nil {
			r.label(row, s, *s.whole, id)
			row.Method = report.MethodWhole
			if err := r.Keeper.Keep([]*report.Row{row}, nil); err != nil {
				return err
			}
			r.Watcher.Finished(at, []*report.Row{row})
			return nil
		}
		if err := r.Keeper.Forget([]string{id}); err != nil {
			return err
		}
	}
}

// Fatal is an error that makes all other runs useless, such as a required transport that does not work.
type Fatal struct{ Err error }

// Error is its text.
func (e *Fatal) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *Fatal) Unwrap() error { return e.Err }

// label fills in a row's identity: experiment, run, generation, cell, phase, question, variant.
func (r *Runner) label(row *report.Row, s step, run experiment.Run, id string) {
	row.ExpID, row.RunID, row.Generation, row.OrderInGeneration = r.Experiment.Name, id, report.I(run.Generation), report.I(run.Order)
	row.Cell = report.I(run.Cell + 1)
	switch {
	case run.AA:
		row.Phase = "aa"
	case run.Stages:
		row.Phase = "breakdown"
	default:
		row.Phase = "measure"
	}
	for _, q := range r.questions {
		if i := slices.Index(q.Cells, run.Cell); i >= 0 {
			if row.Question, row.Variant = q.name, q.labels[i]; run.AA {
				row.Variant += " again"
			}
		}
	}
}

func oneLine(err error) string { return quote.Line(err.Error()) }

func clone(row *report.Row) *report.Row {
	c := *row
	return &c
}

// generation measures one generation of a question. If a variant fails, the generation is measured once more. If that variant fails again,
// this generation and all later ones are measured without it. A generation that is kept already, and whose skipped variants still
// cannot be run here, stays as it is.
func (r *Runner) generation(ctx context.Context, s step, at Position) error {
	tried := map[string]bool{}
	for {
		g := r.newGeneration(s)
		if g.settled() {
			return nil
		}
		err := g.measure(ctx, at)
		if ctx.Err() != nil || errors.Is(err, errKept) {
			return r.Keeper.Forget(g.ids())
		}
		var broken *brokenVariant
		if !errors.As(err, &broken) {
			if err == nil {
				err = r.keepGeneration(g, at)
			}
			return err
		}
		if err := r.Keeper.Forget(g.ids()); err != nil {
			return err
		}
		label := broken.variant.Label
		if !tried[label] {
			tried[label] = true
			r.Watcher.Noted(at, fmt.Sprintf("%s failed, the generation is measured again: %s", label, oneLine(broken.err)))
			continue
		}
		r.failed[g.key(label)] = broken.err
		r.Watcher.Noted(at, fmt.Sprintf("%s failed again, the others continue: %s", label, oneLine(broken.err)))
	}
}

// Measure measures one generation, of about the time d, of variants that the caller chooses; several may be of the same cell. It keeps
// nothing. The caller sets run IDs and labels; Measure fills in Generation and Place. If a variant fails, or cannot be run here (*NotHere), Measure ends
// with an error.
func (r *Runner) Measure(ctx context.Context, name string, number int, variants []Variant, d time.Duration) (rows []*report.Row, found []report.Slice, err error) {
	if err := r.Prepare(); err != nil {
		return nil, nil, err
	}
	q := &question{name: name, time: d * time.Duration(r.Generations), only: slices.Clone(variants)}
	for i := range q.only {
		v := &q.only[i]
		v.Generation, v.Place = number, i
		q.labels = append(q.labels, v.Label)
		q.Cells = append(q.Cells, v.Cell)
		q.facts = append(q.facts, r.factsOf(v.Cell))
	}
	g := &generation{r: r, s: step{question: -1, generation: number}, q: q, all: q.only}
	g.time = d
	err = g.measure(ctx, Position{Question: -1, Generation: number, Generations: r.Generations})
	for _, row := range g.rows {
		if err == nil && row.SkippedReason != "" {
			err = &NotHere{row.SkippedReason}
		}
	}
	return g.rows, g.slices, err
}

func (r *Runner) keepGeneration(g *generation, at Position) error {
	err := r.Keeper.Keep(g.rows, g.slices)
	if errors.Is(err, ErrOlderStays) {
		r.Watcher.Noted(at, err.Error())
		return r.Keeper.Forget(g.ids())
	}
	if err != nil {
		return err
	}
	r.Watcher.Finished(at, g.rows)
	return nil
}

// generation is one generation of a question while it is measured.
type generation struct {
	r        *Runner
	s        step
	q        *question
	all      []Variant // of the question
	live     []Variant // the started variants
	process  []Process // the processes of live
	rows     []*report.Row
	slices   []report.Slice
	counts   []int // slices of each live variant
	time     time.Duration
	deadline time.Time
}

// brokenVariant is the error of a variant that failed in a generation.
type brokenVariant struct {
	variant Variant
	err     error
}

// Error names the variant.
func (e *brokenVariant) Error() string { return e.variant.Label + ": " + e.err.Error() }

func (r *Runner) newGeneration(s step) *generation {
	g := &generation{r: r, s: s, q: &r.questions[s.question], time: r.timeOf(s)}
	for _, v := range g.q.variants() {
		v.Generation = s.generation
		v.RunID = r.Name(experiment.Run{Generation: s.generation, Cell: v.Cell, AA: v.Again})
		g.all = append(g.all, v)
	}
	return g
}

func (g *generation) ids() (ids []string) {
	for _, v := range g.all {
		ids = append(ids, v.RunID)
	}
	return ids
}

// errKept ends a generation that would be the same as the kept one.
var errKept = errors.New("the generation is kept already")

// settled reports whether the generation is kept, and lacks only variants that cannot be run here.
func (g *generation) settled() bool {
	var absent []string
	for _, v := range g.all {
		if g.r.absent[g.key(v.Label)] {
			absent = append(absent, v.RunID)
		}
	}
	return len(absent) > 0 && g.r.Keeper.Kept(g.ids(), absent)
}

// key identifies a variant among those of all questions.
func (g *generation) key(label string) string { return g.q.name + "\n" + label }

// measure starts the variants, gives them their slices, and ends them. It leaves no process behind.
func (g *generation) measure(ctx context.Context, at Position) error {
	defer func() {
		for _, p := range g.process {
			p.Kill()
		}
	}()
	begun := time.Now()
	g.deadline = begun.Add(g.time)
	if err := g.start(ctx); err != nil {
		return err
	}
	if g.settled() {
		return errKept
	}
	started := time.Since(begun)
	if err := g.rounds(ctx, at); err != nil {
		return err
	}
	ending := time.Now()
	if err := g.finish(ctx); err != nil {
		return err
	}
	g.r.overhead = started + time.Since(ending)
	return nil
}

// start starts all variants at once. Variants that cannot run here, or have failed before, get a row with the reason.
func (g *generation) start(ctx context.Context) error {
	process, errs := make([]Process, len(g.all)), make([]error, len(g.all))
	var wait sync.WaitGroup
	for i, v := range g.all {
		if errs[i] = g.r.failed[g.key(v.Label)]; errs[i] == nil {
			v.RunID = g.r.Keeper.RecordID(v.RunID)
			wait.Go(func() { process[i], errs[i] = g.r.Exec.Start(ctx, v) })
		}
	}
	wait.Wait()
	var first error
	for i, v := range g.all {
		var fatal *Fatal
		var nothere *NotHere
		switch {
		case errs[i] == nil:
			g.live, g.process = append(g.live, v), append(g.process, process[i])
		case errors.As(errs[i], &fatal):
			first = errs[i]
		case errors.As(errs[i], &nothere):
			row := clone(g.r.factsOf(v.Cell).Row)
			row.SkippedReason = nothere.Reason
			g.add(v, row)
			if g.r.absent != nil {
				g.r.absent[g.key(v.Label)] = true
			}
		case g.r.failed[g.key(v.Label)] != nil:
			row := clone(g.r.factsOf(v.Cell).Row)
			row.Valid, row.InvalidReason = report.B(false), oneLine(errs[i])
			g.add(v, row)
		default:
			first = cmp.Or(first, error(&brokenVariant{v, errs[i]}))
		}
	}
	g.counts = make([]int, len(g.live))
	return first
}

// add adds a variant's row to the generation.
func (g *generation) add(v Variant, row *report.Row) {
	g.r.label(row, g.s, experiment.Run{Generation: v.Generation, Order: v.Place + 1, Cell: v.Cell, AA: v.Again}, v.RunID)
	row.Question, row.Variant, row.Method = g.q.name, v.Label, report.MethodSlices
	g.rows = append(g.rows, row)
}

// count is the number of rounds that fit into the generation's time: a multiple of a balanced set of rounds, if a set fits.
func (g *generation) count() int {
	k := len(g.live)
	each := time.Duration(k) * (g.r.Slice + betweenMost)
	ending := g.r.overhead / 4 // ending takes about a quarter of overhead
	n := max(roundsMin, int(max(0, time.Until(g.deadline)-ending)/each))
	if set := setOf(k); n > set {
		n -= n % set
	}
	return n
}

// settle is the part of a slice that is not counted.
func (r *Runner) settle() time.Duration { return r.Slice / settleShare }

// rounds gives each variant one slice in each round.
func (g *generation) rounds(ctx context.Context, at Position) error {
	if len(g.live) == 0 {
		return nil
	}
	settle := g.r.settle()
	rng := rand.New(rand.NewPCG(g.r.Seed, uint64(g.s.generation)<<32|uint64(uint32(g.s.question)))) // question -1: Measure
	n, after := g.count(), ""
	for round, order := range orders(len(g.live), n, rng) {
		for place, i := range order {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			v := g.live[i]
			s, err := g.process[i].Slice(ctx, settle, g.r.Slice-settle)
			if err != nil {
				return &brokenVariant{v, err}
			}
			g.counts[i]++
			s.RunID, s.Question, s.Cell, s.Variant = v.RunID, g.q.name, report.I(v.Cell+1), v.Label
			s.Generation, s.Slice, s.Round, s.Place, s.After = report.I(v.Generation), report.I(g.counts[i]), report.I(round+1), report.I(place+1), after
			g.slices = append(g.slices, s)
			after = v.Label
		}
		g.r.Watcher.Sliced(at, round+1, n)
	}
	return nil
}

// finish ends all variants at once, and collects their rows.
func (g *generation) finish(ctx context.Context) error {
	rows, errs := make([]*report.Row, len(g.live)), make([]error, len(g.live))
	var wait sync.WaitGroup
	for i, p := range g.process {
		wait.Go(func() { rows[i], errs[i] = p.Finish(ctx) })
	}
	wait.Wait()
	for i, v := range g.live {
		if errs[i] != nil {
			return &brokenVariant{v, errs[i]}
		}
		rows[i].Slices, rows[i].SliceNs, rows[i].SettleNs = report.I(g.counts[i]), report.I(int64(g.r.Slice-g.r.settle())), report.I(int64(g.r.settle()))
		g.add(v, rows[i])
	}
	slices.SortFunc(g.rows, func(a, b *report.Row) int {
		x, _ := a.OrderInGeneration.Get()
		y, _ := b.OrderInGeneration.Get()
		return cmp.Compare(x, y)
	})
	return nil
}
