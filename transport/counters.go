package transport

import "github.com/kvwire/kvwire/loop"

// Counters are what the networks on one loop have counted since the loop began, of servers' ends and clients' together. They live as long as
// the loop, so that no counter falls when an endpoint or a connection is gone. They belong to the loop's goroutine.
type Counters struct {
	// Of sockets.
	Sends      uint64 // system calls or ring entries
	Receives   uint64 // likewise; also those that find nothing
	Shorts     uint64 // sends, and receives of a body of known length, that ended short, and were gone on with
	NoBuffers  uint64 // receives that found no provided buffer (ENOBUFS)
	ZeroCopies uint64 // sends without a copy whose memory was free again
	ZeroCopied uint64 // of these, those that the kernel copied after all

	// Of servers.
	Denied uint64 // connections and passwords of those who may not connect

	// Of RDMA devices.
	CCalls     uint64 // calls from Go into C
	Bells      uint64 // doorbells: posts to a send queue
	WRs        uint64 // work requests posted to send queues
	Polls      uint64 // looks at a completion queue
	EmptyPolls uint64 // those that found nothing
	WCs        uint64 // completions that they found

	// Of one-sided gets.
	Reads       uint64 // RDMA READs posted
	ReadRetries uint64 // of an entry that was being written
	ReadMisses  uint64 // gets that the server had to answer after all
	ReadSkips   uint64 // gets for which no READ was tried: nothing is exported, or not that key
}

// fields are all of them, for Add and Sub.
func (c *Counters) fields() [17]*uint64 {
	return [...]*uint64{&c.Sends, &c.Receives, &c.Shorts, &c.NoBuffers, &c.ZeroCopies, &c.ZeroCopied, &c.Denied,
		&c.CCalls, &c.Bells, &c.WRs, &c.Polls, &c.EmptyPolls, &c.WCs, &c.Reads, &c.ReadRetries, &c.ReadMisses, &c.ReadSkips}
}

type countersKey struct{}

// CountersOf returns the counters of the networks on l, which count there. From l's goroutine.
func CountersOf(l *loop.Loop) *Counters {
	return l.Value(countersKey{}, func() any { return new(Counters) }).(*Counters)
}

// LoopCounters are the counters of a loop, or the sum of those of several: what the loop has counted itself, and what the networks on it have. In JSON
// the fields of both stand side by side.
type LoopCounters struct {
	loop.Stats
	Counters
}

// Snapshot returns the counters of l. From l's goroutine.
func Snapshot(l *loop.Loop) LoopCounters { return LoopCounters{l.Snapshot(), *CountersOf(l)} }

// ReadCounters is Snapshot for any other goroutine.
func ReadCounters(l *loop.Loop) (c LoopCounters, err error) {
	err = l.Call(func() { c = Snapshot(l) })
	return c, err
}

// Add sums counters of several loops.
func (c *LoopCounters) Add(o LoopCounters) {
	c.Stats.Add(o.Stats)
	from := o.fields()
	for i, to := range c.fields() {
		*to += *from[i]
	}
}

// Sub is what was counted since o.
func (c LoopCounters) Sub(o LoopCounters) LoopCounters {
	c.Stats = c.Stats.Sub(o.Stats)
	from := o.fields()
	for i, to := range c.fields() {
		*to -= *from[i]
	}
	return c
}
