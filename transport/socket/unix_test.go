package socket

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// shortDir is a folder with a path short enough for sockets, which is removed with the test.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kvsock-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// abandoned leaves the file of a server that has ended without removing it.
func abandoned(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
}

func TestASocketFileIsItsOwnersAloneWhateverTheUmask(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	for _, mask := range []int{0, 0o022, 0o077} {
		was := unix.Umask(mask)
		fd, file, err := listenUnix(path)
		unix.Umask(was)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := os.Lstat(path); err != nil || st.Mode() != os.ModeSocket|0o600 {
			t.Errorf("umask %03o: %v, %v; want a socket with mode 0600", mask, st.Mode(), err)
		}
		if err := file.Remove(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after the end there is still a file: %v", err)
		}
		_ = unix.Close(fd)
	}
}

func TestOnlyADeadServersFileIsReplaced(t *testing.T) {
	for name, c := range map[string]struct {
		put  func(t *testing.T, path string)
		says string // "": it is replaced
		errs error
	}{
		"nothing":               {func(*testing.T, string) {}, "", nil},
		"a dead server's file":  {abandoned, "", nil},
		"a file":                {func(t *testing.T, path string) { _ = os.WriteFile(path, []byte("mine"), 0o600) }, "is not a socket, and is not replaced", syscall.EEXIST},
		"a folder":              {func(t *testing.T, path string) { _ = os.Mkdir(path, 0o700) }, "is not a socket, and is not replaced", syscall.EEXIST},
		"a link to a dead one":  {func(t *testing.T, path string) { abandoned(t, path+"2"); _ = os.Symlink(path+"2", path) }, "is not a socket, and is not replaced", syscall.EEXIST},
		"a link to nothing":     {func(t *testing.T, path string) { _ = os.Symlink(path+"2", path) }, "is not a socket, and is not replaced", syscall.EEXIST},
		"a pipe":                {func(t *testing.T, path string) { _ = unix.Mkfifo(path, 0o600) }, "is not a socket, and is not replaced", syscall.EEXIST},
		"a live server":         {func(t *testing.T, path string) { live(t, "unix", path) }, "another server has the socket", syscall.EADDRINUSE},
		"a socket of packets":   {func(t *testing.T, path string) { live(t, "unixpacket", path) }, "another server has the socket", syscall.EADDRINUSE},
		"a folder that is gone": {func(t *testing.T, path string) { _ = os.Remove(filepath.Dir(path)) }, "it must exist", syscall.ENOENT},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(shortDir(t), "s")
			c.put(t, path)
			before, _ := os.Lstat(path)
			checked := CheckUnix(path)
			after, _ := os.Lstat(path)
			if (checked == nil) != (c.says == "") || c.errs != nil && !errors.Is(checked, c.errs) {
				t.Errorf("a check says %v", checked)
			}
			if (before == nil) != (after == nil) || before != nil && !os.SameFile(before, after) {
				t.Error("a check changed what is there")
			}
			fd, _, err := listenUnix(path)
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				defer unix.Close(fd)
				nc, err := net.Dial("unix", path)
				if err != nil {
					t.Fatal(err)
				}
				_ = nc.Close()
				return
			}
			if err == nil || !errors.Is(err, c.errs) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v, want one line with %q", err, c.says)
			}
			if after, _ = os.Lstat(path); before != nil && !os.SameFile(before, after) {
				t.Error("what was there is gone")
			}
		})
	}
}

// live listens on a path until the test ends.
func live(t *testing.T, network, path string) {
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
}

func TestInvalidSocketPathsAreRefused(t *testing.T) {
	for path, says := range map[string]string{
		"": "the path is empty", "@abstract": "abstract sockets are not supported", "folder/": "names a folder", "a\x00b": "no byte 0",
		strings.Repeat("x", unixPathMax+1): "has 108 bytes, and a socket's path at most 107",
	} {
		if err := CheckUnixPath(path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.20q: %v, want %q", path, err, says)
		}
	}
	dir := shortDir(t)
	longest := dir + "/" + strings.Repeat("x", unixPathMax-len(dir)-1)
	fd, file, err := listenUnix(longest)
	if err != nil {
		t.Fatalf("a path of %d bytes: %v", len(longest), err)
	}
	defer unix.Close(fd)
	nc, err := Options{}.Dial(t.Context(), unixScheme+longest)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.Close()
	_ = file.Remove()
}

// If servers that find the file of a dead server start at the same time, one gets the path, and clients reach it.
func TestServersThatStartTogetherDoNotShareASocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	for range 50 {
		abandoned(t, path)
		var fds [8]int
		var have atomic.Int32
		var all sync.WaitGroup
		begin := make(chan struct{})
		for i := range fds {
			all.Go(func() {
				<-begin
				fd, _, err := listenUnix(path)
				if fds[i] = fd; err == nil {
					have.Add(1)
				} else if !errors.Is(err, syscall.EADDRINUSE) {
					t.Error(err)
				}
			})
		}
		close(begin)
		all.Wait()
		if n := have.Load(); n != 1 {
			t.Errorf("%d servers on one path", n)
		}
		nc, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.Close()
		for _, fd := range fds {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
		}
		_ = os.Remove(path)
	}
}

// A server that ends removes its own file, and no other's.
func TestAServersEndLeavesOthersFiles(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	fd, file, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	live(t, "unix", path)
	if err := file.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other's file: %v", err)
	}
}

// The log names the process behind a unix socket.
func TestThePeerOfAUnixSocketIsAProcess(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	fd, _, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	at, sa, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(at)
	if name, want := PeerName(at, sa), "unix socket, pid "; !strings.HasPrefix(name, want) || !strings.HasSuffix(name, ", uid "+strconv.Itoa(os.Getuid())) {
		t.Errorf("%q, want %q and this user", name, want)
	}
	if !IsUnix(at) {
		t.Error("it is no unix socket")
	}
}
