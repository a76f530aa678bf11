package report

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
)

// Writer writes runs.csv: UTF-8, LF, RFC 4180, the header always. Each row is handed to the file when
// it is appended, so that an interrupted run leaves what it found.
type Writer struct{ w *csv.Writer }

// NewWriter writes the header.
func NewWriter(w io.Writer) (*Writer, error) {
	c := &Writer{csv.NewWriter(w)}
	return c, c.write(Columns())
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
	return w.write(r.Fields())
}

func (w *Writer) write(fields []string) error {
	if err := w.w.Write(fields); err != nil {
		return fmt.Errorf("report: write row: %w", err)
	}
	w.w.Flush()
	if err := w.w.Error(); err != nil {
		return fmt.Errorf("report: write row: %w", err)
	}
	return nil
}

// Bounds of what Read takes.
const (
	maxCSVBytes   = 256 << 20
	maxRows       = 1 << 20
	maxFieldBytes = 64 << 10
)

var errTooLong = errors.New("longer than 256 MiB")

// Read reads runs.csv whole. Columns may be in any order, and may be missing; one that is unknown is an
// error, as is another schema version. With an error, which names line and column, the rows before it
// are returned.
func Read(r io.Reader) ([]Row, error) {
	limited := &io.LimitedReader{R: r, N: maxCSVBytes + 1}
	c := csv.NewReader(limited)
	c.ReuseRecord = true
	header, err := c.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("no header")
		}
		return nil, fmt.Errorf("report: runs.csv: %w", err)
	}
	at, err := readHeader(c, header)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for {
		record, err := c.Read()
		switch {
		case limited.N <= 0:
			return rows, fmt.Errorf("report: runs.csv: %w", errTooLong)
		case errors.Is(err, io.EOF):
			return rows, nil
		case err != nil:
			return rows, fmt.Errorf("report: runs.csv: %w", err)
		case len(rows) == maxRows:
			return rows, fmt.Errorf("report: runs.csv: more than %d rows", maxRows)
		}
		row, err := readRow(c, at, record)
		if err != nil {
			return rows, err
		}
		rows = append(rows, row)
	}
}

func readHeader(c *csv.Reader, header []string) (at []int, err error) {
	seen := map[int]bool{}
	for i, name := range header {
		index, ok := byName[name]
		if !ok || seen[index] {
			line, col := c.FieldPos(i)
			what := "is unknown"
			if ok {
				what = "is there twice"
			}
			return nil, fmt.Errorf("report: runs.csv: line %d, character %d: column %q %s", line, col, clip(name), what)
		}
		seen[index] = true
		at = append(at, index)
	}
	return at, nil
}

func readRow(c *csv.Reader, at []int, record []string) (row Row, err error) {
	for i, value := range record {
		err := row.set(at[i], value)
		if len(value) > maxFieldBytes {
			err = fmt.Errorf("a value of %d B, at most %d", len(value), maxFieldBytes)
		}
		if v, ok := row.SchemaVersion.Get(); ok && v != SchemaVersion {
			err = fmt.Errorf("version %d, and this program knows %d", v, SchemaVersion)
		}
		if err != nil {
			line, col := c.FieldPos(i)
			return Row{}, fmt.Errorf("report: runs.csv: line %d, character %d, column %s: %w", line, col, columns[at[i]].name, err)
		}
	}
	return row, nil
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
