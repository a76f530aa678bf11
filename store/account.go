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

	"github.com/kvwire/kvwire/internal/plural"
	"golang.org/x/sys/unix"
)

// A shard keeps an account of its slabs (adr/0027): a sum of the heads of all items in each unit, that is a page, or a slot with pages
// of its own. The sums are in memory while the shard serves, change with each item that is put into a page, and are written to the
// shard's file pages at the close. Recovery computes the sums from the slabs and compares: a page that was zeroed, cut off,
// taken from another place, or is in the state before its last write has another sum.
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

// shardState is the state in which a shard was left. It is stored in the shard's file settled.
type shardState struct {
	seq     uint64 // every change up to here was on disk
	state   accountState
	account uint32 // stateClosed: the CRC of the account
}

type accountState uint32

const (
	stateMissing   accountState = iota // there is no file: the shard was never opened
	stateNoAccount                     // no account is valid: it could not be written, or an older version had the shard open
	stateOpen                          // the account describes an earlier state; changes since then have higher sequence numbers
	stateClosed                        // the account describes this state
	stateDamaged                       // the file cannot be read
)

const (
	stateBytes    = 20 // sequence, account, state, and a CRC32C of them
	stateBytesOld = 12 // sequence and CRC: the only length that versions without accounts write and read
)

func (m shardState) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, m.seq)
	b = binary.LittleEndian.AppendUint32(b, m.account)
	b = binary.LittleEndian.AppendUint32(b, uint32(m.state))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// parseState decodes a shardState. Its input is not trusted.
func parseState(b []byte) shardState {
	n := len(b) - 4
	if len(b) != stateBytes && len(b) != stateBytesOld || binary.LittleEndian.Uint32(b[n:]) != crc32.Checksum(b[:n], castagnoli) {
		return shardState{state: stateDamaged}
	}
	m := shardState{seq: binary.LittleEndian.Uint64(b), state: stateNoAccount}
	if len(b) == stateBytes {
		m.account, m.state = binary.LittleEndian.Uint32(b[8:]), accountState(binary.LittleEndian.Uint32(b[12:]))
	}
	if m.state < stateNoAccount || m.state > stateClosed || m.seq > seqMax {
		return shardState{state: stateDamaged}
	}
	return m
}

// slotSum returns the part of a slot in the sum of its unit. The checksum of an item's head covers its key, its sequence number and
// the checksum of its value; nth distinguishes the slots of a page.
func slotSum(b []byte, v verdict, nth uint) uint32 {
	switch v {
	case slotUnused:
		return 0
	case slotGarbage:
		return mixSum(^crc32.Checksum(b[:headerBytes], castagnoli), nth)
	}
	return mixSum(binary.LittleEndian.Uint32(b[20:]), nth)
}

// mixSum is the finalizer of MurmurHash3. It is needed because the sums of a page are combined by exclusive or, in which CRCs are linear.
func mixSum(sum uint32, nth uint) uint32 {
	h := sum + uint32(nth)*0x9E3779B9
	h ^= h >> 16
	h *= 0x85EBCA6B
	h ^= h >> 13
	h *= 0xC2B2AE35
	return h ^ h>>16
}

// removeSum removes a slot's item from the sum of its unit, before the slot is overwritten. b is the content of the slot; it is ignored
// for a slot with pages of its own, because these are overwritten without being read.
func (s *slab) removeSum(at place, b []byte) (it item, v verdict) {
	if s.ownPages() {
		s.sums[at.slot] = 0
		return item{}, slotUnused
	}
	it, v = parseHead(b)
	s.sums[at.slot/s.free.perUnit] ^= slotSum(b, v, at.nth())
	return it, v
}

// addSum adds the item in a slot to the sum of its unit.
func (s *slab) addSum(at place, b []byte) {
	s.sums[at.slot/s.free.perUnit] ^= slotSum(b, slotLive, at.nth())
}

// writeAccount writes the account, and returns its CRC.
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

// readAccount reads the sums into the slabs, which have room for the units of their files. It calls cut for each unit that is in the
// account, held items, and is missing in its file. After an error the sums and the calls are not valid. The input is not trusted: memory is
// allocated for existing units only, and no more sums are read than the largest slabs can have.
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

// storeAccount writes the account of the present state of the disk, durably.
func (p *Partition) storeAccount() (crc uint32, err error) {
	err = p.files.writeAccount(func(w io.Writer) (err error) {
		crc, err = writeAccount(w, p.slabs, p.window.last)
		return err
	})
	return crc, err
}

// noSpace reports whether an error means that the file system or a limit leaves no space.
func noSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

func (f *osFiles) openAccount() (io.ReadCloser, error) {
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

func (f *osFiles) writeAccount(write func(w io.Writer) error) error {
	name := filepath.Join(f.dir, accountName)
	if err := replaceBy(name, write); err != nil {
		_ = os.Remove(name + ".new")
		return fmt.Errorf("write %s of %s: %w", accountName, f.dir, cause(err))
	}
	return nil
}

// base is the state of the disk that the account describes.
type base struct {
	known  bool
	closed bool // nothing has changed since
	seq    uint64
}

// tally is the result of a scan of one unit.
type tally struct {
	raw       uint32 // the sum of the unit as it is
	repaired  uint32 // … and the sum after the repair of heads
	newest    uint64 // the highest sequence number
	uncertain bool   // a head is unreadable or was repaired: a crash may have interrupted a write there
}

// lostUnit is a unit whose content was lost.
type lostUnit struct {
	class uint8
	unit  uint32
}

// LostPages is a run of adjacent lost pages: they do not hold what was last written to them.
type LostPages struct {
	Shard     int    `json:"shard"`
	SlotBytes int    `json:"slot_bytes"` // names the slab
	First     uint32 `json:"first"`
	Pages     uint32 `json:"pages"`
}

// String describes the pages for a message.
func (l LostPages) String() string {
	if l.Pages == 1 {
		return fmt.Sprintf("page %d of the slab of %d-byte slots", l.First, l.SlotBytes)
	}
	return fmt.Sprintf("pages %d to %d of the slab of %d-byte slots", l.First, l.First+l.Pages-1, l.SlotBytes)
}

// readBase reads the account, if there is a valid one.
func (v *recovery) readBase() error {
	p := v.p
	switch v.state.state {
	case stateDamaged:
		v.report.Record = stateName + " is damaged"
		return nil
	case stateMissing, stateNoAccount:
		return nil
	}
	r, err := p.files.openAccount()
	if err != nil {
		return err
	}
	if r == nil {
		v.report.Record = accountName + " is missing"
		return nil
	}
	defer r.Close()
	seq, crc, err := readAccount(r, p.slabs, v.addLost)
	closed := v.state.state == stateClosed
	if err == nil && closed && crc != v.state.account {
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
	v.matching = make([]bitTree, len(p.slabs))
	for i := range p.slabs {
		v.matching[i].grow(uint32(len(p.slabs[i].sums)))
	}
	return nil
}

// compare compares a unit with the account, and keeps its sum. A page that was written after the account has an item with a higher sequence
// number, or an unfinished item. A page that has neither, and has another sum, was lost.
func (v *recovery) compare(s *slab, unit uint32, t *tally) {
	was := s.sums[unit]
	s.sums[unit] = t.raw
	switch {
	case !v.base.known:
	case was == t.raw, was == t.repaired:
		if was != 0 {
			v.matching[s.class].set(unit)
		}
	case !v.base.closed && (t.newest > v.base.seq || t.uncertain):
	default:
		v.addLost(s, unit)
	}
}

// addLost records that the content of a unit was lost.
func (v *recovery) addLost(s *slab, unit uint32) {
	v.report.LostPages += uint64(classes[s.class].pages)
	v.report.LostKeys += uint64(s.free.perUnit)
	if len(v.lostUnits) < brokenMax {
		v.lostUnits = append(v.lostUnits, lostUnit{s.class, unit})
	}
}

// duplicate records that one change has copies at two places. No change is written to two places, so a page was written to the place of another.
// If the user accepts the loss, the first copy is cleared, so that it is not found again.
func (v *recovery) duplicate(at, other place) {
	if len(v.broken) < brokenMax {
		v.broken = append(v.broken, brokenItem{at: at})
	}
	if v.base.closed { // then the sums have found the page
		return
	}
	if v.duplicates == nil {
		v.duplicates = map[lostUnit]bool{}
		for _, u := range v.lostUnits {
			v.duplicates[u] = true
		}
	}
	for _, at := range []place{at, other} {
		s := &v.p.slabs[at.class]
		u := lostUnit{at.class, at.slot / s.free.perUnit}
		if !v.duplicates[u] && !v.intact(u) && len(v.duplicates) < brokenMax {
			v.duplicates[u] = true
			v.addLost(s, u.unit)
		}
	}
}

// intact reports whether a unit is known not to be lost.
func (v *recovery) intact(u lostUnit) bool {
	return v.base.known && v.matching[u.class].has(u.unit)
}

// listLost combines adjacent lost units into runs.
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

// lossError returns the error for a shard that may have lost its newest items; nil if the user has accepted the loss.
func (v *recovery) lossError() error {
	d := &v.report
	switch {
	case v.p.o.AcceptLoss || !d.Loses():
		return nil
	case d.LostPages > 0:
		return fmt.Errorf("%s lost, the first is %v: up to %s may have an older value, be back although they were deleted, or be gone (kvwire check names all pages; restore the folder from a backup, "+
			"or open it with what is left: kvwire serve --accept-loss)", plural.Are(d.LostPages, "page"), d.Lost[0], plural.Of(d.LostKeys, "key"))
	}
	return fmt.Errorf("%s, so it is not known whether pages were lost (restore the folder from a backup, or open it with what is there: kvwire serve --accept-loss)", d.Record)
}

// logLost logs the loss that the user has accepted.
func (v *recovery) logLost() {
	d, log := &v.report, v.p.o.Log
	if d.LostPages > 0 {
		log.Error("pages are lost, and --accept-loss is set: keys may have an older value, be back although they were deleted, or be gone", "shard", v.p.shard, "pages", d.LostPages, "keys_max", d.LostKeys, "first", d.Lost[0])
	} else if d.Record != "" {
		log.Error("it is not known whether pages were lost, and --accept-loss is set", "shard", v.p.shard, "reason", d.Record)
	}
}

// allowChanges prepares the shard for changes: it clears unfinished items and writes an account of the state of the disk.
func (v *recovery) allowChanges() error {
	p := v.p
	if err := p.trim(); err != nil {
		return err
	}
	if v.base.closed && !v.report.Loses() {
		p.hasAccount = true
		return p.files.writeState(shardState{seq: p.window.last, state: stateOpen})
	}
	// Clearing removes items from pages without a new sequence number, so no account is valid until a new one is written.
	if err := p.files.writeState(shardState{seq: v.state.seq, state: stateNoAccount}); err != nil {
		return err
	}
	if err := v.wipe(); err != nil {
		return err
	}
	if err := p.files.sync(); err != nil { // the state that the account describes must survive a power cut
		return err
	}
	_, err := p.storeAccount()
	switch {
	case err == nil:
		p.hasAccount = true
	case !noSpace(err): // a store on a full disk must open, to be deleted from
		return err
	default:
		p.logNoAccount(err)
	}
	return p.files.writeState(p.stateWhileOpen())
}

// trim cuts off a partial unit at the end of a slab's file, because a slab grows by whole zeroed units.
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

// stateWhileOpen returns the state to store while a shard is open: all changes are on disk, and the account, if there is one, describes an earlier state.
func (p *Partition) stateWhileOpen() shardState {
	m := shardState{seq: p.window.last, state: stateNoAccount}
	if p.hasAccount {
		m.state = stateOpen
	}
	return m
}

func (p *Partition) logNoAccount(err error) {
	p.o.Log.Warn("the account of pages could not be written: until one is written, lost pages may not be found", "shard", p.shard, "reason", err, "remedy", "free some space")
}

// recordClose writes the account and the state stateClosed: all changes are on disk, so that recovery can distinguish later damage or loss from writes
// that a crash interrupted.
func (p *Partition) recordClose() {
	if p.files == nil || p.window.lost {
		return
	}
	err := p.files.sync()
	if err == nil {
		var crc uint32
		m := p.stateWhileOpen()
		if crc, err = p.storeAccount(); err == nil {
			m = shardState{seq: p.window.last, state: stateClosed, account: crc}
		} else if noSpace(err) {
			p.logNoAccount(err)
			err = nil
		}
		if err == nil {
			err = p.files.writeState(m)
		}
	}
	if err != nil {
		p.o.Log.Error("the orderly close of a shard could not be recorded: the next start checks it as after a crash", "shard", p.shard, "reason", err)
	}
}
