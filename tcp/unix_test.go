package tcp

import (
	"testing"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// events is a member with one socket, which counts the events of that.
type events struct {
	epollEngine
	s   *socket
	got int
}

func (e *events) OnEvent(_ uint64, ready int32, _ uint32) {
	e.got++
	e.s.event(uint32(ready))
}

func (e *events) Stage() error {
	e.Flush()
	return nil
}

func (e *events) Close() bool {
	e.s.Close(nil)
	return true
}

// pile is a side that sends b, and reads nothing.
type pile struct{ b []byte }

var _ stream.Side = (*pile)(nil)

func (p *pile) RecvBuffers(*[2][]byte) int { return 0 }
func (p *pile) Received(int, int64) error  { return nil }
func (p *pile) Sent(n int)                 { p.b = p.b[n:] }
func (p *pile) Finished() bool             { return false }
func (p *pile) PeerFinished() bool         { return false }
func (p *pile) Drop(error)                 {}

func (p *pile) Gather(v []unix.Iovec, most int) int {
	if len(p.b) == 0 {
		return 0
	}
	sys.SetIovec(&v[0], p.b[:min(len(p.b), most)])
	return 1
}

// A peer's read does not wake the loop, as long as the send buffer had room; if it had none, the rest follows.
func TestAPeersReadsAreNoEvents(t *testing.T) {
	l, err := loop.Start(loop.Options{Name: "events", Sleep: loop.SleepEpoll}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	peer := fds[1]
	defer unix.Close(peer)
	e, side := &events{epollEngine: epollEngine{l: l, count: new(transport.Counters)}}, &pile{}
	on := func(f func()) {
		t.Helper()
		if err := l.Call(f); err != nil {
			t.Fatal(err)
		}
	}
	on(func() {
		if e.id, err = l.Add(e); err != nil {
			return
		}
		var m stream.ConnIO
		if m, err = e.Open(netsock.Socket{Fd: fds[0]}, func(stream.ConnIO, error) {}, nil); err == nil {
			e.s = m.(*socket)
			e.s.Join(side)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	on(func() {}) // that there is room at first is an event of TCP
	before := 0
	on(func() { before = e.got })
	b := make([]byte, 1<<20)
	for range 50 {
		on(func() { side.b = b[:10]; e.s.Touch() })
		on(func() {}) // it is sent
		if n, err := unix.Read(peer, b); n != 10 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		on(func() {}) // an event of the peer's read would arrive in this turn
	}
	on(func() {
		if n := e.got - before; n > 0 {
			t.Errorf("%d events while a peer read 50 messages", n)
		}
	})
	const much = 4 << 20
	on(func() { side.b = make([]byte, much); e.s.Touch() })
	for got := 0; got < much; {
		ready := []unix.PollFd{{Fd: int32(peer), Events: unix.POLLIN}}
		if n, err := unix.Poll(ready, 10_000); n != 1 && err != unix.EINTR {
			t.Fatalf("after %d of %d bytes nothing more comes (%v)", got, much, err)
		}
		if n, err := unix.Read(peer, b); err == nil {
			got += n
		}
	}
}
