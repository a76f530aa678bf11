package main

import (
	"fmt"
	"time"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/store"
)

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
	if f.trace != "" {
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
	case f.backend == store.Raw.String() && f.sets("dir"):
		c.Dir, c.Name, c.Bytes = f.dir, fmt.Sprintf("raw for %d", d.partitions), int64(f.rawBytes) // a file for each
		c.Load = at(c.Bytes, writeBytesPerS)
	case f.backend == store.Raw.String():
		c.Extra = int64(f.rawBytes)
	case f.backend == store.Disk.String() && f.sets("dir"):
		c.Dir, c.Name, c.Bytes, c.Load = f.dir, "store", d.bytes(f.writes()), load
	case shared:
		c.Name, c.Bytes, c.Load, c.Extra = d.name(), d.bytes(false), load, d.bytes(f.writes())
	}
	return c
}

// planner is a lab.Runner that only plans.
func planner(x *experiment.Experiment, settings lab.Settings, at string) *lab.Runner {
	return results.New("", x, lab.Plan{Settings: settings}, resultsReader()).Runner(&processes{x: x, serverAt: at})
}
