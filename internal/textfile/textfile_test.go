package textfile

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

func TestByteOrderMarksAreSkippedOrNamed(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "",
		"a":                             "a",
		"\xef\xbb\xbf":                  "",
		"\xef\xbb\xbfkey=1":             "key=1",
		"\xef\xbb\xbf\xef\xbb\xbfk":     "\xef\xbb\xbfk",
		"\xef\xbb":                      "\xef\xbb",
		"k\xef\xbb\xbf":                 "k\xef\xbb\xbf",
		"\xff\xfek\x00":                 "! UTF-16, little-endian",
		"\xfe\xff\x00k":                 "! UTF-16, big-endian",
		"\xff\xfe\x00\x00k\x00\x00\x00": "! UTF-32, little-endian",
		"\x00\x00\xfe\xff\x00\x00\x00k": "! UTF-32, big-endian",
	} {
		encoding, refused := strings.CutPrefix(want, "! ")
		check := func(how string, got []byte, err error) {
			t.Helper()
			if refused && (err == nil || !strings.Contains(err.Error(), encoding)) || !refused && (err != nil || string(got) != want) {
				t.Errorf("%s of %q: %q, %v, want %q", how, text, got, err, want)
			}
		}
		got, err := Text([]byte(text))
		check("Text", got, err)
		r, err := Reader(iotest.OneByteReader(bytes.NewReader([]byte(text))))
		if err == nil {
			got, err = io.ReadAll(r)
		}
		check("Reader", got, err)
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err = ReadFile(file, 100)
		check("ReadFile", got, err)
	}
}

func TestALargerFileIsReadToOneByteMore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFile(file, 3); err != nil || string(got) != "1234" {
		t.Errorf("%q, %v", got, err)
	}
}

// Anything but a regular file is an error at once, which names its kind. No process writes to the pipe, so a read of it would block.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	pipe, socket := filepath.Join(dir, "pipe"), filepath.Join(dir, "socket")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, want := range map[string]string{pipe: "a pipe", socket: "a socket", dir: "a folder", "/dev/zero": "a device", filepath.Join(dir, "none"): "no such file"} {
		f, err := Open(path)
		if err == nil {
			_ = f.Close()
			t.Errorf("%s was opened", path)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
