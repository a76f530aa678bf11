package stream

import (
	"bytes"
	"fmt"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/fifo"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
)

// respClient is Redis's protocol at the client's end. Replies come in the order of the commands and carry no number, so the calls are in a queue.
type respClient struct {
	c     *Client
	queue fifo.Queue[int] // indexes of calls, in the order of their commands
	skip  int             // bytes to discard: an end of line, and a value that is too long for its room
}

const (
	redisKeyBytes   = 1024
	redisValueBytes = 16 << 20
	redisHeadBytes  = 64 + redisKeyBytes + smallBytes // a command without its value, and a small value
)

// redisHello replaces the server's hello, which Redis does not send.
func redisHello(depth int) wire.ServerHello {
	return wire.ServerHello{Version: wire.Version, Depth: uint16(depth), MaxKeyBytes: redisKeyBytes, MaxValueBytes: redisValueBytes, Loops: 1, Shards: []uint16{0}}
}

// newRedisClient makes the client's end of a connection to a Redis server. It supports get, put, delete, and INFO (kv.OpStats).
func newRedisClient(l *loop.Loop, d Driver, hello wire.ServerHello, recvBytes int) (*Client, error) {
	depth := int(hello.Depth)
	mem, err := arena.New(recvBytes + depth*redisHeadBytes)
	if err != nil {
		return nil, err
	}
	c := newClient(l, d, hello, mem, recvBytes, redisHeadBytes)
	c.p = &respClient{c: c, queue: fifo.Make[int](depth)}
	return c, nil
}

// supports implements clientProtocol.
func (p *respClient) supports(op kv.Op) bool {
	return !op.Updates() && op != kv.OpKeys && op != kv.OpScan
}

// begin queues a call's command.
func (p *respClient) begin(k *call) {
	c, r := p.c, k.r
	b := k.head[:0]
	m := message{slot: k.index}
	switch r.Op {
	case kv.OpGet:
		b = resp.AppendBulk(append(b, "*2\r\n$3\r\nGET\r\n"...), r.Key)
	case kv.OpDelete:
		b = resp.AppendBulk(append(b, "*2\r\n$3\r\nDEL\r\n"...), r.Key)
	case kv.OpPut:
		b = resp.AppendBulk(append(b, "*3\r\n$3\r\nSET\r\n"...), r.Key)
		b = resp.AppendBulkHead(b, len(r.Value))
		if len(r.Value) > smallBytes {
			m.piece[1], m.piece[2] = r.Value, crlf
		} else {
			b = append(append(b, r.Value...), crlf...)
			c.l.Stats.Copied += uint64(len(r.Value))
		}
	default: // stats; Submit has refused all others
		b = append(b, "*1\r\n$4\r\nINFO\r\n"...)
	}
	c.l.Stats.Copied += uint64(len(r.Key))
	m.piece[0] = b
	p.queue.Push(k.index)
	c.out.Push(m)
}

// parse completes the calls of all completely received replies.
func (p *respClient) parse() error {
	c := p.c
	for len(c.in.rest) == 0 {
		if n := min(p.skip, len(c.in.unread())); n > 0 {
			p.skip -= n
			c.in.consume(n)
		}
		if p.skip > 0 {
			break
		}
		reply, used, err := resp.ReadReply(c.in.unread())
		if err != nil {
			return fmt.Errorf("%w: %w", transport.ErrProtocol, err)
		}
		if used == 0 {
			break
		}
		if p.queue.Len() == 0 || !c.calls[*p.queue.Front()].handed {
			return fmt.Errorf("%w: a reply to a command that was not sent: %.100q", transport.ErrProtocol, c.in.unread())
		}
		k := &c.calls[*p.queue.Front()]
		p.queue.Pop()
		whole, err := p.replied(k, reply, used)
		if err != nil {
			return err
		}
		if !whole {
			c.cur = k
			return nil
		}
		c.answered(k)
	}
	c.in.compact()
	return nil
}

// replied checks a reply, and completes the call that it answers. whole is false if the value has not arrived completely.
func (p *respClient) replied(k *call, reply resp.Reply, used int) (whole bool, err error) {
	c, r := p.c, k.r
	text := reply.Text
	r.Status, r.Need = kv.StatusOK, 0
	bulk := false
	switch {
	case reply.Kind == '-' && bytes.HasPrefix(text, []byte("OOM")):
		r.Status = kv.StatusNoSpace
	case reply.Kind == '-' && bytes.HasPrefix(text, []byte("ERR string exceeds")):
		r.Status = kv.StatusTooLarge
	case reply.Kind == '-' && bytes.HasPrefix(text, []byte("NOPERM")):
		r.Status = kv.StatusReadOnly
	case reply.Kind == '-':
		return false, fmt.Errorf("the server answered: %s", quote.Text(text))
	case r.Op == kv.OpPut && reply.Kind == '+':
	case r.Op == kv.OpDelete && reply.Kind == ':':
		if reply.N == 0 {
			r.Status = kv.StatusNotFound
		}
	case (r.Op == kv.OpGet || r.Op == kv.OpStats) && reply.Null:
		r.Status = kv.StatusNotFound
	case (r.Op == kv.OpGet || r.Op == kv.OpStats) && reply.Kind == '$':
		bulk = true
	default:
		return false, fmt.Errorf("%w: a reply of kind %q to a %v", transport.ErrProtocol, reply.Kind, r.Op)
	}
	c.in.consume(used)
	if !bulk {
		return true, nil
	}
	p.skip = len(crlf)
	if reply.N > cap(r.Value) {
		r.Status, r.Need = kv.StatusTooSmall, uint32(reply.N)
		p.skip += reply.N
		return true, nil
	}
	r.Value = r.Value[:reply.N]
	copied, whole := c.in.receiveInto(r.Value)
	c.l.Stats.Copied += uint64(copied)
	return whole, nil
}
