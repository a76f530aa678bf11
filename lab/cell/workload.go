package cell

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
)

// ReadSource reads the file that --workload or --trace names, and sets the flags that the user did not give from it. Call it once, before the flags are checked
// against each other.
func (f *Settings) ReadSource() error {
	switch {
	case f.Load.Workload != "" && f.Load.Trace != "":
		return exit.Usagef("--workload and --trace exclude each other: both describe the load")
	case f.Load.Workload != "":
		return f.readWorkload()
	case f.Load.Trace != "":
		return f.readTrace()
	}
	for _, name := range []string{"trace-speed", "trace-repeat", "trace-unit", "trace-format", "trace-ttl"} {
		if f.Given(name) {
			return exit.Usagef("--%s needs --trace", name)
		}
	}
	return nil
}

// checkSource returns an error if the file cannot be read.
func (f *Settings) checkSource() (err error) {
	if f.Load.Workload != "" {
		_, err = bench.ReadWorkload(f.Program.Inputs.Path(f.Load.Workload))
	}
	if f.Load.Trace != "" { // its format, and the unit of its times, are other flags
		path := f.Program.Inputs.Path(f.Load.Trace)
		_, err = bench.ReadTrace(f.Program.context(), path, bench.TraceOptions{Unit: bench.Nanoseconds})
		for _, format := range []bench.TraceFormat{bench.TraceTwitter, bench.TraceMeta} {
			if err == nil {
				break
			}
			if _, other := bench.ReadTrace(f.Program.context(), path, bench.TraceOptions{Format: format}); other == nil {
				err = nil
			}
		}
	}
	if _, uerr := bench.ParseTimeUnit(f.Load.TraceUnit); err == nil {
		err = uerr
	}
	return err
}

// setSizes sets the smallest and the largest size of values from a list, if there is one. Call it once, after ReadSource.
func (f *Settings) setSizes() error {
	n := len(f.Load.ValueSizes)
	if n == 0 || f.Load.ValueDist != bench.ListedSizes.String() {
		return nil
	}
	for _, name := range []string{"value-bytes", "value-min-bytes"} {
		if f.Given(name) {
			return exit.Usagef("--%s: --value-sizes sets it (leave one of them out)", name)
		}
	}
	f.Load.ValueMinBytes = factor.Bytes(f.Load.ValueSizes[0].Bytes)
	return f.flags.Set("value-bytes", strconv.Itoa(f.Load.ValueSizes[n-1].Bytes)) // which the server gets, too
}

func (f *Settings) readWorkload() error {
	w, err := bench.ReadWorkload(f.Program.Inputs.Path(f.Load.Workload))
	if err != nil {
		return exit.Usagef("--workload: %w", err)
	}
	if f.Workload = w.Name; w.Note != "" {
		f.Warning = fmt.Sprintf("workload %s: %s", f.Load.Workload, w.Note)
	}
	for name, value := range f.workloadFlags(w) {
		if f.flags.Lookup(name) == nil || f.Given(name) {
			continue
		}
		if err := f.flags.Set(name, value); err != nil {
			return exit.Usagef("%s: --%s=%s: %v", f.Load.Workload, name, value, factor.Reason(err))
		}
	}
	return nil
}

// workloadFlags are the flags that have the same meaning as a property file.
func (f *Settings) workloadFlags(w *bench.Workload) map[string]string {
	number := strconv.Itoa
	set := map[string]string{"mix": w.Mix, "key-dist": w.KeyDist.String()}
	if !f.Given("value-bytes") && !f.Given("value-dist") && !f.Given("value-min-bytes") { // they belong together
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
	if f.flags.Lookup("loop") != nil { // a load chooses its own pace
		if w.Threads > 0 {
			set["conns"], set["depth"] = number(w.Threads), "1"
		}
		if w.TargetPerS > 0 && (!f.Given("loop") || f.Load.Loop == bench.Open.String()) {
			set["loop"], set["arrival"], set["target-per-s"] = bench.Open.String(), bench.Constant.String(), strconv.FormatUint(w.TargetPerS, 10)
		}
	}
	return set
}

// replacedByTrace are the flags whose values come from a trace.
var replacedByTrace = []string{"mix", "key-dist", "records", "value-bytes", "value-dist", "value-min-bytes", "value-sizes", "scan-items", "arrival", "target-per-s", "search"}

// traceLong is the length of a trace above which its times have more likely another unit than the one given.
const traceLong = 12 * time.Hour

// traceGrace is the time in the window after the last row of a trace, for the answers to its last requests.
const traceGrace = time.Second

func (f *Settings) readTrace() error {
	for _, name := range replacedByTrace {
		if f.Given(name) {
			return exit.Usagef("--%s: the trace sets it (leave it out, or --trace)", name)
		}
	}
	t, err := f.openTrace()
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	least, most := t.ValueBytes()
	switch {
	case f.Store.Backend == "raw":
		return exit.Usagef("--trace needs a backend with keys, not raw")
	case f.Store.Backend == "null" && least != most:
		return exit.Usagef("--trace: its values have %d to %d B, and --backend null answers with one size: give another one", least, most)
	}
	f.Replay, f.Load.Mix, f.Load.Records = t, t.Mix(), factor.Count(t.Records())
	if err := f.flags.Set("value-bytes", strconv.Itoa(most)); err != nil { // which the server gets, too
		return exit.Usagef("--trace: %v", err)
	}
	if f.flags.Lookup("loop") == nil {
		return nil
	}
	return f.timeTrace(t)
}

// timeTrace sets when the run of a trace begins and ends: without other flags it is the whole trace, by its own clock.
func (f *Settings) timeTrace(t *bench.Trace) error {
	if !f.Given("loop") {
		f.Load.Loop = bench.Open.String()
	}
	open := f.Load.Loop == bench.Open.String()
	if !open && f.Given("trace-speed") {
		return exit.Usagef("--trace-speed needs --loop open: a closed loop ignores the times of a trace")
	}
	if !f.Given("warmup") {
		f.Load.Warmup = 0
	}
	if !open || f.Load.TraceRepeat {
		return nil
	}
	span := t.Span(float64(f.Load.TraceSpeed))
	if f.Load.Warmup > 0 && f.Load.Warmup >= span {
		return exit.Usagef("--warmup %v: the trace ends after %v, so nothing would be measured (--trace-repeat repeats it)", f.Load.Warmup, span)
	}
	if !f.Given("duration") {
		f.Load.Duration = span - f.Load.Warmup + traceGrace
		if span > traceLong {
			f.Warning = fmt.Sprintf("trace %s: the run takes %v at --trace-speed %s: if the times are not in %s, end the run (^C) and set --trace-unit (%s), or set --duration",
				f.Load.Trace, f.Load.Duration.Round(time.Minute), &f.Load.TraceSpeed, f.Load.TraceUnit, strings.Join(bench.TimeUnits(), ", "))
		}
	}
	return nil
}

// traceFile names a trace that was read. An experiment has the same one in many cells.
type traceFile struct {
	path    string
	options bench.TraceOptions
}

// traceFile returns the file of the trace, and the options for reading it.
func (f *Settings) traceFile() (t traceFile, err error) {
	o := &t.options
	if o.Unit, err = bench.ParseTimeUnit(f.Load.TraceUnit); err != nil {
		return t, fmt.Errorf("--%w", err)
	}
	if o.Format, err = bench.ParseTraceFormat(f.Load.TraceFormat); err != nil {
		return t, fmt.Errorf("--%w", err)
	}
	if o.TTL, err = bench.ParseTraceTTL(f.Load.TraceTTL); err != nil {
		return t, fmt.Errorf("--%w", err)
	}
	t.path = f.Program.Inputs.Path(f.Load.Trace)
	return t, nil
}

func (f *Settings) openTrace() (*bench.Trace, error) {
	this, err := f.traceFile()
	if err != nil {
		return nil, err
	}
	if t := f.Program.traces[this]; t != nil {
		return t, nil
	}
	t, err := bench.ReadTrace(f.Program.context(), this.path, this.options)
	if err != nil {
		return nil, fmt.Errorf("--trace: %w", err)
	}
	if f.Program.traces == nil {
		f.Program.traces = map[traceFile]*bench.Trace{}
	}
	f.Program.traces[this] = t
	return t, nil
}
