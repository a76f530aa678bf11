package store

import "github.com/kvwire/kvwire/store/index"

// Flags of a key in its index record. The record also has the place of the item.
const (
	flagBusy    index.Flags = 1 << iota // a change has a slot, but is not in its page yet: other changes of the key wait
	flagHidden                          // the key is not visible to reads yet
	flagTomb                            // deleted: its slot holds a tombstone
	flagQueued                          // in the list of tombstones that may be dropped later
	flagCorrupt                         // its item was damaged: reads end as StatusCorrupt
)

// placeOf returns the place of a record's item.
func (p *Partition) placeOf(rec uint32) place {
	class, slot := p.index.Place(rec)
	return place{class, slot}
}

// setPlace sets the place of a record's item.
func (p *Partition) setPlace(rec uint32, at place) { p.index.SetPlace(rec, at.class, at.slot) }
