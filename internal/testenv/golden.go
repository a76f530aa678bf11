package testenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Golden compares a text with testdata/golden/name. With KVWIRE_UPDATE=1 it writes that file instead.
func Golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if os.Getenv("KVWIRE_UPDATE") == "1" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (KVWIRE_UPDATE=1 writes it)", err)
	}
	if want := string(b); want != text {
		was, is := strings.Split(want, "\n"), strings.Split(text, "\n")
		for i := range max(len(was), len(is)) {
			a, b := "(the end)", "(the end)"
			if i < len(was) {
				a = was[i]
			}
			if i < len(is) {
				b = is[i]
			}
			if a != b {
				t.Errorf("%s, line %d\nwas: %s\nis:  %s\n(if that is meant: KVWIRE_UPDATE=1 go test)", path, i+1, a, b)
				return
			}
		}
	}
}
