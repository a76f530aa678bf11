package store

import (
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store/disk"
	"github.com/kvwire/kvwire/store/index"
)

// counters are a partition's own counters.
type counters struct {
	items, tombs        int64 // keys that have an item, and those that have a tombstone
	hits, misses, joins uint64
	corrupt, ioErrors   uint64
	unreadable          uint64
	unfinished          uint64
	lostPages           uint64
	memBytes            int64
}

// key adds n to the count of keys whose records have such flags.
func (c *counters) key(f index.Flags, n int64) {
	switch {
	case f&flagHidden != 0:
	case f&flagTomb != 0:
		c.tombs += n
	default:
		c.items += n
	}
}

// Stats has a partition's present state and its counters since it was opened.
type Stats struct {
	Backend string `json:"backend"`
	Shard   int    `json:"shard"`

	Items      uint64 `json:"items"`
	UsedBytes  uint64 `json:"used_bytes"` // of the slots that they are in
	FileBytes  uint64 `json:"file_bytes"` // of all slots, or of memory
	Tombstones uint64 `json:"tombstones"` // of deleted keys of which older copies may be on disk

	DiskReads      uint64 `json:"disk_reads"`
	DiskReadBytes  uint64 `json:"disk_read_bytes"`
	DiskWrites     uint64 `json:"disk_writes"`
	DiskWriteBytes uint64 `json:"disk_write_bytes"`
	IOErrors       uint64 `json:"io_errors"`

	Disk DiskStats `json:"disk"`

	CacheBytes  uint64 `json:"cache_bytes"`
	CacheHits   uint64 `json:"cache_hits"`
	CacheMisses uint64 `json:"cache_misses"` // pages that were read
	CacheJoins  uint64 `json:"cache_joins"`  // requests that found their page being read

	CorruptItems     uint64 `json:"corrupt_items"`     // found by recovery, and by each request for such an item
	UnreadableSlots  uint64 `json:"unreadable_slots"`  // found by recovery: their contents are unknown
	UnfinishedWrites uint64 `json:"unfinished_writes"` // found by recovery: a crash interrupted them
	LostPages        uint64 `json:"lost_pages"`        // found by recovery and accepted: they did not have the bytes last written to them
	IndexBytes       uint64 `json:"index_bytes"`
	BufferBytes      uint64 `json:"buffer_bytes"`  // for large items
	FixedBuffers     bool   `json:"fixed_buffers"` // memory is registered with the ring
	DirectIO         bool   `json:"direct_io"`     // files are open with O_DIRECT

	Slabs []SlabStats `json:"slabs,omitempty"` // classes that have slots
}

// DiskStats are the counters of the disk engine; zero without one.
type DiskStats struct {
	Engine    string `json:"engine,omitempty"`
	Syscalls  uint64 `json:"syscalls"`  // for transfers. On a loop's ring: those of turns that staged transfers, which may have submitted sockets' entries, too. Other engines: all, with those of reaping threads and wake-ups
	Batches   uint64 `json:"batches"`   // submissions to the engine
	Transfers uint64 `json:"transfers"` // transfers in these
	DepthSum  uint64 `json:"depth_sum"` // transfers in flight after each batch
	DepthMax  int    `json:"depth_max"`

	FixedFiles bool `json:"fixed_files"` // files are registered with the ring
}

// addDisk sets the counters of a partition's disk engine. e is nil if there is no engine.
func (s *Stats) addDisk(c *disk.Counts, e disk.Engine) {
	s.DiskReads, s.DiskReadBytes, s.DiskWrites, s.DiskWriteBytes = c.Reads, c.ReadBytes, c.Writes, c.WriteBytes
	if e != nil {
		s.Disk = DiskStats{Syscalls: e.Calls(), Batches: c.Batches, Transfers: c.Transfers, DepthSum: c.DepthSum, DepthMax: c.DepthMax}
		_, s.Disk.FixedFiles = e.Fixed()
	}
}

// SlabStats are the figures of one class of slots.
type SlabStats struct {
	SlotBytes int    `json:"slot_bytes"`
	Used      uint64 `json:"used"`
	Free      uint64 `json:"free"`
	Bytes     uint64 `json:"bytes"` // of the file, or of memory
}

// Snapshot returns the partition's statistics. Only its loop may call it.
func (p *Partition) Snapshot() Stats {
	s := Stats{
		Backend: p.o.Backend.String(), Shard: p.shard,
		Items: uint64(p.count.items), Tombstones: uint64(p.count.tombs),
		IOErrors: p.count.ioErrors, CorruptItems: p.count.corrupt, UnreadableSlots: p.count.unreadable, UnfinishedWrites: p.count.unfinished, LostPages: p.count.lostPages,
		CacheHits: p.count.hits, CacheMisses: p.count.misses, CacheJoins: p.count.joins,
		IndexBytes: uint64(p.index.Bytes()), FixedBuffers: p.fixed, DirectIO: p.direct,
	}
	s.addDisk(&p.io.Counts, p.engine)
	if p.engine != nil {
		s.Disk.Engine = p.o.DiskEngine
	}
	if p.cache != nil {
		s.CacheBytes = uint64(len(p.cache.frames)-1) * pageBytes
		s.BufferBytes = uint64(p.buffers.Largest())
	}
	for i := range p.slabs {
		m := &p.slabs[i].free
		if m.slots > 0 {
			b := SlabStats{SlotBytes: classes[i].bytes, Used: uint64(m.slots - m.count),
				Free: uint64(m.count), Bytes: uint64(p.slabs[i].bytes())}
			s.Slabs = append(s.Slabs, b)
			s.UsedBytes += b.Used * uint64(b.SlotBytes)
			s.FileBytes += b.Bytes
		}
	}
	return s
}

// DirectIO reports whether the slabs' files are open with O_DIRECT. It is false if the file system refuses that.
func (p *Partition) DirectIO() bool { return p.direct }

// StatsOf returns the statistics of a partition that Open made. Only its loop may call it.
func StatsOf(part loop.Partition) (Stats, bool) {
	s, ok := part.(interface{ Snapshot() Stats })
	if !ok {
		return Stats{}, false
	}
	return s.Snapshot(), true
}
