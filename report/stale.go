package report

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// chartFile is what drawer names its files: anything else in charts/ is not ours.
var chartFile = regexp.MustCompile(`^([0-9]{3,6})\.(svg|pdf)$`)

// removeCharts removes the charts of an earlier, larger report: those with a higher number than last.
func removeCharts(dir string, last int) error {
	files, err := os.ReadDir(dir)
	for _, f := range files {
		m := chartFile.FindStringSubmatch(f.Name())
		if m == nil || !f.Type().IsRegular() {
			continue
		}
		if n, _ := strconv.Atoi(m[1]); n > last {
			err = errors.Join(err, os.Remove(filepath.Join(dir, f.Name())))
		}
	}
	return err
}

// Forget takes out of dir what Record has left of runs that are not to be kept: those that will be done again would have their
// lines in timeseries.csv, stages.csv and slices.csv twice.
func Forget(dir string, keep func(run string) bool) error {
	for _, file := range []string{seriesName, stagesFile, SlicesFile} {
		name := filepath.Join(dir, file)
		b, err := os.ReadFile(name)
		if err == nil {
			if b, err = keepSeries(b, keep); err == nil {
				err = WriteFile(name, b)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	files, err := os.ReadDir(filepath.Join(dir, "hdr"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, f := range files {
		if run, ours := strings.CutSuffix(f.Name(), hdrSuffix); ours && !keep(run) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, "hdr", f.Name())))
		}
	}
	return err
}

// keepSeries is the lines of a CSV file whose runs, in the first column, are kept, and its header. A last line that a crash cut short goes.
func keepSeries(b []byte, keep func(run string) bool) ([]byte, error) {
	r := csv.NewReader(bytes.NewReader(b[:bytes.LastIndexByte(b, '\n')+1]))
	var kept bytes.Buffer
	w := csv.NewWriter(&kept)
	for header := true; ; header = false {
		line, err := r.Read()
		if errors.Is(err, io.EOF) {
			w.Flush()
			return kept.Bytes(), w.Error()
		}
		if err != nil {
			return nil, err
		}
		if header || keep(line[0]) {
			if err := w.Write(line); err != nil {
				return nil, err
			}
		}
	}
}
