//go:build giouring

package ring

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/pawelgaczynski/giouring"
	"golang.org/x/sys/unix"
)

// Built says whether this binary has io_uring support compiled in.
const Built = true

// Ring is one io_uring instance. It belongs to the goroutine that opened it, which must be
// locked to its thread: no method may be called from another one.
type Ring struct {
	r       *giouring.Ring
	sqFlags *uint32 // the kernel's flag word: TASKRUN, CQ_OVERFLOW
	pending uint32  // filled and not yet shown to the kernel
	wait    waitArg
	got     [64]*giouring.CompletionQueueEvent
	Counters
}

// waitArg is struct io_uring_getevents_arg with the time it points to; part of the Ring, so
// that a wait allocates nothing.
type waitArg struct {
	raw [3]uint64 // sigmask; its size and padding; pointer to ts
	ts  unix.Timespec
}

const (
	sqTaskrun  = 1 << 2
	sqOverflow = 1 << 1

	setupCoopTaskrun  = 1 << 8
	setupTaskrunFlag  = 1 << 9
	setupSingleIssuer = 1 << 12
	setupDeferTaskrun = 1 << 13
)

// submissionQueue mirrors the head of giouring.SubmissionQueue, whose fields are not exported.
type submissionQueue struct{ head, tail, _, _, flags *uint32 }

// Open makes a ring on the calling thread. EPERM and ENOSYS come back with what to do.
func Open(o Options) (*Ring, error) {
	if o.Entries == 0 {
		o.Entries = 256
	}
	var flags uint32
	if o.DeferTaskrun {
		flags |= setupSingleIssuer | setupDeferTaskrun | setupTaskrunFlag
	}
	if o.CoopTaskrun {
		flags |= setupCoopTaskrun | setupTaskrunFlag
	}
	g := giouring.NewRing()
	err := g.QueueInit(uint32(o.Entries), flags)
	if errors.Is(err, unix.EINVAL) && flags != 0 { // a kernel before 6.1 or 5.19: same meaning, more interrupts
		g = giouring.NewRing()
		err = g.QueueInit(uint32(o.Entries), 0)
	}
	if err != nil {
		return nil, fmt.Errorf("ring: io_uring_setup with %d entries: %w (%s)", o.Entries, err, remedy(err))
	}
	r := &Ring{r: g}
	r.sqFlags = (*(**submissionQueue)(unsafe.Pointer(g))).flags
	return r, nil
}

func remedy(err error) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return "io_uring is forbidden here: sysctl kernel.io_uring_disabled=0, or in a container --security-opt seccomp=unconfined"
	case errors.Is(err, unix.ENOSYS):
		return "this kernel or its seccomp filter has no io_uring: Linux 5.19 or later is needed"
	case errors.Is(err, unix.ENOMEM):
		return "locked-memory limit: ulimit -l unlimited"
	}
	return "see kvwire doctor"
}

// Fd is the ring's descriptor: readable in an epoll set when completions wait (not with DeferTaskrun).
func (r *Ring) Fd() int { return r.r.RingFd() }

// Next gives the next free entry, zeroed but for its user data. When the queue is full it
// submits what is there; it is nil only if the kernel takes nothing then.
func (r *Ring) Next(userData uint64) *SQE {
	e := r.r.GetSQE()
	if e == nil {
		if r.Enter(0, 0) != nil {
			return nil
		}
		if e = r.r.GetSQE(); e == nil {
			return nil
		}
	}
	s := (*SQE)(unsafe.Pointer(e))
	*s = SQE{UserData: userData}
	r.pending++
	return s
}

// Pending is the number of entries that the next Enter will submit: those filled since the last one, and
// those that the kernel did not take then.
func (r *Ring) Pending() int { return int(r.pending + r.untaken()) }

func (r *Ring) untaken() uint32 {
	sq := *(**submissionQueue)(unsafe.Pointer(r.r))
	return atomic.LoadUint32(sq.tail) - atomic.LoadUint32(sq.head)
}

// Ready says, without a system call, whether Reap would find something, or the kernel waits
// for an Enter to hand completions over.
func (r *Ring) Ready() bool { return r.r.CQReady() != 0 || r.NeedsEnter() }

// NeedsEnter says whether completions wait for an Enter to become visible.
func (r *Ring) NeedsEnter() bool { return atomic.LoadUint32(r.sqFlags)&(sqTaskrun|sqOverflow) != 0 }

// Enter submits everything pending and, with wait > 0, waits until that many completions are
// there or timeoutNs have passed (0: no limit). It also lets completions appear. A signal, or
// a kernel that cannot take more before completions are reaped, ends it early without an error.
func (r *Ring) Enter(wait int, timeoutNs int64) error {
	// GetSQE keeps its own tail; the kernel sees it after a flush, which Submit would do together
	// with an enter. So publish the tail here, and enter once with all arguments.
	sq := *(**submissionQueue)(unsafe.Pointer(r.r))
	atomic.StoreUint32(sq.tail, atomic.LoadUint32(sq.tail)+r.pending)
	r.SQEs += uint64(r.pending)
	r.pending = 0
	toSubmit := r.untaken()
	flags := uint32(giouring.EnterGetEvents)
	var arg unsafe.Pointer
	size := 8 // sizeof(sigset_t) as the kernel counts it
	if wait > 0 && timeoutNs > 0 {
		r.wait.ts = unix.NsecToTimespec(timeoutNs)
		r.wait.raw = [3]uint64{0, 8, uint64(uintptr(unsafe.Pointer(&r.wait.ts)))}
		flags |= giouring.EnterExtArg
		arg, size = unsafe.Pointer(&r.wait.raw), int(unsafe.Sizeof(r.wait.raw))
	}
	r.Enters++
	_, err := r.r.Enter2(toSubmit, uint32(wait), flags, arg, size)
	switch {
	case err == nil, errors.Is(err, unix.EINTR), errors.Is(err, unix.ETIME), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EBUSY):
		return nil
	}
	return fmt.Errorf("ring: io_uring_enter: %w", err)
}

// Reap copies completions that are visible into dst, oldest first, and frees their places.
func (r *Ring) Reap(dst []CQE) int {
	ready := int(r.r.CQReady())
	if ready == 0 {
		return 0
	}
	n := min(len(dst), len(r.got), ready)
	n = int(r.r.PeekBatchCQE(r.got[:n]))
	for i, c := range r.got[:n] {
		dst[i] = CQE{c.UserData, c.Res, c.Flags}
	}
	r.r.CQAdvance(uint32(n))
	r.CQEs += uint64(n)
	return n
}

const (
	registerBuffers = 0
	registerProbe   = 8
)

// RegisterBuffers pins memory once for ReadFixed and WriteFixed; the index is the place in bufs.
// ENOMEM means that the locked-memory limit is too low.
func (r *Ring) RegisterBuffers(bufs [][]byte) error {
	iov := make([]unix.Iovec, len(bufs))
	for i, b := range bufs {
		iov[i].Base = unsafe.SliceData(b)
		iov[i].SetLen(len(b))
	}
	if _, errno := r.r.Register(r.r.RingFd(), registerBuffers, unsafe.Pointer(unsafe.SliceData(iov)), uint32(len(iov))); errno != 0 {
		return fmt.Errorf("ring: register %d buffers: %w (%s)", len(bufs), errno, remedy(errno))
	}
	return nil
}

// Supports asks the kernel whether it knows an opcode.
func (r *Ring) Supports(opcode uint8) bool {
	var p struct {
		lastOp, opsLen uint8
		_              [14]byte
		ops            [256]struct {
			op, _ uint8
			flags uint16
			_     uint32
		}
	}
	if _, errno := r.r.Register(r.r.RingFd(), registerProbe, unsafe.Pointer(&p), 256); errno != 0 {
		return false
	}
	return opcode <= p.lastOp && p.ops[opcode].flags&1 != 0
}

// Close ends the ring. The kernel cancels what is in flight, and may still write to its
// buffers until it has: reap everything first.
func (r *Ring) Close() error {
	r.r.QueueExit()
	return nil
}
