package stream

import "github.com/kvwire/kvwire/resp"

// GETs whose items are in memory need no requests. Those that follow each other in the receive buffer are looked up together, and their answers are one message in the
// memory of one slot. It is the same order as with requests, since nothing earlier of this connection is under way.

const (
	getsMax      = 16       // the most GETs that are answered together
	getsBytesMax = 64 << 10 // bounds the bytes of their answers; a longer answer is a request's
	bulkMax      = 16       // a bulk string's bytes besides the value: a kind, ten digits and two ends of line, rounded up
)

// gets is scratch of answerGets, one for a loop.
type gets struct {
	keys, values [getsMax][]byte
	ends         [getsMax]int // bytes of the receive buffer up to the end of each command
}

// answerGets answers the GETs at the head of the receive buffer, and returns their number; 0: the next command must be parsed.
func (rs *respServer) answerGets() int {
	c := rs.c
	if c.busy > 0 || rs.queue.Len() > 0 || rs.exclusive || rs.cmdBlock != nil || rs.argsBlock != nil || len(c.free) == 0 || rs.session.Denies(resp.GetCommand) != "" {
		return 0
	}
	g := &c.h.redis.gets
	n, at := 0, 0
	for b := c.in.unread(); n < getsMax; n++ {
		key, used := resp.ReadGet(b[at:])
		if used == 0 || len(key) > c.h.O.Limits.MaxKeyBytes {
			break
		}
		at += used
		g.keys[n], g.ends[n] = key, at
	}
	if n > 0 {
		n = c.h.Handler.Read(g.keys[:n], g.values[:n])
	}
	size := 0
	for i, v := range g.values[:n] {
		if size+len(v)+bulkMax > getsBytesMax {
			n = i
			break
		}
		size += len(v) + bulkMax
	}
	if n == 0 || !rs.sendValues(g.values[:n], size) {
		return 0
	}
	c.in.consume(g.ends[n-1])
	rs.cmd.Reset() // a part of the first command may have been parsed before the rest was received
	rs.previous = resp.GetCommand
	c.h.count.Requests += uint64(n)
	c.h.commands += uint64(n)
	c.h.L.Stats.Delivered += uint64(n)
	return n
}

// sendValues sends values as one message of at most size bytes; nil is a key that does not exist. false: there is no memory now.
func (rs *respServer) sendValues(values [][]byte, size int) bool {
	c := rs.c
	s := &c.slots[c.free[len(c.free)-1]]
	s.block, s.reply = nil, nil
	b := s.small[:0:ownBytes]
	if size > ownBytes {
		if s.reply = c.account.Answer(&s.Claim, size); s.reply == nil {
			return false
		}
		b = s.reply[:0]
	}
	c.free = c.free[:len(c.free)-1]
	for _, v := range values {
		if v == nil {
			b = resp.AppendNull(b, rs.session.Proto)
		} else {
			b = resp.AppendBulk(b, v)
			c.h.L.Stats.Copied += uint64(len(v))
		}
	}
	c.send(message{piece: [3][]byte{b}, slot: s.Index})
	return true
}
