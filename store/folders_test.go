package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A store in two folders has its partitions in them alternately, and is opened with the same folders in the same order only.
func TestAStoreInSeveralFoldersIsOpenedWithTheSame(t *testing.T) {
	root := t.TempDir()
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	both := a + "," + b
	if err := prepare(both, 3); err != nil {
		t.Fatal(err)
	}
	for shard, want := range []string{a, b, a} {
		f, err := openFiles(both, shard, false)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(f.dir) != want {
			t.Errorf("shard %d is in %s", shard, f.dir)
		}
		if err := f.writeAt(0, make([]byte, pageBytes), 0); err != nil { // it has data from now on
			t.Error(err)
		}
		if err := f.close(); err != nil {
			t.Error(err)
		}
	}
	if err := prepare(both, 3); err != nil {
		t.Errorf("opened again: %v", err)
	}
	if err := prepare(a+" , "+b, 3); err != nil {
		t.Errorf("with spaces around the comma: %v", err)
	}
	if err := (&Options{Dir: both}).bind(); err != nil { // it was used
		t.Fatal(err)
	}
	if err := os.Symlink(a, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(b, manifestName)); err == nil {
		t.Error("the second folder has a manifest, too")
	}
	for dir, want := range map[string]string{
		a:                             "was made in 2 folders, not 1",
		both + "," + root + "/c":      "was made in 2 folders, not 3",
		b + "," + a:                   "is not a store: it has no",
		b:                             "is not a store: it has no",
		a + "," + a:                   "is there twice",
		a + "," + root + "/link":      "is there twice",
		a + ",":                       "an empty name",
		a + ", ," + b:                 "an empty name",
		root + "/unmounted," + b:      "is one of several folders of a store (mount its disk",
		a + "," + root + "/unmounted": "is not folder 2 of the store",
		both + ",c,d":                 "4 folders for 3 partitions",
		a + "," + root + "/new," + b:  "was made in 2 folders, not 3",
	} {
		if err := prepare(dir, 3); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
	for _, name := range []string{"c", "new", "unmounted"} {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			t.Errorf("a refused open has made the folder %s", name)
		}
	}
	if err := Copy(t.Context(), a, filepath.Join(root, "copy")); err == nil {
		t.Error("a part of the store was copied")
	}
}

// A folder with a comma in its name is one folder if a store is in it, and is refused if the list names a store, too.
func TestAFolderWithACommaIsOneIfAStoreIsThere(t *testing.T) {
	root := t.TempDir()
	t.Chdir(root)
	if err := os.Mkdir("x,y", 0o700); err != nil {
		t.Fatal(err)
	}
	if got := Folders("x,y"); len(got) != 2 {
		t.Errorf("a folder without a store: %q", got)
	}
	if err := prepare("x,y", 2); err != nil {
		t.Fatal(err)
	}
	if err := prepare("one", 1); err != nil {
		t.Fatal(err)
	}
	if err := Copy(t.Context(), "one", "p,q"); err != nil {
		t.Fatal(err)
	}
	if got := Folders("p,q"); len(got) != 1 || got[0] != "p,q" {
		t.Errorf("a folder with a store: %q", got)
	}
	if err := prepare("p,q", 1); err != nil {
		t.Error(err)
	}
	if err := os.Remove("x,y"); err != nil {
		t.Fatal(err)
	}
	if err := Copy(t.Context(), "one", "x,y"); err != nil {
		t.Fatal(err)
	}
	if err := prepare("x,y", 1); err == nil || !strings.Contains(err.Error(), "names two stores") {
		t.Errorf("two stores: %v", err)
	}
	if _, err := Inspect("x,y", nil); err == nil || !strings.Contains(err.Error(), "names two stores") {
		t.Errorf("two stores: %v", err)
	}
}

// twoFolders makes a store in two folders, and opens each of its two partitions once.
func twoFolders(t *testing.T, a, b string) *Options {
	t.Helper()
	o := &Options{Dir: a + "," + b, Log: silent}
	if err := prepare(o.Dir, 2); err != nil {
		t.Fatal(err)
	}
	session(t, o)
	return o
}

// session adds to the epochs what opening a store with two partitions adds.
func session(t *testing.T, o *Options) {
	t.Helper()
	for range 2 {
		if err := o.bind(); err != nil {
			t.Fatal(err)
		}
	}
}

// A folder of another store is refused, even if the loss of data is accepted.
func TestAFolderOfAnotherStoreIsRefused(t *testing.T) {
	root := t.TempDir()
	twoFolders(t, root+"/g1", root+"/g2")
	twoFolders(t, root+"/h1", root+"/h2")
	o := &Options{Backend: Disk, Dir: root + "/g1," + root + "/h2", AcceptLoss: true, Log: silent}
	_, inspected := Inspect(o.Dir, nil)
	_, looked := o.Look(2)
	for name, err := range map[string]error{"prepare": prepare(o.Dir, 2), "bind": o.bind(), "check": inspected, "look": looked} {
		if err == nil || !strings.Contains(err.Error(), "h2 belongs to another store than") {
			t.Errorf("%s: %v", name, err)
		}
	}
	three := root + "/i," + root + "/j," + root + "/k"
	if err := prepare(three, 3); err != nil {
		t.Fatal(err)
	}
	if err := prepare(root+"/i,"+root+"/k,"+root+"/j", 3); err == nil || !strings.Contains(err.Error(), "is folder 3 of the store, not 2 (name the folders in their order") {
		t.Errorf("another order: %v", err)
	}
}

// A copy of one folder from before the store was last used is refused, unless the loss is accepted.
func TestAnOlderCopyOfOneFolderIsRefused(t *testing.T) {
	for name, old := range map[string]string{"the first": "a", "the second": "b"} {
		root := t.TempDir()
		o := twoFolders(t, root+"/a", root+"/b")
		folder := filepath.Join(root, old)
		if err := os.CopyFS(root+"/copy", os.DirFS(folder)); err != nil {
			t.Fatal(err)
		}
		session(t, o)
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(root+"/copy", folder); err != nil {
			t.Fatal(err)
		}
		_, inspected := Inspect(o.Dir, nil)
		for what, err := range map[string]error{"bind": o.bind(), "check": inspected} {
			if err == nil || !strings.Contains(err.Error(), folder+" is older than the other folders") || !strings.Contains(err.Error(), "--accept-loss") {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		o.AcceptLoss = true
		session(t, o)
		o.AcceptLoss = false
		session(t, o)
	}
}

// A damaged binding is refused, unless the loss is accepted.
func TestADamagedBindingIsRefused(t *testing.T) {
	root := t.TempDir()
	o := twoFolders(t, root+"/a", root+"/b")
	if err := os.WriteFile(filepath.Join(root, "b", bindingName), make([]byte, bindingBytes), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.bind(); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Error(err)
	}
	o.AcceptLoss = true
	session(t, o)
	o.AcceptLoss = false
	session(t, o)
}

// A crash at any point of a bind, and again at any point of the next one, leaves a store that opens.
func TestACrashBetweenTheEpochsOfTheFoldersLosesNothing(t *testing.T) {
	root := t.TempDir()
	all := []string{root + "/a", root + "/b", root + "/c"}
	o := &Options{Dir: strings.Join(all, ","), Log: silent}
	if err := prepare(o.Dir, 3); err != nil {
		t.Fatal(err)
	}
	// steps are the writes of one bind in their order: it is run whole, and the files of each step are what a crash after it leaves.
	crash := func(after int) {
		t.Helper()
		m, err := readManifest(o.Dir)
		if err != nil {
			t.Fatal(err)
		}
		v, err := m.readBindings(o.Dir)
		if err != nil || v.loss != nil {
			t.Fatal(err, v.loss)
		}
		before := v.all
		if err := o.bind(); err != nil {
			t.Fatal(err)
		}
		for i, b := range before { // first those that are lower are raised, then all
			if b.Epoch < v.epoch {
				if after--; after >= 0 {
					before[i].Epoch = v.epoch
				}
			}
		}
		for i := range before {
			if after--; after >= 0 {
				before[i].Epoch = v.epoch + 1
			}
			if err := before[i].write(all[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	for first := range 4 {
		for second := range 6 {
			crash(first)
			crash(second)
			if err := o.bind(); err != nil {
				t.Fatalf("crashes after %d and %d writes: %v", first, second, err)
			}
		}
	}
}
