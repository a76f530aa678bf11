package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
)

// What the column data_set says of a run's store.
const (
	dataFresh  = "fresh"  // the run loaded it
	dataReused = "reused" // it was loaded before, and the run uses it as it is
	dataCopied = "copied" // … and the run writes, to a copy
)

// dataSet is all that determines the files of a store that was loaded.
type dataSet struct {
	records                             uint64
	keyBytes, valueBytes, valueMinBytes int
	valueDist, update                   string
	seed                                uint64
	partitions                          int
	sample                              []int // lengths of values
}

// dataSet is what a run with these flags would load; ok is false where it would not, or where the user chose the folder.
func (f *factors) dataSet() (d dataSet, ok bool) {
	if f.Store.Backend != store.Disk.String() || f.sets("dir") || f.serverAt != "" || f.launch.used() || f.Load.Trace != "" {
		return d, false
	}
	return f.data()
}

// data is the records of a store with these flags; ok is false where they contradict each other.
func (f *factors) data() (d dataSet, ok bool) {
	spec, err := f.spec()
	plan, perr := f.plan()
	if err != nil || perr != nil {
		return d, false
	}
	d = dataSet{records: spec.Records, keyBytes: spec.KeyBytes, valueBytes: spec.ValueBytes, valueMinBytes: spec.ValueMinBytes, valueDist: spec.ValueDist.String(),
		update: f.Store.Update, seed: spec.Seed, partitions: plan.StoreLoops, sample: spec.SampleSizes()}
	if plan.Placement == loop.Colocated {
		d.partitions = plan.NetLoops
	}
	return d, true
}

// name is the data set's folder: the same for the same files.
func (d *dataSet) name() string {
	sizes := strconv.Itoa(d.valueBytes)
	if d.valueDist != bench.FixedSize.String() {
		sizes = fmt.Sprintf("%d-to-%d-%s", d.valueMinBytes, d.valueBytes, d.valueDist)
	}
	return fmt.Sprintf("records-%d-keys-%d-values-%s-seed-%d-partitions-%d-%s", d.records, d.keyBytes, sizes, d.seed, d.partitions, d.update)
}

// bytes is about what its files take; changed: after a run that writes.
func (d *dataSet) bytes(changed bool) int64 {
	return store.FileBytes(int64(d.records), d.keyBytes, d.sample, d.partitions, changed)
}

// load is the command that loads it into a folder.
func (d *dataSet) load(dir string) []string {
	args := []string{"load", "--dir=" + dir, fmt.Sprintf("--records=%d", d.records), fmt.Sprintf("--key-bytes=%d", d.keyBytes), fmt.Sprintf("--value-bytes=%d", d.valueBytes),
		"--value-dist=" + d.valueDist, fmt.Sprintf("--seed=%d", d.seed), fmt.Sprintf("--server-threads=%d", d.partitions), "--update=" + d.update}
	if d.valueDist != bench.FixedSize.String() {
		args = append(args, fmt.Sprintf("--value-min-bytes=%d", d.valueMinBytes))
	}
	return args
}

// writes says whether a run with these flags may change its store.
func (f *factors) writes() bool {
	m, err := bench.ParseMix(f.Load.Mix)
	return err != nil || m.Share[bench.Get]+m.Share[bench.Scan] < 1
}

// dataSets are the loaded stores of an experiment, in a folder of their own: each is loaded for the first run that needs it, in a
// process of its own, so that all runs find it alike. Processes that live at the same time have different places, and each place has a copy
// of its own. One goroutine at a time calls its methods.
type dataSets struct {
	dir    string // made for the first data set
	keep   bool   // leave it at the end
	load   func(ctx context.Context, args []string) error
	made   bool
	places map[int]string // by place: the data set of which its copy is, as it was loaded
}

// take gives the process at a place its store. The copy of a process that only read is used again. How the store came to its records is
// what data_set says.
func (s *dataSets) take(ctx context.Context, d *dataSet, writes bool, place int) (dir, how string, err error) {
	if err := s.make(); err != nil {
		return "", "", err
	}
	loaded := filepath.Join(s.dir, d.name())
	if !s.has(d.name()) {
		if err := s.fill(ctx, d, loaded); err != nil {
			return "", "", err
		}
	}
	dir = s.copy(place)
	if s.places[place] != d.name() {
		delete(s.places, place)
		if err := os.RemoveAll(dir); err != nil {
			return "", "", err
		}
		if err := store.Copy(ctx, loaded, dir); err != nil {
			if errors.Is(err, context.Canceled) {
				err = errors.New("interrupted while its data were copied: nothing was measured")
			}
			return "", "", err
		}
	}
	if s.places[place] = d.name(); writes {
		delete(s.places, place)
	}
	return dir, dataCopied, nil
}

// has says whether a data set is there, whole.
func (s *dataSets) has(name string) bool {
	_, err := os.Stat(filepath.Join(s.dir, name))
	return err == nil
}

func (s *dataSets) copy(place int) string { return filepath.Join(s.dir, fmt.Sprintf("copy-%d", place)) }

// make sees that the folder is there, and ours alone: its parent may be everybody's.
func (s *dataSets) make() error {
	if s.made {
		return nil
	}
	err := os.Mkdir(s.dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		var st os.FileInfo
		if st, err = os.Lstat(s.dir); err == nil && (!st.IsDir() || st.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid())) {
			err = fmt.Errorf("%s is there and is somebody else's (remove it)", s.dir)
		}
		if err == nil {
			err = os.Chmod(s.dir, 0o700)
		}
	}
	if err != nil {
		return fmt.Errorf("folder for the data sets: %w (choose another disk with TMPDIR)", err)
	}
	s.made, s.places = true, map[int]string{}
	if !s.keep {
		atExit(func() { _ = os.RemoveAll(s.dir) })
	}
	return s.removeCopies() // of a process that ended in the middle
}

// fill loads a data set. It is in the place of its name when it is whole, and not before.
func (s *dataSets) fill(ctx context.Context, d *dataSet, dir string) error {
	part := dir + ".part"
	err := os.RemoveAll(part)
	if err == nil {
		err = s.load(ctx, d.load(part))
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
func (s *dataSets) removeCopies() error {
	all, err := filepath.Glob(s.copy(0)[:len(s.copy(0))-1] + "*")
	for _, dir := range all {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// close removes them, unless they are to be kept.
func (s *dataSets) close() error {
	if s.keep {
		return s.removeCopies()
	}
	return os.RemoveAll(s.dir)
}
