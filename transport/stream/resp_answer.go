package stream

import (
	"fmt"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/wire"
)

// sendReady answers what is at the head of the line and done.
func (rs *respServer) sendReady() {
	c := rs.c
	for rs.line.n > 0 {
		i := rs.line.first()
		m := &rs.more[i]
		if !m.done {
			return
		}
		rs.line.pop()
		s := &c.slots[i]
		if m.begin {
			rs.sum, rs.failed = 0, ""
		}
		rs.answerSlot(s, m)
	}
	c.account.Ease()
}

var crlf = []byte("\r\n")

// answerSlot sends a slot's part of an answer, or gives the slot back if that is nothing.
func (rs *respServer) answerSlot(s *slot, m *part) {
	r := &s.req
	proto := rs.session.Proto
	var pieces [3][]byte
	var head [64]byte
	b := head[:0]
	if m.array > 0 {
		b = resp.AppendArray(b, m.array)
	}
	failed := ""
	switch m.form {
	case asText:
		pieces[0] = m.tmp
	case asEcho:
		b = resp.AppendBulkHead(b, len(m.tmp))
		pieces = [3][]byte{nil, m.tmp, crlf}
	case asBulk, asRange:
		switch r.Status {
		case kv.StatusOK:
			rs.hint = len(r.Value)
			value, at := r.Value, wire.HeaderBytes
			if m.form == asRange {
				value = resp.Cut(value, m.first, m.last)
				at += cap(r.Value) - cap(value)
			}
			if len(value) == 0 { // it may lie anywhere
				at = wire.HeaderBytes
			}
			b = resp.AppendBulkHead(b, len(value))
			pieces[0] = s.framed(b, at, len(value))
		case kv.StatusNotFound:
			if b = resp.AppendNull(b, proto); m.form == asRange {
				b = resp.AppendBulkHead(b[:0], 0)
				b = append(b, crlf...)
			}
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asOK:
		switch r.Status {
		case kv.StatusOK:
			b = append(b, "+OK\r\n"...)
		case kv.StatusExists, kv.StatusNotFound:
			b = resp.AppendNull(b, proto)
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asCount:
		switch r.Status {
		case kv.StatusOK, kv.StatusTooSmall:
			rs.sum++
		case kv.StatusNotFound:
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
		if m.end {
			b = resp.AppendInt(b, rs.sum)
		}
	case asBytes:
		switch r.Status {
		case kv.StatusOK:
			b = resp.AppendInt(b, int64(len(r.Value)))
		case kv.StatusNotFound:
			b = resp.AppendInt(b, 0)
		case kv.StatusTooSmall:
			b = resp.AppendInt(b, int64(r.Need))
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asSum:
		if failed = textUnlessOK(r); failed == "" {
			b = append(append(append(b, ':'), r.Value...), crlf...)
		}
	case asSet:
		switch r.Status {
		case kv.StatusOK:
			b = resp.AppendInt(b, 1)
		case kv.StatusExists:
			b = resp.AppendInt(b, 0)
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asType, asExpiry:
		switch r.Status {
		case kv.StatusOK, kv.StatusTooSmall:
			if m.form == asType {
				b = resp.AppendStatus(b, "string")
			} else {
				b = resp.AppendInt(b, m.first)
			}
		case kv.StatusNotFound:
			if m.form == asType {
				b = resp.AppendStatus(b, "none")
			} else {
				b = resp.AppendInt(b, m.last)
			}
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asTaken:
		switch r.Status {
		case kv.StatusOK:
			pieces = [3][]byte{nil, r.Value, crlf}
			b = resp.AppendBulkHead(b, len(r.Value))
		case kv.StatusNotFound:
			b = resp.AppendNull(b, proto)
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asLength:
		if failed = textUnlessOK(r); failed == "" {
			b = resp.AppendInt(b, int64(len(r.Value)))
		}
	case asOld:
		switch {
		case r.Status == kv.StatusNotFound, r.Status == kv.StatusOK && r.Limit == 0:
			b = resp.AppendNull(b, proto)
		case r.Status == kv.StatusOK, r.Status == kv.StatusExists:
			n := len(r.Value)
			old := r.Value[n : n+int(r.Limit)-1]
			pieces = [3][]byte{nil, old, crlf}
			b = resp.AppendBulkHead(b, len(old))
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asKeys:
		if failed = textUnlessOK(r); failed == "" {
			pieces[0] = rs.scanAnswer(s)
		}
	case asMatching:
		switch r.Status {
		case kv.StatusOK:
			b = resp.AppendArray(b, rs.keys.n)
			at := wire.HeaderBytes - len(b)
			copy(s.reply[at:], b)
			pieces[0] = s.reply[at : wire.HeaderBytes+rs.keys.bytes]
		case kv.StatusTooLarge:
			failed = fmt.Sprintf("ERR KEYS has more than %d bytes of keys: use SCAN", rs.keysMax())
		case kv.StatusBusy:
			failed = "OOM command not allowed: no memory for the keys of KEYS now: use SCAN"
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asRandom:
		if failed = textUnlessOK(r); failed == "" {
			if k, _, _, ok := kv.NextItem(r.Value); ok {
				pieces = [3][]byte{nil, k, crlf}
				b = resp.AppendBulkHead(b, len(k))
			} else {
				b = resp.AppendNull(b, proto)
			}
		}
	case asVerbatim:
		switch r.Status {
		case kv.StatusOK:
			b = resp.AppendVerbatimHead(b, len(r.Value), proto)
			pieces[0] = s.framed(b, wire.HeaderBytes, len(r.Value))
		case kv.StatusTooSmall: // only a list may be so long
			failed = fmt.Sprintf("ERR CLIENT LIST has more than %d bytes of connections: name some by CLIENT LIST ID", int(r.Need)/2-lineMax)
		default:
			failed = resp.StatusText(r.Status, r.Key)
		}
	case asSize:
		if failed = textUnlessOK(r); failed == "" {
			pieces[0], failed = summed(s)
		}
	case asFlush:
		if failed = textUnlessOK(r); failed == "" {
			b = append(b, "+OK\r\n"...)
		}
	}
	switch m.form {
	case asKeys, asSize, asVerbatim, asFlush, asMatching, asRandom:
		rs.alone = false
	}
	m.tmp = nil
	if failed != "" && rs.failed == "" {
		rs.failed = failed
	}
	rs.sendSlot(s, m, b, pieces, failed)
}

// framed puts a head in front of n bytes of the slot's answer, from place at on, and an end of line behind them, and returns it all. There is room for both.
func (s *slot) framed(head []byte, at, n int) []byte {
	from := at - len(head)
	copy(s.reply[from:], head)
	s.reply = append(s.reply[:at+n], crlf...)
	return s.reply[from:]
}

func textUnlessOK(r *kv.Request) string {
	if r.Status == kv.StatusOK {
		return ""
	}
	return resp.StatusText(r.Status, r.Key)
}

// sendSlot sends what tellPart has put together: pieces, which lie in the slot's memory, with b as the first if there is only a second, or b alone.
func (rs *respServer) sendSlot(s *slot, m *part, b []byte, pieces [3][]byte, failed string) {
	c := rs.c
	whole := m.begin && m.end
	switch {
	case m.form == asBulk && !whole: // each value of an array may be an error
		if failed != "" {
			b = resp.AppendError(b, failed)
		}
		rs.failed = ""
	case !m.end: // a part without an answer of its own
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
	if c.out.add(b) {
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
