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
	"strings"
)

// Forget removes from dir what Record has written for runs that are not kept: those that will be done again would have their
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

// Replace gives the records of new runs their final names, and removes the older records of these names. names maps each new run to its final name.
// measured reports whether the new run of a final name has records. Replace may be called again after it was interrupted.
func Replace(dir string, names map[string]string, measured func(run string) bool) error {
	final := map[string]bool{}
	for _, run := range names {
		final[run] = true
	}
	for _, file := range []string{seriesName, stagesFile, SlicesFile} {
		name := filepath.Join(dir, file)
		b, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		fresh := false // the file has lines of new runs, so it was not replaced yet
		if err == nil {
			_, err = mapSeries(b, func(run string) string { fresh = fresh || names[run] != ""; return run })
		}
		if err == nil {
			b, err = mapSeries(b, func(run string) string {
				switch {
				case names[run] != "":
					return names[run]
				case final[run] && (fresh || !measured(run)):
					return ""
				}
				return run
			})
		}
		if err == nil {
			err = WriteFile(name, b)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for run, to := range names {
		err := os.Rename(histogramFile(dir, run), histogramFile(dir, to))
		if errors.Is(err, fs.ErrNotExist) {
			if err = nil; !measured(to) {
				err = os.Remove(histogramFile(dir, to))
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// keepSeries returns the header of a CSV file, and its lines whose runs, in the first column, are kept. It leaves out a last line that a crash interrupted.
func keepSeries(b []byte, keep func(run string) bool) ([]byte, error) {
	return mapSeries(b, func(run string) string {
		if keep(run) {
			return run
		}
		return ""
	})
}

// mapSeries returns a CSV file with other names of runs in the first column. It leaves out lines of runs without a new name, and a last line that a crash interrupted.
func mapSeries(b []byte, rename func(run string) string) ([]byte, error) {
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
		if !header {
			line[0] = rename(line[0])
		}
		if header || line[0] != "" {
			if err := w.Write(line); err != nil {
				return nil, err
			}
		}
	}
}
