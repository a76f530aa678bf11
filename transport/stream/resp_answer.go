package stream

import (
	"fmt"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/wire"
)

// sendReady answers the slots at the head of the queue that are done.
func (rs *respServer) sendReady() {
	for rs.queue.Len() > 0 {
		i := *rs.queue.Front()
		m := &rs.parts[i]
		if !m.done {
			return
		}
		rs.queue.Pop()
		s := &rs.c.slots[i]
		if m.begin {
			rs.sum, rs.failed = 0, ""
		}
		rs.answerSlot(s, m)
	}
	rs.c.account.AnswersSent()
}

var crlf = []byte("\r\n")

// answerSlot sends a slot's part of an answer, or releases the slot if that part is empty.
func (rs *respServer) answerSlot(s *slot, m *part) {
	var pieces [3][]byte
	var head [64]byte
	b := head[:0]
	if m.array > 0 {
		b = resp.AppendArray(b, m.array)
	}
	failed := ""
	r, f := &s.req, m.form
	ok, none, exists, short := r.Status == kv.StatusOK, r.Status == kv.StatusNotFound, r.Status == kv.StatusExists, r.Status == kv.StatusTooSmall
	switch {
	case f == asText:
		pieces[0] = m.tmp
	case f == asEcho:
		b, pieces = bulk(b, m.tmp)
	case ok && (f == asBulk || f == asRange):
		pieces[0] = rs.itemAnswer(s, m, b)
	case ok && (f == asOK || f == asFlush):
		b = append(b, "+OK\r\n"...)
	case none && (f == asBulk || f == asOK || f == asDeleted || f == asOld), exists && f == asOK, ok && f == asOld && r.Limit == 0:
		b = resp.AppendNull(b, rs.session.Proto)
	case none && f == asRange:
		b = append(resp.AppendBulkHead(b, 0), crlf...)
	case (ok || short) && f == asCount:
		rs.sum++
	case none && f == asCount:
	case ok && (f == asBytes || f == asLength):
		b = resp.AppendInt(b, int64(len(r.Value)))
	case short && f == asBytes:
		b = resp.AppendInt(b, int64(r.Need))
	case ok && f == asSet:
		b = resp.AppendInt(b, 1)
	case none && f == asBytes, exists && f == asSet:
		b = resp.AppendInt(b, 0)
	case ok && f == asSum:
		b = append(append(append(b, ':'), r.Value...), crlf...)
	case (ok || short) && f == asType:
		b = resp.AppendStatus(b, "string")
	case none && f == asType:
		b = resp.AppendStatus(b, "none")
	case (ok || short) && f == asExpiry:
		b = resp.AppendInt(b, m.first)
	case none && f == asExpiry:
		b = resp.AppendInt(b, m.last)
	case ok && f == asDeleted:
		b, pieces = bulk(b, r.Value)
	case (ok || exists) && f == asOld:
		n := len(r.Value)
		b, pieces = bulk(b, r.Value[n:n+int(r.Limit)-1])
	case ok && f == asKeys:
		pieces[0] = rs.scanAnswer(s)
	case ok && f == asMatching:
		pieces[0] = rs.keysAnswer(s, b)
	case r.Status == kv.StatusTooLarge && f == asMatching:
		failed = fmt.Sprintf("ERR KEYS has more than %d bytes of keys: use SCAN", rs.keysMax())
	case r.Status == kv.StatusBusy && f == asMatching:
		failed = "OOM command not allowed: no memory for the keys of KEYS now: use SCAN"
	case ok && f == asRandom:
		if k, _, _, found := kv.NextItem(r.Value); found {
			b, pieces = bulk(b, k)
		} else {
			b = resp.AppendNull(b, rs.session.Proto)
		}
	case ok && f == asVerbatim:
		b = resp.AppendVerbatimHead(b, len(r.Value), rs.session.Proto)
		pieces[0] = s.framed(b, wire.HeaderBytes, len(r.Value))
	case short && f == asVerbatim: // only a list may be so long
		failed = fmt.Sprintf("ERR CLIENT LIST has more than %d bytes of connections: name some by CLIENT LIST ID", int(r.Need)/2-lineMax)
	case ok && f == asSize:
		pieces[0], failed = sizeAnswer(s)
	case m.longKey:
		failed = fmt.Sprintf("ERR string exceeds maximum allowed size: a key has at most %d bytes (--max-key-bytes)", rs.c.h.O.Limits.MaxKeyBytes)
	default:
		failed = resp.StatusText(r.Status, r.Key)
	}
	switch f {
	case asCount:
		if m.end {
			b = resp.AppendInt(b, rs.sum)
		}
	case asKeys, asSize, asVerbatim, asFlush, asMatching, asRandom:
		rs.exclusive = false
	}
	m.tmp = nil
	if failed != "" && rs.failed == "" {
		rs.failed = failed
	}
	rs.sendSlot(s, m, b, pieces, failed)
}

// bulk encodes a value as a bulk string: the head, appended to b, and the pieces that follow it.
func bulk(b, value []byte) (head []byte, pieces [3][]byte) {
	return resp.AppendBulkHead(b, len(value)), [3][]byte{nil, value, crlf}
}

// itemAnswer returns head followed by an item, or a range of it, as a bulk string, in the item's own memory.
func (rs *respServer) itemAnswer(s *slot, m *part, head []byte) []byte {
	whole := s.req.Value
	rs.hint = len(whole)
	value, at := whole, wire.HeaderBytes
	if m.form == asRange {
		value = resp.Subrange(whole, m.first, m.last)
		at += cap(whole) - cap(value)
	}
	if len(value) == 0 { // its memory may be anywhere
		at = wire.HeaderBytes
	}
	return s.framed(resp.AppendBulkHead(head, len(value)), at, len(value))
}

// framed writes a head before n bytes of the slot's answer, which begin at offset at, and an end of line after them, and returns all of it. There is room for both.
func (s *slot) framed(head []byte, at, n int) []byte {
	from := at - len(head)
	copy(s.reply[from:], head)
	s.reply = append(s.reply[:at+n], crlf...)
	return s.reply[from:]
}

// sendSlot sends the parts that answerSlot has made: pieces in the slot's memory, with b as the first piece if that is nil, or b alone.
func (rs *respServer) sendSlot(s *slot, m *part, b []byte, pieces [3][]byte, failed string) {
	c := rs.c
	whole := m.begin && m.end
	switch {
	case m.form == asBulk && !whole: // each value of an array may be an error
		if failed != "" {
			b = resp.AppendError(b, failed)
		}
		rs.failed = ""
	case !m.end: // a part that has no answer of its own
		c.release(s)
		return
	case rs.failed != "":
		b, pieces = resp.AppendError(b[:0], rs.failed), [3][]byte{}
		rs.failed = ""
	}
	if pieces[1] != nil {
		pieces[0] = append(s.small[replyAt:replyAt:ownBytes], b...)
		c.send(message{piece: pieces, slot: s.Index})
		return
	}
	if pieces[0] != nil {
		b = pieces[0]
	}
	if c.out.coalesce(b) {
		c.h.L.Stats.Copied += uint64(len(b))
		c.release(s)
		return
	}
	c.releaseBlock(s)
	if pieces[0] == nil { // b is on the stack
		c.releaseReply(s)
		pieces[0] = append(s.small[:0], b...)
	}
	c.send(message{piece: pieces, slot: s.Index})
}
