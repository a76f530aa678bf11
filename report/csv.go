package report

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"
)

// Writer writes runs.csv: UTF-8, LF, RFC 4180, always with the header. Each row is written to the file when
// it is appended, so that an interrupted run leaves its rows.
type Writer struct{ w *csv.Writer }

// NewWriter writes the header.
func NewWriter(w io.Writer) (*Writer, error) {
	c := &Writer{csv.NewWriter(w)}
	return c, writeLine(c.w, Columns())
}

// WriteRows replaces a file of rows, whole or not at all.
func WriteRows(name string, rows []Row) error {
	var b bytes.Buffer
	w, err := NewWriter(&b)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := w.Append(r); err != nil {
			return err
		}
	}
	return WriteFile(name, b.Bytes())
}

// AppendTo is for a file that has its header.
func AppendTo(w io.Writer) *Writer { return &Writer{csv.NewWriter(w)} }

// Append writes one row. Its schema version is filled in.
func (w *Writer) Append(r Row) error {
	r.SchemaVersion = I(SchemaVersion)
	return writeLine(w.w, r.Fields())
}

// writeLine hands a line to the file at once.
func writeLine(w *csv.Writer, fields []string) error {
	if err := w.Write(fields); err != nil {
		return fmt.Errorf("report: write row: %w", err)
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return fmt.Errorf("report: write row: %w", err)
	}
	return nil
}

// Bounds of what is read.
const (
	maxCSVBytes   = 256 << 20
	maxRows       = 1 << 20
	maxFieldBytes = 64 << 10
)

var errTooLong = errors.New("longer than 256 MiB")

// Read reads runs.csv whole, of version 1 or 2. Columns may be in any order, and may be missing; one that is unknown is an
// error, as is another schema version. With an error, which names line and column, the rows before it
// are returned.
func Read(r io.Reader) (rows []Row, err error) {
	err = readTable(r, "runs.csv", rowSchema(), func() reflect.Value {
		rows = append(rows, Row{})
		return reflect.ValueOf(&rows[len(rows)-1]).Elem()
	})
	if err != nil && len(rows) > 0 && errors.Is(err, errRow) {
		rows = rows[:len(rows)-1]
	}
	for i := range rows {
		if v, _ := rows[i].SchemaVersion.Get(); v == 1 {
			rows[i].fromVersion1()
		}
	}
	return rows, err
}

// errRow means that the last row is incomplete.
var errRow = errors.New("")

// rowError is a mistake in one row.
type rowError struct{ error }

func (e rowError) Is(target error) bool { return target == errRow }

func (e rowError) Unwrap() error { return e.error }

// readTable reads a CSV file with a header into rows that next gives.
func readTable(r io.Reader, name string, s *schema, next func() reflect.Value) error {
	limited := &io.LimitedReader{R: r, N: maxCSVBytes + 1}
	c := csv.NewReader(limited)
	c.ReuseRecord = true
	header, err := c.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("no header")
		}
		return fmt.Errorf("report: %s: %w", name, err)
	}
	at, err := readHeader(c, name, s, header)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		record, err := c.Read()
		switch {
		case limited.N <= 0:
			return fmt.Errorf("report: %s: %w", name, errTooLong)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("report: %s: %w", name, err)
		case n == maxRows:
			return fmt.Errorf("report: %s: more than %d rows", name, maxRows)
		}
		if err := readRow(c, name, s, at, record, next()); err != nil {
			return rowError{err}
		}
	}
}

func readHeader(c *csv.Reader, file string, s *schema, header []string) (at []int, err error) {
	seen := map[int]bool{}
	for i, name := range header {
		index, ok := s.byName[name]
		if !ok || seen[index] {
			line, col := c.FieldPos(i)
			what := "is unknown"
			if ok {
				what = "is there twice"
			}
			return nil, fmt.Errorf("report: %s: line %d, character %d: column %q %s", file, line, col, clip(name), what)
		}
		seen[index] = true
		at = append(at, index)
	}
	return at, nil
}

func readRow(c *csv.Reader, file string, s *schema, at []int, record []string, row reflect.Value) error {
	for i, value := range record {
		err := s.setField(row, at[i], value)
		if len(value) > maxFieldBytes {
			err = fmt.Errorf("a value of %d B is longer than %d", len(value), maxFieldBytes)
		}
		if r, is := row.Addr().Interface().(*Row); is && err == nil {
			if v, ok := r.SchemaVersion.Get(); ok && (v < 1 || v > SchemaVersion) {
				err = fmt.Errorf("version %d is not supported: this program reads 1 to %d (use a newer kvwire)", v, SchemaVersion)
			}
		}
		if err != nil {
			line, col := c.FieldPos(i)
			return fmt.Errorf("report: %s: line %d, character %d, column %s: %w", file, line, col, s.columns[at[i]].name, err)
		}
	}
	return nil
}

// markReason is what version 1 called a reason for a run to be invalid, and is a mark now; with several machines behind the name of one.
var markReason = regexp.MustCompile(`^([^:]+: |the server's )?` +
	`(steal [0-9.]+ %|CPU quota: throttled in [0-9]+ % of its periods|foreign CPU [0-9]+ %|drift [+-][0-9]+ %)$`)

// fromVersion1 makes marks of what no longer makes a run invalid, and names how it was measured.
func (r *Row) fromVersion1() {
	if r.SkippedReason != "" {
		return
	}
	if r.Method == "" && r.Ops.Known() {
		r.Method = MethodWhole
	}
	if r.InvalidReason == "" {
		return
	}
	var marks, reasons []string
	for _, why := range strings.Split(r.InvalidReason, "; ") {
		if markReason.MatchString(why) {
			marks = append(marks, why)
		} else {
			reasons = append(reasons, why)
		}
	}
	if len(marks) == 0 {
		return
	}
	r.Marks, r.InvalidReason, r.Valid = strings.Join(marks, "; "), strings.Join(reasons, "; "), B(len(reasons) == 0)
}

// ReadRows reads a runs.csv; none where there is no such file.
func ReadRows(name string) ([]Row, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rows, err := Read(bytes.NewReader(b))
	if whole := bytes.LastIndexByte(b, '\n') + 1; err != nil && whole > 0 && whole < len(b) { // a crash has cut the last row short
		rows, err = Read(bytes.NewReader(b[:whole]))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return rows, nil
}
