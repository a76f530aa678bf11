package bench

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/internal/names"
	"github.com/kvwire/kvwire/internal/textfile"
)

// Workload is the content of a property file of YCSB's core workload, in the terms of Spec. Missing properties have YCSB's
// defaults. docs/workloads.md has the mapping and the differences.
type Workload struct {
	Name          string // the file's, without folders
	Mix           string
	KeyDist       KeyDist
	Records       uint64 // 0: not set
	ValueBytes    int
	ValueMinBytes int
	ValueDist     SizeDist
	ScanItems     int           // 0: no scans
	Threads       int           // YCSB's, each of which has one connection and one request in flight; 0: not set
	TargetPerS    uint64        // starts at constant gaps, by the clock, while a thread is free; 0: as fast as possible
	Duration      time.Duration // 0: not set
	Note          string        // properties that a run ignores, on one line; "": none
}

// workloadBytes bounds a property file.
const workloadBytes = 1 << 20

// ReadWorkload reads a property file. Errors are one line, with file and line.
func ReadWorkload(path string) (*Workload, error) {
	text, err := textfile.ReadFile(path, workloadBytes)
	if err != nil {
		return nil, fmt.Errorf("%w (name a YCSB property file)", err)
	}
	return ParseWorkload(path, text)
}

// ParseWorkload reads the text of a property file; path is for messages and the name.
func ParseWorkload(path string, text []byte) (*Workload, error) {
	if len(text) > workloadBytes {
		return nil, fmt.Errorf("%s: larger than %d bytes: not a property file", path, workloadBytes)
	}
	if bytes.IndexByte(text, 0) >= 0 { // UTF-16 without its mark would be read as unknown keys
		return nil, fmt.Errorf("%s: has zero bytes: not a text, or UTF-16: save it as UTF-8", path)
	}
	props, err := parseProperties(path, text)
	if err != nil {
		return nil, err
	}
	y := &ycsbFile{path: path, props: map[string]property{}}
	for _, p := range props {
		if first, twice := y.props[p.key]; twice && first.value != p.value {
			return nil, fmt.Errorf("%s:%d: %q is %q here and %q on line %d: leave one of them", path, p.line, clip(p.key), clip(p.value), clip(first.value), first.line)
		}
		y.props[p.key] = p
	}
	w := &Workload{Name: filepath.Base(path)}
	y.class()
	y.mix(w)
	y.records(w)
	y.sizes(w)
	y.pace(w)
	if y.err != nil {
		return nil, y.err
	}
	if err := y.recognized(); err != nil {
		return nil, err
	}
	w.Note = y.note()
	return w, nil
}

// ycsbFile is a property file that is being read. err is the first error.
type ycsbFile struct {
	path    string
	props   map[string]property
	used    []string // keys that were read
	remarks []string
	err     error
}

// fail records an error about a key's value, unless there is one already.
func (y *ycsbFile) fail(key, format string, args ...any) {
	if y.err != nil {
		return
	}
	at := y.path
	if p, ok := y.props[key]; ok {
		at += ":" + strconv.Itoa(p.line)
	}
	y.err = fmt.Errorf("%s: %s %s", at, key, fmt.Sprintf(format, args...))
}

// text returns a key's value, or YCSB's default.
func (y *ycsbFile) text(key, otherwise string) string {
	y.used = append(y.used, key)
	if p, ok := y.props[key]; ok {
		return p.value
	}
	return otherwise
}

// has reports whether the file has a key.
func (y *ycsbFile) has(key string) bool { _, ok := y.props[key]; return ok }

func (y *ycsbFile) count(key string, otherwise, least, most uint64) uint64 {
	s := y.text(key, strconv.FormatUint(otherwise, 10))
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || v < least || v > most {
		y.fail(key, "%q is not a whole number from %d to %d", clip(s), least, most)
	}
	return v
}

func (y *ycsbFile) share(key, otherwise string) float64 {
	s := y.text(key, otherwise)
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0) || math.IsInf(v, 0) {
		y.fail(key, "%q is not a number of 0 or more", clip(s))
	}
	return v
}

func (y *ycsbFile) boolean(key string, otherwise bool) bool {
	s := y.text(key, strconv.FormatBool(otherwise))
	v := strings.EqualFold(s, "true")
	if !v && !strings.EqualFold(s, "false") {
		y.fail(key, "%q is not true or false", clip(s))
	}
	return v
}

// class reads the class of the workload, and refuses other classes than the core workload. Before YCSB 0.17 its package had another name; go-ycsb's files call it core.
func (y *ycsbFile) class() {
	const core = "site.ycsb.workloads.CoreWorkload"
	switch s := y.text("workload", core); s {
	case core, "com.yahoo.ycsb.workloads.CoreWorkload", "core":
	default:
		y.fail("workload", "%q is not supported: only %s (in go-ycsb: core) is", clip(s), core)
	}
}

// mix reads the operations. YCSB divides the proportions by their sum, as ParseMix does.
func (y *ycsbFile) mix(w *Workload) {
	shares := [Kinds]float64{Get: y.share("readproportion", "0.95"), Put: y.share("updateproportion", "0.05"), Insert: y.share("insertproportion", "0"),
		Scan: y.share("scanproportion", "0"), RMW: y.share("readmodifywriteproportion", "0")}
	var words []string
	for k, v := range shares {
		if v > 0 {
			words = append(words, Kind(k).String()+"="+strconv.FormatFloat(v, 'g', -1, 64))
		}
	}
	if len(words) == 0 {
		y.fail("readproportion", "and the other proportions are all 0: there is no operation")
		return
	}
	w.Mix = strings.Join(words, ",")
	if _, err := ParseMix(w.Mix); err != nil {
		y.fail("readproportion", "and the other proportions: %v", err)
	}
	y.keys(w)
	if shares[Scan] > 0 {
		y.scans(w)
	}
	if ordered := y.text("insertorder", "hashed"); ordered != "ordered" && shares[Insert]+shares[Scan] > 0 {
		y.remarks = append(y.remarks, "keys are in the order of the records (insertorder=ordered)")
	}
	y.fields(shares[Put]+shares[RMW] > 0)
}

func (y *ycsbFile) keys(w *Workload) {
	s := y.text("requestdistribution", "uniform")
	var err error
	if w.KeyDist, err = ParseKeyDist(s); err != nil || w.KeyDist == ZipfianRecords { // YCSB has no such name
		y.fail("requestdistribution", "%q is not supported: uniform, zipfian or latest", clip(s))
	}
}

func (y *ycsbFile) scans(w *Workload) {
	w.ScanItems = int(y.count("maxscanlength", 1000, 1, maxScanItems))
	if n := y.count("minscanlength", 1, 0, maxScanItems); n != 1 {
		y.fail("minscanlength", "%d is not supported: scans ask for 1 to maxscanlength items", n)
	}
	if s := y.text("scanlengthdistribution", "uniform"); s != "uniform" {
		y.fail("scanlengthdistribution", "%q is not supported: uniform", clip(s))
	}
}

// fields reads how operations use the fields of a record. kvwire has no fields: it reads and writes whole values.
func (y *ycsbFile) fields(updates bool) {
	one := y.text("fieldcount", "10") == "1"
	if !y.boolean("readallfields", true) && !one {
		y.fail("readallfields", "false is not supported: a value is read whole (fieldcount=1, or true)")
	}
	if !y.boolean("writeallfields", false) && !one && updates {
		y.remarks = append(y.remarks, "updates write all fields (writeallfields=true)")
	}
}

func (y *ycsbFile) records(w *Workload) {
	if y.has("recordcount") {
		w.Records = y.count("recordcount", 0, 1, maxRecords)
	}
	if n := y.count("insertstart", 0, 0, maxRecords); n != 0 {
		y.fail("insertstart", "%d is not supported: a run loads all its records, from 0 on", n)
	}
	if n := y.count("insertcount", w.Records, 0, maxRecords); n != w.Records {
		y.fail("insertcount", "%d is not recordcount (%d): a run loads all its records", n, w.Records)
	}
}

// sizes reads the size of a value, which is the sum of a record's fields. The sum of several fields of different sizes is neither
// uniform nor zipfian.
func (y *ycsbFile) sizes(w *Workload) {
	fields := y.count("fieldcount", 10, 1, maxValueBytes)
	length := y.count("fieldlength", 100, 0, maxValueBytes)
	if fields*length > maxValueBytes {
		y.fail("fieldlength", "%d × fieldcount %d: values may have at most %d B", length, fields, maxValueBytes)
	}
	w.ValueBytes = int(fields * length)
	switch s := y.text("fieldlengthdistribution", "constant"); s {
	case "constant":
		return
	case "uniform":
		w.ValueDist = UniformSizes
	case "zipfian":
		w.ValueDist = ZipfianSizes
	default:
		y.fail("fieldlengthdistribution", "%q is not supported: constant, uniform or zipfian", clip(s))
		return
	}
	if fields != 1 {
		y.fail("fieldlengthdistribution", "%s of %d fields is not supported: their sum is distributed in another way (fieldcount=1, or constant)", w.ValueDist, fields)
	}
	w.ValueMinBytes = int(y.count("minfieldlength", 1, 0, length))
}

// pace reads the number of requests in flight, and the rate of their starts. YCSB with a target starts each operation at its time, or as
// soon as its thread is free: an open loop with as many slots as there are threads.
func (y *ycsbFile) pace(w *Workload) {
	if y.has("threadcount") {
		w.Threads = int(y.count("threadcount", 0, 1, maxConns))
	}
	w.TargetPerS = y.count("target", 0, 0, maxPerS)
	w.Duration = time.Duration(y.count("maxexecutiontime", 0, 0, 1<<31)) * time.Second
}

// maxConns bounds threadcount: a connection for each.
const maxConns = 65536

// idle are keys of YCSB without effect here: a run ends after its duration, its keys have a form of their own, every value is
// checked, and results have their own files.
var idle = []string{"operationcount", "table", "db", "zeropadding", "fieldnameprefix", "readallfieldsbyname", "dataintegrity", "dotransactions",
	"minfieldlength", "fieldlengthhistogram", "minscanlength", "maxscanlength", "scanlengthdistribution", "insertorder", "hotspotdatafraction", "hotspotopnfraction",
	"exponential.percentile", "exponential.frac", "core_workload_insertion_retry_limit", "core_workload_insertion_retry_interval",
	"measurementtype", "measurement.interval", "measurement.raw.output_file", "measurement.trackjvm", "histogram.buckets", "timeseries.granularity",
	"hdrhistogram.percentiles", "hdrhistogram.fileoutput", "hdrhistogram.output.path", "hdrhistogram.max",
	"status.interval", "exporter", "exportfile", "label", "reportlatencyforeacherror", "latencytrackederrors", "spin.sleep"}

// recognized returns an error for a file without any property that YCSB knows, and for a key that a misspelling of one may be.
func (y *ycsbFile) recognized() error {
	known := slices.Concat(y.used, idle, []string{"recordcount", "threadcount"})
	long := slices.DeleteFunc(slices.Clone(known), func(name string) bool { return len(name) < 5 }) // db resembles too much
	found := false
	for _, key := range slices.Sorted(maps.Keys(y.props)) {
		if slices.Contains(known, key) {
			found = true
		} else if best := names.Nearest(key, long); best != "" {
			return fmt.Errorf("%s:%d: %q is not a property of YCSB; do you mean %q?", y.path, y.props[key].line, clip(key), best)
		}
	}
	if !found {
		return fmt.Errorf("%s: it has no property of YCSB, such as recordcount=1000: not a property file", y.path)
	}
	return nil
}

// note lists the keys of the file that the run ignores.
func (y *ycsbFile) note() string {
	var without, unknown []string
	for key := range y.props {
		switch {
		case slices.Contains(y.used, key):
		case slices.Contains(idle, key):
			without = append(without, key)
		default:
			unknown = append(unknown, strconv.Quote(clip(key)))
		}
	}
	parts := y.remarks
	for _, list := range []struct {
		word string
		keys []string
	}{{"without effect: ", without}, {"unknown: ", unknown}} {
		slices.Sort(list.keys)
		if n := len(list.keys); n > keysNamed {
			list.keys = append(list.keys[:keysNamed], fmt.Sprintf("and %d more", n-keysNamed))
		}
		if len(list.keys) > 0 {
			parts = append(parts, list.word+strings.Join(list.keys, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// keysNamed bounds a warning.
const keysNamed = 20

// clip shortens a text for a message.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
