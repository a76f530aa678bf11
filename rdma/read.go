//go:build rdma && cgo && linux

package rdma

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/export"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
)

// exporter is a partition with a table that NICs can read.
type exporter interface{ Export() *export.Table }

// exported describes one partition's table to a client.
type exported struct {
	addr  uint64
	rkey  uint32
	shape export.Shape // without entries: the partition exports nothing
}

// Tables follow the other parameters in a server's hello, one for each partition: their number u32, and for each
// address u64 | rkey u32 | entries u32 | entry bytes u32, little-endian.
const (
	tableBytes = 20
	tablesMax  = 16 // as many as fit into a hello; with more partitions none is exported
)

func encodeTables(b []byte, tables []exported) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(tables)))
	for _, t := range tables {
		b = binary.LittleEndian.AppendUint64(b, t.addr)
		b = binary.LittleEndian.AppendUint32(b, t.rkey)
		b = binary.LittleEndian.AppendUint32(b, uint32(t.shape.Entries))
		b = binary.LittleEndian.AppendUint32(b, uint32(t.shape.EntryBytes))
	}
	return b
}

// decodeTables parses the tables that follow the parameters in a server's hello.
func decodeTables(b []byte) ([]exported, error) {
	if len(b) < 4 {
		return nil, nil
	}
	n := binary.LittleEndian.Uint32(b)
	if b = b[4:]; n > tablesMax || len(b) < int(n)*tableBytes {
		return nil, fmt.Errorf("%w: %d tables in %d bytes", transport.ErrProtocol, n, len(b))
	}
	tables := make([]exported, n)
	for i := range tables {
		t, e := &tables[i], b[i*tableBytes:]
		t.addr, t.rkey = binary.LittleEndian.Uint64(e), binary.LittleEndian.Uint32(e[8:])
		t.shape = export.Shape{Entries: int(binary.LittleEndian.Uint32(e[12:])), EntryBytes: int(binary.LittleEndian.Uint32(e[16:]))}
		if s := t.shape; s.Entries < 0 || s.Entries > 1<<26 || s.Entries&(s.Entries-1) != 0 || s.EntryBytes < 0 || s.EntryBytes > 2<<20 {
			return nil, fmt.Errorf("%w: a table of %d entries of %d B", transport.ErrProtocol, s.Entries, s.EntryBytes)
		}
	}
	return tables, nil
}

// export makes the tables of the group's partitions readable through n. Only the loop's goroutine may call it. The tables do not move.
func (n *nic) export(g *loop.Group) ([]exported, error) {
	parts := g.Partitions()
	if len(parts) > tablesMax {
		return nil, nil
	}
	tables := make([]exported, len(parts))
	for i, p := range parts {
		e, ok := p.(exporter)
		if !ok || e.Export() == nil {
			continue
		}
		a := e.Export().Arena()
		r, err := n.register(a, verbs.RemoteRead)
		if err != nil {
			return nil, err
		}
		tables[i] = exported{verbs.Address(a.Bytes()), r.RKey, e.Export().Shape}
	}
	return tables, nil
}

// triesMax is the most repeated READs of an entry that is being written. After that the get is sent to the server.
const triesMax = 3

// reader gets values by RDMA READ of the server's tables, and sends a get to the server if it does not find the value there.
// It belongs to its link, and allows as many more requests in flight as the granted depth.
type reader struct {
	l       *link
	tables  []exported
	mem     *arena.Arena // memory for the entries that are read
	region  *verbs.Region
	bytes   int // of each entry's memory
	slots   []reading
	free    []int
	posts   []int    // slots whose READ must be posted
	waiting kv.Queue // requests that wait for a slot
	server  kv.Handler
}

// reading is a get in flight by READ.
type reading struct {
	r      *kv.Request
	n      int // number of bytes to read
	tries  int
	posted bool
}

func newReader(l *link, tables []exported, depth int, ask kv.Handler) (*reader, error) {
	d := &reader{l: l, tables: tables, slots: make([]reading, depth), server: ask}
	for i, t := range tables {
		d.bytes = max(d.bytes, t.shape.EntryBytes)
		if t.shape.Entries > 0 && t.shape.EntryBytes == 0 {
			return nil, fmt.Errorf("%w: table %d has empty entries", transport.ErrProtocol, i)
		}
	}
	if d.bytes == 0 {
		return nil, nil // nothing is exported
	}
	d.free, d.posts = make([]int, 0, depth), make([]int, 0, depth)
	for i := range depth {
		d.free = append(d.free, i)
	}
	var err error
	if d.mem, err = arena.NewShared(depth * d.bytes); err != nil {
		return nil, err
	}
	if d.region, err = l.d.nic.dev.Register(d.mem.Bytes(), verbs.Local); err != nil {
		_ = d.mem.Close()
		return nil, err
	}
	return d, nil
}

// get begins a get by READ. false: only the server can answer it.
func (d *reader) get(r *kv.Request) bool {
	t := &d.tables[kv.Shard(r.Key, len(d.tables))]
	if t.shape.Entries == 0 || t.shape.ReadBytes(len(r.Key), 0) == t.shape.EntryBytes {
		return false
	}
	if len(d.free) == 0 {
		d.waiting.Push(r)
		return true
	}
	i := d.free[len(d.free)-1]
	d.free = d.free[:len(d.free)-1]
	loop.Mark(r, kv.StageClientQueue)
	d.slots[i] = reading{r: r, n: t.shape.ReadBytes(len(r.Key), cap(r.Value))}
	d.posts = append(d.posts, i)
	d.l.Touch()
	return true
}

// stage adds READs to the batch, as far as the send queue has room. It returns the last one.
func (d *reader) stage(last *verbs.Op) *verbs.Op {
	l, k := d.l, 0
	n := l.d.nic
	for ; k < len(d.posts) && l.out.room() > 0; k++ { // a completion makes room for the others
		if n.batch.Full() {
			l.signalLast(last)
			l.d.post()
		}
		i := d.posts[k]
		s := &d.slots[i]
		t := &d.tables[kv.Shard(s.r.Key, len(d.tables))]
		last = n.batch.Next(l.pair.qp)
		l.d.owners = append(l.d.owners, l)
		last.WR = l.tag<<wrTagShift | uint64(l.out.place())
		last.Kind, last.Imm, last.Flags, last.SGEs = verbs.OpRead, 0, 0, 1
		last.Remote, last.RKey = t.addr+uint64(t.shape.Place(s.r.Key)), t.rkey
		last.SGE[0] = verbs.Piece(d.mem.Bytes()[i*d.bytes:][:s.n], d.region.LKey)
		if !s.posted {
			loop.Mark(s.r, kv.StageClientSubmit)
		}
		s.posted = true
		l.out.push(sending{read: int32(i + 1)})
		l.signal(last)
		l.d.count.Reads++
	}
	d.posts = d.posts[:copy(d.posts, d.posts[k:])]
	return last
}

// ended handles the completion of a READ.
func (d *reader) ended(i int) {
	s := &d.slots[i]
	r := s.r
	loop.Mark(r, kv.StageFabric)
	value, err := export.Parse(d.mem.Bytes()[i*d.bytes:][:s.n], r.Key)
	if errors.Is(err, export.ErrTorn) && s.tries < triesMax {
		s.tries++
		d.l.d.count.ReadRetries++
		d.posts = append(d.posts, i)
		d.l.Touch()
		return
	}
	*s = reading{}
	d.free = append(d.free, i)
	if err != nil {
		d.l.d.count.ReadMisses++
		d.server.Submit(r)
	} else {
		r.Status, r.Need = kv.StatusOK, 0
		r.Value = append(r.Value[:0], value...) // does not grow: no more was read than there is room for
		d.l.d.l.Stats.Copied += uint64(len(value))
		d.l.d.l.Finish(r)
	}
	if next := d.waiting.Pop(); next != nil && !d.get(next) {
		d.server.Submit(next)
	}
}

// busy reports whether requests are in flight, or wait for a slot.
func (d *reader) busy() bool { return len(d.free) < len(d.slots) || !d.waiting.Empty() }

// drop ends all gets, after the queue pair was destroyed: those with a posted READ as StatusUnknown, the others as StatusClosed.
func (d *reader) drop() {
	finish := func(r *kv.Request, s kv.Status) {
		r.Status = s
		d.l.d.l.Finish(r)
	}
	for i := range d.slots {
		s := &d.slots[i]
		if s.r == nil {
			continue
		}
		status := kv.StatusClosed
		if s.posted {
			status = kv.StatusUnknown
		}
		finish(s.r, status)
		*s = reading{}
	}
	for r := d.waiting.Pop(); r != nil; r = d.waiting.Pop() {
		finish(r, kv.StatusClosed)
	}
}

// close frees the entries' memory. The queue pair was destroyed before.
func (d *reader) close() error {
	err := d.region.Close()
	return errors.Join(err, d.mem.Close())
}
