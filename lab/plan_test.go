package lab

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// One kvwire run at a time is at work in a folder.
func TestAFolderIsClaimedOnce(t *testing.T) {
	dir := t.TempDir()
	one, err := LockPlan(dir, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockPlan(dir, os.O_RDWR|os.O_CREATE|os.O_EXCL); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a new run: %v", err)
	}
	if _, err := LockPlan(dir, os.O_RDWR); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("--resume: %v", err)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	two, err := LockPlan(dir, os.O_RDWR)
	if err != nil {
		t.Fatalf("--resume after its end: %v", err)
	}
	_ = two.Close()
}
