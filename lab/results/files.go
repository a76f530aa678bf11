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

// rowsJSON has the rows of runs.csv as JSON.
const rowsJSON = "runs.json"

// files reads and writes the files of a folder with rows, with an experiment or without.
type files struct {
	Dir     string
	publish bool // write the page, without charts/, and datapackage.json only: what was published stays

	measured bool // this process measured the runs: MANIFEST.sha256 gets the sums of all files

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

// namedMax is the most files that a warning names.
const namedMax = 5

// Damage describes, a line each, how the files that a report is computed from differ from MANIFEST.sha256 and runs.json. A folder with a plan and
// without rows is an error.
func Damage(dir string) (lines []string, err error) {
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	missing, changed, err := report.CheckInputs(dir)
	if err != nil {
		return nil, err
	}
	var what []string
	for _, of := range []struct {
		names []string
		text  string
	}{{missing, "missing"}, {changed, "changed"}} {
		if n := len(of.names); n > namedMax {
			of.names = append(of.names[:namedMax:namedMax], fmt.Sprintf("%d more", n-namedMax))
		}
		if len(of.names) > 0 {
			what = append(what, of.text+" "+strings.Join(of.names, ", "))
		}
	}
	if len(what) > 0 {
		lines = append(lines, fmt.Sprintf("files are not as %s has them: %s (restore them from a copy; if the change is meant, remove %[1]s)", report.ManifestFile, strings.Join(what, "; ")))
	}
	if _, err := os.Stat(filepath.Join(dir, lab.PlanFile)); err != nil {
		return lines, nil
	}
	rows, err := report.ReadRows(filepath.Join(dir, lab.RowsFile))
	if err != nil {
		return lines, nil // OpenReport has the error
	}
	if len(rows) == 0 {
		return lines, fmt.Errorf("%s is missing or has no rows (restore it from a copy; or kvwire run --resume %s measures the runs)", filepath.Join(dir, lab.RowsFile), dir)
	}
	var all []json.RawMessage
	b, err := os.ReadFile(filepath.Join(dir, rowsJSON))
	if err == nil && json.Unmarshal(b, &all) == nil && len(rows) < len(all) {
		lines = append(lines, fmt.Sprintf("%s has %d rows and %s %d: rows are lost (restore it from a copy; or kvwire run --resume %s measures them again)", lab.RowsFile, len(rows), rowsJSON, len(all), dir))
	}
	return lines, nil
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
