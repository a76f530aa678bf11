package results

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
)

// Reportable is a folder for which kvwire report can write a report.
type Reportable interface {
	WriteReport() error
	LostSlices(dir string) string
	MissingFiles() string // valid after WriteReport, which counts the missing histograms
}

var (
	_ Reportable = (*Folder)(nil)
	_ Reportable = (*Rows)(nil)
)

// OpenReport opens a folder: as a Folder if it has a plan and an experiment, else as Rows. With publish the report is report.html, picture.svg and
// datapackage.json: no charts/, no MANIFEST.sha256, and the other files of figures stay as they are.
func OpenReport(dir string, reader Reader, publish bool) (Reportable, error) {
	for _, name := range []string{lab.PlanFile, lab.ExperimentCopy} {
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return openRows(dir, publish)
		}
	}
	r, err := Open(dir, reader)
	if err != nil {
		return nil, err
	}
	r.publish = publish
	return r, nil
}

// Rows is a folder without plan or experiment, such as one of kvwire bench --output-dir: only runs.csv has the factors.
type Rows struct {
	files
	name        string // name of the rows' experiment, or bench
	rows        []report.Row
	question    report.PageQuestion // the rows, combined by their factors
	generations int                 // the largest number of rows with the same factors
}

func openRows(dir string, publish bool) (*Rows, error) {
	r := &Rows{files: files{Dir: dir, publish: publish}}
	rows, err := r.readRows()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, exit.Usagef("%s has no runs.csv with rows (name a folder that kvwire run has made, or kvwire bench --output-dir)", dir)
	}
	r.name, r.rows = cmp.Or(rows[0].ExpID, "bench"), rows
	if r.question, r.generations, err = r.combine(rows); err != nil {
		return nil, err
	}
	return r, nil
}

// WriteReport rewrites report.html and its files.
func (r *Rows) WriteReport() error {
	env, err := r.Env()
	if err != nil {
		return err
	}
	p := &report.Page{Name: r.name, Description: "Rows without an experiment: each line combines the runs with the same factors.", ID: filepath.Base(filepath.Clean(r.Dir)),
		Generations: r.generations, Env: env, Questions: []report.PageQuestion{r.question}, Warnings: r.dataWarnings(0), NoCharts: r.publish} // 0: without a plan the number of generations is not known
	return errors.Join(report.WritePage(r.Dir, p), r.finish(r.rows, r.name))
}

// LostSlices is "": without an experiment there are no ratios, and so no slices are read.
func (r *Rows) LostSlices(string) string { return "" }

// factorColumns are the columns by which rows without an experiment are distinguished.
var factorColumns = []string{"transport", "client_transport", "fabric", "rdma_verb", "device", "rdma_model", "wait", "placement", "server_threads", "ring", "tcp_engine", "tcp_client_engine", "tls", "backend", "disk_engine",
	"disk_batch", "durability", "update", "cache_bytes", "reads_max", "workload", "trace", "trace_speed", "mix", "key_dist", "theta", "scan_items", "key_bytes", "value_bytes", "value_dist", "value_min_bytes", "value_sizes", "records",
	"conns", "depth", "client_threads", "load_hosts", "loop", "arrival", "target_per_s", "accel", "uring_receive", "uring_large", "sqpoll", "null_busy_ns", "null_delay_ns"}

// combine combines rows with the same factors, and labels them by the factors that differ; one that follows from others is left out. generations is the largest number of rows with
// the same factors.
func (r *Rows) combine(rows []report.Row) (q report.PageQuestion, generations int, err error) {
	value := func(i int, column string) string { v, _ := rows[i].Value(column); return v }
	var differ []string // columns that do not follow from those before them
	for _, column := range factorColumns {
		first := map[string]string{} // the column's value, by the labels so far
		for i := range rows {
			var label strings.Builder
			for _, c := range differ {
				label.WriteString(value(i, c) + "\n")
			}
			v, known := first[label.String()]
			if known && v != value(i, column) {
				differ = append(differ, column)
				break
			}
			first[label.String()] = value(i, column)
		}
	}
	var labels []string
	of := map[string][]report.Row{}
	for i := range rows {
		if phase := rows[i].Phase; phase == "breakdown" || phase == "aa" {
			continue
		}
		var words []string
		for _, column := range differ {
			if v := value(i, column); v != "" {
				words = append(words, column+"="+v)
			}
		}
		label := cmp.Or(strings.Join(words, " "), value(i, "transport"))
		if rows[i].Modelled() {
			label += " " + report.ModelSuffix
		}
		if of[label] == nil {
			labels = append(labels, label)
		}
		of[label] = append(of[label], rows[i])
	}
	for _, label := range labels {
		generations = max(generations, len(of[label]))
		row, lat, err := report.Together(of[label], r.histogram)
		if err != nil {
			return q, 0, err
		}
		q.Variants = append(q.Variants, report.PageVariant{Label: label, Row: row, Lat: lat})
	}
	return q, generations, nil
}

// ReadyForRow makes a folder for results without a plan, and returns an error if AppendRow cannot add a row there.
func ReadyForRow(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return exit.Named(fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err))
	}
	if _, err := os.Lstat(filepath.Join(dir, lab.PlanFile)); err == nil {
		return exit.Usagef("--output-dir %s holds the results of an experiment: choose another folder (kvwire run --resume continues the experiment)", dir)
	}
	if _, err := report.ReadRows(filepath.Join(dir, lab.RowsFile)); err != nil {
		return exit.Named(fmt.Errorf("%w (nothing was added to it: name another --output-dir)", err))
	}
	f, err := os.CreateTemp(dir, ".kvwire-")
	if err != nil {
		return exit.Named(fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err))
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// AppendRow adds a row to the runs.csv of a folder that may have one, and writes env.json there. The caller has the folder's lock.
func AppendRow(dir string, row *report.Row, env report.Env) error {
	name := filepath.Join(dir, lab.RowsFile)
	rows, err := report.ReadRows(name)
	if err != nil {
		return fmt.Errorf("%w (nothing was added to it)", err)
	}
	return errors.Join(report.ForgetManifest(dir), report.WriteRows(name, append(rows, *row)), env.WriteFile(dir))
}
