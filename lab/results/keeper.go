package results

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// Runner returns a runner for the folder's plan. The caller sets its Keeper and Watcher.
func (r *Folder) Runner(exec lab.Exec) *lab.Runner {
	return &lab.Runner{Experiment: r.Experiment, Settings: r.Plan.Settings, Exec: exec, Name: r.Plan.RunID, Labels: func(q experiment.Question) (string, []string) {
		var labels []string
		for _, c := range q.Cells {
			labels = append(labels, r.variantName(c))
		}
		return r.questionName(q.Flags), labels
	}}
}

// Keeper adds rows and slices to a folder. It belongs to one goroutine.
type Keeper struct {
	r      *Folder
	csv    *os.File // runs.csv
	rows   *report.Writer
	slices *report.SliceWriter
}

var _ lab.Keeper = (*Keeper)(nil)

// Keeper opens the folder's files for appending. It rewrites runs.csv with the existing rows, and opens slices.csv without its
// incomplete last line.
func (r *Folder) Keeper() (k *Keeper, err error) {
	name := filepath.Join(r.Dir, lab.RowsFile)
	if err := report.WriteRows(name, r.RowsInOrder()); err != nil {
		return nil, err
	}
	k = &Keeper{r: r}
	if err := k.open(); err != nil {
		return nil, err
	}
	return k, nil
}

// open opens the files for appending.
func (k *Keeper) open() (err error) {
	if k.csv, err = os.OpenFile(filepath.Join(k.r.Dir, lab.RowsFile), os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return err
	}
	k.rows = report.AppendTo(k.csv)
	if err := k.openSlices(); err != nil {
		return errors.Join(err, k.csv.Close())
	}
	return nil
}

func (k *Keeper) openSlices() (err error) {
	if k.r.Plan.Slice > 0 {
		k.slices, err = report.OpenSlices(filepath.Join(k.r.Dir, report.SlicesFile))
	}
	return err
}

func (k *Keeper) closeSlices() error {
	if k.slices == nil {
		return nil
	}
	err := k.slices.Close()
	k.slices = nil
	return err
}

// Has implements lab.Keeper.
func (k *Keeper) Has(id string) bool {
	_, there := k.r.Rows[id]
	return there && !k.r.Again[id]
}

// RecordID implements lab.Keeper.
func (k *Keeper) RecordID(id string) string {
	if k.r.Again[id] {
		return id + againSuffix
	}
	return id
}

// againSuffix follows a run's ID in the records of a run that is measured again, until these replace the older ones.
const againSuffix = "-again"

// Kept implements lab.Keeper.
func (k *Keeper) Kept(ids, absent []string) bool {
	for _, id := range ids {
		row, there := k.r.Rows[id]
		if !there || !row.Ops.Known() && (row.SkippedReason == "" || !slices.Contains(absent, id)) {
			return false
		}
	}
	return true
}

// replace stores a generation that was measured again in the place of the older one. againFile is a journal: when it is whole, the generation is complete,
// and FinishReplacing does the rest, also after a crash. Before that, all older rows, slices and records are as they were.
func (k *Keeper) replace(rows []*report.Row, found []report.Slice) error {
	for _, row := range rows {
		if old := k.r.Rows[row.RunID]; old.Ops.Known() && !row.Ops.Known() {
			return lab.ErrOlderStays
		}
	}
	renamed := slices.Clone(found)
	for i := range renamed {
		renamed[i].RunID += againSuffix
	}
	if err := k.slices.Append(renamed...); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(k.r.Dir, report.SlicesFile), err)
	}
	var all []report.Row
	for _, row := range rows {
		all = append(all, *row)
	}
	if err := report.WriteRows(filepath.Join(k.r.Dir, againFile), all); err != nil {
		return err
	}
	if err := errors.Join(k.closeSlices(), k.csv.Close(), FinishReplacing(k.r.Dir)); err != nil {
		return err
	}
	for _, row := range all {
		k.r.Rows[row.RunID] = row
		delete(k.r.Slices, row.RunID)
		delete(k.r.Again, row.RunID)
	}
	for _, s := range found {
		k.r.Slices[s.RunID] = append(k.r.Slices[s.RunID], s)
	}
	return k.open()
}

// againFile has the rows of a generation that replaces an older one. It is there only while that is done.
const againFile = "runs-again.csv"

// FinishReplacing completes a replacement that a crash has interrupted. Without one it does nothing. The caller has the plan's lock.
func FinishReplacing(dir string) error {
	journal, name := filepath.Join(dir, againFile), filepath.Join(dir, lab.RowsFile)
	fresh, err := report.ReadRows(journal)
	if err != nil || len(fresh) == 0 {
		return err
	}
	rows, err := report.ReadRows(name)
	if err != nil {
		return err
	}
	names, measured := map[string]string{}, map[string]bool{}
	for _, row := range fresh {
		names[row.RunID+againSuffix], measured[row.RunID] = row.RunID, row.Ops.Known()
		if i := slices.IndexFunc(rows, func(old report.Row) bool { return old.RunID == row.RunID }); i >= 0 {
			rows[i] = row
		} else {
			rows = append(rows, row)
		}
	}
	if err := report.Replace(dir, names, func(run string) bool { return measured[run] }); err != nil {
		return err
	}
	if err := report.WriteRows(name, rows); err != nil {
		return err
	}
	return os.Remove(journal)
}

// Keep implements lab.Keeper. It writes a run's slices before its row.
func (k *Keeper) Keep(rows []*report.Row, found []report.Slice) error {
	for _, row := range rows {
		if k.r.Again[row.RunID] {
			return k.replace(rows, found)
		}
	}
	if len(found) > 0 {
		if err := k.slices.Append(found...); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(k.r.Dir, report.SlicesFile), err)
		}
	}
	for _, row := range rows {
		if err := k.rows.Append(*row); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(k.r.Dir, lab.RowsFile), err)
		}
	}
	for _, row := range rows {
		k.r.Rows[row.RunID] = *row
	}
	for _, s := range found {
		k.r.Slices[s.RunID] = append(k.r.Slices[s.RunID], s)
	}
	return nil
}

// Forget implements lab.Keeper.
func (k *Keeper) Forget(ids []string) error {
	gone := map[string]bool{}
	for _, id := range ids {
		gone[k.RecordID(id)] = !k.Has(id)
	}
	// Forget replaces slices.csv by a new file, so writes to the open one would be lost.
	err := k.closeSlices()
	if err == nil {
		err = report.Forget(k.r.Dir, func(id string) bool { return !gone[id] })
	}
	return errors.Join(err, k.openSlices())
}

// Narrow implements lab.Keeper.
func (k *Keeper) Narrow(question, generations int, until float64) (bool, error) {
	return k.r.narrow(k.r.Experiment.Questions()[question], generations, until)
}

// narrow reports whether the intervals of a question are narrow enough over its first generations.
func (r *Folder) narrow(q experiment.Question, generations int, until float64) (bool, error) {
	p := r.pairs(q)
	for _, s := range append([]report.Series{p.Baseline, p.Again}, p.Variants...) { // the maps are new with each call of pairs
		maps.DeleteFunc(s.Rows, func(g int, _ *report.Row) bool { return g > generations })
		maps.DeleteFunc(s.Slices, func(g int, _ []report.Slice) bool { return g > generations })
	}
	return report.Narrow([]report.Pairs{p}, r.options(), until)
}

// endedAt is the number of generations after which --until ended a question; 0: it did not end before the last generation.
func (r *Folder) endedAt(q experiment.Question) int {
	if r.Plan.Until <= 0 || len(q.Cells) < 2 {
		return 0
	}
	complete := 0
	for complete < r.Plan.Generations && len(r.missing(r.runsOf(q, complete+1))) == 0 {
		complete++
	}
	for _, g := range lab.Looks(r.Plan.Generations) {
		if g > complete || g == r.Plan.Generations {
			break
		}
		if narrow, err := r.narrow(q, g, r.Plan.Until); err == nil && narrow {
			return g
		}
	}
	return 0
}

// runsOf are the runs of a generation of a question, the baseline's second process first.
func (r *Folder) runsOf(q experiment.Question, generation int) (runs []experiment.Run) {
	if len(q.Cells) > 1 && (r.Plan.Slice > 0 || r.Plan.Generations > 1) {
		runs = append(runs, experiment.Run{Generation: generation, Cell: q.Cells[0], AA: true})
	}
	for _, c := range q.Cells {
		runs = append(runs, experiment.Run{Generation: generation, Cell: c})
	}
	return runs
}

// missing are the runs that have no row.
func (r *Folder) missing(runs []experiment.Run) (none []experiment.Run) {
	for _, run := range runs {
		if _, there := r.Rows[r.Plan.RunID(run)]; !there {
			none = append(none, run)
		}
	}
	return none
}

// ended are the questions that --until ended before the last generation. last is, by cell, the last generation of such a question.
func (r *Folder) ended() (questions int, last map[int]int) {
	last = map[int]int{}
	for _, q := range r.Experiment.Questions() {
		if g := r.endedAt(q); g > 0 {
			questions++
			for _, c := range q.Cells {
				last[c] = g
			}
		}
	}
	return questions, last
}

// missingRuns are the runs of the plan that have no row. Those that --until has left out are not among them: last is from ended.
func (r *Folder) missingRuns(last map[int]int) []experiment.Run {
	return slices.DeleteFunc(r.missing(r.Runs), func(run experiment.Run) bool {
		return !run.Stages && last[run.Cell] > 0 && run.Generation > last[run.Cell]
	})
}

// RemainingRuns are the runs that are to be measured: those that are missing, and those of Again.
func (r *Folder) RemainingRuns() []experiment.Run {
	_, last := r.ended()
	runs := r.missingRuns(last)
	for _, run := range r.Runs {
		if r.Again[r.Plan.RunID(run)] {
			runs = append(runs, run)
		}
	}
	return runs
}

// MeasureAgain chooses what --resume measures again, though it has a row: runs that failed, and runs that were skipped and can be run here now. In slices
// that is the whole generation, because only variants of the same generation are compared. Its rows stay until the new ones are complete. Rows of whole runs are removed.
func (r *Folder) MeasureAgain(failed func(*report.Row) bool, here func(run experiment.Run) bool) {
	again := func(run experiment.Run) bool {
		row, there := r.Rows[r.Plan.RunID(run)]
		return there && (failed(&row) || row.SkippedReason != "" && here(run))
	}
	for _, run := range r.Runs {
		if id := r.Plan.RunID(run); r.Rows[id].Method == report.MethodWhole && again(run) {
			delete(r.Rows, id)
		}
	}
	for _, q := range r.Experiment.Questions() {
		for g := 1; g <= r.Plan.Generations; g++ {
			if runs := r.runsOf(q, g); slices.ContainsFunc(runs, again) {
				for _, run := range runs {
					r.Again[r.Plan.RunID(run)] = true
				}
			}
		}
	}
}

// Close closes the files.
func (k *Keeper) Close() error {
	return errors.Join(k.csv.Close(), k.closeSlices())
}

// Failed is the number of runs that were not skipped and have no operations.
func (r *Folder) Failed() (n int) {
	for _, row := range r.Rows {
		if row.SkippedReason == "" && !row.Ops.Known() {
			n++
		}
	}
	return n
}

// DropPartGenerations removes the rows of generations in slices that lack a row. Their slices alternated, so the whole generation is
// measured again.
func (r *Folder) DropPartGenerations() {
	if r.Plan.Slice <= 0 {
		return
	}
	for _, q := range r.Experiment.Questions() {
		for g := 1; g <= r.Plan.Generations; g++ {
			runs := r.runsOf(q, g)
			whole := slices.ContainsFunc(runs, func(run experiment.Run) bool { return r.Rows[r.Plan.RunID(run)].Method == report.MethodWhole })
			if !whole && len(r.missing(runs)) > 0 {
				for _, run := range runs {
					id := r.Plan.RunID(run)
					delete(r.Rows, id)
					delete(r.Slices, id)
				}
			}
		}
	}
}
