// Package quote makes what a peer has sent fit to be shown, on a terminal, in a log or in a file: escape codes and line breaks do
// nothing there, and its length is bounded. It may import the standard library only.
package quote

import (
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// TextBytes bounds a peer's text within a message, and LineBytes a message as a whole.
const (
	TextBytes = 300
	LineBytes = 4 << 10
)

// Text is a peer's text within a message: s itself if all of it can be printed, and otherwise as Go writes it, in quotation marks. What
// is beyond TextBytes is left out.
func Text[S ~string | ~[]byte](s S) string {
	return text(string(s[:min(len(s), TextBytes+1)]), TextBytes)
}

// Line is a message in which a peer's text may be: in one line of at most LineBytes. What belongs to several errors is put one behind the other.
func Line(s string) string {
	s = s[:min(len(s), LineBytes+1)]
	if printable(s) && len(s) <= LineBytes {
		return s
	}
	s, more := cut(s, LineBytes)
	var b strings.Builder
	for i := 0; i < len(s); {
		_, n := utf8.DecodeRuneInString(s[i:])
		switch part := s[i : i+n]; {
		case part == "\n":
			b.WriteString("; ")
		case printable(part):
			b.WriteString(part)
		default:
			q := strconv.Quote(part)
			b.WriteString(q[1 : len(q)-1])
		}
		i += n
	}
	return b.String() + more
}

func text(s string, max int) string {
	if printable(s) && len(s) <= max {
		return s
	}
	s, more := cut(s, max)
	if printable(s) {
		return s + more
	}
	return strconv.Quote(s) + more
}

// cut leaves max bytes of s at most, and no part of a rune.
func cut(s string, max int) (head, more string) {
	if len(s) <= max {
		return s, ""
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max], "…"
}

// printable says whether all of s is valid UTF-8 that is seen, and does nothing else: no control, no direction of writing, no line break.
func printable(s string) bool {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n <= 1 || !strconv.IsPrint(r) {
			return false
		}
		i += n
	}
	return true
}

// Error is err with Text's words; nil is nil. errors.Is and errors.As find in it what they find in err.
func Error(err error) error {
	if err == nil {
		return nil
	}
	return shown{err, text(err.Error(), TextBytes)}
}

type shown struct {
	error
	text string
}

// Error is error's.
func (e shown) Error() string { return e.text }

// Unwrap is for errors.Is.
func (e shown) Unwrap() error { return e.error }

// Strings makes each string that v points to, in whatever depth, what Text makes of it. v is what was read from a peer's JSON: it has no cycles.
// Fields that are not exported, and bytes, stay as they are.
func Strings(v any) { strs(reflect.ValueOf(v)) }

func strs(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			strs(v.Elem())
		}
	case reflect.String:
		if v.CanSet() {
			v.SetString(Text(v.String()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				strs(v.Field(i))
			}
		}
	case reflect.Slice, reflect.Array:
		switch v.Type().Elem().Kind() {
		case reflect.String, reflect.Struct, reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			for i := range v.Len() {
				strs(v.Index(i))
			}
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			key, value := reflect.New(k.Type()).Elem(), reflect.New(v.Type().Elem()).Elem()
			key.Set(k)
			value.Set(v.MapIndex(k))
			strs(key)
			strs(value)
			v.SetMapIndex(k, reflect.Value{})
			v.SetMapIndex(key, value)
		}
	}
}
