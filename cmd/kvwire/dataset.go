package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/lab"
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
	if f.Store.Backend != store.Disk.String() || f.sets("dir") || f.serverAt != "" || f.launch.Used() || f.Load.Trace != "" {
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

// How fast data are loaded, opened and copied, about.
const (
	// Loading: records of 64 B, from the 6 runs there that load 50,000 of them; and what the disk takes in pages
	// (docs/results/2026-11-21-store, Loading).
	loadedPerSec   = 135_000
	loadBytesPerS  = 400 << 20
	writeBytesPerS = 1200 << 20
)

// dataCosts are what the data of a cell with these flags cost.
func (f *factors) dataCosts() (c lab.Data) {
	if f.Load.Trace != "" {
		c.Long = f.warning
	}
	d, ok := f.data()
	at := func(bytes, perS int64) time.Duration {
		return time.Duration(float64(bytes) / float64(perS) * float64(time.Second))
	}
	load := max(at(int64(d.records), loadedPerSec), at(d.bytes(false), loadBytesPerS))
	_, shared := f.dataSet()
	switch {
	case !ok:
	case f.Store.Backend == store.Raw.String() && f.sets("dir"):
		c.Dir, c.Name, c.Bytes = f.Store.Dir, fmt.Sprintf("raw for %d", d.partitions), int64(f.Store.RawBytes) // a file for each
		c.Load = at(c.Bytes, writeBytesPerS)
	case f.Store.Backend == store.Raw.String():
		c.Extra = int64(f.Store.RawBytes)
	case f.Store.Backend == store.Disk.String() && f.sets("dir"):
		c.Dir, c.Name, c.Bytes, c.Load = f.Store.Dir, "store", d.bytes(f.writes()), load
	case shared:
		c.Name, c.Bytes, c.Load, c.Extra = d.name(), d.bytes(false), load, d.bytes(f.writes())
	}
	return c
}
