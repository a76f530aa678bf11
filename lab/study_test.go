package lab

import (
	"context"
	"errors"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/report"
)

// studyLab is a fakeLab whose processes measure what row says.
type studyLab struct {
	*fakeLab
	row  func(v Variant) *report.Row
	most int // processes that lived at the same time, at most
}

func (s *studyLab) Start(ctx context.Context, v Variant) (Process, error) {
	p, err := s.fakeLab.Start(ctx, v)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = max(s.most, len(s.alive))
	return &studyProcess{p.(*fakeProcess), s}, nil
}

type studyProcess struct {
	*fakeProcess
	s *studyLab
}

func (p *studyProcess) Finish(ctx context.Context) (*report.Row, error) {
	row, err := p.fakeProcess.Finish(ctx)
	if err != nil {
		return nil, err
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	made := p.s.row(p.v)
	made.RunID, made.Valid, made.Ops = row.RunID, row.Valid, report.U(1_000_000) // enough for each slice
	return made, nil
}

// noisy is a row whose values vary by 5 %, and cost has the factor by which a variant is dearer.
func noisy(rng *rand.Rand, cost func(v Variant) float64) func(v Variant) *report.Row {
	seed := rng.Uint64()
	return func(v Variant) *report.Row {
		h := fnv.New64a() // processes end in any order, and each has noise of its own
		h.Write([]byte(v.RunID))
		rng := rand.New(rand.NewPCG(seed, h.Sum64()))
		value := func(v float64) float64 { return v * math.Exp(0.05*rng.NormFloat64()) }
		c := cost(v)
		return &report.Row{OpsPerS: report.F(value(100_000)), LatP50Ns: report.I(int64(value(50_000))), LatP99Ns: report.I(int64(value(90_000))),
			ClientUserNsPerOp: report.F(value(1000)), ClientSysNsPerOp: report.F(0), ServerUserNsPerOp: report.F(value(1000) * c), ServerSysNsPerOp: report.F(0)}
	}
}

func newStudy(t *testing.T, generations int, cost func(v Variant) float64) (*studyLab, *Study) {
	t.Helper()
	f, r := newFake(t, oneQuestion, Settings{Generations: generations, Slice: time.Millisecond, Seed: 9})
	if cost == nil {
		cost = func(Variant) float64 { return 1 }
	}
	s := &studyLab{fakeLab: f, row: noisy(rand.New(rand.NewPCG(7, 7)), cost)}
	r.Exec = s
	return s, &Study{Runner: r, Generations: generations, Time: time.Nanosecond, ID: "study"}
}

func TestAnAAStudyHasTwoTrialsInEachGeneration(t *testing.T) {
	f, s := newStudy(t, 6, nil)
	shown := 0
	s.Show = func(int) { shown++ }
	trials, err := s.AA(t.Context(), 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	if len(trials) != 3*len(report.Metrics) || trials[len(trials)-1].Number != 3 {
		t.Errorf("%d trials; the last is of experiment %d", len(trials), trials[len(trials)-1].Number)
	}
	if len(f.started) != 6*4+6*2 || f.most != 4 || shown != 12 {
		t.Errorf("%d processes, at most %d at the same time; %d generations were shown", len(f.started), f.most, shown)
	}
	if len(f.rows) != 0 || len(f.forgot) != len(f.started) {
		t.Errorf("%d rows are kept, %d runs forgotten", len(f.rows), len(f.forgot))
	}
	for _, x := range trials {
		if x.Pairs != 6 || x.Level != 0.96875 || x.Expected != 1 || x.Verdict != "" {
			t.Errorf("%+v", x)
		}
	}
}

func TestTheOrderOfSlicesDiffersFromGenerationToGeneration(t *testing.T) {
	f, s := newStudy(t, 12, nil)
	if _, err := s.AA(t.Context(), 0, PairsTogether); err != nil {
		t.Fatal(err)
	}
	each := 2 * PairsTogether * roundsMin
	seen := map[string]bool{}
	for g := 0; g+each <= len(f.order); g += each {
		seen[strings.Join(f.order[g:g+each], " ")] = true
	}
	if len(seen) < 6 { // there are 24 of them
		t.Errorf("%d orders in 12 generations", len(seen))
	}
}

func TestTheCoverageOfHonestIntervalsAgrees(t *testing.T) {
	_, s := newStudy(t, 6, nil)
	trials, err := s.AA(t.Context(), 0, 400)
	if err != nil {
		t.Fatal(err)
	}
	all := Coverages(trials)
	if len(all) != len(report.Metrics) {
		t.Fatalf("%d metrics", len(all))
	}
	for _, c := range all {
		covered := 0
		for _, x := range trials {
			if x.Metric.Name == c.Metric && x.Low <= 1 && x.High >= 1 {
				covered++
			}
		}
		if c.Experiments != 400 || c.Short != 0 || c.Covered != covered || c.Attained != 0.96875 || !c.Agrees() || !(c.HalfWidth > 0.02 && c.HalfWidth < 0.2) {
			t.Errorf("%+v", c)
		}
	}
}

// A bias that each generation has is found: the second process of each pair is 5 % dearer.
func TestTheCoverageOfABiasedInstrumentDoesNotAgree(t *testing.T) {
	_, s := newStudy(t, 6, func(v Variant) float64 { return map[bool]float64{true: 1.1, false: 1}[v.Label[0] == 'b'] })
	trials, err := s.AA(t.Context(), 0, 400)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Coverages(trials) {
		if biased := c.Metric == "cpu_ns_per_op"; c.Agrees() == biased {
			t.Errorf("agrees: %v, %+v", c.Agrees(), c)
		}
	}
}

func TestATrialThatLacksGenerationsIsCountedAtItsOwnLevel(t *testing.T) {
	f, s := newStudy(t, 6, nil)
	noise := f.row
	f.row = func(v Variant) *report.Row {
		row := noise(v)
		if v.Label == "b2" && v.Generation == 3 {
			row.OpsPerS = report.Float{}
		}
		return row
	}
	trials, err := s.AA(t.Context(), 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Coverages(trials) {
		short, attained := 0, 0.96875
		if c.Metric == "ops_per_s" {
			short, attained = 1, (2*0.96875+0.9375)/3
		}
		if c.Experiments != 3 || c.Short != short || math.Abs(c.Attained-attained) > 1e-12 {
			t.Errorf("%+v", c)
		}
	}
}

func TestAKnownCostIsFound(t *testing.T) {
	f, s := newStudy(t, 12, func(v Variant) float64 {
		return map[string]float64{"dear": 1.4, "same": 1}[v.Label] + map[bool]float64{true: 1}[v.Label[0] == 'b']
	})
	known := []Known{
		{"dear", 1, "cpu_ns_per_op", func(*report.Row) float64 { return 1.2 }},
		{"same", 2, "cpu_ns_per_op", func(*report.Row) float64 { return 1 }},
		{"same", 2, "lat_p50_ns", func(*report.Row) float64 { return 1 }},
	}
	trials, err := s.Inject(t.Context(), 0, known, 20)
	if err != nil {
		t.Fatal(err)
	}
	known = append(known, Known{"absent", 2, "lat_p50_ns", nil}) // no trial: as when no slice has a percentile
	all := Injections(trials, known)
	if len(all) != 4 || all[3] != (Injected{Variant: "absent", Metric: "lat_p50_ns"}) {
		t.Fatalf("%+v", all)
	}
	if len(f.started) != 20*12*4 {
		t.Errorf("%d processes", len(f.started))
	}
	of := func(variant, metric string) Injected {
		return all[slices.IndexFunc(all, func(x Injected) bool { return x.Variant == variant && x.Metric == metric })]
	}
	if x := of("dear", "cpu_ns_per_op"); x.Experiments != 20 || x.Found != 20 || x.Opposite != 0 || x.Verdicts != 20 || x.Expected != 1.2 || x.Error > 0.03 || math.Abs(x.Ratio-1.2) > 0.03 || x.Covered < 16 {
		t.Errorf("%+v", x)
	}
	if x := of("same", "cpu_ns_per_op"); x.Found+x.Opposite > 5 || x.Covered < 16 {
		t.Errorf("%+v", x)
	}
	for _, x := range trials {
		claim := x.Metric.Name == "cpu_ns_per_op" || x.Metric.Name == "lat_p50_ns"
		known := claim && (x.Variant == "same" || x.Metric.Name == "cpu_ns_per_op")
		if x.Claim() != claim || math.IsNaN(x.Expected) == known {
			t.Errorf("%s, %s: verdict %q, expected %v", x.Variant, x.Metric.Name, x.Verdict, x.Expected)
		}
	}
	for _, c := range Controls(trials) {
		if c.Experiments != 20 || c.Covered < 16 {
			t.Errorf("%+v", c)
		}
	}
}

// One generation gives a ratio without an interval.
func TestATrialWithoutAnIntervalIsNotCounted(t *testing.T) {
	m, err := report.FindMetric("cpu_ns_per_op")
	if err != nil {
		t.Fatal(err)
	}
	none := math.NaN()
	trial := TrialResult{Expected: 1.2, Comparison: report.Comparison{Variant: "dear", Metric: m, Ratio: 1.1, Interval: report.Interval{Low: none, High: none, Level: none}}}
	all := Injections([]TrialResult{trial}, []Known{{Label: "dear", Metric: "cpu_ns_per_op"}})
	if len(all) != 1 || all[0] != (Injected{Variant: "dear", Metric: "cpu_ns_per_op"}) {
		t.Errorf("%+v", all)
	}
}

func TestAStudyThatIsInterruptedHasItsCompleteTrials(t *testing.T) {
	for _, where := range []string{"slice", "finish"} {
		t.Run(where, func(t *testing.T) {
			f, s := newStudy(t, 2, nil)
			ctx, cancel := context.WithCancel(t.Context())
			end := func(v Variant) error {
				if v.Generation == 4 {
					cancel()
					return ctx.Err()
				}
				return nil
			}
			if where == "slice" {
				f.slice = func(v Variant, _ int) error { return end(v) }
			} else {
				f.finish = end
			}
			trials, err := s.AA(ctx, 0, 9)
			if err != nil || len(trials) != PairsTogether*len(report.Metrics) || len(f.noted) != 0 {
				t.Errorf("%d trials, %v, %q", len(trials), err, f.noted)
			}
			if trials, err = s.Inject(ctx, 0, nil, 9); err != nil || len(trials) != 0 {
				t.Errorf("%d trials, %v", len(trials), err)
			}
		})
	}
}

func TestAGenerationOfAStudyThatFailsIsDoneAgainOnce(t *testing.T) {
	f, s := newStudy(t, 2, nil)
	f.start = func(v Variant) error {
		if v.Generation == 3 && v.Label == "b1" {
			return errors.New("no port")
		}
		return nil
	}
	trials, err := s.AA(t.Context(), 0, 2*PairsTogether)
	if err != nil || len(trials) != 2*PairsTogether*len(report.Metrics) {
		t.Fatalf("%d trials, %v", len(trials), err)
	}
	if len(f.noted) != 1 || !strings.Contains(f.noted[0], "no port") || s.made != 5 {
		t.Errorf("noted: %q; %d generations", f.noted, s.made)
	}
	seen := map[string]bool{}
	for _, id := range f.started {
		if seen[id] {
			t.Errorf("run %s was started twice", id)
		}
		seen[id] = true
	}

	// A second failure ends the study; what is complete is kept.
	f.start = func(v Variant) error {
		if v.Generation >= 8 {
			return errors.New("no port")
		}
		return nil
	}
	trials, err = s.AA(t.Context(), 0, 2*PairsTogether)
	if err == nil || !strings.Contains(err.Error(), "no port") || len(trials) != PairsTogether*len(report.Metrics) {
		t.Errorf("%d trials, %v", len(trials), err)
	}
}

func TestAStudyOfACellThatCannotRunHereEndsAtOnce(t *testing.T) {
	f, s := newStudy(t, 2, nil)
	f.start = func(Variant) error { return &NotHere{"no such device"} }
	if trials, err := s.AA(t.Context(), 2, 3); err == nil || err.Error() != "no such device" || len(trials) != 0 || s.made != 1 {
		t.Errorf("%d trials, %v, %d generations", len(trials), err, s.made)
	}
}

func TestACellAlone(t *testing.T) {
	_, s := newStudy(t, 3, nil)
	rows, err := s.Alone(t.Context(), 1)
	if err != nil || len(rows) != 3 || !rows[0].OpsPerS.Known() {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

func TestACompetingLoadEnds(t *testing.T) {
	for seed := range uint64(3) {
		Compete(seed)()
	}
}
