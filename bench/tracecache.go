package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/internal/textfile"
)

// TraceFormat is the format of a trace's file.
type TraceFormat uint8

const (
	TraceCSV     TraceFormat = iota // our own: a line names the columns
	TraceTwitter                    // Twitter's cache traces (Yang et al., OSDI 2020): timestamp, key, key size, value size, client, operation, TTL
	TraceMeta                       // Meta's kvcache traces with times (CacheLib's 202210 and 202401): a line names the columns
)

var traceFormats = [...]string{"csv", "twitter", "meta"}

// TraceFormats returns the names of all formats.
func TraceFormats() []string { return traceFormats[:] }

// ParseTraceFormat reads a format's name.
func ParseTraceFormat(s string) (TraceFormat, error) {
	i, err := index(traceFormats[:], s, "trace-format", strings.Join(traceFormats[:], ", "))
	return TraceFormat(i), err
}

// TraceTTL is the treatment of the times to live of a trace's writes. kvwire's store has no times to live.
type TraceTTL uint8

const (
	TTLIgnore TraceTTL = iota // items stay
	TTLDelete                 // the replay deletes an item at the end of its time, unless the trace has written or deleted it again
)

var traceTTLs = [...]string{"ignore", "delete"}

// TraceTTLs returns the names of all treatments.
func TraceTTLs() []string { return traceTTLs[:] }

// ParseTraceTTL reads the name of a treatment.
func ParseTraceTTL(s string) (TraceTTL, error) {
	i, err := index(traceTTLs[:], s, "trace-ttl", strings.Join(traceTTLs[:], ", "))
	return TraceTTL(i), err
}

// TraceOptions are the options for reading a file. The zero value is a CSV file with times in seconds.
type TraceOptions struct {
	Format TraceFormat
	Unit   TimeUnit // CSV only: the others have whole seconds
	TTL    TraceTTL // not CSV, which has no times to live
}

// Check returns an error for options that contradict each other.
func (o TraceOptions) Check() error {
	switch {
	case int(o.Format) >= len(traceFormats) || int(o.Unit) >= len(unitNames) || int(o.TTL) >= len(traceTTLs):
		return fmt.Errorf("trace format %d, unit %d or treatment %d of times to live is unknown", o.Format, o.Unit, o.TTL)
	case o.Format != TraceCSV && o.Unit != Seconds:
		return fmt.Errorf("times of the trace format %s are seconds, not %s", traceFormats[o.Format], o.Unit)
	case o.Format == TraceCSV && o.TTL != TTLIgnore:
		return errors.New("the trace format csv has no times to live")
	}
	return nil
}

// suffix names what differs from the defaults.
func (o TraceOptions) suffix() (s string) {
	if o.Format != TraceCSV {
		s = "/" + traceFormats[o.Format]
	}
	if o.Unit != Seconds {
		s += "/" + o.Unit.String()
	}
	if o.TTL == TTLDelete {
		s += "/ttl"
	}
	return s
}

func (o TraceOptions) parse(path string, r io.Reader) (*Trace, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.Format == TraceCSV {
		return parseTrace(path, r, o.Unit)
	}
	return parseCacheTrace(path, r, o)
}

// parseCacheTrace reads a trace of a cache, whose format has whole seconds. Of its keys only the working set is loaded: those that their first
// row reads and finds. path is for messages. Memory is bounded by traceRowsMax and traceLineBytes, whatever r holds.
func parseCacheTrace(path string, r io.Reader, o TraceOptions) (*Trace, error) {
	r, err := textfile.Reader(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p := &cacheParser{traceParser: newTraceParser(path), ttl: o.TTL}
	var row func([]string) error
	if o.Format == TraceTwitter {
		row = p.twitter
	} else {
		row = p.meta
	}
	lines := bufio.NewReaderSize(r, traceLineBytes)
	blank := 0 // bytes of blank lines since the last row
	for {
		p.line++
		text, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, p.mistake("the line is longer than %d bytes", traceLineBytes)
		case err != nil && err != io.EOF:
			return nil, fmt.Errorf("%s: after line %d: %w", path, p.line-1, err)
		}
		if blank += len(text); blank > traceLineBytes && len(bytes.TrimRight(text, "\r\n")) == 0 {
			return nil, p.mistake("there are more than %d bytes of blank lines before it", traceLineBytes)
		}
		if text = bytes.TrimRight(text, "\r\n"); len(text) > 0 {
			blank = 0
			if e := row(strings.Split(string(text), ",")); e != nil {
				return nil, e
			}
		}
		if err == io.EOF {
			break
		}
	}
	p.spread()
	if err := p.expire(); err != nil {
		return nil, err
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	return p.t, nil
}

// cacheParser turns lines of a cache's trace into rows.
type cacheParser struct {
	*traceParser
	ttl     TraceTTL
	ttls    []uint32 // by row, s; 0: none. Only for TTLDelete
	line    int
	columns []string       // Meta: the names in the first line
	column  map[string]int // likewise, their places
}

func (p *cacheParser) mistake(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", p.path, p.line, fmt.Sprintf(format, args...))
}

// twitterOps are the operations of Twitter's traces. What changes an item writes it, with the size of the row.
var twitterOps = map[string]Kind{"get": Get, "gets": Get, "set": Put, "add": Put, "replace": Put, "cas": Put, "append": Put, "prepend": Put, "incr": Put, "decr": Put,
	"delete": Delete}

// twitter reads a line of Twitter's. Its key may have commas.
func (p *cacheParser) twitter(fields []string) error {
	n := len(fields)
	if n < 7 {
		return p.mistake("number of fields %d: must be 7 (timestamp, key, key size, value size, client, operation, TTL)", n)
	}
	kind, ok := twitterOps[fields[n-2]]
	if !ok {
		return p.mistake("operation %q is unknown (get, gets, set, add, replace, cas, append, prepend, delete, incr, decr)", clip(fields[n-2]))
	}
	return p.request(fields[0], kind, strings.Join(fields[1:n-5], ","), fields[n-4], fields[n-1], 1)
}

// metaOps are the operations of Meta's traces.
var metaOps = map[string]Kind{"GET": Get, "GET_LEASE": Get, "SET": Put, "SET_LEASE": Put, "DELETE": Delete}

// metaColumns are those that a trace of Meta's must have. ttl may be missing.
var metaColumns = [...]string{"op_time", "key", "op", "op_count", "size"}

// meta reads a line of Meta's, which has op_count equal requests.
func (p *cacheParser) meta(fields []string) error {
	if p.columns == nil {
		p.columns, p.column = fields, map[string]int{}
		for i, name := range fields {
			p.column[name] = i
		}
		for _, name := range metaColumns {
			if _, there := p.column[name]; !there {
				return p.mistake("no column %s: the first line names the columns, %s among them (the traces 202206 and 202312 have no times and cannot be replayed)", name, strings.Join(metaColumns[:], ", "))
			}
		}
		return nil
	}
	if len(fields) != len(p.columns) {
		return p.mistake("number of fields %d: the first line names %d columns", len(fields), len(p.columns))
	}
	of := func(name string) string { return fields[p.column[name]] }
	kind, ok := metaOps[of("op")]
	if !ok {
		return p.mistake("op %q is unknown (GET, GET_LEASE, SET, SET_LEASE, DELETE)", clip(of("op")))
	}
	count, err := strconv.ParseUint(of("op_count"), 10, 32)
	if err != nil || count == 0 {
		return p.mistake("op_count %q: how many equal requests the line is, from 1 on", clip(of("op_count")))
	}
	ttl := "0"
	if _, there := p.column["ttl"]; there {
		ttl = of("ttl")
	}
	return p.request(of("op_time"), kind, of("key"), of("size"), ttl, count)
}

// secondsMax is the latest time of a row: in ns it fits into 63 bits.
const secondsMax = math.MaxInt64 / int64(time.Second)

// request adds count equal rows. A read of size 0 found nothing.
func (p *cacheParser) request(second string, kind Kind, key, size, ttl string, count uint64) error {
	at, err := strconv.ParseInt(second, 10, 64)
	if at > secondsMax { // ParseInt returns the largest number for larger ones
		return p.mistake("time %q is more than %d seconds", clip(second), secondsMax)
	}
	if err != nil || at < 0 {
		return p.mistake("time %q is not a whole number of seconds", clip(second))
	}
	at *= int64(time.Second)
	if len(p.t.rows) == 0 {
		p.begin, p.last = at, at
	}
	bytes, err := strconv.ParseUint(size, 10, 32)
	switch {
	case at < p.last:
		return p.mistake("time %q is before that of the row above: sort the file by time", clip(second))
	case at-p.begin > int64(traceSpanMax):
		return p.mistake("time %q is more than %v after the first row: divide the trace into shorter files", clip(second), traceSpanMax)
	case key == "":
		return p.mistake("the key is empty")
	case err != nil || bytes > maxValueBytes:
		return p.mistake("size %q: bytes of the value, 0 to %d", clip(size), maxValueBytes)
	case count > traceRowsMax-uint64(len(p.t.rows)):
		return p.mistake("more than %d requests: cut the trace into pieces", traceRowsMax)
	}
	seconds, err := strconv.ParseUint(ttl, 10, 32)
	if errors.Is(err, strconv.ErrRange) {
		return p.mistake("TTL %q is more than %d seconds", clip(ttl), uint32(math.MaxUint32))
	}
	if err != nil {
		return p.mistake("TTL %q is not a whole number of seconds", clip(ttl))
	}
	p.last = at
	known := uint32(bytes)
	if kind == Get && known == 0 {
		known = noSize
	}
	for range count {
		p.add(at-p.begin, kind, p.record(key), known)
		if p.ttl == TTLDelete {
			p.ttls = append(p.ttls, uint32(seconds))
		}
	}
	return nil
}

// spread distributes the rows of a second over it with equal gaps, since the files have whole seconds.
func (p *cacheParser) spread() {
	rows := p.t.rows
	for i := 0; i < len(rows); {
		n := 1
		for i+n < len(rows) && rows[i+n].at == rows[i].at {
			n++
		}
		for k := range n {
			rows[i+k].at += int64(k) * int64(time.Second) / int64(n)
		}
		i += n
	}
}

// expire adds the deletes of items whose time to live ends within the trace.
func (p *cacheParser) expire() error {
	t := p.t
	if p.ttl != TTLDelete || len(t.rows) == 0 {
		return nil
	}
	changed := make([]int64, len(t.first)) // by record: when the row after this one changes it
	for i := range changed {
		changed[i] = math.MaxInt64
	}
	last := t.rows[len(t.rows)-1].at
	var ends []traceRow
	for i := len(t.rows) - 1; i >= 0; i-- {
		r := t.rows[i]
		if r.kind() == Get {
			continue
		}
		if end := r.at + int64(p.ttls[i])*int64(time.Second); r.kind() == Put && p.ttls[i] > 0 && end < changed[r.id] && end <= last {
			ends = append(ends, traceRow{at: end, id: r.id, size: deleteBit})
		}
		changed[r.id] = r.at
	}
	if len(t.rows)+len(ends) > traceRowsMax {
		return fmt.Errorf("%s: more than %d requests, those included that delete items at the end of their time to live: cut the trace into pieces", p.path, traceRowsMax)
	}
	t.rows = append(t.rows, ends...)
	slices.SortStableFunc(t.rows, func(a, b traceRow) int { return int(min(1, max(-1, a.at-b.at))) })
	return nil
}
