package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
)

// readSource takes over what --workload or --trace names. A flag that the user gave stays as it is. It comes once, before the flags
// are checked against each other.
func (f *factors) readSource() error {
	switch {
	case f.Load.Workload != "" && f.Load.Trace != "":
		return usagef("--workload and --trace exclude each other: both say what the load is")
	case f.Load.Workload != "":
		return f.readWorkload()
	case f.Load.Trace != "":
		return f.readTrace()
	}
	for _, name := range []string{"trace-speed", "trace-repeat", "trace-unit", "trace-format", "trace-ttl"} {
		if f.sets(name) {
			return usagef("--%s needs --trace", name)
		}
	}
	return nil
}

// checkSource sees that the file can be read.
func (f *factors) checkSource() (err error) {
	if f.Load.Workload != "" {
		_, err = bench.ReadWorkload(inputs.Path(f.Load.Workload))
	}
	if f.Load.Trace != "" { // its format, and the unit of its times, are other flags
		path := inputs.Path(f.Load.Trace)
		_, err = bench.ReadTrace(path, bench.TraceOptions{Unit: bench.Nanoseconds})
		for _, format := range []bench.TraceFormat{bench.TraceTwitter, bench.TraceMeta} {
			if err == nil {
				break
			}
			if _, other := bench.ReadTrace(path, bench.TraceOptions{Format: format}); other == nil {
				err = nil
			}
		}
	}
	if _, uerr := bench.ParseTimeUnit(f.Load.TraceUnit); err == nil {
		err = uerr
	}
	return err
}

func (f *factors) readWorkload() error {
	w, err := bench.ReadWorkload(inputs.Path(f.Load.Workload))
	if err != nil {
		return usagef("%v", err)
	}
	if f.Workload = w.Name; w.Note != "" {
		f.Warning = fmt.Sprintf("workload %s: %s", f.Load.Workload, w.Note)
	}
	for name, value := range f.workloadFlags(w) {
		if f.set.Lookup(name) == nil || f.sets(name) {
			continue
		}
		if err := f.set.Set(name, value); err != nil {
			return usagef("%s: --%s=%s: %v", f.Load.Workload, name, value, factor.Reason(err))
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
	if w.Duration > 0 && f.Load.Operations == 0 {
		set["duration"] = w.Duration.String()
	}
	if f.set.Lookup("loop") != nil { // a load chooses its own pace
		if w.Threads > 0 {
			set["conns"], set["depth"] = number(w.Threads), "1"
		}
		if w.TargetPerS > 0 && (!f.sets("loop") || f.Load.Loop == bench.Open.String()) {
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
	case f.Store.Backend == "raw":
		return usagef("--trace needs a backend with keys, not raw")
	case f.Store.Backend == "null" && least != most:
		return usagef("--trace: its values have %d to %d B, and --backend null answers with one size: give another one", least, most)
	}
	f.Replay, f.Load.Mix, f.Load.Records = t, t.Mix(), factor.Count(t.Records())
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
		f.Load.Loop = bench.Open.String()
	}
	open := f.Load.Loop == bench.Open.String()
	if !open && f.sets("trace-speed") {
		return usagef("--trace-speed needs --loop open: a closed loop does not look at the times")
	}
	if !f.sets("warmup") {
		f.Load.Warmup = 0
	}
	if !open || f.Load.TraceRepeat {
		return nil
	}
	span := t.Span(float64(f.Load.TraceSpeed))
	if f.Load.Warmup > 0 && f.Load.Warmup >= span {
		return usagef("--warmup %v: the trace takes %v, and nothing of it would be measured (--trace-repeat begins it anew)", f.Load.Warmup, span)
	}
	if !f.sets("duration") {
		f.Load.Duration = span - f.Load.Warmup + traceGrace
		if span > traceLong {
			f.Warning = fmt.Sprintf("trace %s: the run takes %v at --trace-speed %s: if the times are not in %s, end the run (^C) and set --trace-unit (%s), or set --duration",
				f.Load.Trace, f.Load.Duration.Round(time.Minute), &f.Load.TraceSpeed, f.Load.TraceUnit, strings.Join(bench.TimeUnits(), ", "))
		}
	}
	return nil
}

// traces are those that were read: an experiment asks for the same one in many cells. The main goroutine's.
var traces = map[traceFile]*bench.Trace{}

type traceFile struct {
	path    string
	options bench.TraceOptions
}

func (f *factors) openTrace() (*bench.Trace, error) {
	var o bench.TraceOptions
	var err error
	if o.Unit, err = bench.ParseTimeUnit(f.Load.TraceUnit); err != nil {
		return nil, fmt.Errorf("--trace-unit: %w", err)
	}
	if o.Format, err = bench.ParseTraceFormat(f.Load.TraceFormat); err != nil {
		return nil, fmt.Errorf("--trace-format: %w", err)
	}
	if o.TTL, err = bench.ParseTraceTTL(f.Load.TraceTTL); err != nil {
		return nil, fmt.Errorf("--trace-ttl: %w", err)
	}
	this := traceFile{inputs.Path(f.Load.Trace), o}
	if t := traces[this]; t != nil {
		return t, nil
	}
	t, err := bench.ReadTrace(this.path, o)
	if err == nil {
		traces[this] = t
	}
	return t, err
}

// warn says on stderr what of the property file has no part in the run, or that the trace is long.
func (f *factors) warn() {
	if f.Warning != "" {
		fmt.Fprintln(os.Stderr, "kvwire:", f.Warning)
	}
}
