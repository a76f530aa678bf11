package store

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"golang.org/x/sys/unix"
)

func TestWhatIsNotThisStoreIsRefused(t *testing.T) {
	write := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		shards  int // of a store that is made first; 0: none
		prepare func(*testing.T, string)
		want    string
	}{
		"other shard count": {2, nil, "2 partitions, not 1"},
		"other version":     {1, write("store.json", `{"format":9,"shards":1,"page_bytes":4096}`), "format 9"},
		"other page size":   {1, write("store.json", `{"format":2,"shards":1,"page_bytes":512}`), "pages of 512"},
		"damaged manifest":  {1, write("store.json", `{"form`), "damaged"},
		"somebody's files":  {0, write("thesis.tex", `\begin`), "not a store"},
		"lost manifest": {1, func(t *testing.T, dir string) {
			write("shard-000/slab-00004096", strings.Repeat("x", 4096))(t, dir)
			if err := os.Remove(filepath.Join(dir, "store.json")); err != nil {
				t.Fatal(err)
			}
		}, "not a store"},
		"lost slab": {1, func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "shard-000/slab-00000064")); err != nil {
				t.Fatal(err)
			}
		}, "missing"},
		"lost shard": {1, func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "shard-000")); err != nil {
				t.Fatal(err)
			}
		}, "shard-000"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.shards > 0 {
				if err := prepare(dir, c.shards); err != nil {
					t.Fatal(err)
				}
			}
			if c.prepare != nil {
				c.prepare(t, dir)
			}
			before := listing(t, dir)
			err := prepare(dir, 1)
			if err == nil {
				var f *osFiles
				if f, err = openFiles(dir, 0, false); err == nil {
					_ = f.close()
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("the error is %v, want one line with %q", err, c.want)
			}
			if now := listing(t, dir); now != before {
				t.Fatalf("the folder was changed from\n%sto\n%s", before, now)
			}
		})
	}
}

func listing(t *testing.T, dir string) string {
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		if err == nil && !d.IsDir() {
			b.WriteString(path + " " + i.ModTime().String() + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAnInterruptedCreateIsCompleted(t *testing.T) {
	dir := t.TempDir()
	if err := prepare(dir, 3); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, manifestName), filepath.Join(dir, manifestName+".new")); err != nil {
		t.Fatal(err)
	}
	if err := prepare(dir, 2); err != nil {
		t.Fatal(err)
	}
}

func TestAFileInPlaceOfAFolderIsRefused(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := prepare(name, 1); err == nil || !errors.Is(err, unix.ENOTDIR) {
		t.Fatal(err)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	g := newRig(t, "disk", Options{})
	g.mustPut("k", "v")
	second := &rig{t: t, o: g.o}
	err := second.tryOpen()
	if err == nil || !strings.Contains(err.Error(), "open already") {
		t.Fatalf("second open: %v", err)
	}
	g.want("k", "v")
	g.close()
	g.open() // the lock went with the close
	g.want("k", "v")
	g.close()
}

func TestOpenReportsWhatItRunsOn(t *testing.T) {
	g := newRig(t, "disk", Options{Durability: DurabilityFlush})
	g.mustPut("k", strings.Repeat("v", 100_000))
	g.mustPut("k2", "v")
	fd, err := unix.Open(filepath.Join(g.o.Dir, "store.json"), unix.O_RDONLY|unix.O_DIRECT, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	if s := g.stats(); s.DirectIO != (err == nil && !inMemory(g.o.Dir)) {
		t.Fatalf("direct_io is %v, and opening with O_DIRECT gives %v", s.DirectIO, err)
	}
	g.close()
}

func TestWithoutDirectIOTheStoreWorksAndLogsIt(t *testing.T) {
	testenv.Uring(t)
	dir, err := os.MkdirTemp("/dev/shm", "kvwire-test")
	if err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	defer os.RemoveAll(dir)
	var said strings.Builder
	g := &rig{t: t, back: make(chan *kv.Request, 1),
		o: Options{Backend: Disk, Dir: dir, Limits: testLimits, Log: slog.New(slog.NewTextHandler(&said, nil))}}
	g.open()
	g.mustPut("k", "v")
	g.want("k", "v")
	if g.stats().DirectIO || !strings.Contains(said.String(), "O_DIRECT") {
		t.Fatalf("direct_io %v, said %q", g.stats().DirectIO, &said)
	}
	g.close()
}

func TestOpenNeedsARing(t *testing.T) {
	l, err := loop.Start(loop.Options{Sleep: loop.SleepEpoll}, func(l *loop.Loop) error {
		_, err := Open(l, 0, 1, Options{Backend: Disk, Dir: t.TempDir()})
		return err
	})
	if err == nil {
		_ = l.Stop()
		t.Fatal("opened a disk store on a loop without a ring")
	}
	if !ring.Built && !errors.Is(err, ring.ErrNotBuilt) {
		t.Fatal(err)
	}
}

func TestOptionsAreCheckedAtTheDoor(t *testing.T) {
	for name, o := range map[string]Options{
		"backend":    {Backend: 9},
		"key":        {Limits: limits(1025, 100)},
		"value":      {Limits: limits(10, 17<<20)},
		"cache":      {CacheBytes: 1000},
		"depth":      {DepthMax: -1},
		"buffers":    {BufferBytes: 1 << 20},
		"engine":     {DiskEngine: "magic"},
		"durability": {Durability: "hope"},
		"null value": {Limits: limits(10, 10), NullValueBytes: 11},
		"folder":     {Backend: Disk},
	} {
		if err := o.check(0, 1); err == nil || !strings.HasPrefix(err.Error(), "store: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, b := range []Backend{Null, Mem, Disk} {
		if got, err := ParseBackend(b.String()); err != nil || got != b {
			t.Errorf("%v parses as %v, %v", b, got, err)
		}
	}
	if _, err := ParseBackend("tape"); err == nil {
		t.Error("backend tape is known")
	}
}

func limits(keyBytes, valueBytes int) kv.Limits {
	return kv.Limits{MaxKeyBytes: keyBytes, MaxValueBytes: valueBytes}
}

// A process that was killed may have writes under way when it has ended, which keep their files locked: a store that is opened meanwhile waits for them.
func TestOpenWaitsForTheWritesOfAKilledProcess(t *testing.T) {
	g := newRig(t, EngineSync, Options{})
	g.mustPut("key", "value")
	g.close()
	fd, err := unix.Open(slabPath(g.o.Dir, 0, 3), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	const late = 50 * time.Millisecond
	began := time.Now()
	time.AfterFunc(late, func() { _ = unix.Close(fd) })
	g.open()
	if took := time.Since(began); took < late {
		t.Errorf("opened after %v, with writes under way for %v", took, late)
	}
	g.want("key", "value")
	g.close()
}
