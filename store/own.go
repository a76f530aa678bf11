package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kvwire/kvwire/internal/textfile"
	"golang.org/x/sys/unix"
)

// Only their owner can open the folders and files of a store: they hold data, and whoever can open one can lock it, so that the next start fails.
const (
	dirMode   = 0o700
	fileMode  = 0o600
	otherBits = 0o077
)

// notOwnError is the reason why a file or folder is not used as part of a store.
type notOwnError struct{ what, remedy string }

func (e *notOwnError) Error() string { return e.what }

// openOwn opens a file of a store. It follows no symbolic link and does not block on a pipe. It refuses a file that is not regular, that belongs to another
// user, or that is opened for writing and has a second name (a hard link), because the other name would change, too.
func openOwn(name string, flags int) (fd int, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return -1, err
	}
	writes := flags&unix.O_ACCMODE != unix.O_RDONLY
	if err := checkOwn(name, &st, unix.S_IFREG, writes); err != nil {
		return -1, err
	}
	if fd, err = unix.Open(name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
		return -1, err
	}
	if err = unix.Fstat(fd, &st); err == nil {
		err = checkOwn(name, &st, unix.S_IFREG, writes) // the file may have been replaced since the first check
	}
	if err == nil { // reads and writes must be allowed to block
		if flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err == nil {
			_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags&^unix.O_NONBLOCK)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// checkOwn returns an error unless a file has the given type and belongs to the user of this process, to the owner of its folder, or to root.
func checkOwn(name string, st *unix.Stat_t, kind uint32, writes bool) error {
	if is := st.Mode & unix.S_IFMT; is != kind {
		todo := "remove it, and restore the store from a backup"
		if is == unix.S_IFLNK {
			todo = "put what it points to in its place: no link is followed inside a store"
		}
		return &notOwnError{"it is " + textfile.Kind(is), todo}
	}
	var folder unix.Stat_t
	if err := unix.Stat(filepath.Dir(name), &folder); err != nil {
		return err
	}
	if me := uint32(os.Geteuid()); st.Uid != folder.Uid && st.Uid != me && st.Uid != 0 {
		return &notOwnError{fmt.Sprintf("it belongs to user %d, its folder to user %d, and this process to user %d", st.Uid, folder.Uid, me), "remove it, or change its owner if it is of this store: chown"}
	}
	if writes && kind == unix.S_IFREG && st.Nlink > 1 {
		return &notOwnError{fmt.Sprintf("it has %d names (hard links), which would all change with it", st.Nlink), "replace it by a copy: cp -p --remove-destination, or remove the others: find -samefile"}
	}
	return nil
}

// openOwnDir opens a folder inside a store. For writing, the process must run as the owner of the folder or as root.
func openOwnDir(name string, writes bool) (fd int, err error) {
	if fd, err = unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		var st unix.Stat_t
		if unix.Lstat(name, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			err = checkOwn(name, &st, unix.S_IFDIR, writes)
		}
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = checkOwn(name, &st, unix.S_IFDIR, writes)
	}
	if me := uint32(os.Geteuid()); err == nil && writes && me != 0 && st.Uid != me {
		err = &notOwnError{fmt.Sprintf("it belongs to user %d, and this process to user %d", st.Uid, me), "run as the user who made it"}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// readOwn reads a small file of a store.
func readOwn(name string) ([]byte, error) {
	fd, err := openOwn(name, unix.O_RDONLY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, smallFileBytes+1))
	if err == nil && len(b) > smallFileBytes {
		err = fmt.Errorf("%s has more than %d bytes", name, smallFileBytes)
	}
	return b, err
}

const smallFileBytes = 1 << 16

// createOwn creates a new file with permissions for its owner only. A file that root creates in another user's folder belongs to the owner of the folder.
func createOwn(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode) // O_EXCL follows no link
	if err != nil {
		return nil, err
	}
	var folder unix.Stat_t
	if err = unix.Stat(filepath.Dir(name), &folder); err == nil && os.Geteuid() == 0 && folder.Uid != 0 {
		err = f.Chown(int(folder.Uid), int(folder.Gid))
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(name)
		return nil, err
	}
	return f, nil
}

// createEmpty makes an empty file. One that is there, as an interrupted create leaves it, will do.
func createEmpty(name string) error {
	f, err := createOwn(name)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	fd, err := openOwn(name, unix.O_RDWR)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	return unix.Close(fd)
}

// makePrivate removes the permissions of other users from an open file or folder, as earlier versions have left it, and reports whether there were any. It
// does nothing to files of another owner, unless it runs as root.
func makePrivate(fd int) (was bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	if me := uint32(os.Geteuid()); st.Mode&otherBits == 0 || me != 0 && st.Uid != me {
		return false, nil
	}
	return true, unix.Fchmod(fd, st.Mode&0o7777&^otherBits)
}

// makeFolderPrivate is makePrivate for the folder that --dir names.
func makeFolderPrivate(dir string) error {
	fd, err := openDir(dir)
	if err != nil {
		return err
	}
	_, err = makePrivate(fd)
	return errors.Join(err, unix.Close(fd))
}
