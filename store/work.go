package store

import "github.com/kvwire/kvwire/kv"

// The five words of kv.Request.Work hold the state of a request that waits. Submit zeroes them. The meaning of a word depends on the operation, and only
// this file defines it.
//
//	        0             1                             2                   3             4
//	get     awaited slot  its class                     record              index.Deletes –
//	scan    awaited slot  its class, pages ahead        items               last item     position's number
//	change  to: slot      phase, flags, to: and         record, or          sequence,     stale copy
//	                      old: class                    old: slot           low bits
//	null    due, in ns    …                             –                   –             –

// awaitedBit in word 1 means that a read waits for the change in word 0's slot. The slot's class is in the bits above.
const (
	awaitedBit   = 1
	awaitedShift = 8
	awaitedMask  = 1<<16 - 1
	aheadShift   = 16
)

// setAwaited records that a get or a scan waits until the change in that slot is on disk.
func setAwaited(r *kv.Request, at place) {
	r.Work[0], r.Work[1] = at.slot, r.Work[1]&^awaitedMask|uint32(at.class)<<awaitedShift|awaitedBit
}

// popAwaited returns the slot that setAwaited has recorded, and removes it.
func popAwaited(r *kv.Request) (at place, ok bool) {
	w := r.Work[1]
	if w&awaitedBit == 0 {
		return place{}, false
	}
	r.Work[1] = w &^ awaitedMask
	return place{uint8(w >> awaitedShift), r.Work[0]}, true
}

// setRecord stores a get's record number. It is valid while no key is deleted (index.Deletes).
func setRecord(r *kv.Request, rec, deletes uint32) { r.Work[2], r.Work[3] = rec, deletes }

// recordOf returns the record number that setRecord has stored, if it is still valid; 0: none.
func recordOf(r *kv.Request, deletes uint32) (rec uint32) {
	if r.Work[3] != deletes {
		return 0
	}
	return r.Work[2]
}

// scanState is the progress of a scan's answer.
type scanState struct {
	n         uint32 // items in the answer
	last      uint32 // offset of the last item
	requested uint32 // number of items, from the answer's first on, whose pages were requested from the disk: n to n+scanAhead, or less than n
}

func scanStateOf(r *kv.Request) scanState {
	w := &r.Work
	return scanState{n: w[2], last: w[3], requested: w[2] + w[1]>>aheadShift}
}

func (s scanState) save(r *kv.Request) {
	w := &r.Work
	w[1] = w[1]&awaitedMask | (max(s.requested, s.n)-s.n)<<aheadShift
	w[2], w[3] = s.n, s.last
}

// positionOf returns the number of a scan's position (scanPositions); 0: none.
func positionOf(r *kv.Request) *uint32 { return &r.Work[4] }

// change is the progress of a change.
type change struct {
	phase phase
	flags changeFlags
	to    place  // the slot that it has reserved
	low   uint16 // low bits of its sequence number, while it is being written
	old   place  // hasOld: the slot to free when it has ended
	rec   uint32 // the key's record; while a small item is being written, old uses its word
	stale uint32 // staleKnown and the hash of the key whose stale copy the write overwrites; 0: none
}

func changeOf(r *kv.Request) change {
	w := &r.Work
	return change{phase: phase(w[1]), flags: changeFlags(w[1] >> 8), to: place{uint8(w[1] >> 16), w[0]},
		low: uint16(w[3]), old: place{uint8(w[1] >> 24), w[2]}, rec: w[2], stale: w[4]}
}

// phaseOf returns changeOf(r).phase.
func phaseOf(r *kv.Request) phase { return phase(r.Work[1]) }

// save stores c in its request. n is rec, or old's slot.
func (c change) save(r *kv.Request, n uint32) {
	w := &r.Work
	w[0], w[1] = c.to.slot, uint32(c.phase)|uint32(c.flags)<<8|uint32(c.to.class)<<16|uint32(c.old.class)<<24
	w[2], w[3], w[4] = n, uint32(c.low), c.stale
}

// setDue stores the time at which the null partition answers, in ns of the loop's clock.
func setDue(r *kv.Request, at int64) { r.Work[0], r.Work[1] = uint32(at), uint32(at>>32) }

func dueOf(r *kv.Request) int64 { return int64(r.Work[0]) | int64(r.Work[1])<<32 }
