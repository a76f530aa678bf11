package store

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store/disk"
)

// faultDisk is a disk in memory that completes late, in any order and in parts, and fails as the test
// sets it. It is used on the loop's goroutine, and outlives the partitions that are opened on it.
type faultDisk struct {
	l            *loop.Loop // of the partition that has it open
	rng          *rand.Rand
	slab         [][]byte // by class
	state        shardState
	accountBytes []byte            // the account; nil: none
	accountErr   error             // with which writing the account fails
	unit         int               // bytes that are written whole, or not: sectorBytes, or a page
	cache        bool              // written bytes and growths of files may be lost at a power cut, until the disk is synced
	dsync        bool              // … but writes while the partition serves, which carry RWF_DSYNC: they are durable when they have completed
	unsynced     map[sector][]byte // the earlier content of sectors that were written since the last sync
	sizes        [][]int64         // by class: those that a file may have after a power cut, smallest first
	capacity     int64             // bytes of all slabs; 0: no bound
	held         bool              // nothing completes
	torn         bool              // transfers of several pages complete in parts
	fail         func(t *disk.Transfer) syscall.Errno
	writesAnyway bool // a write that fails has been done all the same
	pending      []pendingIO
	begun        map[transferKind]int
	problem      string // a rule that the partition broke
}

// sectorBytes is what a disk writes whole, or not.
const sectorBytes = 512

type sector struct {
	class uint8
	off   int64
}

type pendingIO struct {
	tag uint64
	t   disk.Transfer
	sum uint32 // of the bytes to write, when they were submitted
}

var (
	_ disk.Disk = (*faultDisk)(nil)
	_ files     = (*faultDisk)(nil)
)

func newFaultDisk(seed uint64) *faultDisk {
	d := &faultDisk{rng: rand.New(rand.NewPCG(seed, 1)), slab: make([][]byte, len(classes)), sizes: make([][]int64, len(classes)), unit: sectorBytes, torn: true, begun: map[transferKind]int{}, unsynced: map[sector][]byte{}}
	d.keepSizes()
	return d
}

func (d *faultDisk) Submit(tag uint64, t *disk.Transfer) bool {
	if d.rng.IntN(8) == 0 { // as full as a ring can be
		return false
	}
	io := pendingIO{tag: tag, t: *t, sum: crc32.ChecksumIEEE(t.Buf)}
	if t.Op != disk.Grow && (t.Off%pageBytes != 0 || len(t.Buf)%pageBytes != 0) {
		d.report("a transfer of %d bytes at %d", len(t.Buf), t.Off)
	}
	if t.Op == disk.Write {
		for _, o := range d.pending {
			if o.t.File == t.File && overlap(&o.t, t) {
				d.report("a write of %d bytes at %d of class %d while another transfer is in flight there", len(t.Buf), t.Off, t.File)
			}
		}
	}
	d.begun[kindOf(t)]++
	d.pending = append(d.pending, io)
	d.l.Again()
	return true
}

// kindOf is the kind that a transfer has in the partition.
func kindOf(t *disk.Transfer) transferKind {
	large := place{class: t.File}.large()
	switch {
	case t.Op == disk.Grow:
		return growSlab
	case t.Op == disk.Read && large:
		return readItem
	case t.Op == disk.Read:
		return readPage
	case large:
		return writeItem
	}
	return writePage
}

func overlap(a, b *disk.Transfer) bool {
	return a.Op != disk.Grow && a.Off < b.Off+int64(len(b.Buf)) && b.Off < a.Off+int64(len(a.Buf))
}

func (d *faultDisk) report(format string, a ...any) {
	if d.problem == "" {
		d.problem = fmt.Sprintf(format, a...)
	}
}

func (d *faultDisk) Reap(done []disk.Completion) (n int) {
	if d.held {
		return 0
	}
	for n < len(done) && len(d.pending) > 0 && d.rng.IntN(4) != 0 {
		i := d.rng.IntN(len(d.pending))
		io := d.pending[i]
		d.pending = append(d.pending[:i], d.pending[i+1:]...)
		done[n] = disk.Completion{Tag: io.tag, Res: d.execute(&io)}
		n++
	}
	if len(d.pending) > 0 {
		d.l.Again()
	}
	return n
}

// carry does a transfer, or a part of it.
func (d *faultDisk) execute(io *pendingIO) int32 {
	t := &io.t
	if d.fail != nil {
		if e := d.fail(t); e != 0 {
			if d.writesAnyway && t.Op == disk.Write {
				d.write(t.File, t.Off, t.Buf, d.dsync)
			}
			return -int32(e)
		}
	}
	if t.Op == disk.Grow {
		if d.capacity > 0 && d.bytes()+t.Length > d.capacity {
			return -int32(syscall.ENOSPC)
		}
		d.slab[t.File] = append(d.slab[t.File], make([]byte, t.Off+t.Length-int64(len(d.slab[t.File])))...)
		d.sizes[t.File] = append(d.sizes[t.File], int64(len(d.slab[t.File])))
		return 0
	}
	n := len(t.Buf)
	if d.torn && n > pageBytes && d.rng.IntN(2) == 0 {
		n = pageBytes + d.rng.IntN(n-pageBytes)
		n -= n % d.unit
	}
	if d.rng.IntN(16) == 0 {
		return -int32(syscall.EAGAIN)
	}
	at := d.slab[t.File][t.Off:][:n]
	if t.Op == disk.Read {
		copy(t.Buf, at)
		return int32(n)
	}
	if crc32.ChecksumIEEE(t.Buf) != io.sum {
		d.report("what was in flight to %d of class %d was changed", t.Off, t.File)
	}
	d.write(t.File, t.Off, t.Buf[:n], d.dsync)
	return int32(n)
}

func (d *faultDisk) write(class uint8, off int64, b []byte, durable bool) {
	at := d.slab[class][off:][:len(b)]
	for i := 0; d.cache && i < len(b); i += sectorBytes {
		k := sector{class, off + int64(i)}
		switch {
		case durable:
			delete(d.unsynced, k)
		case d.unsynced[k] == nil:
			d.unsynced[k] = bytes.Clone(at[i:min(i+sectorBytes, len(b))])
		}
	}
	if copy(at, b); durable {
		for len(d.sizes[class]) > 1 && d.sizes[class][0] < off+int64(len(b)) {
			d.sizes[class] = d.sizes[class][1:]
		}
	}
}

func (d *faultDisk) bytes() (n int64) {
	for _, b := range d.slab {
		n += int64(len(b))
	}
	return n
}

// crash ends the process or cuts the power: some sectors of transfers in flight reach the disk, and some sectors in the disk's cache
// are lost.
func (d *faultDisk) crash() {
	for _, io := range d.pending {
		t := &io.t
		for off := 0; t.Op != disk.Grow && off < len(t.Buf); off += d.unit {
			if t.Op == disk.Write && d.rng.IntN(2) == 0 {
				copy(d.slab[t.File][t.Off+int64(off):], t.Buf[off:off+d.unit])
			}
		}
	}
	d.pending = nil
	for k, old := range d.unsynced {
		if d.rng.IntN(2) == 0 {
			copy(d.slab[k.class][k.off:], old)
		}
	}
	clear(d.unsynced)
	for c, sizes := range d.sizes {
		if n := len(sizes); d.cache && n > 0 {
			d.slab[c] = slices.Clip(d.slab[c][:sizes[d.rng.IntN(n)]])
		}
	}
	d.keepSizes()
}

// flip changes one byte in the only place where the disk has needle, and reports whether there was one.
func (d *faultDisk) flip(needle []byte, at int) bool {
	for _, b := range d.slab {
		if i := bytes.Index(b, needle); i >= 0 {
			b[i+at] ^= 0x40
			return true
		}
	}
	return false
}

func (d *faultDisk) size(class uint8) (int64, error) { return int64(len(d.slab[class])), nil }

func (d *faultDisk) readAt(class uint8, b []byte, off int64) error {
	if d.fail != nil {
		if e := d.fail(&disk.Transfer{Op: disk.Read, File: class, Off: off, Buf: b}); e != 0 {
			return e
		}
	}
	copy(b, d.slab[class][off:])
	return nil
}

func (d *faultDisk) writeAt(class uint8, b []byte, off int64) error {
	d.write(class, off, b, false)
	return nil
}

func (d *faultDisk) extend(class uint8, size int64) error {
	if size > int64(len(d.slab[class])) {
		return syscall.EOPNOTSUPP
	}
	d.slab[class] = slices.Clip(d.slab[class][:size])
	return nil
}

func (d *faultDisk) close() error                   { return nil }
func (d *faultDisk) Flush() error                   { return nil }
func (d *faultDisk) Calls() uint64                  { return 0 }
func (d *faultDisk) readState() (shardState, error) { return d.state, nil }

func (d *faultDisk) sync() error {
	clear(d.unsynced)
	d.keepSizes()
	return nil
}

// keepSizes notes that files keep the sizes that they have.
func (d *faultDisk) keepSizes() {
	for c, b := range d.slab {
		d.sizes[c] = append(d.sizes[c][:0], int64(len(b)))
	}
}

func (d *faultDisk) writeState(m shardState) error {
	d.state = parseState(m.encode())
	return nil
}

func (d *faultDisk) openAccount() (io.ReadCloser, error) {
	if d.accountBytes == nil {
		return nil, nil
	}
	return io.NopCloser(bytes.NewReader(d.accountBytes)), nil
}

func (d *faultDisk) writeAccount(write func(io.Writer) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	if d.accountErr != nil {
		return d.accountErr
	}
	d.accountBytes = b.Bytes()
	return nil
}
