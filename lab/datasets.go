package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// DataSets are the loaded stores of an experiment, in a folder of their own. Each is loaded for the first run that needs it, in a
// process of its own, so that all runs find it alike. Processes that live at the same time have different places, and each place has a copy
// of its own. One goroutine at a time calls its methods.
type DataSets struct {
	Dir    string                                           // made for the first data set
	Keep   bool                                             // leave it at the end
	Copy   func(ctx context.Context, from, to string) error // copies the files of a store
	AtExit func(remove func())                              // has remove called if the program ends before Close

	made   bool
	places map[int]string // by place: the data set of which its copy is, as it was loaded
}

// Made reports whether there has been a data set.
func (s *DataSets) Made() bool { return s.made }

// Place returns the folder with the store of the process at a place: a copy of the data set of that name. load loads the data set into a folder, if it is not
// there. The copy of a process that only read is used again.
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

// make sees that the folder is there, and ours alone: its parent may be everybody's.
func (s *DataSets) make() error {
	if s.made {
		return nil
	}
	err := os.Mkdir(s.Dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		var st os.FileInfo
		if st, err = os.Lstat(s.Dir); err == nil && (!st.IsDir() || st.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid())) {
			err = fmt.Errorf("%s is there and is somebody else's (remove it)", s.Dir)
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
		s.AtExit(func() { _ = os.RemoveAll(s.Dir) })
	}
	return s.removeCopies() // of a process that ended in the middle
}

// fill loads a data set. It is in the place of its name when it is whole, and not before.
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
