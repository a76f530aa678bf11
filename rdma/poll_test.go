//go:build rdma && cgo && linux

package rdma

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
	tt "github.com/kvwire/kvwire/transport/transporttest"
)

// polledLink is a link without a device whose peer is the test: it writes messages and flags into the link's memory.
type polledLink struct {
	*link
	side  *rawConn
	ended error
	sent  uint32 // messages
}

const (
	polledSlots     = 16
	polledSlotBytes = 256
)

// withPolledLink runs f on the loop of a new link.
func withPolledLink(t *testing.T, f func(p *polledLink)) {
	t.Helper()
	l, err := loop.Start(loop.Options{Name: "polled", Sleep: loop.SleepEpoll}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := arena.New(polledSlots * (polledSlotBytes + flagBytes))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(l.Stop(), a.Close()); err != nil {
			t.Error(err)
		}
	}()
	p := &polledLink{side: &rawConn{news: make(chan struct{}, 1)}}
	p.link = &link{d: &rdmaEngine{l: l, nic: &nic{}, o: Options{Verb: WritePoll}}, side: p.side, state: linkUp,
		onEnd: func(_ stream.ConnIO, err error) { p.ended, p.state = err, linkClosed },
		ring:  &ring{arrived: fifo.Make[arrival](polledSlots), count: polledSlots}}
	p.mem.arena, p.in.slots, p.in.slotBytes, p.keys.known = a, polledSlots, polledSlotBytes, true
	p.pair.peer.slots, p.credits = polledSlots, credits{posted: polledSlots, advertised: polledSlots, allowed: polledSlots, sent: polledSlots}
	if err := l.Call(func() { f(p) }); err != nil {
		t.Fatal(err)
	}
}

// message writes a message into the next slot, without its flag.
func (p *polledLink) message(b []byte) { copy(p.slot(p.sent%polledSlots), b) }

// flag returns the memory of the next flag, and counts its message.
func (p *polledLink) flag() []byte {
	at := polledSlots*polledSlotBytes + int(p.sent%polledSlots)*flagBytes
	p.sent++
	return p.mem.arena.Bytes()[at : at+flagBytes]
}

// write writes a message with its flag.
func (p *polledLink) write(b []byte, count uint32) {
	p.message(b)
	lap := lapBits(p.sent, polledSlots)
	binary.LittleEndian.PutUint64(p.flag(), encodeFlag(uint32(len(b)), count, lap))
}

// Over many laps, each message is found once, when the last byte of its flag is there, and its slot becomes a credit.
func TestPolledMessagesAreFoundInOrder(t *testing.T) {
	withPolledLink(t, func(p *polledLink) {
		var want []byte
		for i := range uint32(10 * polledSlots) {
			if p.pollRing() != 0 {
				t.Fatalf("a message after %d", i)
			}
			b := tt.Fill(int(i)%polledSlotBytes+1, uint64(i))
			want = append(want, b...)
			p.credits.sent = polledSlots + i // this side sends as many
			p.message(b)
			lap := lapBits(p.sent, polledSlots)
			full := binary.LittleEndian.AppendUint64(nil, encodeFlag(uint32(len(b)), polledSlots+i, lap))
			flag := p.flag()
			for j := range flagBytes {
				if n := p.pollRing(); n != 0 {
					t.Fatalf("message %d is found with %d bytes of its flag", i, j)
				}
				k := (int(i) + 3*j) % flagBytes
				flag[k] = full[k]
			}
			if n := p.pollRing(); n != 1 || p.ended != nil {
				t.Fatalf("message %d: %d found, %v", i, n, p.ended)
			}
			if p.credits.posted != polledSlots+i+1 || p.credits.allowed != polledSlots+i {
				t.Fatalf("after message %d: %+v", i, p.credits)
			}
		}
		if !bytes.Equal(p.side.in, want) {
			t.Error("other bytes were found than were written")
		}
	})
}

func TestPollingAllocatesNothing(t *testing.T) {
	withPolledLink(t, func(p *polledLink) {
		p.side.in = make([]byte, 0, rawRoom)
		b := tt.Fill(polledSlotBytes, 1)
		n := testing.AllocsPerRun(3*polledSlots, func() {
			p.credits.sent++
			p.write(b, p.credits.sent)
			if p.pollRing() != 1 || p.pollRing() != 0 {
				t.Fatal(p.ended)
			}
			p.side.in = p.side.in[:0]
		})
		if n != 0 {
			t.Errorf("%v allocations for each message", n)
		}
	})
}

// A side without memory stops the delivery, but not the credits: its answers may wait for them.
func TestAPausedSideStillGetsCredits(t *testing.T) {
	withPolledLink(t, func(p *polledLink) {
		p.side.in = make([]byte, rawRoom-10)
		for i := range uint32(polledSlots) {
			p.write([]byte("sixteen bytes..."), polledSlots+i+1)
		}
		if n := p.pollRing(); n != polledSlots || p.credits.allowed != 2*polledSlots || p.credits.posted != polledSlots || !p.working() {
			t.Fatalf("%d found, %+v, %d wait", n, p.credits, p.ring.arrived.Len())
		}
		p.side.in = p.side.in[:0]
		p.side.fill()
		if n := p.pollRing(); n != 0 || p.credits.posted != 2*polledSlots || p.ended != nil || len(p.side.in) != polledSlots*16-10 {
			t.Fatalf("%d found, %+v, %d B, %v", n, p.credits, len(p.side.in), p.ended)
		}
	})
}

func TestFlagsThatCannotBeEndTheConnection(t *testing.T) {
	for name, c := range map[string]struct {
		f    func(p *polledLink)
		want string
	}{
		"no bytes":                 {func(p *polledLink) { p.write(nil, polledSlots) }, "a message of 0 B"},
		"more bytes than the slot": {func(p *polledLink) { p.write(make([]byte, polledSlotBytes+1), polledSlots) }, "a message of 257 B"},
		"most bytes": {func(p *polledLink) {
			binary.LittleEndian.PutUint64(p.flag(), ^uint64(0))
		}, "a message of 2097151 B"},
		"a count that is too large": {func(p *polledLink) { p.write([]byte("b"), 2*polledSlots+1) }, "it has posted 33 receives"},
		"a count that falls": {func(p *polledLink) {
			p.write([]byte("b"), polledSlots+2)
			p.write([]byte("b"), polledSlots+1)
		}, "it has posted 17 receives, after 18"},
		"a slot that is full": {func(p *polledLink) {
			p.side.in = make([]byte, rawRoom)
			for range polledSlots + 1 {
				p.write([]byte("b"), polledSlots)
				p.pollRing()
			}
		}, "16 of 16 slots are full"},
	} {
		withPolledLink(t, func(p *polledLink) {
			c.f(p)
			p.pollRing()
			if !errors.Is(p.ended, transport.ErrProtocol) || !strings.Contains(p.ended.Error(), c.want) {
				t.Errorf("%s: %v", name, p.ended)
			}
			if p.pollRing() != 0 {
				t.Errorf("%s: messages are found after the end", name)
			}
		})
	}
}

// A completion may be seen after the flags of later messages. Its count is then void. A message with bytes that makes a completion is not
// of this verb.
func TestCompletionsBesideFlags(t *testing.T) {
	withPolledLink(t, func(p *polledLink) {
		p.in.spare = make([]uint32, 0, polledSlots)
		p.write([]byte("later"), polledSlots+5)
		p.pollRing()
		if !p.overtaken(polledSlots+3) || p.overtaken(polledSlots+5) || p.overtaken(polledSlots+6) {
			t.Error("counts in the wrong order")
		}
		if err := p.received(&verbs.Completion{Recv: 1, Bytes: 5, Imm: polledSlots + 3}); !errors.Is(err, transport.ErrProtocol) || !strings.Contains(err.Error(), "write-poll") {
			t.Errorf("a message of 5 B with a completion: %v", err)
		}
		if p.credits.allowed != polledSlots+5 {
			t.Errorf("%+v", p.credits)
		}
	})
}
