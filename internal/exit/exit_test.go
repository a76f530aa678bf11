package exit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What a user names wrongly is a usage error. A failure of the work is not, and a code that an error has stays.
func TestNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, missing := os.Open(file + "s")
	for _, c := range []struct {
		name string
		err  error
		code int
	}{
		{"none", nil, OK},
		{"missing", missing, Usage},
		{"no folder", os.MkdirAll(filepath.Join(file, "below"), 0o700), Usage},
		{"not to be opened", fmt.Errorf("store: %w", &os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}), Usage},
		{"no space", &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, Failed},
		{"io_uring forbidden", syscall.EPERM, Failed},
		{"other", errors.New("other"), Failed},
		{"with a code", With(Wrong, missing), Wrong},
	} {
		if got := Code(Named(c.err)); got != c.code {
			t.Errorf("%s: %v: exit code %d, want %d", c.name, c.err, got, c.code)
		}
	}
}
