package store

// window numbers a partition's changes, and knows up to which of them everything is on disk: writes
// complete in any order.
type window struct {
	last    uint64 // the number of the last change
	settled uint64 // every change up to here is on disk
	done    [windowChanges / 64]uint64
	lost    bool // a write failed: what is on disk of it is not known until the store is opened again
}

// windowChanges bounds how far the first change that is not on disk yet may be behind the last.
const windowChanges = 1 << 16

// full says that no change can be numbered until some have ended.
func (w *window) full() bool { return !w.lost && w.last-w.settled >= windowChanges-2 }

// next numbers a change.
func (w *window) next(kind uint8) stamp {
	w.last++
	s := stamp{kind: kind, seq: w.last, behind: behindUnknown}
	if !w.lost {
		s.behind = uint16(w.last - w.settled)
	}
	return s
}

// complete notes that a change is on disk, by the low bits of its number.
func (w *window) complete(low uint16) {
	if w.lost {
		return
	}
	w.done[low/64] |= 1 << (low % 64)
	for {
		n := uint16(w.settled + 1)
		if w.done[n/64]>>(n%64)&1 == 0 {
			return
		}
		w.done[n/64] &^= 1 << (n % 64)
		w.settled++
	}
}

// fail notes that a write has failed.
func (w *window) fail() { w.lost = true }

// staleCounts counts, by a hash of the key, the copies on disk that no longer count, in slots that are free or whose
// overwriting is not on disk yet. A tombstone may go when no copy of its key can be left: keys that share a
// counter make it stay longer, never shorter.
type staleCounts struct{ n []uint8 }

// staleSticks is a count that is not kept any more.
const staleSticks = 255

func newStaleCounts(n int) staleCounts { return staleCounts{make([]uint8, n)} }

func (s *staleCounts) of(hash uint32) *uint8 { return &s.n[hash&uint32(len(s.n)-1)] }

func (s *staleCounts) add(hash uint32) {
	if c := s.of(hash); *c < staleSticks {
		*c++
	}
}

func (s *staleCounts) sub(hash uint32) {
	if c := s.of(hash); *c > 0 && *c < staleSticks {
		*c--
	}
}
