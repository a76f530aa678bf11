package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/kvwire/kvwire/factor"
)

// schema has the columns of a table whose rows are structs. Each column has a field, a string or an Opt, with the column's name in its
// csv tag. A field of type Factors has the columns of all factors that have no field of their own.
type schema struct {
	columns []tableField   // in order
	field   []int          // of the struct, for each column
	byName  map[string]int // the column's index, by old names, too
}

// Factors are the values of a row's factors that have no field of their own, as in a file, by column. The map is not changed: Set replaces it.
type Factors map[string]string

// schemaOf returns the schema of rows of type T. The columns of factors come from a table; meanings describe the others.
func schemaOf[T any](table factor.Table, meanings, oldNames map[string]string) *schema {
	s := &schema{byName: map[string]int{}}
	t := reflect.TypeFor[T]()
	described := maps.Clone(meanings)
	for _, f := range table {
		if c := f.ColumnName(); c != "" {
			described[c] = f.Description()
		}
	}
	add := func(c tableField, field int) {
		if _, twice := s.byName[c.name]; twice || c.name == "" {
			panic("report: column of " + t.Field(field).Name)
		}
		s.byName[c.name] = len(s.columns)
		s.columns, s.field = append(s.columns, c), append(s.field, field)
	}
	named := map[string]bool{}
	for i := range t.NumField() {
		named[t.Field(i).Tag.Get("csv")] = true
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Type == reflect.TypeFor[Factors]() {
			for _, x := range table {
				if c := x.ColumnName(); c != "" && !named[c] {
					add(tableField{c, columnType(&x), x.Description()}, i)
				}
			}
			continue
		}
		name := f.Tag.Get("csv")
		add(tableField{name, fieldType(name, f.Type), described[name]}, i)
	}
	for old, name := range oldNames {
		s.byName[old] = s.byName[name]
	}
	return s
}

// columnType is the type of a factor's column, as Frictionless Table Schema names it.
func columnType(f *factor.Factor) string {
	switch f.Kind() {
	case "bool":
		return "boolean"
	case "int", "uint64", "duration", "size", "count":
		return "integer"
	case "rate", "speed", "share":
		return "number"
	}
	return "string"
}

// fieldType is the type of a column with a field, as Frictionless Table Schema names it.
func fieldType(name string, t reflect.Type) string {
	switch {
	case name == "started_at":
		return "datetime"
	case t == reflect.TypeFor[Int](), t == reflect.TypeFor[Uint]():
		return "integer"
	case t == reflect.TypeFor[Float]():
		return "number"
	case t == reflect.TypeFor[Bool]():
		return "boolean"
	}
	return "string"
}

// names returns the names of the columns.
func (s *schema) names() []string { return names(s.columns) }

type setter interface{ set(string) error }

// value returns a column's value as in a file.
func (s *schema) value(row reflect.Value, column int) string {
	f := row.Field(s.field[column])
	if own, is := f.Interface().(Factors); is {
		return own[s.columns[column].name]
	}
	return fieldText(f)
}

// fieldText returns a field's value as in a file.
func fieldText(v reflect.Value) string {
	if v.Kind() == reflect.String {
		return text(v.String())
	}
	return v.Interface().(fmt.Stringer).String()
}

// fields returns a row's values as in a file.
func (s *schema) fields(row reflect.Value) []string {
	all := make([]string, len(s.columns))
	for i := range all {
		all[i] = s.value(row, i)
	}
	return all
}

func (s *schema) set(row reflect.Value, name, value string) error {
	i, ok := s.byName[name]
	if !ok {
		return fmt.Errorf("report: there is no column %q", clip(name))
	}
	return s.setField(row, i, value)
}

func (s *schema) setField(row reflect.Value, i int, value string) error {
	f := row.Field(s.field[i]).Addr().Interface()
	to, ok := f.(setter)
	own, isOwn := f.(*Factors)
	if isOwn {
		to, ok = map[string]setter{"integer": new(Int), "number": new(Float), "boolean": new(Bool)}[s.columns[i].kind]
	}
	var err error
	if ok {
		err = to.set(value)
	} else if !utf8.ValidString(value) {
		err = fmt.Errorf("%q is not UTF-8", clip(value))
	}
	switch {
	case err != nil:
		return err
	case isOwn:
		own.set(s.columns[i].name, text(value))
	case !ok:
		*f.(*string) = text(value)
	}
	return nil
}

func (f *Factors) set(column, value string) {
	all := maps.Clone(*f)
	if value == "" {
		delete(all, column)
	} else if all == nil {
		all = Factors{column: value}
	} else {
		all[column] = value
	}
	*f = all
}

// text returns a string that is valid in a field: UTF-8 without carriage returns, which CSV readers
// treat in different ways.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\r", "")
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// marshal returns a row as a JSON object with the columns in their order, without those that are NA.
func (s *schema) marshal(row reflect.Value) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, c := range s.columns {
		value := s.value(row, i)
		if value == "" {
			continue
		}
		raw := []byte(value)
		if c.kind == "string" || c.kind == "datetime" {
			var err error
			if raw, err = json.Marshal(value); err != nil {
				return nil, err
			}
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", c.name)
		b.Write(raw)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// unmarshal reads the output of marshal into an empty row.
func (s *schema) unmarshal(row reflect.Value, b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return fmt.Errorf("report: row: %w", err)
	}
	for name, raw := range all {
		value := string(raw)
		if value == "null" {
			continue
		}
		if strings.HasPrefix(value, `"`) {
			if err := json.Unmarshal(raw, &value); err != nil {
				return fmt.Errorf("report: row: %s: %w", name, err)
			}
		}
		if err := s.set(row, name, value); err != nil {
			return fmt.Errorf("report: row: %s: %w", clip(name), err)
		}
	}
	return nil
}
