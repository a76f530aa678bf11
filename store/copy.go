package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kvwire/kvwire/internal/arena"
	"golang.org/x/sys/unix"
)

// Copy makes a store in the folder to, which must not exist, that is the one in from, byte for byte, while nobody has that one open.
// It writes past the page cache where it can and waits for the disk, so that nothing is left to be written when somebody
// measures the copy. What the first store has preallocated and never written is so in the copy. Extents are not shared
// (FICLONE): each first write of a page would make the file system find it a new place, and would be measured. They may be fewer
// and longer than the first one's, which grew with its load. Space and time that were spent are given back on an error,
// ctx's among them.
func Copy(ctx context.Context, from, to string) (err error) {
	m, err := readManifest(from)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, dirMode); err != nil {
		return fmt.Errorf("store: copy %s to %s: %w (choose a folder that does not exist)", from, to, cause(err))
	}
	memory, err := arena.New(copyPieceBytes)
	if err == nil {
		for shard := 0; err == nil && shard < m.Shards; shard++ {
			err = copyShard(ctx, from, to, shard, memory.Bytes()[:copyPieceBytes])
		}
		err = errors.Join(err, memory.Close())
	}
	if err == nil {
		err = copyFile(filepath.Join(from, manifestName), filepath.Join(to, manifestName)) // last, as create does
	}
	if err != nil {
		_ = os.RemoveAll(to)
		return fmt.Errorf("store: copy %s to %s: %w", from, to, copyRemedy(err))
	}
	return nil
}

// copyPieceBytes is what is copied at once: 1 MiB is where a disk's sequential speed begins.
const copyPieceBytes = 1 << 20

func copyRemedy(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w (free some space, or choose a folder on another disk)", err)
	}
	var other *notOwn
	if errors.As(err, &other) {
		return fmt.Errorf("%w (%s)", err, other.remedy)
	}
	return err
}

func copyShard(ctx context.Context, from, to string, shard int, buf []byte) error {
	_, unlock, err := lock(shardDir(from, shard), unix.LOCK_SH|unix.LOCK_NB, func(name string) (int, error) { return openOwnDir(name, false) })
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Mkdir(shardDir(to, shard), dirMode); err != nil {
		return err
	}
	for c := range classes {
		if err := copySlab(ctx, slabPath(from, shard, uint8(c)), slabPath(to, shard, uint8(c)), buf); err != nil {
			return err
		}
	}
	for _, name := range []string{accountName, markName} { // a shard that nobody has opened has neither
		err := copyFile(filepath.Join(shardDir(from, shard), name), filepath.Join(shardDir(to, shard), name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// copyFile copies a file of any size.
func copyFile(from, to string) error {
	fd, err := openOwn(from, unix.O_RDONLY)
	if err != nil {
		return &os.PathError{Op: "open", Path: from, Err: err}
	}
	in := os.NewFile(uintptr(fd), from)
	defer in.Close()
	return replaceBy(to, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
}

func copySlab(ctx context.Context, from, to string, buf []byte) (err error) {
	if err := createEmpty(to); err != nil {
		return err
	}
	in, _, err := openDirect(from, unix.O_RDONLY)
	if err != nil {
		return &os.PathError{Op: "open", Path: from, Err: err}
	}
	defer unix.Close(in)
	var st unix.Stat_t
	if err := unix.Fstat(in, &st); err != nil || st.Size == 0 {
		return err
	}
	out, _, err := openDirect(to, unix.O_RDWR)
	if err != nil {
		return &os.PathError{Op: "open", Path: to, Err: err}
	}
	defer func() { err = errors.Join(err, unix.Close(out)) }()
	if err := reserve(out, st.Size); err != nil {
		return &os.PathError{Op: "reserve", Path: to, Err: err}
	}
	for at := int64(0); at < st.Size; {
		begin, end := written(in, at, st.Size)
		for off := begin; off < end; off += int64(len(buf)) {
			if err := ctx.Err(); err != nil {
				return err
			}
			piece := buf[:min(int64(len(buf)), end-off)]
			if err := whole(unix.Pread, in, piece, off); err != nil {
				return &os.PathError{Op: "read", Path: from, Err: err}
			}
			if err := whole(unix.Pwrite, out, piece, off); err != nil {
				return &os.PathError{Op: "write", Path: to, Err: err}
			}
		}
		at = end
	}
	return unix.Fsync(out)
}

// reserve gives a file its size and its space, or its size alone where the file system cannot preallocate.
func reserve(fd int, size int64) error {
	for {
		switch err := unix.Fallocate(fd, 0, 0, size); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP):
			return unix.Ftruncate(fd, size)
		default:
			return err
		}
	}
}

// written is the next part of a file from at on that was ever written, in whole pages; an empty one at the end, where there is none.
// Where the file system does not know, all of it was.
func written(fd int, at, size int64) (begin, end int64) {
	begin, err := unix.Seek(fd, at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size
	}
	if err != nil {
		return at, size
	}
	if end, err = unix.Seek(fd, begin, unix.SEEK_HOLE); err != nil {
		end = size
	}
	return begin / pageBytes * pageBytes, min(int64(roundUp(int(end), pageBytes)), size)
}
