package bench

import (
	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/kv"
)

// StageTimes are the stages of the requests whose stages were recorded. The sums are exact, and add up to the sum of the totals;
// percentiles have two digits, and add up to nothing.
type StageTimes struct {
	N     uint64
	Sum   [kv.StageEnd]int64 // ns
	Hist  [kv.StageEnd]*hdrhistogram.Histogram
	Total *hdrhistogram.Histogram
}

func newStageTimes() *StageTimes {
	t := &StageTimes{Total: hdrhistogram.New(1, histMax, seriesDigits)}
	for i := range t.Hist {
		t.Hist[i] = hdrhistogram.New(1, histMax, seriesDigits)
	}
	return t
}

func (t *StageTimes) add(s *kv.Stages) {
	t.N++
	for i, ns := range s.Ns {
		t.Sum[i] += ns
		record(t.Hist[i], ns)
	}
	record(t.Total, s.Total())
}

func (t *StageTimes) merge(o *StageTimes) {
	t.N += o.N
	for i := range t.Hist {
		t.Sum[i] += o.Sum[i]
		t.Hist[i].Merge(o.Hist[i])
	}
	t.Total.Merge(o.Total)
}

// SumTotal is the sum of all stages: of the requests' latencies.
func (t *StageTimes) SumTotal() (ns int64) {
	for _, v := range t.Sum {
		ns += v
	}
	return ns
}
