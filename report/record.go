package report

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/bench"
)

// Record leaves in dir what a row has no room for: the latencies of all operations as hdr/RUN.hlog, an HdrHistogram log of one
// interval, and the run's throughput over time as lines of timeseries.csv.
func Record(dir, run string, res *bench.Result) error {
	if err := os.MkdirAll(filepath.Join(dir, "hdr"), 0o755); err != nil {
		return err
	}
	if res.Lat != nil {
		if err := writeHistogram(histogramFile(dir, run), res.Lat); err != nil {
			return err
		}
	}
	return appendSeries(filepath.Join(dir, "timeseries.csv"), run, res.Series)
}

func histogramFile(dir, run string) string { return filepath.Join(dir, "hdr", run+".hlog") }

func writeHistogram(name string, h *hdrhistogram.Histogram) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := hdrhistogram.NewHistogramLogWriter(f)
	err = errors.Join(w.OutputLogFormatVersion(), w.OutputLegend(), w.OutputIntervalHistogram(h))
	return errors.Join(err, f.Close())
}

// ReadHistogram gives the latencies that Record has left, in ns.
func ReadHistogram(dir, run string) (*hdrhistogram.Histogram, error) {
	f, err := os.Open(histogramFile(dir, run))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h, err := hdrhistogram.NewHistogramLogReader(f).NextIntervalHistogram()
	if err == nil && h == nil {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return h, nil
}

func appendSeries(name, run string, series []bench.Interval) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	w := csv.NewWriter(f)
	if st.Size() == 0 {
		_ = w.Write([]string{"run_id", "begin_ns", "length_ns", "ops", "ops_per_s", "lat_p50_ns", "lat_p99_ns"})
	}
	for _, v := range series {
		line := []string{run, strconv.FormatInt(int64(v.Begin), 10), strconv.FormatInt(int64(v.Length), 10), strconv.FormatUint(v.Ops, 10),
			F(float64(v.Ops) / v.Length.Seconds()).String(), "", ""}
		if v.N >= 200 { // as Percentile: 100 values beyond it
			line[5] = strconv.FormatInt(int64(v.P50), 10)
		}
		if v.N >= 10_000 {
			line[6] = strconv.FormatInt(int64(v.P99), 10)
		}
		_ = w.Write(line)
	}
	w.Flush()
	return w.Error()
}
