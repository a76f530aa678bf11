package store

import (
	"cmp"
	"fmt"
	"math"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/export"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store/disk"
	"github.com/kvwire/kvwire/store/index"
)

// Open makes partition shard of shards, recovers its files, and adds it to the loop. It is called on the loop's goroutine, before the
// first turn, and blocks for the disk. An error has one line, with the remedy; an existing store is unchanged then.
func Open(l *loop.Loop, shard, shards int, o Options) (loop.Partition, error) {
	if err := o.check(shard, shards); err != nil {
		return nil, err
	}
	switch o.Backend {
	case Null:
		n := &nullPartition{l: l, shard: shard, o: o}
		var err error
		if n.table, err = o.newTable(); err == nil {
			_, err = l.Add(n)
		}
		if err != nil && n.table != nil {
			_ = n.table.Close()
		}
		return n, err
	case Mem:
		p := newPartition(l, shard, o)
		var err error
		if p.table, err = o.newTable(); err == nil {
			_, err = l.Add(p)
		}
		if err != nil {
			p.free()
		}
		return p, err
	case Raw:
		return openRaw(l, shard, shards, o)
	}
	return openDisk(l, shard, shards, o)
}

// newTable makes the table that NICs may read; nil if the options have none.
func (o *Options) newTable() (*export.Table, error) {
	if o.ExportEntries == 0 {
		return nil, nil
	}
	return export.New(o.ExportEntries, o.ExportItemBytes)
}

func openDisk(l *loop.Loop, shard, shards int, o Options) (_ *Partition, err error) {
	p := newPartition(l, shard, o)
	p.shards = shards
	var fs *osFiles
	if p.engine, err = disk.New(l, o.disk(shard, shards)); err == nil {
		err = prepare(o.Dir, shards)
	}
	if err == nil {
		fs, err = openFiles(o.Dir, shard, false)
	}
	if err == nil {
		if err = o.bind(); err != nil {
			_ = fs.close()
		}
	}
	if err != nil {
		p.free()
		return nil, err
	}
	d := disk.Disk(p.engine)
	if o.Fault != nil {
		d = disk.NewFaulty(d, l, o.Fault)
	}
	if err := p.attach(fs, d, fs.direct); err != nil {
		return nil, err
	}
	bufs := disk.Registered(p.cache.memory, p.buffers.Arena())
	p.bufferFixed = len(bufs) - 1
	if err := disk.Start(l, p.engine, p, fs.fds, bufs); err != nil {
		p.free()
		return nil, err
	}
	p.fixed, _ = p.engine.Fixed()
	if !fs.direct {
		logNoDirect(&o, shard)
	}
	if fs.openToOthers {
		o.Log.Warn("other users could open the files of this store: their permissions were removed", "shard", shard, "dir", o.Dir)
	}
	return p, nil
}

func logNoDirect(o *Options, shard int) {
	o.Log.Warn("the store is not on a disk with O_DIRECT: its figures are those of memory or of the kernel's page cache", "shard", shard, "dir", o.Dir)
}

// newPartition makes an empty partition without a disk.
func newPartition(l *loop.Loop, shard int, o Options) *Partition {
	p := &Partition{l: l, shard: shard, o: o, index: index.New(), scanTurn: scanTurn, readsMax: cmp.Or(o.ReadsMax, math.MaxInt), slabs: make([]slab, len(classes))}
	p.grows = make([]uint8, 0, len(classes))
	for c := range p.slabs {
		p.slabs[c] = newSlab(uint8(c))
	}
	p.window.lost = o.Backend == Mem // no write is ever under way
	return p
}

// attach gives a partition its disk and its memory, and recovers its files. After an error everything is released, also fs.
func (p *Partition) attach(fs files, d disk.Disk, direct bool) (err error) {
	defer func() {
		if err != nil {
			p.free()
		}
	}()
	p.files, p.direct = fs, direct
	if p.cache, err = newCache(p.o.CacheBytes); err != nil {
		return fmt.Errorf("store: page cache: %w", err)
	}
	if p.buffers, err = arena.NewPool(p.o.BufferBytes); err != nil {
		return fmt.Errorf("store: buffers for large items: %w", err)
	}
	p.io, p.transfers = disk.NewTransfers(d, p.o.DepthMax, p.o.DiskBatch), make([]transfer, p.o.DepthMax)
	for c := range p.slabs {
		p.fits = append(p.fits, nil)
		if !(place{class: uint8(c)}).large() {
			p.fits[c] = func(page uint32) int { return p.fit(uint8(c), page) }
		}
	}
	if p.table, err = p.o.newTable(); err != nil {
		return err
	}
	return p.recover()
}
