package report

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/bench"
)

// The kinds of histograms that a run has. All are in ns.
const (
	kindLat = "lat" // from the intended start
	kindSvc = "svc" // from the actual send; open loop
	kindLag = "lag" // from the intended start to the send; open loop
)

// Record writes to dir what is not in a row: the latencies of all operations as hdr/RUN.hlog, an HdrHistogram log with
// the measured window as its interval (from the intended start without a tag; others: Tag=svc, Tag=lag), the run's throughput over time as
// lines of timeseries.csv, and recorded stages as lines of stages.csv. If dir has the run already, the error is fs.ErrExist, and
// nothing is written.
func Record(dir, run string, res *bench.Result) error {
	if err := os.MkdirAll(filepath.Join(dir, "hdr"), 0o755); err != nil {
		return err
	}
	if res.Lat != nil {
		if err := writeHistograms(histogramFile(dir, run), res); err != nil {
			return err
		}
	}
	return errors.Join(appendSeries(filepath.Join(dir, seriesName), run, res.Series), appendStages(dir, run, res))
}

const (
	seriesName = "timeseries.csv"
	hdrSuffix  = ".hlog"
)

func histogramFile(dir, run string) string { return filepath.Join(dir, "hdr", run+hdrSuffix) }

func writeHistograms(name string, res *bench.Result) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	w := hdrhistogram.NewHistogramLogWriter(f)
	err = errors.Join(w.OutputLogFormatVersion(), logTimes(w, res.Started), w.OutputLegend(), logInterval(f, "", res.Lat, res), logInterval(f, "Tag="+kindSvc+",", res.Svc, res),
		logInterval(f, "Tag="+kindLag+",", res.Lag, res))
	return errors.Join(err, f.Close())
}

// logTimes writes the start of the run, to milliseconds, in HdrHistogram's log format 1.3. Intervals start relative to it. The
// library's own writer leaves out the milliseconds.
func logTimes(w *hdrhistogram.HistogramLogWriter, started time.Time) error {
	seconds, text := 0.0, "not known"
	if !started.IsZero() {
		seconds, text = float64(started.UnixMilli())/1000, started.UTC().Format(time.RFC3339)
	}
	return errors.Join(w.OutputComment(fmt.Sprintf("[StartTime: %.3f (seconds since epoch), %s]", seconds, text)), w.OutputComment(fmt.Sprintf("[BaseTime: %.3f (seconds since epoch)]", seconds)))
}

// logInterval writes the measured window as one interval of a log: its begin since the run's, its length in seconds, the maximum in
// ms, and the histogram. The library's own writer rounds both times to milliseconds.
func logInterval(f io.Writer, tag string, h *hdrhistogram.Histogram, res *bench.Result) error {
	if h == nil {
		return nil
	}
	b, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err == nil {
		_, err = fmt.Fprintf(f, "%s%.6f,%.6f,%.6f,%s\n", tag, res.Warmup.Seconds(), res.Duration.Seconds(), float64(h.Max())/1e6, b)
	}
	return err
}

// ReadHistogram returns the latencies that Record has written, in ns.
func ReadHistogram(dir, run string) (*hdrhistogram.Histogram, error) {
	var lat *hdrhistogram.Histogram
	err := eachHistogram(dir, run, func(kind string, h *hdrhistogram.Histogram) error {
		if kind == kindLat {
			lat = h
		}
		return nil
	})
	if err == nil && lat == nil {
		err = fmt.Errorf("%s: %w", histogramFile(dir, run), io.ErrUnexpectedEOF)
	}
	return lat, err
}

// eachHistogram calls visit for each histogram of a run that Record has written.
func eachHistogram(dir, run string, visit func(kind string, h *hdrhistogram.Histogram) error) error {
	f, err := os.Open(histogramFile(dir, run))
	if err != nil {
		return err
	}
	defer f.Close()
	r := hdrhistogram.NewHistogramLogReader(f)
	for {
		h, err := r.NextIntervalHistogram()
		if err == nil && h == nil {
			return nil
		}
		if err == nil {
			err = visit(cmp.Or(h.Tag(), kindLat), h)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
}

func appendSeries(name, run string, series []bench.Bin) error {
	var lines [][]string
	for _, v := range series {
		line := []string{run, strconv.FormatInt(int64(v.Begin), 10), strconv.FormatInt(int64(v.Length), 10), strconv.FormatUint(v.Ops, 10),
			F(float64(v.Ops) / v.Length.Seconds()).String(), "", ""}
		if v.N >= 200 { // as for Percentile: 100 values beyond it
			line[5] = strconv.FormatInt(int64(v.P50), 10)
		}
		if v.N >= 10_000 {
			line[6] = strconv.FormatInt(int64(v.P99), 10)
		}
		lines = append(lines, line)
	}
	return appendLines(name, seriesColumns, lines)
}

// appendLines appends lines to a CSV file that several runs write, one after the other. The first one writes the header.
func appendLines(name string, columns []tableField, lines [][]string) error {
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
		_ = w.Write(names(columns))
	}
	return w.WriteAll(lines) // and flush
}
