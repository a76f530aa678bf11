package tcp

import (
	"net"
	"testing"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// manySockets is a member with sockets of its own engine.
type manySockets struct{ epollEngine }

func (e *manySockets) OnEvent(tag uint64, ready int32, _ uint32) { e.event(tag, uint32(ready)) }

func (e *manySockets) Stage() error {
	e.Flush()
	return nil
}

func (e *manySockets) Close() bool {
	e.Each(func(s stream.ConnIO) { s.Close(nil) })
	return true
}

// receiver is a pile that receives, too, and waits for its answers after the end of its peer.
type receiver struct {
	pile
	buf [64]byte
	got int
}

func (e *receiver) RecvBuffers(w *[2][]byte) int {
	w[0] = e.buf[:]
	return 1
}

func (e *receiver) Received(n int, _ int64) error {
	e.got += n
	return nil
}

func (e *receiver) PeerFinished() bool { return true }

// end is a socket of the member, what it has received, and the peer's descriptor.
type end struct {
	s    *socket
	side *receiver
	peer int
}

// memberRig is a loop with such a member.
type memberRig struct {
	t *testing.T
	l *loop.Loop
	e *manySockets
}

func newMemberRig(t *testing.T, w loop.Wait) *memberRig {
	l, err := loop.Start(loop.Options{Name: "member", Sleep: loop.SleepEpoll, Wait: w}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Stop() })
	r := &memberRig{t, l, &manySockets{epollEngine{l: l, count: new(transport.Counters)}}}
	r.on(func() { r.e.id, err = l.Add(r.e) })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *memberRig) on(f func()) {
	r.t.Helper()
	if err := r.l.Call(f); err != nil {
		r.t.Fatal(err)
	}
}

// until waits for a condition of the loop's goroutine.
func (r *memberRig) until(what string, is func() bool) {
	r.t.Helper()
	for range 1_000_000 {
		yes := false
		if r.on(func() { yes = is() }); yes {
			return
		}
	}
	r.t.Fatalf("%s: it does not come", what)
}

func (r *memberRig) open() *end {
	r.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = unix.Close(fds[1]) })
	h := r.add(fds[0])
	h.peer = fds[1]
	return h
}

// add adds a socket to the member.
func (r *memberRig) add(fd int) *end {
	r.t.Helper()
	h := &end{side: &receiver{}}
	var err error
	r.on(func() {
		var io stream.ConnIO
		if io, err = r.e.Open(netsock.Socket{Fd: fd}, func(io stream.ConnIO, err error) { io.Close(err) }, nil); err == nil {
			io.Join(h.side)
			h.s = io.(*socket)
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

func (r *memberRig) receives(all []*end) {
	r.t.Helper()
	for _, h := range all {
		before := 0
		r.on(func() { before = h.side.got })
		if _, err := unix.Write(h.peer, []byte("news")); err != nil {
			r.t.Fatal(err)
		}
		r.until("four bytes", func() bool { return h.side.got == before+4 })
	}
}

// are fails unless so many of the sockets are polled, and all others watched.
func (r *memberRig) are(polled int, all []*end) {
	r.t.Helper()
	p, w := 0, 0
	r.on(func() {
		for _, h := range all {
			if h.s.polled {
				p++
			}
			if h.s.watched {
				w++
			}
		}
	})
	if p != polled || w != len(all)-polled {
		r.t.Errorf("%d polled and %d watched of %d, want %d polled", p, w, len(all), polled)
	}
}

func TestASpinningLoopPollsItsFewSockets(t *testing.T) {
	r := newMemberRig(t, loop.WaitSpin)
	var all []*end
	for range polledMax {
		all = append(all, r.open())
	}
	r.are(polledMax, all)
	r.receives(all)

	late := r.open() // too many
	all = append(all, late)
	r.are(0, all)
	r.receives(all)

	r.on(func() { late.s.Close(nil) })
	all = all[:polledMax]
	r.until("few sockets", func() bool { return all[0].s.polled })
	r.are(polledMax, all)
	r.receives(all)

	// A full send buffer makes an event when it has room.
	const long = 8 << 20
	full := all[0]
	r.on(func() {
		full.side.b = make([]byte, long)
		full.s.Touch()
	})
	r.until("a full buffer", func() bool { return full.s.blocked })
	r.are(polledMax-1, all)
	b := make([]byte, 64<<10)
	for got := 0; got < long; {
		n, err := unix.Read(full.peer, b)
		if got += max(n, 0); err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
	}
	r.until("room", func() bool { return !full.s.blocked })
	r.are(polledMax, all)
	r.receives(all)

	// After the peer's end, only an event tells that it does not read any more either.
	gone := all[1]
	if err := unix.Shutdown(gone.peer, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	r.until("the peer's end", func() bool { return gone.s.eof })
	r.are(polledMax-1, all)
	if err := unix.Shutdown(gone.peer, unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
	r.until("the end", func() bool { return gone.s.closed })
}

// A socket without traffic is polled in some turns only, and its bytes are received all the same.
func TestIdleSocketsArePolledLessOften(t *testing.T) {
	for _, c := range []struct {
		idle int
		ago  int64 // since the last poll, in ns
		due  bool
	}{
		{0, 1, true},
		{idlePolls, 1, true},
		{idlePolls + 1, 1, false},
		{idlePolls + 1, idleNs, true},
	} {
		s := &socket{idle: c.idle, polledAt: 1_000_000}
		if s.due(s.polledAt+c.ago) != c.due {
			t.Errorf("after %d polls that found nothing, %d ns after the last one: due %v", c.idle, c.ago, !c.due)
		}
	}
	r := newMemberRig(t, loop.WaitSpin)
	all := []*end{r.open()}
	r.until("idleness", func() bool { return all[0].s.idle > idlePolls })
	r.receives(all)
}

// A socket that may send without a copy needs events: it is watched, and the others stay polled.
func TestZeroCopySocketsAreWatched(t *testing.T) {
	r := newMemberRig(t, loop.WaitSpin)
	all := []*end{r.open()}
	r.on(func() { r.e.o.ZeroCopyBytes = 1 })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	peer, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	own, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	f, err := own.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	zero := r.add(fd)
	zero.peer = -1
	if !zero.s.zeroCopy {
		t.Skip("this kernel has no SO_ZEROCOPY")
	}
	r.are(1, append(all, zero))
	if _, err := peer.Write([]byte("news")); err != nil {
		t.Fatal(err)
	}
	r.until("four bytes", func() bool { return zero.side.got == 4 })
	r.receives(all)
}

func TestALoopThatSleepsWatchesItsSockets(t *testing.T) {
	for _, w := range []loop.Wait{loop.WaitBlock, loop.WaitHybrid} {
		t.Run(w.String(), func(t *testing.T) {
			r := newMemberRig(t, w)
			all := []*end{r.open(), r.open()}
			r.are(0, all)
			r.receives(all)
		})
	}
}
