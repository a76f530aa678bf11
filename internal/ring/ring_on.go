//go:build giouring

package ring

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pawelgaczynski/giouring"
	"golang.org/x/sys/unix"
)

// Built reports whether this binary has io_uring support compiled in.
const Built = true

// Ring is one io_uring instance. It belongs to the goroutine that opened it, which must be
// locked to its thread: no method may be called from another one. Of a ring without DeferTaskrun the two sides may
// belong to different threads: Next, Submit and Pending to those that submit, one at a time; Wait and Reap to one that reaps.
type Ring struct {
	r       *giouring.Ring
	sqPoll  bool
	buffers bool     // some are registered
	files   bool     // some are registered
	sqFlags *uint32  // the kernel's flag word: TASKRUN, CQ_OVERFLOW
	table   table    // of AddFile
	groups  int      // numbers of buffer groups that were used
	spare   []uint16 // of these, those that are free
	pending uint32   // filled and not yet shown to the kernel
	taken   uint32   // position in the submission queue up to which the kernel had taken entries when Reap was last called without an overflow
	entries uint32   // of the submission queue
	bundles bool     // the kernel has them
	skips   bool     // the kernel has SQE.SkipSuccess
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
	sqNeedWakeup = 1 << 0
	sqOverflow   = 1 << 1
	sqTaskrun    = 1 << 2

	enterSQWakeup = 1 << 1

	setupIOPoll       = 1 << 0
	setupSQPoll       = 1 << 1
	setupCQSize       = 1 << 3
	setupCoopTaskrun  = 1 << 8
	setupTaskrunFlag  = 1 << 9
	setupSingleIssuer = 1 << 12
	setupDeferTaskrun = 1 << 13

	featSkip    = 1 << 11 // IORING_FEAT_CQE_SKIP
	featBundles = 1 << 14 // IORING_FEAT_RECVSEND_BUNDLE
)

// submissionQueue mirrors the head of giouring.SubmissionQueue, whose fields are not exported.
type submissionQueue struct{ head, tail, _, _, flags *uint32 }

// Open makes a ring on the calling thread. The errors for EPERM and ENOSYS name the remedy.
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
	if o.SQPoll { // the kernel's thread does the work, so the kernel refuses these flags
		flags = setupSQPoll
	}
	if o.IOPoll {
		flags |= setupIOPoll
	}
	g, p, err := setup(o, flags)
	if polls := flags & (setupSQPoll | setupIOPoll); errors.Is(err, unix.EINVAL) && flags != polls {
		g, p, err = setup(o, polls) // a kernel before 6.1 or 5.19: same meaning, more interrupts
	}
	if err != nil {
		return nil, fmt.Errorf("ring: io_uring_setup with %d entries: %w (%s)", o.Entries, err, remedy(err))
	}
	r := &Ring{r: g, sqPoll: o.SQPoll, entries: p[0], bundles: p[5]&featBundles != 0, skips: p[5]&featSkip != 0}
	r.sqFlags = (*(**submissionQueue)(unsafe.Pointer(g))).flags
	return r, nil
}

func setup(o Options, flags uint32) (*giouring.Ring, *params, error) {
	g := giouring.NewRing()
	p := &params{2: flags}
	if flags&setupSQPoll != 0 {
		p[4] = uint32(SubmitterIdle.Milliseconds())
	}
	if o.CQEntries > 0 {
		p[1], p[2] = uint32(o.CQEntries), flags|setupCQSize
	}
	return g, p, g.QueueInitParams(uint32(o.Entries), (*giouring.Params)(unsafe.Pointer(p)))
}

// params is struct io_uring_params, whose fields giouring does not export.
type params [30]uint32

func remedy(err error) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return "io_uring is forbidden here: sysctl kernel.io_uring_disabled=0, or in a container --security-opt seccomp=unconfined"
	case errors.Is(err, unix.ENOSYS):
		return "this kernel or its seccomp filter has no io_uring: Linux 5.19 or later is needed"
	case errors.Is(err, unix.ENOMEM):
		return "locked-memory limit: ulimit -l unlimited"
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return "raise ulimit -n"
	}
	return "see kvwire doctor"
}

// Fd is the ring's descriptor: readable in an epoll set when completions wait (not with DeferTaskrun).
func (r *Ring) Fd() int { return r.r.RingFd() }

// Next returns the next free entry, zeroed but for its user data. If the queue is full, it
// first submits the entries. It returns nil only if the kernel accepts none, or, with SQPoll, has not done so yet.
func (r *Ring) Next(userData uint64) *SQE {
	e := r.r.GetSQE()
	if e == nil {
		if r.Submit() != nil {
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

// NextOrWait is Next for an entry that cannot be kept for later. With SQPoll it sleeps until the kernel's thread has taken entries, if the queue is full.
func (r *Ring) NextOrWait(userData uint64) *SQE {
	for range 100 { // a signal ends the sleep early
		if e := r.Next(userData); e != nil || !r.sqPoll {
			return e
		}
		_, flags := r.publish()
		r.Enters++
		if r.enter(0, 0, 0, flags|giouring.EnterSQWait|giouring.EnterGetEvents) != nil {
			return nil
		}
	}
	return nil
}

// Pending is the number of entries that the next Enter will submit: those filled since the last one, and
// those that the kernel did not accept then. (With SQPoll it reads them by itself.)
func (r *Ring) Pending() int {
	if r.sqPoll {
		return int(r.pending)
	}
	return int(r.pending + r.untaken())
}

// Room ensures that the next n entries are submitted together, for a chain of linked entries: if they do not fit behind
// the pending entries, it submits these first. It returns false if they never fit, or not now.
func (r *Ring) Room(n int) bool {
	free := func() bool { return r.entries-r.pending-r.untaken() >= uint32(n) }
	return uint32(n) <= r.entries && (free() || r.Submit() == nil && free())
}

func (r *Ring) untaken() uint32 {
	sq := *(**submissionQueue)(unsafe.Pointer(r.r))
	return atomic.LoadUint32(sq.tail) - atomic.LoadUint32(sq.head)
}

// Ready reports, without a system call, whether Reap would return completions, or the kernel needs
// an Enter to make them visible.
func (r *Ring) Ready() bool { return r.r.CQReady() != 0 || r.NeedsEnter() }

// NeedsEnter reports whether completions need an Enter to become visible.
func (r *Ring) NeedsEnter() bool { return atomic.LoadUint32(r.sqFlags)&(sqTaskrun|sqOverflow) != 0 }

// Enter submits everything pending and, with wait > 0, waits until that many completions are
// there or timeoutNs have passed (0: no limit). It also makes completions visible. A signal, or
// a kernel that accepts no more entries before completions are reaped, ends it early without an error. With SQPoll it is a
// system call only to wait, or where the kernel's thread sleeps.
func (r *Ring) Enter(wait int, timeoutNs int64) error {
	toSubmit, flags := r.publish()
	if r.sqPoll && flags == 0 && !r.NeedsEnter() && (wait == 0 || int(r.r.CQReady()) >= wait) {
		return nil
	}
	r.Enters++
	return r.enter(toSubmit, wait, timeoutNs, flags|giouring.EnterGetEvents)
}

// Submit submits everything pending, and does not wait.
func (r *Ring) Submit() error {
	toSubmit, flags := r.publish()
	if toSubmit == 0 || r.sqPoll && flags == 0 {
		return nil
	}
	r.Enters++
	return r.enter(toSubmit, 0, 0, flags)
}

// Wait waits until that many completions are there or timeoutNs have passed (0: no limit), and submits nothing.
func (r *Ring) Wait(wait int, timeoutNs int64) error {
	r.Waits++
	return r.enter(0, wait, timeoutNs, giouring.EnterGetEvents)
}

// publish makes pending entries visible to the kernel. It returns their number, and the flag to wake the kernel's thread if that sleeps.
func (r *Ring) publish() (toSubmit, flags uint32) {
	// GetSQE keeps its own tail; the kernel sees it after a flush, which giouring's Submit would do together
	// with an enter. So publish the tail here, and enter once with all arguments.
	sq := *(**submissionQueue)(unsafe.Pointer(r.r))
	atomic.StoreUint32(sq.tail, atomic.LoadUint32(sq.tail)+r.pending)
	r.SQEs += uint64(r.pending)
	r.pending = 0
	if toSubmit = r.untaken(); r.sqPoll && toSubmit > 0 && atomic.LoadUint32(r.sqFlags)&sqNeedWakeup != 0 {
		flags = enterSQWakeup
	}
	return toSubmit, flags
}

func (r *Ring) enter(toSubmit uint32, wait int, timeoutNs int64, flags uint32) error {
	var arg unsafe.Pointer
	size := 8 // sizeof(sigset_t) as the kernel counts it
	if wait > 0 && timeoutNs > 0 {
		r.wait.ts = unix.NsecToTimespec(timeoutNs)
		r.wait.raw = [3]uint64{0, 8, uint64(uintptr(unsafe.Pointer(&r.wait.ts)))}
		flags |= giouring.EnterExtArg
		arg, size = unsafe.Pointer(&r.wait.raw), int(unsafe.Sizeof(r.wait.raw))
	}
	_, err := r.r.Enter2(toSubmit, uint32(wait), flags, arg, size)
	switch {
	case err == nil, errors.Is(err, unix.EINTR), errors.Is(err, unix.ETIME), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EBUSY):
		return nil
	}
	return fmt.Errorf("ring: io_uring_enter: %w", err)
}

// SQPoll reports whether a thread of the kernel submits.
func (r *Ring) SQPoll() bool { return r.sqPoll }

// Idle reports whether the kernel does nothing for this ring by itself: there is no thread that submits (SQPoll), or it sleeps. Any goroutine may call it.
func (r *Ring) Idle() bool {
	return !r.sqPoll || atomic.LoadUint32(r.sqFlags)&sqNeedWakeup != 0
}

// SkipsSuccess reports whether entries may use SQE.SkipSuccess. Linux 5.17 has the flag, but before 6.1 a send that failed after a part had been sent did not return the number of these
// bytes (commit 7e6b638ed501). IORING_OP_SENDMSG_ZC is of 6.1, too. With SQPoll they may not, because Settled does not apply.
func (r *Ring) SkipsSuccess() bool { return r.skips && !r.sqPoll && r.Supports(OpSendmsgZC) }

// Mark identifies the entries that were filled so far, for Settled.
func (r *Ring) Mark() uint32 {
	sq := *(**submissionQueue)(unsafe.Pointer(r.r))
	return atomic.LoadUint32(sq.tail) + r.pending
}

// Settled reports whether the kernel had taken all entries of a Mark when Reap was last called, and Reap has had all completions since then. Of these entries, one with SQE.SkipSuccess
// that may not wait and has had no completion has succeeded.
func (r *Ring) Settled(mark uint32) bool { return int32(r.taken-mark) >= 0 }

// Reap copies completions that are visible into dst, oldest first, and frees their places.
func (r *Ring) Reap(dst []CQE) int {
	if atomic.LoadUint32(r.sqFlags)&sqOverflow != 0 {
		r.Overflows++
	} else {
		sq := *(**submissionQueue)(unsafe.Pointer(r.r))
		r.taken = atomic.LoadUint32(sq.head) // before completions are counted: those of entries taken later may not be visible yet
	}
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
	registerBuffers    = 0
	unregisterBuffers  = 1
	registerFiles      = 2
	unregisterFiles    = 3
	registerProbe      = 8
	registerFiles2     = 13
	updateFiles2       = 14
	registerBuffers2   = 15
	updateBuffers      = 16
	registerPbufRing   = 22
	unregisterPbufRing = 23
	registerNAPI       = 27

	registerSparse = 1 << 0
)

func (r *Ring) register(opcode uint32, arg unsafe.Pointer, n int, what string) error {
	if _, errno := r.r.Register(r.r.RingFd(), opcode, arg, uint32(n)); errno != 0 {
		return fmt.Errorf("ring: register %s: %w (%s)", what, errno, remedy(errno))
	}
	return nil
}

func iovecs(bufs [][]byte) []unix.Iovec {
	iov := make([]unix.Iovec, len(bufs))
	for i, b := range bufs {
		iov[i].Base = unsafe.SliceData(b)
		iov[i].SetLen(len(b))
	}
	return iov
}

// RegisterBuffers pins memory once for ReadFixed and WriteFixed; the index is that in bufs.
// ENOMEM means that the locked-memory limit is too low.
func (r *Ring) RegisterBuffers(bufs [][]byte) error {
	iov := iovecs(bufs)
	err := r.register(registerBuffers, unsafe.Pointer(unsafe.SliceData(iov)), len(iov), fmt.Sprintf("%d buffers", len(bufs)))
	r.buffers = r.buffers || err == nil
	return err
}

// RegisterFiles registers files for SQE.FixedFile; the index is that in fds. AddFile may add others behind them.
func (r *Ring) RegisterFiles(fds []int) error {
	if r.files || r.openTable(len(fds)) != nil { // a kernel before 5.19: none can be added
		all := int32s(fds)
		err := r.register(registerFiles, unsafe.Pointer(unsafe.SliceData(all)), len(all), fmt.Sprintf("%d files", len(fds)))
		r.files = r.files || err == nil
		return err
	}
	return r.SetFiles(0, fds)
}

func int32s(fds []int) []int32 {
	all := make([]int32, len(fds))
	for i, fd := range fds {
		all[i] = int32(fd)
	}
	return all
}

// Unregister reverts RegisterBuffers and RegisterFiles. No request may use them.
func (r *Ring) Unregister() {
	if r.buffers {
		_ = r.register(unregisterBuffers, nil, 0, "no buffers")
	}
	if r.files {
		_ = r.register(unregisterFiles, nil, 0, "no files")
	}
	r.buffers, r.files, r.table = false, false, table{}
}

// rsrcRegister is struct io_uring_rsrc_register, rsrcUpdate is struct io_uring_rsrc_update2.
type (
	rsrcRegister struct {
		nr, flags  uint32
		_          uint64
		data, tags uint64
	}
	rsrcUpdate struct {
		offset, _  uint32
		data, tags uint64
		nr, _      uint32
	}
)

// Reserve makes room for registered buffers and files that come later (SetBuffers, SetFiles): for a ring that several
// parts of a program share (Linux 5.19).
func (r *Ring) Reserve(buffers, files int) error {
	a := rsrcRegister{nr: uint32(buffers), flags: registerSparse}
	if err := r.register(registerBuffers2, unsafe.Pointer(&a), int(unsafe.Sizeof(a)), fmt.Sprintf("room for %d buffers", buffers)); err != nil {
		return err
	}
	r.buffers = true
	return r.reserveFiles(files)
}

func (r *Ring) reserveFiles(n int) error {
	a := rsrcRegister{nr: uint32(n), flags: registerSparse}
	err := r.register(registerFiles2, unsafe.Pointer(&a), int(unsafe.Sizeof(a)), fmt.Sprintf("room for %d files", n))
	r.files = err == nil
	return err
}

// SetBuffers puts buffers into the reserved places from first on; nil removes one.
func (r *Ring) SetBuffers(first int, bufs [][]byte) error {
	iov := iovecs(bufs)
	a := rsrcUpdate{offset: uint32(first), data: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(iov)))), nr: uint32(len(iov))}
	err := r.register(updateBuffers, unsafe.Pointer(&a), int(unsafe.Sizeof(a)), fmt.Sprintf("%d buffers", len(bufs)))
	runtime.KeepAlive(iov)
	return err
}

// SetFiles puts files into the reserved places from first on; -1 removes one.
func (r *Ring) SetFiles(first int, fds []int) error {
	all := int32s(fds)
	a := rsrcUpdate{offset: uint32(first), data: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(all)))), nr: uint32(len(all))}
	err := r.register(updateFiles2, unsafe.Pointer(&a), int(unsafe.Sizeof(a)), fmt.Sprintf("%d files", len(fds)))
	runtime.KeepAlive(all)
	return err
}

// table has a ring's registered files, and the free places for AddFile.
type table struct {
	made bool
	free []int // places, a stack
}

// fileRoom is the largest number of files in a table.
const fileRoom = 1 << 15

// openTable makes a table whose first places are in use.
func (r *Ring) openTable(taken int) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return err
	}
	n := int(min(lim.Cur, fileRoom))
	if err := r.reserveFiles(max(n, taken)); err != nil {
		return err
	}
	r.table = table{made: true, free: make([]int, 0, n)}
	for i := n - 1; i >= taken; i-- {
		r.table.free = append(r.table.free, i)
	}
	return nil
}

// AddFile registers one more file, and returns its index. It is a system call (Linux 5.19).
func (r *Ring) AddFile(fd int) (place int, err error) {
	t := &r.table
	if !t.made {
		if err := r.openTable(0); err != nil {
			return -1, err
		}
	}
	if len(t.free) == 0 {
		return -1, fmt.Errorf("ring: register a file: %w (raise ulimit -n)", unix.ENFILE)
	}
	place = t.free[len(t.free)-1]
	if err := r.SetFiles(place, []int{fd}); err != nil {
		return -1, err
	}
	t.free = t.free[:len(t.free)-1]
	return place, nil
}

// DropFile reverts AddFile. Requests in flight end as they would have.
func (r *Ring) DropFile(place int) {
	_ = r.SetFiles(place, []int{-1})
	r.table.free = append(r.table.free, place)
}

// NAPI makes waits in this ring poll the device queues of its sockets for so long (IORING_REGISTER_NAPI, Linux 6.9; in µs).
func (r *Ring) NAPI(busyPoll time.Duration) error {
	a := [2]uint64{uint64(busyPoll.Microseconds())} // struct io_uring_napi
	return r.register(registerNAPI, unsafe.Pointer(&a), 1, "NAPI busy polling")
}

// Multishot reports whether receives can be multishot: they are as old as SEND_ZC (Linux 6.0).
func (r *Ring) Multishot() bool { return r.Supports(opSendZC) }

// Bundles reports whether the kernel has bundles (Linux 6.10).
func (r *Ring) Bundles() bool { return r.bundles }

// Supports reports whether the kernel supports an opcode.
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
// buffers until it has: reap everything first. The kernel frees registered memory and files some time later: use Unregister if that
// matters.
func (r *Ring) Close() error {
	r.r.QueueExit()
	return nil
}

// registerGroup registers a group of provided buffers under a number that is free.
func (r *Ring) registerGroup(a *bufReg) (uint16, error) {
	if bigEndian {
		return 0, errors.New("ring: provided buffers on a big-endian machine: not built")
	}
	n := len(r.spare)
	switch {
	case n > 0:
		a.group = r.spare[n-1]
	case r.groups > math.MaxUint16:
		return 0, fmt.Errorf("ring: a ring has %d groups of buffers already", r.groups)
	default:
		a.group = uint16(r.groups)
	}
	if err := r.register(registerPbufRing, unsafe.Pointer(a), 1, fmt.Sprintf("a ring of %d buffers", a.entries)); err != nil {
		return 0, err
	}
	if n > 0 {
		r.spare = r.spare[:n-1]
	} else {
		r.groups++
	}
	return a.group, nil
}

func (r *Ring) unregisterGroup(group uint16) {
	_ = r.register(unregisterPbufRing, unsafe.Pointer(&bufReg{group: group}), 1, "no buffer ring")
	r.spare = append(r.spare, group)
}
