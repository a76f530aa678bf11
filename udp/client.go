package udp

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/transport/datagram"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// replyMax is the most bytes of a reply that a client accepts: the largest value that a server may allow, as a scan's answer.
const replyMax = headBytes + 16<<20 + 4<<10

// keepsPerStall is how often an idle connection asks whether the server is there, in the time after which the server ends silent ones: so many questions in
// a row may be lost, less one.
const keepsPerStall = 8

// hub has the clients' connections of one loop to servers of one address family. It belongs to its loop.
type hub struct {
	*carrier
	client *datagram.Client
}

var _ loop.Busier = (*hub)(nil)

// hubKey finds the hub of a loop.
type hubKey struct {
	o      Options
	family uint16
}

func newHub(l *loop.Loop, k hubKey) (*hub, error) {
	h := &hub{}
	network, local := "udp4", "0.0.0.0:0" // with "udp" Go makes a socket of the family of IPv6, which receives from addresses in another form
	if k.family == unix.AF_INET6 {
		network, local = "udp6", "[::]:0"
	}
	fd, _, err := bind(network, local)
	if err != nil {
		return nil, err
	}
	o := k.o.core(fd)
	o.MessageBytes, o.HelloMax = replyMax, int64(24*time.Hour) // Dial has the deadline
	o.Slots = transport.MaxDepth
	h.client, err = datagram.NewClient(o, h)
	if err == nil {
		level, name := unix.IPPROTO_IP, unix.IP_RECVERR
		if k.family == unix.AF_INET6 {
			level, name = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
		}
		err = unix.SetsockoptInt(fd, level, name, 1)
	}
	var id loop.MemberID
	if err == nil {
		id, err = l.Add(h)
	}
	if err == nil {
		h.carrier, err = newCarrier(l, id, fd, h.client, &h.client.Count, &k.o)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return h, nil
}

// conn is a client's connection.
type conn struct {
	h       *hub
	l       *loop.Loop
	s       *datagram.Session
	request []byte        // the hello
	who     *access.Entry // nil: no authentication
	t       access.Transcript
	depth   int // that was asked for

	opened chan error // the outcome of the hello
	gone   chan struct{}

	hello   wire.ServerHello
	limits  kv.Limits
	calls   []call
	heads   []byte
	err     error
	waiting kv.Queue // requests beyond the depth
}

var _ transport.Conn = (*conn)(nil)

// call is one request in flight.
type call struct {
	r     *kv.Request
	uses  uint32
	head  int // bytes of the reply before the answer
	times wire.Times
	timed bool
}

// perCall is the room for the beginning of a request: header, key, and a small value.
func (c *conn) perCall() int { return wire.HeaderBytes + max(smallBytes, c.limits.MaxKeyBytes) }

func dial(ctx context.Context, l *loop.Loop, addr string, o transport.DialOptions, u Options) (transport.Conn, error) {
	o, err := o.Defaults()
	if err != nil {
		return nil, err
	}
	if o.Redis {
		return nil, errors.New("connect: Redis has no datagrams (use tcp)")
	}
	ctx, cancel := context.WithTimeout(ctx, o.DialMax)
	defer cancel()
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	ap := a.AddrPort()
	family := uint16(unix.AF_INET6)
	if ap.Addr().Unmap().Is4() {
		family = unix.AF_INET
	}
	request := wire.ClientHello{Version: wire.Version, Depth: uint16(o.Depth), Loop: wire.AnyLoop}
	if o.Loop >= 0 {
		request.Loop = uint16(o.Loop)
	}
	if o.Access != nil {
		request.Required, request.Name = wire.FeatureAccess, o.Access.Name
		_, _ = rand.Read(request.Nonce[:])
	}
	c := &conn{l: l, request: request.Append(nil), who: o.Access, depth: o.Depth, opened: make(chan error, 1), gone: make(chan struct{})}
	var openErr error
	if err := l.Call(func() { openErr = c.open(addressOf(ap, family), hubKey{u, family}) }); err != nil {
		return nil, err
	}
	if openErr != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, openErr)
	}
	select {
	case err = <-c.opened:
	case <-l.Done():
		err = loop.ErrStopped
	case <-ctx.Done():
		c.Hangup()
		err = fmt.Errorf("no answer within %v", o.DialMax)
		if errors.Is(ctx.Err(), context.Canceled) {
			err = ctx.Err()
		}
	}
	switch {
	case errors.Is(err, datagram.ErrRefused):
		return nil, fmt.Errorf("connect to %s: %w (is the server running there?)", addr, err)
	case err != nil:
		return nil, fmt.Errorf("hello with %s: %w", addr, err)
	}
	return c, nil
}

// open begins the session, on the loop.
func (c *conn) open(to datagram.Address, k hubKey) error {
	m, err := c.l.Shared(k, func() (loop.Member, error) { return newHub(c.l, k) })
	if err != nil {
		return err
	}
	c.h = m.(*hub)
	c.s, err = c.h.client.Open(c.l.AwakeNow(), to, c.depth, c.request, c)
	if err == nil {
		c.l.Again()
	}
	return err
}

// OnEvent implements loop.Member.
func (h *hub) OnEvent(tag uint64, res int32, flags uint32) {
	if !h.event(tag, res, flags) {
		return
	}
	for {
		var to datagram.Address
		e, ok := sys.Undelivered(h.fd, to[:])
		if !ok {
			return
		}
		if h.l.Stats.Syscalls++; e == unix.ECONNREFUSED {
			h.client.Refused(h.l.AwakeNow(), &to)
		}
	}
}

// Poll implements loop.Member.
func (h *hub) Poll() int { return h.poll(h.l.AwakeNow()) }

// Stage implements loop.Member.
func (h *hub) Stage() error {
	h.tick(h.l.AwakeNow())
	return nil
}

// Busy implements loop.Busier.
func (h *hub) Busy() (s string) {
	if s = h.busy(); s != "" {
		return s
	}
	h.client.Each(func(x *datagram.Session) {
		if c := x.User.(*conn); !c.waiting.Empty() || len(c.calls) > 0 && x.InFlight() > 0 {
			s = "requests to the server are under way"
		}
	})
	return s
}

// Close implements loop.Member.
func (h *hub) Close() bool {
	h.client.Each(func(x *datagram.Session) { x.End(transport.ErrClosed) })
	h.blocked = false // the last packets may be lost
	h.flush(h.l.AwakeNow())
	if h.ring != nil && h.ring.sends > 0 {
		return false
	}
	h.drop()
	return h.close()
}

// Prove implements datagram.ClientHost.
func (h *hub) Prove(s *datagram.Session, nonce []byte) []byte {
	c := s.User.(*conn)
	if c.who == nil {
		return nil
	}
	c.t = access.NewTranscript(c.request, nonce)
	p := c.who.ClientProof(c.t)
	return p[:]
}

// Elsewhere implements datagram.ClientHost: the name is another port of the server.
func (h *hub) Elsewhere(s *datagram.Session, name []byte) (to datagram.Address, ok bool) {
	if len(name) != 2 {
		return to, false
	}
	return withPort(s.To(), binary.LittleEndian.Uint16(name)), true
}

// Opened implements datagram.ClientHost.
func (h *hub) Opened(s *datagram.Session, answer []byte) error {
	c := s.User.(*conn)
	if err := c.hello.Decode(answer); err != nil {
		return err
	}
	switch {
	case c.hello.Code != wire.Granted:
		return &transport.Refusal{Code: c.hello.Code, Reason: c.hello.Reason}
	case c.who != nil && !c.proven(answer):
		return transport.ErrImpostor
	case int(c.hello.Depth) != s.Slots():
		return fmt.Errorf("%w: depth %d was granted, and %d slots", transport.ErrProtocol, c.hello.Depth, s.Slots())
	}
	c.hello.Params = nil                                      // a part of the packet
	if stall := int64(c.hello.StallMillis) * 1e6; stall > 0 { // the server ends sessions that are silent for that long
		s.KeepWithin(stall / keepsPerStall)
	}
	c.limits = kv.Limits{MaxKeyBytes: int(c.hello.MaxKeyBytes), MaxValueBytes: int(c.hello.MaxValueBytes)}
	c.calls = make([]call, s.Slots())
	c.heads = make([]byte, s.Slots()*c.perCall())
	c.opened <- nil
	return nil
}

// proven reports whether a grant ends with a valid proof that the server has the secret.
func (c *conn) proven(answer []byte) bool {
	covered, proof, err := wire.Unseal(answer)
	want := c.who.ServerProof(c.t, covered)
	return err == nil && hmac.Equal(want[:], proof[:])
}

// Hello implements transport.Conn.
func (c *conn) Hello() wire.ServerHello { return c.hello }

// Err implements transport.Conn.
func (c *conn) Err() error { return c.err }

// Hangup implements transport.Conn.
func (c *conn) Hangup() {
	if c.l.Do(func() { c.s.End(transport.ErrClosed) }) {
		select {
		case <-c.gone:
		case <-c.l.Done():
		}
	}
}

// Submit implements kv.Handler.
func (c *conn) Submit(r *kv.Request) {
	if c.err != nil {
		c.finish(r, kv.StatusClosed)
		return
	}
	s := c.limits.Check(r)
	if r.Op.Updates() || r.Op == kv.OpKeys {
		s = kv.StatusBadRequest
	}
	if s != kv.StatusOK {
		c.finish(r, s)
		return
	}
	if !c.waiting.Empty() || !c.begin(r) {
		c.waiting.Push(r)
	}
}

func (c *conn) finish(r *kv.Request, s kv.Status) {
	r.Status = s
	c.l.Finish(r)
}

// begin gives the session a request; false: no slot is free.
func (c *conn) begin(r *kv.Request) bool {
	slot, ok := c.s.Next()
	if !ok {
		return false
	}
	k := &c.calls[slot]
	k.r, k.timed = r, false
	k.uses++
	if r.Stages != nil {
		r.Stages.Mark(kv.StageClientQueue, loop.Nanos())
	}
	hd, value := wire.RequestHeader(r, uint64(k.uses)<<32|uint64(slot))
	per := c.perCall()
	head := c.heads[slot*per : (slot+1)*per]
	hd.Encode(head)
	n := wire.HeaderBytes + copy(head[wire.HeaderBytes:], r.Key)
	if len(r.Key)+len(value) <= smallBytes {
		n += copy(head[n:], value)
		value = nil
	}
	c.l.Stats.Copied += uint64(n - wire.HeaderBytes)
	c.s.Call(c.l.AwakeNow(), head[:n], value)
	return true
}

// Part implements datagram.ClientHost. A reply is a frame: its header, perhaps durations, and the answer. The first part has the first two whole.
func (h *hub) Part(s *datagram.Session, slot, bytes, at int, b []byte) error {
	c := s.User.(*conn)
	k := &c.calls[slot]
	if at == 0 {
		n, err := c.receiveHead(k, uint64(k.uses)<<32|uint64(slot), bytes, b)
		if err != nil {
			return fmt.Errorf("%w: %w", transport.ErrProtocol, err)
		}
		k.head = n
		b = b[n:]
	} else {
		at -= k.head
	}
	if len(b) > 0 {
		copy(k.r.Value[at:], b)
		c.l.Stats.Copied += uint64(len(b))
	}
	return nil
}

var errReply = errors.New("a reply that does not fit its request")

// receiveHead handles what precedes the answer in a reply of so many bytes, and returns its length.
func (c *conn) receiveHead(k *call, id uint64, bytes int, b []byte) (n int, err error) {
	if len(b) < wire.HeaderBytes {
		return 0, errReply
	}
	var hd wire.Header
	if err := hd.Decode(b); err != nil {
		return 0, err
	}
	n = wire.HeaderBytes
	if hd.Flags&wire.FlagReply == 0 || hd.Flags&wire.FlagRefuse != 0 || hd.ID != id || hd.Op != k.r.Op {
		return 0, errReply
	}
	if hd.Flags&wire.FlagTimes != 0 {
		if k.r.Stages == nil || len(b) < headBytes {
			return 0, errReply
		}
		if err := k.times.Decode(b[n:]); err != nil {
			return 0, err
		}
		k.timed, n = true, headBytes
	}
	answer := 0
	if hd.Answers() {
		answer = int(hd.ValueBytes)
	}
	if bytes != n+answer || answer > cap(k.r.Value) {
		return 0, errReply
	}
	hd.Outcome(k.r)
	if hd.Answers() {
		k.r.Value = k.r.Value[:answer]
	}
	return n, nil
}

// Done implements datagram.ClientHost.
func (h *hub) Done(s *datagram.Session, slot int) {
	c := s.User.(*conn)
	k := &c.calls[slot]
	r := k.r
	k.r = nil
	if t := r.Stages; t != nil {
		k.markStages(t, loop.Nanos())
	}
	c.l.Finish(r)
	if next := c.waiting.Pop(); next != nil && !c.begin(next) {
		c.waiting.PushFront(next)
	}
}

// markStages marks the server's durations, and the rest as the time of the fabric: the kernel does not stamp these packets.
func (k *call) markStages(t *kv.Stages, at int64) {
	if k.timed && k.times.Server() <= uint64(max(at-t.At, 0)) {
		s := &k.times
		fabric := at - t.At - int64(s.Server())
		t.Mark(kv.StageFabric, t.At+fabric)
		t.Mark(kv.StageNotifyServer, t.At+int64(s.Notify))
		t.Mark(kv.StageServerQueue, t.At+int64(s.Queue))
		t.Mark(kv.StageStore, t.At+int64(s.Store))
		t.Mark(kv.StageDisk, t.At+int64(s.Disk))
		t.Mark(kv.StageServerSubmit, t.At+int64(s.Submit))
	}
	t.Mark(kv.StageFabric, at)
}

// Sent implements datagram.ClientHost.
func (h *hub) Sent(s *datagram.Session, slot int) {
	loop.Mark(s.User.(*conn).calls[slot].r, kv.StageClientSubmit)
}

// Ended implements datagram.ClientHost. Requests of which the server may have received something end as StatusUnknown, all others as StatusClosed.
func (h *hub) Ended(s *datagram.Session, err error) {
	c := s.User.(*conn)
	var refused *datagram.Refusal
	var hello wire.ServerHello
	switch {
	case errors.As(err, &refused) && hello.Decode(refused.Reason) == nil:
		err = &transport.Refusal{Code: hello.Code, Reason: hello.Reason}
	case errors.Is(err, datagram.ErrProtocol):
		err = fmt.Errorf("%w: %w", transport.ErrProtocol, err)
	case errors.Is(err, datagram.ErrLeft), errors.Is(err, datagram.ErrForgotten), errors.Is(err, datagram.ErrSilent):
		err = fmt.Errorf("%w: %w", transport.ErrPeerGone, err)
	}
	c.err = err
	h.drop()
	for slot := range c.calls {
		k := &c.calls[slot]
		if k.r == nil {
			continue
		}
		if s.Sent(slot) {
			c.finish(k.r, kv.StatusUnknown)
		} else {
			c.finish(k.r, kv.StatusClosed)
		}
		k.r = nil
	}
	for r := c.waiting.Pop(); r != nil; r = c.waiting.Pop() {
		c.finish(r, kv.StatusClosed)
	}
	select {
	case c.opened <- err:
	default: // Dial has returned
	}
	close(c.gone)
}
