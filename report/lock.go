package report

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is a file in a folder of results. Its lock serialises the processes that add to the folder. The file stays: if it were removed, two processes could hold a lock at the same time.
const lockName = ".lock"

// lockMax bounds the wait for a lock. The owner writes some files, which needs milliseconds.
const lockMax = time.Minute

// Locked creates a folder if it does not exist, and calls write while it holds the folder's lock.
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

// TryLock locks a file exclusively until it is closed, without waiting. EWOULDBLOCK: another process holds the lock.
func TryLock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w (another process uses the folder, or its file system has no locks)", f.Name(), err)
		}
	}
}

// WriteFile replaces a file atomically: readers find either the old content or the new.
func WriteFile(name string, b []byte) error {
	part := fmt.Sprintf("%s.%d.new", name, os.Getpid())
	err := os.WriteFile(part, b, 0o644)
	if err == nil {
		err = os.Rename(part, name)
	}
	if err != nil {
		_ = os.Remove(part) // it may be incomplete
		return fmt.Errorf("write %s: %w", name, errors.Unwrap(err))
	}
	return nil
}
