package socket

import (
	"errors"
	"time"

	"github.com/kvwire/kvwire/loop"
	"golang.org/x/sys/unix"
)

// Host is the part of a server on one loop that an Acceptor calls.
type Host interface {
	Loop() *loop.Loop
	SocketOptions() *Options
	DescriptorWait() time.Duration           // longest time that connections wait for a free descriptor before they are refused
	AcceptFailed(err error)                  // called when a connection could not be accepted
	RefuseSocket(s Socket, name, why string) // refuses a connection with a code, and closes it
}

// TagListener is the tag under which an Acceptor watches its listening socket. Tags of connections (stream.Table) are smaller.
const TagListener = 1 << 55

// Acceptor accepts connections from a listening socket, without blocking, after an event under TagListener (Ready). It belongs to its Host's loop.
type Acceptor struct {
	h        Host
	id       loop.MemberID
	accepted func(fd int, name string) error // adds a connection and owns it from then on, unless it returns an error: then the system has no descriptor or memory now

	listener int  // descriptor; below 0: this loop accepts nothing
	watched  bool // the loop watches the listener

	pending bool  // connections may wait at the listener for which no event will come
	retryAt int64 // earliest time of the next accept, after the system had no descriptor or memory
	holds   bool  // fd is accepted, and not passed to accepted yet
	fd      int
	name    string
	spare   Spare
}

// AcceptAgain is the pause between accepts, in ns, after the system had no descriptor or memory.
const AcceptAgain = 100e6

// acceptBatch bounds the accepts of one turn, so that a flood of connections does not hold up the others.
const acceptBatch = 64

// NewAcceptor makes an Acceptor for a member of the host's loop.
func NewAcceptor(h Host, id loop.MemberID, accepted func(fd int, name string) error) *Acceptor {
	return &Acceptor{h: h, id: id, accepted: accepted, listener: -1}
}

// Listen begins to accept from a listening socket, and owns it. A spinning loop without watched sockets polls it rarely (loop.WatchRarely).
func (a *Acceptor) Listen(fd int) (err error) {
	a.listener = fd
	a.spare.Open()
	err = a.h.Loop().WatchRarely(a.id, fd, unix.EPOLLIN, TagListener)
	a.watched = err == nil
	return err
}

// Ready is called when the listener is readable.
func (a *Acceptor) Ready() { a.pending = true }

// Poll accepts waiting connections, at most acceptBatch, and returns their number.
func (a *Acceptor) Poll() int {
	if !a.pending || a.h.Loop().Now() < a.retryAt {
		return 0
	}
	for i := range acceptBatch {
		err := a.accept()
		if err == nil && a.holds {
			if err = a.accepted(a.fd, a.name); err == nil {
				a.holds = false
				a.spare.AcceptSucceeded()
			}
		}
		switch {
		case err != nil && a.spare.AcceptFailed(a.h, a.listener, err) && a.holds:
			a.h.RefuseSocket(Socket{Fd: a.fd}, a.name, noDescriptor)
			a.holds = false
		case err != nil: // open connections continue
			a.retryAt = a.h.Loop().Now() + AcceptAgain
			return i
		case !a.pending:
			return i
		}
	}
	return acceptBatch
}

// accept accepts one connection into fd, if there is one and fd is not in use.
func (a *Acceptor) accept() error {
	if a.holds {
		return nil
	}
	a.h.Loop().Stats.Syscalls++
	fd, sa, err := unix.Accept4(a.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	switch {
	case errors.Is(err, unix.EAGAIN):
		a.pending = false
		return nil
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		return nil
	case err != nil:
		return err
	}
	a.h.SocketOptions().Prepare(fd)
	a.holds, a.fd, a.name = true, fd, PeerName(fd, sa)
	return nil
}

// Stage makes the loop call Poll again if connections may wait.
func (a *Acceptor) Stage() {
	if a.pending {
		a.h.Loop().WakeAt(a.retryAt) // a time in the past if only the batch was full
	}
}

// Close ends accepting and closes the listener. A second call does nothing.
func (a *Acceptor) Close() {
	if a.listener < 0 {
		return
	}
	if a.watched {
		a.h.Loop().UnwatchRarely(a.id, a.listener, TagListener)
	}
	_ = unix.Close(a.listener)
	if a.holds {
		_ = unix.Close(a.fd)
	}
	a.spare.Close()
	a.listener, a.pending, a.holds = -1, false, false
}

// Spare is a reserve descriptor of a listener for the case that the process has no free descriptors. New connections wait for a free one. After
// Host.DescriptorWait without one, each is accepted with the spare descriptor, refused as busy, and closed: its client gets an answer, and open connections
// continue. It belongs to a Host's loop.
type Spare struct {
	fd    int
	open  bool  // fd is open
	short bool  // an accept has failed, and none has succeeded since
	since int64 // when short became true, by Loop.AwakeNow
}

const noDescriptor = "the server has no descriptor for it"

// Open opens the descriptor if it is not open. If that fails, connections wait.
func (s *Spare) Open() {
	if s.open {
		return
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	s.fd, s.open = fd, err == nil
}

// Close closes the descriptor.
func (s *Spare) Close() {
	if s.open {
		_ = unix.Close(s.fd)
		s.open = false
	}
}

// AcceptSucceeded must be called after a connection was accepted.
func (s *Spare) AcceptSucceeded() {
	if s.short {
		s.short = false
		s.Open()
	}
}

// AcceptFailed must be called with the error of a failed accept. It logs the error. If descriptors have been short for long enough, it refuses the connections that
// wait at the listener and returns true.
func (s *Spare) AcceptFailed(h Host, listener int, err error) bool {
	h.AcceptFailed(err)
	now := h.Loop().AwakeNow()
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
	defer s.Open()
	for range acceptBatch {
		ready := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}} // accept must not block, even if the listener does
		if n, err := unix.Poll(ready, 0); n < 1 || err != nil || s.hasAnother() {
			return
		}
		s.Close()
		fd, sa, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		h.Loop().Stats.Syscalls += 2
		if err != nil {
			return // another loop was faster
		}
		h.RefuseSocket(Socket{Fd: fd}, PeerName(fd, sa), noDescriptor)
	}
}

// hasAnother reports whether the system has a free descriptor besides the spare one. Then waiting clients are accepted, not refused.
func (s *Spare) hasAnother() bool {
	if s.Open(); !s.open {
		return false
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil
}
