package store

import (
	"syscall"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/disk"
	"golang.org/x/sys/unix"
)

// transferKind is the purpose of a transfer. It determines which code handles its end.
type transferKind uint8

const (
	readPage  transferKind = iota // into a frame of the cache
	writePage                     // from consecutive frames of the cache
	readItem                      // a large item into a buffer
	writeItem                     // a large item, or its tombstone, from a buffer
	growSlab                      // no bytes: reserves Length bytes at Off
)

// String is the kind's name in the log.
func (k transferKind) String() string {
	return [...]string{"page read", "page write", "item read", "item write", "file growth"}[k]
}

// op returns the disk operation of a transfer of that kind.
func (k transferKind) op() disk.Op {
	return [...]disk.Op{readPage: disk.Read, writePage: disk.Write, readItem: disk.Read, writeItem: disk.Write, growSlab: disk.Grow}[k]
}

// transfer is one piece of disk IO under way: the disk's part, whose File is the slab's class, and the partition's data about it until it has
// ended.
type transfer struct {
	disk.Transfer
	kind   transferKind
	slot   uint32 // items: their slot, together with the class
	frame  uint32 // pages: the first frame, and the number of frames
	pages  uint32
	r      *kv.Request // items: the request
	buffer []byte      // items: the buffer, also when Buf is only its rest
}

func (t *transfer) place() place { return place{t.File, t.slot} }

// begin queues a transfer. The caller must have checked that there is room.
func (p *Partition) begin(t transfer) {
	t.Op = t.kind.op()
	p.transfers[p.io.Begin(t.Transfer)] = t
}

// beginItem begins to read or write a large item through a buffer, which is freed when the transfer has ended.
func (p *Partition) beginItem(kind transferKind, r *kv.Request, at place, buffer []byte) {
	p.begin(transfer{kind: kind, slot: at.slot, r: r, buffer: buffer,
		Transfer: disk.Transfer{File: at.class, Buf: buffer, Off: at.id().offset(), Fixed: p.bufferFixed}})
}

// reading reports whether a large item is being read from this slot.
func (p *Partition) reading(at place) bool {
	for i := range p.transfers {
		if t := &p.transfers[i]; t.r != nil && t.kind == readItem && t.place() == at {
			return true
		}
	}
	return false
}

// statusOf returns a request's status after an error of the disk.
func statusOf(e syscall.Errno) kv.Status {
	switch e {
	case 0:
		return kv.StatusOK
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG:
		return kv.StatusNoSpace
	}
	return kv.StatusIOError
}
