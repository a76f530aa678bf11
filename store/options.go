package store

import (
	"fmt"
	"log/slog"
	"math/bits"
	"time"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/names"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/disk"
	"github.com/kvwire/kvwire/store/index"
)

// Backend is what answers requests behind the network.
type Backend uint8

const (
	Null Backend = iota // answers without a lookup
	Mem                 // the store with every page resident, and no disk
	Disk                // the store on files
	Raw                 // no store: a random page of one file for each request
)

var backendNames = [...]string{"null", "mem", "disk", "raw"}

// String returns the backend's name, as in its column.
func (b Backend) String() string { return backendNames[b] }

// ParseBackend reads a backend's name.
func ParseBackend(s string) (Backend, error) {
	b, err := names.Parse[Backend](s, backendNames[:])
	if err != nil {
		return 0, fmt.Errorf("store: backend %w", err)
	}
	return b, nil
}

// The values of Options.DiskEngine: see store/disk. EngineNames lists all of them, from the simplest to the default.
const (
	EngineSync        = disk.Sync
	EnginePool        = disk.Pool
	EngineAIO         = disk.AIO
	EngineUringShared = disk.UringShared
	EngineUringSQ     = disk.UringSQ
	EngineUring       = disk.Uring
)

var EngineNames = disk.Names

// NeedsRing reports whether an engine needs io_uring.
func NeedsRing(engine string) bool { return disk.NeedsRing(engine) }

// Engines holds what the disk engines of one store's partitions share. Fault is an injected fault of a transfer.
type (
	Engines = disk.Shared
	Fault   = disk.Fault
)

// The values of Options.Durability and Options.Update.
const (
	DurabilityDevice = "device" // a put is acknowledged when the device has accepted its page: a crash of the process loses nothing
	DurabilityFlush  = "flush"  // … and has made it durable (RWF_DSYNC on every write): a power cut loses nothing

	UpdateCOW     = "cow"     // a new item goes to a free slot: an interrupted write loses nothing
	UpdateInPlace = "inplace" // … overwrites the previous item: an interrupted write may lose both
)

// Bounds of what a store can hold, whatever its limits are.
const (
	KeyBytesMax   = index.KeyBytesMax
	ValueBytesMax = 16 << 20
)

// NullMax bounds NullBusy and NullDelay.
const NullMax = 10 * time.Millisecond

// Options are the options of a store. All its partitions have the same.
type Options struct {
	Backend Backend
	Dir     string    // Disk: the store's folder, or several with commas between (folders.go); made when they do not exist
	Limits  kv.Limits // zero fields: KeyBytesMax, ValueBytesMax

	CacheBytes int // Disk: page cache, per partition; 0 means 64 MiB, at least 256 KiB
	ReadsMax   int // Disk: number of pages of a partition being read for requests at which new requests wait, in order of arrival. 0: no bound
	MemBytes   int // Mem: the most that the slots of one partition may take, in steps of 1 MiB per class; 0: what the machine has

	// Disk and Raw: how pages are read and written. Options that the engine does not support are refused.
	DiskEngine     string        // one of EngineNames; "" means EngineUring
	Durability     string        // "" means DurabilityDevice
	Update         string        // "" means UpdateCOW
	DepthMax       int           // transfers in flight, per partition; 0 means 256
	DiskBatch      int           // hold transfers back until so many are queued or nothing is in flight; 0: each turn's go at its end
	DiskWait       int           // uring: completions that a loop that sleeps in its ring sleeps for, if so many are in flight; 0 means 1
	DiskWaitMax    time.Duration // … the longest such sleep; 0 means 100 µs
	SQPoll         bool          // uring engines: a thread of the kernel submits. uring: the loop's ring must have it (loop.Options.SQPoll)
	IOPoll         bool          // uring: look for completions at the device, which must have poll queues
	NoFixedBuffers bool          // uring engines: do not register memory
	NoFixedFiles   bool          // uring engines: do not register files
	Engines        *Engines      // uring-shared, uring-sq: the same one for all partitions of a store; nil will do for one

	RawBytes int64 // Raw: size of the file, of the whole store; 0 means 1 GiB

	// BufferBytes bounds the buffers for items larger than a page, per partition. 0 means room
	// for two of the largest, and at least 8 MiB. It is rounded up to a power of two.
	BufferBytes int

	// ExportEntries gives the partition a table of that many items that NICs may read (internal/export), each
	// of up to ExportItemBytes of key and value. 0: none.
	ExportEntries   int
	ExportItemBytes int

	// AcceptLoss opens a partition with lost pages, which otherwise is not opened. Older values and deleted keys may be back. The loss is
	// logged once, and then permanent.
	AcceptLoss bool

	// Fault, for tests, returns the fault of a transfer before it is passed to the disk. It is called
	// on the partitions' loops. nil: nothing.
	Fault func(write bool) Fault

	NullBusy       time.Duration // Null: CPU time added to each request
	NullDelay      time.Duration // Null: delay of each answer
	NullValueBytes int           // Null, Raw: the length of every value that get returns; Raw: a page at most

	// Progress is called with the amount of the slabs that recovery has read, some hundred times at most. It may be nil.
	Progress func(shard int, done, total int64)

	Log *slog.Logger // receives messages for the user (corrupt items, a fallback, IO errors), each kind as one message; nil: nothing is logged
}

const (
	cacheBytesMin     = 64 * pageBytes // one scan's look-ahead and a few transfers at a time
	cacheBytesDefault = 64 << 20
	bufferBytesMin    = 8 << 20
	bufferBytesMax    = 1 << 30 // one registered buffer
	depthDefault      = 256
	waitMaxDefault    = 100 * time.Microsecond
	rawBytesDefault   = 1 << 30
)

// Check returns an error, on one line, for invalid options of a store with that many partitions. It changes nothing.
func (o Options) Check(shards int) error { return o.check(0, shards) }

// check replaces zero values by the defaults and returns an error for invalid options.
func (o *Options) check(shard, shards int) error {
	setDefault(&o.Limits.MaxKeyBytes, KeyBytesMax)
	setDefault(&o.Limits.MaxValueBytes, ValueBytesMax)
	setDefault(&o.CacheBytes, cacheBytesDefault)
	setDefault(&o.DepthMax, depthDefault)
	if o.DiskWaitMax == 0 {
		o.DiskWaitMax = waitMaxDefault
	}
	if o.RawBytes == 0 {
		o.RawBytes = rawBytesDefault
	}
	if o.DiskEngine == "" {
		o.DiskEngine = EngineUring
	}
	if o.Durability == "" {
		o.Durability = DurabilityDevice
	}
	if o.Update == "" {
		o.Update = UpdateCOW
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	largest := roundUp(itemBytes(o.Limits.MaxKeyBytes, o.Limits.MaxValueBytes), pageBytes)
	block := 1 << bits.Len(uint(largest-1)) // the pool hands out powers of two
	setDefault(&o.BufferBytes, max(2*block, bufferBytesMin))
	switch {
	case o.Backend > Raw:
		return fmt.Errorf("store: backend %d is unknown (null, mem, disk or raw)", o.Backend)
	case shards < 1 || shards > shardsMax || shard < 0 || shard >= shards:
		return fmt.Errorf("store: there is no shard %d of %d (1 to %d shards)", shard, shards, shardsMax)
	case o.Limits.MaxKeyBytes < 1 || o.Limits.MaxKeyBytes > KeyBytesMax:
		return fmt.Errorf("store: keys of up to %d bytes: choose 1 to %d", o.Limits.MaxKeyBytes, KeyBytesMax)
	case o.Limits.MaxValueBytes < 1 || o.Limits.MaxValueBytes > ValueBytesMax:
		return fmt.Errorf("store: values of up to %d bytes: choose 1 to %d (16 MiB)", o.Limits.MaxValueBytes, ValueBytesMax)
	case o.CacheBytes < cacheBytesMin:
		return fmt.Errorf("store: a cache of %d bytes per partition is too small: choose %d (256 KiB) or more", o.CacheBytes, cacheBytesMin)
	case o.ReadsMax < 0:
		return fmt.Errorf("store: ReadsMax %d must not be negative", o.ReadsMax)
	case o.NullBusy < 0 || o.NullBusy > NullMax || o.NullDelay < 0 || o.NullDelay > NullMax:
		return fmt.Errorf("store: NullBusy %v and NullDelay %v must be from 0 to %v", o.NullBusy, o.NullDelay, NullMax)
	case (o.NullBusy > 0 || o.NullDelay > 0) && o.Backend != Null:
		return fmt.Errorf("store: NullBusy and NullDelay are for the backend %v, not %v", Null, o.Backend)
	case o.MemBytes < 0 || o.NullValueBytes < 0:
		return fmt.Errorf("store: MemBytes %d and NullValueBytes %d must not be negative", o.MemBytes, o.NullValueBytes)
	case o.NullValueBytes > o.Limits.MaxValueBytes:
		return fmt.Errorf("store: null values of %d bytes are above the limit of %d: lower the one or raise the other", o.NullValueBytes, o.Limits.MaxValueBytes)
	case o.DepthMax < 1 || o.DepthMax > disk.DepthLimit:
		return fmt.Errorf("store: a depth of %d: choose 1 to %d", o.DepthMax, disk.DepthLimit)
	case o.BufferBytes < block || o.BufferBytes > bufferBytesMax:
		return fmt.Errorf("store: buffers of %d bytes for large items: choose %d to %d", o.BufferBytes, block, bufferBytesMax)
	case o.Durability != DurabilityDevice && o.Durability != DurabilityFlush:
		return fmt.Errorf("store: durability %q is unknown (device or flush)", o.Durability)
	case o.Update != UpdateCOW && o.Update != UpdateInPlace:
		return fmt.Errorf("store: update %q is unknown (cow or inplace)", o.Update)
	case o.Backend >= Disk && o.Dir == "":
		return fmt.Errorf("store: the %s backend needs a folder (--dir)", o.Backend)
	case o.Backend == Raw && o.ExportEntries > 0:
		return fmt.Errorf("store: the raw backend has no items for NICs to read: leave out the table for them (--rdma-verb send or write)")
	case o.Backend == Raw && o.NullValueBytes > pageBytes:
		return fmt.Errorf("store: raw values of %d bytes: choose a page, %d, or less", o.NullValueBytes, pageBytes)
	case o.Backend == Raw && o.RawBytes/int64(shards) < pageBytes:
		return fmt.Errorf("store: a raw file of %d bytes for %d partitions: choose a page, %d, for each, or more", o.RawBytes, shards, pageBytes)
	case o.Backend == Raw && o.RawBytes/int64(shards)/pageBytes > 1<<32:
		return fmt.Errorf("store: a raw file of %d bytes: choose 16 TiB or less per partition", o.RawBytes)
	}
	d := o.disk(shard, shards)
	return d.Check()
}

// disk returns the options of one partition's disk engine.
func (o *Options) disk(shard, shards int) disk.Options {
	return disk.Options{Engine: o.DiskEngine, Shard: shard, Shards: shards, Dir: folderOf(o.Dir, shard), Durable: o.Durability == DurabilityFlush,
		DepthMax: o.DepthMax, Batch: o.DiskBatch, Wait: o.DiskWait, WaitMax: o.DiskWaitMax, SQPoll: o.SQPoll, IOPoll: o.IOPoll,
		NoFixedBuffers: o.NoFixedBuffers, NoFixedFiles: o.NoFixedFiles, Shared: o.Engines, Log: o.Log}
}

func setDefault(n *int, to int) {
	if *n == 0 {
		*n = to
	}
}

func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }

// pageBytes is the unit of disk IO and of the cache.
const pageBytes = arena.PageBytes
