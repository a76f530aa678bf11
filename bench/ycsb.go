package bench

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/internal/textfile"
)

// Workload is what a property file of YCSB's core workload asks for, in the words of Spec. What the file leaves out and YCSB has
// a default for, has that default. docs/workloads.md has the mapping, and what differs.
type Workload struct {
	Name          string // the file's, without folders
	Mix           string
	KeyDist       KeyDist
	Records       uint64 // 0: it does not say
	ValueBytes    int
	ValueMinBytes int
	ValueDist     SizeDist
	ScanItems     int           // 0: it does not scan
	Threads       int           // YCSB's, each of which has one connection and one request in flight; 0: it does not say
	TargetPerS    uint64        // starts at constant gaps, by the clock, while a thread is free; 0: as fast as the threads go
	Duration      time.Duration // 0: it does not say
	Note          string        // what the file says and a run does not do, on one line; "": nothing
}

// workloadBytes bounds a property file.
const workloadBytes = 1 << 20

// ReadWorkload reads a property file. Errors are one line, with file and line.
func ReadWorkload(path string) (*Workload, error) {
	text, err := textfile.ReadFile(path, workloadBytes)
	if err != nil {
		return nil, fmt.Errorf("workload: %w (name a YCSB property file)", err)
	}
	return ParseWorkload(path, text)
}

// ParseWorkload reads the text of a property file; path is for messages and the name.
func ParseWorkload(path string, text []byte) (*Workload, error) {
	if len(text) > workloadBytes {
		return nil, fmt.Errorf("%s: larger than %d bytes: this is no property file", path, workloadBytes)
	}
	if bytes.IndexByte(text, 0) >= 0 { // UTF-16 without its mark would otherwise be keys that nobody knows, and the load another one
		return nil, fmt.Errorf("%s: has zero bytes: this is no text, or UTF-16: save it as UTF-8", path)
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
	w.Note = y.note()
	return w, nil
}

// ycsbFile is a property file that is being understood. The first mistake stays in err.
type ycsbFile struct {
	path    string
	props   map[string]property
	used    []string // keys that were asked for
	remarks []string
	err     error
}

// wrong takes down a mistake in a key's value.
func (y *ycsbFile) wrong(key, format string, args ...any) {
	if y.err != nil {
		return
	}
	at := y.path
	if p, ok := y.props[key]; ok {
		at += ":" + strconv.Itoa(p.line)
	}
	y.err = fmt.Errorf("%s: %s %s", at, key, fmt.Sprintf(format, args...))
}

// text is a key's value, or what YCSB takes where there is none.
func (y *ycsbFile) text(key, otherwise string) string {
	y.used = append(y.used, key)
	if p, ok := y.props[key]; ok {
		return p.value
	}
	return otherwise
}

// says tells whether the file has a key.
func (y *ycsbFile) says(key string) bool { _, ok := y.props[key]; return ok }

func (y *ycsbFile) count(key string, otherwise, least, most uint64) uint64 {
	s := y.text(key, strconv.FormatUint(otherwise, 10))
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || v < least || v > most {
		y.wrong(key, "%q: a whole number from %d to %d", clip(s), least, most)
	}
	return v
}

func (y *ycsbFile) share(key, otherwise string) float64 {
	s := y.text(key, otherwise)
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0) || math.IsInf(v, 0) {
		y.wrong(key, "%q: a number of 0 or more", clip(s))
	}
	return v
}

func (y *ycsbFile) truth(key string, otherwise bool) bool {
	s := y.text(key, strconv.FormatBool(otherwise))
	v := strings.EqualFold(s, "true")
	if !v && !strings.EqualFold(s, "false") {
		y.wrong(key, "%q: true or false", clip(s))
	}
	return v
}

// class refuses workloads that are not the core one. Before YCSB 0.17 its package had another name; go-ycsb's files call it core.
func (y *ycsbFile) class() {
	const core = "site.ycsb.workloads.CoreWorkload"
	switch s := y.text("workload", core); s {
	case core, "com.yahoo.ycsb.workloads.CoreWorkload", "core":
	default:
		y.wrong("workload", "%q is not supported: only %s (in go-ycsb: core) is", clip(s), core)
	}
}

// mix takes the operations. YCSB divides the proportions by their sum, as ParseMix does.
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
		y.wrong("readproportion", "and the other proportions are all 0: no operation is left")
		return
	}
	w.Mix = strings.Join(words, ",")
	if _, err := ParseMix(w.Mix); err != nil {
		y.wrong("readproportion", "and the other proportions: %v", err)
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
	if w.KeyDist, err = ParseKeyDist(s); err != nil {
		y.wrong("requestdistribution", "%q is not supported: uniform, zipfian or latest", clip(s))
	}
}

func (y *ycsbFile) scans(w *Workload) {
	w.ScanItems = int(y.count("maxscanlength", 1000, 1, maxScanItems))
	if n := y.count("minscanlength", 1, 0, maxScanItems); n != 1 {
		y.wrong("minscanlength", "%d is not supported: scans ask for 1 to maxscanlength items", n)
	}
	if s := y.text("scanlengthdistribution", "uniform"); s != "uniform" {
		y.wrong("scanlengthdistribution", "%q is not supported: uniform", clip(s))
	}
}

// fields are what YCSB's records are made of, and kvwire's are not: a value is read and written whole.
func (y *ycsbFile) fields(updates bool) {
	one := y.text("fieldcount", "10") == "1"
	if !y.truth("readallfields", true) && !one {
		y.wrong("readallfields", "false is not supported: a value is read whole (fieldcount=1, or true)")
	}
	if !y.truth("writeallfields", false) && !one && updates {
		y.remarks = append(y.remarks, "updates write all fields (writeallfields=true)")
	}
}

func (y *ycsbFile) records(w *Workload) {
	if y.says("recordcount") {
		w.Records = y.count("recordcount", 0, 1, maxRecords)
	}
	if n := y.count("insertstart", 0, 0, maxRecords); n != 0 {
		y.wrong("insertstart", "%d is not supported: a run loads all its records, from 0 on", n)
	}
	if n := y.count("insertcount", w.Records, 0, maxRecords); n != w.Records {
		y.wrong("insertcount", "%d is not recordcount (%d): a run loads all its records", n, w.Records)
	}
}

// sizes takes the size of a value: all fields of a record, one after the other. Several fields of different sizes have a sum that
// is neither uniform nor zipfian.
func (y *ycsbFile) sizes(w *Workload) {
	fields := y.count("fieldcount", 10, 1, maxValueBytes)
	length := y.count("fieldlength", 100, 0, maxValueBytes)
	if fields*length > maxValueBytes {
		y.wrong("fieldlength", "%d × fieldcount %d: values of at most %d B", length, fields, maxValueBytes)
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
		y.wrong("fieldlengthdistribution", "%q is not supported: constant, uniform or zipfian", clip(s))
		return
	}
	if fields != 1 {
		y.wrong("fieldlengthdistribution", "%s of %d fields is not supported: their sum is distributed in another way (fieldcount=1, or constant)", w.ValueDist, fields)
	}
	w.ValueMinBytes = int(y.count("minfieldlength", 1, 0, length))
}

// pace takes how many requests are in flight and when they start. YCSB with a target starts each operation at its time, or as
// soon as its thread is free: an open loop with as many slots as there are threads.
func (y *ycsbFile) pace(w *Workload) {
	if y.says("threadcount") {
		w.Threads = int(y.count("threadcount", 0, 1, maxConns))
	}
	w.TargetPerS = y.count("target", 0, 0, maxPerS)
	w.Duration = time.Duration(y.count("maxexecutiontime", 0, 0, 1<<31)) * time.Second
}

// maxConns bounds threadcount: a connection for each.
const maxConns = 65536

// idle are keys of YCSB that change nothing here: a run ends by its time, its keys have a form of their own, every value is
// checked, and results have their own files.
var idle = []string{"operationcount", "table", "db", "zeropadding", "fieldnameprefix", "readallfieldsbyname", "dataintegrity", "dotransactions",
	"minfieldlength", "fieldlengthhistogram", "minscanlength", "maxscanlength", "scanlengthdistribution", "insertorder", "hotspotdatafraction", "hotspotopnfraction",
	"exponential.percentile", "exponential.frac", "core_workload_insertion_retry_limit", "core_workload_insertion_retry_interval",
	"measurementtype", "measurement.interval", "measurement.raw.output_file", "measurement.trackjvm", "histogram.buckets", "timeseries.granularity",
	"hdrhistogram.percentiles", "hdrhistogram.fileoutput", "hdrhistogram.output.path", "hdrhistogram.max",
	"status.interval", "exporter", "exportfile", "label", "reportlatencyforeacherror", "latencytrackederrors", "spin.sleep"}

// note says what of the file has no part in the run.
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

// clip shortens what a message quotes.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
