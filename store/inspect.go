package store

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"time"

	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// Inspected is what a look at one shard of a store on disk has found.
type Inspected struct {
	Stats
	Damage Damage        `json:"damage"`
	Stale  uint64        `json:"stale"` // free slots that hold an older copy of an item
	Took   time.Duration `json:"took_ns"`
}

// Inspect reads all slabs of the store in dir, as opening it does, and changes nothing; nobody may have it open. progress
// hears, from several goroutines, how much of a shard has been read; nil: nobody does.
func Inspect(dir string, progress func(shard, shards int, done, total int64)) ([]Inspected, error) {
	if err := isFolder(dir); err != nil {
		return nil, err
	}
	m, err := readManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("store: %s is not a store: it has no %s (give the folder that --dir names)", dir, manifestName)
	}
	if err != nil {
		return nil, err
	}
	_, unlock, err := lock(dir, unix.LOCK_SH, openDir)
	if err != nil {
		return nil, err
	}
	defer unlock()
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
	in = Inspected{Stats: p.Snapshot(), Damage: v.report, Stale: v.stale, Took: time.Since(began)}
	return in, nil
}
