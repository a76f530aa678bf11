package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/kvwire/kvwire/internal/exit"
)

// Values of the column data_set: how a run's store got its records.
const (
	DataFresh  = "fresh"  // the run loaded it
	DataReused = "reused" // it was loaded before, and the run uses it as it is
	DataCopied = "copied" // it is a copy of a store that was loaded before
)

// DataSets holds the loaded stores of an experiment, in one folder. Each is loaded when the first run needs it, by a separate process, so
// that all runs start from the same files. Processes that live at the same time have different places, and each place has its own copy.
// One goroutine at a time may call its methods.
type DataSets struct {
	Dir  string                                           // made for the first data set
	Keep bool                                             // leave it at the end
	Copy func(ctx context.Context, from, to string) error // copies a store's files

	made   bool
	places map[int]string // by place: the name of the data set whose unchanged copy is there
}

// Made reports whether a data set was needed so far.
func (s *DataSets) Made() bool { return s.made }

// Place returns the folder with the store for the process at a place: a copy of the data set of that name. It calls load to make the data set, if there is none
// yet. The copy of an earlier process that did not write is used again.
func (s *DataSets) Place(ctx context.Context, name string, load func(ctx context.Context, dir string) error, writes bool, place int) (dir string, err error) {
	if err := s.make(); err != nil {
		return "", err
	}
	loaded := filepath.Join(s.Dir, name)
	if _, err := os.Stat(loaded); err != nil {
		if err := s.fill(ctx, load, loaded); err != nil {
			return "", err
		}
	}
	dir = s.copyDir(place)
	if s.places[place] != name {
		delete(s.places, place)
		if err := os.RemoveAll(dir); err != nil {
			return "", err
		}
		if err := s.Copy(ctx, loaded, dir); err != nil {
			if errors.Is(err, context.Canceled) {
				err = errors.New("interrupted while its data were copied: nothing was measured")
			}
			return "", err
		}
	}
	if s.places[place] = name; writes {
		delete(s.places, place)
	}
	return dir, nil
}

func (s *DataSets) copyDir(place int) string {
	return filepath.Join(s.Dir, fmt.Sprintf("copy-%d", place))
}

// make makes the folder, and checks that no other user has access to it: its parent may be a folder for all users.
func (s *DataSets) make() error {
	if s.made {
		return nil
	}
	err := os.Mkdir(s.Dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		var st os.FileInfo
		if st, err = os.Lstat(s.Dir); err == nil && (!st.IsDir() || st.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid())) {
			err = fmt.Errorf("%s exists, but is not a folder that only this user can open (remove it)", s.Dir)
		}
		if err == nil {
			err = os.Chmod(s.Dir, 0o700)
		}
	}
	if err != nil {
		return fmt.Errorf("folder for the data sets: %w (choose another disk with TMPDIR)", err)
	}
	s.made, s.places = true, map[int]string{}
	if !s.Keep {
		exit.OnAbort(func() { _ = os.RemoveAll(s.Dir) })
	}
	return s.removeCopies() // left by a process that was interrupted
}

// fill loads a data set. The folder gets its final name only when the data set is complete.
func (s *DataSets) fill(ctx context.Context, load func(ctx context.Context, dir string) error, dir string) error {
	part := dir + ".part"
	err := os.RemoveAll(part)
	if err == nil {
		err = load(ctx, part)
	}
	if err == nil {
		err = os.Rename(part, dir)
	}
	if err == nil {
		return nil
	}
	_ = os.RemoveAll(part)
	if ctx.Err() != nil {
		return errors.New("interrupted while loading: nothing was measured")
	}
	return fmt.Errorf("load the data set: %w", err)
}

// removeCopies removes the copies of all places.
func (s *DataSets) removeCopies() error {
	all, err := filepath.Glob(filepath.Join(s.Dir, "copy-*"))
	for _, dir := range all {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// Close removes the copies, and the data sets unless they are to be kept.
func (s *DataSets) Close() error {
	if s.Keep {
		return s.removeCopies()
	}
	return os.RemoveAll(s.Dir)
}
