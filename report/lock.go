package report

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is the file whose lock keeps processes apart that add to one folder. It stays: removing it would let two in.
const lockName = ".lock"

// lockMax bounds the wait for a lock. Whoever has it writes some files, which takes milliseconds.
const lockMax = time.Minute

// Locked makes a folder, where there is none, and calls write while no other process is in Locked for the same folder.
func Locked(dir string, write func() error) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("folder for the results: %w (name another one)", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("folder for the results: %w (name another one)", err)
	}
	defer f.Close() // and the lock goes
	for deadline := time.Now().Add(lockMax); ; time.Sleep(5 * time.Millisecond) {
		err := TryLock(f)
		if err == nil {
			return write()
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return err
		}
	}
}

// TryLock locks a file for this process alone, until it is closed. EWOULDBLOCK: another process has it.
func TryLock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w (another process is at it, or the file system has no locks)", f.Name(), err)
		}
	}
}

// WriteFile writes a file whole or not at all: readers find the one before or this one.
func WriteFile(name string, b []byte) error {
	part := fmt.Sprintf("%s.%d.new", name, os.Getpid())
	err := os.WriteFile(part, b, 0o644)
	if err == nil {
		err = os.Rename(part, name)
	}
	if err != nil {
		_ = os.Remove(part) // what there is of it
	}
	return err
}
