package report

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/kv"
)

// StageLine is a line of stages.csv: a stage of the requests of one kind that were watched in a run. The means of all stages of a
// kind add up to the mean of its line "total".
type StageLine struct {
	RunID, Op, Stage string
	N                uint64
	MeanNs           float64
	P50Ns, P99Ns     Int // two digits; NA as in Percentile
}

// StageTotal names the line of all stages together.
const StageTotal = "total"

const stagesFile = "stages.csv"

// stageLines are a run's.
func stageLines(run string, res *bench.Result) (all []StageLine) {
	for k, t := range res.Stages {
		if t == nil {
			continue
		}
		line := func(name string, sum int64, h *hdrhistogram.Histogram) {
			all = append(all, StageLine{run, bench.Kind(k).String(), name, t.N, float64(sum) / float64(t.N), Percentile(h, 50), Percentile(h, 99)})
		}
		for s := range t.Sum {
			line(kv.Stage(s).String(), t.Sum[s], t.Hist[s])
		}
		line(StageTotal, t.SumTotal(), t.Total)
	}
	return all
}

func appendStages(dir, run string, res *bench.Result) error {
	var lines [][]string
	for _, l := range stageLines(run, res) {
		lines = append(lines, []string{l.RunID, l.Op, l.Stage, strconv.FormatUint(l.N, 10), F(l.MeanNs).String(), l.P50Ns.String(), l.P99Ns.String()})
	}
	if len(lines) == 0 {
		return nil
	}
	return appendLines(filepath.Join(dir, stagesFile), stageColumns, lines)
}

// ReadStages gives the lines of a folder's stages.csv, in their order; none where there is no such file.
func ReadStages(dir string) (all []StageLine, err error) {
	name := filepath.Join(dir, stagesFile)
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := csv.NewReader(io.LimitReader(f, maxCSVBytes))
	c.FieldsPerRecord = len(stageColumns)
	for first := true; ; first = false {
		v, err := c.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, fmt.Errorf("%s: %w", name, err)
		}
		if first {
			continue
		}
		l := StageLine{RunID: v[0], Op: v[1], Stage: v[2]}
		l.N, err = strconv.ParseUint(v[3], 10, 64)
		mean := Float{}
		err = errors.Join(err, mean.set(v[4]), l.P50Ns.set(v[5]), l.P99Ns.set(v[6]))
		if l.MeanNs, _ = mean.Get(); err != nil {
			line, _ := c.FieldPos(0)
			return all, fmt.Errorf("%s: line %d: %w", name, line, err)
		}
		all = append(all, l)
	}
}

// PrintStages prints where the time of the requests that were watched has gone; nothing where none were.
func PrintStages(w io.Writer, res *bench.Result) error {
	lines := stageLines("", res)
	if len(lines) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nstage\tof\tmean\tshare\tp50\tp99")
	total := map[string]float64{}
	for _, l := range lines {
		if l.Stage == StageTotal {
			total[l.Op] = l.MeanNs
		}
	}
	for _, l := range lines {
		if l.MeanNs == 0 {
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.0f %%\t%s\t%s\n", l.Stage, l.Op, Duration(int64(l.MeanNs)), 100*l.MeanNs/total[l.Op], durationOr(l.P50Ns), durationOr(l.P99Ns))
	}
	return t.Flush()
}

func durationOr(v Int) string {
	if ns, ok := v.Get(); ok {
		return Duration(ns)
	}
	return na
}

// PageStages are the stages of a question's cells.
type PageStages struct {
	Title string
	Bars  []StageBar
}

// StageBar is what a watched request of a cell was made of, in the mean.
type StageBar struct {
	Label  string
	N      uint64
	MeanNs map[string]float64 // by stage
}

// StageBars puts the lines of a cell's runs together: a bar for each kind of operation.
func StageBars(label string, lines []StageLine) (bars []StageBar) {
	ops := map[string]*StageBar{}
	var order []string
	for _, l := range lines {
		b := ops[l.Op]
		if b == nil {
			b = &StageBar{MeanNs: map[string]float64{}}
			ops[l.Op] = b
			order = append(order, l.Op)
		}
		if b.MeanNs[l.Stage] += l.MeanNs * float64(l.N); l.Stage == StageTotal {
			b.N += l.N
		}
	}
	for _, op := range order {
		b := ops[op]
		if b.Label = label; len(order) > 1 {
			b.Label += ", " + op
		}
		for s := range b.MeanNs {
			b.MeanNs[s] /= float64(b.N)
		}
		bars = append(bars, *b)
	}
	return bars
}

// stageNames are all stages, as they follow each other.
var stageNames = func() (names []string) {
	for s := range kv.StageEnd {
		names = append(names, s.String())
	}
	return names
}()
