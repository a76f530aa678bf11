package quote

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestAPeersTextIsSafeToPrint(t *testing.T) {
	long := strings.Repeat("é", TextBytes)
	for _, c := range []struct{ s, text, line string }{
		{"", "", ""},
		{"no access: this server wants a name (--auth-file)", "no access: this server wants a name (--auth-file)", "no access: this server wants a name (--auth-file)"},
		{`a "quoted" word and a \`, `a "quoted" word and a \`, `a "quoted" word and a \`},
		{"größer als 語", "größer als 語", "größer als 語"},
		{"\x1b[2J\x1b]0;title\a", `"\x1b[2J\x1b]0;title\a"`, `\x1b[2J\x1b]0;title\a`},
		{"one\nkvwire: two\r", `"one\nkvwire: two\r"`, `one; kvwire: two\r`},
		{"tab\there", `"tab\there"`, `tab\there`},
		{"\xff\xfe", `"\xff\xfe"`, `\xff\xfe`},
		{"\u009b31m", `"\u009b31m"`, `\u009b31m`},                                        // CSI in one rune
		{"abc\u202egnp.exe\u2066", `"abc\u202egnp.exe\u2066"`, `abc\u202egnp.exe\u2066`}, // directions of writing
		{"a\u2028b\u00a0c", `"a\u2028b\u00a0c"`, `a\u2028b\u00a0c`},                      // a line separator, a space that is none
		{"\uFFFD", "\uFFFD", "\uFFFD"},
		{long, long[:TextBytes] + "…", long},
		{"\n" + long, `"\n` + long[:TextBytes-2] + `"…`, "; " + long},
	} {
		if got := Text(c.s); got != c.text {
			t.Errorf("Text(%q) = %s, want %s", c.s, got, c.text)
		}
		if got := Text([]byte(c.s)); got != c.text {
			t.Errorf("Text of bytes %q = %s, want %s", c.s, got, c.text)
		}
		if got := Line(c.s); got != c.line {
			t.Errorf("Line(%q) = %s, want %s", c.s, got, c.line)
		}
		if twice := Line(Text(c.s)); twice != Text(c.s) {
			t.Errorf("Line changes what Text has made of %q: %s", c.s, twice)
		}
	}
	if n := len(Line(strings.Repeat("\x00", 1<<20))); n > 4*LineBytes+len("…") {
		t.Errorf("a line of %d bytes", n)
	}
	if n := len(Text(strings.Repeat("\x00", 1<<20))); n > 4*TextBytes+len(`""…`) {
		t.Errorf("a text of %d bytes", n)
	}
}

func TestAQuotedErrorKeepsItsCause(t *testing.T) {
	if Error(nil) != nil {
		t.Error("no error is one")
	}
	err := Error(fmt.Errorf("the peer says \x1b[31m: %w", io.EOF))
	if !errors.Is(err, io.EOF) || err.Error() != `"the peer says \x1b[31m: EOF"` {
		t.Errorf("%v", err)
	}
}

func TestStringsOfAPeersJSON(t *testing.T) {
	type part struct {
		Name   string
		hidden string
		Raw    []byte
		Any    *part
	}
	bad, good := "a\x1bb", `"a\x1bb"`
	v := struct {
		Flags map[string]string
		Names []string
		Two   [2]string
		Parts map[int]part
		List  []part
		N     uint64
		Nil   *part
	}{map[string]string{bad: bad, "x": "y"}, []string{bad, "fine"}, [2]string{bad, bad}, map[int]part{1: {Name: bad}}, []part{{bad, bad, []byte(bad), &part{Name: bad}}}, 7, nil}
	want := v
	want.Flags = map[string]string{good: good, "x": "y"}
	want.Names, want.Two = []string{good, "fine"}, [2]string{good, good}
	want.Parts, want.List = map[int]part{1: {Name: good}}, []part{{good, bad, []byte(bad), &part{Name: good}}}
	if Strings(&v); !reflect.DeepEqual(v, want) {
		t.Errorf("%+v, want %+v", v, want)
	}
}
