package store

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"golang.org/x/sys/unix"
)

// wide names what in a folder, itself included, others may open.
func openToOthers(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		if err == nil && i.Mode().Perm()&otherBits != 0 {
			names = append(names, fmt.Sprint(path, " ", i.Mode()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Whatever the umask: a store, a copy of it and raw files are their owner's alone.
func TestAStoreIsItsOwnersAlone(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	parent := t.TempDir()
	dir, second, raw := filepath.Join(parent, "a", "kv"), filepath.Join(parent, "copy"), filepath.Join(parent, "raw")
	g := newRig(t, EnginePool, Options{Dir: dir})
	g.mustPut("k", strings.Repeat("v", 5000))
	g.close()
	if err := Copy(context.Background(), dir, second); err != nil {
		t.Fatal(err)
	}
	o := Options{Backend: Raw, Dir: raw, RawBytes: 1 << 20, Log: silent}
	f, err := openRawFile(&o, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	f.close()
	for _, dir := range []string{filepath.Join(parent, "a"), second, raw} {
		if names := openToOthers(t, dir); names != nil {
			t.Errorf("others may open %s", strings.Join(names, ", "))
		}
	}
}

// A store of an earlier version, whose files others can open, loses these permissions when it is opened, and one warning is logged. Look changes nothing.
func TestAStoreThatOthersCouldOpenIsClosedToThem(t *testing.T) {
	log := &logLines{}
	g := newRig(t, EnginePool, Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	g.mustPut("k", "v")
	g.close()
	widen := func(dir string) {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				return os.Chmod(path, 0o755)
			}
			return os.Chmod(path, 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	widen(g.o.Dir)
	before := openToOthers(t, g.o.Dir)
	if _, err := Inspect(g.o.Dir, nil); err != nil {
		t.Fatal(err)
	}
	if now := openToOthers(t, g.o.Dir); len(now) != len(before) {
		t.Fatalf("of %d only %d are open to others after a look", len(before), len(now))
	}
	for range 2 {
		g.open()
		g.want("k", "v")
		if names := openToOthers(t, g.o.Dir); names != nil {
			t.Errorf("others may open %s", strings.Join(names, ", "))
		}
		g.close()
	}
	log.once(t, "other users could open")

	raw := Options{Backend: Raw, Dir: t.TempDir(), RawBytes: 1 << 20, Log: silent}
	for range 2 {
		f, err := openRawFile(&raw, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		f.close()
		if names := openToOthers(t, raw.Dir); names != nil {
			t.Errorf("others may open %s", strings.Join(names, ", "))
		}
		widen(raw.Dir)
	}
}

// In the place of a store's file only a regular file of the store's owner, with a single name, is opened or written, and a pipe is not waited for. The error
// has one line, which names the file, its kind and the remedy.
func TestWhatIsNoFileOfTheStoreIsRefused(t *testing.T) {
	const secret = "8 bytes!"
	kinds := map[string]struct {
		put  func(name, victim string) error
		want string
		read bool // Look refuses it, too
	}{
		"symbolic link": {func(name, victim string) error { return os.Symlink(victim, name) }, "it is a symbolic link", true},
		"dangling link": {func(name, victim string) error { return os.Symlink(victim+"2", name) }, "it is a symbolic link", true},
		"pipe":          {func(name, _ string) error { return unix.Mkfifo(name, 0o600) }, "it is a pipe", true},
		"socket": {func(name, _ string) error {
			at := filepath.Join(os.TempDir(), fmt.Sprintf("kvwire-test-%d", os.Getpid())) // the address of a socket is short
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			_ = l.Close()
			defer os.Remove(at)
			if err := os.Link(at, name); err == nil {
				return nil
			}
			return os.Rename(at, name)
		}, "it is a socket", true},
		"device":      {func(name, _ string) error { return unix.Mknod(name, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) }, "it is a device", true},
		"folder":      {func(name, _ string) error { return os.Mkdir(name, 0o700) }, "it is a folder", true},
		"hard link":   {func(name, victim string) error { return os.Link(victim, name) }, "it has 2 names", false},
		"other owner": {func(name, _ string) error { return ownedBy(name, 65534) }, "it belongs to user 65534", true},
	}
	for _, place := range []string{"shard-000/slab-00000064", "shard-000/slab-00020480", "shard-000/settled", "store.json", "shard-000", "raw-000-of-001"} {
		for name, kind := range kinds {
			if place == "shard-000" && (name == "hard link" || name == "folder" || name == "other owner") {
				continue
			}
			if name == "hard link" && !strings.Contains(place, "-000/slab") && !strings.HasPrefix(place, "raw") {
				continue // small files are replaced, and not written
			}
			t.Run(place+"/"+name, func(t *testing.T) {
				if (name == "device" || name == "other owner") && os.Geteuid() != 0 {
					testenv.Need(t, "root", fmt.Errorf("only root can make one"))
				}
				dir := t.TempDir()
				raw := Options{Backend: Raw, Dir: dir, RawBytes: 1 << 20, Log: silent}
				g := &rig{t: t}
				if isRaw := strings.HasPrefix(place, "raw"); isRaw {
					f, err := openRawFile(&raw, 0, 1)
					if err != nil {
						t.Fatal(err)
					}
					f.close()
				} else {
					g = newRig(t, EnginePool, Options{Dir: dir})
					g.close()
				}
				victim, at := filepath.Join(t.TempDir(), "victim"), filepath.Join(dir, place)
				text := secret
				if b, err := os.ReadFile(at); err == nil && len(b) > 0 {
					text = string(b) // a reader cannot distinguish it from the file itself
				}
				err := os.WriteFile(victim, []byte(text), 0o600)
				if err == nil {
					err = os.RemoveAll(at)
				}
				if err == nil {
					err = kind.put(at, victim)
				}
				if err == nil && name == "other owner" {
					err = os.WriteFile(at, []byte(text), 0)
				}
				if err != nil {
					t.Fatal(err)
				}
				refused := func(what string, err error) {
					t.Helper()
					if err == nil || !strings.Contains(err.Error(), kind.want) || !strings.Contains(err.Error(), filepath.Base(place)) ||
						!strings.Contains(err.Error(), "(") || strings.Contains(err.Error(), "\n") {
						t.Errorf("%s: the error is %v, want one line with %q", what, err, kind.want)
					}
				}
				if strings.HasPrefix(place, "raw") {
					_, err := openRawFile(&raw, 0, 1)
					refused("open", err)
				} else {
					refused("open", g.tryOpen())
					if _, err := Inspect(dir, nil); kind.read {
						refused("inspect", err)
					}
				}
				if b, err := os.ReadFile(victim); err != nil || string(b) != text {
					t.Errorf("the file of somebody else was changed: %d bytes, %v", len(b), err)
				}
				if _, err := os.Stat(victim + "2"); err == nil {
					t.Error("a file was made behind the link")
				}
			})
		}
	}
}

// ownedBy makes an empty file that belongs to a user.
func ownedBy(name string, uid int) error {
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return err
	}
	return os.Chown(name, uid, uid)
}

// Making a store, or a file of one, follows no link that lies there already.
func TestMakingAStoreFollowsNoLink(t *testing.T) {
	for _, place := range []string{"shard-000", "shard-000/slab-00000064", manifestName + ".new"} {
		t.Run(place, func(t *testing.T) {
			dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
			make := os.MkdirAll(filepath.Dir(filepath.Join(dir, place)), 0o700)
			if make == nil {
				make = os.WriteFile(victim, []byte("text"), 0o600)
			}
			if make == nil {
				make = os.Symlink(victim, filepath.Join(dir, place))
			}
			if make != nil {
				t.Fatal(make)
			}
			err := prepare(dir, 1)
			if place != manifestName+".new" && err == nil { // a manifest that was not finished is made anew
				t.Error("a store was made")
			}
			if b, err := os.ReadFile(victim); err != nil || string(b) != "text" {
				t.Errorf("the file of somebody else was changed: %q, %v", b, err)
			}
		})
	}
}
