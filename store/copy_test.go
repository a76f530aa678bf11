package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// loaded is a store with items of several classes, closed.
func loaded(t *testing.T) *rig {
	t.Helper()
	g := newRig(t, "disk", Options{})
	for i := range 300 {
		g.mustPut(fmt.Sprintf("key %d", i), strings.Repeat("v", 1+i*41))
	}
	g.mustPut("large", strings.Repeat("l", 100_000))
	g.mustDelete("key 7")
	g.close()
	return g
}

func TestACopyIsTheSameStoreAndLeavesTheFirstAlone(t *testing.T) {
	g := loaded(t)
	to := filepath.Join(t.TempDir(), "copy")
	if err := Copy(t.Context(), g.o.Dir, to); err != nil {
		t.Fatal(err)
	}
	err := filepath.Walk(g.o.Dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(g.o.Dir, path)
		a, err1 := os.ReadFile(path)
		b, err2 := os.ReadFile(filepath.Join(to, rel))
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %v, %v: %d bytes beside %d", rel, err1, err2, len(a), len(b))
		}
		var before, after unix.Stat_t
		if unix.Stat(path, &before) == nil && unix.Stat(filepath.Join(to, rel), &after) == nil && after.Blocks*512 < min(before.Blocks*512, after.Size) {
			t.Errorf("%s: %d blocks, and in the copy %d: its space is not reserved", rel, before.Blocks, after.Blocks)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	first := g.o.Dir
	g.o.Dir = to
	g.open()
	g.want("key 299", strings.Repeat("v", 1+299*41))
	g.want("large", strings.Repeat("l", 100_000))
	if _, s := g.get("key 7"); s == 0 {
		t.Error("what was deleted is there again")
	}
	g.mustPut("key 1", "changed")
	g.close()
	g.o.Dir = first
	g.open()
	g.want("key 1", strings.Repeat("v", 42))
	g.close()
}

func TestACopyThatFailsLeavesNothing(t *testing.T) {
	g := loaded(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	to := filepath.Join(t.TempDir(), "copy")
	if err := Copy(ended, g.o.Dir, to); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a copy stays: %v", err)
	}
	if err := Copy(t.Context(), t.TempDir(), to); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no store: %v", err)
	}
	if err := Copy(t.Context(), g.o.Dir, t.TempDir()); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a folder: %v", err)
	}
	g.open()
	if err := Copy(t.Context(), g.o.Dir, to); err == nil || !strings.Contains(err.Error(), "is open already") {
		t.Errorf("of a store in use: %v", err)
	}
	g.close()
}

// The account of a store of more than 64 MiB has more than 64 KiB, as no other small file has.
func TestACopyHasTheWholeAccount(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, accountName), filepath.Join(dir, "copy")
	want := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	if err := os.WriteFile(from, want, fileMode); err != nil {
		t.Fatal(err)
	}
	if err := copyFile(from, to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes (%v)", len(got), len(want), err)
	}
	if _, err := readOwn(from); err == nil {
		t.Error("a file that is longer than it may be was read in part")
	}
}
