package store

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"time"

	"github.com/kvwire/kvwire/internal/textfile"
	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// Inspected is the result of Inspect for one shard.
type Inspected struct {
	Stats
	Damage   Damage        `json:"damage"`
	Stale    uint64        `json:"stale"` // free slots that hold an older copy of an item
	Duration time.Duration `json:"took_ns"`
}

// Inspect reads all slabs of the store in dir, as recovery does, and changes nothing. No process may have the store open. progress is called
// from several goroutines with the bytes of a shard that were read; it may be nil.
func Inspect(dir string, progress func(shard, shards int, done, total int64)) ([]Inspected, error) {
	if err := CheckFolders(dir); err != nil {
		return nil, err
	}
	if err := isFolder(Home(dir)); err != nil {
		return nil, err
	}
	m, err := readManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		remedy := "give the folder that --dir names"
		if _, err := readBinding(Home(dir)); err == nil || len(Folders(dir)) > 1 {
			remedy = folderRemedy
		}
		return nil, textfile.Invalid("store: %s is not a store: it has no %s (%s)", Home(dir), manifestName, remedy)
	}
	if err != nil {
		return nil, err
	}
	if err = m.match(dir, m.Shards); err != nil {
		return nil, err
	}
	_, unlock, err := lock(Home(dir), unix.LOCK_SH, openDir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	bound, err := m.readBindings(dir)
	if err = errors.Join(err, bound.loss); err != nil {
		return nil, err
	}
	all, errs := make([]Inspected, m.Shards), make([]error, m.Shards)
	var wait sync.WaitGroup
	turn := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range all {
		wait.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			o := Options{Backend: Disk, Limits: kv.Limits{MaxKeyBytes: KeyBytesMax, MaxValueBytes: ValueBytesMax}}
			if progress != nil {
				o.Progress = func(_ int, done, total int64) { progress(i, m.Shards, done, total) }
			}
			if all[i], errs[i] = inspect(dir, i, m.Shards, o); errs[i] != nil {
				errs[i] = fmt.Errorf("store: shard %d: %w", i, errs[i])
			}
		})
	}
	wait.Wait()
	return all, errors.Join(errs...)
}

func inspect(dir string, shard, shards int, o Options) (in Inspected, err error) {
	began := time.Now()
	p := newPartition(nil, shard, o)
	p.shards = shards
	defer p.free()
	fs, err := openFiles(dir, shard, true)
	if err != nil {
		return in, err
	}
	p.files, p.direct = fs, fs.direct
	v, err := p.examine()
	if err != nil {
		return in, err
	}
	in = Inspected{Stats: p.Snapshot(), Damage: v.report, Stale: v.stale, Duration: time.Since(began)}
	return in, nil
}
