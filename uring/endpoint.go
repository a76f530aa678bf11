package uring

import (
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/loop"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// endpoint holds the server's connections on one loop.
type endpoint struct {
	*stream.Ends
	engine    ringEngine
	listener  int   // below 0: another loop accepts
	accepting bool  // a multishot accept is in flight
	cancelled bool  // that accept was cancelled
	acceptAt  int64 // earliest time of the next accept, after the system had no descriptor or memory
	spare     netsock.Spare
}

var (
	_ stream.Endpoint = (*endpoint)(nil)
	_ loop.Busier     = (*endpoint)(nil)
)

func newEndpoint(h *stream.Host, peers *stream.Peers, o Options) (stream.Endpoint, error) {
	e := &endpoint{engine: ringEngine{l: h.L, o: o, server: true}, listener: -1}
	e.Ends = stream.NewEnds(h, peers, &e.engine)
	if err := e.engine.start(e); err != nil {
		return nil, err
	}
	return e, nil
}

// Listen implements stream.Endpoint. It makes the socket blocking: otherwise the ring does not wait for connections.
func (e *endpoint) Listen(fd int) error {
	e.listener = fd
	e.spare.Open()
	return unix.SetNonblock(fd, false)
}

// OnEvent implements loop.Member.
func (e *endpoint) OnEvent(tag uint64, res int32, flags uint32) {
	if tag>>kindShift == kindAccept {
		e.accepted(res, flags)
		return
	}
	e.engine.event(tag, res, flags)
}

func (e *endpoint) accepted(res int32, flags uint32) {
	if flags&ring.CQEFMore == 0 {
		e.accepting = false
	}
	switch {
	case res >= 0:
		e.spare.AcceptSucceeded()
		e.Host.Sockets.Prepare(int(res))
		name := "a peer"
		if sa, err := unix.Getpeername(int(res)); err == nil {
			name = netsock.PeerName(int(res), sa)
		}
		e.engine.l.Stats.Syscalls++
		s := netsock.Socket{Fd: int(res)}
		if e.Add(s, name, nil) != nil { // the ring's table of registered files is full
			e.Host.RefuseNew(s, name)
		}
	case res != -int32(unix.ECANCELED) && res != -int32(unix.EINTR) && res != -int32(unix.ECONNABORTED):
		e.spare.AcceptFailed(e.Host, e.listener, unix.Errno(-res)) // out of descriptors or memory: open connections continue
		e.acceptAt = e.engine.l.Now() + netsock.AcceptAgain
	}
}

// restartAccept starts the multishot accept if none is in flight.
func (e *endpoint) restartAccept() {
	if e.accepting || e.listener < 0 || e.cancelled {
		return
	}
	if e.engine.l.Now() < e.acceptAt {
		e.engine.l.WakeAt(e.acceptAt)
		return
	}
	s := e.engine.l.SocketSQE(e.engine.id, kindAccept<<kindShift)
	if s == nil {
		e.engine.l.Again()
		return
	}
	s.AcceptMultishot(e.listener, unix.SOCK_CLOEXEC)
	e.accepting = true
}

// Poll implements loop.Member.
func (e *endpoint) Poll() int {
	e.engine.settle()
	return 0
}

// Stage implements loop.Member.
func (e *endpoint) Stage() error {
	e.restartAccept()
	e.Ends.Stage()
	return nil
}

// Close implements loop.Member. It stops accepting, and ends the connections in order.
func (e *endpoint) Close() bool {
	if e.accepting && !e.cancelled {
		if s := e.engine.l.SocketSQE(e.engine.id, kindCancel<<kindShift); s != nil {
			s.Cancel(loop.UserData(e.engine.id, kindAccept<<kindShift))
			e.cancelled = true
		}
		e.engine.l.Again()
	}
	if e.listener >= 0 && !e.accepting {
		_ = unix.Close(e.listener)
		e.listener = -1
		e.spare.Close()
	}
	if e.listener >= 0 {
		e.Host.Shutdown()
		return false
	}
	return e.Ends.Close()
}
