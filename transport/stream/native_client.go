package stream

import (
	"fmt"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
)

// nativeClient is the native protocol at the client's end: requests and replies are frames, and replies come in any order.
type nativeClient struct {
	c    *Client
	bare bool // headers have no checksum
}

// NewClient makes the client's end of a connection of the native protocol. hello is the server's hello.
func NewClient(l *loop.Loop, d Driver, hello wire.ServerHello, recvBytes int) (*Client, error) {
	per := wire.HeaderBytes + smallBytes
	depth := int(hello.Depth)
	recvBytes = max(recvBytes, 2*(wire.HeaderBytes+wire.TimesBytes))
	mem, err := arena.New(recvBytes + depth*per)
	if err != nil {
		return nil, err
	}
	c := newClient(l, d, hello, mem, recvBytes, per)
	c.p = &nativeClient{c: c, bare: hello.Features&wire.FeatureNoChecksum != 0}
	return c, nil
}

// supports implements clientProtocol.
func (p *nativeClient) supports(op kv.Op) bool { return !op.Updates() && op != kv.OpKeys }

// begin writes the request's header and queues its pieces.
func (p *nativeClient) begin(k *call) {
	c, r := p.c, k.r
	hd, value := wire.RequestHeader(r, uint64(k.uses)<<32|uint64(k.index))
	hd.EncodeAs(k.head, p.bare)
	m := message{slot: k.index}
	if len(r.Key)+len(value) <= smallBytes {
		n := wire.HeaderBytes + copy(k.head[wire.HeaderBytes:], r.Key)
		n += copy(k.head[n:], value)
		m.piece[0] = k.head[:n]
		c.l.Stats.Copied += uint64(n - wire.HeaderBytes)
	} else {
		m.piece = [3][]byte{k.head[:wire.HeaderBytes], r.Key, value}
	}
	c.out.Push(m)
}

// parse handles all complete headers in the receive buffer.
func (p *nativeClient) parse() error {
	c := p.c
	for len(c.in.rest) == 0 {
		b := c.in.unread()
		if len(b) < wire.HeaderBytes {
			break
		}
		var hd wire.Header
		if err := hd.DecodeAs(b, p.bare); err != nil {
			return fmt.Errorf("%w: %w", transport.ErrProtocol, err)
		}
		if hd.Flags&wire.FlagRefuse != 0 {
			return &transport.Refusal{Code: wire.Code(hd.Arg)}
		}
		k, err := p.match(&hd)
		if err != nil {
			return err
		}
		head := wire.HeaderBytes
		if hd.Flags&wire.FlagTimes != 0 {
			if b = b[wire.HeaderBytes:]; len(b) < wire.TimesBytes {
				break
			}
			if err := k.times.Decode(b); err != nil {
				return fmt.Errorf("%w: %w", transport.ErrProtocol, err)
			}
			k.timed = true
			head += wire.TimesBytes
		}
		c.in.consume(head)
		hd.Outcome(k.r)
		if !hd.Answers() {
			c.answered(k)
			continue
		}
		k.r.Value = k.r.Value[:hd.ValueBytes]
		copied, whole := c.in.receiveInto(k.r.Value)
		c.l.Stats.Copied += uint64(copied)
		if !whole {
			c.cur = k
			return nil
		}
		c.answered(k)
	}
	c.in.compact()
	return nil
}

// match finds the call that a reply answers, and checks that the reply fits it.
func (p *nativeClient) match(hd *wire.Header) (*call, error) {
	i := uint32(hd.ID)
	if hd.Flags&wire.FlagReply == 0 || int64(i) >= int64(len(p.c.calls)) {
		return nil, fmt.Errorf("%w: a reply to request %#x, which does not exist", transport.ErrProtocol, hd.ID)
	}
	k := &p.c.calls[i]
	if k.r == nil || k.answered || k.uses != uint32(hd.ID>>32) || k.r.Op != hd.Op || !k.handed {
		return nil, fmt.Errorf("%w: a reply to request %#x, which is not in flight", transport.ErrProtocol, hd.ID)
	}
	if hd.Flags&wire.FlagTimes != 0 && k.r.Stages == nil {
		return nil, fmt.Errorf("%w: times of request %#x, which were not requested", transport.ErrProtocol, hd.ID)
	}
	if hd.Answers() && uint64(hd.ValueBytes) > uint64(cap(k.r.Value)) {
		return nil, fmt.Errorf("%w: an answer of %d B to a request with room for %d", transport.ErrProtocol, hd.ValueBytes, cap(k.r.Value))
	}
	return k, nil
}
