package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/loop"
)

// storeFiles describes a folder's files: names, sizes, modes and times of change.
func storeFiles(t *testing.T, dir string) string {
	var b strings.Builder
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		if err == nil {
			b.WriteString(path + " " + i.Mode().String() + " " + i.ModTime().String() + "\n")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Look reports what an open would find, or why it would fail, and changes nothing.
func TestLookAgreesWithOpen(t *testing.T) {
	dir := t.TempDir()
	made := filepath.Join(dir, "made")
	open := func(o Options, shards int) *loop.Group {
		t.Helper()
		p := loop.Plan{NetLoops: shards, Net: loop.Options{Sleep: loop.SleepEpoll}}
		g, err := loop.NewGroup(p, func(l *loop.Loop, shard, shards int) (loop.Partition, error) { return Open(l, shard, shards, o) })
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	disk := func(dir string) Options {
		return Options{Backend: Disk, Dir: dir, DiskEngine: EngineSync, CacheBytes: 64 * pageBytes, Limits: testLimits}
	}
	raw := disk(filepath.Join(dir, "raw"))
	raw.Backend, raw.RawBytes, raw.NullValueBytes = Raw, 2<<20, 100
	old := filepath.Join(dir, "old")
	for name, text := range map[string]string{"file": "", "other/data": "x", "old/" + manifestName: `{"format":1,"shards":1,"page_bytes":4096}`} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	look := func(what string, o Options, shards int, want, wrong string) {
		t.Helper()
		before := storeFiles(t, dir)
		found, err := o.Look(shards)
		if wrong == "" && (err != nil || !strings.Contains(found, want)) || wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)) {
			t.Errorf("%s: %q, %v; want %s%s", what, found, err, want, wrong)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than a line: %v", what, err)
		}
		if after := storeFiles(t, dir); after != before {
			t.Errorf("%s: a look has changed\n%sto\n%s", what, before, after)
		}
	}
	look("nothing there", disk(made), 2, "a new folder", "")
	look("far below nothing", disk(filepath.Join(made, "a", "b")), 2, "a new folder", "")
	look("below a file", disk(filepath.Join(dir, "file", "a")), 1, "", "not a directory")
	look("a file", disk(filepath.Join(dir, "file")), 1, "", "not a directory, but a file (choose another folder)")
	look("somebody else's folder", disk(filepath.Join(dir, "other")), 1, "", "it has no store.json, but data")
	look("an old store", disk(old), 1, "", "has format 1, this program reads 2")
	look("options that cannot be", Options{Backend: Disk, Dir: made, DiskEngine: "none"}, 1, "", "none")
	look("raw, nothing there", raw, 1, "a new folder", "")

	g := open(disk(made), 2)
	look("open", disk(made), 2, "", "is open already")
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	look("a store", disk(made), 2, "a store of 2 partitions", "")
	look("another number of partitions", disk(made), 3, "", "was made with 2 partitions, not 3")
	g = open(raw, 1)
	look("raw, open", raw, 1, "", "is open already")
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	look("raw", raw, 1, "raw files of 2 MiB", "")
	if err := os.Remove(slabPath(made, 1, 0)); err != nil {
		t.Fatal(err)
	}
	look("a part is missing", disk(made), 2, "", "a part of the store is missing")
	if err := os.WriteFile(slabPath(made, 1, 0), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 { // root may write to anything
		look("a file that may not be written", disk(made), 2, "", "run as the user who made it")
	}
}
