package bench

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/kvwire/kvwire/internal/textfile"
)

// parseTrace reads a trace of format CSV; path is for messages. Memory is bounded by traceRowsMax and traceLineBytes, whatever r holds.
func parseTrace(path string, r io.Reader, unit TimeUnit) (*Trace, error) {
	r, err := textfile.Reader(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	b := &bounded{r: r, left: traceLineBytes}
	p := newTraceParser(path)
	p.unit, p.csv, p.all = unit, csv.NewReader(b), true
	p.csv.ReuseRecord = true
	err = p.header()
	for err == nil {
		b.left = traceLineBytes
		err = p.row()
	}
	if err == io.EOF {
		err = p.finish()
	}
	if err != nil {
		return nil, err
	}
	return p.t, nil
}

// traceParser turns lines into rows.
type traceParser struct {
	path   string
	unit   TimeUnit
	csv    *csv.Reader
	column [len(traceColumns)]int
	t      *Trace
	all    bool              // every key with a size is loaded; false: those that their first row finds there
	fresh  bool              // the key that was numbered last is new
	loads  []bool            // by record: it is loaded
	ids    map[uint64]uint32 // record by the hash of its key: two keys of a hash (of 10 million, 3 in a million files) are one
	begin  int64             // time of the first row, ns
	last   int64             // of the row before
}

func newTraceParser(path string) *traceParser {
	return &traceParser{path: path, t: &Trace{}, ids: map[uint64]uint32{}}
}

const (
	timeColumn = iota
	opColumn
	keyColumn
	sizeColumn
)

var traceColumns = [...]string{"time", "op", "key", "size"}

// traceOps maps the names of operations to their kinds.
var traceOps = map[string]Kind{"get": Get, "read": Get, "put": Put, "set": Put, "write": Put, "update": Put, "insert": Put, "delete": Delete, "del": Delete}

// next returns the fields of the next line, valid until the following call. At the end of the file it returns io.EOF.
func (p *traceParser) next() ([]string, error) {
	fields, err := p.csv.Read()
	var syntax *csv.ParseError
	switch {
	case err == nil || err == io.EOF:
		return fields, err
	case errors.As(err, &syntax):
		if errors.Is(err, csv.ErrFieldCount) {
			return nil, fmt.Errorf("%s:%d: the number of fields is %d here, and %d in the first line", p.path, syntax.Line, len(fields), p.csv.FieldsPerRecord)
		}
		return nil, fmt.Errorf(`%s:%d: a quotation mark (") is misplaced, or its pair is missing`, p.path, syntax.Line)
	}
	return nil, fmt.Errorf("%s: after row %d: %w", p.path, len(p.t.rows), err)
}

// errorIn returns an error about a column of the last line.
func (p *traceParser) errorIn(column int, format string, args ...any) error {
	line, _ := p.csv.FieldPos(p.column[column])
	return fmt.Errorf("%s:%d: %s %s", p.path, line, traceColumns[column], fmt.Sprintf(format, args...))
}

// header finds the columns in the first line. It ignores other columns.
func (p *traceParser) header() error {
	names, err := p.next()
	if err == io.EOF {
		return fmt.Errorf("%s: the file is empty: its first line names the columns %s", p.path, strings.Join(traceColumns[:], ","))
	}
	if err != nil {
		return err
	}
	for i, want := range traceColumns {
		p.column[i] = slices.Index(names, want)
		if p.column[i] < 0 || slices.Contains(names[p.column[i]+1:], want) {
			return fmt.Errorf("%s:1: the first line must have the column %s exactly once (columns: %s)", p.path, want, strings.Join(traceColumns[:], ","))
		}
	}
	return nil
}

// row adds a line.
func (p *traceParser) row() error {
	fields, err := p.next()
	if err != nil {
		return err
	}
	if len(p.t.rows) == traceRowsMax {
		return fmt.Errorf("%s: more than %d rows: cut the trace into pieces", p.path, traceRowsMax)
	}
	at, ok := parseTime(fields[p.column[timeColumn]], p.unit)
	if !ok {
		return p.errorIn(timeColumn, "%q is not a decimal number of %s, such as 0.25", clip(fields[p.column[timeColumn]]), p.unit)
	}
	if len(p.t.rows) == 0 {
		p.begin, p.last = at, at
	}
	if at < p.last {
		return p.errorIn(timeColumn, "%q is before that of the row above: sort the file by time", clip(fields[p.column[timeColumn]]))
	}
	if at-p.begin > int64(traceSpanMax) {
		return p.errorIn(timeColumn, "%q is more than %v after the first row, in the unit %s: set the right unit (--trace-unit %s), or divide the trace into shorter files", clip(fields[p.column[timeColumn]]), traceSpanMax, p.unit, strings.Join(unitNames[:], ", "))
	}
	p.last = at
	kind, ok := traceOps[strings.ToLower(fields[p.column[opColumn]])]
	if !ok {
		return p.errorIn(opColumn, "%q is not replayed: get (or read), put (or set, write, update, insert) and delete (or del)", clip(fields[p.column[opColumn]]))
	}
	size, err := p.size(fields[p.column[sizeColumn]], kind)
	if err != nil {
		return err
	}
	if fields[p.column[keyColumn]] == "" {
		return p.errorIn(keyColumn, "is empty")
	}
	p.add(at-p.begin, kind, p.record(fields[p.column[keyColumn]]), size)
	return nil
}

// noSize is the size of a record until a row has a size.
const noSize = math.MaxUint32

// size reads the last column, which only a put must have.
func (p *traceParser) size(s string, kind Kind) (uint32, error) {
	if s == "" && kind != Put {
		return noSize, nil
	}
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil || v > maxValueBytes {
		return 0, p.errorIn(sizeColumn, "%q is not a size of a value in bytes, from 0 to %d", clip(s), maxValueBytes)
	}
	return uint32(v), nil
}

// record returns the number of a key's record, and adds it if it is new.
func (p *traceParser) record(key string) uint32 {
	hash := xxhash.Sum64String(key)
	id, known := p.ids[hash]
	if p.fresh = !known; p.fresh {
		id = uint32(len(p.t.first))
		p.ids[hash] = id
		p.t.first = append(p.t.first, noSize)
		p.t.short = append(p.t.short, 0)
		p.loads = append(p.loads, false)
	}
	return id
}

// add appends a row. The size of a delete has no meaning.
func (p *traceParser) add(at int64, kind Kind, id, size uint32) {
	t := p.t
	row := traceRow{at: at, id: id}
	switch kind {
	case Put:
		row.size = size | putBit
	case Delete:
		row.size, size = deleteBit, noSize
	}
	if t.first[id] == noSize && size != noSize {
		t.first[id] = size
		p.loads[id] = p.all || p.fresh && kind == Get
	}
	p.fresh = false
	if (kind == Put || t.first[id] == size) && size < valueHeaderBytes {
		t.short[id] |= 1 << size
	}
	t.rows = append(t.rows, row)
}

// finish checks that all records have a size, and computes the bounds of sizes.
func (p *traceParser) finish() error {
	t := p.t
	if len(t.rows) == 0 {
		return fmt.Errorf("%s: there is no row", p.path)
	}
	t.least = maxValueBytes
	include := func(size uint32) { t.least, t.most = min(t.least, int(size)), max(t.most, int(size)) }
	for i := range t.rows {
		r := &t.rows[i]
		kind := r.kind()
		t.kinds[kind]++
		if t.first[r.id] == noSize && p.all && kind == Get {
			return fmt.Errorf("%s: row %d: no row of its key has a size: set the size of the value here", p.path, i+1)
		}
		if p.loads[r.id] {
			include(t.first[r.id])
		}
		if kind == Put {
			include(r.size &^ putBit)
		}
	}
	t.least = min(t.least, t.most) // no row has a size
	p.number()
	t.missing = make([]bool, len(t.first))
	for i := range t.missing {
		t.missing[i] = i >= t.loaded
	}
	for i := range t.rows {
		if r := &t.rows[i]; r.kind() == Delete {
			t.missing[r.id] = true
		}
	}
	t.rows, t.first, t.short = slices.Clip(t.rows), slices.Clip(t.first), slices.Clip(t.short)
	return nil
}

// number gives the lowest numbers to the records that are loaded, in the order of their first rows.
func (p *traceParser) number() {
	t := p.t
	for _, l := range p.loads {
		if l {
			t.loaded++
		}
	}
	if t.loaded == len(t.first) {
		return
	}
	next, rest := uint32(0), uint32(t.loaded)
	to := make([]uint32, len(t.first))
	first, short := slices.Clone(t.first), slices.Clone(t.short)
	for id, l := range p.loads {
		n := &rest
		if l {
			n = &next
		}
		to[id], t.first[*n], t.short[*n] = *n, first[id], short[id]
		*n++
	}
	for i := range t.rows {
		t.rows[i].id = to[t.rows[i].id]
	}
}

// parseTime reads a number of units as ns, exactly: a float64 of seconds since 1970 has an error of up to 120 ns. Digits below 1 ns are
// ignored. A number with an exponent, as programs write small ones, is read as a float64.
func parseTime(s string, unit TimeUnit) (ns int64, ok bool) {
	digits := unit.digits()
	if strings.ContainsAny(s, "eE") {
		v, err := strconv.ParseFloat(s, 64)
		v *= math.Pow10(digits)
		return int64(v), err == nil && v >= 0 && v < 1<<62
	}
	whole, fraction, _ := strings.Cut(s, ".")
	if whole+fraction == "" {
		return 0, false
	}
	for _, c := range []byte(whole + fraction) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	if whole += (fraction + "000000000")[:digits]; whole == "" {
		return 0, true // less than an ns
	}
	v, err := strconv.ParseInt(whole, 10, 64)
	return v, err == nil
}

// bounded is a reader that fails after left bytes. The parser resets left for each line, so a line or a quote without an end
// does not exhaust memory.
type bounded struct {
	r    io.Reader
	left int
}

var errLongLine = fmt.Errorf("a line is longer than %d bytes, or a quote has no end", traceLineBytes)

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLongLine
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
