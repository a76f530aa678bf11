//go:build !seededbug

package store

import "github.com/kvwire/kvwire/kv"

// Bugs that are built in by the tag seededbug, for the test that package verify catches them: see seededbug_on.go.
const ackEarly, servesStale = false, false

func (p *Partition) acknowledgeEarly(r *kv.Request) *kv.Request  { return r }
func (p *Partition) keepStale(at place, slot []byte)             {}
func (p *Partition) staleSlot(at place, key, slot []byte) []byte { return slot }
