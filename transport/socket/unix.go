package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unixScheme is the beginning of a unix socket's address: unix:PATH.
const unixScheme = "unix:"

// unixPathMax is the longest path of a unix socket, in bytes: sun_path has room for 108, the last of which is 0 (unix(7)).
const unixPathMax = 107

// UnixPath returns the path in the address of a unix socket, unix:PATH; ok is false for any other address.
func UnixPath(addr string) (path string, ok bool) { return strings.CutPrefix(addr, unixScheme) }

// CheckUnixPath returns an error for a path that no unix socket can have.
func CheckUnixPath(path string) error {
	switch {
	case path == "":
		return errors.New("the path is empty: unix:PATH, such as unix:/run/kvwire/sock")
	case path[0] == '@':
		return errors.New("abstract sockets are not supported, since no file's mode protects them: name a path (./@ for a file whose name begins with @)")
	case strings.HasSuffix(path, "/"):
		return errors.New("it names a folder: name a socket in it")
	case strings.ContainsRune(path, 0):
		return errors.New("a path has no byte 0")
	case len(path) > unixPathMax:
		return fmt.Errorf("the path has %d bytes, and a socket's path at most %d: choose a shorter one, or one relative to the current folder", len(path), unixPathMax)
	}
	return nil
}

// IsUnix reports whether a socket is a unix socket, by one system call.
func IsUnix(fd int) bool {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && family == unix.AF_UNIX
}

// File is the file of a listening unix socket that this process made.
type File struct {
	path     string
	dev, ino uint64
}

// Remove removes the file, unless another file has replaced it. The caller calls it before it closes the listener: until then no other
// server can mistake the file for that of a dead server and replace it.
func (f *File) Remove() error {
	if st, err := statSocket(f.path); err != nil || uint64(st.Dev) != f.dev || st.Ino != f.ino {
		return nil // it is gone, or another server's
	}
	if err := unix.Unlink(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the socket file %s: %w", f.path, err)
	}
	return nil
}

// listenUnix binds a unix socket for accept, non-blocking. Its file has mode 0600 from the first moment on: the kernel makes the file
// with the mode of the socket, which is set before, less the umask. The file of a server that has ended is replaced. The caller owns the descriptor.
func listenUnix(path string) (fd int, file *File, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("listen on %s%s: %w", unixScheme, path, err)
		}
	}()
	if err := CheckUnixPath(path); err != nil {
		return -1, nil, err
	}
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return -1, nil, err
	}
	defer unlock()
	stale, err := occupied(path)
	if err != nil {
		return -1, nil, err
	}
	if stale {
		if err := unix.Unlink(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return -1, nil, fmt.Errorf("remove the file of a server that has ended: %w (remove it, or choose another path)", err)
		}
	}
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, nil, err
	}
	made := false
	defer func() {
		if err != nil {
			if made {
				_ = unix.Unlink(path)
			}
			_ = unix.Close(fd)
			fd = -1
		}
	}()
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return fd, nil, fmt.Errorf("set the mode of the socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return fd, nil, fmt.Errorf("%w (is it a path in a folder that you may write?)", err)
	}
	made = true
	if err := unix.Listen(fd, unixBacklog); err != nil {
		return fd, nil, err
	}
	st, err := statSocket(path)
	if err != nil {
		return fd, nil, err
	}
	return fd, &File{path, uint64(st.Dev), st.Ino}, nil
}

// unixBacklog is the most connections that may wait for accept; the kernel lowers it to net.core.somaxconn.
const unixBacklog = 4096

// CheckUnix returns an error if no server could listen on a path now. It changes nothing.
func CheckUnix(path string) error {
	err := CheckUnixPath(path)
	if err == nil {
		_, err = occupied(path)
	}
	if err == nil {
		err = unix.Access(filepath.Dir(path), unix.W_OK|unix.X_OK)
	}
	if err != nil {
		return fmt.Errorf("listen on %s%s: %w", unixScheme, path, err)
	}
	return nil
}

// occupied checks the path of a socket. stale: there is a file, and its server has ended. err: the path must not be replaced. Neither: there is no file.
func occupied(path string) (stale bool, err error) {
	st, err := statSocket(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return false, fmt.Errorf("%w (make the folder first)", err)
		}
		return false, nil
	case err != nil:
		return false, err
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return false, fmt.Errorf("%w: the path is not a socket, and is not replaced (choose another path)", unix.EEXIST)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); {
	case errors.Is(err, unix.ECONNREFUSED): // no process listens
		return true, nil
	case errors.Is(err, fs.ErrNotExist): // it was removed meanwhile
		return false, nil
	case errors.Is(err, fs.ErrPermission):
		return false, fmt.Errorf("no permission to use the socket: %w (choose another path)", err)
	}
	return false, fmt.Errorf("%w (another server has the socket: stop it, or choose another path)", unix.EADDRINUSE) // connected, its queue is full (EAGAIN), or it is of another type (EPROTOTYPE)
}

// statSocket is lstat, because a symbolic link is not a socket.
func statSocket(path string) (st unix.Stat_t, err error) {
	err = unix.Lstat(path, &st)
	return st, err
}

// lockMax is the longest wait for the lock of a folder, which other starting servers may hold.
const lockMax = 2 * time.Second

// lockFolder prevents other servers from making or replacing a socket in a folder until unlock. Without it, two servers could find the same
// file of a dead server, and the second would remove the file that the first has just made. It creates no file.
func lockFolder(dir string) (unlock func(), err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the folder %s: %w (it must exist, and you must have permission to read it)", dir, err)
	}
	for end := time.Now().Add(lockMax); ; time.Sleep(time.Millisecond) { // no event announces when it is free
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = unix.Close(fd) }, nil
		}
		if again := errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR); !again || time.Now().After(end) {
			_ = unix.Close(fd)
			return nil, fmt.Errorf("lock the folder %s: %w (another program has it locked, or its file system has no locks: choose another folder)", dir, err)
		}
	}
}
