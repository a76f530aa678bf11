package report

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
)

// histName is compressed: a run has a thousand buckets or so with counts, and its name is in the line of each.
const histName = "hist.csv.gz"

// WriteHistograms writes hist.csv.gz: for each run, kind of duration and bucket that has a count, one line. Runs without a
// histogram have none. The bytes follow from the runs alone.
func WriteHistograms(dir string, rows []Row) error {
	f, err := os.Create(filepath.Join(dir, histName))
	if err != nil {
		return err
	}
	z := gzip.NewWriter(f)
	err = writeBuckets(z, dir, rows)
	if err = errors.Join(err, z.Close(), f.Close()); err != nil {
		return fmt.Errorf("report: %s: %w", histName, err)
	}
	return nil
}

func writeBuckets(w io.Writer, dir string, rows []Row) error {
	c := csv.NewWriter(w)
	err := c.Write(names(histColumns))
	for i := range rows {
		run := rows[i].RunID
		if err != nil {
			return err
		}
		if !rows[i].Ops.Known() { // it did not take place, or failed
			continue
		}
		err = eachHistogram(dir, run, func(kind string, h *hdrhistogram.Histogram) error {
			for _, b := range h.Distribution() {
				if b.Count == 0 {
					continue
				}
				if err := c.Write([]string{run, kind, strconv.FormatInt(b.From, 10), strconv.FormatInt(b.To, 10), strconv.FormatInt(b.Count, 10)}); err != nil {
					return err
				}
			}
			return nil
		})
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	c.Flush()
	return errors.Join(err, c.Error())
}
