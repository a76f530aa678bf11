package report

import (
	"os"
	"path/filepath"
	"testing"
)

// A row that a crash has cut short does not stand in the way of the others. One that only lacks its last newline is whole.
func TestARowThatWasCutShortIsLeftOut(t *testing.T) {
	name := filepath.Join(t.TempDir(), "runs.csv")
	if err := WriteRows(name, []Row{{RunID: "one"}, {RunID: "two", Note: "x"}}); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for cut, want := range map[int]int{0: 2, 1: 2, 60: 1} {
		if err := os.WriteFile(name, whole[:len(whole)-cut], 0o644); err != nil {
			t.Fatal(err)
		}
		if rows, err := ReadRows(name); err != nil || len(rows) != want {
			t.Errorf("without its last %d bytes: %d rows, %v", cut, len(rows), err)
		}
	}
}
