package disk

import (
	"fmt"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/loop"
)

// uring is the disk whose transfers are entries (SQEs) on the loop's own ring. They are submitted at the end of the
// turn, in the system call that the loop makes anyway, and complete through OnEvent. With IOPOLL it has a separate
// ring, because the other entries of a loop's ring cannot be polled.
type uring struct {
	engineBase
	sqe      entries
	r        *ring.Ring // the loop's, or its own
	own      bool
	inFlight int
	staged   bool   // transfers were put onto the loop's ring since the last turn's end
	entered  uint64 // r.Enters before that
	err      error  // error of polling the separate ring
	cqes     [64]ring.CQE
}

var _ Engine = (*uring)(nil)

func (u *uring) Open(id loop.MemberID, fds []int, bufs [][]byte) (err error) {
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

func (u *uring) Fixed() (buffers, files bool) { return u.sqe.bufs, u.sqe.files }

func (u *uring) Submit(tag uint64, t *Transfer) bool {
	if u.own && t.Op == Grow { // growing cannot be polled
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

func (u *uring) Flush() error {
	if u.own {
		if u.err != nil {
			return u.err
		}
		if u.staged {
			if err := u.r.Submit(); err != nil {
				return err
			}
			u.countCalls()
		}
		if u.inFlight > 0 {
			u.l.Again() // with IOPOLL no event announces completions
		}
		return nil
	}
	if n := min(u.o.Wait, u.inFlight); n > 1 {
		u.l.WaitFor(n, loop.Nanos()+int64(u.o.WaitMax))
	}
	return nil
}

// countCalls counts the system calls at a turn's end that submitted transfers: at most one, unless the queue was full. With SQPOLL
// there is one only if the loop went to sleep, or had to wake the kernel's thread.
func (u *uring) countCalls() {
	u.calls += u.r.Enters - u.entered
	u.staged = false
}

// Poll implements loop.Member. It updates counters, and with IOPOLL polls the device. It finds nothing: the partition reaps.
func (u *uring) Poll() int {
	if u.staged {
		u.countCalls()
	}
	if !u.own {
		return 0
	}
	if u.inFlight > 0 {
		u.calls++
		u.err = u.r.Enter(0, 0)
		u.reap()
	}
	u.reportCalls(u.Calls())
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

// OnEvent queues a completion.
func (u *uring) OnEvent(tag uint64, res int32, _ uint32) {
	u.inFlight--
	u.done.Push(Completion{tag, res})
}

// Arm implements loop.Armer. It checks for completions of goroutines: with IOPOLL, slabs grow in one.
func (u *uring) Arm() (bool, error) { return u.in.nonEmpty.Load(), nil }

// Close unregisters memory and files.
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

// entries converts transfers to SQEs.
type entries struct {
	fds         []int
	write       uint32
	bufs, files bool // whether memory and files are registered
	firstBuf    int  // first index of each in the ring's tables
	firstFile   int
}

func newEntries(b *engineBase) entries { return entries{fds: b.fds, write: b.write} }

func (x *entries) fill(e *ring.SQE, t *Transfer) {
	fd := x.fds[t.File]
	if x.files {
		fd = x.firstFile + int(t.File)
	}
	switch {
	case t.Op == Grow:
		e.Fallocate(fd, 0, t.Off, t.Length)
	case t.Op == Read && x.bufs:
		e.ReadFixed(fd, t.Buf, t.Off, x.firstBuf+t.Fixed)
	case t.Op == Read:
		e.Read(fd, t.Buf, t.Off)
	case x.bufs:
		e.WriteFixed(fd, t.Buf, t.Off, x.firstBuf+t.Fixed)
		e.OpFlags = x.write
	default:
		e.Write(fd, t.Buf, t.Off)
		e.OpFlags = x.write
	}
	if x.files {
		e.FixedFile()
	}
}

// register registers memory, so that the kernel pins it once and not for each transfer, and files. If that fails, it logs a
// warning, and transfers cost more.
func (x *entries) register(b *engineBase, buffers func([][]byte) error, files func([]int) error, bufs [][]byte) {
	if !b.o.NoFixedBuffers {
		if err := buffers(bufs); err != nil {
			b.o.Log.Warn("the page cache is not registered with the ring: reads and writes cost more", "shard", b.o.Shard, "reason", err)
		} else {
			x.bufs = true
		}
	}
	if !b.o.NoFixedFiles {
		if err := files(b.fds); err != nil {
			b.o.Log.Warn("the files are not registered with the ring: reads and writes cost more", "shard", b.o.Shard, "reason", err)
		} else {
			x.files = true
		}
	}
}
