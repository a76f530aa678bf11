package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A shard keeps an account of its slabs (adr/0027): a sum of the heads of all items in each unit, that is a page, or a slot with pages
// of its own. The sums are in memory while the shard serves, change with each item that is put into a page, and are written to the
// shard's file pages when it closes. Recovery computes them anew from what it reads, and compares: a page that was zeroed, cut off,
// taken from elsewhere, or left as it was before its last write has another sum.
//
// The file, little-endian:
//
//	0   magic    8 bytes
//	8   sequence u64  of the last change when it was written
//	16  classes  u32
//	20  counts   u32  for each class: the number of sums, without zeros at the end
//	…   sums     u32  of each class's units
//	…   CRC32C   u32  of all before it
const (
	accountName  = "pages"
	accountMagic = "kvpages1"
)

// mark is what a shard keeps about the state in which it was left.
type mark struct {
	seq     uint64 // every change up to here was on disk
	state   markState
	account uint32 // markClosed: the CRC of the account
}

type markState uint32

const (
	markMissing markState = iota // there is none: nobody has opened the shard yet
	markAlone                    // no account counts: it could not be written, or an older version had the shard open
	markOpen                     // the account tells of an earlier state: changes since then have higher numbers
	markClosed                   // the account tells of this state
	markDamaged                  // it cannot be read
)

const (
	markBytes    = 20 // sequence, account, state, and a CRC32C of them
	markBytesOld = 12 // sequence and CRC: what versions without accounts write, and read of no other length
)

func (m mark) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, m.seq)
	b = binary.LittleEndian.AppendUint32(b, m.account)
	b = binary.LittleEndian.AppendUint32(b, uint32(m.state))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// parseMark trusts nothing that it reads.
func parseMark(b []byte) mark {
	n := len(b) - 4
	if len(b) != markBytes && len(b) != markBytesOld || binary.LittleEndian.Uint32(b[n:]) != crc32.Checksum(b[:n], castagnoli) {
		return mark{state: markDamaged}
	}
	m := mark{seq: binary.LittleEndian.Uint64(b), state: markAlone}
	if len(b) == markBytes {
		m.account, m.state = binary.LittleEndian.Uint32(b[8:]), markState(binary.LittleEndian.Uint32(b[12:]))
	}
	if m.state < markAlone || m.state > markClosed || m.seq > seqMax {
		return mark{state: markDamaged}
	}
	return m
}

// slotSum is what a slot adds to the sum of its unit. The sum of an item's head covers its key, its sequence number and the
// sum of its value; nth tells the slots of a page apart.
func slotSum(b []byte, v verdict, nth uint) uint32 {
	switch v {
	case slotUnused:
		return 0
	case slotGarbage:
		return mixSum(^crc32.Checksum(b[:headerBytes], castagnoli), nth)
	}
	return mixSum(binary.LittleEndian.Uint32(b[20:]), nth)
}

// mixSum is the finalizer of MurmurHash3: sums of one page are combined by exclusive or, and CRCs are linear in it.
func mixSum(sum uint32, nth uint) uint32 {
	h := sum + uint32(nth)*0x9E3779B9
	h ^= h >> 16
	h *= 0x85EBCA6B
	h ^= h >> 13
	h *= 0xC2B2AE35
	return h ^ h>>16
}

// forget takes what a slot holds out of the sum of its unit, before it is overwritten. b is the slot, and not looked at where
// it has its pages to itself: those are written without being read.
func (s *slab) forget(at place, b []byte) (it item, v verdict) {
	if s.alone() {
		s.sums[at.slot] = 0
		return item{}, slotUnused
	}
	it, v = parseHead(b)
	s.sums[at.slot/s.free.perUnit] ^= slotSum(b, v, at.nth())
	return it, v
}

// note adds the item that was put into a slot.
func (s *slab) note(at place, b []byte) {
	s.sums[at.slot/s.free.perUnit] ^= slotSum(b, slotLive, at.nth())
}

// writeAccount writes the sums, and returns their CRC.
func writeAccount(w io.Writer, slabs []slab, seq uint64) (crc uint32, err error) {
	out := bufio.NewWriterSize(w, 64<<10)
	put := func(b []byte) {
		crc = crc32.Update(crc, castagnoli, b)
		_, _ = out.Write(b) // Flush has the error
	}
	used := make([]int, len(slabs))
	b := binary.LittleEndian.AppendUint64([]byte(accountMagic), seq)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(slabs)))
	for i := range slabs {
		sums := slabs[i].sums
		n := len(sums)
		for n > 0 && sums[n-1] == 0 {
			n--
		}
		used[i] = n
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	put(b)
	for i := range slabs {
		for part := range slices.Chunk(slabs[i].sums[:used[i]], 1<<12) {
			b = b[:0]
			for _, sum := range part {
				b = binary.LittleEndian.AppendUint32(b, sum)
			}
			put(b)
		}
	}
	_, _ = out.Write(binary.LittleEndian.AppendUint32(nil, crc))
	return crc, out.Flush()
}

var errAccount = errors.New("is damaged")

// readAccount reads the sums into the slabs, which have room for the units that their files have. It calls cut for each unit that held
// something and is not in its file any more. On an error neither counts. It trusts nothing that it reads, takes memory for
// the units that there are alone, and reads no more sums than the largest slabs would have.
func readAccount(r io.Reader, slabs []slab, cut func(s *slab, unit uint32)) (seq uint64, crc uint32, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	defer func() {
		if err != nil {
			for i := range slabs {
				clear(slabs[i].sums)
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errAccount
			}
		}
	}()
	get := func(b []byte) error {
		_, err := io.ReadFull(in, b)
		crc = crc32.Update(crc, castagnoli, b)
		return err
	}
	head := make([]byte, len(accountMagic)+12+4*len(slabs))
	if err := get(head); err != nil {
		return 0, 0, err
	}
	seq = binary.LittleEndian.Uint64(head[8:])
	if string(head[:8]) != accountMagic || seq > seqMax || binary.LittleEndian.Uint32(head[16:]) != uint32(len(slabs)) {
		return 0, 0, errAccount
	}
	part := make([]byte, 4<<10)
	for i := range slabs {
		s := &slabs[i]
		n := binary.LittleEndian.Uint32(head[20+4*i:])
		if int64(n) > s.unitsMax() {
			return 0, 0, errAccount
		}
		for u := uint32(0); u < n; {
			b := part[:min(len(part), 4*int(n-u))]
			if err := get(b); err != nil {
				return 0, 0, err
			}
			for ; len(b) > 0; b, u = b[4:], u+1 {
				switch sum := binary.LittleEndian.Uint32(b); {
				case int(u) < len(s.sums):
					s.sums[u] = sum
				case sum != 0:
					cut(s, u)
				}
			}
		}
	}
	want := crc
	if err := get(part[:4]); err != nil {
		return 0, 0, err
	}
	if _, err := in.ReadByte(); err != io.EOF || binary.LittleEndian.Uint32(part) != want {
		return 0, 0, errAccount
	}
	return seq, want, nil
}

// keepAccount writes the account of what is on disk now, durably.
func (p *Partition) keepAccount() (crc uint32, err error) {
	err = p.files.setAccount(func(w io.Writer) (err error) {
		crc, err = writeAccount(w, p.slabs, p.window.last)
		return err
	})
	return crc, err
}

// noSpace says whether an error is the file system's, or a limit's, that there is no space.
func noSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

func (f *osFiles) account() (io.ReadCloser, error) {
	name := filepath.Join(f.dir, accountName)
	fd, err := openOwn(name, unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of %s: %w (%s)", accountName, f.dir, cause(err), remedy(err, "run as the user who made it"))
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (f *osFiles) setAccount(write func(w io.Writer) error) error {
	name := filepath.Join(f.dir, accountName)
	if err := replaceBy(name, write); err != nil {
		_ = os.Remove(name + ".new")
		return fmt.Errorf("write %s of %s: %w", accountName, f.dir, cause(err))
	}
	return nil
}

// base is the state of the disk that the account tells of.
type base struct {
	known  bool
	closed bool // nothing has changed since
	seq    uint64
}

// tally is what a scan has found in one unit.
type tally struct {
	raw    uint32 // the sum of what is there
	mended uint32 // … where heads that could be mended were
	newest uint64 // the highest sequence number
	unsure bool   // there is a head that nobody can read, or that was mended: a crash may have cut a write short there
}

// lostUnit is one that does not hold what it should.
type lostUnit struct {
	class uint8
	unit  uint32
}

// LostPages are pages, one after the other, that do not hold what was in them.
type LostPages struct {
	Shard     int    `json:"shard"`
	SlotBytes int    `json:"slot_bytes"` // names the slab
	First     uint32 `json:"first"`
	Pages     uint32 `json:"pages"`
}

// String is such pages in a message.
func (l LostPages) String() string {
	if l.Pages == 1 {
		return fmt.Sprintf("page %d of the slab of %d-byte slots", l.First, l.SlotBytes)
	}
	return fmt.Sprintf("pages %d to %d of the slab of %d-byte slots", l.First, l.First+l.Pages-1, l.SlotBytes)
}

// readBase reads the account, if there is one that counts.
func (v *recovery) readBase() error {
	p := v.p
	switch v.mark.state {
	case markDamaged:
		v.report.Record = markName + " is damaged"
		return nil
	case markMissing, markAlone:
		return nil
	}
	r, err := p.files.account()
	if err != nil {
		return err
	}
	if r == nil {
		v.report.Record = accountName + " is missing"
		return nil
	}
	defer r.Close()
	seq, crc, err := readAccount(r, p.slabs, v.lose)
	closed := v.mark.state == markClosed
	if err == nil && closed && crc != v.mark.account {
		for i := range p.slabs {
			clear(p.slabs[i].sums)
		}
		err = errors.New("is not the one that was written last")
	}
	if err != nil {
		v.lostUnits, v.report.LostPages, v.report.LostKeys = nil, 0, 0
		v.report.Record = fmt.Sprintf("%s %v", accountName, err)
		return nil
	}
	v.base = base{known: true, closed: closed, seq: seq}
	v.same = make([]bitTree, len(p.slabs))
	for i := range p.slabs {
		v.same[i].grow(uint32(len(p.slabs[i].sums)))
	}
	return nil
}

// compare holds what a unit has against the account, and keeps its sum. A page that was written since the account was has an item with a higher
// number, or one that a crash has cut short; one that has neither, and another sum, is not what was written there last.
func (v *recovery) compare(s *slab, unit uint32, t *tally) {
	was := s.sums[unit]
	s.sums[unit] = t.raw
	switch {
	case !v.base.known:
	case was == t.raw, was == t.mended:
		if was != 0 {
			v.same[s.class].set(unit)
		}
	case !v.base.closed && (t.newest > v.base.seq || t.unsure):
	default:
		v.lose(s, unit)
	}
}

// lose notes that what was in a unit is not there any more.
func (v *recovery) lose(s *slab, unit uint32) {
	v.report.LostPages += uint64(classes[s.class].pages)
	v.report.LostKeys += uint64(s.free.perUnit)
	if len(v.lostUnits) < brokenMax {
		v.lostUnits = append(v.lostUnits, lostUnit{s.class, unit})
	}
}

// twice notes that there are two copies of one change, which is never written to two places: a page came to that of another. The first
// copy is wiped when that is accepted, so that it is not found again.
func (v *recovery) twice(at, other place) {
	if len(v.broken) < brokenMax {
		v.broken = append(v.broken, brokenItem{at: at})
	}
	if v.base.closed { // then the sums have found the page
		return
	}
	if v.doubled == nil {
		v.doubled = map[lostUnit]bool{}
		for _, u := range v.lostUnits {
			v.doubled[u] = true
		}
	}
	for _, at := range []place{at, other} {
		s := &v.p.slabs[at.class]
		u := lostUnit{at.class, at.slot / s.free.perUnit}
		if !v.doubled[u] && !v.holds(u) && len(v.doubled) < brokenMax {
			v.doubled[u] = true
			v.lose(s, u.unit)
		}
	}
}

// holds says whether a unit is known to hold what it should.
func (v *recovery) holds(u lostUnit) bool {
	return v.base.known && v.same[u.class].has(u.unit)
}

// listLost makes runs of the lost units.
func (v *recovery) listLost() {
	slices.SortFunc(v.lostUnits, func(a, b lostUnit) int {
		if a.class != b.class {
			return int(a.class) - int(b.class)
		}
		return int(int64(a.unit) - int64(b.unit))
	})
	d := &v.report
	for _, u := range v.lostUnits {
		c := &classes[u.class]
		first, n := u.unit*uint32(c.pages), uint32(c.pages)
		if k := len(d.Lost) - 1; k >= 0 && d.Lost[k].SlotBytes == c.bytes && d.Lost[k].First+d.Lost[k].Pages == first {
			d.Lost[k].Pages += n
			continue
		}
		d.Lost = append(d.Lost, LostPages{Shard: v.p.shard, SlotBytes: c.bytes, First: first, Pages: n})
	}
	v.lostUnits = nil
}

// unitsMax is the most units that a slab can have: there are numbers for no more slots and pages.
func (s *slab) unitsMax() int64 {
	return math.MaxUint32 / max(int64(s.free.perUnit), int64(classes[s.class].pages))
}

// refuse is the error with which a shard is not opened whose newest items may be lost, unless the user has accepted that.
func (v *recovery) refuse() error {
	d := &v.report
	switch {
	case v.p.o.AcceptLoss || !d.Loses():
		return nil
	case d.LostPages > 0:
		return fmt.Errorf("%d pages do not hold what was written to them, %v the first: what was put or deleted last of up to %d keys is lost (kvwire check names all; restore the folder from a backup, or have the server "+
			"begin with what is left, older values and deleted keys among it: kvwire serve --accept-loss)", d.LostPages, d.Lost[0], d.LostKeys)
	}
	return fmt.Errorf("%s: without it nobody can say whether pages were lost (restore the folder from a backup, or have the server begin with what is there: kvwire serve --accept-loss)", d.Record)
}

// sayLost logs what the user has accepted.
func (v *recovery) sayLost() {
	d, log := &v.report, v.p.o.Log
	if d.LostPages > 0 {
		log.Error("pages were lost, which was accepted: keys may have older values, be there although they were deleted, or be gone", "shard", v.p.shard, "pages", d.LostPages, "keys_max", d.LostKeys, "first", d.Lost[0])
	} else if d.Record != "" {
		log.Error("nobody can say whether pages were lost, which was accepted", "shard", v.p.shard, "reason", d.Record)
	}
}

// renew leaves the shard as one that is open: what a crash cut short is wiped, and there is an account of what is on disk.
func (v *recovery) renew() error {
	p := v.p
	if err := p.trim(); err != nil {
		return err
	}
	if v.base.closed && !v.report.Loses() {
		p.based = true
		return p.files.setMark(mark{seq: p.window.last, state: markOpen})
	}
	// Wiping takes items out of pages without a new number: until there is a new account, none counts.
	if err := p.files.setMark(mark{seq: v.mark.seq, state: markAlone}); err != nil {
		return err
	}
	if err := v.wipe(); err != nil {
		return err
	}
	if err := p.files.sync(); err != nil { // what the account tells of stays when the power goes
		return err
	}
	_, err := p.keepAccount()
	switch {
	case err == nil:
		p.based = true
	case !noSpace(err): // a store on a full disk must open, to be deleted from
		return err
	default:
		p.sayNoAccount(err)
	}
	return p.files.setMark(p.openMark())
}

// trim cuts off what is less than a unit at the end of a slab's file: the slab grows by units that are zero.
func (p *Partition) trim() error {
	for i := range p.slabs {
		s := &p.slabs[i]
		size, err := p.files.size(s.class)
		if err == nil && size > s.bytes() {
			err = p.files.extend(s.class, s.bytes())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// openMark is the mark of a shard whose changes are all on disk, and of which the account, if there is one, tells an earlier state.
func (p *Partition) openMark() mark {
	m := mark{seq: p.window.last, state: markAlone}
	if p.based {
		m.state = markOpen
	}
	return m
}

func (p *Partition) sayNoAccount(err error) {
	p.o.Log.Warn("no account of the pages could be written: those that are lost before there is one may not be noticed", "shard", p.shard, "reason", err, "remedy", "free some space")
}

// settle marks on disk that all changes are there, and gives account of them, so that what is damaged or lost later is told from what a
// crash cut short.
func (p *Partition) settle() {
	if p.files == nil || p.window.lost {
		return
	}
	err := p.files.sync()
	if err == nil {
		var crc uint32
		m := p.openMark()
		if crc, err = p.keepAccount(); err == nil {
			m = mark{seq: p.window.last, state: markClosed, account: crc}
		} else if noSpace(err) {
			p.sayNoAccount(err)
			err = nil
		}
		if err == nil {
			err = p.files.setMark(m)
		}
	}
	if err != nil {
		p.o.Log.Error("the end of an orderly close is not marked", "shard", p.shard, "reason", err)
	}
}
