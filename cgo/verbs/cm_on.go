//go:build rdma && cgo && linux

package verbs

/*
#include <stdlib.h>
#include "cm.h"
#include "shim.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var loadCM = sync.OnceValue(func() error {
	if err := load(); err != nil {
		return err
	}
	var text [256]C.char
	if C.kvw_cm_load(&text[0], C.int(len(text))) != 0 {
		return fmt.Errorf("verbs: load librdmacm.so.1: %s (apt-get install librdmacm1, or --rdma-connect tcp)", C.GoString(&text[0]))
	}
	return nil
})

// CMToken is the private data of a connection request, by which the server finds the hello that it belongs to.
type CMToken [16]byte

// cmHint is the remedy if the kernel's part is missing.
const cmHint = "modprobe rdma_ucm, and access to /dev/infiniband/rdma_cm; or --rdma-connect tcp"

// Events of rdma_cm that are handled here, of rdma_cm_event_type.
const (
	cmAddrResolved    = 0
	cmRouteResolved   = 2
	cmConnectRequest  = 4
	cmConnectResponse = 5
	cmConnectError    = 6
	cmUnreachable     = 7
	cmRejected        = 8
	cmEstablished     = 9
	cmDisconnected    = 10
	cmDeviceRemoval   = 11
)

// cm is a channel of rdma_cm events. Only one goroutine may use it at a time.
type cm struct {
	ch unsafe.Pointer
	fd int
}

// newCM opens a channel and makes an id on it.
func newCM() (c *cm, id unsafe.Pointer, err error) {
	if err := loadCM(); err != nil {
		return nil, nil, err
	}
	var fd C.int
	ch, err := C.kvw_cm_channel(&fd)
	if ch == nil {
		return nil, nil, callError("open rdma_cm", err, cmHint)
	}
	if id, err = C.kvw_cm_id(ch); id == nil {
		C.kvw_cm_channel_free(ch)
		return nil, nil, callError("make an rdma_cm id", err, cmHint)
	}
	return &cm{ch, int(fd)}, id, nil
}

// next waits for an event. wake, if it is not below 0, is a descriptor that ends the wait when it is readable.
func (c *cm) next(until time.Time, wake int) (e C.struct_kvw_cm_event, err error) {
	for {
		n := C.kvw_cm_event(c.ch, &e)
		if n == 0 {
			return e, nil
		}
		if errno(n) != syscall.EAGAIN {
			return e, callError("take an rdma_cm event", errno(n), "")
		}
		fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
		left := -1
		if !until.IsZero() {
			if left = int(time.Until(until).Milliseconds()); left <= 0 {
				return e, os.ErrDeadlineExceeded
			}
		}
		if _, err := unix.Poll(fds, left); err != nil && !errors.Is(err, unix.EINTR) {
			return e, fmt.Errorf("verbs: poll: %w", err)
		}
		if fds[1].Revents != 0 {
			return e, os.ErrClosed
		}
	}
}

// CMConn is a connection made by rdma_cm. It is closed when its queue pair is.
type CMConn struct {
	id unsafe.Pointer
	c  *cm // of a client: its own
}

// Fd is readable when Ended has to be called; below 0: it is a server's connection, whose listener reports its end.
func (c *CMConn) Fd() int {
	if c.c == nil {
		return -1
	}
	return c.c.fd
}

// Ended reports whether the peer has ended a client's connection. It does not block.
func (c *CMConn) Ended() bool {
	for {
		var e C.struct_kvw_cm_event
		if C.kvw_cm_event(c.c.ch, &e) != 0 {
			return false
		}
		if e._type == cmDisconnected || e._type == cmDeviceRemoval {
			return true
		}
	}
}

// Close ends the connection and notifies the peer. It does not change the queue pair.
func (c *CMConn) Close() error {
	n := C.kvw_cm_id_free(c.id)
	if c.c != nil {
		C.kvw_cm_channel_free(c.c.ch)
	}
	if n != 0 {
		return callError("close an rdma_cm connection", errno(n), "")
	}
	return nil
}

// attr returns the parameters of p that rdma_cm does not determine.
func (p *Peer) attr() *C.struct_kvw_qp_attr {
	a := &C.struct_kvw_qp_attr{mtu: C.uint32_t(mtuCode(p.MTU)), initiates: C.uint32_t(p.Initiates), responds: C.uint32_t(p.Responds),
		traffic_class: C.uint8_t(p.TrafficClass), service_level: C.uint8_t(p.ServiceLevel)}
	if p.WaitForReceives {
		a.rnr_retry = 7 // without end
	}
	return a
}

func (p *Peer) srq() C.int {
	if p.Shared {
		return 1
	}
	return 0
}

// ConnectCM connects a queue pair to the server at an rdma_cm address, from the address from. It uses MTU, Initiates,
// Responds, TrafficClass, ServiceLevel, WaitForReceives and Shared of p. The zero token is none: the request has no private data. It blocks, so the loop's goroutine must not call it; no other goroutine may use the queue pair meanwhile.
// ECONNRESET: the server ended the connection before it was established.
func (q *QP) ConnectCM(ctx context.Context, from, to netip.Addr, port uint16, token CMToken, p Peer) (_ *CMConn, err error) {
	c, id, err := newCM()
	if err != nil {
		return nil, err
	}
	conn := &CMConn{id, c}
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	until, ok := ctx.Deadline()
	if !ok {
		until = time.Now().Add(5 * time.Second)
	}
	src, dst := C.CString(from.String()), C.CString(to.String())
	defer C.free(unsafe.Pointer(src))
	defer C.free(unsafe.Pointer(dst))
	wait := func(want C.int, what string) error {
		e, err := c.next(until, -1)
		switch {
		case err != nil:
			return fmt.Errorf("verbs: rdma_cm: %s %v:%d: %w", what, to, port, err)
		case e._type != want:
			return fmt.Errorf("verbs: rdma_cm: %s %v:%d: %s (%d)", what, to, port, C.GoString(C.kvw_cm_text(e._type)), int(e.status))
		}
		return nil
	}
	// ended replaces the error of the last steps if the server is the cause: then the kernel has no attributes for the queue pair.
	ended := func(err error) error {
		if e, why := c.next(time.Now().Add(time.Second), -1); why == nil && (e._type == cmRejected || e._type == cmDisconnected) {
			return fmt.Errorf("verbs: rdma_cm: connect to %v:%d: %w", to, port, syscall.ECONNRESET)
		}
		return err
	}
	const ms = 2000
	if p.TrafficClass != 0 {
		if n := C.kvw_cm_traffic_class(id, C.uint8_t(p.TrafficClass)); n != 0 {
			return nil, callError(fmt.Sprintf("rdma_cm: ask for traffic class %d", p.TrafficClass), errno(n), "leave --rdma-traffic-class out, or --rdma-connect tcp")
		}
	}
	if n := C.kvw_cm_resolve_addr(id, src, dst, C.uint16_t(port), ms); n != 0 {
		return nil, callError(fmt.Sprintf("rdma_cm: resolve %v from %v", to, from), errno(n), "is the address in a network of an RDMA device?")
	}
	if err := wait(cmAddrResolved, "resolve"); err != nil {
		return nil, err
	}
	if n := C.kvw_cm_resolve_route(id, ms); n != 0 {
		return nil, callError(fmt.Sprintf("rdma_cm: find a route to %v", to), errno(n), "")
	}
	if err := wait(cmRouteResolved, "find a route to"); err != nil {
		return nil, err
	}
	tokenBytes := len(token)
	if token == (CMToken{}) {
		tokenBytes = 0
	}
	if n := C.kvw_cm_connect(id, C.uint32_t(q.Num), (*C.uint8_t)(&token[0]), C.int(tokenBytes), p.attr(), p.srq()); n != 0 {
		return nil, callError(fmt.Sprintf("rdma_cm: connect to %v:%d", to, port), errno(n), "")
	}
	if err := wait(cmConnectResponse, "connect to"); err != nil {
		return nil, err
	}
	if n := C.kvw_cm_qp(id, q.qp, p.attr()); n != 0 {
		return nil, ended(callError("rdma_cm: connect a queue pair", errno(n), ""))
	}
	if n := C.kvw_cm_establish(id); n != 0 {
		return nil, ended(callError("rdma_cm: establish a connection", errno(n), ""))
	}
	return conn, nil
}

// CMListener receives rdma_cm connection requests.
type CMListener struct {
	Port uint16
	c    *cm
	id   unsafe.Pointer
	wake int // eventfd
	done chan struct{}
}

// CMEvents are called on a listener's goroutine.
type CMEvents struct {
	Request     func(token CMToken, r *CMRequest) // Accept or Reject must be called for the request, there or later
	Removed     func()                            // the device is about to be removed: no more requests come
	Established func(number uint64)               // the client of the request with this number has received the answer; nil: not called
	Ended       func(number uint64)               // its connection has ended, or was not established; nil: not called
}

// ListenCM listens on an address and a port, 0 for any, for connection requests, on a goroutine of its own.
func ListenCM(ip netip.Addr, port uint16, on CMEvents) (*CMListener, error) {
	c, id, err := newCM()
	if err != nil {
		return nil, err
	}
	l := &CMListener{c: c, id: id, done: make(chan struct{})}
	text := C.CString(ip.String())
	defer C.free(unsafe.Pointer(text))
	at := C.uint16_t(port)
	n := C.kvw_cm_listen(id, text, &at)
	if n == 0 {
		l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	} else {
		err = callError(fmt.Sprintf("rdma_cm: listen on %v, port %d", ip, port), errno(n), cmHint)
	}
	if err != nil {
		C.kvw_cm_id_free(id)
		C.kvw_cm_channel_free(c.ch)
		return nil, err
	}
	l.Port = uint16(at)
	go l.serve(on)
	return l, nil
}

func (l *CMListener) serve(on CMEvents) {
	defer close(l.done)
	for {
		e, err := l.c.next(time.Time{}, l.wake)
		if err != nil {
			return
		}
		switch e._type { // other events of a connection with a hello also end the TCP connection
		case cmDeviceRemoval:
			on.Removed()
		case cmEstablished:
			if e.number != 0 && on.Established != nil {
				on.Established(uint64(e.number))
			}
		case cmDisconnected, cmConnectError, cmUnreachable, cmRejected:
			if e.number != 0 && on.Ended != nil {
				on.Ended(uint64(e.number))
			}
		case cmConnectRequest:
			var token CMToken
			for i := range min(int(e.priv_len), len(token)) {
				token[i] = byte(e.priv[i])
			}
			on.Request(token, &CMRequest{id: e.id})
		}
	}
}

// Close ends the listener. All its connections must be closed before.
func (l *CMListener) Close() {
	_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-l.done
	C.kvw_cm_id_free(l.id)
	C.kvw_cm_channel_free(l.c.ch)
	_ = unix.Close(l.wake)
}

// CMRequest is a connection request.
type CMRequest struct{ id unsafe.Pointer }

// Number sets the number by which CMEvents name the request's connection; it is not 0. It must be called within CMEvents.Request.
func (r *CMRequest) Number(n uint64) { C.kvw_cm_number(r.id, C.uint64_t(n)) }

// Peer returns the address of the requester; it is not valid if the address is not known.
func (r *CMRequest) Peer() netip.AddrPort {
	var ip [64]C.char
	var port C.uint16_t
	if C.kvw_cm_peer(r.id, &ip[0], C.int(len(ip)), &port) != 0 {
		return netip.AddrPort{}
	}
	addr, _ := netip.ParseAddr(C.GoString(&ip[0]))
	return netip.AddrPortFrom(addr.Unmap(), uint16(port))
}

// Accept connects a queue pair of this side to the requester's. It uses MTU, Initiates, Responds, TrafficClass, ServiceLevel, WaitForReceives and Shared of p. Only the queue pair's goroutine may call it.
func (r *CMRequest) Accept(q *QP, p Peer) (*CMConn, error) {
	n := C.kvw_cm_qp(r.id, q.qp, p.attr())
	if n == 0 {
		n = C.kvw_cm_accept(r.id, C.uint32_t(q.Num), p.attr(), p.srq())
	}
	if n != 0 {
		r.Reject()
		return nil, callError("rdma_cm: accept a connection", errno(n), "")
	}
	return &CMConn{id: r.id}, nil
}

// Reject refuses the request.
func (r *CMRequest) Reject() {
	C.kvw_cm_reject(r.id)
	C.kvw_cm_id_free(r.id)
}
