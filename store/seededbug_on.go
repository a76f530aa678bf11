//go:build seededbug

package store

import (
	"bytes"
	"os"
	"sync"

	"github.com/kvwire/kvwire/kv"
)

// Bugs for the test that package verify catches them, chosen by the environment of a process that was built with this tag.
var (
	ackEarly    = os.Getenv("KVWIRE_SEEDED_BUG") == "early" // a change of a small item is acknowledged before it is written
	servesStale = os.Getenv("KVWIRE_SEEDED_BUG") == "stale" // one get in 64 is served from a page as it was before its last change
)

// noOwner is the owner of a request that was acknowledged already.
type noOwner struct{}

func (noOwner) Complete(*kv.Request) {}

// acknowledgeEarly ends r, and returns a copy to use until the page is written.
func (p *Partition) acknowledgeEarly(r *kv.Request) *kv.Request {
	q := *r
	q.Key, q.Value, q.Owner, q.Stages = bytes.Clone(r.Key), bytes.Clone(r.Value), noOwner{}, nil
	p.finish(r, kv.StatusOK)
	return &q
}

// stale are slots before their last change, of all partitions.
var stale struct {
	sync.Mutex
	slots map[slotOf][]byte
	gets  int
}

type slotOf struct {
	p  *Partition
	at place
}

func (p *Partition) keepStale(at place, slot []byte) {
	stale.Lock()
	defer stale.Unlock()
	if stale.slots == nil {
		stale.slots = map[slotOf][]byte{}
	}
	stale.slots[slotOf{p, at}] = bytes.Clone(slot)
}

func (p *Partition) staleSlot(at place, key, slot []byte) []byte {
	stale.Lock()
	defer stale.Unlock()
	stale.gets++
	old := stale.slots[slotOf{p, at}]
	if it, v := parseSlot(old); stale.gets%64 != 0 || v != slotLive || !bytes.Equal(it.key, key) {
		return slot
	}
	return old
}
