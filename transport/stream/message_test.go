package stream

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// newMessagePeer is a connection over messages, after its hello.
func newMessagePeer(t *testing.T, value []byte, o transport.ServerOptions) *peer {
	p := acceptPeer(t, value, o)
	p.turn(func() {
		p.h.Grant = func(*Server) ([]byte, error) { return nil, nil }
		p.by.of[kv.OpPut] = nil
	})
	p.exchangeHellos(4)
	return p
}

// message makes the server receive a message, and returns the number of its bytes that wait.
func (p *peer) message(b []byte) (unread int) {
	p.t.Helper()
	p.turn(func() {
		if err := p.srv.ReceivedMessage(b); err != nil {
			p.t.Error(err)
		}
		unread = p.srv.Unread()
	})
	p.turn(func() {})
	return unread
}

// next returns the bytes that the server sends in messages of at most max bytes, and reports them as sent.
func (p *peer) next(max int) (messages [][]byte) {
	p.turn(func() {
		var v [4]unix.Iovec
		for follows := p.srv.out.Len() > 0; ; {
			pieces, n, more := p.srv.Next(v[:], max)
			if pieces > 0 != follows {
				p.t.Errorf("%d pieces, and bytes were to follow: %v", pieces, follows)
			}
			if follows = more; pieces == 0 {
				return
			}
			var m []byte
			for i := range v[:pieces] {
				m = append(m, sys.IovecBytes(&v[i])...)
			}
			if len(m) != n || n > max {
				p.t.Errorf("a message of %d bytes is described as %d, at most %d", len(m), n, max)
			}
			messages = append(messages, m)
			p.srv.Sent(n)
		}
	})
	return messages
}

// put is a frame that puts a value of n bytes.
func put(n int) []byte {
	return frames(wire.Header{Op: kv.OpPut, KeyBytes: 1, ID: 7, ValueBytes: uint32(n)})
}

// A payload may come in many messages, and an answer goes in messages of one frame each.
func TestFramesInMessages(t *testing.T) {
	value := bytes.Repeat([]byte("v"), 1000)
	p := newMessagePeer(t, value, transport.ServerOptions{})
	frame := put(1000)
	for at := 0; at < len(frame); at += 300 {
		if n := p.message(frame[at:min(at+300, len(frame))]); n > 0 {
			t.Fatalf("%d bytes wait", n)
		}
	}
	var h wire.Header
	if got := p.next(256); len(got) != 1 || h.Decode(got[0]) != nil || h.Op != kv.OpPut || h.Status != kv.StatusOK || h.ID != 7 {
		t.Fatalf("%d messages answer the put: %+v", len(got), h)
	}
	get := wire.Header{Op: kv.OpGet, KeyBytes: 1, ID: 8, ValueBytes: 1 << 20}
	p.message(frames(get, get))
	got := p.next(600)
	if len(got) != 4 || !bytes.Equal(append(got[0][wire.HeaderBytes:], got[1]...), value) || h.Decode(got[2]) != nil || h.ValueBytes != 1000 {
		t.Fatalf("%d messages answer two gets: %+v", len(got), h)
	}
}

// From its first request without memory on, the whole message waits. It continues by itself when there is memory.
func TestAMessageWaitsForMemory(t *testing.T) {
	p := newMessagePeer(t, make([]byte, 1), transport.ServerOptions{PoolBytes: 1, StallMax: time.Hour, HelloMax: time.Hour})
	p.h.O.Limits.MaxValueBytes = 1 << 20
	var taken [][]byte
	p.turn(func() {
		for b := p.h.Pool.Alloc(512); b != nil; b = p.h.Pool.Alloc(512) {
			taken = append(taken, b)
		}
	})
	frame := put(1000)
	if n := p.message(frame); n != len(frame) || len(p.next(600)) > 0 {
		t.Fatalf("without memory %d bytes of %d wait", n, len(frame))
	}
	p.turn(func() {
		for _, b := range taken {
			p.h.Pool.Free(b)
		}
		p.h.Pool.RetryWaiters()
		p.h.Resume()
		if n := p.srv.Unread(); n > 0 {
			t.Errorf("with memory %d bytes wait", n)
		}
	})
	p.turn(func() {})
	if got := p.next(600); len(got) != 1 {
		t.Errorf("%d messages answer the put", len(got))
	}
}

// A small answer in its slot's own memory counts as sent when NextCopied returns it, and not while an earlier one waits to be counted. All others are left to Next.
func TestSmallAnswersAreCopied(t *testing.T) {
	value := bytes.Repeat([]byte("v"), 100)
	p := newMessagePeer(t, value, transport.ServerOptions{})
	get := func(id uint64, room uint32, flags uint8) []byte {
		return frames(wire.Header{Op: kv.OpGet, Flags: flags, KeyBytes: 1, ID: id, ValueBytes: room})
	}
	copied := func(max int, moreWanted bool) []byte {
		t.Helper()
		var b []byte
		p.turn(func() {
			got, more := p.srv.NextCopied(max)
			if b = bytes.Clone(got); more != moreWanted {
				t.Errorf("more follows: %v", more)
			}
		})
		return b
	}
	if b := copied(1<<20, false); b != nil {
		t.Fatalf("%x before there is an answer", b)
	}
	p.message(append(get(1, 100, 0), get(2, 100, 0)...))
	sent, whole := p.srv.h.count.BytesOut, wire.HeaderBytes+len(value)
	var h wire.Header
	if b := copied(whole-1, true); b != nil {
		t.Fatalf("%d bytes of at most %d", len(b), whole-1)
	}
	if b := copied(whole, true); len(b) != whole || h.Decode(b) != nil || !bytes.Equal(b[wire.HeaderBytes:], value) {
		t.Fatalf("%x, %+v", b, h)
	}
	if p.srv.out.Len() != 1 || p.srv.unanswered() != 1 || p.srv.h.count.BytesOut != sent+uint64(whole) {
		t.Errorf("of two answers %d are queued and %d not sent; %d bytes were sent", p.srv.out.Len(), p.srv.unanswered(), p.srv.h.count.BytesOut-sent)
	}
	p.turn(func() {
		var v [4]unix.Iovec
		if pieces, n, more := p.srv.Next(v[:], 600); pieces != 1 || n != whole || more {
			t.Errorf("%d pieces of %d B, more: %v", pieces, n, more)
		}
	})
	p.message(get(3, 100, 0))
	if b := copied(whole, true); b != nil {
		t.Errorf("%x overtakes an answer that is not counted", b)
	}
	p.send(whole)
	if b := copied(whole, false); len(b) != whole || p.srv.unanswered() != 0 {
		t.Errorf("%d bytes after all others, %d answers are not sent", len(b), p.srv.unanswered())
	}
	p.message(get(4, 100, wire.FlagTimes))
	if b := copied(1<<20, true); b != nil {
		t.Errorf("%d bytes of an answer in three pieces", len(b))
	}
	p.next(1 << 20)
	p.turn(func() { p.srv.p.(*nativeServer).hint = 5000 }) // so the next answer has memory of the pool
	p.srv.h.O.Limits.MaxValueBytes = 1 << 20
	p.message(get(5, 5000, 0))
	if b := copied(1<<20, true); b != nil {
		t.Errorf("%d bytes of an answer whose memory would be free before it is copied", len(b))
	}
	p.next(1 << 20)
}

// Headers have no checksum if the client offers the feature and the transport supports it, and have one otherwise. A header of the other kind ends the connection.
func TestHeadersWithoutAChecksumAreNegotiated(t *testing.T) {
	for _, c := range []struct {
		name               string
		client, host, want uint32
	}{
		{"both", wire.FeatureNoChecksum, wire.FeatureNoChecksum, wire.FeatureNoChecksum},
		{"the client alone, over TCP", wire.FeatureNoChecksum, 0, 0},
		{"the server alone, with an older client", 0, wire.FeatureNoChecksum, 0},
		{"and features of later versions", wire.FeatureNoChecksum | 1<<9, wire.FeatureNoChecksum, wire.FeatureNoChecksum},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := acceptPeer(t, []byte("v"), transport.ServerOptions{})
			p.turn(func() {
				p.h.Grant = func(*Server) ([]byte, error) { return nil, nil }
				p.h.Features = c.host
			})
			p.receive((&wire.ClientHello{Version: wire.Version, Optional: c.client, Depth: 4, Loop: wire.AnyLoop}).Append(nil))
			var hello wire.ServerHello
			if b := p.gather(); hello.Decode(b) != nil || hello.Features != c.want {
				t.Fatalf("%x grants %+v, want features %#x", b, hello, c.want)
			} else {
				p.send(len(b))
			}
			bare := c.want != 0
			for _, as := range []bool{bare, !bare} {
				b := make([]byte, wire.HeaderBytes)
				(&wire.Header{Op: kv.OpGet, KeyBytes: 1, ID: 8, ValueBytes: 1}).EncodeAs(b, as)
				p.message(append(b, 'k'))
				var h wire.Header
				got := p.next(600)
				if len(got) != 1 || h.DecodeAs(got[0], bare) != nil {
					t.Fatalf("%d messages answer, %+v", len(got), h)
				}
				if answered := h.Flags&wire.FlagRefuse == 0 && h.ID == 8; answered != (as == bare) || !answered && wire.Code(h.Arg) != wire.RefusedGarbage {
					t.Errorf("a request with a header that is bare, %v, gets %+v", as, h)
				}
			}
		})
	}
}

// A client uses only features that it has requested.
func TestAClientEndsWithAServerThatGrantsMore(t *testing.T) {
	grant := wire.ServerHello{Version: wire.Version, Depth: 1, MaxKeyBytes: 100, MaxValueBytes: 100, Loops: 1, Features: wire.FeatureNoChecksum}
	for _, c := range []struct {
		optional uint32
		err      error
	}{{0, transport.ErrProtocol}, {wire.FeatureNoChecksum, nil}} {
		near, far := net.Pipe()
		done := make(chan error, 1)
		go func() {
			_, err := far.Read(make([]byte, wire.MaxHelloBytes))
			if err == nil {
				_, err = far.Write(grant.Append(nil))
			}
			done <- err
		}()
		h, err := exchangeHellos(near, transport.DialOptions{Depth: 1, Loop: -1}, wire.ClientHello{Version: wire.Version, Optional: c.optional, Depth: 1, Loop: wire.AnyLoop})
		if !errors.Is(err, c.err) || h.Features != grant.Features {
			t.Errorf("a client that can use features %#x got %#x: %v", c.optional, h.Features, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		_, _ = near.Close(), far.Close()
	}
}

// A header lies in one message.
func TestAMessageThatEndsWithinAHeaderIsRefused(t *testing.T) {
	p := newMessagePeer(t, nil, transport.ServerOptions{})
	p.message(put(1)[:10])
	var h wire.Header
	got := p.next(600)
	if len(got) != 1 || h.Decode(got[0]) != nil || h.Flags&wire.FlagRefuse == 0 || wire.Code(h.Arg) != wire.RefusedGarbage {
		t.Fatalf("%d messages: %+v", len(got), h)
	}
	p.turn(func() {
		if !p.srv.Last() || !p.srv.Finished() {
			t.Error("the refusal is not the last message")
		}
	})
}
