package fleet

import (
	"bytes"
	"strings"
	"testing"
)

func TestStderrTeeCopiesLinesAndKeepsKvwiresLast(t *testing.T) {
	var to bytes.Buffer
	s := &stderrTee{name: "load host 1", to: &to}
	for _, part := range []string{"Welcome\nkvwire: no such", " device\nsrun: error: n1: Exited with", " exit code 3\n\n", strings.Repeat("x", 2*stderrLineMax)} {
		if n, err := s.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := s.last(); got != "; its last line of standard error: no such device" || !s.hasKvwire() {
		t.Errorf("%q", got)
	}
	want := "kvwire: load host 1: Welcome\nkvwire: load host 1: no such device\nkvwire: load host 1: srun: error: n1: Exited with exit code 3\nkvwire: load host 1: " + strings.Repeat("x", stderrLineMax) + "\n"
	if to.String() != want {
		t.Errorf("%q", &to)
	}
	quiet := &stderrTee{to: &to}
	if got := quiet.last(); got != ", without a line on standard error" {
		t.Errorf("%q", got)
	}
}

func TestReadRoleLeavesTheRestOfTheInput(t *testing.T) {
	in := strings.NewReader("{\"args\":[\"serve\",\"--dir=a b'c\\n\\\"\"],\"secret\":\"s\"}\nrest")
	r, err := ReadRole(in)
	if err != nil || len(r.Args) != 2 || r.Args[1] != "--dir=a b'c\n\"" || r.Secret != "s" || in.Len() != len("rest") {
		t.Errorf("%q, %d bytes left: %v", r, in.Len(), err)
	}
	for name, text := range map[string]string{"empty": "", "cut": `{"args":["serve"`, "none": `{"args":[]}` + "\n", "another command": `{"args":["run","quick"]}` + "\n", "a list": `["serve"]` + "\n", "too long": "[\"" + strings.Repeat("x", roleLineMax)} {
		if r, err := ReadRole(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %q", name, r)
		}
	}
}

func FuzzReadRole(f *testing.F) {
	f.Add([]byte(`{"args":["serve","--json"],"secret":"run rw x"}` + "\nmore"))
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ReadRole(bytes.NewReader(b))
		if err == nil && r.Args[0] != "serve" && r.Args[0] != "loadhost" {
			t.Fatalf("it becomes %q", r.Args)
		}
	})
}
