// Package quote makes text from a peer safe for a terminal, a log or a file: it quotes escape codes and line breaks, bounds the
// length, and omits the secrets of URLs. It may import the standard library only.
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

// Text returns a peer's text for use within a message: s itself if all of it can be printed, else s quoted as a Go string. It cuts the
// text at TextBytes.
func Text[S ~string | ~[]byte](s S) string {
	return text(string(s[:min(len(s), TextBytes+1)]), TextBytes)
}

// Line returns a message that may contain a peer's text as one line of at most LineBytes. It joins the lines of several errors.
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

// cut returns at most max bytes of s, without a partial rune at the end.
func cut(s string, max int) (head, more string) {
	if len(s) <= max {
		return s, ""
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max], "…"
}

// printable reports whether s is valid UTF-8 with printable characters only: no control characters, no changes of writing direction, no line breaks.
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

// Error returns err with its message changed by Text, or nil for nil. errors.Is and errors.As find the same errors in the result as in err.
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

// Error implements error.
func (e shown) Error() string { return e.text }

// Unwrap returns the original error, for errors.Is and errors.As.
func (e shown) Unwrap() error { return e.error }

// Strings applies Text to each string that v points to, at any depth. v was decoded from a peer's JSON, so it has no cycles.
// Unexported fields and bytes stay unchanged.
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
