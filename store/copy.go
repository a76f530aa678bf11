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

// Copy copies the store in the folder from, byte for byte, to the folder to, which must not exist. No process may have the store open.
// It writes with O_DIRECT where possible and waits for the disk, so that no write-back is left when the copy is measured. Space that was
// preallocated and never written is the same in the copy. Extents are not shared (FICLONE): the file system would relocate each page at
// its first write, and that would be measured. The copy may have fewer and longer extents than the original, which grew with its
// load. After an error, also of ctx, the copy is removed.
func Copy(ctx context.Context, from, to string) (err error) {
	m, err := readManifest(from)
	if err == nil {
		err = m.match(from, m.Shards) // a store in several folders is not copied
	}
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

// copyPieceBytes is the size of one read or write: a disk reaches its sequential speed with 1 MiB.
const copyPieceBytes = 1 << 20

func copyRemedy(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w (free some space, or choose a folder on another disk)", err)
	}
	var other *notOwnError
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
	to = filepath.Join(to, filepath.Base(shardDir(from, shard))) // not shardDir: a comma in the name of a folder without a manifest would divide it
	if err := os.Mkdir(to, dirMode); err != nil {
		return err
	}
	for c := range classes {
		name := slabPath(from, shard, uint8(c))
		if err := copySlab(ctx, name, filepath.Join(to, filepath.Base(name)), buf); err != nil {
			return err
		}
	}
	for _, name := range []string{accountName, stateName} { // a shard that was never opened has neither
		err := copyFile(filepath.Join(shardDir(from, shard), name), filepath.Join(to, name))
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
	if err := preallocate(out, st.Size); err != nil {
		return &os.PathError{Op: "reserve", Path: to, Err: err}
	}
	for at := int64(0); at < st.Size; {
		begin, end := nextWritten(in, at, st.Size)
		for off := begin; off < end; off += int64(len(buf)) {
			if err := ctx.Err(); err != nil {
				return err
			}
			piece := buf[:min(int64(len(buf)), end-off)]
			if err := transferAll(unix.Pread, in, piece, off); err != nil {
				return &os.PathError{Op: "read", Path: from, Err: err}
			}
			if err := transferAll(unix.Pwrite, out, piece, off); err != nil {
				return &os.PathError{Op: "write", Path: to, Err: err}
			}
		}
		at = end
	}
	return unix.Fsync(out)
}

// preallocate sets a file's size and allocates its space. If the file system cannot preallocate, it sets only the size.
func preallocate(fd int, size int64) error {
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

// nextWritten returns the next part of a file, from at on, that was ever written, in whole pages; an empty part at the end: none.
// If the file system cannot report holes, it returns the whole rest.
func nextWritten(fd int, at, size int64) (begin, end int64) {
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
