// Package textfile owns the reading of text files that users name: experiments, property files, traces, secrets and
// certificates. It opens regular files only, so that no command waits for a pipe, and removes byte order marks. It
// may not import other packages of kvwire.
package textfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// invalid is an error of Invalid.
type invalid struct{ text string }

func (e *invalid) Error() string { return e.text }

// Is implements the interface of errors.Is.
func (e *invalid) Is(target error) bool { return target == fs.ErrInvalid }

// Invalid returns an error, formatted as by fmt.Sprintf, for a file or folder that is not what its name was given for. errors.Is finds fs.ErrInvalid.
func Invalid(format string, args ...any) error { return &invalid{fmt.Sprintf(format, args...)} }

// Open opens a regular file for reading. For a folder, a pipe, a socket or a device it returns an error at once, without waiting. The caller closes the file.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // with this flag a pipe without a writer opens, too
	if errors.Is(err, unix.ENXIO) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: Invalid("it is a socket or a device, not a file")}
	}
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: Invalid("it is %s, not a file", KindOf(st))}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Kind is the type of a file in error messages, by its st_mode: "a folder". The store's files use the same words.
func Kind(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a file"
	case unix.S_IFDIR:
		return "a folder"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFIFO:
		return "a pipe"
	case unix.S_IFSOCK:
		return "a socket"
	}
	return "a device"
}

// KindOf is Kind of what os.Stat or os.Lstat returned.
func KindOf(st fs.FileInfo) string { return Kind(st.Sys().(*syscall.Stat_t).Mode) }

// ReadFile returns the text of a file without its byte order mark. Of a text longer than max bytes it returns the first max+1 bytes.
func ReadFile(path string, max int) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := Reader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return io.ReadAll(io.LimitReader(r, int64(max)+1))
}

// marks are the byte order marks of refused encodings, longest first, because the mark of UTF-16 is a prefix of the mark of UTF-32.
var marks = []struct{ mark, encoding string }{
	{"\xff\xfe\x00\x00", "UTF-32, little-endian"},
	{"\x00\x00\xfe\xff", "UTF-32, big-endian"},
	{"\xff\xfe", "UTF-16, little-endian"},
	{"\xfe\xff", "UTF-16, big-endian"},
}

const utf8Mark = "\xef\xbb\xbf"

// Text removes the byte order mark of UTF-8 from the beginning of a text. The mark of another encoding is an error that names the encoding.
func Text(text []byte) ([]byte, error) {
	for _, m := range marks {
		if bytes.HasPrefix(text, []byte(m.mark)) {
			return nil, fmt.Errorf("the file has the byte order mark of %s: save it as UTF-8", m.encoding)
		}
	}
	return bytes.TrimPrefix(text, []byte(utf8Mark)), nil
}

// Reader is Text for a reader.
func Reader(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	begin, err := b.Peek(len("\xff\xfe\x00\x00"))
	if err != nil && err != io.EOF {
		return nil, err
	}
	rest, err := Text(begin)
	if err != nil {
		return nil, err
	}
	_, err = b.Discard(len(begin) - len(rest))
	return b, err
}
