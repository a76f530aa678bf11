package datagram

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// FuzzPacket decodes arbitrary packets. What is decoded is encoded to the same bytes.
func FuzzPacket(f *testing.F) {
	h := Header{Kind: KindReply, Flags: FlagAnswer, Round: 3, Slot: 5, ID: ID{7, 1 << 60}, Number: 9, Bytes: 11, Part: 13, Extra: 15}
	b := make([]byte, HeaderBytes)
	h.Encode(b)
	f.Add(b)
	f.Add(append(bytes.Clone(b), 1, 2, 3, 4, 5, 6, 7, 8))
	g := grant{id: ID{1, 2}, datagramBytes: 1472, credits: 32, slots: 4, app: []byte("welcome")}
	f.Add(append(bytes.Clone(b), g.append(nil)...))
	m := hello{datagramBytes: 1472, credits: 32, slots: 4, proof: []byte("proof"), app: []byte("hello")}
	f.Add(append(append(bytes.Clone(b), m.append(nil)...), make([]byte, HelloPacketBytes)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h Header
		if h.Decode(b) != nil {
			return
		}
		again := make([]byte, HeaderBytes)
		if h.Encode(again); !bytes.Equal(again, b[:HeaderBytes]) {
			t.Fatalf("%x is read as %x", b[:HeaderBytes], again)
		}
		body := b[HeaderBytes:]
		var g grant
		if g.decode(body) && !bytes.Equal(g.append(nil), body) {
			t.Fatalf("the grant %x is read as %x", body, g.append(nil))
		}
		var m hello
		if m.decode(body) {
			if n := m.append(nil); !bytes.Equal(n, body[:len(n)]) || len(m.app) > MaxHelloBytes || len(m.proof) > MaxProofBytes {
				t.Fatalf("the hello %x is read as %x", body[:len(n)], n)
			}
		}
		for rest := body; ; {
			slot, number, next, ok := nextDone(rest)
			if !ok {
				break
			}
			if !bytes.Equal(appendDone(nil, slot, number), rest[:len(rest)-len(next)]) {
				t.Fatalf("a done entry of %x is read as %d, %d", rest, slot, number)
			}
			rest = next
		}
	})
}

// fuzzed cuts packets out of the fuzzer's bytes: a length of 2 bytes, time that passes, and the packet. The identifier is replaced by the session's, so that
// the packet is not rejected for that.
func fuzzed(b []byte, id ID, now *int64, packet func(b []byte)) {
	for len(b) >= 4 {
		n := int(binary.LittleEndian.Uint16(b)) % 4096
		*now += int64(binary.LittleEndian.Uint16(b[2:])) * 100
		b = b[4:]
		p := make([]byte, max(n, HeaderBytes))
		b = b[copy(p[:n], b):]
		p[0], p[1] = magic, version<<4|p[1]&15
		binary.LittleEndian.PutUint32(p[4:], id.Index)
		binary.LittleEndian.PutUint64(p[8:], id.Token)
		p[27] &= flagsKnown
		packet(p)
	}
}

// seeds are the packets of a run without faults, in the form of fuzzed.
func seeds(f *testing.F, toClient bool) {
	p := newPair(f, Options{Credits: 4})
	p.open()
	p.answer = make([]byte, 5000)
	var b []byte
	keep := func(packets [][]byte) {
		for _, m := range packets {
			b = binary.LittleEndian.AppendUint16(b, uint16(len(m)))
			b = append(append(b, 1, 0), m...)
		}
	}
	p.call(make([]byte, 4000))
	p.call([]byte("x"))
	p.flush()
	for len(p.toServer)+len(p.toClient) > 0 {
		a, c := p.toServer, p.toClient
		p.toServer, p.toClient = nil, nil
		if toClient {
			keep(c)
		} else {
			keep(a)
		}
		p.arrive(a...)
		server := simAddress(pairServer)
		for _, m := range c {
			p.client.Receive(p.now, &server, m)
		}
		p.flush()
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add(append(bytes.Clone(b), b...))
}

// FuzzServer passes arbitrary packets to an open session of a server.
func FuzzServer(f *testing.F) {
	seeds(f, false)
	f.Fuzz(func(t *testing.T, b []byte) {
		p := newPair(t, Options{Credits: 4, HelloMax: 1e9, SilentMax: 1e9, MessageBytes: 100_000})
		p.open()
		p.answer = make([]byte, 5000)
		s := p.admitted
		received := 0
		fuzzed(b, s.id, &p.now, func(m []byte) {
			if s.state == sessionEnded {
				return
			}
			received++
			p.delay = m[len(m)-1]&1 != 0
			p.full = m[len(m)-1]&2 != 0
			before := p.server.control.n
			from := simAddress(pairClient)
			p.server.Receive(p.now, &from, m)
			if more := p.server.control.n - before; more > 1 {
				t.Fatalf("%d packets for one", more)
			}
			for i := range s.slots {
				if k := &s.slots[i]; k.state == slotExecuting && !p.delay {
					s.Reply(i, p.answer, nil)
				}
				if k := &s.slots[i]; k.got > k.parts || k.end > k.replyParts || k.next > k.end || k.pins != 0 {
					t.Fatalf("%+v", *k)
				}
			}
			p.flush()
			p.toClient, p.toServer = nil, nil
			p.server.Tick(p.now)
		})
		if p.requests > received {
			t.Fatalf("%d requests of %d packets", p.requests, received)
		}
		p.pass(3e9)
		if p.server.Sessions() != 0 || len(p.server.timers.heap) != 0 {
			t.Fatal("the session outlives its client")
		}
	})
}

// FuzzClient passes arbitrary packets to an open session of a client with requests in flight.
func FuzzClient(f *testing.F) {
	seeds(f, true)
	f.Fuzz(func(t *testing.T, b []byte) {
		p := newPair(t, Options{Credits: 4, SilentMax: 1e9})
		p.open()
		s := p.session
		p.call(make([]byte, 4000))
		p.call([]byte("x"))
		p.flush()
		fuzzed(b, s.id, &p.now, func(m []byte) {
			from := simAddress(pairServer)
			p.client.Receive(p.now, &from, m)
			if s.state == sessionEnded {
				return
			}
			inFlight := 0
			for i := range s.calls {
				k := &s.calls[i]
				if k.state == callActive {
					inFlight += int(k.sent - k.answered)
				}
				if k.sent < k.answered || k.sentMost < k.sent && k.state == callActive {
					t.Fatalf("%+v", *k)
				}
			}
			if s.credits < 0 || s.credits+inFlight != s.creditsMax {
				t.Fatalf("%d credits and %d packets in flight, of %d", s.credits, inFlight, s.creditsMax)
			}
			p.flush()
			p.toClient, p.toServer = nil, nil
			p.client.Tick(p.now)
		})
		if p.dones > 2 {
			t.Fatalf("%d answers to 2 requests", p.dones)
		}
		s.End(errors.New("enough"))
		if p.client.Sessions() != 0 || len(p.client.timers.heap) != 0 || p.left == nil {
			t.Fatal("the session has not ended")
		}
	})
}

// FuzzHello passes arbitrary packets to a server without sessions, and to a client that waits for an answer to its hello.
func FuzzHello(f *testing.F) {
	p := newPair(f, Options{})
	p.dial()
	f.Add(p.toServer[0])
	p.arrive(p.toServer...)
	f.Add(p.toClient[0])
	b := make([]byte, HeaderBytes)
	(&Header{Kind: KindElsewhere}).Encode(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p := newPair(t, Options{})
		p.dial()
		p.toServer = nil
		p.arrive(b)
		out := 0
		for _, a := range p.toClient {
			out += len(a)
		}
		if out > len(b) || p.server.Sessions() != 0 {
			t.Fatalf("%d B for %d B, %d sessions", out, len(b), p.server.Sessions())
		}
		from := simAddress(pairServer)
		if len(b) >= HeaderBytes {
			binary.LittleEndian.PutUint32(b[4:], p.session.id.Index)
			binary.LittleEndian.PutUint64(b[8:], p.session.id.Token)
		}
		p.client.Receive(p.now, &from, b)
		p.client.Receive(p.now, &from, b)
		p.flush()
		if p.session.Open() {
			t.Fatal("the session is open")
		}
	})
}
