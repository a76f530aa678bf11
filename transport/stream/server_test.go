package stream

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// answers is a partition that answers every get with the same value.
type answers struct {
	l     *loop.Loop
	v     []byte
	of    map[kv.Op][]byte // what others than gets are answered with; none: v
	begun int              // requests that it answered with all of it, in bytes
	last  bool             // of those of a turn the last is answered first
	came  []*kv.Request    // in this turn
}

func (a *answers) OnEvent(uint64, int32, uint32) {}
func (a *answers) Poll() int                     { return 0 }
func (a *answers) Close() bool                   { return true }
func (a *answers) Stage() error {
	for n := len(a.came) - 1; n >= 0; n-- {
		a.answer(a.came[n])
	}
	a.came = a.came[:0]
	return nil
}
func (a *answers) Submit(r *kv.Request) {
	if a.last {
		a.came = append(a.came, r)
	} else {
		a.answer(r)
	}
}
func (a *answers) answer(r *kv.Request) {
	if r.Op == kv.OpKeys { // there are none
		r.Status, r.Value, r.Record = kv.StatusOK, r.Value[:0], kv.WalkEnd
		a.l.Finish(r)
		return
	}
	v, ok := a.of[r.Op]
	if !ok {
		v = a.v
	}
	if r.Status = kv.StatusTooSmall; cap(r.Value) >= len(v) {
		r.Status, r.Value = kv.StatusOK, append(r.Value[:0], v...)
		a.begun += len(v)
	}
	r.Need = uint32(len(v))
	a.l.Finish(r)
}

// peer is the kernel of one connection: it moves bytes when the test calls it.
type peer struct {
	t   testing.TB
	l   *loop.Loop
	h   *Host
	srv *Server
	log []string
	by  *answers // of the partition
}

// Write implements io.Writer. It keeps a line of the log.
func (p *peer) Write(line []byte) (int, error) {
	p.log = append(p.log, string(line))
	return len(line), nil
}

func (p *peer) Touch() {}
func (p *peer) Stamp() {}

func newPeer(t *testing.T, value []byte, depth uint16) *peer {
	p := acceptPeer(t, value, transport.ServerOptions{})
	p.exchangeHellos(depth)
	return p
}

// exchangeHellos sends the hello and receives the answer.
func (p *peer) exchangeHellos(depth uint16) {
	p.t.Helper()
	p.receive((&wire.ClientHello{Version: wire.Version, Depth: depth, Loop: wire.AnyLoop}).Append(nil))
	p.send(len(p.gather()))
}

// another is a second connection of the host, after its hello. The test ends it.
func (p *peer) another(depth uint16) *peer {
	p.t.Helper()
	o := &peer{t: p.t, l: p.l, h: p.h, by: p.by}
	o.turn(func() { o.srv = o.h.NewServer(o, "other") })
	o.exchangeHellos(depth)
	return o
}

// acceptPeer is newPeer before the hello.
func acceptPeer(t *testing.T, value []byte, o transport.ServerOptions) *peer {
	o.Limits = kv.Limits{MaxValueBytes: max(len(value), 1)}
	var by *answers
	p := acceptPeerOf(t, func(l *loop.Loop) loop.Partition {
		by = &answers{l: l, v: value, of: map[kv.Op][]byte{}}
		return by
	}, o)
	p.by = by
	return p
}

// acceptPeerOf is acceptPeer of a server with another partition.
func acceptPeerOf(t *testing.T, part func(*loop.Loop) loop.Partition, o transport.ServerOptions) *peer {
	p := &peer{t: t}
	g, err := loop.NewGroup(loop.Plan{NetLoops: 1, Net: loop.Options{Sleep: loop.SleepEpoll}, Store: loop.Options{Sleep: loop.SleepEpoll}},
		func(l *loop.Loop, _, _ int) (loop.Partition, error) {
			a := part(l)
			_, err := l.Add(a)
			return a, err
		})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Stop() })
	o.Log = slog.New(slog.NewTextHandler(p, nil))
	if o, err = o.Defaults(); err != nil {
		t.Fatal(err)
	}
	p.l = g.Net()[0]
	p.turn(func() {
		if p.h, err = NewHost(p.l, g, 0, o); err == nil {
			p.srv = p.h.NewServer(p, "peer")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.turn(func() {
			p.srv.Drop(transport.ErrPeerGone)
			if !p.h.Close() {
				t.Error("the connection holds requests after its end")
			}
		})
	})
	p.turn(func() { p.h.redis.cursors = resp.NewCursors() })
	return p
}

// turn runs f on the loop; what f submits has completed when the next turn's f runs.
func (p *peer) turn(f func()) {
	p.t.Helper()
	if err := p.l.Call(f); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) receive(b []byte) {
	p.t.Helper()
	if len(p.receiveSome(b)) > 0 {
		p.t.Fatal("the server does not read")
	}
}

// receiveSome has the server receive as much as it reads, and gives the rest.
func (p *peer) receiveSome(b []byte) []byte {
	p.t.Helper()
	p.turn(func() {
		var w [2][]byte
		for len(b) > 0 && p.srv.RecvBuffers(&w) > 0 {
			n := copy(w[0], b)
			b = b[n:]
			if err := p.srv.Received(n, 0); err != nil {
				p.t.Error(err)
			}
		}
	})
	p.turn(func() {})
	return b
}

func (p *peer) get(id uint64) {
	p.t.Helper()
	b := make([]byte, wire.HeaderBytes, wire.HeaderBytes+1)
	(&wire.Header{Op: kv.OpGet, KeyBytes: 1, ID: id, ValueBytes: 1 << 30}).Encode(b)
	p.receive(append(b, 'k'))
}

// gather is what the server would send now.
func (p *peer) gather() (out []byte) {
	p.turn(func() {
		var v [64]unix.Iovec
		for i := range v[:p.srv.Gather(v[:], GatherBytes)] {
			out = append(out, sys.IovecBytes(&v[i])...)
		}
	})
	return out
}

func (p *peer) send(n int) { p.turn(func() { p.srv.Sent(n) }) }

func TestAPeerThatDoesNotWaitForWholeAnswersIsRefused(t *testing.T) {
	p := newPeer(t, make([]byte, 1000), 1)
	for id := range uint64(2) { // each answer is on its way and none is out
		p.get(id)
		if b := p.gather(); len(b) != int(id+1)*(wire.HeaderBytes+1000) {
			t.Fatalf("after request %d there are %d B to send", id, len(b))
		}
	}
	p.get(2)
	if l := strings.Join(p.log, "\n"); !strings.Contains(l, "more than 1 requests in flight") {
		t.Fatalf("the log: %q", l)
	}
}

func TestAPeerThatTookAllButOneByteMaySendAgain(t *testing.T) {
	p := newPeer(t, make([]byte, 1000), 4)
	for id := range uint64(4) {
		p.get(id)
	}
	all := len(p.gather())
	p.send(all - wire.HeaderBytes - 1001) // three of four, and the news of the last byte of the third is late
	for id := range uint64(3) {
		p.get(id)
	}
	p.gather()
	if len(p.log) != 0 {
		t.Fatalf("the log: %q", p.log)
	}
}

// A ring may complete the receive of a proof before the send of the challenge.
func TestAProofMayComeBeforeTheChallengesSendCompletes(t *testing.T) {
	ann := access.Entry{Name: "ann", Secret: "the secret of ann"}
	p := acceptPeer(t, []byte("value"), transport.ServerOptions{Access: access.NewList(ann)})
	hello := (&wire.ClientHello{Version: wire.Version, Required: wire.FeatureAccess, Depth: 4, Loop: wire.AnyLoop, Name: "ann"}).Append(nil)
	p.receive(hello)
	challenge := p.gather()
	proof := ann.ClientProof(access.NewTranscript(hello, challenge))
	p.receive(proof.Append(nil))
	p.send(len(challenge))
	grant := p.gather()
	var h wire.ServerHello
	if err := h.Decode(grant); err != nil || h.Code != wire.Granted || h.Depth != 4 || len(p.log) > 0 {
		t.Fatalf("%+v, %v; the log: %q", h, err, p.log)
	}
	p.send(len(grant))
	p.get(7)
	if b := p.gather(); !bytes.HasSuffix(b, []byte("value")) {
		t.Fatalf("an answer of %d B: %q", len(b), b)
	}
}

// The transport's parameters in a hello are in memory that the next connection uses as soon as this one has moved.
func TestAHelloThatMovesIsNotOverwritten(t *testing.T) {
	p := acceptPeer(t, nil, transport.ServerOptions{})
	p.h.Loops = 2
	hello := (&wire.ClientHello{Version: wire.Version, Depth: 4, Loop: 1, Params: []byte("parameters")}).Append(nil)
	var moved Moved
	p.turn(func() {
		var w [2][]byte
		p.srv.RecvBuffers(&w)
		if err := p.srv.Received(copy(w[0], hello), 0); !errors.Is(err, ErrMove) || p.srv.MoveTo != 1 {
			t.Errorf("%v, to loop %d", err, p.srv.MoveTo)
		}
		moved = p.srv.Moved(socket.Socket{Fd: -1})
		p.srv.Drop(ErrMove)
		p.srv = p.h.NewServer(p, "the next one")
		p.srv.RecvBuffers(&w)
		clear(w[0])
	})
	if !bytes.Equal(moved.Received, hello) {
		t.Fatalf("%x moved as %x", hello, moved.Received)
	}
}

func TestOneSendIsBounded(t *testing.T) {
	v := make([]byte, 5<<20+12345)
	for i := range v {
		v[i] = byte(i * 7 >> 8)
	}
	p := newPeer(t, v, 2)
	p.get(1)
	p.get(2)
	var got []byte
	for {
		b := p.gather()
		if len(b) == 0 {
			break
		}
		if len(b) > GatherBytes {
			t.Fatalf("one send of %d B", len(b))
		}
		n := max(len(b)*2/3, 1) // the kernel accepts only a part
		got = append(got, b[:n]...)
		p.send(n)
		p.turn(func() { p.h.Resume() }) // the second begins when the first was sent
		p.turn(func() {})
	}
	one := wire.HeaderBytes + len(v)
	if len(got) != 2*one || !bytes.Equal(got[wire.HeaderBytes:one], v) || !bytes.Equal(got[one+wire.HeaderBytes:], v) {
		t.Fatalf("%d B were sent, want %d, or they differ", len(got), 2*one)
	}
}

// A peer that always reads something never stalls. It is still closed, with a reason, if others wait for memory that it holds and it
// reads no complete answer in 2 StallMax. The others' requests succeed.
func TestASlowReaderIsClosedWhenOthersNeedItsMemory(t *testing.T) {
	slow := newPeer(t, make([]byte, 1<<20), 16)
	slow.turn(func() { slow.h.O.StallMax = 500 * time.Millisecond })
	for id := range uint64(10) {
		slow.get(id)
	}
	var late []error
	look := func() { // checks the deadlines at a known time; the peer reads a byte
		slow.look(func(c *Server, err error) {
			late = append(late, err)
			c.Drop(err)
		})
		slow.turn(func() {
			if slow.srv.state == stateOpen {
				var v [4]unix.Iovec
				slow.srv.Gather(v[:], 4096)
				slow.srv.Sent(1)
			}
		})
	}
	slow.leaveFree(0)
	slow.turn(func() { slow.srv.account.HeldSince -= 10e9 }) // it has read no complete answer for ten seconds
	if look(); len(late) > 0 {
		t.Fatalf("closed while nobody waits for its memory: %v", late)
	}
	other := slow.another(1)
	other.get(1)
	if n := len(other.gather()); n > 0 {
		t.Fatalf("%d bytes of an answer without memory", n)
	}
	if look(); len(late) != 1 || !errors.Is(late[0], errSlow) {
		t.Fatalf("closed: %v", late)
	}
	look() // memory has come back
	look() // less than the share that must stay free, but no other connection needs it
	if n := len(other.gather()); n < 1<<20 {
		t.Fatalf("%d bytes of an answer for which there is memory now", n)
	}
	other.turn(func() { other.srv.Drop(transport.ErrPeerGone) })
}

// waiting is how many requests wait for memory, or for the peer. On the loop.
func (p *peer) waiting() int { return p.srv.busy - len(p.by.came) }

// look checks the deadlines.
func (p *peer) look(late func(*Server, error)) {
	p.turn(func() {
		p.h.Resume()
		p.h.nextTick, p.h.unblockAt = min(p.h.nextTick, p.h.L.Now()), 0
		p.h.Tick(late)
	})
	p.turn(func() {})
}

// drain receives and returns all answers.
func (p *peer) drain() (out []byte) {
	for {
		b := p.gather()
		if len(b) == 0 {
			return out
		}
		out = append(out, b...)
		p.send(len(b))
		p.turn(func() { p.h.Resume() })
		p.turn(func() {})
	}
}

// leaveFree allocates all of the pool except n bytes, until the test ends.
func (p *peer) leaveFree(n int) {
	var taken [][]byte
	p.turn(func() {
		for size := p.h.Pool.Largest(); size >= 4096; size /= 2 {
			for p.h.Pool.Unused()-size >= n {
				b := p.h.Pool.Alloc(size)
				if b == nil {
					break // what is left lies apart
				}
				taken = append(taken, b)
			}
		}
	})
	p.t.Cleanup(func() {
		p.turn(func() {
			for _, b := range taken {
				p.h.Pool.Free(b)
			}
		})
	})
}

// When connections wait and no memory is freed, the free memory goes to a connection that waits for memory alone, not to one whose peer has unread answers.
func TestTheLastMemoryIsNotForAPeerThatDoesNotRead(t *testing.T) {
	idle := acceptPeer(t, make([]byte, 1<<20), transport.ServerOptions{PoolBytes: 1, StallMax: time.Hour, HelloMax: time.Hour})
	idle.exchangeHellos(4)
	for id := range uint64(3) {
		idle.get(id) // and reads none
	}
	idle.leaveFree(2 << 20)
	held := 0
	idle.turn(func() { held = idle.srv.account.Held() })
	for range 4 {
		idle.look(func(_ *Server, err error) { t.Error(err) })
	}
	idle.turn(func() {
		if idle.waiting() == 0 || idle.srv.account.Held() != held {
			t.Errorf("a connection that reads nothing had %d bytes, and has %d; %d requests wait", held, idle.srv.account.Held(), idle.waiting())
		}
	})
	other := idle.another(4)
	for id := range uint64(2) {
		other.get(id)
	}
	if n := len(other.drain()); n < 2<<20 {
		t.Errorf("%d bytes of two answers", n)
	}
	other.turn(func() { other.srv.Drop(transport.ErrPeerGone) })
}

// A command of Redis waits for memory, and not, with all there is, for the answer before it, which waits for memory then.
func TestACommandLeavesMemoryToTheAnswerBeforeIt(t *testing.T) {
	value := strings.Repeat("v", 1<<20)
	p := acceptPeer(t, []byte(value), transport.ServerOptions{PoolBytes: 1, StallMax: time.Hour, HelloMax: time.Hour})
	p.receive([]byte("PING\r\n"))
	p.drain()
	p.leaveFree(2 << 20)
	const times = 3
	rest := []byte(strings.Repeat("GET k\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048576\r\n"+value+"\r\n", times))
	var got []byte
	for range 4 * times {
		rest = p.receiveSome(rest)
		got = append(got, p.drain()...)
	}
	if want := strings.Repeat("$1048576\r\n"+value+"\r\n+OK\r\n", times); string(got) != want {
		t.Errorf("%d bytes of answers, want %d; of what was sent %d are not read", len(got), len(want), len(rest))
	}
}

// A pipeline of tiny commands is executed in several turns: a bounded number of commands in each, whatever is in the buffer, and all in the end.
func TestAPipelineOfTinyCommandsIsCutIntoTurns(t *testing.T) {
	for _, c := range []struct {
		command, answer string
		each            int // commands for an answer
	}{
		{"PING\r\n", "+PONG\r\n", 1},
		{"*1\r\n$4\r\nPING\r\n", "+PONG\r\n", 1},
		{"\r\n\r\n\r\n\r\nPING\r\n", "+PONG\r\n", 5},
	} {
		p := acceptPeer(t, nil, transport.ServerOptions{})
		p.receive([]byte("PING\r\n"))
		p.drain()
		const answers, most = 2000, 256 + 5
		rest := []byte(strings.Repeat(c.command, answers))
		got, turns := 0, 0
		for ; got < answers && turns < 10*answers; turns++ {
			p.turn(func() { // as a driver's: it goes on with what waits, or receives once
				var w [2][]byte
				if p.h.Resume(); p.srv.out.Len() == 0 && p.srv.RecvBuffers(&w) > 0 && len(rest) > 0 {
					n := copy(w[0], rest)
					rest = rest[n:]
					_ = p.srv.Received(n, 0)
				}
			})
			b := p.gather()
			p.send(len(b))
			if n := len(b) / len(c.answer) * c.each; n > most {
				t.Fatalf("%q: %d commands in one turn", c.command, n)
			}
			got += len(b) / len(c.answer)
		}
		if got != answers || len(rest) > 0 {
			t.Errorf("%q: %d answers to %d commands after %d turns", c.command, got, answers, turns)
		}
	}
}

// The reason of a refusal appears once: the client adds that it was refused, and the code.
func TestARefusalOfTheTransportStatesItsReasonOnce(t *testing.T) {
	p := acceptPeer(t, nil, transport.ServerOptions{Depth: 4})
	p.turn(func() {
		p.h.Grant = func(*Server) ([]byte, error) {
			return nil, fmt.Errorf("grant: %w", &transport.Refusal{Code: wire.RefusedFeature, Reason: "one side uses another verb"})
		}
	})
	p.receive((&wire.ClientHello{Version: wire.Version, Depth: 4, Loop: wire.AnyLoop}).Append(nil))
	said := p.gather()
	var h wire.ServerHello
	if err := h.Decode(said); err != nil || h.Code != wire.RefusedFeature || h.Reason != "one side uses another verb" {
		t.Fatalf("%+v, %v", h, err)
	}
	if err := (&transport.Refusal{Code: h.Code, Reason: h.Reason}).Error(); strings.Count(err, "refused") != 1 {
		t.Error(err)
	}
}
