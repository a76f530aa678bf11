package bench

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
)

// shares runs a spec as two processes would, each with one thread of its own, and gives what each found and put.
func shares(t testing.TB, spec Spec) (parts []*Result, puts []map[string]bool) {
	t.Helper()
	for i := range 2 {
		clients, stores := loaded(t, spec, 1, 4)
		put := map[string]bool{}
		stores[0].change = func(r *kv.Request) {
			if r.Op == kv.OpPut {
				put[string(r.Key)] = true
			}
		}
		s := spec
		s.FirstThread, s.AllThreads = i, 2
		res, err := Run(context.Background(), s, clients, nil)
		if err != nil {
			t.Fatal(err)
		}
		parts, puts = append(parts, res), append(puts, put)
	}
	return parts, puts
}

func TestThreadsOfSeveralProcessesInsertDifferentRecords(t *testing.T) {
	spec := Spec{Mix: "insert", ValueBytes: 16, Records: 100, Operations: 2000, Verify: true}
	_, puts := shares(t, spec)
	if len(puts[0]) == 0 || len(puts[1]) == 0 {
		t.Fatalf("%d and %d records were inserted", len(puts[0]), len(puts[1]))
	}
	for key := range puts[0] {
		if puts[1][key] {
			t.Fatalf("both insert the record %q", key)
		}
	}
}

func TestResultComesBackAsItWas(t *testing.T) {
	for name, spec := range map[string]Spec{
		"closed": {Mix: "a", ValueBytes: 64, Records: 200, Duration: 60 * time.Millisecond, Verify: true},
		"open":   {Mix: "get", ValueBytes: 64, Records: 200, Duration: 60 * time.Millisecond, Loop: Open, TargetPerS: 20_000, Verify: true},
	} {
		t.Run(name, func(t *testing.T) {
			parts, _ := shares(t, spec)
			b, err := parts[1].Encode()
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeResult(b)
			if err != nil {
				t.Fatal(err)
			}
			want := *parts[1]
			want.Started = got.Started // without the monotonic clock
			if !got.Lat.Equals(want.Lat) || !reflect.DeepEqual(got.Series, want.Series) || got.Drift != want.Drift || got.Ops != want.Ops || got.Op[Get].Ops != want.Op[Get].Ops ||
				got.Process != want.Process || got.ClientLoops != want.ClientLoops || got.Spec.TargetPerS != want.Spec.TargetPerS || got.Host != want.Host {
				t.Errorf("it was %+v,\nand came back as %+v", want, *got)
			}
			if (got.Svc == nil) != (spec.Loop == Closed) {
				t.Errorf("a %s loop with service times %v", spec.Loop, got.Svc)
			}
		})
	}
}

func TestTogetherAddsCountsAndMergesLatencies(t *testing.T) {
	spec := Spec{Mix: "a", ValueBytes: 64, Records: 200, Conns: 1, Depth: 4, ClientThreads: 1, Duration: 60 * time.Millisecond, Verify: true}
	parts, _ := shares(t, spec)
	a, b := parts[0], parts[1]
	before := [2]int64{a.Lat.TotalCount(), b.Lat.TotalCount()}
	all, err := Together(parts)
	if err != nil {
		t.Fatal(err)
	}
	for what, n := range map[string][2]int64{
		"operations":  {int64(all.Ops), int64(a.Ops + b.Ops)},
		"gets":        {int64(all.Op[Get].Ops), int64(a.Op[Get].Ops + b.Op[Get].Ops)},
		"bytes":       {int64(all.Bytes), int64(a.Bytes + b.Bytes)},
		"latencies":   {all.Lat.TotalCount(), a.Lat.TotalCount() + b.Lat.TotalCount()},
		"of gets":     {all.Op[Get].Lat.TotalCount(), a.Op[Get].Lat.TotalCount() + b.Op[Get].Lat.TotalCount()},
		"CPU time":    {int64(all.Process.CPU()), int64(a.Process.CPU() + b.Process.CPU())},
		"threads":     {int64(all.ClientThreads), 2},
		"connections": {int64(all.Spec.Conns), 2},
		"in flight":   {int64(all.MaxInFlight), int64(a.MaxInFlight + b.MaxInFlight)},
		"slowest":     {all.Lat.Max(), max(a.Lat.Max(), b.Lat.Max())},
		"first third": {int64(all.Drift.First), int64(a.Drift.First + b.Drift.First)},
	} {
		if n[0] != n[1] {
			t.Errorf("%s: %d, expected %d", what, n[0], n[1])
		}
	}
	for i, v := range all.Series {
		if v.Ops != a.Series[i].Ops+b.Series[i].Ops {
			t.Errorf("interval %d: %d operations of %d and %d", i, v.Ops, a.Series[i].Ops, b.Series[i].Ops)
		}
	}
	if all.Host.Known {
		t.Error("the machine's time is known of processes that may share it")
	}
	if a.Ops == all.Ops || before != [2]int64{a.Lat.TotalCount(), b.Lat.TotalCount()} {
		t.Error("the parts were changed")
	}
	other := *b
	other.Spec.Duration++
	if _, err := Together([]*Result{a, &other}); err == nil || !strings.Contains(err.Error(), "not of one load") {
		t.Errorf("results of two loads go together: %v", err)
	}
}

func TestSpecRefusesSharesThatDoNotFit(t *testing.T) {
	clients, _ := loaded(t, Spec{Records: 10}, 1, 1)
	for name, s := range map[string]Spec{
		"beyond":          {FirstThread: 2, AllThreads: 2},
		"below":           {FirstThread: -1, AllThreads: 2},
		"without all":     {FirstThread: 1},
		"too many in all": {AllThreads: maxThreads + 1},
	} {
		s.Records, s.Duration = 10, time.Millisecond
		if _, err := Run(context.Background(), s, clients, nil); err == nil {
			t.Errorf("%s: it ran", name)
		}
	}
}

// A load host's result is another program's bytes.
func FuzzDecodeResult(f *testing.F) {
	parts, _ := shares(f, Spec{Mix: "a", ValueBytes: 16, Records: 50, Duration: 20 * time.Millisecond, Verify: true})
	for _, r := range parts {
		b, err := r.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"result":{"Spec":{"Duration":1000000000}},"lat":"HISTFAAAAB542pNpmSzMwMDAAgA="}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeResult(b)
		if err != nil {
			return
		}
		all, err := Together([]*Result{r, r})
		if err != nil {
			t.Fatal(err)
		}
		if all.Ops != 2*r.Ops || all.Lat.TotalCount() != 2*r.Lat.TotalCount() {
			t.Fatalf("%d operations and %d latencies of twice %d and %d", all.Ops, all.Lat.TotalCount(), r.Ops, r.Lat.TotalCount())
		}
		_ = all.StatusErrors()
		_ = all.Drift.Ratio()
		if _, err := all.Encode(); err != nil {
			t.Fatal(err)
		}
	})
}
