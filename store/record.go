package store

import "github.com/kvwire/kvwire/store/index"

// What a partition keeps of a key in its index record, beside the place of the item.
const (
	flagBusy    index.Flags = 1 << iota // a change has a slot, and is not in its page yet: others that change the key wait
	flagHidden                          // not there yet: reads do not see it
	flagTomb                            // deleted: its slot holds a tombstone
	flagQueued                          // in the list of tombstones that may be dropped some day
	flagCorrupt                         // its item was damaged: reads end as StatusCorrupt
)

// at is the place of a record's item.
func (p *Partition) at(rec uint32) place {
	class, slot := p.index.At(rec)
	return place{class, slot}
}

// setAt sets the place of a record's item.
func (p *Partition) setAt(rec uint32, at place) { p.index.Put(rec, at.class, at.slot) }
