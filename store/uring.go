package store

import (
	"fmt"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/loop"
)

// uring is the disk whose transfers are SQEs on the loop's own ring: they are submitted at the end of the
// turn, in the system call that the loop makes anyway, and complete through OnEvent. With IOPOLL it has a ring of its
// own, since what else is on a loop's ring cannot be polled for.
type uring struct {
	engineBase
	sqe      entries
	r        *ring.Ring // the loop's, or its own
	own      bool
	inFlight int
	staged   bool   // transfers are on the loop's ring since the last turn's end
	entered  uint64 // … and r.Enters before
	err      error  // of looking at a ring of its own
	cqes     [64]ring.CQE
}

var _ engine = (*uring)(nil)

func (u *uring) open(id loop.MemberID, fds []int, bufs [][]byte) (err error) {
	u.id, u.fds = id, fds
	if u.o.IOPoll {
		if u.r, err = ring.Open(ring.Options{Entries: u.o.DepthMax, IOPoll: true}); err != nil {
			return fmt.Errorf("store: disk engine uring with IOPOLL: %w", err)
		}
		u.own = true
	}
	u.sqe = newEntries(&u.engineBase)
	u.sqe.register(&u.engineBase, u.r.RegisterBuffers, u.r.RegisterFiles, bufs)
	return nil
}

func (u *uring) fixed() (buffers, files bool) { return u.sqe.bufs, u.sqe.files }

func (u *uring) submit(tag uint64, t *transfer) bool {
	if u.own && t.kind == growSlab { // not to be polled for
		u.grow(tag, t)
		return true
	}
	if !u.staged {
		u.staged, u.entered = true, u.r.Enters
	}
	var e *ring.SQE
	if u.own {
		e = u.r.Next(tag)
	} else {
		e = u.l.SQE(u.id, tag)
	}
	if e == nil {
		return false
	}
	u.sqe.fill(e, t)
	u.inFlight++
	return true
}

func (u *uring) flush() error {
	if u.own {
		if u.err != nil {
			return u.err
		}
		if u.staged {
			if err := u.r.Submit(); err != nil {
				return err
			}
			u.counted()
		}
		if u.inFlight > 0 {
			u.l.Again() // nothing announces what is polled for
		}
		return nil
	}
	if n := min(u.o.DiskWait, u.inFlight); n > 1 {
		u.l.WaitFor(n, loop.Nanos()+int64(u.o.DiskWaitMax))
	}
	return nil
}

// counted takes down the system calls of a turn's end that carried transfers: one at most, but for a full queue. With SQPOLL it
// is one only where the loop went to sleep, or had to wake the kernel's thread.
func (u *uring) counted() {
	u.made += u.r.Enters - u.entered
	u.staged = false
}

// Poll counts, and looks where the device is polled. It finds nothing: the partition polls.
func (u *uring) Poll() int {
	if u.staged {
		u.counted()
	}
	if !u.own {
		return 0
	}
	if u.inFlight > 0 {
		u.made++
		u.err = u.r.Enter(0, 0)
		u.reap()
	}
	u.tell(u.calls())
	return 0
}

func (u *uring) reap() {
	for {
		n := u.r.Reap(u.cqes[:])
		for i := range u.cqes[:n] {
			u.OnEvent(u.cqes[i].UserData, u.cqes[i].Res, 0)
		}
		if n < len(u.cqes) {
			return
		}
	}
}

// OnEvent takes a completion.
func (u *uring) OnEvent(tag uint64, res int32, _ uint32) {
	u.inFlight--
	u.done.Push(completion{tag, res})
}

// Arm looks for what a goroutine has done: only slabs grow in one, and only with IOPOLL.
func (u *uring) Arm() (bool, error) { return u.in.some.Load(), nil }

// Close gives back what was registered.
func (u *uring) Close() bool {
	switch {
	case u.own:
		u.r.Unregister()
		_ = u.r.Close()
		u.own = false
	case u.fds != nil:
		u.r.Unregister()
	}
	u.fds = nil
	return true
}

// entries makes SQEs of transfers.
type entries struct {
	fds         []int
	write       uint32
	bufs, files bool // registered
	firstBuf    int  // their places in the ring's tables
	firstFile   int
}

func newEntries(b *engineBase) entries { return entries{fds: b.fds, write: b.write} }

func (x *entries) fill(e *ring.SQE, t *transfer) {
	fd := x.fds[t.class]
	if x.files {
		fd = x.firstFile + int(t.class)
	}
	switch {
	case t.kind == growSlab:
		e.Fallocate(fd, 0, t.off, t.length)
	case t.isRead() && x.bufs:
		e.ReadFixed(fd, t.buf, t.off, x.firstBuf+t.fixed)
	case t.isRead():
		e.Read(fd, t.buf, t.off)
	case x.bufs:
		e.WriteFixed(fd, t.buf, t.off, x.firstBuf+t.fixed)
		e.OpFlags = x.write
	default:
		e.Write(fd, t.buf, t.off)
		e.OpFlags = x.write
	}
	if x.files {
		e.FixedFile()
	}
}

// register pins memory once, so that the kernel need not do it for each transfer, and makes the files known. Without it things
// go on at a higher price, which is said.
func (x *entries) register(b *engineBase, buffers func([][]byte) error, files func([]int) error, bufs [][]byte) {
	if !b.o.NoFixedBuffers {
		if err := buffers(bufs); err != nil {
			b.o.Log.Warn("the page cache is not registered with the ring: reads and writes cost more", "shard", b.shard, "reason", err)
		} else {
			x.bufs = true
		}
	}
	if !b.o.NoFixedFiles {
		if err := files(b.fds); err != nil {
			b.o.Log.Warn("the files are not registered with the ring: reads and writes cost more", "shard", b.shard, "reason", err)
		} else {
			x.files = true
		}
	}
}

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
