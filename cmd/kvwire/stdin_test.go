package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A file that Go's poller waits for has deadlines, and one whose thread waits in the kernel has none.
func TestNoThreadWaitsForAPipeOfOrders(t *testing.T) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd[1])
	f := polled(os.NewFile(uintptr(fd[0]), "orders"))
	defer f.Close()
	if err := f.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
}

func TestAFileOfOrdersStaysAsItIs(t *testing.T) {
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
