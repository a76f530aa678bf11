package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/kvwire/kvwire/internal/arena"
	"golang.org/x/sys/unix"
)

// Direct is the result of a trial of O_DIRECT in a folder.
type Direct struct {
	FileSystem string // ext4, tmpfs, …; as hex when it is an unusual one
	FreeBytes  uint64
	Refused    bool // the file system answers O_DIRECT with EINVAL, on open or on the first write
}

var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
	unix.RAMFS_MAGIC: "ramfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", unix.F2FS_SUPER_MAGIC: "f2fs",
	unix.FUSE_SUPER_MAGIC: "fuse", 0x2fc12fc1: "zfs", unix.V9FS_MAGIC: "9p",
}

// tryDirect writes one aligned page to a temporary file in dir, which it removes.
func tryDirect(dir string) (Direct, error) {
	var d Direct
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return d, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	name, ok := fileSystems[int64(st.Type)]
	if !ok {
		name = fmt.Sprintf("file system %#x", st.Type)
	}
	d.FileSystem, d.FreeBytes = name, st.Bavail*uint64(st.Bsize)

	f, err := os.CreateTemp(dir, ".kvwire-probe-*")
	if err != nil {
		return d, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	fd, err := unix.Open(f.Name(), unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EINVAL) {
		d.Refused = true
		return d, nil
	}
	if err != nil {
		return d, &fs.PathError{Op: "open with O_DIRECT", Path: f.Name(), Err: err}
	}
	defer unix.Close(fd)
	mem, err := arena.New(arena.PageBytes)
	if err != nil {
		return d, err
	}
	defer mem.Close()
	if _, err = unix.Pwrite(fd, mem.Bytes()[:arena.PageBytes], 0); errors.Is(err, unix.EINVAL) {
		d.Refused = true
		return d, nil
	}
	if err != nil {
		return d, &fs.PathError{Op: "write with O_DIRECT", Path: f.Name(), Err: err}
	}
	return d, nil
}

// DirectIO reports whether files in dir bypass the page cache.
func DirectIO(h *Host, dir string) Finding {
	f, _ := directIO(h, dir)
	return f
}

// directIO also reports whether dir can have a store: it can without direct IO.
func directIO(h *Host, dir string) (f Finding, usable bool) {
	f.Name = NameDirect
	d, err := h.Direct(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.State, f.Why, f.Remedy = Unavailable, "no folder "+dir, "mkdir -p "+dir+", or --dir with another one"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		f.State, f.Why, f.Remedy = Unavailable, dir+" cannot be written to", "--dir with a folder of your own"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		f.State, f.Why, f.Remedy = Unavailable, "no space left in "+dir, "free some, or --dir on another disk"
	case err != nil:
		f.Why = err.Error()
	case d.FileSystem == "tmpfs" || d.FileSystem == "ramfs":
		// tmpfs accepts O_DIRECT since Linux 6.6, but is not a disk.
		f.State, usable = Unavailable, true
		f.Why = fmt.Sprintf("%s is %s: memory, not a disk; the store runs, and its disk figures say nothing", dir, d.FileSystem)
		f.Remedy = "--dir on a disk (ext4, xfs)"
	case d.Refused:
		f.State, usable = Unavailable, true
		f.Why = fmt.Sprintf("refused by %s (%s): the store uses the page cache instead (column direct_io)", dir, d.FileSystem)
		f.Remedy = "--dir on ext4 or xfs"
	default:
		f.State, usable = Available, true
		f.Why = fmt.Sprintf("%s (%s, %s free)", dir, d.FileSystem, size(d.FreeBytes))
	}
	return f, usable
}
