// Package bench owns the load: workloads, arrival processes, the generator that drives any kv.Handler, the check of
// every value that is read, and the record of a run. It may import kv, loop and internal packages, but no transport,
// no store and no report.
package bench

import (
	"fmt"
	"time"

	"github.com/kvwire/kvwire/kv"
)

// LoopKind is the kind of load: what starts the next request.
type LoopKind uint8

const (
	Closed LoopKind = iota // the completion of an earlier one: InFlight requests are always in flight
	Open                   // the clock: arrivals do not wait for the measured system
)

var loopNames = [...]string{"closed", "open"}

// String is the kind as it stands in the loop column.
func (k LoopKind) String() string { return name(loopNames[:], int(k)) }

// ParseLoopKind reads a kind's name.
func ParseLoopKind(s string) (LoopKind, error) {
	i, err := index(loopNames[:], s, "loop", "closed or open")
	return LoopKind(i), err
}

// Arrival is the process that spaces the starts of an open loop.
type Arrival uint8

const (
	Poisson    Arrival = iota // independent arrivals: exponential gaps
	Constant                  // equal gaps
	TraceTimes                // the times in the trace
)

var arrivalNames = [...]string{"poisson", "constant", "trace"}

// String is the process as it stands in the arrival column.
func (a Arrival) String() string { return name(arrivalNames[:], int(a)) }

// ParseArrival reads the name of a process that needs no trace.
func ParseArrival(s string) (Arrival, error) {
	i, err := index(arrivalNames[:TraceTimes], s, "arrival", "poisson or constant")
	return Arrival(i), err
}

// Spec describes one run. Each field documents its zero value. Check checks the values.
type Spec struct {
	Mix           string   // a to f (YCSB), get, put, insert, scan, rmw, or shares: get=50,put=50; "": get
	KeyDist       KeyDist  // DistOfMix: zipfian for YCSB (latest for d), uniform otherwise
	Theta         float64  // skew of zipfian and latest, between 0 and 1; 0: YCSB's 0.99
	KeyBytes      int      // 0: 16
	ValueBytes    int      // size of every value, or of the largest; 0 is a size, too
	ValueDist     SizeDist // FixedSize, unless it is given
	ValueMinBytes int      // size of the smallest value, if they are not all the same
	ValueSizes    []Size   // of ListedSizes, smallest first. Defaults sets ValueMinBytes and ValueBytes from it
	Records       uint64   // loaded before the run, ids 0 to Records-1; 0: 100,000
	ScanItems     int      // scans ask for 1 to ScanItems items, uniformly; 0: YCSB's 100
	Seed          uint64   // of keys, operations and arrivals; 0 is a seed, too

	Loop       LoopKind
	Arrival    Arrival // open loop
	TargetPerS float64 // open loop: arrivals per second of all threads together

	// Trace, if there is one, replaces mix, distributions, sizes, records and (open loop) arrivals: Defaults sets these fields
	// from the trace. The run ends with the trace's last answer or after Duration, whichever is first. Of several processes each
	// has the whole trace, and replays the rows of its threads' keys.
	Trace       *Trace  `json:"-"`
	TraceSpeed  float64 // open loop: speed relative to the recorded times; 0: 1
	TraceRepeat bool    // the trace starts again at its end, and the run ends after Duration

	// The shape of the client, as it stands in the row. When set, they must agree with the clients
	// given to Run: as many as ClientThreads, and Conns × Depth requests in flight in all.
	Conns         int
	Depth         int
	ClientThreads int

	// When several processes make one load, each runs its share of the threads: ClientThreads of them (or as many as there are
	// clients), from FirstThread on, of AllThreads. They differ in their keys, records that they insert, and arrivals, whose
	// rate TargetPerS is that of all. AllThreads 0: this process has them all.
	FirstThread int
	AllThreads  int

	Duration time.Duration // of the measured window; 0: 10 s, or WindowMax with Operations
	Warmup   time.Duration // before it, recorded nowhere; 0: none
	DrainMax time.Duration // longest wait after the window for requests in flight; 0: 5 s

	// Operations end the measured window when so many are answered, those that failed included, on all threads of this process together. 0: the window
	// ends after Duration.
	Operations uint64

	// SilenceMax bounds the time without an acknowledged put after which a load ends with an error, and the time without an answer after which a
	// window of so many operations does. 0: 15 s
	SilenceMax time.Duration

	// PaceSpin, open loop: a thread sleeps until this long before the next arrival and then turns
	// without sleeping. 0: 50 µs, since a sleep ends 4–69 µs late; below 0: never spin.
	PaceSpin time.Duration

	// Stages: the stages of one request in so many are recorded, chosen at random. 0: none. Each needs about ten reads of the clock,
	// and the kernel stamps receives of its connections, so other figures of such a run are not comparable.
	Stages int

	// Verify: the handler keeps values, so they are written in a form that can be checked, and a loaded record that is not found is an error. false only for handlers
	// that keep nothing (null).
	Verify bool

	// VerifyOneIn, with Verify: one in so many answers to gets and scans is checked, chosen at random; 0: each; below 0: none. A check of 1 KiB reads it
	// and compares it with as much of a table.
	VerifyOneIn int

	// OnWindow is called by Run's goroutine just before the measured window begins (true) and just
	// after it has ended (false), for the caller's own counters. It may block. The load continues
	// during the first call and has stopped in the second. nil: none.
	OnWindow func(begin bool) `json:"-"`
}

// Defaults returns the Spec with defaults in place of zero values.
func (s Spec) Defaults() Spec {
	if s.Trace != nil {
		s = s.withTrace()
	}
	if n := len(s.ValueSizes); n > 0 {
		s.ValueMinBytes, s.ValueBytes = s.ValueSizes[0].Bytes, s.ValueSizes[n-1].Bytes
	}
	setDefault(&s.Mix, "get")
	setDefault(&s.Theta, 0.99)
	setDefault(&s.KeyBytes, 16)
	if s.Trace == nil { // a trace may have no record that is loaded
		setDefault(&s.Records, 100_000)
	}
	setDefault(&s.ScanItems, 100)
	if s.Operations > 0 {
		setDefault(&s.Duration, WindowMax)
	}
	setDefault(&s.Duration, 10*time.Second)
	setDefault(&s.DrainMax, 5*time.Second)
	setDefault(&s.SilenceMax, 15*time.Second)
	setDefault(&s.PaceSpin, 50*time.Microsecond)
	if m, err := ParseMix(s.Mix); err == nil && s.KeyDist == DistOfMix {
		s.KeyDist = m.dist
	}
	return s
}

// Checks reports whether values that are read are checked, all or some.
func (s *Spec) Checks() bool { return s.Verify && s.VerifyOneIn >= 0 }

// Limits of a Spec. They bound the memory of buffers.
const (
	maxKeyBytes   = 1024
	maxValueBytes = 16 << 20
	maxScanItems  = 10_000
	maxThreads    = 1024
	maxInFlight   = 1 << 26 // 65,536 connections with 1024 requests each
	maxRecords    = 1 << 40
	maxOperations = 1 << 40
	maxPerS       = 1e9
	minTraceSpeed = 1e-3
	maxTraceSpeed = 1e6
)

// WindowMax is the longest window and the longest warm-up. The time series of a longer window would not fit, and would be of no use.
const WindowMax = 1200 * time.Hour // four of these, warm-up, window and drain twice, stay below histMax

// RequestBytes returns the memory that a run needs for each request in flight: the key, and the value or the answer to a scan.
func (s Spec) RequestBytes() int {
	s = s.Defaults()
	m, _ := ParseMix(s.Mix)
	return slotBytes(s.KeyBytes, s.room(m))
}

// room returns the size of the largest value, or of the largest answer to a scan.
func (s *Spec) room(m Mix) int {
	if m.Share[Scan] > 0 {
		return max(s.ValueBytes, s.ScanItems*(kv.ItemHeaderBytes+s.KeyBytes+s.ValueBytes))
	}
	return s.ValueBytes
}

// Check returns an error, of one line, for an invalid Spec. It fills in defaults first.
func (s Spec) Check() error {
	s = s.Defaults()
	m, err := ParseMix(s.Mix)
	if err != nil {
		return err
	}
	if s.ValueDist == ListedSizes {
		if err := CheckSizes(s.ValueSizes); err != nil {
			return err
		}
	}
	switch {
	case s.KeyDist >= distEnd || s.KeyDist == TraceKeys && s.Trace == nil:
		return fmt.Errorf("key distribution %d is unknown", s.KeyDist)
	case !(s.Theta > 0 && s.Theta < 1):
		return fmt.Errorf("theta %v: must be above 0 and below 1", s.Theta)
	case s.KeyBytes < 1 || s.KeyBytes > maxKeyBytes:
		return fmt.Errorf("keys of %d B: must be from 1 to %d", s.KeyBytes, maxKeyBytes)
	case s.ValueBytes < 0 || s.ValueBytes > maxValueBytes:
		return fmt.Errorf("values of %d B: must be from 0 to %d", s.ValueBytes, maxValueBytes)
	case s.ValueDist >= sizeDistEnd || s.ValueDist == TraceSizes && s.Trace == nil:
		return fmt.Errorf("distribution of sizes %d is unknown", s.ValueDist)
	case s.ValueDist != ListedSizes && len(s.ValueSizes) > 0:
		return fmt.Errorf("a list of %d sizes needs the distribution of sizes list", len(s.ValueSizes))
	case s.ValueDist == FixedSize && s.ValueMinBytes != 0:
		return fmt.Errorf("smallest values of %d B need the distribution of sizes uniform or zipfian", s.ValueMinBytes)
	case s.ValueMinBytes < 0 || s.ValueMinBytes > s.ValueBytes:
		return fmt.Errorf("smallest values of %d B and largest of %d B: the smallest must not be larger", s.ValueMinBytes, s.ValueBytes)
	case s.Records > maxRecords:
		return fmt.Errorf("%d records: must be at most 2^40", s.Records)
	case s.KeyBytes < 8 && s.keys() > 1<<(8*s.KeyBytes):
		return fmt.Errorf("%d records need keys longer than %d B to be distinct", s.keys(), s.KeyBytes)
	case m.Share[Delete] > 0 && s.Trace == nil:
		return fmt.Errorf("mix %s deletes records: only a trace can, since later gets would find nothing", s.Mix)
	case s.KeyBytes < 8 && m.Share[Insert] > 0:
		return fmt.Errorf("mix %s inserts records: keys of %d B may run out (use 8 B or more)", s.Mix, s.KeyBytes)
	case s.ScanItems < 1 || s.ScanItems > maxScanItems:
		return fmt.Errorf("scans of %d items: must be from 1 to %d", s.ScanItems, maxScanItems)
	case s.Loop > Open || s.Arrival > TraceTimes || s.Arrival == TraceTimes && s.Trace == nil:
		return fmt.Errorf("loop %d or arrival %d is unknown", s.Loop, s.Arrival)
	case s.Trace != nil && !(s.TraceSpeed >= minTraceSpeed && s.TraceSpeed <= maxTraceSpeed):
		return fmt.Errorf("trace speed %v: must be from %v to %v", s.TraceSpeed, minTraceSpeed, maxTraceSpeed)
	case s.Trace != nil && s.Loop == Open && s.TraceRepeat && s.Trace.period() == 0:
		return fmt.Errorf("trace %s: all rows have the same time, so it cannot be repeated", s.Trace.Name())
	case s.Loop == Open && s.Arrival != TraceTimes && !(s.TargetPerS > 0 && s.TargetPerS <= maxPerS):
		return fmt.Errorf("an open loop needs a target rate, above 0 and at most 1e9 per second, not %v", s.TargetPerS)
	case s.Loop == Closed && s.TargetPerS != 0:
		return fmt.Errorf("a target rate (%v per second) needs an open loop", s.TargetPerS)
	case s.Conns < 0 || s.Depth < 0 || s.ClientThreads < 0 || s.ClientThreads > maxThreads || s.Conns > maxInFlight/max(s.Depth, 1):
		return fmt.Errorf("%d connections × depth %d on %d threads: each must be 0 or more, with at most 2^26 requests in flight and %d threads", s.Conns, s.Depth, s.ClientThreads, maxThreads)
	case s.Stages < 0:
		return fmt.Errorf("stages of one request in %d: must be 0 or more", s.Stages)
	case s.FirstThread < 0 || s.AllThreads < 0 || s.AllThreads > maxThreads || s.FirstThread > 0 && s.FirstThread >= s.AllThreads:
		return fmt.Errorf("first thread %d of %d in all: must be one of at most %d", s.FirstThread, s.AllThreads, maxThreads)
	case s.Operations > maxOperations:
		return fmt.Errorf("a window of %d operations: must be at most 2^40", s.Operations)
	case s.Duration < 0 || s.Warmup < 0 || s.DrainMax < 0 || s.SilenceMax < 0 || max(s.Duration, s.Warmup, s.DrainMax, s.SilenceMax) > WindowMax:
		return fmt.Errorf("duration %v, warm-up %v, drain %v, silence %v: each must be from 0 to %v", s.Duration, s.Warmup, s.DrainMax, s.SilenceMax, WindowMax)
	}
	return nil
}

// keys returns the number of different records that the run may use, apart from its inserts.
func (s *Spec) keys() uint64 {
	if s.Trace != nil {
		return s.Trace.Keys()
	}
	return s.Records
}

// fits returns an error if the clients do not match the spec.
func (s Spec) fits(clients []Client) error {
	if len(clients) == 0 || len(clients) > maxThreads {
		return fmt.Errorf("%d client threads: must be from 1 to %d", len(clients), maxThreads)
	}
	sum := 0
	for i, c := range clients {
		if c.Loop == nil || c.Handler == nil || c.InFlight < 1 {
			return fmt.Errorf("client %d needs a loop, a handler and at least one request in flight", i)
		}
		sum += c.InFlight
	}
	if s.ClientThreads != 0 && s.ClientThreads != len(clients) {
		return fmt.Errorf("%d client threads given, %d specified", len(clients), s.ClientThreads)
	}
	if s.AllThreads != 0 && s.FirstThread+len(clients) > s.AllThreads {
		return fmt.Errorf("%d client threads from %d on, of %d in all", len(clients), s.FirstThread, s.AllThreads)
	}
	if s.Conns != 0 && s.Depth != 0 && sum != s.Conns*s.Depth {
		return fmt.Errorf("clients keep %d requests in flight, %d connections × depth %d specified", sum, s.Conns, s.Depth)
	}
	return nil
}

// threads returns the number of threads in all processes.
func (s Spec) threads(here int) int {
	setDefault(&s.AllThreads, here)
	return s.AllThreads
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "unknown"
}

func index(names []string, s, what, choice string) (int, error) {
	for i, n := range names {
		if n == s {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%s %q is unknown (%s)", what, s, choice)
}
