package results

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
)

// Runner returns a runner for the folder's plan. The caller sets its Keeper and Watcher.
func (r *Folder) Runner(exec lab.Exec) *lab.Runner {
	return &lab.Runner{Experiment: r.Experiment, Settings: r.Plan.Settings, Exec: exec, Name: r.Plan.RunID, Labels: func(q experiments.Question) (string, []string) {
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
	if k.csv, err = os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return nil, err
	}
	k.rows = report.AppendTo(k.csv)
	if err := k.openSlices(); err != nil {
		return nil, errors.Join(err, k.csv.Close())
	}
	return k, nil
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
	return there
}

// Keep implements lab.Keeper. It writes a run's slices before its row.
func (k *Keeper) Keep(rows []*report.Row, slices []report.Slice) error {
	if len(slices) > 0 {
		if err := k.slices.Append(slices...); err != nil {
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
	for _, s := range slices {
		k.r.Slices[s.RunID] = append(k.r.Slices[s.RunID], s)
	}
	return nil
}

// Forget implements lab.Keeper.
func (k *Keeper) Forget(ids []string) error {
	gone := map[string]bool{}
	for _, id := range ids {
		gone[id] = !k.Has(id)
	}
	// Forget replaces slices.csv by a new file, so writes to the open one would be lost.
	err := k.closeSlices()
	if err == nil {
		err = report.Forget(k.r.Dir, func(id string) bool { return !gone[id] })
	}
	return errors.Join(err, k.openSlices())
}

// Narrow implements lab.Keeper.
func (k *Keeper) Narrow(question int, until float64) (bool, error) {
	return report.Narrow([]report.Pairs{k.r.pairs(k.r.Experiment.Questions()[question])}, k.r.options(), until)
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
			ids := []string{r.Plan.RunID(experiments.Run{Block: g, Cell: q.Cells[0], AA: true})}
			if len(q.Cells) < 2 {
				ids = nil
			}
			for _, c := range q.Cells {
				ids = append(ids, r.Plan.RunID(experiments.Run{Block: g, Cell: c}))
			}
			whole, missing := false, false
			for _, id := range ids {
				row, there := r.Rows[id]
				missing = missing || !there
				whole = whole || row.Method == report.MethodWhole
			}
			if missing && !whole {
				for _, id := range ids {
					delete(r.Rows, id)
					delete(r.Slices, id)
				}
			}
		}
	}
}
