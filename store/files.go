package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kvwire/kvwire/internal/plural"
	"github.com/kvwire/kvwire/internal/textfile"
	"golang.org/x/sys/unix"
)

// A store's folder:
//
//	store.json              the manifest; written last when a store is made
//	folder.json             in each folder of a store in several: the binding (folders.go)
//	shard-000/slab-NNNNNNNN one file per class, by the size of its slots in bytes
//	shard-000/settled       the sequence number up to which all changes were on disk when the shard was last opened
//	                        or closed in order; if one of these is broken, the reason is no crash
//	shard-000/pages         a sum of each page at that time (account.go); a page with another sum was lost
//
// The folder of an open shard is locked (flock). So are its slabs, until the last write to them has ended.
const (
	manifestName  = "store.json"
	formatVersion = 2
	stateName     = "settled"
	shardsMax     = 4096
)

// manifest has the properties of a store that never change.
type manifest struct {
	Format    int `json:"format"`
	Shards    int `json:"shards"`
	PageBytes int `json:"page_bytes"`
	Folders   int `json:"folders,omitempty"` // 0: one

	ID string `json:"id,omitempty"` // of a store in several folders: see binding
}

// files is the storage of a shard's slabs, one file per class, for opening, recovery and closing. Every call
// blocks.
type files interface {
	size(class uint8) (int64, error)
	readAt(class uint8, b []byte, off int64) error // fills all of b, whole pages
	writeAt(class uint8, b []byte, off int64) error
	extend(class uint8, size int64) error // sets the file's length: for file systems that cannot preallocate, or to cut off the bytes after size
	sync() error                          // makes all writes durable
	readState() (shardState, error)       // returns the state that writeState stored last
	writeState(m shardState) error        // stores a state durably and atomically
	openAccount() (io.ReadCloser, error)  // returns the account that writeAccount stored last; nil: none
	writeAccount(write func(io.Writer) error) error
	close() error
}

func shardDir(dir string, shard int) string {
	return filepath.Join(folderOf(dir, shard), fmt.Sprintf("shard-%03d", shard))
}

func slabPath(dir string, shard int, class uint8) string {
	return filepath.Join(shardDir(dir, shard), fmt.Sprintf("slab-%08d", classes[class].bytes))
}

// isFolder returns an error if the path exists and is not a folder.
func isFolder(dir string) error {
	if st, err := os.Stat(dir); err == nil && !st.IsDir() {
		return fmt.Errorf("store: open %s: %w, but %s (choose another folder)", dir, unix.ENOTDIR, textfile.KindOf(st))
	}
	return nil
}

// prepare makes a store in dir if there is none. Otherwise it checks that the store has that many shards. Several shards and several
// processes may call it at the same time.
func prepare(dir string, shards int) error {
	if err := checkFolders(dir, shards); err != nil {
		return err
	}
	if !hasManifest(Home(dir)) { // a new store, unless a part of it is missing: no folder is made then
		if err := checkNoStores(dir); err != nil && !hasManifest(Home(dir)) { // another shard may have made it meanwhile
			return err
		}
	}
	undo, err := makeFolders(Home(dir))
	if err != nil {
		undo()
		return err
	}
	_, unlock, err := lock(Home(dir), unix.LOCK_EX, openDir)
	if err != nil {
		return err
	}
	defer unlock()
	m, err := readManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = create(dir, shards); err != nil {
			undo()
		}
		return err
	}
	if err == nil {
		err = m.match(dir, shards)
	}
	if err == nil {
		_, err = m.readBindings(dir)
	}
	return err
}

// match checks that a store has that many partitions.
func (m *manifest) match(dir string, shards int) error {
	if m.Shards != shards {
		return textfile.Invalid("store: %s was made with %s, not %d (open it with %s, or load the data anew in another folder)", dir, plural.Of(m.Shards, "partition"), shards, plural.Of(m.Shards, "store loop"))
	}
	if made, given := max(1, m.Folders), len(Folders(dir)); made != given {
		return textfile.Invalid("store: %s was made in %d folders, not %d (name all of them, in their order: --dir a,b)", dir, made, given)
	}
	return nil
}

// readManifest returns the description of a folder's store, if this program can read it. fs.ErrNotExist: there is no store.
func readManifest(dir string) (m manifest, err error) {
	b, err := readOwn(filepath.Join(Home(dir), manifestName))
	if err != nil {
		return m, fmt.Errorf("store: read %s of %s: %w (%s)", manifestName, dir, cause(err), remedy(err, "run as the user who made it"))
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("store: %s of %s is damaged: %v (restore it from a backup, or choose another folder)", manifestName, dir, err)
	}
	switch {
	case m.Format != formatVersion:
		return m, fmt.Errorf("store: %s has format %d, this program reads %d (use the version that made it, or load the data anew)", dir, m.Format, formatVersion)
	case m.PageBytes != pageBytes:
		return m, fmt.Errorf("store: %s has pages of %d bytes, this program uses %d (load the data anew)", dir, m.PageBytes, pageBytes)
	case m.Shards < 1 || m.Shards > shardsMax:
		return m, fmt.Errorf("store: %s of %s has %d partitions, which no store has: it is damaged (restore it from a backup, or choose another folder)", manifestName, dir, m.Shards)
	case m.Folders > 1 && m.ID == "":
		return m, fmt.Errorf("store: %s of %s has no ID, as an early version left it (load the data anew)", manifestName, dir)
	}
	return m, nil
}

// create makes an empty store, with the manifest last: a folder without one is not a store.
func create(dir string, shards int) error {
	if err := checkNoStores(dir); err != nil {
		return err
	}
	all := Folders(dir)
	undo, err := makeFolders(all[1:]...)
	if err != nil {
		undo()
		return err
	}
	made := func() error {
		for i := range shards {
			if err := makeShardDir(shardDir(dir, i)); err != nil {
				return err
			}
			for c := range classes {
				if err := createEmpty(slabPath(dir, i, uint8(c))); err != nil {
					return err
				}
			}
			if err := syncPath(shardDir(dir, i)); err != nil {
				return err
			}
		}
		m := manifest{Format: formatVersion, Shards: shards, PageBytes: pageBytes}
		if len(all) > 1 {
			m.Folders, m.ID = len(all), newStoreID()
			for i, folder := range all {
				b := binding{Store: m.ID, Folder: i + 1}
				if err := b.write(folder); err != nil {
					return err
				}
			}
		}
		for _, folder := range all[1:] {
			if err := makeFolderPrivate(folder); err != nil {
				return err
			}
			if err := syncPath(folder); err != nil {
				return err
			}
			if err := syncPath(filepath.Dir(filepath.Clean(folder))); err != nil {
				return err
			}
		}
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if err := replace(filepath.Join(Home(dir), manifestName), append(b, '\n')); err != nil {
			return err
		}
		return syncPath(filepath.Dir(filepath.Clean(Home(dir))))
	}
	if err := made(); err != nil {
		return fmt.Errorf("store: make a store in %s: %w (%s)", dir, cause(err), remedy(err, "check permissions and free space"))
	}
	return nil
}

// makeShardDir creates a shard's folder. It accepts an existing folder, as an interrupted create leaves it.
func makeShardDir(name string) error {
	if err := os.Mkdir(name, dirMode); !errors.Is(err, fs.ErrExist) {
		return err
	}
	fd, err := openOwnDir(name, true)
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return unix.Close(fd)
}

// checkNoStores returns an error if one of the folders for a new store has other contents.
func checkNoStores(dir string) error {
	for _, folder := range Folders(dir) {
		if _, err := os.Stat(folder); err != nil {
			continue // making it returns the reason, if it is not merely missing
		}
		if err := isFolder(folder); err != nil {
			return err
		}
		if err := checkNoStore(folder); err != nil {
			return err
		}
	}
	return nil
}

// checkNoStore returns an error if a folder without a store has other contents.
func checkNoStore(dir string) error {
	if name, err := foreignName(dir); err != nil {
		return fmt.Errorf("store: look into %s: %w (%s)", dir, cause(err), remedy(err, "check its permissions"))
	} else if name == bindingName {
		return textfile.Invalid("store: %s is not a store: it has no %s, but is one of several folders of a store (%s)", dir, manifestName, folderRemedy)
	} else if name != "" {
		return textfile.Invalid("store: %s is not a store: it has no %s, but %s (choose an empty or new folder)", dir, manifestName, name)
	}
	return nil
}

// foreignName returns the name of a file in the folder that no store makes, or of a slab with data; "" if there are only the remains of an
// interrupted create.
func foreignName(dir string) (name string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		switch base := d.Name(); {
		case base == "lost+found":
			return fs.SkipDir
		case d.IsDir() && strings.HasPrefix(base, "shard-"), base == manifestName+".new", base == bindingName+".new":
			return nil
		case base == bindingName:
			if b, err := readBinding(filepath.Dir(path)); err == nil && b.Epoch == 0 {
				return nil
			}
		case strings.HasPrefix(base, "slab-"):
			if i, err := d.Info(); err != nil || i.Size() == 0 {
				return err
			}
		}
		name = d.Name()
		return fs.SkipAll
	})
	return name, err
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return finishFile(f, nil)
}

// cause returns the error inside a PathError, for messages that name the path themselves.
func cause(err error) error {
	var p *fs.PathError
	var other *notOwnError // its path is inside the one that the message names
	if errors.As(err, &p) && !errors.As(err, &other) {
		return p.Err
	}
	return err
}

// openDir opens a store's folder. The path may be a symbolic link.
func openDir(dir string) (fd int, err error) {
	return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// lock locks a folder, opened by open. If another process holds the lock, it returns an error: at once with LOCK_NB, else after lockWaitMax. fd is open until unlock.
func lock(dir string, how int, open func(string) (int, error)) (fd int, unlock func(), err error) {
	if fd, err = open(dir); err != nil {
		return -1, nil, fmt.Errorf("store: open %s: %w (%s)", dir, err, remedy(err, "it must be a folder that you may read"))
	}
	if how&unix.LOCK_NB == 0 {
		err = lockSlab(fd, how)
	} else {
		for err = unix.EINTR; errors.Is(err, unix.EINTR); {
			err = unix.Flock(fd, how)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return -1, nil, fmt.Errorf("store: %s is open already (stop the process that has it: fuser -v %s)", dir, dir)
		}
		return -1, nil, fmt.Errorf("store: lock %s: %w", dir, err)
	}
	return fd, func() { _ = unix.Close(fd) }, nil
}

// osFiles are the slabs of one shard on a file system.
type osFiles struct {
	fds          []int // by class
	names        []string
	direct       bool // all are open with O_DIRECT, on a file system that has a disk
	openToOthers bool // other users could open files, or the shard's folder, until this open
	dir          string
	unlock       func()
}

var _ files = (*osFiles)(nil)

// openFiles locks a shard's folder and opens its files. look: read-only, with a shared lock.
func openFiles(dir string, shard int, look bool) (*osFiles, error) {
	how, flags := unix.LOCK_EX, unix.O_RDWR
	if look {
		how, flags = unix.LOCK_SH, unix.O_RDONLY
	}
	sub := shardDir(dir, shard)
	folder, unlock, err := lock(sub, how|unix.LOCK_NB, func(name string) (int, error) { return openOwnDir(name, !look) })
	if err != nil {
		return nil, err
	}
	f := &osFiles{dir: sub, unlock: unlock, direct: !inMemory(sub)}
	for c := range classes {
		name := slabPath(dir, shard, uint8(c))
		fd, direct, err := openDirect(name, flags)
		if err != nil {
			_ = f.close()
			return nil, fmt.Errorf("store: open %s: %w (%s)", name, err, openRemedy(err))
		}
		f.fds = append(f.fds, fd)
		f.names = append(f.names, name)
		f.direct = f.direct && direct
		if err := lockSlab(fd, how); err != nil {
			_ = f.close()
			return nil, fmt.Errorf("store: lock %s: %w", name, err)
		}
	}
	if !look {
		if err = f.makePrivate(dir, folder); err == nil {
			err = f.withinLimit()
		}
	}
	if err != nil {
		_ = f.close()
		return nil, err
	}
	return f, nil
}

// makePrivate removes the permissions of other users from the files, whatever version created them.
func (f *osFiles) makePrivate(dir string, folder int) error {
	err := makeFolderPrivate(Home(dir)) // the user may have made this folder: it does not count for openToOthers
	fds := append([]int{folder}, f.fds...)
	for _, name := range []string{filepath.Join(Home(dir), manifestName), filepath.Join(f.dir, accountName)} {
		fd, e := openOwn(name, unix.O_RDONLY)
		switch {
		case e == nil:
			defer unix.Close(fd)
			fds = append(fds, fd)
		case !errors.Is(e, fs.ErrNotExist): // a shard that was not closed yet has no account
			err = errors.Join(err, e)
		}
	}
	for _, fd := range fds {
		was, e := makePrivate(fd)
		f.openToOthers = f.openToOthers || was
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("store: remove other users' permissions from %s: %w (%s)", dir, err, remedy(err, "run as the user who made it, or chmod -R go= "+dir))
	}
	return nil
}

// withinLimit returns an error if a slab is larger than the files that this process may write: some writes would fail.
func (f *osFiles) withinLimit() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return fmt.Errorf("store: read the limit on the size of files (RLIMIT_FSIZE): %w", err)
	}
	for c, name := range f.names {
		n, err := f.size(uint8(c))
		if err == nil && uint64(n) > limit.Cur {
			err = fmt.Errorf("store: %s has %d bytes, and this process may write files of up to %d (raise ulimit -f)", name, n, limit.Cur)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lockSlab locks a slab's file. If the folder could be locked and the file cannot, it waits: a killed process has writes under way.
// io_uring ends these after the process has ended (io_ring_exit_work). The folder's lock is gone then, but each write keeps its file open, and so
// locked. Without the wait such a write could overwrite newer data after recovery has read the slabs.
func lockSlab(fd, how int) error {
	end := time.Now().Add(lockWaitMax)
	for {
		err := unix.Flock(fd, how|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EWOULDBLOCK):
			return err
		case time.Now().After(end):
			return fmt.Errorf("another process, or writes of a process that has ended, have used it for %v (look for a disk that hangs: dmesg)", lockWaitMax)
		default:
			time.Sleep(time.Millisecond) // the kernel has no event for this
		}
	}
}

const lockWaitMax = 30 * time.Second

// readState returns the state in which the shard was left.
func (f *osFiles) readState() (shardState, error) {
	b, err := readOwn(filepath.Join(f.dir, stateName))
	if errors.Is(err, fs.ErrNotExist) {
		return shardState{}, nil
	}
	if err != nil {
		return shardState{}, fmt.Errorf("read %s of %s: %w (%s)", stateName, f.dir, cause(err), remedy(err, "run as the user who made it"))
	}
	return parseState(b), nil
}

func (f *osFiles) writeState(m shardState) error {
	if err := replaceOrOverwrite(filepath.Join(f.dir, stateName), m.encode()); err != nil {
		return fmt.Errorf("write %s of %s: %w (%s)", stateName, f.dir, cause(err), remedy(err, "see dmesg"))
	}
	return nil
}

// replaceOrOverwrite replaces a file, or overwrites one of the same size if there is no space: a store on a full disk must open, to be deleted from.
func replaceOrOverwrite(name string, b []byte) error {
	err := replace(name, b)
	if noSpace(err) {
		_ = os.Remove(name + ".new")
		err = overwrite(name, b)
	}
	return err
}

// overwrite overwrites the beginning of an existing file, which needs no space. The checksum detects an interrupted write.
func overwrite(name string, b []byte) error {
	fd, err := openOwn(name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	w := os.NewFile(uintptr(fd), name)
	_, err = w.WriteAt(b, 0)
	return finishFile(w, err)
}

// finishFile syncs and closes a file, and returns the first error.
func finishFile(w *os.File, err error) error {
	if err == nil {
		err = w.Sync()
	}
	if closed := w.Close(); err == nil {
		err = closed
	}
	return err
}

// replace replaces a file atomically.
func replace(name string, b []byte) error {
	return replaceBy(name, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// replaceBy is replace with a function that writes the contents.
func replaceBy(name string, write func(w io.Writer) error) error {
	if err := os.Remove(name + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w, err := createOwn(name + ".new")
	if err != nil {
		return err
	}
	if err = finishFile(w, write(w)); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	return syncPath(filepath.Dir(name))
}

// inMemory reports whether a folder's file system has no disk. Since Linux 6.6 tmpfs accepts O_DIRECT, but still copies from its page
// cache.
func inMemory(dir string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return err == nil && (st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC)
}

// openDirect opens a file with O_DIRECT, or without it if the file system refuses it.
func openDirect(name string, flags int) (fd int, direct bool, err error) {
	fd, err = openOwn(name, flags|unix.O_DIRECT)
	if errors.Is(err, unix.EINVAL) {
		fd, err = openOwn(name, flags)
		return fd, false, err
	}
	return fd, true, err
}

func openRemedy(err error) string {
	switch {
	case errors.Is(err, unix.ENOENT):
		return "a part of the store is missing: restore it from a backup, or load the data anew"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "run as the user who made it"
	}
	return remedy(err, "see kvwire doctor")
}

// remedy returns the remedy for an error of a limit or of the file system, and otherwise for any other error.
func remedy(err error, otherwise string) string {
	var other *notOwnError
	switch {
	case errors.As(err, &other):
		return other.remedy
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return "raise ulimit -n"
	case errors.Is(err, unix.EROFS):
		return "mount the file system read and write, or choose another folder"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "free some space, or choose another folder"
	}
	return otherwise
}

// spaceRemedy returns the remedy for a write that found no space, and otherwise for any other error.
func spaceRemedy(err error, otherwise string) string {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return "free some space"
	case errors.Is(err, unix.EDQUOT):
		return "raise the quota, or free some space"
	case errors.Is(err, unix.EFBIG):
		return "raise ulimit -f"
	}
	return otherwise
}

func (f *osFiles) size(class uint8) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fds[class], &st); err != nil {
		return 0, fmt.Errorf("size of %s: %w", f.names[class], err)
	}
	return st.Size, nil
}

func (f *osFiles) readAt(class uint8, b []byte, off int64) error {
	return f.transferAll("read", class, b, off, unix.Pread)
}

func (f *osFiles) writeAt(class uint8, b []byte, off int64) error {
	return f.transferAll("write", class, b, off, unix.Pwrite)
}

func (f *osFiles) transferAll(what string, class uint8, b []byte, off int64, call func(int, []byte, int64) (int, error)) error {
	if err := transferAll(call, f.fds[class], b, off); err != nil {
		return fmt.Errorf("%s %d bytes of %s at %d: %w", what, len(b), f.names[class], off, err)
	}
	return nil
}

// transferAll reads or writes all of b, whole pages, at off.
func transferAll(call func(int, []byte, int64) (int, error), fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := call(fd, b, off)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n < pageBytes {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		n -= n % pageBytes
		b, off = b[n:], off+int64(n)
	}
	return nil
}

func (f *osFiles) extend(class uint8, size int64) error {
	return unix.Ftruncate(f.fds[class], size)
}

func (f *osFiles) sync() error {
	for c, fd := range f.fds {
		if err := unix.Fdatasync(fd); err != nil {
			return fmt.Errorf("sync %s: %w", f.names[c], err)
		}
	}
	return nil
}

func (f *osFiles) close() error {
	var first error
	for _, fd := range f.fds {
		if err := unix.Close(fd); err != nil && first == nil {
			first = err
		}
	}
	f.fds = nil
	f.unlock()
	return first
}
