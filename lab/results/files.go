package results

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
)

// files reads and writes the files of a folder with rows, with an experiment or without.
type files struct {
	Dir     string
	publish bool // write the page, without charts/, and datapackage.json only: what was published stays

	lostHistograms int // runs whose latencies are not in the folder, counted as they are read
}

// readRows reads runs.csv, in which each run has one line. No file: no rows.
func (r *files) readRows() ([]report.Row, error) {
	rows, err := report.ReadRows(filepath.Join(r.Dir, lab.RowsFile))
	if err != nil {
		return nil, err
	}
	first := map[string]int{} // the index of each run's row
	for i, row := range rows {
		if k, twice := first[row.RunID]; twice {
			return nil, r.lineError(lab.RowsFile, i, "it has run %s, as line %d has (remove one of the two lines)", row.RunID, r.line(lab.RowsFile, k))
		}
		first[row.RunID] = i
	}
	return rows, nil
}

// line is the line of a CSV file's record, counted from 0 without the header.
func (r *files) line(name string, record int) int {
	return report.LineOf(filepath.Join(r.Dir, name), record)
}

// lineError is an error about a record of a CSV file.
func (r *files) lineError(name string, record int, format string, args ...any) error {
	return fmt.Errorf("%s: line %d: %w", filepath.Join(r.Dir, name), r.line(name, record), fmt.Errorf(format, args...))
}

// histogram returns the latencies of a run; nil: they are lost.
func (r *files) histogram(id string) (*hdrhistogram.Histogram, error) {
	h, err := report.ReadHistogram(r.Dir, id)
	if errors.Is(err, fs.ErrNotExist) {
		r.lostHistograms++
		return nil, nil
	}
	return h, err
}

// MissingFiles lists the usual files of a folder of results that this one lacks; "": none.
func (r *files) MissingFiles() string {
	var all []string
	for _, name := range []string{lab.ExperimentCopy, lab.PlanFile, "env.json", "timeseries.csv", report.UnitsFile} {
		if _, err := os.Stat(filepath.Join(r.Dir, name)); errors.Is(err, fs.ErrNotExist) {
			all = append(all, name)
		}
	}
	if r.lostHistograms > 0 {
		all = append(all, fmt.Sprintf("latencies in hdr/ of %d runs", r.lostHistograms))
	}
	return strings.Join(all, ", ")
}

// Env reads env.json; empty if there is none.
func (r *files) Env() (e report.Env, err error) {
	name := filepath.Join(r.Dir, "env.json")
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err == nil {
		if err = json.Unmarshal(b, &e); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
	}
	return e, err
}

// write replaces a file of the folder.
func (r *files) write(name string, write func(w io.Writer) error) error {
	if r.publish {
		return nil
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	return report.WriteFile(filepath.Join(r.Dir, name), b.Bytes())
}

// dataWarnings are warnings about the amount of data. generations is 0 if it is not known.
func (r *files) dataWarnings(generations int) (lines []string) {
	if generations < report.MinPairs {
		lines = append(lines, fmt.Sprintf("Fewer than %d generations: there are no 95 %% intervals and no verdicts.", report.MinPairs))
	}
	if r.lostHistograms > 0 {
		lines = append(lines, fmt.Sprintf("hdr/ lacks the latencies of %d runs: percentiles over several generations, and their curves, are left out.", r.lostHistograms))
	}
	return lines
}
