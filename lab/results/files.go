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

// files are the files that a folder with rows may have, with an experiment or without.
type files struct {
	Dir string

	lostHistograms int // runs whose latencies are not in the folder, counted as they are read
}

// histogram has a run's latencies; nil: they are lost.
func (r *files) histogram(id string) (*hdrhistogram.Histogram, error) {
	h, err := report.ReadHistogram(r.Dir, id)
	if errors.Is(err, fs.ErrNotExist) {
		r.lostHistograms++
		return nil, nil
	}
	return h, err
}

// MissingFiles lists what a folder of results usually has, and this one has not; "" for nothing.
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

// Env is env.json; empty where there is none.
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

// write makes a file of the folder anew.
func (r *files) write(name string, write func(w io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	return report.WriteFile(filepath.Join(r.Dir, name), b.Bytes())
}

// dataWarnings are warnings about the amount of data, for any folder.
func (r *files) dataWarnings(generations int) (lines []string) {
	if generations < report.MinPairs {
		lines = append(lines, fmt.Sprintf("%d of each run: this shows, and proves nothing.", generations))
	}
	if r.lostHistograms > 0 {
		lines = append(lines, fmt.Sprintf("hdr/ lacks the latencies of %d runs: percentiles of several generations together, and their curves, are left out.", r.lostHistograms))
	}
	return lines
}
