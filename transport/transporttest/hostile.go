package transporttest

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// hostileTests are tests with peers that violate the protocol or deadlines. In each, a well-behaved connection
// continues to work.
var hostileTests = []test{
	{"GarbageIsRefusedWithACode", garbage},
	{"TruncatedFramesEndOnlyTheirConnection", truncated},
	{"OversizedLengthsAreRefused", oversized},
	{"RequestsBeyondTheDepthAreRefused", overDepth},
	{"IncompleteHellosMeetTheDeadline", waits(halfOpen)},
	{"AStalledMessageMeetsTheDeadline", waits(stalled)},
	{"AClientThatNeverReadsIsClosed", neverReads},
	{"AnIdleConnectionMeetsItsDeadline", waits(idles)},
	{"AClientThatNeverReadsIsCut", cutNeverReads},
	{"RequestsWaitForMemory", smallPool},
	{"FreedMemoryWakesWaitingConnections", memoryWakes},
	{"IdleConnectionsLeaveMemoryForRequests", idleConnections},
	{"OneConnectionLeavesMemoryForOthers", oneHoldsMuch},
	{"UnreadAnswersStopReading", boundedReadAhead},
	{"CloseWithIncompleteMessagesThatHoldAllMemory", waits(closeHalfMessages)},
	{"HalfClosedConnectionsEnd", halfClosed},
	{"OutOfDescriptorsOpenConnectionsContinue", outOfDescriptors},
	{"OutOfDescriptorsTheServerDoesNotSpin", outOfDescriptorsRests},
	{"OutOfDescriptorsClientsAreRefusedAfterAWait", noDescriptorsForLong},
	{"ConnectAndCloseLeakNothing", connectClose},
}

// raw is a connection to the server on which a test can send anything: TCP, and after the hellos the network's own.
type raw struct {
	r *Rig
	t *testing.T
	net.Conn
	plain plainConn
	first *firstBytes // with TLS
}

// plainConn is *net.TCPConn or *net.UnixConn.
type plainConn interface {
	net.Conn
	CloseWrite() error
}

// firstBytes keeps the first received bytes: they may be a refusal in plain text instead of a TLS session.
type firstBytes struct {
	net.Conn
	said []byte
}

// Read implements net.Conn.
func (h *firstBytes) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	if len(h.said) < wire.MaxHelloBytes {
		h.said = append(h.said, b[:n]...)
	}
	return n, err
}

func (r *Rig) raw() *raw {
	r.t.Helper()
	if r.n.RESP != nil {
		return r.rawOn(r.n.RESP(r.t, r.Loop, r.Server.Addr()))
	}
	c, err := dialRaw(r.Server.Addr())
	if err != nil {
		r.t.Fatal(err)
	}
	return r.rawOn(c)
}

// dialRaw connects to a server's address.
func dialRaw(addr string) (net.Conn, error) {
	network, at := goNet(addr)
	return net.DialTimeout(network, at, WaitMax)
}

// rawOn is raw on an existing connection.
func (r *Rig) rawOn(c net.Conn) *raw {
	_ = c.SetDeadline(time.Now().Add(WaitMax))
	k := &raw{r: r, t: r.t, Conn: c, plain: c.(plainConn)}
	if r.n.ClientTLS != nil { // the first byte begins the handshake
		k.first = &firstBytes{Conn: c}
		k.Conn = tls.Client(k.first, r.n.ClientTLS)
	}
	r.t.Cleanup(func() { _ = k.Close() })
	return k
}

// Close implements net.Conn. It sends no close_notify.
func (c *raw) Close() error {
	if c.first != nil {
		return c.plain.Close()
	}
	return c.Conn.Close()
}

// reset makes Close reset the connection. On a unix socket it has no effect.
func (c *raw) reset() {
	if tcp, ok := c.plain.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

// refused returns the server's refusal instead of a TLS handshake, if there is one.
func (c *raw) refused() (h wire.ServerHello, ok bool) {
	if c.first == nil {
		return h, false
	}
	var clear tls.RecordHeaderError
	if err := c.Conn.(*tls.Conn).Handshake(); !errors.As(err, &clear) {
		return h, false
	}
	h, err := ReadHello(io.MultiReader(bytes.NewReader(c.first.said), c.plain))
	return h, err == nil
}

// connected is raw after an exchange of hellos.
func (r *Rig) connected(depth int) *raw {
	r.t.Helper()
	c := r.raw()
	if h := c.exchangeHellos(depth); h.Code != wire.Granted {
		r.t.Fatalf("hello refused: %v", h)
	}
	return c
}

// messages reports whether bytes travel in messages, each of which has complete headers.
func (n Network) messages() bool { return n.Raw != nil }

// exchangeHellos exchanges hellos.
func (c *raw) exchangeHellos(depth int) wire.ServerHello {
	c.t.Helper()
	if h, refused := c.refused(); refused {
		return h
	}
	if !c.r.n.messages() {
		c.send((&wire.ClientHello{Version: wire.Version, Depth: uint16(depth), Loop: wire.AnyLoop}).Append(nil))
		return c.hello()
	}
	conn, h := c.r.n.Raw(c.t, c.r.Loop, c.Conn, depth)
	if h.Code == wire.Granted {
		_ = conn.SetDeadline(time.Now().Add(WaitMax))
		c.Conn = conn
	}
	return h
}

func (c *raw) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

func (c *raw) hello() (h wire.ServerHello) {
	c.t.Helper()
	h, err := ReadHello(c.Conn)
	if err != nil {
		c.t.Fatal(err)
	}
	return h
}

// ReadHello reads a server's hello, and no further byte.
func ReadHello(c io.Reader) (h wire.ServerHello, err error) {
	b := make([]byte, 6, wire.MaxHelloBytes)
	if _, err := io.ReadFull(c, b); err != nil {
		return h, fmt.Errorf("no hello: %w", err)
	}
	b = b[:6+int(binary.LittleEndian.Uint16(b[4:]))]
	if _, err := io.ReadFull(c, b[6:]); err != nil {
		return h, fmt.Errorf("half a hello: %w", err)
	}
	return h, h.Decode(b)
}

// expectRefusal reads to the end and requires that the last frame is a refusal with that code.
func (c *raw) expectRefusal(code wire.Code) {
	c.t.Helper()
	b, err := io.ReadAll(c)
	if len(b) < wire.HeaderBytes {
		c.t.Fatalf("the server closed with %d bytes (%v), want a refusal", len(b), err)
	}
	var h wire.Header
	if err := h.Decode(b[len(b)-wire.HeaderBytes:]); err != nil {
		c.t.Fatal(err)
	}
	if h.Flags&wire.FlagRefuse == 0 || wire.Code(h.Arg) != code {
		c.t.Fatalf("the last frame is %+v, want a refusal for %v", h, code)
	}
}

// expectEnd requires that the server ends the connection.
func (c *raw) expectEnd() {
	c.t.Helper()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("the server keeps the connection open")
	}
}

func frame(h wire.Header, payload ...string) []byte {
	b := make([]byte, wire.HeaderBytes)
	h.Encode(b)
	return append(b, strings.Join(payload, "")...)
}

func putFrame(id uint64, key, value string) []byte {
	return frame(wire.Header{Op: kv.OpPut, ID: id, KeyBytes: uint16(len(key)), ValueBytes: uint32(len(value))}, key, value)
}

// bystander is a connection that must not be affected. The returned function sends a request and checks the answer.
func (r *Rig) bystander() func() {
	c := NewCaller(r.t, r.Loop, r.Dial(transport.DialOptions{}))
	return func() {
		r.t.Helper()
		c.Expect(Put("by", []byte("stander")), kv.StatusOK)
		if g := c.Expect(Get("by", 20), kv.StatusOK); string(g.Value) != "stander" {
			r.t.Fatalf("another connection reads %q", g.Value)
		}
	}
}

func garbage(t *testing.T, n Network) {
	r := NewRig(t, n, 2, transport.ServerOptions{})
	well := r.bystander()
	for _, text := range []string{"\x80GET", "\x00\x00\x00\x00", "\xCBkvx", "\x81" + string(Fill(2000, 9)), "\xCBkvw\xFF\xFF"} {
		c := r.raw()
		c.send([]byte(text))
		if h := c.hello(); h.Code != wire.RefusedGarbage {
			t.Fatalf("%.10q: %v", text, h.Code)
		}
		c.expectEnd()
		well()
	}
	c := r.raw()
	c.send([]byte{0x16, 3, 1, 2, 0, 1, 0}) // TLS, where there is none, or within it
	want := wire.RefusedFeature
	if n.ServerTLS != nil {
		want = wire.RefusedGarbage
	}
	if h := c.hello(); h.Code != want {
		t.Fatalf("TLS: %v %q", h.Code, h.Reason)
	}
	c.expectEnd()
	for name, c := range map[string]struct {
		h    wire.ClientHello
		code wire.Code
	}{
		"version": {wire.ClientHello{Version: 99, Depth: 1, Loop: wire.AnyLoop}, wire.RefusedVersion},
		"feature": {wire.ClientHello{Version: wire.Version, Depth: 1, Required: 1 << 31, Loop: wire.AnyLoop}, wire.RefusedFeature},
		"loop":    {wire.ClientHello{Version: wire.Version, Depth: 1, Loop: 7}, wire.RefusedLoop},
	} {
		k := r.raw()
		k.send(c.h.Append(nil))
		if h := k.hello(); h.Code != c.code || h.Reason == "" {
			t.Fatalf("%s: %v %q", name, h.Code, h.Reason)
		}
		k.expectEnd()
	}
	k := r.connected(4)
	k.send(Fill(64, 5))
	k.expectRefusal(wire.RefusedGarbage)
	k = r.connected(4)
	k.send(frame(wire.Header{Op: kv.OpGet, Flags: wire.FlagReply}))
	k.expectRefusal(wire.RefusedGarbage)
	well()
	r.Logged(11, "")
	if l := r.Logs(); len(l) != 11 {
		t.Fatalf("11 bad clients left %d log lines: %q", len(l), l)
	}
}

func truncated(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	well := r.bystander()
	whole := putFrame(1, "key", string(Fill(20_000, 1)))
	for _, cut := range []int{1, 31, 32, 34, 35, 100, 16_000, 16_384, 20_034} {
		c := r.connected(4)
		c.send(whole[:cut])
		_ = c.Close()
		well()
	}
	// The same frame in any two halves is one request. Messages do not end within a header.
	for _, cut := range []int{1, 31, 32, 34, 35, 100, 16_352, 16_384, 16_385, 20_034} {
		c := r.connected(4)
		c.send(whole[:cut])
		well()
		if n.messages() && cut < wire.HeaderBytes {
			c.expectRefusal(wire.RefusedGarbage)
			continue
		}
		c.send(whole[cut:])
		b := make([]byte, wire.HeaderBytes)
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		var h wire.Header
		if err := h.Decode(b); err != nil || h.Status != kv.StatusOK || h.ID != 1 {
			t.Fatalf("cut at %d: %+v, %v", cut, h, err)
		}
		_ = c.Close()
	}
	// And byte by byte.
	c := r.connected(4)
	short := putFrame(2, "key", "value")
	if n.messages() {
		c.send(short[:wire.HeaderBytes])
		short = short[wire.HeaderBytes:]
	}
	for i := range short {
		c.send(short[i : i+1])
	}
	if _, err := io.ReadFull(c, make([]byte, wire.HeaderBytes)); err != nil {
		t.Fatal(err)
	}
}

func oversized(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{Limits: kv.Limits{MaxKeyBytes: 100, MaxValueBytes: 1000}})
	well := r.bystander()
	for _, h := range []wire.Header{
		{Op: kv.OpPut, KeyBytes: 1, ValueBytes: 1001},
		{Op: kv.OpPut, KeyBytes: 1, ValueBytes: 1<<32 - 1},
		{Op: kv.OpGet, KeyBytes: 101},
		{Op: kv.OpPut, KeyBytes: 65535, ValueBytes: 1},
	} {
		c := r.connected(4)
		c.send(frame(h))
		c.expectRefusal(wire.RefusedTooLarge)
		well()
	}
	// The room for an answer has no limit: it costs the server nothing.
	c := r.connected(4)
	c.send(frame(wire.Header{Op: kv.OpGet, KeyBytes: 2, ValueBytes: 1<<32 - 1}, "by"))
	b := make([]byte, wire.HeaderBytes)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
}

func overDepth(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	well := r.bystander()
	well()
	p := r.Parts[0]
	p.Hold(t)
	before := p.seen.Load()
	c := r.connected(4)
	for i := range 5 {
		c.send(putFrame(uint64(i), "k", "v"))
	}
	c.expectRefusal(wire.RefusedDepth)
	p.Await(t, before+4)
	p.Release(t)
	well()
}

func halfOpen(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{HelloMax: Stall})
	well := r.bystander()
	silent := r.raw()
	half := r.raw()
	half.send([]byte{0xCB, 'k'})
	silent.expectEnd()
	half.expectEnd()
	well()
	r.Logged(2, "no hello within")
}

func stalled(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{StallMax: Stall})
	well := r.bystander()
	cut := 10
	if n.messages() {
		cut = wire.HeaderBytes
	}
	inHeader := r.connected(4)
	inHeader.send(putFrame(1, "key", "value")[:cut])
	inPayload := r.connected(4)
	inPayload.send(putFrame(1, "key", string(Fill(100_000, 1)))[:5000])
	inHeader.expectEnd()
	inPayload.expectEnd()
	idle := r.connected(4) // a connection with nothing begun may stay
	well()
	r.Logged(2, "stopped in the middle")
	idle.send(putFrame(1, "key", "value"))
	if _, err := io.ReadFull(idle, make([]byte, wire.HeaderBytes)); err != nil {
		t.Fatalf("an idle connection was closed: %v", err)
	}
}

// idles: with IdleMax the server closes an idle connection, with a code, but no connection that sends requests or waits for an answer.
func idles(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{IdleMax: Stall})
	idle := r.connected(4)
	idle.send(putFrame(1, "key", "value"))
	idle.expectRefusal(wire.RefusedDeadline)
	r.Logged(1, "no request in")
	dial := func() *Caller { return NewCaller(t, r.Loop, r.Dial(transport.DialOptions{})) }
	asks, pauses := dial(), 0
	for began, last := time.Now(), time.Now(); time.Since(began) < 2*Stall; {
		now := time.Now()
		asks.Submit(Put("by", []byte("stander")))
		if q := asks.Next(); q.Status == kv.StatusOK {
			last = now
		} else if pauses++; time.Since(last) < Stall || pauses > 20 {
			t.Fatalf("a put by a connection that was never idle: %v", q.Status)
		} else { // this process did not run for so long
			asks, began, last = dial(), time.Now(), time.Now()
		}
	}
	waits := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	h := r.Parts[0]
	seen := h.seen.Load()
	h.Hold(t)
	waits.Submit(Put("slow", []byte("value")))
	h.Await(t, seen+1)
	began := time.Now()
	Until(t, "the deadline to pass", func() bool { return time.Since(began) > 2*Stall })
	h.Release(t)
	if q := waits.Next(); q.Status != kv.StatusOK {
		t.Fatalf("a request that takes longer than a connection may be idle: %v", q.Status)
	}
}

func neverReads(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{StallMax: Stall, Depth: 64})
	well := r.bystander()
	owner := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	owner.Expect(Put("large", Fill(1<<20, 1)), kv.StatusOK)
	c := r.connected(64)
	for i := range 64 { // 64 MiB of answers: more than socket buffers hold
		c.send(frame(wire.Header{Op: kv.OpGet, ID: uint64(i), KeyBytes: 5, ValueBytes: 1 << 20}, "large"))
	}
	Until(t, "the server to give up on it", func() bool {
		well()
		return strings.Contains(strings.Join(r.Logs(), "\n"), "stopped in the middle")
	})
	well()
}

// aheadMax bounds the bytes that are read from the store for a connection and not sent: two answers of 1 MiB, and the next one.
const aheadMax = 4 << 20

// boundedReadAhead: a client requests many large values and reads nothing at first, and later all.
func boundedReadAhead(t *testing.T, n Network) {
	const gets = 64
	value := Fill(Bytes(1<<20), 1)
	r := NewRig(t, n, 1, transport.ServerOptions{Depth: gets})
	NewCaller(t, r.Loop, r.Dial(transport.DialOptions{})).Expect(Put("large", value), kv.StatusOK)
	c := r.connected(gets)
	for i := range gets {
		c.send(frame(wire.Header{Op: kv.OpGet, ID: uint64(i), KeyBytes: 5, ValueBytes: uint32(len(value))}, "large"))
	}
	r.checkReadAhead(gets)
	if _, err := io.CopyN(io.Discard, c, int64(gets*(wire.HeaderBytes+len(value)))); err != nil {
		t.Errorf("the answers do not come, when they are taken: %v", err)
	}
}

// checkReadAhead looks, while so many gets have come and others go on, at what was read and not sent.
func (r *Rig) checkReadAhead(gets int) {
	t := r.t
	t.Helper()
	well, p := r.bystander(), r.Parts[0]
	p.Await(t, 1+int64(gets))
	for range Effort(200) {
		well()
		read := p.read.Load()
		all, err := r.Server.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if ahead := read - int64(all[0].BytesOut); ahead > aheadMax {
			t.Fatalf("%d bytes are read for a client that has not taken them, at most %d are enough", ahead, aheadMax)
		}
	}
}

// smallPool: the server's pool has no room for all answers that clients request at once. Reading pauses
// and answers wait, and all requests succeed.
func smallPool(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{PoolBytes: Bytes(4 << 20), Limits: kv.Limits{MaxKeyBytes: 100, MaxValueBytes: Bytes(900_000)}})
	var cs []*Caller
	for range 6 {
		cs = append(cs, NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 4})))
	}
	v := Fill(Bytes(900_000), 3)
	for round := range Effort(3) {
		for i, c := range cs {
			for j := range 4 {
				if (i+j+round)%2 == 0 || round == 0 {
					c.Submit(Put("k", v))
				} else {
					c.Submit(Get("k", len(v)))
				}
			}
		}
		for _, c := range cs {
			for range 4 {
				q := c.Next()
				if q.Status != kv.StatusOK || q.Op == kv.OpGet && string(q.Value) != string(v) {
					t.Fatalf("%v: %v, %d B", q.Op, q.Status, len(q.Value))
				}
			}
		}
	}
}

// far is a deadline that no test reaches: progress must not depend on it.
const far = time.Hour

func memoryWakes(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{PoolBytes: 1, StallMax: far, HelloMax: far})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 16}))
	c.Expect(Put("v", Fill(1<<20, 1)), kv.StatusOK)
	for range 4 {
		for range 16 {
			c.Submit(Get("v", 1<<20))
		}
		for range 16 {
			if q := c.Next(); q.Status != kv.StatusOK {
				t.Fatal(q.Status)
			}
		}
	}
}

func idleConnections(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{PoolBytes: 8 << 20, ConnBytes: 4 << 20, StallMax: far})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 1}))
	for _, d := range []int{256, 64, 16, 4, 1} {
		for {
			if h := r.raw().exchangeHellos(d); h.Code == wire.RefusedBusy {
				break
			} else if h.Code != wire.Granted {
				t.Fatal(h.Code)
			}
		}
	}
	v := Fill(1<<20, 1)
	c.Expect(Put("v", v), kv.StatusOK)
	if g := c.Expect(Get("v", 1<<20), kv.StatusOK); string(g.Value) != string(v) {
		t.Fatal("another value")
	}
}

// oneHoldsMuch: connections request much and read nothing. Later connections still get memory.
func oneHoldsMuch(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{PoolBytes: 64 << 20, StallMax: far})
	well := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	v := Fill(1<<20, 1)
	well.Expect(Put("large", v), kv.StatusOK)
	for range 2 {
		c := r.connected(64)
		for i := range 64 {
			c.send(frame(wire.Header{Op: kv.OpGet, ID: uint64(i), KeyBytes: 5, ValueBytes: 1 << 20}, "large"))
		}
		for range 10 {
			well.Expect(Put("other", v), kv.StatusOK)
			if g := well.Expect(Get("large", 1<<20), kv.StatusOK); string(g.Value) != string(v) {
				t.Fatal("another value")
			}
		}
	}
}

func closeHalfMessages(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{PoolBytes: 1, StallMax: Stall})
	b := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 1}))
	b.Expect(Put("v", Fill(1<<20, 1)), kv.StatusOK)
	p := r.Parts[0]
	p.Hold(t)
	seen := p.seen.Load()
	for i := range 10 { // a get that is held back; then half a put
		c := r.connected(2)
		c.send(frame(wire.Header{Op: kv.OpGet, KeyBytes: 1, ID: 1, ValueBytes: 1 << 20}, "v"))
		c.send(frame(wire.Header{Op: kv.OpPut, KeyBytes: 1, ID: 2, ValueBytes: 1<<20 - 100}, "k", "half"))
		p.Await(t, seen+int64(i)+1)
	}
	p.Release(t)
	closed := make(chan struct{})
	go func() { _ = r.Server.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(WaitMax):
		t.Fatal("the server does not close")
	}
}

// halfClosed shuts the sending half right behind a request, so that the end may come with the bytes.
func halfClosed(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{HelloMax: far, StallMax: far})
	for range 20 {
		c := r.connected(4)
		c.send(frame(wire.Header{Op: kv.OpGet, KeyBytes: 1, ID: 1, ValueBytes: 10}, "v"))
		if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c.expectEnd()
	}
}

// outOfDescriptors: there are more clients than the server has descriptors. Open connections continue, and waiting
// ones are accepted when others close.
func outOfDescriptors(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{}) // for its client's loop
	s := StartChild(t, n, Plan{Answers: true, Files: 40})
	r.Server = otherAddr{r.Server, s.Addr}
	well := r.bystander()
	well()
	var cs []*raw
	for range 50 { // the kernel's queue holds those for which there is no descriptor
		cs = append(cs, r.raw())
	}
	well()
	for _, c := range cs { // as each closes, another one is accepted
		if h := c.exchangeHellos(1); h.Code != wire.Granted {
			t.Fatalf("hello refused: %v", h)
		}
		_ = c.Close()
	}
	well()
}

// outOfDescriptorsRests: a server that cannot accept a connection only tries again from time to time.
func outOfDescriptorsRests(t *testing.T, n Network) {
	fewDescriptors(t, 100) // before the server's first accept: a ring's keeps the limit that it began with
	r := NewRig(t, n, 1, transport.ServerOptions{HelloMax: far})
	well := r.bystander()
	well()
	family, at := sockaddr(t, r.Server.Addr())
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "a client's socket")
	defer file.Close()
	giveBack := takeDescriptors()
	defer giveBack()
	if err := unix.Connect(fd, at); err != nil {
		t.Fatal(err)
	}
	Until(t, "accept to fail", func() bool {
		return slices.ContainsFunc(r.Logs(), func(l string) bool {
			return strings.Contains(l, "accept") && strings.Contains(l, "too many open files")
		})
	})
	turns := func() uint64 {
		s, err := transport.ReadCounters(r.group.Net()[0])
		if err != nil {
			t.Fatal(err)
		}
		return s.Turns
	}
	before := turns()
	const pause = 300 * time.Millisecond
	<-time.After(pause) // what happens meanwhile is counted
	if did := turns() - before; did > 100 {
		t.Errorf("%d turns in %v in which there was nothing to do but to try an accept again", did, pause)
	}
	well()
	giveBack()
	c, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	if h := r.rawOn(c).exchangeHellos(1); h.Code != wire.Granted {
		t.Fatalf("with descriptors again: %v", h)
	}
}

// noDescriptorsForLong: clients connect to a server that has no descriptor for them. Each is refused, open connections continue, and new ones are accepted when there
// are descriptors again.
func noDescriptorsForLong(t *testing.T, n Network) {
	fewDescriptors(t, 100)
	r := NewRig(t, n, 1, transport.ServerOptions{HelloMax: 2 * Stall})
	well := r.bystander()
	well()
	r.connected(1).Close() // the listener has accepted a connection
	family, at := sockaddr(t, r.Server.Addr())
	var fds []int
	for range 5 {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	giveBack := takeDescriptors()
	defer giveBack()
	for _, fd := range fds {
		if err := unix.Connect(fd, at); err != nil {
			t.Fatal(err)
		}
	}
	wait := unix.NsecToTimeval(int64(WaitMax))
	for i, fd := range fds {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, 256); ; {
			k, err := unix.Read(fd, b)
			if errors.Is(err, unix.EAGAIN) {
				t.Fatalf("client %d heard nothing in %v", i, WaitMax)
			}
			if k <= 0 {
				break // the end, with or without an error
			}
		}
	}
	well()
	r.Logged(1, "the server has no descriptor for it")
	giveBack()
	if h := r.raw().exchangeHellos(1); h.Code != wire.Granted {
		t.Fatalf("with descriptors again: %v", h)
	}
	well()
}

// sockaddr converts a server's address for the kernel.
func sockaddr(t *testing.T, addr string) (family int, sa unix.Sockaddr) {
	t.Helper()
	if network, path := goNet(addr); network == "unix" {
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: path}
	}
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
}

// fewDescriptors leaves the process n free descriptors until the test ends.
func fewDescriptors(t *testing.T, n uint64) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	top := uint64(0)
	for _, d := range fds {
		if k, err := strconv.ParseUint(d.Name(), 10, 64); err == nil {
			top = max(top, k)
		}
	}
	set := func(l unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			t.Error(err)
		}
	}
	set(unix.Rlimit{Cur: top + n, Max: was.Max})
	t.Cleanup(func() { set(was) })
}

// takeDescriptors opens all remaining descriptors, until the returned function closes them.
func takeDescriptors() (giveBack func()) {
	var taken []int
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	return sync.OnceFunc(func() {
		for _, fd := range taken {
			_ = unix.Close(fd)
		}
	})
}

// otherAddr is a server that returns another address.
type otherAddr struct {
	transport.Server
	addr string
}

// Addr implements transport.Server.
func (e otherAddr) Addr() string { return e.addr }

// descriptors returns the number of open descriptors of this process.
func descriptors(t *testing.T) int {
	n, err := testenv.OpenFiles()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func connectClose(t *testing.T, n Network) {
	r := NewRig(t, n, 2, transport.ServerOptions{})
	well := r.bystander()
	well()
	fds, routines := descriptors(t), runtime.NumGoroutine()
	for i := range Effort(200) {
		c := r.Dial(transport.DialOptions{Loop: i % 2})
		NewCaller(t, r.Loop, c).Expect(Put("k", Fill(i*30, 1)), kv.StatusOK)
		c.Hangup()
	}
	Until(t, "all descriptors to be closed", func() bool { return descriptors(t) <= fds })
	Until(t, "all goroutines to end", func() bool { return runtime.NumGoroutine() <= routines })
	well()
}
