//go:build rdma && cgo && linux

package verbs

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "shim.h"

#cgo noescape kvw_event
#cgo nocallback kvw_event
*/
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"github.com/kvwire/kvwire/internal/arena"
)

// Built reports whether this binary was built with the tag rdma, and with cgo.
const Built = true

var load = sync.OnceValue(func() error {
	var text [256]C.char
	if C.kvw_load(modelSymbols, &text[0], C.int(len(text))) != 0 {
		return fmt.Errorf("verbs: load libibverbs.so.1: %s (apt-get install libibverbs1 ibverbs-providers)", C.GoString(&text[0]))
	}
	return nil
})

// asmcgocall calls f on the thread's system stack. A cgo call consists of it and calls of the scheduler.
//
//go:linkname asmcgocall runtime.asmcgocall
//go:noescape
func asmcgocall(f, arg unsafe.Pointer) int32

// callC calls a C function on the data path. Unlike a cgo call it does not enter the scheduler
// (docs/adr/0006-calls-into-c.md). So f must be short, must not call back, and must not need memory of
// the Go heap.
func callC(f, arg unsafe.Pointer) { asmcgocall(f, arg) }

// CallNothing calls an empty C function as the data path does, to measure the cost of the call.
func CallNothing() { callC(unsafe.Pointer(C.kvw_nothing), nil) }

// callError returns an error with what was tried, a C call's errno, and a remedy if hint is not empty.
func callError(what string, err error, hint string) error {
	if hint != "" {
		hint = " (" + hint + ")"
	}
	return fmt.Errorf("verbs: %s: %w%s", what, err, hint)
}

func errno(n C.int) error { return syscall.Errno(max(n, -n)) }

// Names returns the RDMA devices that libibverbs can use. Any goroutine may call it.
func Names() ([]string, error) {
	if err := load(); err != nil {
		return nil, err
	}
	var b [4096]C.char
	n := C.kvw_names(&b[0], C.int(len(b)))
	switch {
	case n < 0 && errors.Is(errno(n), syscall.ENOSYS):
		return nil, callError("list devices", errno(n), "the kernel's verbs module is not loaded: modprobe ib_uverbs")
	case n < 0:
		return nil, callError("list devices", errno(n), "see kvwire doctor")
	}
	all := C.GoStringN(&b[0], C.int(len(b)))
	return strings.SplitN(all, "\x00", int(n)+1)[:n], nil
}

// Device is an open RDMA device with its only protection domain. All objects made from it must be closed
// before it. Any goroutine may call its methods.
type Device struct {
	Name    string
	AsyncFd int // readable when Async has an event; non-blocking
	Limits  Limits
	ctx, pd unsafe.Pointer
}

// Limits are the limits of a device.
type Limits struct {
	QPs, WRs, CQEs, SGEs, SRQs, SRQWRs, Ports int
	RdAtomic, InitRdAtomic                    int  // READs in flight on a queue pair: its peer's, and its own
	Vectors                                   int  // completion vectors: interrupts, each bound to a CPU
	MemoryWindows                             bool // it has memory windows of type 2B
	Firmware                                  string
}

// Port is the state of a device's port.
type Port struct {
	Active     bool
	MTU        int  // bytes of payload of a packet
	InfiniBand bool // the link layer is InfiniBand, where LIDs are the addresses within a subnet
	LID        uint16
	MaxMessage int // bytes
	GIDs       int
}

// Open opens a device by name.
func Open(name string) (*Device, error) {
	if err := load(); err != nil {
		return nil, err
	}
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	var fd C.int
	ctx, err := C.kvw_open(c, &fd)
	if ctx == nil {
		return nil, callError("open device "+name, err, openHint(err))
	}
	d := &Device{Name: name, AsyncFd: int(fd), ctx: ctx}
	var a C.struct_kvw_dev
	if n := C.kvw_device(ctx, &a); n != 0 {
		C.kvw_close(ctx)
		return nil, callError("query device "+name, errno(n), "")
	}
	d.Limits = Limits{QPs: int(a.max_qp), WRs: int(a.max_qp_wr), CQEs: int(a.max_cqe), SGEs: int(a.max_sge), SRQs: int(a.max_srq), SRQWRs: int(a.max_srq_wr), Ports: int(a.ports),
		RdAtomic: int(a.max_rd_atomic), InitRdAtomic: int(a.max_init_rd_atomic), Vectors: int(a.vectors), MemoryWindows: a.windows != 0, Firmware: C.GoString(&a.fw[0])}
	if d.pd, err = C.kvw_pd(ctx); d.pd == nil {
		C.kvw_close(ctx)
		return nil, callError("make a protection domain on "+name, err, "")
	}
	return d, nil
}

func openHint(err error) string {
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "no permission for /dev/infiniband: run as root or in the group rdma; in a container --device /dev/infiniband"
	case errors.Is(err, syscall.ENODEV):
		return "it is gone, or has no provider in ibverbs-providers: see kvwire doctor"
	}
	return "see kvwire doctor"
}

// Close frees the protection domain and closes the device.
func (d *Device) Close() error {
	var err error
	if n := C.kvw_pd_free(d.pd); n != 0 {
		err = callError("free the protection domain of "+d.Name, errno(n), "something that was made from it is still open")
	}
	if n := C.kvw_close(d.ctx); n != 0 && err == nil {
		err = callError("close device "+d.Name, errno(n), "")
	}
	return err
}

// Port queries a port's state; ports count from 1.
func (d *Device) Port(port int) (Port, error) {
	var a C.struct_kvw_port
	if n := C.kvw_port(d.ctx, C.int(port), &a); n != 0 {
		return Port{}, callError(fmt.Sprintf("query port %d of %s", port, d.Name), errno(n), "")
	}
	const active, infiniBand = 4, 1
	return Port{a.state == active, MTUBytes(uint8(a.mtu)), a.link_layer == infiniBand, uint16(a.lid), int(a.max_msg), int(a.gids)}, nil
}

// GID reads an entry of a port's table.
func (d *Device) GID(port, index int) (gid [16]byte, err error) {
	if n := C.kvw_gid(d.ctx, C.int(port), C.int(index), (*C.uint8_t)(&gid[0])); n != 0 {
		return gid, callError(fmt.Sprintf("read GID %d of port %d of %s", index, port, d.Name), errno(n), "")
	}
	return gid, nil
}

// Async returns one asynchronous event: its kind (ibv_event_type) and, if it belongs to one, the queue
// pair's number. ok is false if there is no event now.
func (d *Device) Async() (kind int, qp uint32, ok bool) {
	var num C.uint32_t
	k := C.kvw_async(d.ctx, &num)
	return int(k), uint32(num), k >= 0
}

// Access is the peer's right to registered memory, or through a queue pair.
type Access int

// The kinds of Access.
const (
	Local       Access = 0 // none: only this side's work requests may use the memory
	RemoteRead  Access = 1 // the peer may read; this side's work requests may only read, too
	RemoteWrite Access = 2 // the peer may write
	Bindable    Access = 4 // of memory: the peer may write through a MemoryWindow
)

// Region is registered memory.
type Region struct {
	LKey, RKey uint32
	mr         unsafe.Pointer
}

// Register pins memory, whole pages of an arena, for work requests.
func (d *Device) Register(b []byte, a Access) (*Region, error) {
	var lkey, rkey C.uint32_t
	mr, err := C.kvw_mr(d.pd, unsafe.Pointer(unsafe.SliceData(b)), C.uint64_t(len(b)), C.int(a), &lkey, &rkey)
	if mr == nil {
		hint := ""
		if errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EPERM) {
			hint = "the locked-memory limit: ulimit -l unlimited; LimitMEMLOCK=infinity; in a container --ulimit memlock=-1"
		}
		return nil, callError(fmt.Sprintf("register %d KiB with %s", len(b)>>10, d.Name), err, hint)
	}
	return &Region{uint32(lkey), uint32(rkey), mr}, nil
}

// Close unpins the memory. No work request may use it any more.
func (r *Region) Close() error {
	if n := C.kvw_mr_free(r.mr); n != 0 {
		return callError("free a memory region", errno(n), "")
	}
	return nil
}

// MemoryWindow is a memory window of type 2B: the right to write into a part of a Bindable region, with a key that is valid for one queue
// pair only (InfiniBand Architecture Specification, volume 1, 10.6.7). It belongs to the queue pair's goroutine.
type MemoryWindow struct {
	RKey uint32 // valid from Bind's completion to Close
	mw   unsafe.Pointer
}

// NewMemoryWindow makes an unbound window. It must be made after its queue pair and closed before it: if a process ends without
// closing, the kernel frees the last object first, and a window of rxe holds a reference to its queue pair.
func (d *Device) NewMemoryWindow() (*MemoryWindow, error) {
	mw, err := C.kvw_mw(d.pd)
	if mw == nil {
		return nil, callError("make a memory window on "+d.Name, err, "the device may have no more of them: fewer connections, or --rdma-verb send")
	}
	return &MemoryWindow{mw: mw}, nil
}

// Bind posts the work request wr that allows q's peer to write into mem, a part of r; q must be connected. The key is valid only after the
// completion of wr. Each window can be bound once.
func (w *MemoryWindow) Bind(q *QP, r *Region, mem []byte, wr uint64) error {
	var rkey C.uint32_t
	if n := C.kvw_mw_bind(q.qp, w.mw, r.mr, C.uint64_t(Address(mem)), C.uint64_t(len(mem)), C.uint64_t(wr), &rkey); n != 0 {
		return callError("bind a memory window", errno(n), "")
	}
	w.RKey = uint32(rkey)
	return nil
}

// Close revokes the right: when it returns, no write with its key is possible.
func (w *MemoryWindow) Close() error {
	if n := C.kvw_mw_free(w.mw); n != 0 {
		return callError("free a memory window", errno(n), "")
	}
	return nil
}

// CQ is a completion queue with a completion channel of its own. It belongs to one goroutine.
type CQ struct {
	Entries  int // the size that the device chose
	Fd       int // readable after an event that Arm has requested; non-blocking
	cq, ch   unsafe.Pointer
	mem      *arena.Arena // out and call
	out      []Completion
	asideOut []Completion // likewise, for PollAside
	call     *C.struct_kvw_cq_call
	calls    *uint64
}

// Completion is the end of a work request. If Status is not 0, only WR, QP and Vendor are valid besides.
type Completion struct {
	WR     uint64
	Status uint32 // ibv_wc_status
	Bytes  uint32 // of a receive
	Imm    uint32
	QP     uint32
	Recv   uint32 // 1: of a receive, by a SEND; 2: by a WRITE
	Vendor uint32
}

// StatusText describes a completion's status in words.
func StatusText(status uint32) string { return C.GoString(C.kvw_status(C.int(status))) }

// PollMax is the most completions of one Poll.
const PollMax = 64

// NewCQ makes a completion queue. Its events use the interrupt vector of number vector, modulo the device's number of vectors. Each call into C
// adds 1 to calls.
func (d *Device) NewCQ(entries, vector int, calls *uint64) (*CQ, error) {
	var fd, got C.int
	ch, err := C.kvw_channel(d.ctx, &fd)
	if ch == nil {
		return nil, callError("make a completion channel on "+d.Name, err, "raise ulimit -n")
	}
	cq, err := C.kvw_cq(d.ctx, C.int(entries), ch, C.int(vectorOf(vector, d.Limits.Vectors)), &got)
	if cq == nil {
		C.kvw_channel_free(ch)
		return nil, callError(fmt.Sprintf("make a completion queue of %d on %s", entries, d.Name), err, "")
	}
	const wcs = PollMax * int(unsafe.Sizeof(Completion{}))
	a, err := arena.New(2*wcs + int(unsafe.Sizeof(C.struct_kvw_cq_call{})))
	if err != nil {
		C.kvw_cq_free(cq)
		C.kvw_channel_free(ch)
		return nil, err
	}
	b := a.Bytes()
	q := &CQ{Entries: int(got), Fd: int(fd), cq: cq, ch: ch, mem: a, calls: calls,
		out:      unsafe.Slice((*Completion)(unsafe.Pointer(&b[0])), PollMax),
		asideOut: unsafe.Slice((*Completion)(unsafe.Pointer(&b[wcs])), PollMax),
		call:     (*C.struct_kvw_cq_call)(unsafe.Pointer(&b[2*wcs]))}
	*q.call = C.struct_kvw_cq_call{cq: cq, out: (*C.struct_kvw_wc)(unsafe.Pointer(&b[0])), n: PollMax}
	return q, nil
}

// Close destroys the queue and its channel. All its queue pairs must be closed before.
func (q *CQ) Close() error {
	var err error
	if n := C.kvw_cq_free(q.cq); n != 0 {
		err = callError("destroy a completion queue", errno(n), "a queue pair still uses it")
	}
	if n := C.kvw_channel_free(q.ch); n != 0 && err == nil {
		err = callError("destroy a completion channel", errno(n), "")
	}
	_ = q.mem.Close()
	return err
}

func (q *CQ) polled(what string) ([]Completion, error) {
	*q.calls++
	if n := q.call.found; n < 0 {
		return nil, callError(what, errno(C.int(n)), "")
	}
	return q.out[:q.call.found], nil
}

// Poll returns up to PollMax completions, which are valid until the next call.
func (q *CQ) Poll() ([]Completion, error) {
	callC(unsafe.Pointer(C.kvw_poll), unsafe.Pointer(q.call))
	return q.polled("poll a completion queue")
}

// PollAside is Poll, but the last results of Poll, Spin and Arm stay valid. Its own results are valid until the next PollAside.
func (q *CQ) PollAside() ([]Completion, error) {
	q.call.out = (*C.struct_kvw_wc)(unsafe.Pointer(unsafe.SliceData(q.asideOut)))
	callC(unsafe.Pointer(C.kvw_poll), unsafe.Pointer(q.call))
	q.call.out = (*C.struct_kvw_wc)(unsafe.Pointer(unsafe.SliceData(q.out)))
	*q.calls++
	if n := q.call.found; n < 0 {
		return nil, callError("poll a completion queue", errno(C.int(n)), "")
	}
	return q.asideOut[:q.call.found], nil
}

// Spin polls within C until there is a completion, at most so often. A poll takes 10 to 20 ns; callC must be short.
func (q *CQ) Spin(polls int) ([]Completion, error) {
	q.call.polls = C.int32_t(polls)
	callC(unsafe.Pointer(C.kvw_spin), unsafe.Pointer(q.call))
	return q.polled("poll a completion queue")
}

// Arm requests an event on Fd for the next completion, and then polls, because a completion that came just before
// makes no event.
func (q *CQ) Arm() ([]Completion, error) {
	callC(unsafe.Pointer(C.kvw_arm), unsafe.Pointer(q.call))
	return q.polled("arm a completion queue")
}

// Event reads and acknowledges an event of Fd; ok is false if there was none. An Arm makes at most one event, so a caller that reads it before the next
// Arm need not look for more, which would cost a system call. The caller then polls the queue.
func (q *CQ) Event() (ok bool) {
	*q.calls++
	return C.kvw_event(q.ch, q.cq) != 0
}

// SRQ is a receive queue that several queue pairs share.
type SRQ struct{ srq unsafe.Pointer }

// NewSRQ makes a shared receive queue with room for entries receives.
func (d *Device) NewSRQ(entries int) (*SRQ, error) {
	srq, err := C.kvw_srq(d.pd, C.int(entries))
	if srq == nil {
		return nil, callError(fmt.Sprintf("make a shared receive queue of %d on %s", entries, d.Name), err, "use --rdma-srq=false")
	}
	return &SRQ{srq}, nil
}

// Close destroys the queue. Its queue pairs must be closed before.
func (s *SRQ) Close() error {
	if n := C.kvw_srq_free(s.srq); n != 0 {
		return callError("destroy a shared receive queue", errno(n), "")
	}
	return nil
}

// QP is a reliable connected queue pair, both of whose queues complete into one CQ. It belongs to the CQ's goroutine.
type QP struct {
	Num    uint32
	Inline int // most bytes of inline data, as the device has granted
	qp     unsafe.Pointer
}

// QPOptions are the options of a queue pair.
type QPOptions struct {
	SRQ       *SRQ   // nil: it has receives of its own
	Access    Access // the peer's rights besides sending, whatever keys it guesses. RemoteRead|RemoteWrite: both
	SendWRs   int
	RecvWRs   int // without an SRQ
	Inline    int // requested bytes of inline data; QP.Inline is the granted number
	Port      int
	PKeyIndex int // index of the partition's key in the port's table
}

// NewQP makes a queue pair in the state INIT: receives can be posted, and no message arrives yet.
func (d *Device) NewQP(cq *CQ, o QPOptions) (*QP, error) {
	var num, got C.uint32_t
	var srq, qp unsafe.Pointer
	if o.SRQ != nil {
		srq = o.SRQ.srq
	}
	err := withInline(o.Inline, func(bytes int) (err error) {
		qp, err = C.kvw_qp(d.pd, cq.cq, srq, C.int(o.SendWRs), C.int(o.RecvWRs), C.int(bytes), C.int(o.Port), C.int(o.PKeyIndex), C.int(o.Access), &num, &got)
		if qp != nil {
			return nil // errno is undefined
		}
		return err
	})
	if err != nil {
		hint := ""
		if errors.Is(err, syscall.EINVAL) {
			hint = fmt.Sprintf("the device's limits: %d work requests, %d queue pairs", d.Limits.WRs, d.Limits.QPs)
		}
		return nil, callError(fmt.Sprintf("make a queue pair with %d + %d work requests on %s", o.SendWRs, o.RecvWRs, d.Name), err, hint)
	}
	return &QP{uint32(num), int(got), qp}, nil
}

// Fail moves the queue pair to its error state: it consumes no more receives, and its queued work requests end with StatusFlushed. With
// an SRQ, EventLastWQE follows after the last completion of a receive.
func (q *QP) Fail() error {
	if n := C.kvw_qp_fail(q.qp); n != 0 {
		return callError("take a queue pair to its error state", errno(n), "")
	}
	return nil
}

// Kinds returns the kinds of queue pairs that the device supports, of RC, UC and UD. It makes one of each.
func (d *Device) Kinds(cq *CQ) (kinds []string) {
	made := C.kvw_qp_kinds(d.pd, cq.cq)
	for i, kind := range []string{"RC", "UC", "UD"} {
		if made>>i&1 != 0 {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// Peer are the parameters for connecting a queue pair.
type Peer struct {
	QP, PSN  uint32
	GID      [16]byte
	LID      uint16
	MTU      int    // of the path, bytes: the smaller one of both sides
	GIDIndex int    // of this side, in its port's table; below 0: InfiniBand without a global route
	Port     int    // of this side
	Shared   bool   // this side has a shared receive queue
	MyPSN    uint32 // the first packet sequence number that this side sends

	Initiates, Responds        int   // READs in flight: this side's, and the peer's
	TrafficClass, ServiceLevel uint8 // of the packets; 0: rdma_cm's, or 0
	WaitForReceives            bool  // with rdma_cm: a message waits without end for a receive of the other side, in both directions, and for its acknowledgment as long as rdma_cm says
}

// Connect moves the queue pair to the state RTS. Receives must be posted before.
func (q *QP) Connect(p Peer) error {
	a := C.struct_kvw_qp_attr{
		qp_num: C.uint32_t(p.QP), psn: C.uint32_t(p.PSN), mtu: C.uint32_t(mtuCode(p.MTU)), lid: C.uint32_t(p.LID),
		gid_index: C.uint32_t(max(p.GIDIndex, 0)), port: C.uint32_t(p.Port), initiates: C.uint32_t(p.Initiates), responds: C.uint32_t(p.Responds),
		my_psn: C.uint32_t(p.MyPSN), traffic_class: C.uint8_t(p.TrafficClass), service_level: C.uint8_t(p.ServiceLevel),
	}
	if p.GIDIndex >= 0 {
		a.global = 1
	}
	for i, b := range p.GID {
		a.gid[i] = C.uint8_t(b)
	}
	switch n := C.kvw_qp_connect(q.qp, &a); {
	case n > 0:
		hint := ""
		switch errno(n) {
		case syscall.EINVAL:
			hint = fmt.Sprintf("GID %d or path MTU %d is not right for this port: see kvwire doctor", p.GIDIndex, p.MTU)
		case syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH:
			hint = "no route from this device to the peer's address: are both in one network?"
		}
		return callError("connect a queue pair (RTR)", errno(n), hint)
	case n < 0:
		return callError("connect a queue pair (RTS)", errno(n), "")
	}
	return nil
}

// Close destroys the queue pair. When it returns, the device does not use its memory any more. Completions of
// its work requests may still be in the CQ.
func (q *QP) Close() error {
	if n := C.kvw_qp_free(q.qp); n != 0 {
		return callError("destroy a queue pair", errno(n), "")
	}
	return nil
}

// Kinds of Op.
const (
	OpSend       = C.KVW_SEND        // with immediate data, into the peer's next receive
	OpWrite      = C.KVW_WRITE       // with immediate data, to Remote; also consumes the peer's next receive
	OpRead       = C.KVW_READ        // from Remote
	OpPlain      = C.KVW_SEND_PLAIN  // without immediate data
	OpWritePlain = C.KVW_WRITE_PLAIN // without immediate data, to Remote: the peer consumes no receive and gets no completion
)

// Flags of an Op.
const (
	Signaled = C.KVW_SIGNALED // it makes a completion
	Inline   = C.KVW_INLINE   // its bytes are copied when it is posted, and need not be registered
)

// MaxSGE is the most pieces of an Op.
const MaxSGE = C.KVW_MAX_SGE

// SGE is a piece of registered memory (of any memory, for an inline Op).
type SGE struct {
	Addr uint64
	Len  uint32
	LKey uint32
}

// Op is a work request for a send queue.
type Op struct {
	qp        uint64
	WR        uint64
	Remote    uint64
	RKey, Imm uint32
	Kind      uint32
	Flags     uint32
	SGEs, _   uint32
	SGE       [MaxSGE]SGE
}

type recv struct {
	queue, wr, addr uint64
	len, lkey       uint32
}

// These do not compile if the layouts differ from C's.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(Op{})-unsafe.Sizeof(C.struct_kvw_op{})]
	_ = [1]struct{}{}[unsafe.Sizeof(recv{})-unsafe.Sizeof(C.struct_kvw_recv{})]
	_ = [1]struct{}{}[unsafe.Sizeof(Completion{})-unsafe.Sizeof(C.struct_kvw_wc{})]
)

// Batch collects a turn's work requests of many queue pairs, outside the Go heap, for one call into C. It
// belongs to one goroutine.
type Batch struct {
	mem    *arena.Arena
	ops    []Op
	recvs  []recv
	post   *C.struct_kvw_post_call
	recv   *C.struct_kvw_recv_call
	n, nr  int
	shared bool // the receives are for an SRQ
	calls  *uint64
}

// BatchMax is the most work requests, of each kind, that a Batch holds.
const BatchMax = 256

// NewBatch makes a batch. Each call into C adds 1 to calls.
func NewBatch(calls *uint64) (*Batch, error) {
	const (
		recvs    = BatchMax * int(unsafe.Sizeof(Op{})) // offset; the next ones likewise
		post     = recvs + BatchMax*int(unsafe.Sizeof(recv{}))
		postRecv = post + int(unsafe.Sizeof(C.struct_kvw_post_call{}))
		size     = postRecv + int(unsafe.Sizeof(C.struct_kvw_recv_call{}))
	)
	a, err := arena.New(size)
	if err != nil {
		return nil, err
	}
	b := a.Bytes()
	n := &Batch{mem: a, calls: calls,
		ops:   unsafe.Slice((*Op)(unsafe.Pointer(&b[0])), BatchMax),
		recvs: unsafe.Slice((*recv)(unsafe.Pointer(&b[recvs])), BatchMax),
		post:  (*C.struct_kvw_post_call)(unsafe.Pointer(&b[post])),
		recv:  (*C.struct_kvw_recv_call)(unsafe.Pointer(&b[postRecv]))}
	n.post.ops = (*C.struct_kvw_op)(unsafe.Pointer(&b[0]))
	n.recv.recvs = (*C.struct_kvw_recv)(unsafe.Pointer(&b[recvs]))
	return n, nil
}

// Close frees the batch.
func (b *Batch) Close() error { return b.mem.Close() }

// Len returns the number of send work requests in the batch.
func (b *Batch) Len() int { return b.n }

// Empty reports whether there is no work request of either kind in the batch.
func (b *Batch) Empty() bool { return b.n+b.nr == 0 }

// Full reports whether there is no room for Next.
func (b *Batch) Full() bool { return b.n == BatchMax }

// Next adds a work request of a queue pair; the caller must set all fields.
func (b *Batch) Next(q *QP) *Op {
	o := &b.ops[b.n]
	b.n++
	o.qp = uint64(uintptr(q.qp))
	return o
}

// Post posts all work requests, chained: at most chain of them per doorbell. It returns the number of
// doorbells and of posted work requests. With an error the device has rejected the next one: it is
// removed, and those after it stay in the batch.
func (b *Batch) Post(chain int) (bells, done int, err error) {
	if b.n == 0 {
		return 0, 0, nil
	}
	c := b.post
	c.n, c.chain = C.int32_t(b.n), C.int32_t(chain)
	callC(unsafe.Pointer(C.kvw_post), unsafe.Pointer(c))
	*b.calls++
	bells, done = int(c.bells), int(c.done)
	n := C.int(c.err)
	if n == 0 {
		b.n = 0
		return bells, done, nil
	}
	b.n = copy(b.ops, b.ops[done+1:b.n])
	hint := ""
	if errno(n) == syscall.ENOMEM {
		hint = "the send queue is full"
	}
	return bells, done, callError("post a work request", errno(n), hint)
}

// Recv adds a receive into mem, which may be empty for writes, to the batch. Exactly one of q and s is not nil, in
// a batch always the same one.
func (b *Batch) Recv(q *QP, s *SRQ, wr uint64, mem []byte, lkey uint32) error {
	if b.nr == BatchMax {
		if err := b.PostRecvs(); err != nil {
			return err
		}
	}
	r := &b.recvs[b.nr]
	b.nr++
	*r = recv{wr: wr, addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))), len: uint32(len(mem)), lkey: lkey}
	if b.shared = s != nil; b.shared {
		r.queue = uint64(uintptr(s.srq))
	} else {
		r.queue = uint64(uintptr(q.qp))
	}
	return nil
}

// PostRecvs posts all receives of the batch.
func (b *Batch) PostRecvs() error {
	if b.nr == 0 {
		return nil
	}
	c := b.recv
	c.n, c.srq = C.int32_t(b.nr), 0
	if b.shared {
		c.srq = 1
	}
	callC(unsafe.Pointer(C.kvw_post_recv), unsafe.Pointer(c))
	*b.calls++
	b.nr = 0
	if c.err != 0 {
		return callError("post a receive", errno(C.int(c.err)), "")
	}
	return nil
}

// Piece returns the SGE of registered memory.
func Piece(b []byte, lkey uint32) SGE {
	return SGE{uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), uint32(len(b)), lkey}
}

// Address returns the address of memory, for the peer's work requests.
func Address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
