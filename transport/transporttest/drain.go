package transporttest

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
)

// stats returns the counters of the server's first loop.
func (r *Rig) stats() transport.Stats {
	r.t.Helper()
	all, err := r.Server.Stats()
	if err != nil || len(all) == 0 {
		r.t.Fatalf("%d loops' counters: %v", len(all), err)
	}
	return all[0]
}

// closing begins to close the server.
func (r *Rig) closing() (closed chan struct{}) {
	closed = make(chan struct{})
	go func() { _ = r.Server.Close(); close(closed) }()
	return closed
}

func (r *Rig) closes(closed chan struct{}) {
	r.t.Helper()
	select {
	case <-closed:
	case <-time.After(WaitMax):
		r.t.Fatalf("the server does not close; the log: %q", r.Logs())
	}
}

// countersMatch: the server's counters match the requests of one client.
func countersMatch(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	if s := r.stats(); s.Conns != 0 || s.Opened != 0 || s.PoolBytes != 0 || s.PoolBytesMax == 0 || s.ConnBytesMax == 0 {
		t.Errorf("before the first connection: %+v", s)
	}
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	const requests, bytes = 20, 10_000
	for i := range requests {
		c.Expect(Put(fmt.Sprint(i), Fill(bytes, uint64(i))), kv.StatusOK)
	}
	s := r.stats()
	if s.Conns != 1 || s.Opened != 1 || s.Requests != requests || s.Refused != 0 || s.Unanswered != 0 {
		t.Errorf("after %d puts: %+v", requests, s)
	}
	if sent := uint64(requests * (bytes + wire.HeaderBytes)); s.BytesIn < sent || s.BytesIn > sent+10_000 || s.ConnBytes == 0 {
		t.Errorf("after puts of %d bytes: %+v", sent, s)
	}
	for i := range requests {
		c.Expect(Get(fmt.Sprint(i), bytes), kv.StatusOK)
	}
	Until(t, "the answers to be counted", func() bool { return r.stats().BytesOut >= requests*(bytes+2*wire.HeaderBytes) })
	c.c.Hangup()
	Until(t, "the connection to be gone", func() bool { s := r.stats(); return s.Conns == 0 && s.ConnBytes == 0 && s.PoolBytes == 0 })
	if s := r.stats(); s.Requests != 2*requests || s.Unanswered != 0 {
		t.Errorf("after its end: %+v", s)
	}
}

// cutInFlight: Cut ends a connection whose requests the handler has not completed.
func cutInFlight(t *testing.T, n Network) {
	r, c, p := eightInFlight(t, n)
	closed := r.closing()
	c.mustBeSilent(r)
	r.Server.Cut()
	for range 8 {
		if s := c.Next().Status; s != kv.StatusUnknown {
			t.Fatalf("a request that was cut off ended as %v", s)
		}
	}
	Until(t, "8 requests to be counted as not answered", func() bool { return r.stats().Unanswered == 8 }) // the client may know before
	p.Release(t)                                                                                           // the connection's slots stay allocated until then
	r.closes(closed)
}

// cutNeverReads: Cut ends a connection whose peer does not read its answers. An orderly close waits for it, and others are not affected.
func cutNeverReads(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{Depth: 64})
	owner := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	owner.Expect(Put("large", Fill(1<<20, 1)), kv.StatusOK)
	c := r.connected(64)
	for i := range 64 { // 64 MiB of answers: more than socket buffers hold
		c.send(frame(wire.Header{Op: kv.OpGet, ID: uint64(i), KeyBytes: 5, ValueBytes: 1 << 20}, "large"))
	}
	Until(t, "all requests to be received", func() bool { return r.stats().Requests == 1+64 })
	closed := r.closing()
	Until(t, "the others to get the notice", func() bool {
		var err error
		_ = r.Loop.Call(func() { err = owner.c.Err() })
		return err != nil
	})
	select {
	case <-closed:
		t.Fatal("it closed before its answers were taken")
	default:
	}
	r.Server.Cut()
	r.closes(closed)
	if s := r.stats(); s.Unanswered == 0 || s.Unanswered > 64 || s.Conns != 0 {
		t.Errorf("64 requests, of which a part was answered: %+v", s)
	}
}

// respShutdown closes a server while a client of Redis has sent more commands than may be under way: all received ones
// are answered.
func respShutdown(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	c := r.raw()
	c.sendText(command("SET", "k", "v"))
	c.expect("+OK\r\n")
	p := r.Parts[0]
	p.Hold(t)
	const commands = 300
	before, get := r.stats().BytesIn, command("GET", "k")
	c.sendText(strings.Repeat(get, commands))
	Until(t, "more commands than are begun", func() bool { return r.stats().Paused == 1 })
	s := r.stats()
	received := int(s.BytesIn-before) / len(get) // the network may split them anywhere
	if uint64(received) < s.Requests {
		t.Fatalf("%d commands were received: %+v", received, s)
	}
	closed := r.closing()
	Until(t, "the server to take no more connections", func() bool {
		c, err := r.TryDial(transport.DialOptions{DialMax: time.Second})
		if err == nil {
			c.Hangup()
		}
		return err != nil
	})
	p.Release(t)
	c.expect(strings.Repeat(bulk("v"), received))
	if rest, err := io.ReadAll(c); string(rest) != "-ERR kvwire is shutting down\r\n" {
		t.Errorf("the last word is %q (%v)", rest, err)
	}
	_ = c.Close()
	r.closes(closed)
	if s := r.stats(); s.Unanswered != 0 || s.Requests != uint64(received)+1 {
		t.Errorf("%d commands were received: %+v", received, s)
	}
	t.Logf("%d of %d commands were received, and answered", received, commands)
}
