package store

import (
	"math"
	"time"

	"github.com/kvwire/kvwire/internal/export"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

// nullPartition answers every request without a lookup, so that only the network and the loop are measured.
type nullPartition struct {
	l      *loop.Loop
	shard  int
	o      Options
	table  *export.Table // nil: none
	closed bool

	delayed kv.Queue // requests that wait for their delay, oldest first
}

var _ loop.Partition = (*nullPartition)(nil)

// Submit answers with StatusOK. A get returns NullValueBytes bytes, whatever the buffer contains.
func (n *nullPartition) Submit(r *kv.Request) {
	loop.Mark(r, kv.StageServerQueue)
	r.Need, r.More, r.Record = 0, false, kv.WalkEnd
	r.Status = n.o.Limits.Check(r)
	switch {
	case n.closed:
		r.Status = kv.StatusClosed
	case r.Status != kv.StatusOK:
	case r.Op == kv.OpGet && cap(r.Value) < n.o.NullValueBytes:
		r.Status, r.Need = kv.StatusTooSmall, uint32(n.o.NullValueBytes)
	case r.Op == kv.OpGet:
		r.Value = r.Value[:n.o.NullValueBytes]
		if n.table != nil {
			n.table.Put(r.Key, r.Value)
		}
	case r.Op == kv.OpScan || r.Op == kv.OpKeys || r.Op == kv.OpStats:
		r.Value = r.Value[:0]
	case r.Op == kv.OpAdd:
		r.Value = append(r.Value[:0], '0')
	case r.Op == kv.OpSwap:
		r.Limit = 0
	case r.Op == kv.OpTake:
		r.Value = r.Value[:0]
	}
	if n.o.NullBusy > 0 && !n.closed {
		busy(n.o.NullBusy)
	}
	if n.o.NullDelay > 0 && !n.closed {
		setDue(r, loop.Nanos()+int64(n.o.NullDelay))
		n.delayed.Push(r)
		return
	}
	loop.Mark(r, kv.StageStore)
	n.l.Finish(r)
}

// busy uses CPU time for d.
func busy(d time.Duration) {
	for until := loop.Nanos() + int64(d); loop.Nanos() < until; {
	}
}

// NullBusyCost measures the CPU time that NullBusy = d adds to a request: d and up to two readings of the clock. It blocks for some
// milliseconds.
func NullBusyCost(d time.Duration) time.Duration {
	const batches, batch = 20, 5 * time.Millisecond / 10
	calls := max(1, int(batch/max(d, 50)))
	least := time.Duration(math.MaxInt64) // of batches: another process may have had the CPU in some
	for range batches {
		begun := loop.Nanos()
		for range calls {
			busy(d)
		}
		least = min(least, time.Duration((loop.Nanos()-begun)/int64(calls)))
	}
	return least
}

func (n *nullPartition) OnEvent(uint64, int32, uint32) {}

// nullSpinMax is the rest of a delay, in ns, for which Poll spins: a further turn of the loop would take about as long.
const nullSpinMax = 1000

// Poll answers the requests whose delay is over or ends within nullSpinMax. All have the same delay, so the oldest is the first.
func (n *nullPartition) Poll() (found int) {
	for r := n.delayed.Pop(); r != nil; r = n.delayed.Pop() {
		if left := dueOf(r) - loop.Nanos(); !n.closed && left > 0 {
			if left > nullSpinMax {
				n.delayed.PushFront(r)
				return found
			}
			busy(time.Duration(left))
		}
		loop.Mark(r, kv.StageStore)
		n.l.Finish(r)
		found++
	}
	return found
}

// Stage keeps the loop turning while a delay runs: a loop that slept would wake some 50 µs late.
func (n *nullPartition) Stage() error {
	if !n.delayed.Empty() {
		n.l.Again()
	}
	return nil
}

// Busy implements loop.Busier.
func (n *nullPartition) Busy() string {
	if !n.delayed.Empty() {
		return "requests wait for --null-delay"
	}
	return ""
}

// Export returns the table that NICs may read; nil: none.
func (n *nullPartition) Export() *export.Table { return n.table }

func (n *nullPartition) Close() bool {
	if n.closed {
		return true
	}
	n.closed = true
	n.Poll()
	if n.table != nil {
		_ = n.table.Close()
	}
	return true
}

// Snapshot returns the partition's statistics. Only its loop may call it.
func (n *nullPartition) Snapshot() Stats { return Stats{Backend: n.o.Backend.String(), Shard: n.shard} }
