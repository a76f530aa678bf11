// Package ring owns io_uring: one Ring per loop thread, filled and reaped in batches.
// It is the only importer of giouring, of which it uses the core (setup, enter, peek,
// register) and not the Prepare helpers, which keep fields of the slot's last
// use. Without the build tag giouring it is a stub whose Open returns an error.
package ring

import (
	"encoding/binary"
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SQE is the kernel's struct io_uring_sqe (include/uapi/linux/io_uring.h), 64 bytes.
// Next returns it zeroed but for UserData; one of the methods below fills it. Buffers
// must stay alive and in place until the completion: arena memory, or a heap object that
// the submitter keeps a reference to.
type SQE struct {
	Opcode   uint8
	Flags    uint8
	IoPrio   uint16
	Fd       int32
	Off      uint64
	Addr     uint64
	Len      uint32
	OpFlags  uint32
	UserData uint64
	BufIndex uint16
	_        [22]byte
}

// CQE is one completion: Res is the result, or -errno.
type CQE struct {
	UserData uint64
	Res      int32
	Flags    uint32
}

// Flags of completions and submissions, by their kernel names.
const (
	CQEFBuffer       = 1 << 0 // IORING_CQE_F_BUFFER: CQE.Buffer is the provided buffer that was taken
	CQEFMore         = 1 << 1 // IORING_CQE_F_MORE: the multishot request continues, or a notification follows
	CQEFSockNonempty = 1 << 2 // IORING_CQE_F_SOCK_NONEMPTY: more to read after this receive
	CQEFNotif        = 1 << 3 // IORING_CQE_F_NOTIF: the memory of a send without copy is free again

	NotifCopied = -1 << 31 // IORING_NOTIF_USAGE_ZC_COPIED, in Res of a notification: the kernel copied after all

	PollFirst = 1 << 0 // IORING_RECVSEND_POLL_FIRST, in IoPrio: do not try before arming the poll

	sqeFixedFile    = 1 << 0 // IOSQE_FIXED_FILE, in Flags
	sqeLink         = 1 << 2 // IOSQE_IO_LINK
	sqeBufferSelect = 1 << 5 // IOSQE_BUFFER_SELECT
	sqeSkipSuccess  = 1 << 6 // IOSQE_CQE_SKIP_SUCCESS

	opNop         = 0
	opReadFixed   = 4
	opWriteFixed  = 5
	opPollAdd     = 6
	opSendmsg     = 9
	opRecvmsg     = 10
	opAccept      = 13
	opAsyncCancel = 14
	opFallocate   = 17
	opRead        = 22
	opWrite       = 23
	opSend        = 26
	opRecv        = 27
	opSendZC      = 47
	OpSendmsgZC   = 48 // IORING_OP_SENDMSG_ZC, for Supports

	acceptMultishot = 1 << 0 // in IoPrio
	recvMultishot   = 1 << 1 // IORING_RECV_MULTISHOT, in IoPrio
	zcReportUsage   = 1 << 3 // IORING_SEND_ZC_REPORT_USAGE, in IoPrio
	recvsendBundle  = 1 << 4 // IORING_RECVSEND_BUNDLE, in IoPrio
	pollAddMulti    = 1 << 0 // in Len
)

func addr(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

func (e *SQE) io(op uint8, fd int, b []byte, off int64) {
	e.Opcode, e.Fd, e.Addr, e.Len, e.Off = op, int32(fd), addr(b), uint32(len(b)), uint64(off)
}

// Read reads len(b) bytes of fd at off.
func (e *SQE) Read(fd int, b []byte, off int64) { e.io(opRead, fd, b, off) }

// Write writes b to fd at off.
func (e *SQE) Write(fd int, b []byte, off int64) { e.io(opWrite, fd, b, off) }

// ReadFixed is Read into the registered buffer with that index, of which b is a part.
func (e *SQE) ReadFixed(fd int, b []byte, off int64, index int) {
	e.io(opReadFixed, fd, b, off)
	e.BufIndex = uint16(index)
}

// WriteFixed is Write from the registered buffer with that index, of which b is a part.
func (e *SQE) WriteFixed(fd int, b []byte, off int64, index int) {
	e.io(opWriteFixed, fd, b, off)
	e.BufIndex = uint16(index)
}

// FixedFile makes the descriptor of the method before the index of a registered file.
func (e *SQE) FixedFile() { e.Flags |= sqeFixedFile }

// Nop completes at once: a message to whoever reaps.
func (e *SQE) Nop() { e.Opcode, e.Fd = opNop, -1 }

// Fallocate reserves length bytes of fd from off (mode as fallocate(2)).
func (e *SQE) Fallocate(fd int, mode uint32, off, length int64) {
	e.Opcode, e.Fd, e.Off, e.Addr, e.Len = opFallocate, int32(fd), uint64(off), uint64(length), mode
}

// Recv receives once into b (flags as recv(2)).
func (e *SQE) Recv(fd int, b []byte, flags int) {
	e.io(opRecv, fd, b, 0)
	e.OpFlags = uint32(flags)
}

// Send sends b once (flags as send(2)).
func (e *SQE) Send(fd int, b []byte, flags int) {
	e.io(opSend, fd, b, 0)
	e.OpFlags = uint32(flags)
}

// Sendmsg sends what m describes; m and what it points to stay in place until the completion.
func (e *SQE) Sendmsg(fd int, m *unix.Msghdr, flags int) { e.msg(opSendmsg, fd, m, flags) }

// Recvmsg receives into what m describes; m and what it points to stay in place until the completion.
func (e *SQE) Recvmsg(fd int, m *unix.Msghdr, flags int) { e.msg(opRecvmsg, fd, m, flags) }

// RecvMultishot receives again and again, each time into a buffer of that group, or, as a bundle, into as many as there is
// data for, until it is cancelled or fails: ENOBUFS when the group is empty.
func (e *SQE) RecvMultishot(fd int, group uint16, bundle bool) {
	e.Opcode, e.Fd, e.IoPrio, e.Flags, e.BufIndex = opRecv, int32(fd), recvMultishot, sqeBufferSelect, group
	if bundle {
		e.IoPrio |= recvsendBundle
	}
}

// RecvmsgMultishot receives message after message, each into a buffer of that group, until it is cancelled or fails: ENOBUFS when the group is empty. shape has the lengths
// of the room for the address and for control data. MessageOf finds what a buffer has.
func (e *SQE) RecvmsgMultishot(fd int, shape *unix.Msghdr, group uint16) {
	e.msg(opRecvmsg, fd, shape, 0)
	e.IoPrio, e.Flags, e.BufIndex = recvMultishot, sqeBufferSelect, group
}

// Message is a message that RecvmsgMultishot has received. Its slices are parts of the buffer.
type Message struct {
	Name, Control, Data []byte
	Flags               int // of recvmsg(2)
}

// messageHead is the length of struct io_uring_recvmsg_out: bytes of the address, of control data and of the message, and flags.
const messageHead = 16

// MessageBytes is what precedes a message's data in its buffer.
func MessageBytes(shape *unix.Msghdr) int {
	return messageHead + int(shape.Namelen) + int(shape.Controllen)
}

// MessageOf finds the parts of a message in b, the bytes of a buffer that the kernel has filled; false: it is too short.
func MessageOf(b []byte, shape *unix.Msghdr) (m Message, ok bool) {
	name, head := int(shape.Namelen), MessageBytes(shape)
	if len(b) < head {
		return m, false
	}
	word := func(i int) int { return int(binary.NativeEndian.Uint32(b[4*i:])) }
	m.Name = b[messageHead:][:min(word(0), name)]
	m.Control = b[messageHead+name : head][:min(word(1), int(shape.Controllen))]
	m.Data, m.Flags = b[head:], word(3)
	return m, true
}

// SendBundle sends all buffers of that group, in the order in which they were added (flags as send(2)).
func (e *SQE) SendBundle(fd int, group uint16, flags int) {
	e.Opcode, e.Fd, e.IoPrio, e.Flags, e.BufIndex, e.OpFlags = opSend, int32(fd), recvsendBundle, sqeBufferSelect, group, uint32(flags)
}

// SendZC is Send without a copy, where the device can: after its completion, which has CQEFMore, a notification reports that b is
// free again, and whether it was copied nevertheless.
func (e *SQE) SendZC(fd int, b []byte, flags int) {
	e.Send(fd, b, flags)
	e.Opcode, e.IoPrio = opSendZC, zcReportUsage
}

// SendmsgZC is Sendmsg without a copy, as SendZC.
func (e *SQE) SendmsgZC(fd int, m *unix.Msghdr, flags int) {
	e.msg(OpSendmsgZC, fd, m, flags)
	e.IoPrio = zcReportUsage
}

// Link lets the entry that follows begin when this one has succeeded in full; else that one ends with ECANCELED. Both must be
// of one submission: see Ring.Room.
func (e *SQE) Link() { e.Flags |= sqeLink }

// SkipSuccess makes an entry complete only if it fails (IOSQE_CQE_SKIP_SUCCESS), for rings with SkipsSuccess. A send with MSG_DONTWAIT and MSG_WAITALL fails if it moves only a part
// of the bytes.
func (e *SQE) SkipSuccess() { e.Flags |= sqeSkipSuccess }

func (e *SQE) msg(op uint8, fd int, m *unix.Msghdr, flags int) {
	e.Opcode, e.Fd, e.Addr, e.Len, e.OpFlags = op, int32(fd), uint64(uintptr(unsafe.Pointer(m))), 1, uint32(flags)
}

// AcceptMultishot accepts on fd until it is cancelled or fails; each completion's Res is a
// new descriptor (flags as accept4(2)).
func (e *SQE) AcceptMultishot(fd int, flags int) {
	e.Opcode, e.Fd, e.IoPrio, e.OpFlags = opAccept, int32(fd), acceptMultishot, uint32(flags)
}

// PollMultishot reports events (EPOLLIN and friends) on fd until it is cancelled or fails.
func (e *SQE) PollMultishot(fd int, events uint32) {
	e.Opcode, e.Fd, e.Len, e.OpFlags = opPollAdd, int32(fd), pollAddMulti, events
	if bigEndian {
		e.OpFlags = events<<16 | events>>16 // poll32_events is word-reversed there
	}
}

// Poll reports once that one of the events (EPOLLIN and friends) is there on fd.
func (e *SQE) Poll(fd int, events uint32) {
	e.PollMultishot(fd, events)
	e.Len = 0
}

// Cancel asks the kernel to end the request that was submitted with that user data.
func (e *SQE) Cancel(userData uint64) { e.Opcode, e.Fd, e.Addr = opAsyncCancel, -1, userData }

var bigEndian = func() bool {
	x := uint16(1)
	return *(*byte)(unsafe.Pointer(&x)) == 0
}()

// BufferOf is Buffer for a completion's flags alone.
func BufferOf(flags uint32) int { return int(flags >> 16) }

// SubmitterIdle is how long the kernel's submitting thread (SQPoll) polls before it sleeps: longer than any pause under load, and short enough that an idle
// store frees its CPU.
const SubmitterIdle = 50 * time.Millisecond

// Options are the options of a ring. The zero value gives 256 entries and plain flags.
type Options struct {
	Entries      int  // submission queue entries
	CQEntries    int  // of the completion queue; 0: twice as many
	DeferTaskrun bool // SINGLE_ISSUER | DEFER_TASKRUN (6.1): completions appear in Enter only. Not for a ring whose fd is in an epoll set.
	CoopTaskrun  bool // COOP_TASKRUN | TASKRUN_FLAG (5.19): no interrupts for completions; the ring's fd works in epoll

	// SQPoll makes a thread of the kernel poll for entries (SQPOLL), so that submitting needs no system call while it is awake.
	// The thread occupies a CPU. The two flags above have no effect then.
	SQPoll bool

	// IOPoll makes Enter poll the device for completions, without interrupts (IOPOLL): for reads and writes of files
	// open with O_DIRECT, on a device with poll queues. The ring's fd has no events.
	IOPoll bool
}

// Counters are what a ring has done since it was opened. Only its loop may read them, or, if two threads submit and
// reap, each its own: Waits and CQEs belong to the thread that reaps.
type Counters struct {
	Enters uint64 // io_uring_enter calls of Enter and Submit
	Waits  uint64 // io_uring_enter calls of Wait
	SQEs   uint64 // entries submitted
	CQEs   uint64 // completions reaped

	Overflows uint64 // times that completions were found waiting for room in the queue, which was full
}

var (
	// ErrNotBuilt means that the binary was built without the tag giouring.
	ErrNotBuilt = errors.New(`io_uring is not in this build: rebuild with "make build", or go build -tags giouring -ldflags=-checklinkname=0 ./cmd/kvwire`)
	// ErrFull means that the submission queue is full and the kernel accepts no entries now.
	ErrFull = errors.New("ring: submission queue is full")
)
