package stream

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Acceptor takes connections from a listening socket, without blocking, after an event has said that there are
// some. It belongs to its Host's loop. Fd is below 0 where another loop accepts, and until Endpoint.Listen.
type Acceptor struct {
	H    *Host
	Fd   int
	Take func(fd int, name string) // a connection, prepared

	some bool  // there may be connections that no event will announce
	at   int64 // not before: the system had no descriptor or memory
}

// acceptBatch bounds the accepts of one turn, so that a flood of connections does not hold up the others.
const acceptBatch = 64

// Ready is called when the listener is readable.
func (a *Acceptor) Ready() { a.some = true }

// Poll accepts what there is, and counts it.
func (a *Acceptor) Poll() int {
	if !a.some || a.H.L.Now() < a.at {
		return 0
	}
	for i := range acceptBatch {
		a.H.L.Stats.Syscalls++
		fd, sa, err := unix.Accept4(a.Fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			a.some = false
			return i
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil: // out of descriptors or memory: those that are open go on
			a.H.AcceptFailed(err)
			a.at = a.H.L.Now() + AcceptAgain
			return i
		}
		a.H.Sockets.Prepare(fd)
		a.Take(fd, PeerName(sa))
	}
	return acceptBatch
}

// Stage makes sure that Poll comes again where it has not accepted all.
func (a *Acceptor) Stage() {
	if a.some {
		a.H.L.WakeAt(a.at) // in the past when it is only the batch that was full
	}
}

// Close closes the listener, which nobody watches any more.
func (a *Acceptor) Close() {
	_ = unix.Close(a.Fd)
	a.Fd, a.some = -1, false
}
