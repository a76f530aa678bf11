package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kvwire/kvwire/internal/plural"
	"golang.org/x/sys/unix"
)

// Look describes in a few words the folder that a store on disk with these options and that many partitions would use. Its error is the reason why the
// store cannot be opened there now, for example because it is open already. It changes nothing.
func (o Options) Look(shards int) (found string, err error) {
	if err := o.check(0, shards); err != nil {
		return "", err
	}
	if err := checkFolders(o.Dir, shards); err != nil {
		return "", err
	}
	home := Home(o.Dir)
	if o.Backend == Disk && !hasManifest(home) {
		if err := checkNoStores(o.Dir); err != nil {
			return "", err
		}
		for _, folder := range Folders(o.Dir)[1:] {
			if _, err := os.Stat(folder); err == nil {
				err = writable(folder, unix.W_OK|unix.X_OK)
				if err != nil {
					return "", err
				}
			} else if err := checkCanMake(folder); err != nil {
				return "", err
			}
		}
	}
	st, err := os.Stat(home)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return "a new folder, for a new store", checkCanMake(home)
	case err != nil:
		return "", fmt.Errorf("store: look into %s: %w (check its permissions)", home, cause(err))
	case !st.IsDir():
		return "", isFolder(home)
	}
	if err := writable(home, unix.W_OK|unix.X_OK); err != nil {
		return "", err
	}
	if o.Backend == Raw {
		return o.lookRaw(shards)
	}
	m, err := readManifest(o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "a folder for a new store", checkNoStore(home)
	}
	if err == nil {
		err = m.match(o.Dir, shards)
	}
	if err == nil {
		var bound bindings
		if bound, err = m.readBindings(o.Dir); err == nil && !o.AcceptLoss {
			err = bound.loss
		}
	}
	if err != nil {
		return "", err
	}
	bytes, direct := int64(0), true
	for shard := range shards {
		n, d, err := lookFiles(o.Dir, shard)
		if err != nil {
			return "", err
		}
		bytes, direct = bytes+n, direct && d
	}
	return fmt.Sprintf("a store of %s, %d MiB in files%s", plural.Of(shards, "partition"), bytes>>20, directText(direct)), nil
}

func directText(direct bool) string {
	if direct {
		return ""
	}
	return ", without O_DIRECT"
}

// lookFiles opens a shard's files read-only, with a shared lock, and closes them. It returns their size.
func lookFiles(dir string, shard int) (bytes int64, direct bool, err error) {
	f, err := openFiles(dir, shard, true)
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	for c, name := range f.names {
		n, err := f.size(uint8(c))
		if err == nil {
			err = writable(name, unix.W_OK)
		}
		if err != nil {
			return 0, false, err
		}
		bytes += n
	}
	return bytes, f.direct, writable(f.dir, unix.W_OK|unix.X_OK)
}

func (o Options) lookRaw(shards int) (found string, err error) {
	each := o.rawShare(shards)
	for shard := range shards {
		name := rawPath(o.Dir, shard, shards)
		if toBeWritten(name, each) {
			return fmt.Sprintf("raw files of %d MiB will be written", each*int64(shards)>>20), nil
		}
		fd, err := openOwn(name, unix.O_RDONLY)
		if err != nil {
			return "", fmt.Errorf("store: open %s: %w (%s)", name, err, openRemedy(err))
		}
		if err = writable(name, unix.W_OK); err == nil && unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) != nil {
			err = errRawOpen(name)
		}
		_ = unix.Close(fd)
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("raw files of %d MiB", each*int64(shards)>>20), nil
}

// checkCanMake returns an error if a folder cannot be made.
func checkCanMake(dir string) error {
	dir = filepath.Clean(dir)
	up := filepath.Dir(dir)
	st, err := os.Stat(up)
	switch {
	case (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)) && up != dir:
		return checkCanMake(up)
	case err == nil && !st.IsDir():
		err = unix.ENOTDIR
	case err == nil:
		err = access(up, unix.W_OK|unix.X_OK)
	}
	if err != nil {
		return fmt.Errorf("store: make %s: %w (choose another folder)", dir, cause(err))
	}
	return nil
}

func writable(path string, how uint32) error {
	if err := access(path, how); err != nil {
		return fmt.Errorf("store: write to %s: %w (%s)", path, err, openRemedy(err))
	}
	return nil
}

func access(path string, how uint32) error {
	return unix.Faccessat(unix.AT_FDCWD, path, how, unix.AT_EACCESS)
}
