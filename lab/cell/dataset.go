package cell

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"strconv"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/store"
)

// DataSet is all that determines the files of a store that was loaded.
type DataSet struct {
	records                             uint64
	keyBytes, valueBytes, valueMinBytes int
	valueDist, valueSizes, update       string
	seed                                uint64
	partitions                          int
	sample                              []int // lengths of values
}

// DataSet is what a run with these settings loads; false: it loads nothing, or the user chose the folder.
func (f *Settings) DataSet() (d DataSet, ok bool) {
	if f.Store.Backend != store.Disk.String() || f.Given("dir") || f.ServerAt != "" || f.Launch.Used() || f.Load.Trace != "" {
		return d, false
	}
	return f.data()
}

// data is the records of a store with these settings; false: they contradict each other.
func (f *Settings) data() (d DataSet, ok bool) {
	spec, err := f.Spec()
	plan, perr := f.Plan()
	if err != nil || perr != nil {
		return d, false
	}
	d = DataSet{records: spec.Records, keyBytes: spec.KeyBytes, valueBytes: spec.ValueBytes, valueMinBytes: spec.ValueMinBytes, valueDist: spec.ValueDist.String(),
		valueSizes: f.Load.ValueSizes.String(), update: f.Store.Update, seed: spec.Seed, partitions: plan.StoreLoops, sample: spec.SampleSizes()}
	if plan.Placement == loop.Colocated {
		d.partitions = plan.NetLoops
	}
	return d, true
}

// Name is the name of the data set's folder: the same for the same files.
func (d *DataSet) Name() string {
	sizes := strconv.Itoa(d.valueBytes)
	switch d.valueDist {
	case bench.FixedSize.String():
	case bench.ListedSizes.String(): // the list may be longer than a name
		sum := sha256.Sum256([]byte(d.valueSizes))
		sizes = fmt.Sprintf("list-%x", sum[:6])
	default:
		sizes = fmt.Sprintf("%d-to-%d-%s", d.valueMinBytes, d.valueBytes, d.valueDist)
	}
	return fmt.Sprintf("records-%d-keys-%d-values-%s-seed-%d-partitions-%d-%s", d.records, d.keyBytes, sizes, d.seed, d.partitions, d.update)
}

// Bytes estimates the size of its files; changed: after a run that writes.
func (d *DataSet) Bytes(changed bool) int64 {
	return store.FileBytes(int64(d.records), d.keyBytes, d.sample, d.partitions, changed)
}

// LoadArgs is the kvwire command that loads it into a folder.
func (d *DataSet) LoadArgs(dir string) []string {
	args := []string{"load", "--dir=" + dir, fmt.Sprintf("--records=%d", d.records), fmt.Sprintf("--key-bytes=%d", d.keyBytes),
		"--value-dist=" + d.valueDist, fmt.Sprintf("--seed=%d", d.seed), fmt.Sprintf("--server-threads=%d", d.partitions), "--update=" + d.update}
	switch d.valueDist {
	case bench.ListedSizes.String():
		return append(args, "--value-sizes="+d.valueSizes)
	case bench.FixedSize.String():
		return append(args, fmt.Sprintf("--value-bytes=%d", d.valueBytes))
	}
	return append(args, fmt.Sprintf("--value-bytes=%d", d.valueBytes), fmt.Sprintf("--value-min-bytes=%d", d.valueMinBytes))
}

// Writes reports whether a run with these settings may change its store.
func (f *Settings) Writes() bool {
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

// dataCosts are the time and space that the data of a cell take.
func (f *Settings) dataCosts() (c lab.Data) {
	if f.Load.Trace != "" {
		c.Long = f.Warning
	}
	if n := f.Load.Operations; n > 0 {
		c.Long = cmp.Or(c.Long, fmt.Sprintf("windows of operations=%s end after that number of operations: the estimate does not include them", &n))
	}
	d, ok := f.data()
	at := func(bytes, perS int64) time.Duration {
		return time.Duration(float64(bytes) / float64(perS) * float64(time.Second))
	}
	load := max(at(int64(d.records), loadedPerSec), at(d.Bytes(false), loadBytesPerS))
	_, shared := f.DataSet()
	switch {
	case !ok:
	case f.Store.Backend == store.Raw.String() && f.Given("dir"):
		c.Dir, c.Name, c.Bytes = store.Home(f.Store.Dir), fmt.Sprintf("raw for %d", d.partitions), int64(f.Store.RawBytes) // a file for each
		c.Load = at(c.Bytes, writeBytesPerS)
	case f.Store.Backend == store.Raw.String():
		c.Extra = int64(f.Store.RawBytes)
	case f.Store.Backend == store.Disk.String() && f.Given("dir"):
		c.Dir, c.Name, c.Bytes, c.Load = store.Home(f.Store.Dir), "store", d.Bytes(f.Writes()), load
	case shared:
		c.Name, c.Bytes, c.Load, c.Extra = d.Name(), d.Bytes(false), load, d.Bytes(f.Writes())
	}
	return c
}

// Facts describe the cell to the runner of an experiment, which fills in whether it can be run here.
func (f *Settings) Facts() lab.Facts {
	row := f.Row()
	row.WarmupNs = report.I(int64(f.Load.Warmup))
	if f.Load.Operations == 0 {
		row.DurationNs = report.I(int64(f.Load.Duration))
	}
	return lab.Facts{Row: row, Whole: f.whole(), Disk: f.OnDisk(), Data: f.dataCosts()}
}

// whole is the reason why a cell cannot be measured in slices; "": it can.
func (f *Settings) whole() string {
	mix, err := bench.ParseMix(f.Load.Mix)
	switch {
	case f.Load.Trace != "":
		return "a trace is sent once, from its beginning to its end"
	case f.Load.Search != "":
		return "a search measures at several rates"
	case err == nil && mix.Share[bench.Insert] > 0:
		return "inserts change the number of records"
	case f.Given("dir"):
		return "the folder of dir can be open in one process only"
	case f.Load.Operations > 0:
		return "the window ends after a number of operations, and a slice after a time"
	}
	return ""
}
