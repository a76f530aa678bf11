package fleet

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A file that Go's poller waits for has deadlines, and one whose thread waits in the kernel has none.
func TestNoThreadWaitsForAPipeOfCommands(t *testing.T) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd[1])
	shared := os.NewFile(uintptr(fd[0]), "orders")
	defer shared.Close()
	f := polled(shared)
	defer f.Close()
	if flags, err := unix.FcntlInt(uintptr(fd[0]), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags of the shared file: %#x, %v", flags, err)
	}
	if err := f.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
}

func TestAFileOfCommandsStaysAsItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "orders")
	if err := os.WriteFile(path, []byte("park\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if polled(f) != f {
		t.Error("it is another file")
	}
}

// Standard input and output may be one socket, and output has to wait for its reader.
func TestASocketOfCommandsStaysAsItIs(t *testing.T) {
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd[1])
	f := os.NewFile(uintptr(fd[0]), "orders")
	defer f.Close()
	if polled(f) != f {
		t.Error("it is another file")
	}
	if flags, err := unix.FcntlInt(uintptr(fd[0]), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags: %#x, %v", flags, err)
	}
}
