package store

import (
	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/loop"
)

// uring is the disk whose transfers are SQEs on the loop's own ring: they are submitted at the end of the
// turn, in the system call that the loop makes anyway, and complete through OnEvent.
type uring struct {
	l     *loop.Loop
	id    loop.MemberID
	fds   []int
	fixed bool   // buffers are registered
	write uint32 // per-write flags: RWFDsync for durability flush
}

var _ disk = (*uring)(nil)

func (u *uring) submit(tag uint64, t *transfer) bool {
	e := u.l.SQE(u.id, tag)
	if e == nil {
		return false
	}
	fd := u.fds[t.class]
	switch {
	case t.kind == growSlab:
		e.Fallocate(fd, 0, t.off, t.length)
	case (t.kind == readPage || t.kind == readItem) && u.fixed:
		e.ReadFixed(fd, t.buf, t.off, t.fixed)
	case t.kind == readPage || t.kind == readItem:
		e.Read(fd, t.buf, t.off)
	case u.fixed:
		e.WriteFixed(fd, t.buf, t.off, t.fixed)
		e.OpFlags = u.write
	default:
		e.Write(fd, t.buf, t.off)
		e.OpFlags = u.write
	}
	return true
}

func (u *uring) poll([]completion) int { return 0 }

// The kernel takes at most 1 GiB in one registered buffer.
const fixedShift = 30

// registered splits memory into buffers to register; the byte at off is in buffer off >> fixedShift.
func registered(arenas ...*arena.Arena) (bufs [][]byte) {
	for _, a := range arenas {
		for b := a.Bytes(); len(b) > 0; {
			n := min(len(b), 1<<fixedShift)
			bufs = append(bufs, b[:n])
			b = b[n:]
		}
	}
	return bufs
}

// register pins memory once, so that the kernel need not do it for each transfer.
func (u *uring) register(r *ring.Ring, bufs [][]byte) error {
	if err := r.RegisterBuffers(bufs); err != nil {
		return err
	}
	u.fixed = true
	return nil
}
