package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// pseudoTerminal is a pseudo terminal of a width: the end that a program writes to, and the one that shows it.
func pseudoTerminal(t *testing.T, columns uint16) (program, shown *os.File) {
	t.Helper()
	shown, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { _ = shown.Close() })
	fd := int(shown.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns})
	}
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return program, shown
}

func TestARunOnATerminalShowsItsSteps(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "small.yaml")
	if err := os.WriteFile(file, []byte("name: small\ntransport: [inproc, tcp]\nbackend: null\nwarmup: 10ms\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const columns = 90
	program, shown := pseudoTerminal(t, columns)
	cmd := asKvwire(context.Background(), "run", file, "--generations", "1", "--slice", "20ms", "--time", "500ms", "--output-dir", filepath.Join(dir, "out"))
	cmd.Stderr = program
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	_ = program.Close() // reading ends with the last process that has it
	watchdog := time.AfterFunc(patience, func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
	defer watchdog.Stop()
	var written []byte
	for buf := make([]byte, 4096); ; {
		n, err := shown.Read(buf)
		written = append(written, buf[:n]...)
		if err != nil { // EIO
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %q", err, written)
	}
	lines := strings.Split(string(written), "\r\n") // those that stay
	if last := lines[0][strings.LastIndex(lines[0], "\r")+1:]; len(lines) != 2 || !strings.HasPrefix(last, "[1/1]: inproc ") || strings.Trim(lines[1], "\r\033[K") != "" {
		t.Errorf("what stays is not one line: %q", written)
	}
	if !bytes.Contains(written, []byte(": round 1 of ")) {
		t.Errorf("the step under way was not shown: %q", written)
	}
	for _, part := range strings.FieldsFunc(strings.ReplaceAll(string(written), "\033[K", ""), func(r rune) bool { return r == '\r' || r == '\n' }) {
		if utf8.RuneCountInString(part) >= columns {
			t.Errorf("a line that wraps: %q", part)
		}
	}
}
