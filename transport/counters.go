package transport

import "github.com/kvwire/kvwire/loop"

// Counters count the work of the networks on one loop since the loop began, for servers' and clients' connections together. They live as long as the
// loop, so no counter falls when an endpoint or a connection ends. Only the loop's goroutine may use them.
type Counters struct {
	// Of sockets.
	Sends      uint64 // system calls or ring entries
	Receives   uint64 // likewise; also those that find nothing, but not the polls of a spinning loop
	Shorts     uint64 // sends, and receives of a body of known length, that moved only a part of the bytes and were continued
	NoBuffers  uint64 // receives that found no provided buffer (ENOBUFS)
	ZeroCopies uint64 // sends without a copy whose memory was free again
	ZeroCopied uint64 // of these, those that the kernel copied after all

	// Of datagrams.
	Packets     uint64 // datagrams given to the kernel
	Retransmits uint64 // of these, packets of requests, and fetches of replies, that were sent again
	Timeouts    uint64 // requests whose time-out passed without progress
	Stalls      uint64 // times that a request had something to send, and its connection no credit
	RoundTrips  uint64 // round trips that were measured
	RoundTripNs uint64 // their sum, without the server's time
	Duplicates  uint64 // datagrams received with parts of requests or replies that were there already
	Garbage     uint64 // datagrams received that fit no connection or no state

	// Of servers.
	Denied uint64 // connections and passwords that were rejected

	// Of RDMA devices.
	CCalls     uint64 // calls from Go into C
	Bells      uint64 // doorbells: posts to a send queue
	WRs        uint64 // work requests posted to send queues
	Polls      uint64 // polls of a completion queue
	EmptyPolls uint64 // those that found nothing
	WCs        uint64 // completions that they found

	// Of one-sided gets.
	Reads       uint64 // RDMA READs posted
	ReadRetries uint64 // of an entry that was being written
	ReadMisses  uint64 // gets that the server had to answer after all
	ReadSkips   uint64 // gets for which no READ was tried: nothing is exported, or not that key
}

// fields returns pointers to all counters, for Add and Sub.
func (c *Counters) fields() [25]*uint64 {
	return [...]*uint64{&c.Sends, &c.Receives, &c.Shorts, &c.NoBuffers, &c.ZeroCopies, &c.ZeroCopied, &c.Denied,
		&c.Packets, &c.Retransmits, &c.Timeouts, &c.Stalls, &c.RoundTrips, &c.RoundTripNs, &c.Duplicates, &c.Garbage,
		&c.CCalls, &c.Bells, &c.WRs, &c.Polls, &c.EmptyPolls, &c.WCs, &c.Reads, &c.ReadRetries, &c.ReadMisses, &c.ReadSkips}
}

type countersKey struct{}

// CountersOf returns the counters that the networks on l increment. Only l's goroutine may call it.
func CountersOf(l *loop.Loop) *Counters {
	return l.Value(countersKey{}, func() any { return new(Counters) }).(*Counters)
}

// LoopCounters are the counters of a loop and of the networks on it, or the sum over several loops. In JSON the fields of both stand side by side.
type LoopCounters struct {
	loop.Stats
	Counters
}

// Snapshot returns the counters of l. Only l's goroutine may call it.
func Snapshot(l *loop.Loop) LoopCounters { return LoopCounters{l.Snapshot(), *CountersOf(l)} }

// ReadCounters is Snapshot for any other goroutine: it blocks until l has run it.
func ReadCounters(l *loop.Loop) (c LoopCounters, err error) {
	err = l.Call(func() { c = Snapshot(l) })
	return c, err
}

// Add adds the counters of another loop.
func (c *LoopCounters) Add(o LoopCounters) {
	c.Stats.Add(o.Stats)
	from := o.fields()
	for i, to := range c.fields() {
		*to += *from[i]
	}
}

// Sub returns the increase since o, an earlier value of the same counters.
func (c LoopCounters) Sub(o LoopCounters) LoopCounters {
	c.Stats = c.Stats.Sub(o.Stats)
	from := o.fields()
	for i, to := range c.fields() {
		*to -= *from[i]
	}
	return c
}
