package bench

import (
	"context"
	"fmt"
	"reflect"
	"slices"
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
			got, err := DecodeResult(b, nil)
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

// request is one request of a replay, as a store sees it.
type request struct {
	op  kv.Op
	key string
}

// Each process has the whole trace and sends the rows of its keys, so all of them together send each row once, and those of a key in the trace's order.
func TestProcessesReplayATraceTogether(t *testing.T) {
	var text strings.Builder
	text.WriteString("time,op,key,size\n")
	var kinds [Kinds]uint64
	want := map[string][]kv.Op{} // by key, in order
	key := make([]byte, 16)
	padKey(key)
	ids := map[int]uint64{}
	for i := range 900 {
		k := i * i % 37
		if _, known := ids[k]; !known {
			ids[k] = uint64(len(ids))
		}
		op := []struct {
			word string
			kind Kind
			op   kv.Op
		}{{"get", Get, kv.OpGet}, {"put", Put, kv.OpPut}, {"get", Get, kv.OpGet}, {"delete", Delete, kv.OpDelete}}[i/3%4]
		kinds[op.kind]++
		putKey(key, ids[k])
		want[string(key)] = append(want[string(key)], op.op)
		fmt.Fprintf(&text, "%.6f,%s,key%d,%d\n", float64(i)*20e-6, op.word, k, 100+i%5)
	}
	tr := traceOf(t, text.String())
	for _, kind := range []LoopKind{Closed, Open} {
		t.Run(kind.String(), func(t *testing.T) {
			const processes, threads = 3, 2
			spec := Spec{Trace: tr, Loop: kind, Duration: time.Hour, Verify: true, AllThreads: processes * threads}
			var parts []*Result
			got := map[string][]kv.Op{}
			for i := range processes {
				clients := make([]Client, threads)
				var sent [threads][]request
				for j := range clients {
					l := startLoop(t)
					h := &mem{l: l, items: map[string][]byte{}}
					clients[j] = Client{Loop: l, Handler: h, InFlight: 2}
					alone := spec
					alone.AllThreads = 0
					if _, err := Load(context.Background(), alone, clients[j:j+1], nil); err != nil {
						t.Fatal(err)
					}
					h.change = func(r *kv.Request) { sent[j] = append(sent[j], request{r.Op, string(r.Key)}) }
				}
				s := spec
				s.FirstThread = i * threads
				res, err := Run(context.Background(), s, clients, nil)
				if err != nil {
					t.Fatal(err)
				}
				b, err := res.Encode()
				if err != nil {
					t.Fatal(err)
				}
				if res, err = DecodeResult(b, tr); err != nil {
					t.Fatal(err)
				}
				parts = append(parts, res)
				for _, r := range slices.Concat(sent[:]...) {
					got[r.key] = append(got[r.key], r.op)
				}
			}
			all, err := Together(parts)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("the requests of %d keys are not the trace's", len(got))
			}
			for k, n := range kinds {
				if all.Op[k].Ops != n {
					t.Errorf("%d of %v, and %d in the trace", all.Op[k].Ops, Kind(k), n)
				}
			}
			missing := parts[0].ExpectedMisses + parts[1].ExpectedMisses + parts[2].ExpectedMisses
			if all.ExpectedMisses != missing || missing == 0 || all.Misses+all.Errors+all.VerifyFailures+all.TraceLeft != 0 || all.Lat.TotalCount() != 900 || all.Spec.Trace != tr {
				t.Errorf("%d expected misses of %d, %d others, %s, %d left, %d latencies, %s", all.ExpectedMisses, missing, all.Misses, all.StatusErrors(), all.TraceLeft, all.Lat.TotalCount(), all.FirstFailure)
			}
			if ratio, open := all.Achieved(); open && (ratio != 1 || all.Scheduled != 900) {
				t.Errorf("%v of %d rows", ratio, all.Scheduled)
			}
		})
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
		r, err := DecodeResult(b, nil)
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
