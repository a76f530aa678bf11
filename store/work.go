package store

import "github.com/kvwire/kvwire/kv"

// What a partition remembers of a request that waits is in the five words of kv.Request.Work. Submit zeroes them. Which word is what depends on the
// op; only this file knows it.
//
//	        0             1                             2                   3             4
//	get     awaited slot  its class                     record              index.Deletes –
//	scan    awaited slot  its class, pages ahead        items               last item     mark's number
//	change  to: slot      phase, marks, to: and         record, or          sequence,     stale copy
//	                      old: class                    old: slot           low bits
//	null    due, in ns    …                             –                   –             –

// awaitedBit in word 1 says that a read waits, for the change in word 0's slot; the class is above it.
const (
	awaitedBit   = 1
	awaitedShift = 8
	awaitedMask  = 1<<16 - 1
	aheadShift   = 16
)

// setAwaited notes that a get or a scan waits until the change in that slot is on disk.
func setAwaited(r *kv.Request, at place) {
	r.Work[0], r.Work[1] = at.slot, r.Work[1]&^awaitedMask|uint32(at.class)<<awaitedShift|awaitedBit
}

// popAwaited returns what setAwaited has noted, once.
func popAwaited(r *kv.Request) (at place, ok bool) {
	w := r.Work[1]
	if w&awaitedBit == 0 {
		return place{}, false
	}
	r.Work[1] = w &^ awaitedMask
	return place{uint8(w >> awaitedShift), r.Work[0]}, true
}

// setRecord remembers a get's record. It is valid while no key is deleted (index.Deletes).
func setRecord(r *kv.Request, rec, deletes uint32) { r.Work[2], r.Work[3] = rec, deletes }

// recordOf returns the record that setRecord has noted; 0: none.
func recordOf(r *kv.Request, deletes uint32) (rec uint32) {
	if r.Work[3] != deletes {
		return 0
	}
	return r.Work[2]
}

// scanState is how far a scan's answer has come.
type scanState struct {
	n     uint32 // items in the answer
	last  uint32 // where the last one begins
	asked uint32 // items, from the first of the answer on, whose pages were asked of the disk: n to n+scanAhead, or less than n
}

func scanStateOf(r *kv.Request) scanState {
	w := &r.Work
	return scanState{n: w[2], last: w[3], asked: w[2] + w[1]>>aheadShift}
}

func (s scanState) keep(r *kv.Request) {
	w := &r.Work
	w[1] = w[1]&awaitedMask | (max(s.asked, s.n)-s.n)<<aheadShift
	w[2], w[3] = s.n, s.last
}

// markOf is the number of a scan's mark (scanMarks); 0: none.
func markOf(r *kv.Request) *uint32 { return &r.Work[4] }

// change is how far a change has come.
type change struct {
	phase phase
	marks changeMarks
	to    place  // the slot that it has taken
	low   uint16 // of its sequence number, when it is on its way
	old   place  // markOld: the slot to be freed when it has ended
	rec   uint32 // the key's record; not of small items on their way, whose place in the request old takes
	stale uint32 // staleNoted, and the hash of the key of which its writing overwrites a stale copy; 0: of none
}

func changeOf(r *kv.Request) change {
	w := &r.Work
	return change{phase: phase(w[1]), marks: changeMarks(w[1] >> 8), to: place{uint8(w[1] >> 16), w[0]},
		low: uint16(w[3]), old: place{uint8(w[1] >> 24), w[2]}, rec: w[2], stale: w[4]}
}

// phaseOf is changeOf(r).phase.
func phaseOf(r *kv.Request) phase { return phase(r.Work[1]) }

// keep writes c into its request. n is rec, or old's slot.
func (c change) keep(r *kv.Request, n uint32) {
	r.Work = kv.Work{c.to.slot, uint32(c.phase) | uint32(c.marks)<<8 | uint32(c.to.class)<<16 | uint32(c.old.class)<<24, n, uint32(c.low), c.stale}
}

// setDue notes when the null partition answers, in ns of the loop's clock.
func setDue(r *kv.Request, at int64) { r.Work[0], r.Work[1] = uint32(at), uint32(at>>32) }

func dueOf(r *kv.Request) int64 { return int64(r.Work[0]) | int64(r.Work[1])<<32 }
