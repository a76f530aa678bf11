package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/report"
)

// loadSource is where a load comes from when flags alone do not describe it: a YCSB property file or a trace.
type loadSource struct {
	workload     string // --workload
	trace        string // --trace
	traceUnit    string
	traceSpeed   speedFlag
	traceRepeat  bool
	workloadName string       // of what was read
	replay       *bench.Trace // likewise
	warning      string       // about what the property file says in vain, or about a trace's length: one line
}

// sourceFlags are load's and bench's.
func (f *factors) sourceFlags() {
	s := f.set
	s.StringVar(&f.workload, "workload", "", "a YCSB property file: records, sizes, operations, distributions and pace, where no other flag says otherwise (docs/workloads.md)")
	s.StringVar(&f.trace, "trace", "", "a CSV file, plain or compressed by gzip, with the columns time,op,key,size: its requests, each at its time (docs/workloads.md)")
	s.StringVar(&f.traceUnit, "trace-unit", bench.Seconds.String(), "unit of the trace's times: "+strings.Join(bench.TimeUnits(), ", "))
}

// replayFlags are bench's alone.
func (f *factors) replayFlags() {
	f.traceSpeed = 1
	f.set.Var(&f.traceSpeed, "trace-speed", "open loop: the trace so many times as fast (2x, 0.5x)")
	f.set.BoolVar(&f.traceRepeat, "trace-repeat", false, "begin the trace anew at its end, until --duration is over")
}

// readSource takes over what --workload or --trace names. A flag that the user gave stays as it is. It comes once, before the flags
// are checked against each other.
func (f *factors) readSource() error {
	switch {
	case f.workload != "" && f.trace != "":
		return usagef("--workload and --trace exclude each other: both say what the load is")
	case f.workload != "":
		return f.readWorkload()
	case f.trace != "":
		return f.readTrace()
	}
	for _, name := range []string{"trace-speed", "trace-repeat", "trace-unit"} {
		if f.sets(name) {
			return usagef("--%s needs --trace", name)
		}
	}
	return nil
}

// checkSource sees that the file can be read.
func (f *factors) checkSource() (err error) {
	if f.workload != "" {
		_, err = bench.ReadWorkload(inputs.Path(f.workload))
	}
	if f.trace != "" { // the unit of its times is another flag
		_, err = bench.ReadTrace(inputs.Path(f.trace), bench.Nanoseconds)
	}
	if _, uerr := bench.ParseTimeUnit(f.traceUnit); err == nil {
		err = uerr
	}
	return err
}

func (f *factors) readWorkload() error {
	w, err := bench.ReadWorkload(inputs.Path(f.workload))
	if err != nil {
		return usagef("%v", err)
	}
	if f.workloadName = w.Name; w.Note != "" {
		f.warning = fmt.Sprintf("workload %s: %s", f.workload, w.Note)
	}
	for name, value := range f.workloadFlags(w) {
		if f.set.Lookup(name) == nil || f.sets(name) {
			continue
		}
		if err := f.set.Set(name, value); err != nil {
			return usagef("%s: --%s=%s: %v", f.workload, name, value, reason(err))
		}
	}
	return nil
}

// workloadFlags are the flags that a property file stands for.
func (f *factors) workloadFlags(w *bench.Workload) map[string]string {
	number := strconv.Itoa
	set := map[string]string{"mix": w.Mix, "key-dist": w.KeyDist.String()}
	if !f.sets("value-bytes") && !f.sets("value-dist") && !f.sets("value-min-bytes") { // they belong together
		set["value-bytes"] = number(w.ValueBytes)
		if w.ValueDist != bench.FixedSize {
			set["value-dist"], set["value-min-bytes"] = w.ValueDist.String(), number(w.ValueMinBytes)
		}
	}
	if w.Records > 0 {
		set["records"] = strconv.FormatUint(w.Records, 10)
	}
	if w.ScanItems > 0 {
		set["scan-items"] = number(w.ScanItems)
	}
	if w.Duration > 0 && f.operations == 0 {
		set["duration"] = w.Duration.String()
	}
	if f.set.Lookup("loop") != nil { // a load chooses its own pace
		if w.Threads > 0 {
			set["conns"], set["depth"] = number(w.Threads), "1"
		}
		if w.TargetPerS > 0 && (!f.sets("loop") || f.loopKind == bench.Open.String()) {
			set["loop"], set["arrival"], set["target-per-s"] = bench.Open.String(), bench.Constant.String(), strconv.FormatUint(w.TargetPerS, 10)
		}
	}
	return set
}

// ofTrace are the flags that a trace speaks for.
var ofTrace = []string{"mix", "key-dist", "records", "value-bytes", "value-dist", "value-min-bytes", "scan-items", "arrival", "target-per-s", "search"}

// traceLong is a length above which a trace's times are more likely of another unit than meant.
const traceLong = 12 * time.Hour

// traceGrace is how long after its last row's time a trace may still be answered within the window.
const traceGrace = time.Second

func (f *factors) readTrace() error {
	for _, name := range ofTrace {
		if f.sets(name) {
			return usagef("--%s: the trace says that itself (leave it out, or --trace)", name)
		}
	}
	t, err := f.openTrace()
	if err != nil {
		return usagef("%v", err)
	}
	least, most := t.ValueBytes()
	switch {
	case f.backend == "raw":
		return usagef("--trace needs a backend with keys, not raw")
	case f.backend == "null" && least != most:
		return usagef("--trace: its values have %d to %d B, and --backend null answers with one size: give another one", least, most)
	}
	f.replay, f.mix, f.records = t, t.Mix(), countFlag(t.Records())
	if err := f.set.Set("value-bytes", strconv.Itoa(most)); err != nil { // the server is told, too
		return usagef("--trace: %v", err)
	}
	if f.set.Lookup("loop") == nil {
		return nil
	}
	return f.timeTrace(t)
}

// timeTrace says when the run of a trace begins and ends: without other flags it is the whole trace, by its own clock.
func (f *factors) timeTrace(t *bench.Trace) error {
	if !f.sets("loop") {
		f.loopKind = bench.Open.String()
	}
	open := f.loopKind == bench.Open.String()
	if !open && f.sets("trace-speed") {
		return usagef("--trace-speed needs --loop open: a closed loop does not look at the times")
	}
	if !f.sets("warmup") {
		f.warmup = 0
	}
	if !open || f.traceRepeat {
		return nil
	}
	span := t.Span(float64(f.traceSpeed))
	if f.warmup > 0 && f.warmup >= span {
		return usagef("--warmup %v: the trace takes %v, and nothing of it would be measured (--trace-repeat begins it anew)", f.warmup, span)
	}
	if !f.sets("duration") {
		f.duration = span - f.warmup + traceGrace
		if span > traceLong {
			f.warning = fmt.Sprintf("trace %s: the run takes %v at --trace-speed %s: if the times are not in %s, end the run (^C) and set --trace-unit (%s), or set --duration",
				f.trace, f.duration.Round(time.Minute), &f.traceSpeed, f.traceUnit, strings.Join(bench.TimeUnits(), ", "))
		}
	}
	return nil
}

// sourceRow fills in where the load comes from, also for a run that did not take place.
func (f *factors) sourceRow(r *report.Row) {
	r.Workload = f.workloadName
	if f.replay == nil {
		return
	}
	r.Trace, r.KeyDist, r.TraceRepeat = f.replay.Name(), bench.TraceKeys.String(), report.B(f.traceRepeat)
	if least, most := f.replay.ValueBytes(); least != most {
		r.ValueDist, r.ValueMinBytes = bench.TraceSizes.String(), report.I(least)
	}
	if f.loopKind == bench.Open.String() {
		r.TraceSpeed = report.F(float64(f.traceSpeed))
	}
}

// traces are those that were read: an experiment asks for the same one in many cells. The main goroutine's.
var traces = map[traceFile]*bench.Trace{}

type traceFile struct {
	path string
	unit bench.TimeUnit
}

func (f *factors) openTrace() (*bench.Trace, error) {
	unit, err := bench.ParseTimeUnit(f.traceUnit)
	if err != nil {
		return nil, fmt.Errorf("--trace-unit: %w", err)
	}
	this := traceFile{inputs.Path(f.trace), unit}
	if t := traces[this]; t != nil {
		return t, nil
	}
	t, err := bench.ReadTrace(this.path, unit)
	if err == nil {
		traces[this] = t
	}
	return t, err
}

// warn says on stderr what of the property file has no part in the run, or that the trace is long.
func (f *factors) warn() {
	if f.warning != "" {
		fmt.Fprintln(os.Stderr, "kvwire:", f.warning)
	}
}

// speedFlag is how many times as fast a trace is replayed.
type speedFlag float64

// Set is pflag.Value's.
func (v *speedFlag) Set(s string) error {
	n, err := parseDecimal(strings.TrimSuffix(s, "x"))
	if err != nil || !(n >= 0.001 && n <= 1e6) {
		return fmt.Errorf("%q is no speed from 0.001x to 1000000x (such as 2x or 0.5x)", s)
	}
	*v = speedFlag(n)
	return nil
}

// String is pflag.Value's.
func (v *speedFlag) String() string { return strconv.FormatFloat(float64(*v), 'f', -1, 64) + "x" }

// Type is pflag.Value's.
func (v *speedFlag) Type() string { return "speed" }
