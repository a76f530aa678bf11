//go:build rdma && cgo && linux

package rdma

import (
	"math"
	"net/netip"
	"sync/atomic"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// respServer is an endpoint's share of the connections with Valkey's protocol. The first loop listens for them by rdma_cm, at the port at which it listens by
// TCP, and distributes them over the loops. Their requests have no private data, and no hello comes before.
type respServer struct {
	peers    *stream.Peers
	links    map[uint64]*link // of this loop, by the number of the request
	tickAt   int64            // when the next keep-alive message is due, by Loop.AwakeNow
	listener *respListener    // of the first loop; nil: none
}

// respListener is the listener of rdma_cm. All ids of its connections depend on it.
type respListener struct {
	cm    *verbs.CMListener
	conns atomic.Int64 // connections of all loops, and requests; the loops and the goroutine of cm write it, the first loop reads it
	asked uint64       // requests so far; its goroutine's
}

// listenRESP listens at the port of a TCP socket. Without it, the server works for its own clients.
func (e *endpoint) listenRESP(fd int) {
	sa, err := unix.Getsockname(fd)
	if err == nil {
		r := &respListener{}
		e.resp.listener = r
		r.cm, err = verbs.ListenCM(e.choice.Addr, portOf(sa), verbs.CMEvents{
			Request:     func(token verbs.CMToken, q *verbs.CMRequest) { e.requestRESP(r, token, q) },
			Removed:     func() {}, // the other listener's
			Established: func(number uint64) { e.onRESP(number, (*respLink).connected) },
			Ended:       func(number uint64) { e.onRESP(number, (*respLink).peerEnded) },
		})
	}
	if err != nil {
		e.resp.listener = nil
		e.Host.O.Log.Warn("no client of Valkey over RDMA can connect", "reason", err)
	}
}

func portOf(sa unix.Sockaddr) uint16 {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port)
	case *unix.SockaddrInet6:
		return uint16(a.Port)
	}
	return 0
}

// requestRESP handles a request, on the listener's goroutine. Its number names its loop, too.
func (e *endpoint) requestRESP(r *respListener, token verbs.CMToken, q *verbs.CMRequest) {
	if token != (verbs.CMToken{}) {
		q.Reject() // a client of kvwire, which a hello would have sent to another port
		return
	}
	loops := uint64(e.Host.Loops)
	r.asked++
	number := r.asked * loops
	number += r.asked % loops
	q.Number(number)
	r.conns.Add(1)
	peer := q.Peer()
	if !e.resp.peers.Do(int(number%loops), func(o stream.Endpoint) { endpointOf(o).acceptRESP(r, q, number, peer) }) {
		q.Reject()
		r.conns.Add(-1)
	}
}

// endpointOf returns the endpoint of a loop's member.
func endpointOf(o stream.Endpoint) *endpoint {
	if p, ok := o.(pollingEndpoint); ok {
		return p.endpoint
	}
	return o.(*endpoint)
}

// onRESP calls f with the connection of a number, on its loop, if it is not closed.
func (e *endpoint) onRESP(number uint64, f func(*respLink)) {
	e.resp.peers.Do(int(number%uint64(e.Host.Loops)), func(o stream.Endpoint) {
		if l := endpointOf(o).resp.links[number]; l != nil && l.resp != nil {
			f(l.resp)
		}
	})
}

// connected is called when rdma_cm has connected both sides.
func (r *respLink) connected() {
	r.established = true
	r.openIfReady()
}

// acceptRESP makes the connection of a request on this loop.
func (e *endpoint) acceptRESP(r *respListener, q *verbs.CMRequest, number uint64, peer netip.AddrPort) {
	tag, row := e.links.Put()
	l := &link{d: &e.rdmaEngine, tag: tag, tcp: control{fd: -1}, onEnd: stream.ConnIO.Close, served: true}
	*row = l
	c := e.Host.NewRESPServer(l, peer.String())
	if c == nil {
		e.links.Drop(tag)
		q.Reject()
		r.conns.Add(-1)
		return
	}
	l.side = c
	ended := func() {
		delete(e.resp.links, number)
		r.conns.Add(-1)
		e.resp.peers.Do(0, func(stream.Endpoint) {}) // its Close may wait for the last one
	}
	err := e.reopen()
	if err == nil {
		err = l.openRESP(e.choice, c, int64(e.Host.O.StallMax))
	}
	if err != nil {
		q.Reject()
		e.links.Drop(tag)
		l.state = linkClosed
		ended()
		c.Drop(err)
		return
	}
	l.resp.onClosed, e.resp.links[number], e.resp.tickAt = ended, l, 0
	if l.pair.cm, err = q.Accept(l.pair.qp, l.respPath()); err == nil {
		l.state = linkUp
		err = l.bind()
	}
	if err != nil {
		l.onEnd(l, err)
	}
}

// tickRESP makes keep-alive messages due, and ends connections whose peer does not receive them.
func (e *endpoint) tickRESP() {
	if len(e.resp.links) == 0 {
		return
	}
	if now := e.l.AwakeNow(); now >= e.resp.tickAt {
		e.resp.tickAt = math.MaxInt64
		for _, l := range e.resp.links {
			next, err := l.resp.conn.Tick(now)
			switch {
			case err != nil:
				l.onEnd(l, err)
			case next == 0: // not established yet
				e.resp.tickAt = min(e.resp.tickAt, now+int64(e.Host.O.HelloMax)/4)
			default:
				e.resp.tickAt = min(e.resp.tickAt, next)
				l.Touch()
			}
		}
	}
	if e.resp.tickAt != math.MaxInt64 {
		e.l.WakeAtAwake(e.resp.tickAt)
	}
}

// closeRESP ends the connections in order, and then the listener, on which those of all loops depend. It reports whether that is done.
func (e *endpoint) closeRESP() bool {
	r := e.resp.listener
	if r == nil {
		return true
	}
	if r.conns.Load() > 0 {
		e.Host.Shutdown()
		return false
	}
	r.cm.Close()
	e.resp.listener = nil
	return true
}
