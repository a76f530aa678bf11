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
	Dir string

	lostHistograms int // runs whose latencies are not in the folder, counted as they are read
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
