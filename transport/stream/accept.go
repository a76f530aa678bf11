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
	Take func(fd int, name string) error // a connection, prepared. An error says that the system has no descriptor or memory for it now

	some  bool  // there may be connections that no event will announce
	at    int64 // not before: the system had no descriptor or memory
	waits bool  // fd was accepted, and not taken
	fd    int
	name  string
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
		err := a.accept()
		if err == nil && a.waits {
			err = a.Take(a.fd, a.name)
			a.waits = err != nil
		}
		switch {
		case err != nil: // those that are open go on
			a.H.AcceptFailed(err)
			a.at = a.H.L.Now() + AcceptAgain
			return i
		case !a.some:
			return i
		}
	}
	return acceptBatch
}

// accept has one wait, if there is any.
func (a *Acceptor) accept() error {
	if a.waits {
		return nil
	}
	a.H.L.Stats.Syscalls++
	fd, sa, err := unix.Accept4(a.Fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	switch {
	case errors.Is(err, unix.EAGAIN):
		a.some = false
		return nil
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		return nil
	case err != nil:
		return err
	}
	a.H.Sockets.Prepare(fd)
	a.waits, a.fd, a.name = true, fd, PeerName(sa)
	return nil
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
	if a.waits {
		_ = unix.Close(a.fd)
	}
	a.Fd, a.some, a.waits = -1, false, false
}
