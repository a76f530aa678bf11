package store

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kvwire/kvwire/internal/plural"
	"github.com/kvwire/kvwire/internal/textfile"
	"golang.org/x/sys/unix"
)

// A store may lie in several folders, for example one on each disk: Options.Dir lists them, with commas between. Partition i lies in folder i, and where there are fewer
// folders than partitions, they take turns. The first folder has the manifest, with the number of folders and the store's ID. Each folder has a binding.

// Folders are the folders that dir lists. A folder with commas in its name is one if a store is in it.
func Folders(dir string) []string {
	if !strings.Contains(dir, ",") || hasManifest(dir) {
		return []string{dir}
	}
	all := strings.Split(dir, ",")
	for i, d := range all {
		all[i] = strings.TrimSpace(d)
	}
	return all
}

func hasManifest(folder string) bool {
	_, err := os.Lstat(filepath.Join(folder, manifestName))
	return err == nil
}

// Home is the folder with the manifest of a store whose folders dir lists.
func Home(dir string) string { return Folders(dir)[0] }

// folderOf is the folder of a shard.
func folderOf(dir string, shard int) string {
	all := Folders(dir)
	return all[shard%len(all)]
}

// CheckFolders returns an error for a list of folders that no store can have.
func CheckFolders(dir string) error { return checkFolders(dir, shardsMax) }

// checkFolders returns an error for a list of folders that a store with that many partitions cannot have.
func checkFolders(dir string, shards int) error {
	all := Folders(dir)
	if len(all) > shards {
		return textfile.Invalid("store: %s for %s: leave some out, or use more store loops", plural.Of(len(all), "folder"), plural.Of(shards, "partition"))
	}
	if first, _, list := strings.Cut(dir, ","); list && len(all) == 1 {
		if m, err := readManifest(strings.TrimSpace(first)); err == nil && m.Folders > 1 {
			return textfile.Invalid("store: %q names two stores: one in a folder of this name, and one in several folders (rename the folder with the comma)", dir)
		}
	}
	var seen []fs.FileInfo
	names := map[string]bool{}
	for _, d := range all {
		if d == "" {
			return textfile.Invalid("store: the folders %q: an empty name is between the commas, or before or after them (leave out the comma)", dir)
		}
		twice := names[filepath.Clean(d)]
		names[filepath.Clean(d)] = true
		if st, err := os.Stat(d); err == nil {
			for _, other := range seen {
				twice = twice || os.SameFile(st, other)
			}
			seen = append(seen, st)
		}
		if twice {
			return textfile.Invalid("store: the folders %q: %s is there twice (name each folder once)", dir, d)
		}
	}
	return nil
}

// A binding is a small file in each folder of a store in several folders. It has the ID of the store, so that a folder of another store is found, and the epoch, so
// that an older copy of one folder is found. Each open of a partition adds 1 to the epoch of all folders, before the partition changes anything, and waits for the disk.
//
// A crash during this leaves some folders behind the others by 1, and never by more: those behind are raised first. So a difference of 1 is accepted. A store in several
// folders has two partitions at least, so a copy from before the store was last open for use is behind by 2 or more, and refused.
//
// This does not find a copy from the time when the store was last open, nor older copies of all folders.
type binding struct {
	Store  string `json:"store"`
	Folder int    `json:"folder"` // counted from 1
	Epoch  uint64 `json:"epoch"`  // 0: the store was not opened yet
}

const (
	bindingName  = "folder.json"
	bindingBytes = 128
)

func readBinding(folder string) (b binding, err error) {
	text, err := readOwn(filepath.Join(folder, bindingName))
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	return b, err
}

func (b *binding) write(folder string) error {
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return replaceOrOverwrite(filepath.Join(folder, bindingName), fmt.Appendf(nil, "%-*s\n", bindingBytes-1, text)) // always of the same size
}

const folderRemedy = "mount its disk, and name all folders of the store in their order: --dir a,b"

// bindings are the bindings of a store's folders, the newest epoch among them, and the reason, if any, why the folders are not from the same time.
type bindings struct {
	all   []binding
	epoch uint64
	loss  error
}

// readBindings reads the bindings. An error means that a folder is not of this store. A store in one folder has none.
func (m *manifest) readBindings(dir string) (v bindings, err error) {
	all := Folders(dir)
	if len(all) == 1 {
		return v, nil
	}
	const lossRemedy = "restore all folders from the same time, or open it with what is there: kvwire serve --accept-loss"
	for i, folder := range all {
		b, err := readBinding(folder)
		var syntax *json.SyntaxError
		var kind *json.UnmarshalTypeError
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return v, textfile.Invalid("store: %s is not folder %d of the store in %s: it has no %s (%s)", folder, i+1, all[0], bindingName, folderRemedy)
		case errors.As(err, &syntax), errors.As(err, &kind):
			v.loss = fmt.Errorf("store: %s of %s is damaged, so it is not known whether the folder is of this store and from the same time (%s)", bindingName, folder, lossRemedy)
			b = binding{}
		case err != nil:
			return v, fmt.Errorf("store: read %s of %s: %w (%s)", bindingName, folder, cause(err), remedy(err, "run as the user who made it"))
		case b.Store != m.ID:
			return v, textfile.Invalid("store: %s belongs to another store than %s (%s)", folder, all[0], folderRemedy)
		case b.Folder != i+1:
			return v, textfile.Invalid("store: %s is folder %d of the store, not %d (name the folders in their order: --dir a,b)", folder, b.Folder, i+1)
		}
		v.all, v.epoch = append(v.all, b), max(v.epoch, b.Epoch)
	}
	for i, b := range v.all {
		if v.loss == nil && v.epoch-b.Epoch > 1 {
			v.loss = fmt.Errorf("store: %s is older than the other folders of the store, or a copy from an earlier time (%s)", all[i], lossRemedy)
		}
	}
	return v, nil
}

// bind adds 1 to the epoch of a store's folders. The caller has locked a shard.
func (o *Options) bind() error {
	all := Folders(o.Dir)
	if len(all) == 1 {
		return nil
	}
	_, unlock, err := lock(Home(o.Dir), unix.LOCK_EX, openDir)
	if err != nil {
		return err
	}
	defer unlock()
	m, err := readManifest(o.Dir)
	if err != nil {
		return err
	}
	v, err := m.readBindings(o.Dir)
	switch {
	case err != nil:
		return err
	case v.loss != nil && !o.AcceptLoss:
		return v.loss
	case v.loss != nil:
		o.Log.Error("the folders of the store are not from the same time, and --accept-loss is set", "reason", v.loss)
	}
	for _, epoch := range []uint64{v.epoch, v.epoch + 1} {
		for i, folder := range all {
			if v.all[i].Epoch == epoch {
				continue
			}
			v.all[i] = binding{Store: m.ID, Folder: i + 1, Epoch: epoch}
			if err := v.all[i].write(folder); err != nil {
				return fmt.Errorf("store: write %s of %s: %w (%s)", bindingName, folder, cause(err), remedy(err, "see dmesg"))
			}
		}
	}
	return nil
}

// newStoreID returns the ID of a new store in several folders.
func newStoreID() string { return rand.Text() }

// makeFolders makes the folders that do not exist. undo removes those that it has made, if they are empty.
func makeFolders(all ...string) (undo func(), err error) {
	var made []string
	undo = func() {
		for _, d := range made {
			_ = os.Remove(d)
		}
	}
	for _, folder := range all {
		if err := isFolder(folder); err != nil {
			return undo, err
		}
		var missing []string
		for d := filepath.Clean(folder); ; d = filepath.Dir(d) {
			if _, err := os.Lstat(d); !errors.Is(err, fs.ErrNotExist) {
				break
			}
			missing = append(missing, d)
		}
		made = append(missing, made...) // the innermost first
		if err := os.MkdirAll(folder, dirMode); err != nil {
			return undo, fmt.Errorf("store: make %s: %w (%s)", folder, cause(err), remedy(err, "choose another folder"))
		}
	}
	return undo, nil
}
