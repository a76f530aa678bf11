package store

import (
	"github.com/kvwire/kvwire/internal/export"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

// nullPartition answers every request without looking: what is left is the network and the loop.
type nullPartition struct {
	l      *loop.Loop
	shard  int
	o      Options
	table  *export.Table // nil: none
	closed bool
}

var _ loop.Partition = (*nullPartition)(nil)

// Submit answers OK: a get with as many bytes as Options say, of whatever is in the buffer.
func (n *nullPartition) Submit(r *kv.Request) {
	loop.Mark(r, kv.StageServerQueue)
	r.Need = 0
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
	loop.Mark(r, kv.StageStore)
	n.l.Finish(r)
}

func (n *nullPartition) OnEvent(uint64, int32, uint32) {}
func (n *nullPartition) Poll() int                     { return 0 }
func (n *nullPartition) Stage() error                  { return nil }

// Export is the table that NICs may read; nil: none.
func (n *nullPartition) Export() *export.Table { return n.table }

func (n *nullPartition) Close() bool {
	if n.table != nil && !n.closed {
		_ = n.table.Close()
	}
	n.closed = true
	return true
}

// Snapshot is for the partition's loop.
func (n *nullPartition) Snapshot() Stats { return Stats{Backend: n.o.Backend.String(), Shard: n.shard} }
