package stream

import (
	"strings"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/resp"
)

// GETs and SETs whose items are in memory need no requests. Those of one kind that follow each other in the receive buffer are executed together, and their answers are
// appended to one message. A value is copied once: from the receive buffer to its item, or from its item to the message. The order is the same as with requests, since nothing
// earlier of this connection is under way.

const (
	directMax      = 16       // the most commands that are executed together
	directBytesMax = 64 << 10 // bounds the bytes of their answers; a longer answer is a request's
	bulkMax        = 16       // a bulk string's bytes besides the value: a kind, ten digits and two ends of line, rounded up
)

var (
	okAnswer  = "+OK\r\n"
	okAnswers = strings.Repeat(okAnswer, directMax)
)

// direct is scratch of executeDirect, one for a loop.
type direct struct {
	keys, values [directMax][]byte
	ends         [directMax]int // bytes of the receive buffer up to the end of each command
}

// executeDirect executes the GETs or SETs at the head of the receive buffer, and returns their number; 0: the next command must be parsed.
func (rs *respServer) executeDirect() int {
	c := rs.c
	if c.busy > 0 || rs.queue.Len() > 0 || rs.exclusive || rs.cmdBlock != nil || rs.argsBlock != nil {
		return 0
	}
	b, d, spec, n := c.in.unread(), &c.h.redis.direct, resp.GetCommand, 0
	if len(b) > 1 && b[1] == '3' { // arguments
		spec = resp.SetCommand
	}
	if rs.session.Denies(spec) != "" {
		return 0
	}
	if spec == resp.GetCommand {
		n = d.readGets(b, c.h.O.Limits)
		n = rs.answerGets(d.keys[:n], d.values[:n])
	} else {
		n = d.readPuts(b, c.h.O.Limits)
		n = rs.answerPuts(d.keys[:n], d.values[:n])
	}
	if n == 0 {
		return 0
	}
	c.in.consume(d.ends[n-1])
	rs.cmd.Reset() // a part of the first command may have been parsed before the rest was received
	rs.previous = spec
	c.h.count.Requests += uint64(n)
	c.h.commands += uint64(n)
	c.h.L.Stats.Delivered += uint64(n)
	return n
}

// readGets sets d to the GETs at the head of b, and returns their number.
func (d *direct) readGets(b []byte, l kv.Limits) (n int) {
	for at := 0; n < directMax; n++ {
		key, used := resp.ReadGet(b[at:])
		if used == 0 || len(key) > l.MaxKeyBytes {
			break
		}
		at += used
		d.keys[n], d.ends[n] = key, at
	}
	return n
}

// readPuts is readGets for SETs.
func (d *direct) readPuts(b []byte, l kv.Limits) (n int) {
	for at := 0; n < directMax; n++ {
		key, value, used := resp.ReadPut(b[at:])
		if used == 0 || len(key) > l.MaxKeyBytes || len(value) > l.MaxValueBytes {
			break
		}
		at += used
		d.keys[n], d.values[n], d.ends[n] = key, value, at
	}
	return n
}

// answerGets answers GETs of keys, the first ones, and returns their number. values is scratch.
func (rs *respServer) answerGets(keys, values [][]byte) int {
	if len(keys) == 0 {
		return 0
	}
	c := rs.c
	n, size := c.h.Handler.Read(keys, values), 0
	for i, v := range values[:n] {
		if size+len(v)+bulkMax > directBytesMax {
			n = i
			break
		}
		size += len(v) + bulkMax
	}
	if n == 0 {
		return 0
	}
	m := rs.addAnswers(n, size)
	if m == nil {
		return 0
	}
	b := m.piece[0]
	for _, v := range values[:n] {
		if v == nil {
			b = resp.AppendNull(b, rs.session.Proto)
			continue
		}
		rs.hint = len(v)
		b = resp.AppendBulk(b, v)
		c.h.L.Stats.Copied += uint64(len(v))
	}
	m.piece[0] = b
	return n
}

// answerPuts is answerGets for SETs.
func (rs *respServer) answerPuts(keys, values [][]byte) int {
	c := rs.c
	if len(keys) == 0 || len(c.free) == 0 && c.out.open(len(keys)*len(okAnswer)) == nil {
		return 0
	}
	n := c.h.Handler.Write(keys, values)
	if n == 0 {
		return 0
	}
	size := n * len(okAnswer)
	m := rs.addAnswers(n, size) // there is room: size is less than a slot's own memory
	m.piece[0] = append(m.piece[0], okAnswers[:size]...)
	return n
}

// addAnswers returns the message to whose first piece n answers of at most size bytes are to be appended now: the last one if it has room, or a new one in the memory
// of a slot. nil: there is no slot or no memory now.
func (rs *respServer) addAnswers(n, size int) *message {
	c := rs.c
	if m := c.out.open(size); m != nil {
		c.out.addAnswers(m, n)
		return m
	}
	if len(c.free) == 0 {
		return nil
	}
	s := &c.slots[c.free[len(c.free)-1]]
	s.block, s.reply = nil, nil
	b := s.small[:0:ownBytes]
	if size > ownBytes {
		if s.reply = c.account.Answer(&s.Claim, size); s.reply == nil {
			return nil
		}
		b = s.reply[:0]
	}
	c.free = c.free[:len(c.free)-1]
	c.send(message{piece: [3][]byte{b}, slot: s.Index})
	m := c.out.At(c.out.Len() - 1)
	c.out.addAnswers(m, n-1)
	return m
}
