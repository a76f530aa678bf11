package store

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// fileSystem is an ext4 for one test, in a file behind a loop device: it can become full or broken without an effect on others.
type fileSystem struct {
	t          *testing.T
	image, dir string
}

// newFileSystem makes one, for root on a kernel with loop devices.
func newFileSystem(t *testing.T, bytes int64) *fileSystem {
	f := &fileSystem{t: t, image: filepath.Join(t.TempDir(), "image"), dir: t.TempDir()}
	err := os.WriteFile(f.image, nil, 0o600)
	if err == nil {
		err = os.Truncate(f.image, bytes)
	}
	if err == nil {
		err = command("mkfs.ext4", "-q", "-F", "-m", "0", f.image)
	}
	if err == nil {
		err = f.mount()
	}
	testenv.Need(t, "loop", err)
	t.Cleanup(func() {
		if err := command("umount", f.dir); err != nil {
			_ = command("umount", "-l", f.dir) // a test that has failed leaves the store open
			t.Error(err)
		}
	})
	return f
}

func (f *fileSystem) mount() error {
	return command("mount", "-o", "loop,errors=remount-ro", f.image, f.dir)
}

// ballast fills so many bytes, or with -1 all free space, until free is called.
func (f *fileSystem) ballast(bytes int) (free func()) {
	f.t.Helper()
	w, err := os.CreateTemp(f.dir, "ballast")
	if err != nil {
		f.t.Fatal(err)
	}
	for b := make([]byte, 1<<20); bytes != 0 && len(b) >= 512; {
		if bytes > 0 {
			b = b[:min(bytes, len(b))]
		}
		switch _, err := w.Write(b); {
		case err != nil && bytes > 0:
			f.t.Fatal(err)
		case err != nil:
			b = b[:len(b)/2]
		case bytes > 0:
			bytes -= len(b)
		}
	}
	_ = w.Sync() // what was written late may not have found a block
	_ = w.Close()
	return func() {
		if err := os.Remove(w.Name()); err != nil {
			f.t.Fatal(err)
		}
	}
}

// fail has the kernel find an error, after which it makes the file system read-only, whatever is open there.
func (f *fileSystem) fail() {
	f.t.Helper()
	out, err := exec.Command("findmnt", "-no", "SOURCE", f.dir).Output()
	if err == nil {
		err = os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(out))), "trigger_fs_error"), []byte("1"), 0)
	}
	testenv.Need(f.t, "loop", err)
}

// repair mounts it again, read and write, as one does after such an error: a copy, since other mount namespaces, such as ip-netns makes, may
// keep the one that is read-only.
func (f *fileSystem) repair() {
	f.t.Helper()
	if err := command("umount", f.dir); err != nil {
		f.t.Fatal(err)
	}
	repaired := f.image + "-repaired"
	if err := command("cp", "--sparse=always", f.image, repaired); err != nil {
		f.t.Fatal(err)
	}
	f.image = repaired
	_ = command("e2fsck", "-fy", f.image) // exit code 1 says that it has repaired something
	if err := f.mount(); err != nil {
		f.t.Fatal(err)
	}
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// said records a store's log.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

// Write records one line.
func (s *logLines) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, string(line))
	return len(line), nil
}

// count is how many lines have the words.
func (s *logLines) count(words string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lines {
		if strings.Contains(l, words) {
			n++
		}
	}
	return n
}

// once fails unless exactly one line has the words.
func (s *logLines) once(t *testing.T, words string) {
	t.Helper()
	n := s.count(words)
	s.mu.Lock()
	defer s.mu.Unlock()
	if n != 1 {
		t.Fatalf("%d lines say %q, of %d:\n%s", n, words, len(s.lines), strings.Join(s.lines[:min(len(s.lines), 20)], "\n"))
	}
}

func onFileSystem(t *testing.T, bytes int64, f func(t *testing.T, fs *fileSystem, g *rig, log *logLines)) {
	testenv.NotShort(t, "a whole file system for each engine")
	for i, engine := range EngineNames {
		for j, update := range []string{UpdateCOW, UpdateInPlace} {
			if rounds(2) <= 2 && (i+j)%2 == 1 { // make test-long has all
				continue
			}
			t.Run(engine+"/"+update, func(t *testing.T) {
				fs, log := newFileSystem(t, bytes), &logLines{}
				g := newRig(t, engine, Options{Dir: filepath.Join(fs.dir, "kv"), Update: update, Durability: DurabilityFlush, Log: slog.New(slog.NewTextHandler(log, nil))})
				f(t, fs, g, log)
				g.close()
			})
		}
	}
}

// bulk are puts of keys that follow one another, many at the same time.
type bulk struct {
	g     *rig
	acked map[string]string
}

func (b *bulk) put(from, n, bytes int) (all []*kv.Request) {
	for i := from; i < from+n; i++ {
		v := fmt.Sprintf("%d.%d.", i, bytes)
		all = append(all, &kv.Request{Op: kv.OpPut, Key: fmt.Appendf(nil, "key%06d", i), Value: []byte(v + strings.Repeat("v", bytes-len(v)))})
	}
	b.g.do(all...)
	for _, r := range all {
		if r.Status == kv.StatusOK {
			b.acked[string(r.Key)] = string(r.Value)
		}
	}
	return all
}

// check gets all that was acknowledged.
func (b *bulk) check() {
	b.g.t.Helper()
	var all []*kv.Request
	for k, v := range b.acked {
		all = append(all, &kv.Request{Op: kv.OpGet, Key: []byte(k), Value: make([]byte, 0, len(v))})
	}
	for some := range slices.Chunk(all, 256) {
		b.g.do(some...)
	}
	for _, r := range all {
		if v := b.acked[string(r.Key)]; r.Status != kv.StatusOK || string(r.Value) != v {
			b.g.t.Fatalf("get %s: %v %s, want %s", r.Key, r.Status, short(string(r.Value)), short(v))
		}
	}
}

// On a full disk a store reports that to the client, and once in the log. It loses nothing, and still executes reads, changes and deletes. Puts of new keys work again when there is room.
func TestFullFileSystem(t *testing.T) {
	onFileSystem(t, 16<<20, func(t *testing.T, fs *fileSystem, g *rig, log *logLines) {
		makeRoom := fs.ballast(4 << 20)
		b := &bulk{g, map[string]string{}}
		i, refused := 0, 0
		for ; refused < 500; i += 64 {
			for _, r := range b.put(i, 64, []int{300, 900, 2500, 20_000}[i/64%4]) {
				switch r.Status {
				case kv.StatusOK:
				case kv.StatusNoSpace:
					refused++
				default:
					t.Fatalf("put %s: %v", r.Key, r.Status)
				}
			}
		}
		log.once(t, "a slab cannot grow")
		b.check()
		if s := g.stats(); s.IOErrors != 0 {
			t.Errorf("%d transfers failed, on a disk that is full and nothing else", s.IOErrors)
		}
		fs.ballast(-1)
		g.close()
		g.open() // it can be opened with nothing to spare
		b.check()

		var deletes []*kv.Request
		for k := range b.acked {
			if deletes = append(deletes, &kv.Request{Op: kv.OpDelete, Key: []byte(k)}); len(deletes) > len(b.acked)/2 {
				break
			}
		}
		g.do(deletes...)
		for _, r := range deletes {
			if r.Status != kv.StatusOK {
				t.Fatalf("delete %s: %v", r.Key, r.Status)
			}
			delete(b.acked, string(r.Key))
		}
		for _, r := range b.put(i, 64, 300) { // into what the deletes left
			if r.Status != kv.StatusOK {
				t.Fatalf("put %s after deletes: %v", r.Key, r.Status)
			}
		}
		makeRoom()
		for _, r := range b.put(i+64, 64, 9000) {
			if r.Status != kv.StatusOK {
				t.Fatalf("put %s with room on the disk: %v", r.Key, r.Status)
			}
		}
		g.close()
		g.open()
		b.check()
		if n := int(g.stats().Items); n != len(b.acked) {
			t.Fatalf("%d items, %d were put and not deleted", n, len(b.acked))
		}
	})
}

// A store of large items that has filled its file system can be emptied, after it was opened with nothing to spare, and filled again.
func TestAFullFileSystemCanBeEmptied(t *testing.T) {
	onFileSystem(t, 24<<20, func(t *testing.T, fs *fileSystem, g *rig, log *logLines) { emptyAFullOne(t, g, fs.ballast, log) })
}

// The same in memory, where files are not extended for good.
func TestAFullTmpfsCanBeEmptied(t *testing.T) {
	for _, update := range []string{UpdateCOW, UpdateInPlace} {
		t.Run(update, func(t *testing.T) {
			fs := &fileSystem{t: t, dir: t.TempDir()}
			testenv.Need(t, "loop", command("mount", "-t", "tmpfs", "-o", "size=12m", "none", fs.dir))
			t.Cleanup(func() {
				if err := command("umount", "-l", fs.dir); err != nil {
					t.Error(err)
				}
			})
			log := &logLines{}
			g := newRig(t, EnginePool, Options{Dir: filepath.Join(fs.dir, "kv"), Update: update, Log: slog.New(slog.NewTextHandler(log, nil))})
			emptyAFullOne(t, g, fs.ballast, log)
			g.close()
		})
	}
}

func emptyAFullOne(t *testing.T, g *rig, ballast func(int) func(), log *logLines) {
	rng := rand.New(rand.NewPCG(1, 2))
	size := func(n int) func() int { return func() int { return n } }
	keys := fillUp(g, rng, "a", size(10), size(20_000))
	defer ballast(-1)()
	g.close()
	g.open()
	empty(g, keys, 100)
	again := fillUp(g, rng, "b", size(10), size(20_000))
	if len(again) < len(keys)*9/10 {
		t.Fatalf("%d items, after %d were deleted", len(again), len(keys))
	}
	empty(g, again, 1)
	if n := log.count("could not be recorded"); n > 0 {
		t.Errorf("%d times an orderly close was not recorded on the full disk", n)
	}
}

// With a limit on the size of files, only requests that need a larger file are refused. A store whose files are larger already is not opened for writing,
// because some of its writes would fail.
func TestAFileSizeLimit(t *testing.T) {
	needEngine(t, EnginePool)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	limit := func(bytes uint64) {
		t.Helper()
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: was.Max}); err != nil {
			t.Fatal(err)
		}
	}
	defer limit(was.Cur)
	for _, update := range []string{UpdateCOW, UpdateInPlace} {
		t.Run(update, func(t *testing.T) {
			defer limit(was.Cur)
			limit(3 << 20)
			log := &logLines{}
			g := newRig(t, EnginePool, Options{Update: update, Log: slog.New(slog.NewTextHandler(log, nil))})
			rng := rand.New(rand.NewPCG(1, 2))
			size := func(n int) func() int { return func() int { return n } }
			keys := fillUp(g, rng, "a", size(10), size(20_000))
			log.once(t, "ulimit -f")
			g.close()
			limit(2 << 20)
			err := g.tryOpen()
			if err == nil || !strings.Contains(err.Error(), "ulimit -f") || strings.Contains(err.Error(), "\n") {
				t.Fatalf("opened with a lower limit: %v", err)
			}
			if _, err := Inspect(g.o.Dir, nil); err != nil {
				t.Fatal("reading needs no such limit: ", err)
			}
			limit(3 << 20)
			g.open()
			empty(g, keys, 100)
			g.close()
		})
	}
}

// If the file system becomes read-only, changes return an error and reads continue. After the repair all acknowledged changes are there.
func TestFileSystemBecomesReadOnly(t *testing.T) {
	onFileSystem(t, 64<<20, func(t *testing.T, fs *fileSystem, g *rig, log *logLines) {
		b := &bulk{g, map[string]string{}}
		failed := map[string]bool{}
		for i := range 12 {
			if i == 6 {
				fs.fail()
			}
			for _, r := range b.put(i*64, 64, []int{300, 900, 2500, 20_000}[i%4]) {
				switch {
				case r.Status == kv.StatusIOError && i >= 6:
					failed[string(r.Key)] = true
				case r.Status != kv.StatusOK:
					t.Fatalf("put %s, %d rounds before the file system is read-only: %v", r.Key, 6-i, r.Status)
				}
			}
		}
		if len(failed) == 0 {
			t.Fatal("no put has failed")
		}
		log.once(t, "a write has failed")
		b.check()
		if s := g.del("key000000"); s != kv.StatusIOError {
			t.Fatalf("delete: %v", s)
		}
		g.close()
		if err := g.tryOpen(); err == nil || !strings.Contains(err.Error(), "read-only") {
			t.Fatalf("opened on a read-only file system: %v", err)
		} else if t.Log(err); strings.Contains(err.Error(), "\n") {
			t.Error("it has several lines")
		}
		fs.repair()
		g.open()
		b.check()
		for k := range failed {
			if v, s := g.get(k); s != kv.StatusNotFound && (s != kv.StatusOK || !strings.HasSuffix(v, "v")) {
				t.Fatalf("%s, whose put failed: %v %s", k, s, short(v))
			}
		}
		g.mustPut("key000000", "again")
		b.acked["key000000"] = "again"
		g.close()
		g.open()
		b.check()
	})
}
