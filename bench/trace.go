package bench

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/internal/textfile"
)

// Trace is a recorded load: for each request its time, operation, record and size. It does not change after it was
// read, and any goroutine may use it. docs/workloads.md describes the file.
//
// A key is a record, numbered by its first row, those that are loaded before the run first. They are loaded with the first size that
// their key has. A value that row i writes has version i+1, so a value identifies the row that wrote it, and with that its length.
type Trace struct {
	name    string
	rows    []traceRow
	loaded  int      // records 0 to loaded-1 are loaded
	first   []uint32 // by record: bytes of the first value that is known, which is the one that is loaded; noSize: none is
	short   []uint32 // by record: which lengths below valueHeaderBytes its values have, a bit each
	missing []bool   // by record: a read may find nothing, because the record is not loaded, or a row deletes it
	least   int      // bytes of the smallest value
	most    int      // bytes of the largest
	kinds   [Kinds]int
}

// traceRow is one request, 16 B.
type traceRow struct {
	at   int64 // ns since the first row
	id   uint32
	size uint32 // of a put, with putBit; of a delete deleteBit; of a get 0
}

const (
	putBit    = 1 << 31
	deleteBit = 1 << 30 // above every size: maxValueBytes is 2^24
)

// kind returns the row's kind of operation.
func (r *traceRow) kind() Kind {
	switch {
	case r.size&putBit != 0:
		return Put
	case r.size&deleteBit != 0:
		return Delete
	}
	return Get
}

// Bounds of a trace. A row needs 20 B of memory, 4 of them for its thread's list; a key 8 B, and about 40 B more while the file is read.
const (
	traceRowsMax   = 1 << 24
	traceSpanMax   = 31 * 24 * time.Hour
	traceLineBytes = 64 << 10
)

// TimeUnit is the unit of the numbers in a trace's column time.
type TimeUnit uint8

const (
	Seconds TimeUnit = iota
	Milliseconds
	Microseconds
	Nanoseconds
)

var unitNames = [...]string{"s", "ms", "us", "ns"}

// TimeUnits returns the names of all units.
func TimeUnits() []string { return unitNames[:] }

// String is the unit's name.
func (u TimeUnit) String() string { return name(unitNames[:], int(u)) }

// ParseTimeUnit reads a unit's name.
func ParseTimeUnit(s string) (TimeUnit, error) {
	i, err := index(unitNames[:], s, "trace-unit", strings.Join(unitNames[:], ", "))
	return TimeUnit(i), err
}

// digits returns the number of decimal places between the unit and ns.
func (u TimeUnit) digits() int { return 9 - 3*int(u) }

// gzipMagic begins every file in gzip format.
const gzipMagic = "\x1f\x8b"

// ReadTrace reads a file, plain or compressed by gzip, whatever its name, until ctx ends. Errors are one line, with the file and the line number.
func ReadTrace(ctx context.Context, path string, o TraceOptions) (*Trace, error) {
	f, err := textfile.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w (name a CSV file)", err)
	}
	defer f.Close()
	return ReadTraceFrom(ctx, path, f, o)
}

// ReadTraceFrom is ReadTrace for the content of a file, which it reads to its end. path is for messages and for the trace's name.
func ReadTraceFrom(ctx context.Context, path string, content io.Reader, o TraceOptions) (*Trace, error) {
	sum := sha256.New()
	packed := bufio.NewReader(io.TeeReader(content, sum))
	var r io.Reader = packed
	begin, err := packed.Peek(len(gzipMagic))
	switch {
	case err != nil && err != io.EOF:
		return nil, fmt.Errorf("%s: %w", path, err)
	case string(begin) == gzipMagic:
		if r, err = gzip.NewReader(packed); err != nil {
			return nil, fmt.Errorf("%s: unpack: %w", path, err)
		}
	case strings.HasSuffix(path, ".gz"):
		return nil, fmt.Errorf("%s: the name ends in .gz, but the content is not in gzip format: rename the file, or compress it with gzip", path)
	}
	t, err := o.parse(path, &endingReader{ctx, r})
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, packed); err != nil { // the rest of the file, for the sum
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	t.name = fmt.Sprintf("%s@%x", filepath.Base(path), sum.Sum(nil)[:6])
	t.name += o.suffix()
	return t, nil
}

// endingReader fails when ctx ends: a file can be small and its content, unpacked, without an end.
type endingReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (e *endingReader) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.r.Read(p)
}

// Name consists of the file's name without folders, the first 12 digits of its SHA-256, and the options that are not the defaults:
// a.csv@0123456789ab/us, a.gz@0123456789ab/twitter/ttl.
func (t *Trace) Name() string { return t.name }

// Rows returns the number of requests.
func (t *Trace) Rows() int { return len(t.rows) }

// Records returns the number of keys that are loaded before the run.
func (t *Trace) Records() uint64 { return uint64(t.loaded) }

// Keys returns the number of different keys.
func (t *Trace) Keys() uint64 { return uint64(len(t.first)) }

// ValueBytes returns the sizes of the smallest and the largest value.
func (t *Trace) ValueBytes() (least, most int) { return t.least, t.most }

// Mix returns the share of each kind, to four digits, for ParseMix.
func (t *Trace) Mix() string {
	var shares []string
	for k, n := range t.kinds {
		switch {
		case n == len(t.rows):
			return Kind(k).String()
		case n > 0:
			shares = append(shares, Kind(k).String()+"="+strconv.FormatFloat(float64(n)/float64(len(t.rows)), 'g', 4, 64))
		}
	}
	return strings.Join(shares, ",")
}

// Span returns the time from the first row to the last at a speed.
func (t *Trace) Span(speed float64) time.Duration {
	return time.Duration(float64(t.rows[len(t.rows)-1].at) / speed)
}

// period returns the time between two starts of a repeated trace: its span and one mean gap. 0: all rows have the same time.
func (t *Trace) period() int64 {
	span := t.rows[len(t.rows)-1].at
	return span + span/int64(max(1, len(t.rows)-1))
}

// of lists the rows of one thread. All rows of a record belong to one thread, so requests for a key are sent in the trace's order.
func (t *Trace) of(thread, threads int) []uint32 {
	mine := func(r *traceRow) bool { return int(r.id)%threads == thread }
	n := 0
	for i := range t.rows {
		if mine(&t.rows[i]) {
			n++
		}
	}
	list := make([]uint32, 0, n)
	for i := range t.rows {
		if mine(&t.rows[i]) {
			list = append(list, uint32(i))
		}
	}
	return list
}

// check checks that v is a complete value of record id, which was loaded or which a row writes. For a value too short for a version
// it checks whether the record has values of that length.
func (t *Trace) check(v []byte, id uint64) fault {
	if len(v) < valueHeaderBytes {
		if t.short[id]&(1<<len(v)) == 0 {
			return faultLength
		}
		return checkValue(v, id, len(v))
	}
	if f := checkValue(v, id, len(v)); f != faultNone {
		return f
	}
	size := t.first[id]
	if version := valueVersion(v); version == 0 {
		if id >= t.Records() {
			return faultVersion
		}
	} else {
		if version > uint64(len(t.rows)) {
			return faultVersion
		}
		row := &t.rows[version-1]
		if uint64(row.id) != id || row.size&putBit == 0 {
			return faultVersion
		}
		size = row.size &^ putBit
	}
	if uint32(len(v)) != size {
		return faultLength
	}
	return faultNone
}
