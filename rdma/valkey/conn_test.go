package valkey

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/transport"
	"golang.org/x/sys/unix"
)

// textSide is a side that sends what the test gives it, and keeps what it receives.
type textSide struct {
	out, in  []byte
	buf      [64]byte
	paused   bool
	finished bool
	bad      bool // the received bytes are no protocol of the side's
}

var errBad = errors.New("bytes that the side does not know")

func (s *textSide) RecvBuffers(w *[2][]byte) int {
	if s.paused {
		return 0
	}
	w[0], w[1] = s.buf[:3], s.buf[3:] // a side has two when a long value is received in place
	return 2
}

func (s *textSide) Received(n int, _ int64) error {
	s.in = append(s.in, s.buf[:n]...)
	if s.bad {
		return errBad
	}
	return nil
}

func (s *textSide) Gather(v []unix.Iovec, most int) int {
	b := s.out[:min(most, len(s.out))]
	if len(b) == 0 {
		return 0
	}
	if len(b) == 1 {
		sys.SetIovec(&v[0], b)
		return 1
	}
	sys.SetIovec(&v[0], b[:1])
	sys.SetIovec(&v[1], b[1:])
	return 2
}

func (s *textSide) Sent(n int)     { s.out = s.out[n:] }
func (s *textSide) Finished() bool { return s.finished && len(s.out) == 0 }

// device is a queue pair without a device. It keeps what is posted.
type device struct {
	t        testing.TB
	posts    []post
	receives []int // places of posted receives, oldest first
	most     int   // receives and sends that its queues hold
}

type post struct {
	place    int
	b, was   []byte // and a copy from when it was posted: bytes must not change before the completion
	addr     uint64
	key, imm uint32
	write    bool
	signaled bool
}

func (d *device) PostReceive(place int, b []byte) error {
	if len(b) != ControlBytes {
		d.t.Fatalf("a receive of %d B", len(b))
	}
	if d.receives = append(d.receives, place); len(d.receives) > d.most {
		d.t.Fatalf("%d receives are posted, in a queue of %d", len(d.receives), d.most)
	}
	return nil
}

func (d *device) add(p post) {
	p.was = bytes.Clone(p.b)
	if d.posts = append(d.posts, p); len(d.posts) > d.most {
		d.t.Fatalf("%d work requests are posted, in a queue of %d", len(d.posts), d.most)
	}
}

func (d *device) PostSend(place int, b []byte, signaled bool) {
	d.add(post{place: place, b: b, signaled: signaled})
}

func (d *device) PostWrite(place int, b []byte, addr uint64, key, imm uint32, signaled bool) {
	d.add(post{place, b, nil, addr, key, imm, true, signaled})
}

// check fails the test if bytes of a posted work request have changed.
func (d *device) check() {
	for _, p := range d.posts {
		if !bytes.Equal(p.b, p.was) {
			d.t.Errorf("the bytes of a work request that is not complete changed from %q to %q", p.was, p.b)
		}
	}
}

// line is the work request as it goes to the peer.
func (p *post) line() string {
	mark := ""
	if p.signaled {
		mark = " signaled"
	}
	if !p.write {
		return fmt.Sprintf("> send %x%s", p.b, mark)
	}
	return fmt.Sprintf("> write %x key %x imm %x %q%s", p.addr, p.key, binary.BigEndian.AppendUint32(nil, p.imm), p.b, mark)
}

// testSizes makes every bound near.
func testSizes(server bool) Options {
	return Options{Server: server, TransferBytes: 16, StagingBytes: 32, Receives: 4, Sends: 16, StallMax: int64(10 * time.Second), Copied: new(uint64)}
}

// alone is one side of a connection. The test is its peer.
type alone struct {
	*Conn
	d    *device
	side *textSide
	now  int64
	seen int // posts that are in the transcript
}

func newAlone(t testing.TB, o Options) *alone {
	a := &alone{d: &device{t: t, most: 16}, side: &textSide{}, now: int64(time.Hour)}
	c, err := New(o, a.d, make([]byte, o.MemoryBytes()), a.side)
	if err != nil {
		t.Fatal(err)
	}
	if a.Conn = c; len(a.d.receives) != o.Receives {
		t.Fatalf("%d receives are posted", len(a.d.receives))
	}
	return a
}

// arrive is the completion of the oldest receive.
func (a *alone) arrive(control []byte, write bool, imm uint32) error {
	if len(a.d.receives) == 0 {
		a.d.t.Fatal("a message came, and there is no receive")
	}
	place := a.d.receives[0]
	a.d.receives = a.d.receives[1:]
	n := copy(a.receive(place), control)
	return a.Received(place, uint32(n), write, imm)
}

// write is a write of the peer, with immediate data.
func (a *alone) write(b []byte) error {
	copy(a.in.buffer[min(a.in.written, len(a.in.buffer)):], b)
	return a.arrive(nil, true, uint32(len(b)))
}

// done completes everything that was posted.
func (a *alone) done() {
	a.d.check()
	for _, p := range a.d.posts {
		if p.signaled {
			a.SendDone(p.place)
		}
	}
	last := -1
	for i := range a.d.posts {
		if a.d.posts[i].signaled {
			last = i
		}
	}
	a.d.posts = a.d.posts[last+1:]
	a.seen = max(a.seen-last-1, 0)
}

// step executes one line of a transcript, and returns the lines that follow from it.
func (a *alone) step(line string) (out []string) {
	verb, rest, _ := strings.Cut(line, " ")
	text := func(s string) []byte {
		b, err := strconv.Unquote(s)
		if err != nil {
			a.d.t.Fatalf("%s: %v", line, err)
		}
		return []byte(b)
	}
	var err error
	switch verb {
	case "open":
		a.Open(0x7f0000001000, 0x77, a.now)
	case "<":
		kind, what, _ := strings.Cut(rest, " ")
		switch kind {
		case "send":
			b, herr := hex.DecodeString(what)
			if herr != nil {
				a.d.t.Fatal(herr)
			}
			err = a.arrive(b, false, 0)
		case "write":
			err = a.write(text(what))
		case "imm": // of a write whose bytes came before, or did not
			b, herr := hex.DecodeString(what)
			if herr != nil || len(b) != 4 {
				a.d.t.Fatal(line)
			}
			err = a.arrive(nil, true, binary.BigEndian.Uint32(b))
		}
	case "say":
		a.side.out = append(a.side.out, text(rest)...)
	case "pause":
		a.side.paused = true
	case "resume":
		a.side.paused = false
	case "bad":
		a.side.bad = true
	case "finish":
		a.side.finished = true
	case "done":
		a.done()
	case "drained?":
		out = append(out, fmt.Sprint("> ", a.Drained()))
	case "stalled":
		out = append(out, "> "+a.Explain(transport.ErrStalled).Error())
	case "after":
		d, derr := time.ParseDuration(rest)
		if derr != nil {
			a.d.t.Fatal(derr)
		}
		a.now += int64(d)
		_, err = a.Tick(a.now)
	default:
		a.d.t.Fatalf("%q is no step", line)
	}
	if err == nil {
		err = a.Deliver()
	}
	if len(a.side.in) > 0 {
		out = append(out, fmt.Sprintf("> side %q", a.side.in))
		a.side.in = a.side.in[:0]
	}
	if err != nil {
		return append(out, "> "+err.Error())
	}
	a.Stage(a.now)
	for ; a.seen < len(a.d.posts); a.seen++ {
		out = append(out, a.d.posts[a.seen].line())
	}
	return out
}

// Messages of a peer: its transfer buffers of 16 B and of 4,096 B, and others.
const (
	memory16   = "0003" + "0000000000000000000000000000" + "00007f0000002000" + "00000010" + "00000099"
	memory4096 = "0003" + "0000000000000000000000000000" + "00007f0000002000" + "00001000" + "00000099"
	ownMemory  = "0003" + "0000000000000000000000000000" + "00007f0000001000" + "00000010" + "00000077"
	keepalive  = "0002" + "000000000000000000000000000000000000000000000000000000000000"
	getFeature = "0000" + "0001" + "0000000000000000000000000000000000000000" + "0000000000000000"
	setFeature = "0001" + "0001" + "0000000000000000000000000000000000000000" + "0000000000000000"
	setUnknown = "0001" + "0001" + "0000000000000000000000000000000000000000" + "0000000000000004"
	rejected   = "> protocol violation of Valkey over RDMA "
)

// TestTranscripts executes transcripts of one side. A line that begins with > follows from the lines before it; all others are executed.
func TestTranscripts(t *testing.T) {
	for _, c := range []struct {
		name   string
		client bool
		script []string
	}{
		{"setup", false, []string{
			"say \"+OK\\r\\n\"", // before the connection is established nothing is sent
			"open", "> send " + ownMemory,
			"< send " + memory4096, `> write 7f0000002000 key 99 imm 00000005 "+OK\r\n"`}},
		{"setup", true, []string{
			`say "PING\r\n"`,
			"open", "> send " + ownMemory,
			"< send " + memory4096, `> write 7f0000002000 key 99 imm 00000006 "PING\r\n"`,
			`< write "+PONG\r\n"`, `> side "+PONG\r\n"`}},
		{"a peer's memory comes before the connection is established", false, []string{
			"< send " + memory4096, `say "+OK\r\n"`,
			"open", "> send " + ownMemory, `> write 7f0000002000 key 99 imm 00000005 "+OK\r\n"`}},
		{"commands come before the peer's memory", false, []string{
			"open", "> send " + ownMemory,
			`< write "PING\r\n"`, `> side "PING\r\n"`,
			`say "+PONG\r\n"`,
			"< send " + memory4096, `> write 7f0000002000 key 99 imm 00000007 "+PONG\r\n"`}},
		{"a command in two parts fills the peer's memory exactly", true, []string{
			"open", "> send " + ownMemory, "< send " + memory16,
			`say "*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n"`,
			`> write 7f0000002000 key 99 imm 00000010 "*1\r\n$4\r\nPING\r\n*1" signaled`,
			"done",
			"< send " + memory16, `> write 7f0000002000 key 99 imm 0000000c "\r\n$4\r\nPING\r\n" signaled`,
			`say "012345"`, `> write 7f000000200c key 99 imm 00000004 "0123"`, // the buffer is full again
			"< send " + memory16, `> write 7f0000002000 key 99 imm 00000002 "45"`}},
		{"messages are merged into one write", true, []string{
			"open", "> send " + ownMemory, `say "a"`, `say "bc"`, `say "def"`,
			"< send " + memory4096, `> write 7f0000002000 key 99 imm 00000006 "abcdef"`,
			`say "gh"`, `> write 7f0000002006 key 99 imm 00000002 "gh" signaled`}},
		{"the buffer is announced again when all is consumed, and not before", false, []string{
			"open", "> send " + ownMemory, "< send " + memory4096,
			`< write "0123456789"`, `> side "0123456789"`,
			"pause", `< write "abcdef"`,
			"resume", `> side "abcdef"`, "> send " + ownMemory,
			`< write "next"`, `> side "next"`}},
		{"the immediate is believed", false, []string{
			"open", "> send " + ownMemory, "< send " + memory4096, "< imm 00000003", `> side "\x00\x00\x00"`, "< imm 00000000"}},
		{"staging memory is used again when the writes from it are complete", false, []string{
			"open", "> send " + ownMemory, "< send " + memory4096,
			`say "0123456789abcdef0123456789abcdefghij"`,
			`> write 7f0000002000 key 99 imm 00000020 "0123456789abcdef0123456789abcdef" signaled`,
			"done", `> write 7f0000002020 key 99 imm 00000004 "ghij"`}},
		{"a write ends at the end of the ring", false, []string{
			"open", "> send " + ownMemory, "< send " + memory4096,
			`say "0123456789abcdef01234567"`, `> write 7f0000002000 key 99 imm 00000018 "0123456789abcdef01234567" signaled`, "done",
			`say "0123456789"`, `> write 7f0000002018 key 99 imm 00000008 "01234567" signaled`, `> write 7f0000002020 key 99 imm 00000002 "89"`}},
		{"the send queue keeps places for control messages", false, []string{
			"open", "> send " + ownMemory, "< send " + memory4096,
			`say "a"`, `> write 7f0000002000 key 99 imm 00000001 "a"`,
			`say "b"`, `> write 7f0000002001 key 99 imm 00000001 "b"`,
			`say "c"`, `> write 7f0000002002 key 99 imm 00000001 "c" signaled`, // a quarter of the queue
			`say "d"`, `> write 7f0000002003 key 99 imm 00000001 "d"`,
			`say "e"`, `> write 7f0000002004 key 99 imm 00000001 "e"`,
			`say "f"`, `> write 7f0000002005 key 99 imm 00000001 "f"`,
			`say "g"`, `> write 7f0000002006 key 99 imm 00000001 "g" signaled`,
			`say "h"`, `> write 7f0000002007 key 99 imm 00000001 "h"`,
			`say "i"`, `> write 7f0000002008 key 99 imm 00000001 "i"`,
			`say "j"`, `> write 7f0000002009 key 99 imm 00000001 "j"`,
			`say "k"`, `> write 7f000000200a key 99 imm 00000001 "k" signaled`,
			`say "l"`, `say "m"`,
			"after 3s", "> send " + keepalive + " signaled",
			"stalled", rejected + "(no-receives): 13 messages are not received: " + transport.ErrStalled.Error(),
			"done", `> write 7f000000200b key 99 imm 00000002 "lm"`}},
		{"keep-alive", false, []string{
			"open", "> send " + ownMemory, "after 2999ms", "after 1ms", "> send " + keepalive + " signaled",
			"done", "after 3s", "> send " + keepalive + " signaled"}},
		{"keep-alive", true, []string{
			"open", "> send " + ownMemory, "< send " + keepalive, "after 9s", `< write "x"`, `> side "x"`}},
		{"keep-alive messages from a client are ignored", false, []string{
			"open", "> send " + ownMemory, "< send " + keepalive}},
		{"keep-alive that the peer does not receive", false, []string{
			"open", "> send " + ownMemory, "after 3s", "> send " + keepalive + " signaled", "after 3s", "after 6s",
			"after 1s", rejected + "(no-receives): a keep-alive message is not received for 10s"}},
		{"queries for features", false, []string{
			"open", "> send " + ownMemory, "< send " + getFeature, "> send " + getFeature, "< send " + setFeature,
			"< send " + setUnknown, rejected + "(feature): the client uses the features 0x4 of number 1"}},
		{"a query for features before the connection is established", false, []string{
			"< send " + getFeature, "open", "> send " + ownMemory, "> send " + getFeature}},
		{"too many queries for features", false, []string{
			"< send " + getFeature, "< send " + getFeature, "< send " + getFeature, "< send " + getFeature,
			"< send " + getFeature, "< send " + getFeature, "< send " + getFeature, "< send " + getFeature,
			"< send " + getFeature, rejected + "(queries): 8 queries for features are not answered yet"}},
		{"a server's features, which nobody asked for", true, []string{
			"open", "> send " + ownMemory, "< send " + getFeature, rejected + "(opcode): the server sends the opcode 0"}},
		{"an unknown opcode", false, []string{
			"< send 0004" + keepalive[4:], rejected + "(opcode): a control message with the opcode 4"}},
		{"a short control message", false, []string{
			"< send 0002", rejected + "(length): a control message of 2 B, not 32"}},
		{"a write before this side's memory is announced", false, []string{
			"< imm 00000001", rejected + "(overrun): 1 B written, and there is room for 16"}},
		{"a write beyond the end", false, []string{
			"open", "> send " + ownMemory, `< write "0123456789"`, `> side "0123456789"`,
			"< imm 00000007", rejected + "(overrun): 7 B written, and there is room for 6"}},
		{"an immediate in the wrong order", false, []string{
			"open", "> send " + ownMemory, "< imm 05000000", rejected + "(overrun): 83886080 B written, and there is room for 16"}},
		{"a write into memory that is full", true, []string{
			"open", "> send " + ownMemory, "pause", `< write "0123456789abcdef"`,
			"< imm 00000001", rejected + "(overrun): 1 B written, and there is room for 0"}},
		{"memory that is announced again too early", false, []string{
			"open", "> send " + ownMemory, "< send " + memory16, `say "0123456789"`,
			`> write 7f0000002000 key 99 imm 0000000a "0123456789" signaled`,
			"< send " + memory16, rejected + "(early-memory): a transfer buffer is announced again after 10 of 16 B"}},
		{"memory without bytes", true, []string{
			"< send 0003" + strings.Repeat("00", 30), rejected + "(memory): a transfer buffer of 0 B at 0x0"}},
		{"memory beyond the address space", true, []string{
			"< send 0003" + strings.Repeat("00", 14) + "ffffffffffffffff" + "00000010" + "00000099",
			rejected + "(memory): a transfer buffer of 16 B at 0xffffffffffffffff"}},
		{"no memory is announced", false, []string{
			"stalled", rejected + "(no-memory): the connection was not established: " + transport.ErrStalled.Error(),
			"open", "> send " + ownMemory, "stalled", rejected + "(no-memory): no transfer buffer was announced: " + transport.ErrStalled.Error()}},
		{"full memory is not announced again", false, []string{
			"open", "> send " + ownMemory, "< send " + memory16, `say "0123456789abcdef0"`,
			`> write 7f0000002000 key 99 imm 00000010 "0123456789abcdef" signaled`, "done",
			"stalled", rejected + "(no-memory): the transfer buffer was filled, and not announced again: " + transport.ErrStalled.Error()}},
		{"a peer that only stops to send", false, []string{
			"open", "> send " + ownMemory, "< send " + memory16, "stalled", "> " + transport.ErrStalled.Error()}},
		{"close with answers under way", false, []string{
			"open", "> send " + ownMemory, "< send " + memory16, "done",
			`say "-ERR the end\r\n"`, `> write 7f0000002000 key 99 imm 0000000e "-ERR the end\r\n" signaled`,
			"drained?", "> false", "done", "drained?", "> true"}},
		{"the last write of a side makes a completion", false, []string{
			"open", "> send " + ownMemory, "< send " + memory16, "finish", `say "+OK\r\n"`,
			`> write 7f0000002000 key 99 imm 00000005 "+OK\r\n" signaled`, "drained?", "> false", "done", "drained?", "> true"}},
		{"the last write in two parts", false, []string{
			"open", "> send " + ownMemory, "< send " + memory16, "finish", `say "0123456789abcdefgh"`,
			`> write 7f0000002000 key 99 imm 00000010 "0123456789abcdef" signaled`,
			"< send " + memory16, `> write 7f0000002000 key 99 imm 00000002 "gh" signaled`, "done", "drained?", "> true"}},
		{"close of a side that ends before the connection is established", false, []string{
			"drained?", "> true", "finish", "drained?", "> true"}},
		{"bytes that the side does not know", false, []string{
			"open", "> send " + ownMemory, "bad", `< write "x"`, `> side "x"`, "> " + errBad.Error()}},
	} {
		name := c.name + ", server"
		if c.client {
			name = c.name + ", client"
		}
		t.Run(name, func(t *testing.T) {
			a := newAlone(t, testSizes(!c.client))
			var got []string
			for _, line := range c.script {
				if !strings.HasPrefix(line, ">") {
					got = append(append(got, line), a.step(line)...)
				}
			}
			if g, w := strings.Join(got, "\n"), strings.Join(c.script, "\n"); g != w {
				t.Errorf("the transcript is\n%s\nnot\n%s", g, w)
			}
		})
	}
}

// TestViolations: every violation is a protocol violation with a code.
func TestViolations(t *testing.T) {
	for code := BadLength; code <= NoReceives; code++ {
		err := violation(code, "text")
		var v *Violation
		if !errors.Is(err, transport.ErrProtocol) || !errors.As(err, &v) || v.Code != code || !strings.Contains(err.Error(), "("+code.String()+")") {
			t.Errorf("%v", err)
		}
	}
}

// pair is a client and a server, and the fabric between them.
type pair struct {
	ends [2]*alone
}

func newPair(t testing.TB, o Options) *pair {
	p := &pair{}
	for i := range p.ends {
		o.Server = i == 1
		p.ends[i] = newAlone(t, o)
		p.ends[i].Open(uint64(i+1)<<40, uint32(i+1), 1)
	}
	return p
}

// move moves the messages of one end to the other, as far as there are receives, and completes them.
func (p *pair) move(from int) (moved bool, err error) {
	a, b := p.ends[from], p.ends[1-from]
	a.Stage(1)
	a.d.check()
	for i := range a.d.posts {
		w := &a.d.posts[i]
		if w.write {
			at := w.addr - uint64(2-from)<<40
			if w.key != uint32(2-from) || at > uint64(len(b.in.buffer)) || int(w.imm) != len(w.b) {
				a.d.t.Fatalf("a write to %#x with the key %d, the immediate %d and %d B", w.addr, w.key, w.imm, len(w.b))
			}
			copy(b.in.buffer[at:], w.b)
		}
		if err := b.arrive(w.b, w.write, w.imm); err != nil {
			return true, err
		}
		if w.signaled {
			a.SendDone(w.place)
		}
		moved = true
	}
	a.d.posts = a.d.posts[:0]
	return moved, b.Deliver()
}

// TestStreamsArrive sends random texts both ways, through sides that pause: all bytes arrive, in order, whatever the sizes.
func TestStreamsArrive(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		o := testSizes(false)
		o.TransferBytes, o.StagingBytes = 1+r.IntN(60), 1<<(2+r.IntN(5))
		p := newPair(t, o)
		for _, e := range p.ends {
			e.d.most = 64
		}
		var sent [2][]byte
		for round := range 300 {
			for i, e := range p.ends {
				e.side.paused = r.IntN(3) == 0 && round < 250
				if round < 200 && r.IntN(2) == 0 {
					text := make([]byte, r.IntN(50))
					for j := range text {
						text[j] = byte(r.Uint32())
					}
					sent[i] = append(sent[i], text...)
					e.side.out = append(e.side.out, text...)
				}
				if _, err := p.move(i); err != nil {
					t.Fatalf("sizes %+v: %v", o, err)
				}
				if err := e.Deliver(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for moving := true; moving; {
			moving = false
			for i := range p.ends {
				moved, err := p.move(i)
				if err != nil {
					t.Fatal(err)
				}
				moving = moving || moved
			}
		}
		for i := range p.ends {
			if got := p.ends[1-i].side.in; !bytes.Equal(got, sent[i]) {
				t.Fatalf("sizes %+v: %d B arrived of %d, or others", o, len(got), len(sent[i]))
			}
		}
	}
}

// TestNoAllocations: messages, announcements and keep-alive messages allocate nothing.
func TestNoAllocations(t *testing.T) {
	o := testSizes(false)
	p := newPair(t, o)
	for _, e := range p.ends {
		e.side.in = make([]byte, 0, 1<<20)
	}
	d := &quiet{}
	for _, e := range p.ends {
		e.q = d
	}
	a := p.ends[1]
	memory := make([]byte, ControlBytes)
	(&Control{Opcode: RegisterXferMemory, Memory: Memory{1 << 40, 16, 1}}).Encode(memory)
	text, now := []byte("0123456789abcdef"), int64(1)
	n := testing.AllocsPerRun(1000, func() {
		place := 0
		copy(a.receive(place), memory)
		a.side.out = text
		now += keepaliveEvery
		_, terr := a.Tick(now)
		if err := errors.Join(terr, a.Received(place, ControlBytes, false, 0)); err != nil {
			t.Fatal(err)
		}
		a.Stage(now)
		copy(a.in.buffer, text)
		if err := a.Received(place, 0, true, 16); err != nil {
			t.Fatal(err)
		}
		if err := a.Deliver(); err != nil {
			t.Fatal(err)
		}
		a.SendDone(d.signaled)
		a.side.in = a.side.in[:0]
	})
	if n != 0 || d.writes < 1000 || d.sends < 2000 {
		t.Errorf("%v allocations for %d writes and %d control messages", n, d.writes, d.sends)
	}
}

// quiet is a queue pair that only counts.
type quiet struct{ writes, sends, signaled int }

func (q *quiet) PostReceive(int, []byte) error { return nil }
func (q *quiet) PostSend(place int, _ []byte, signaled bool) {
	q.sends++
	if signaled {
		q.signaled = place
	}
}
func (q *quiet) PostWrite(place int, _ []byte, _ uint64, _, _ uint32, signaled bool) {
	q.writes++
	if signaled {
		q.signaled = place
	}
}

// FuzzControl: a message that is read is the same when it is written and read again, and a side that gets any message goes on or ends with a code.
func FuzzControl(f *testing.F) {
	for _, text := range []string{memory16, keepalive, getFeature, setFeature, setUnknown, "0002"} {
		b, _ := hex.DecodeString(text)
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, server bool) {
		var m, again Control
		if len(b) > ControlBytes && m.Decode(b) == nil {
			t.Fatalf("a message of %d B was read", len(b))
		}
		if b = b[:min(len(b), ControlBytes)]; m.Decode(b) == nil {
			var out [ControlBytes]byte
			m.Encode(out[:])
			if err := again.Decode(out[:]); err != nil || again != m {
				t.Fatalf("%+v came back as %+v (%v)", m, again, err)
			}
		}
		a := newAlone(t, testSizes(server))
		a.Open(1, 2, 3)
		a.side.out = []byte("text")
		err := a.arrive(b, false, 0)
		var v *Violation
		if err != nil && !errors.As(err, &v) {
			t.Fatal(err)
		}
		a.Stage(3)
		for i := range a.d.posts {
			if p := &a.d.posts[i]; p.write && (uint64(len(p.b)) > uint64(m.Memory.Length) || p.addr != m.Memory.Addr || p.key != m.Memory.Key) {
				t.Fatalf("a write of %d B to %#x with the key %d, after %+v", len(p.b), p.addr, p.key, m)
			}
		}
	})
}

// FuzzImmediates: any immediates in any order give the side no more bytes than the transfer buffer has, and end the connection with a code when they exceed it.
func FuzzImmediates(f *testing.F) {
	f.Add([]byte{0, 0, 0, 5, 0, 0, 0, 11, 0, 0, 0, 1})
	f.Add([]byte{0, 0, 0, 16, 0, 0, 0, 16, 0, 0, 0, 17})
	f.Add([]byte{0xFF, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, b []byte) {
		a := newAlone(t, testSizes(true))
		a.Open(1, 2, 3)
		a.Stage(3)
		for at := 0; len(b) >= 4; b = b[4:] {
			imm := binary.BigEndian.Uint32(b)
			a.side.paused = imm&1 != 0
			left := a.in.left()
			err := a.arrive(nil, true, imm)
			var v *Violation
			if (err != nil) != (uint64(imm) > uint64(left)) || err != nil && (!errors.As(err, &v) || v.Code != Overrun) {
				t.Fatalf("%d B, and there is room for %d: %v", imm, left, err)
			}
			if err != nil {
				return
			}
			at += int(imm)
			for a.side.paused = false; a.Busy(); {
				if err := a.Deliver(); err != nil {
					t.Fatal(err)
				}
			}
			if len(a.side.in) != at {
				t.Fatalf("%d B of %d were delivered", len(a.side.in), at)
			}
			a.Stage(3)
			a.done()
		}
	})
}
