package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// schema is the columns of a table whose rows are structs: a field for each column, a string or an Opt, with the column's name in its
// csv tag.
type schema struct {
	columns []string       // in order: those of the struct's fields
	byName  map[string]int // the field of each, by old names, too
}

func schemaOf[T any](oldNames map[string]string) *schema {
	t := reflect.TypeFor[T]()
	s := &schema{byName: map[string]int{}}
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("csv")
		if _, twice := s.byName[name]; twice || name == "" {
			panic("report: column of " + t.Field(i).Name)
		}
		s.byName[name] = i
		s.columns = append(s.columns, name)
	}
	for old, name := range oldNames {
		s.byName[old] = s.byName[name]
	}
	return s
}

// names are the columns, a copy.
func (s *schema) names() []string { return append([]string(nil), s.columns...) }

// field is what all but string columns have.
type field interface {
	String() string
	Known() bool
}

type setter interface{ set(string) error }

// fieldText is a field's value as it stands in a file.
func fieldText(v reflect.Value) string {
	if v.Kind() == reflect.String {
		return text(v.String())
	}
	return v.Interface().(field).String()
}

// fields are a row's values as they stand in a file.
func (s *schema) fields(row reflect.Value) []string {
	all := make([]string, len(s.columns))
	for i := range all {
		all[i] = fieldText(row.Field(i))
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
	f := row.Field(i).Addr().Interface()
	if to, ok := f.(*string); ok {
		if !utf8.ValidString(value) {
			return fmt.Errorf("%q is not UTF-8", clip(value))
		}
		*to = text(value)
		return nil
	}
	return f.(setter).set(value)
}

// text is a string as it may stand in a field: UTF-8 without carriage returns, which readers of CSV
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

// marshal is a row as a JSON object, with the columns' names in their order; what is NA is left out.
func (s *schema) marshal(row reflect.Value) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range s.columns {
		var value []byte
		switch f := row.Field(i).Interface().(type) {
		case string:
			if f == "" {
				continue
			}
			var err error
			if value, err = json.Marshal(text(f)); err != nil {
				return nil, err
			}
		case field:
			if !f.Known() {
				continue
			}
			value = []byte(f.String())
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", name)
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// unmarshal reads what marshal wrote into a row that has nothing yet.
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
