package store

// window numbers a partition's changes, and records up to which number all are on disk, because writes complete in any order.
type window struct {
	last   uint64 // the number of the last change
	onDisk uint64 // every change up to here is on disk
	done   [windowChanges / 64]uint64
	lost   bool // a write has failed: whether it is on disk is not known until the store is opened again
}

// windowChanges bounds the distance between the first change that is not on disk and the last one.
const windowChanges = 1 << 16

// full reports whether no change can get a number until some have ended.
func (w *window) full() bool { return !w.lost && w.last-w.onDisk >= windowChanges-2 }

// next returns the stamp of the next change.
func (w *window) next(kind uint8) stamp {
	w.last++
	s := stamp{kind: kind, seq: w.last, behind: behindUnknown}
	if !w.lost {
		s.behind = uint16(w.last - w.onDisk)
	}
	return s
}

// complete records that the change with these low bits of its number is on disk.
func (w *window) complete(low uint16) {
	if w.lost {
		return
	}
	w.done[low/64] |= 1 << (low % 64)
	for {
		n := uint16(w.onDisk + 1)
		if w.done[n/64]>>(n%64)&1 == 0 {
			return
		}
		w.done[n/64] &^= 1 << (n % 64)
		w.onDisk++
	}
}

// fail records that a write has failed.
func (w *window) fail() { w.lost = true }

// staleCounts has the number of stale copies on disk, by a hash of the key: copies in slots that are free, or whose overwriting is not on disk
// yet. A tombstone may be dropped when its key can have no stale copy. If keys share a counter, a tombstone stays longer, never
// shorter.
type staleCounts struct{ n []uint8 }

// staleSaturated is the highest count. A counter that reaches it does not change any more.
const staleSaturated = 255

func newStaleCounts(n int) staleCounts { return staleCounts{make([]uint8, n)} }

func (s *staleCounts) of(hash uint32) *uint8 { return &s.n[hash&uint32(len(s.n)-1)] }

func (s *staleCounts) add(hash uint32) {
	if c := s.of(hash); *c < staleSaturated {
		*c++
	}
}

func (s *staleCounts) sub(hash uint32) {
	if c := s.of(hash); *c > 0 && *c < staleSaturated {
		*c--
	}
}
