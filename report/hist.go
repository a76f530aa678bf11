package report

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
)

// histName is compressed: a run has a thousand buckets or so with counts, and its name is in the line of each.
const histName = "hist.csv.gz"

// WriteHistograms writes hist.csv.gz: for each run, kind of duration and bucket that has a count, one line. The bytes follow from
// the runs alone. Where a run's histogram is lost, the file stays as it is: it may be the only one that still has it.
func WriteHistograms(dir string, rows []Row) error {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	lost, err := writeBuckets(z, dir, rows)
	if err = errors.Join(err, z.Close()); err == nil && !lost {
		err = WriteFile(filepath.Join(dir, histName), b.Bytes())
	}
	if err != nil {
		return fmt.Errorf("report: %s: %w", histName, err)
	}
	return nil
}

// writeBuckets also reports whether a histogram is lost.
func writeBuckets(w io.Writer, dir string, rows []Row) (lost bool, err error) {
	c := csv.NewWriter(w)
	err = c.Write(names(histColumns))
	for i := range rows {
		run := rows[i].RunID
		if err != nil {
			return lost, err
		}
		if !rows[i].Ops.Known() { // skipped or failed
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
			lost, err = true, nil
		}
	}
	c.Flush()
	return lost, errors.Join(err, c.Error())
}
