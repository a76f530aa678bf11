package socket

import (
	"errors"
	"time"

	"github.com/kvwire/kvwire/loop"
	"golang.org/x/sys/unix"
)

// Host is the server whose connections are accepted, on one loop.
type Host interface {
	Loop() *loop.Loop
	SocketOptions() *Options
	DescriptorWait() time.Duration           // how long connections wait for a descriptor before they are refused
	AcceptFailed(err error)                  // is called when a connection could not be accepted
	RefuseSocket(s Socket, name, why string) // refuses a connection with a code, and closes it
}

// Acceptor takes connections from a listening socket, without blocking, after an event has said that there are
// some. It belongs to its Host's loop. Fd is below 0 where another loop accepts, and until Listen.
type Acceptor struct {
	H    Host
	Fd   int
	Take func(fd int, name string) error // gets a connection, prepared. An error means that the system has no descriptor or memory for it now

	some  bool  // there may be connections that no event will announce
	at    int64 // not before: the system had no descriptor or memory
	waits bool  // fd was accepted, and Take had no descriptor or memory for it
	fd    int
	name  string
	spare Spare
}

// AcceptAgain is how long, in ns, accepting rests after the system had no descriptor or memory.
const AcceptAgain = 100e6

// acceptBatch bounds the accepts of one turn, so that a flood of connections does not hold up the others.
const acceptBatch = 64

// Listen prepares to accept from a listening socket. The caller watches the socket's events.
func (a *Acceptor) Listen(fd int) {
	a.Fd = fd
	a.spare.Keep()
}

// Ready is called when the listener is readable.
func (a *Acceptor) Ready() { a.some = true }

// Poll accepts what there is, and counts it.
func (a *Acceptor) Poll() int {
	if !a.some || a.H.Loop().Now() < a.at {
		return 0
	}
	for i := range acceptBatch {
		err := a.accept()
		if err == nil && a.waits {
			if err = a.Take(a.fd, a.name); err == nil {
				a.waits = false
				a.spare.Found()
			}
		}
		switch {
		case err != nil && a.spare.Short(a.H, a.Fd, err) && a.waits:
			a.H.RefuseSocket(Socket{Fd: a.fd}, a.name, noDescriptor)
			a.waits = false
		case err != nil: // those that are open go on
			a.at = a.H.Loop().Now() + AcceptAgain
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
	a.H.Loop().Stats.Syscalls++
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
	a.H.SocketOptions().Prepare(fd)
	a.waits, a.fd, a.name = true, fd, PeerName(fd, sa)
	return nil
}

// Stage makes sure that Poll comes again where it has not accepted all.
func (a *Acceptor) Stage() {
	if a.some {
		a.H.Loop().WakeAt(a.at) // in the past when it is only the batch that was full
	}
}

// Close closes the listener, which nobody watches any more.
func (a *Acceptor) Close() {
	_ = unix.Close(a.Fd)
	if a.waits {
		_ = unix.Close(a.fd)
	}
	a.spare.Drop()
	a.Fd, a.some, a.waits = -1, false, false
}

// Spare is a reserve descriptor of a listener for the case that the process has no free descriptors. New connections wait for a free one. After
// Host.DescriptorWait without one, each is accepted with the spare descriptor, refused as busy, and closed: its client gets an end, and open connections
// continue. It belongs to a Host's loop.
type Spare struct {
	fd    int
	kept  bool
	short bool
	since int64 // of short, as the loop counts
}

const noDescriptor = "the server has no descriptor for it"

// Keep opens the descriptor if it is not open. If that fails, connections wait.
func (s *Spare) Keep() {
	if s.kept {
		return
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	s.fd, s.kept = fd, err == nil
}

// Drop closes it.
func (s *Spare) Drop() {
	if s.kept {
		_ = unix.Close(s.fd)
		s.kept = false
	}
}

// Found must be called after a connection was accepted.
func (s *Spare) Found() {
	if s.short {
		s.short = false
		s.Keep()
	}
}

// Short must be called with the error of a failed accept. It logs the error. If descriptors have been short for long enough, it refuses the connections that
// wait at the listener and returns true.
func (s *Spare) Short(h Host, listener int, err error) bool {
	h.AcceptFailed(err)
	now := h.Loop().Awake()
	if !s.short {
		s.short, s.since = true, now
	}
	if !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) || now-s.since < int64(h.DescriptorWait()) {
		return false
	}
	s.refuse(h, listener)
	return true
}

func (s *Spare) refuse(h Host, listener int) {
	defer s.Keep()
	for range acceptBatch {
		ready := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}} // the listener may be one that blocks
		if n, err := unix.Poll(ready, 0); n < 1 || err != nil || s.enough() {
			return
		}
		s.Drop()
		fd, sa, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		h.Loop().Stats.Syscalls += 2
		if err != nil {
			return // another loop was faster
		}
		h.RefuseSocket(Socket{Fd: fd}, PeerName(fd, sa), noDescriptor)
	}
}

// enough looks whether the system has descriptors again, beside the spare one: a client that connects after they were given back is let in.
func (s *Spare) enough() bool {
	if s.Keep(); !s.kept {
		return false
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil
}
