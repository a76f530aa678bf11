package factor

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
)

// ringEngines are the disk engines with an io_uring.
var ringEngines = []string{store.EngineUring, store.EngineUringShared, store.EngineUringSQ}

// onFiles holds for backends with files, and onUringEngine for those of the engine uring. rings holds where an io_uring may exist: for files, or for sockets.
var (
	onFiles       = Where("backend", store.Disk.String(), store.Raw.String())
	onUringEngine = onFiles.And("disk-engine", store.EngineUring)
	rings         = onFiles.Or("transport", "uring").Or("client-transport", "uring")
)

var storeRows = []Factor{
	{Name: "backend", Common: true, Group: "Store", Side: Server | Load, Default: store.Disk.String(), Words: []string{"null", "mem", "disk", "raw"}, At: func(v *Values) any { return &v.Store.Backend },
		Help: "null: replies without a lookup; mem: the store in memory; disk: the store in files; raw: a random 4 KiB page of one file for each request, without a store"},
	{Name: "dir", Common: true, Group: "Store", Side: Server, NoColumn: "a place, and no property of the store", At: func(v *Values) any { return &v.Store.Dir },
		Help: "the store's folder, or several with commas between (a,b): partition 0 is in the first, partition 1 in the second, and so on; default: a temporary one, removed at the end",
		When: onFiles},
	{Name: "cache-bytes", Common: true, Group: "Store", Side: Server, Default: "64MiB", Range: Span{"256KiB", "1024TiB"}, Owners: []string{"value-bytes"}, At: func(v *Values) any { return &v.Store.CacheBytes },
		Help: "page cache of the whole store",
		When: Where("backend", store.Disk.String())},
	{Name: "reads-max", Group: "Store", Side: Server, Default: "0", Range: Span{"0", "32768"}, At: func(v *Values) any { return &v.Store.ReadsMax },
		Help: "number of pages of a partition being read for requests at which new requests wait, in order of arrival, hits too; 0: no bound, so that hits pass requests that read",
		When: Where("backend", store.Disk.String())},
	{Name: "durability", Common: true, Group: "Store", Side: Server, Default: store.DurabilityDevice, Words: []string{store.DurabilityDevice, store.DurabilityFlush}, At: func(v *Values) any { return &v.Store.Durability },
		Help: "when a put is acknowledged: when the device has accepted it (device), or when it is flushed (flush)",
		When: onFiles},
	{Name: "update", Group: "Store", Side: Server, Default: store.UpdateCOW, Words: []string{store.UpdateCOW, store.UpdateInPlace}, At: func(v *Values) any { return &v.Store.Update },
		Help: "how an item is rewritten: to a free slot, which no torn write can lose (cow), or over itself (inplace)",
		When: Where("backend", store.Disk.String())},
	{Name: "raw-bytes", Group: "Store", Side: Server, Default: "1GiB", Range: Span{"4KiB", "1024TiB"}, At: func(v *Values) any { return &v.Store.RawBytes },
		Help: "backend raw: size of the file, for all partitions together",
		When: Where("backend", store.Raw.String())},
	{Name: "null-busy", Group: "Store", Side: Server, Default: "0s", Range: Span{"0s", "10ms"}, Owners: []string{"backend"}, At: func(v *Values) any { return &v.Store.NullBusy },
		Help: "backend null: CPU time added to each request, a known cost (kvwire instrument)",
		When: Where("backend", store.Null.String())},
	{Name: "null-delay", Group: "Store", Side: Server, Default: "0s", Range: Span{"0s", "10ms"}, Owners: []string{"backend"}, At: func(v *Values) any { return &v.Store.NullDelay },
		Help: "backend null: delay added to each answer, a known cost; its loop polls meanwhile, which uses CPU time",
		When: Where("backend", store.Null.String())},
}

// diskOwners are the Owners of the disk engine's factors.
var diskOwners = []string{"disk-engine", "backend"}

var diskRows = []Factor{
	{Name: "disk-engine", Common: true, Group: "Disk engine", Side: Server, Default: store.EngineUring, Words: store.EngineNames, Owners: []string{"backend"}, At: func(v *Values) any { return &v.Store.Engine },
		Help: "how pages are read and written: " + strings.Join(store.EngineNames, ", ") + "; default without io_uring: pool",
		When: onFiles},
	{Name: "disk-depth", Group: "Disk engine", Side: Server, Default: "256", Range: Span{"1", "32768"}, Owners: diskOwners, At: func(v *Values) any { return &v.Store.Depth },
		Help: "most reads and writes in flight, per partition",
		When: onFiles},
	{Name: "disk-batch", Group: "Disk engine", Side: Server, Default: "0", Range: Span{"0", "32768"}, Owners: diskOwners, At: func(v *Values) any { return &v.Store.Batch },
		Help: "number of transfers that are queued before the engine submits them, unless none is in flight; 0: it submits at the end of each turn",
		When: onFiles},
	{Name: "disk-wait", Group: "Disk engine", Side: Server, Default: "1", Range: Span{"0", "32768"}, Owners: diskOwners, At: func(v *Values) any { return &v.Store.Wait },
		Help: "engine uring: number of completions for which a loop sleeps; if fewer are in flight, it sleeps for those",
		When: onUringEngine, Sweep: Unless("wait", "spin")},
	{Name: "disk-wait-max", Group: "Disk engine", Side: Server, Default: "100us", Range: Span{"1ns", "10s"}, Owners: diskOwners, At: func(v *Values) any { return &v.Store.WaitMax },
		Help: "engine uring: the longest sleep for --disk-wait completions",
		When: onUringEngine.AndNot("disk-wait", "0", "1"), Sweep: Unless("wait", "spin")},
	{Name: "taskrun", Group: "Disk engine", Side: Server | Client, Words: []string{"defer", "coop"}, Owners: []string{"transport", "client-transport", "disk-engine", "backend"}, At: func(v *Values) any { return &v.Store.Taskrun },
		Help:    "rings: completions appear when the loop looks (defer), or whenever it is in the kernel (coop); default: defer if the loop sleeps in its ring",
		Meaning: "rings: completions appear when the loop looks (defer), or whenever it is in the kernel (coop)",
		When:    rings.And("disk-engine", store.EngineUring).Or("transport", "uring").Or("client-transport", "uring"), Sweep: Unless("sqpoll", "true")},
	{Name: "sqpoll", Group: "Disk engine", Side: Server | Client, Default: "false", Owners: []string{"transport", "client-transport", "disk-engine", "backend"}, At: func(v *Values) any { return &v.Store.SQPoll },
		Help: "rings: a thread of the kernel submits (SQPOLL); it uses a CPU",
		When: rings.And("disk-engine", ringEngines...).Or("transport", "uring").Or("client-transport", "uring")},
	{Name: "iopoll", Group: "Disk engine", Side: Server, Default: "false", Hidden: true, Owners: diskOwners, At: func(v *Values) any { return &v.Store.IOPoll },
		Help:    "engine uring: poll the device for completions; it needs poll queues (kvwire doctor)",
		Meaning: "the kernel polls the device for completions",
		When:    onUringEngine},
	{Name: "fixed-buffers", Group: "Disk engine", Side: Server, Default: "true", ByRun: true, Hidden: true, Owners: diskOwners, At: func(v *Values) any { return &v.Store.FixedBuffers },
		Help:    "uring engines: register memory with io_uring",
		Meaning: "memory is registered with io_uring",
		When:    onFiles.And("disk-engine", ringEngines...)},
	{Name: "fixed-files", Group: "Disk engine", Side: Server, Default: "true", ByRun: true, Owners: diskOwners, At: func(v *Values) any { return &v.Store.FixedFiles },
		Help:    "uring engines: register files with io_uring",
		Meaning: "files are registered with io_uring",
		When:    onFiles.And("disk-engine", ringEngines...)},
}

// OnDisk reports whether the backend has files.
func (v *Values) OnDisk() bool {
	return v.Store.Backend == store.Disk.String() || v.Store.Backend == store.Raw.String()
}

// Keeps reports whether a backend keeps values, so that it can be loaded with data and its answers checked.
func Keeps(backend string) bool {
	return backend == store.Mem.String() || backend == store.Disk.String()
}

func (v *Values) checkStore() error {
	s := &v.Store
	switch {
	case s.Taskrun != "" && s.SQPoll:
		return errors.New("--taskrun has no effect with --sqpoll, where completions appear in the kernel's thread: leave one of them out")
	case v.ReadsItems() && s.NullBusy > 0:
		return v.nullOfReads("null-busy")
	case v.ReadsItems() && s.NullDelay > 0:
		return v.nullOfReads("null-delay")
	}
	return nil
}

func (v *Values) nullOfReads(name string) error {
	return fmt.Errorf("--%s applies to requests that the server answers, and with --rdma-verb read clients fetch values by themselves (choose send or write)", name)
}

// planDisk sets the loop options that the disk engine needs on loops with partitions, and returns an error if the two contradict each other.
func (v *Values) planDisk(o *loop.Options) error {
	s := &v.Store
	uring := s.Engine == store.EngineUring
	epoll := o.Sleep == loop.SleepEpoll && ring.Built // a build without io_uring refuses the engine elsewhere
	switch {
	case s.Taskrun == "defer" && epoll:
		return errors.New("--taskrun defer needs loops that sleep in their ring (--transport inproc or uring, or --placement dispatched): epoll does not report such a ring")
	case s.Wait > 1 && uring && (epoll || o.Wait == loop.WaitSpin):
		return fmt.Errorf("--disk-wait %d needs loops that sleep in their ring (--transport inproc or uring, or --placement dispatched; not --wait spin)", s.Wait)
	}
	if uring {
		o.Ring = true
		v.OfSocketRing(o)
	}
	return nil
}

// CheckStore returns an error for values that package store does not accept.
func (v *Values) CheckStore(limits kv.Limits) error {
	o := v.StoreOptions(1, limits)
	if o.Dir == "" {
		o.Dir = "a temporary folder"
	}
	return o.Check(1)
}

// Bytes of an exported item besides its value: room for its key (an item with a longer key may not fit, and is then read by SEND), and the most for headers.
const (
	exportKeyBytes  = 64
	exportHeadBytes = 96
)

// StoreOptions returns the options of each of the store's shards. limits are the limits of the server's connections.
func (v *Values) StoreOptions(shards int, limits kv.Limits) (o store.Options) {
	s := &v.Store
	o.Backend, _ = store.ParseBackend(s.Backend) // CheckWords has checked it
	o.Dir, o.Limits = s.Dir, limits
	o.CacheBytes = max(int(s.CacheBytes)/shards, 256<<10)
	o.ReadsMax = s.ReadsMax
	o.DiskEngine, o.Durability, o.Update = s.Engine, s.Durability, s.Update
	o.DepthMax, o.DiskBatch, o.DiskWait, o.DiskWaitMax = s.Depth, s.Batch, s.Wait, s.WaitMax
	o.SQPoll = s.SQPoll && (store.NeedsRing(s.Engine) || !v.OnUring())
	o.IOPoll, o.NoFixedBuffers, o.NoFixedFiles = s.IOPoll, !s.FixedBuffers, !s.FixedFiles
	o.RawBytes = int64(s.RawBytes)
	o.NullBusy, o.NullDelay, o.NullValueBytes = s.NullBusy, s.NullDelay, int(v.Load.ValueBytes)
	if v.ReadsItems() {
		o.ExportItemBytes = min(int(v.Load.ValueBytes)+exportKeyBytes, 1<<20)
		fit := max(1, int(v.RDMA.ExportBytes)/shards/(o.ExportItemBytes+exportHeadBytes))
		o.ExportEntries = min(1<<(bits.Len(uint(fit))-1), 1<<26) // a power of two: store would round up
	}
	return o
}
