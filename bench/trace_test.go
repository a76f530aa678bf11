package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

func traceOf(t testing.TB, text string) *Trace {
	t.Helper()
	tr, err := parseTrace("t.csv", strings.NewReader(text), Seconds)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// small has three records: a is read before it is written, b is written first, c is only read.
const small = `time,op,key,size
10.5,get,a,
10.5,put,b,40
10.75,put,a,100
11,read,c,7
11.000000001,set,b,5
12.5,get,b,5
`

func TestTraceIsRowsOfRecordsByFirstAppearance(t *testing.T) {
	tr := traceOf(t, small)
	want := []traceRow{{0, 0, 0}, {0, 1, 40 | putBit}, {250_000_000, 0, 100 | putBit}, {500_000_000, 2, 0}, {500_000_001, 1, 5 | putBit}, {2_000_000_000, 1, 0}}
	if !slices.Equal(tr.rows, want) {
		t.Errorf("rows %+v", tr.rows)
	}
	// Loaded with the first size that a key has: a with that of its put.
	if !slices.Equal(tr.first, []uint32{100, 40, 7}) || tr.Records() != 3 || tr.Rows() != 6 {
		t.Errorf("first sizes %v", tr.first)
	}
	if least, most := tr.ValueBytes(); least != 5 || most != 100 {
		t.Errorf("values of %d to %d B", least, most)
	}
	if tr.Mix() != "get=0.5,put=0.5" || tr.Span(2) != time.Second || tr.period() != 2_400_000_000 {
		t.Errorf("%s, %v, %d", tr.Mix(), tr.Span(2), tr.period())
	}
	if _, err := ParseMix(tr.Mix()); err != nil {
		t.Error(err)
	}
}

func TestTraceColumnsAreFoundByName(t *testing.T) {
	for _, text := range []string{
		"\ufeffkey,size,client,time,op\r\nuser1,5,x,0,GET\r\n",
		"time,op,key,size\n0,get,\"user1\",5", // no end of line
		"op,key,size,time\nread,user1,5,1700000000.123456789\n\n",
	} {
		tr, err := parseTrace("t", strings.NewReader(text), Seconds)
		if err != nil || tr.Rows() != 1 || tr.Mix() != "get" || tr.first[0] != 5 {
			t.Errorf("%q: %v %+v", text, err, tr)
		}
	}
	if tr := traceOf(t, "time,op,key,size\n0,put,a,1\n"); tr.Mix() != "put" {
		t.Errorf("mix %s", tr.Mix())
	}
}

func TestSecondsAreReadExactly(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1": 1e9, "0.5": 5e8, ".5": 5e8, "2.": 2e9, "1700000000.123456789": 1700000000123456789, "0.0000000019": 1,
		"1e-05": 10_000, "1.5E3": 1_500_000_000_000,
	} {
		if got, ok := parseTime(s, Seconds); !ok || got != want {
			t.Errorf("%q: %d, %v; expected %d", s, got, ok, want)
		}
	}
	for _, s := range []string{"", ".", "-1", "+1", "1s", "1,5", "0x1", "NaN", "Inf", "1e400", "-1e3", "1e", "99999999999", "9999999999", "1_0"} {
		if got, ok := parseTime(s, Seconds); ok {
			t.Errorf("%q was taken as %d ns", s, got)
		}
	}
}

func TestTraceNamesTheMistakeAndItsLine(t *testing.T) {
	const head = "time,op,key,size\n"
	for text, want := range map[string]string{
		"":                                    "t.csv: the file is empty: its first line names the columns time,op,key,size",
		head:                                  "t.csv: there is no row",
		"time,op,key\n":                       "t.csv:1: the first line must have the column size exactly once",
		"time,op,key,size,op\n":               "t.csv:1: the first line must have the column op exactly once",
		"0,get,a,1\n":                         "t.csv:1: the first line must have the column time exactly once",
		head + "0,get,a,1\nx,get,a,1\n":       `t.csv:3: time "x" is not a decimal number of s, such as 0.25`,
		head + "2,get,a,1\n1,get,a,1\n":       `t.csv:3: time "1" is before that of the row above: sort the file by time`,
		head + "0,get,a,1\n3000000,get,a,1\n": `t.csv:3: time "3000000" is more than 744h0m0s after`,
		head + "0,incr,a,1\n":                 `t.csv:2: op "incr" is not replayed: get (or read), put`,
		head + "0,scan,a,1\n":                 `t.csv:2: op "scan" is not replayed`,
		head + "0,get,,1\n":                   "t.csv:2: key is empty",
		head + "0,put,a,\n":                   `t.csv:2: size "" is not a size of a value in bytes, from 0 to 16777216`,
		head + "0,put,a,16777217\n":           `t.csv:2: size "16777217"`,
		head + "0,put,a,-1\n":                 `t.csv:2: size "-1"`,
		head + "0,get,a,1k\n":                 `t.csv:2: size "1k"`,
		head + "0,get,a,\n0,get,b,1\n":        "t.csv: row 1: no row of its key has a size",
		head + "0,get,a\n":                    "t.csv:2: the number of fields is 3 here, and 4 in the first line",
		head + "0,get,\"a,\n":                 "t.csv:2: a quotation mark (\") is misplaced, or its pair is missing",
		head + "0,get,a\"b,1\n":               `t.csv:2: a quotation mark (") is misplaced, or its pair is missing`,
		head + "0,get,\"a,1\n":                `t.csv:2: a quotation mark (") is misplaced, or its pair is missing`,
		head + "0,get," + strings.Repeat("k", 2*traceLineBytes) + ",1\n":     "t.csv: after row 0: a line is longer than 65536 bytes",
		head + "0,get,a,1\n0,get,\"" + strings.Repeat("k\n", traceLineBytes): "t.csv: after row 1: a line is longer than 65536 bytes, or a quote has no end",
		strings.Repeat("\n", 2*traceLineBytes):                               "a line is longer",
		head + "0,get,a," + strings.Repeat("9", 100) + "\n":                  strings.Repeat("9", 40) + "…",
	} {
		_, err := parseTrace("t.csv", strings.NewReader(text), Seconds)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60q:\ngot  %v\nwant %s", text, err, want)
		}
	}
}

func TestReadTraceUnpacksAndNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	plain, packed, cut := filepath.Join(dir, "a.csv"), filepath.Join(dir, "a.csv.gz"), filepath.Join(dir, "cut.csv.gz")
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, small)
	_ = w.Close()
	for name, text := range map[string][]byte{plain: []byte(small), packed: b.Bytes(), cut: b.Bytes()[:b.Len()-12]} {
		if err := os.WriteFile(name, text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	one, err := ReadTrace(t.Context(), plain, TraceOptions{})
	if err != nil || one.Name() != fmt.Sprintf("a.csv@%x", sha256.Sum256([]byte(small)))[:len("a.csv@")+12] {
		t.Fatalf("%v %+v", err, one)
	}
	two, err := ReadTrace(t.Context(), packed, TraceOptions{})
	if err != nil || !slices.Equal(one.rows, two.rows) || !strings.HasPrefix(two.Name(), "a.csv.gz@") || two.Name() != fmt.Sprintf("a.csv.gz@%x", sha256.Sum256(b.Bytes()))[:len("a.csv.gz@")+12] {
		t.Fatalf("%v %+v", err, two)
	}
	for _, name := range []string{cut, filepath.Join(dir, "none.csv")} {
		if tr, err := ReadTrace(t.Context(), name, TraceOptions{}); err == nil || tr != nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTraceIsSplitByKeyInOrder(t *testing.T) {
	var text strings.Builder
	text.WriteString("time,op,key,size\n")
	for i := range 500 {
		fmt.Fprintf(&text, "%d,put,key %d,%d\n", i, i*i%37, 30+i)
	}
	tr := traceOf(t, text.String())
	for _, threads := range []int{1, 2, 3, 50} {
		owner, seen := map[uint32]int{}, make([]bool, tr.Rows())
		for thread := range threads {
			last := -1
			for _, i := range tr.of(thread, threads) {
				id := tr.rows[i].id
				if by, taken := owner[id]; taken && by != thread {
					t.Fatalf("record %d belongs to threads %d and %d", id, by, thread)
				}
				if owner[id] = thread; int(i) <= last || seen[i] {
					t.Fatalf("thread %d: row %d after row %d", thread, i, last)
				}
				last, seen[i] = int(i), true
			}
		}
		if slices.Contains(seen, false) {
			t.Errorf("%d threads: a row is nobody's", threads)
		}
	}
}

// The times of an open loop are those of the file, whatever the clock says while they are asked for.
func TestReplayIsTimedByTheFile(t *testing.T) {
	tr := traceOf(t, small)
	due := func(s Spec, thread, threads, n int) (at []int64) {
		s.Trace = tr
		s = s.Defaults()
		p := newReplay(s, thread, threads)
		a := newTraceArrivals(p, 1000)
		for range n {
			at = append(at, a.next)
			a.advance()
		}
		return at
	}
	const s = int64(time.Second)
	for name, c := range map[string]struct {
		got, want []int64
	}{
		"as it was":      {due(Spec{Loop: Open}, 0, 1, 8), []int64{1000, 1000, 1000 + s/4, 1000 + s/2, 1001 + s/2, 1000 + 2*s, neverDue, neverDue}},
		"twice as fast":  {due(Spec{Loop: Open, TraceSpeed: 2}, 0, 1, 4), []int64{1000, 1000, 1000 + s/8, 1000 + s/4}},
		"half as fast":   {due(Spec{Loop: Open, TraceSpeed: 0.5}, 0, 1, 3), []int64{1000, 1000, 1000 + s/2}},
		"second of two":  {due(Spec{Loop: Open}, 1, 2, 4), []int64{1000, 1001 + s/2, 1000 + 2*s, neverDue}},
		"repeated":       {due(Spec{Loop: Open, TraceRepeat: true}, 2, 3, 3), []int64{1000 + s/2, 1000 + s/2 + 12*s/5, 1000 + s/2 + 24*s/5}},
		"none of a kind": {due(Spec{Loop: Open, TraceRepeat: true}, 9, 10, 2), []int64{neverDue, neverDue}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %d, expected %d", name, c.got, c.want)
		}
	}
}

func TestCheckOfATraceKnowsWhichRowWroteAValue(t *testing.T) {
	tr := traceOf(t, small)
	value := func(id, version uint64, n int) []byte {
		v := make([]byte, n)
		fillValue(v, id, version, 9)
		return v
	}
	flipped := value(0, 3, 100)
	flipped[99] ^= 1
	for name, c := range map[string]struct {
		v    []byte
		id   uint64
		want fault
	}{
		"loaded":                     {value(0, 0, 100), 0, faultNone},
		"written by row 3":           {value(0, 3, 100), 0, faultNone},
		"cut off":                    {value(0, 3, 100)[:99], 0, faultLength},
		"loaded, cut off":            {value(1, 0, 40)[:30], 1, faultLength},
		"another record's row":       {value(0, 2, 100), 0, faultVersion},
		"a row that reads":           {value(0, 1, 100), 0, faultVersion},
		"beyond the last row":        {value(0, 7, 100), 0, faultVersion},
		"another record":             {value(1, 2, 40), 0, faultRecord},
		"corrupt":                    {flipped, 0, faultFill},
		"short":                      {value(1, 5, 5), 1, faultNone},
		"short, loaded":              {value(2, 0, 7), 2, faultNone},
		"short, of no row's length":  {value(1, 5, 6), 1, faultLength},
		"short, and the record's is": {value(0, 3, 5), 0, faultLength},
		"short, corrupt":             {[]byte("12345"), 1, faultFill},
	} {
		if got := tr.check(c.v, c.id); got != c.want {
			t.Errorf("%s: %s, expected %s", name, faultName(got), faultName(c.want))
		}
	}
}

func faultName(f fault) string { return name(faultNames[:], int(f)) }

func TestRunReplaysEveryRowOnce(t *testing.T) {
	var text strings.Builder
	text.WriteString("time,op,key,size\n")
	var gets, puts uint64
	for i := range 900 {
		op := []string{"get", "put", "get"}[i%3]
		if op == "put" {
			puts++
		} else {
			gets++
		}
		fmt.Fprintf(&text, "%.6f,%s,%d,%d\n", float64(i)*20e-6, op, i*7%41, []int{0, 3, 24, 100, 900}[i%5])
	}
	tr := traceOf(t, text.String())
	for _, kind := range []LoopKind{Closed, Open} {
		for _, threads := range []int{1, 2, 45} { // more threads than records: some have nothing to do
			t.Run(fmt.Sprintf("%v/%d", kind, threads), func(t *testing.T) {
				spec := Spec{Trace: tr, Loop: kind, Duration: time.Hour, Verify: true}
				clients := make([]Client, threads)
				for i := range clients {
					l := startLoop(t)
					clients[i] = Client{Loop: l, Handler: &mem{l: l, items: map[string][]byte{}}, InFlight: 2}
					if got, err := Load(context.Background(), spec, clients[i:i+1], nil); err != nil || got.Records != 41 {
						t.Fatalf("%+v, %v", got, err)
					}
				}
				res, err := Run(context.Background(), spec, clients, nil)
				if err != nil {
					t.Fatal(err)
				}
				if res.Ops != 900 || res.Op[Get].Ops != gets || res.Op[Put].Ops != puts || res.Lat.TotalCount() != 900 || res.TraceLeft != 0 || res.Interrupted {
					t.Errorf("%d gets and %d puts, %d latencies, %d left", res.Op[Get].Ops, res.Op[Put].Ops, res.Lat.TotalCount(), res.TraceLeft)
				}
				if res.Errors+res.Misses+res.VerifyFailures != 0 {
					t.Errorf("errors %s, %d misses, %d wrong: %s", res.StatusErrors(), res.Misses, res.VerifyFailures, res.FirstFailure)
				}
				if res.Duration <= 0 || res.Duration > 10*time.Minute {
					t.Errorf("the window was %v", res.Duration)
				}
				if ratio, ok := res.Achieved(); ok != (kind == Open) || ok && (ratio != 1 || res.Scheduled != 900 || res.Unsent != 0 || res.Duration < tr.Span(1)) {
					t.Errorf("achieved %v of %d in %v", ratio, res.Scheduled, res.Duration)
				}
			})
		}
	}
}

func TestRunCutsATraceAtItsTimeAndRepeatsIt(t *testing.T) {
	text := "time,op,key,size\n0,put,a,100\n0.001,get,a,100\n3600,get,a,100\n"
	l := startLoop(t)
	clients := []Client{{l, &mem{l: l, items: map[string][]byte{}}, 4}}
	spec := Spec{Trace: traceOf(t, text), Loop: Open, Duration: 30 * time.Millisecond, Verify: true}
	if _, err := Load(context.Background(), spec, clients, nil); err != nil {
		t.Fatal(err)
	}
	res, err := Run(context.Background(), spec, clients, nil)
	if err != nil || res.Lat.TotalCount() != 2 || res.TraceLeft != 1 || res.Scheduled != 2 || res.Duration != spec.Duration {
		t.Fatalf("%v: %d latencies, %d left in %v", err, res.Lat.TotalCount(), res.TraceLeft, res.Duration)
	}
	spec.Loop, spec.TraceRepeat = Closed, true
	// On a busy machine a short window may have no operation: it is doubled until it has some.
	for res.Ops = 0; err == nil && res.Ops < 10 && spec.Duration < 30*time.Second; spec.Duration *= 2 {
		if res, err = Run(context.Background(), spec, clients, nil); res.Ops >= 10 {
			break
		}
	}
	if err != nil || res.Ops < 10 || res.TraceLeft != 0 || res.Duration != spec.Duration || res.VerifyFailures != 0 {
		t.Fatalf("%v: %d operations in %v, %d wrong", err, res.Ops, res.Duration, res.VerifyFailures)
	}
	if got, want := res.Op[Get].Ops, 2*res.Op[Put].Ops; got > want+2 || want > got+2 {
		t.Errorf("%d gets, %d puts", got, res.Op[Put].Ops)
	}
	spec.Warmup = 10 * time.Millisecond // its rows are not counted
	if res, err = Run(context.Background(), spec, clients, nil); err != nil || res.Ops == 0 || res.Warmup < spec.Warmup {
		t.Fatalf("%v: %d operations after %v", err, res.Ops, res.Warmup)
	}
}

func TestRunOfATraceFindsWrongValuesAndDeadConnections(t *testing.T) {
	var text strings.Builder
	text.WriteString("time,op,key,size\n")
	for i := range 50 {
		fmt.Fprintf(&text, "0,put,a,%d\n0,get,a,\n", 100+i)
	}
	for name, c := range map[string]struct {
		change func(n int, r *kv.Request)
		wrong  string
		err    error
	}{
		"cut off": {func(_ int, r *kv.Request) {
			if r.Op == kv.OpGet {
				r.Value = r.Value[:len(r.Value)-1]
			}
		}, "a wrong length", nil},
		"dead": {func(n int, r *kv.Request) {
			if n >= 30 {
				r.Status = kv.StatusClosed
			}
		}, "", ErrDead},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLoop(t)
			h := &mem{l: l, items: map[string][]byte{}}
			clients := []Client{{l, h, 1}}
			spec := Spec{Trace: traceOf(t, text.String()), Duration: time.Hour, Verify: true}
			if _, err := Load(context.Background(), spec, clients, nil); err != nil {
				t.Fatal(err)
			}
			n := 0
			h.change = func(r *kv.Request) { n++; c.change(n, r) }
			res, err := Run(context.Background(), spec, clients, nil)
			if !errors.Is(err, c.err) || !strings.Contains(res.FirstFailure, c.wrong) || (c.wrong != "") != (res.VerifyFailures > 0) {
				t.Fatalf("%v, %d wrong: %s", err, res.VerifyFailures, res.FirstFailure)
			}
			if c.err != nil && res.TraceLeft != 70 {
				t.Errorf("%d rows left", res.TraceLeft)
			}
		})
	}
}

// A trace that began an hour ago is late with every row: all are sent, in order, and each counts from its time in the file.
func TestReplayCountsFromTheTimeOfTheRow(t *testing.T) {
	tr := traceOf(t, "time,op,key,size\n0,put,a,30\n1,get,a,\n2,put,b,40\n3,get,a,\n4,get,b,\n")
	g, q := driven(t, Spec{Trace: tr, Loop: Open, Duration: 2 * time.Hour, Verify: true}, 2)
	begin := loop.Nanos() - int64(time.Hour)
	g.start.Store(begin)
	g.begin(begin)
	if n := g.Poll(); n != 2 || g.Poll() != 0 {
		t.Fatalf("%d were sent into 2 slots", n)
	}
	var ids, intended []uint64
	for r := q.next(); r != nil; r = q.next() {
		s := &g.slots.slot[r.Slot]
		ids, intended = append(ids, s.id), append(intended, uint64(s.intended-begin)/uint64(time.Second))
		if r.Op == kv.OpGet { // what a store would answer
			version := []uint64{0: 1, 1: 3}[s.id]
			r.Value = r.Value[:[]int{30, 40}[s.id]]
			fillValue(r.Value, s.id, version, 1)
		}
		g.Complete(r)
	}
	if !slices.Equal(ids, []uint64{0, 0, 1, 0, 1}) || !slices.Equal(intended, []uint64{0, 1, 2, 3, 4}) {
		t.Errorf("records %d at %d", ids, intended)
	}
	if g.rec.scheduled != 5 || g.rec.missed != 3 || !g.reported || g.rec.verifyFailures != 0 || g.rec.ops[Get] != 3 || g.rec.ops[Put] != 2 {
		t.Errorf("%d scheduled, %d missed, settled %v, %d wrong: %s", g.rec.scheduled, g.rec.missed, g.reported, g.rec.verifyFailures, g.rec.firstFailure)
	}
	if least := g.rec.lag.hist().Min(); least < int64(50*time.Second) { // what is longer than a minute counts as one
		t.Errorf("a row was sent only %v late", time.Duration(least))
	}
	if most := g.rec.svc.hist().Max(); most > int64(time.Minute)/2 {
		t.Errorf("the service took %v", time.Duration(most))
	}
}

func TestReplayAllocatesNothing(t *testing.T) {
	tr := traceOf(t, small)
	for _, kind := range []LoopKind{Closed, Open} {
		g, q := driven(t, Spec{Trace: tr, TraceRepeat: true, TraceSpeed: 1e6, Loop: kind, Duration: time.Hour}, 8)
		g.begin(loop.Nanos())
		if n := testing.AllocsPerRun(5000, func() {
			g.Poll()
			for range 4 {
				if r := q.next(); r != nil {
					g.Complete(r)
				}
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations in a turn", kind, n)
		}
	}
}

func TestSpecOfATrace(t *testing.T) {
	tr := traceOf(t, small)
	s := Spec{Trace: tr, Loop: Open, Mix: "e", Records: 5}.Defaults()
	if s.Mix != tr.Mix() || s.KeyDist != TraceKeys || s.Records != 3 || s.ValueBytes != 100 || s.ValueMinBytes != 5 || s.ValueDist != TraceSizes || s.Arrival != TraceTimes || s.TraceSpeed != 1 {
		t.Errorf("%+v", s)
	}
	one := Spec{Trace: traceOf(t, "time,op,key,size\n5,get,a,8\n5,get,a,8\n"), Loop: Closed}.Defaults()
	if one.ValueDist != FixedSize || one.ValueMinBytes != 0 || one.ValueBytes != 8 || one.Arrival != Poisson {
		t.Errorf("%+v", one)
	}
	for word, s := range map[string]Spec{
		"trace speed -1":     {Trace: tr, TraceSpeed: -1},
		"trace speed NaN":    {Trace: tr, TraceSpeed: math.NaN()},
		"cannot be repeated": {Trace: one.Trace, Loop: Open, TraceRepeat: true},
		"distribution":       {KeyDist: TraceKeys},
		"of sizes":           {ValueDist: TraceSizes},
		"arrival":            {Loop: Open, Arrival: TraceTimes, TargetPerS: 1},
	} {
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
	}
	for _, parse := range []func() error{
		func() error { _, err := ParseKeyDist("trace"); return err },
		func() error { _, err := ParseSizeDist("trace"); return err },
		func() error { _, err := ParseArrival("trace"); return err },
	} {
		if parse() == nil {
			t.Error("a name that needs a trace was taken")
		}
	}
}

// checkTrace checks what holds of every trace that was read.
func checkTrace(t *testing.T, tr *Trace) {
	last := int64(0)
	least, most := tr.ValueBytes()
	for i, r := range tr.rows {
		size := int(r.size &^ (putBit | deleteBit))
		if r.at < last || r.at > int64(traceSpanMax+time.Second) || uint64(r.id) >= tr.Keys() || tr.Keys() > tr.Records() && !tr.missing[tr.Records()] || size > most || r.size&putBit != 0 && size < least {
			t.Fatalf("row %d: %+v", i, r)
		}
		last = r.at
	}
	for id := range tr.Records() {
		v := make([]byte, tr.first[id])
		if fillValue(v, id, 0, 1); tr.check(v, id) != faultNone {
			t.Fatalf("record %d as it is loaded: %s", id, faultName(tr.check(v, id)))
		}
	}
	if n := len(tr.of(0, 2)) + len(tr.of(1, 2)); n != tr.Rows() {
		t.Fatalf("%d rows of %d are somebody's", n, tr.Rows())
	}
	if err := (Spec{Trace: tr, Loop: Open}).Check(); err != nil {
		t.Fatal(err)
	}
}

// Whatever is taken is in order, and can be split and run.
func FuzzParseTrace(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("\ufeffkey,size,client,time,op\r\n\"user\n1\",5,x,0,GET\r\n"))
	f.Add([]byte("time,op,key,size\n1e-05,put,a,0\n1e5,get,a,\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		tr, err := parseTrace("t", bytes.NewReader(text), Seconds)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") || tr != nil {
				t.Fatalf("%q, %v", err, tr)
			}
			return
		}
		checkTrace(t, tr)
	})
}

func TestTimesAreOfTheUnitThatIsNamed(t *testing.T) {
	for _, c := range []struct {
		text string
		unit TimeUnit
		want int64
	}{{"1.5", Milliseconds, 1_500_000}, {"1700000000000123.456", Microseconds, 1700000000000123456}, {"2.9", Nanoseconds, 2}, {"0.0009", Microseconds, 0},
		{".9", Nanoseconds, 0}, {"1700000000123456789", Nanoseconds, 1700000000123456789}, {"1e3", Microseconds, 1_000_000}} {
		if got, ok := parseTime(c.text, c.unit); !ok || got != c.want {
			t.Errorf("%s %s: %d, %v; expected %d", c.text, c.unit, got, ok, c.want)
		}
	}
	if got, ok := parseTime("9999999999999999", Milliseconds); ok {
		t.Errorf("a time beyond 63 bits was taken as %d ns", got)
	}
	text := "time,op,key,size\n0,put,a,1\n2000000000,get,a,1\n"
	if _, err := parseTrace("t", strings.NewReader(text), Seconds); err == nil || !strings.Contains(err.Error(), "--trace-unit") {
		t.Errorf("a trace of 63 years: %v", err)
	}
	if tr, err := parseTrace("t", strings.NewReader(text), Microseconds); err != nil || tr.Span(1) != 2000*time.Second {
		t.Errorf("%v, %v", tr, err)
	}
}

// A trace is unpacked by what it is, and not by what it is called; byte order marks are skipped or named.
func TestATraceIsReadByItsFirstBytes(t *testing.T) {
	dir := t.TempDir()
	pack := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, text)
		_ = w.Close()
		return b.String()
	}
	for name, c := range map[string]struct{ text, wrong string }{
		"a.csv": {"\xef\xbb\xbf" + small, ""}, "b.csv": {pack(small), ""}, "c": {pack("\xef\xbb\xbf" + small), ""},
		"d.csv": {"\xff\xfet\x00", "UTF-16, little-endian"}, "e.csv.gz": {small, "the content is not in gzip format"}, "f.gz": {"", "the content is not in gzip format"},
		"h.gz": {pack(small)[:30], "the compressed data is damaged, or its end is missing"}, "i.gz": {"\x1f\x8bjunk", "the compressed data is damaged, or its end is missing"},
		"g.gz": {pack("\xfe\xff\x00t"), "UTF-16, big-endian"},
	} {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(c.text), 0o666); err != nil {
			t.Fatal(err)
		}
		tr, err := ReadTrace(t.Context(), name, TraceOptions{})
		switch {
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s: %v, want %q", name, err, c.wrong)
		case c.wrong == "" && (err != nil || tr.Rows() == 0):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadTraceEndsWithItsContext(t *testing.T) {
	name := filepath.Join(t.TempDir(), "t.csv")
	if err := os.WriteFile(name, []byte("time,op,key,size\n0,get,a,1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if tr, err := ReadTrace(ctx, name, TraceOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", tr, err)
	}
}
