package stream

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/wire"
)

// Commands that walk through the keys: SCAN, KEYS, RANDOMKEY and FLUSHDB; and DBSIZE.

// beginScan begins a SCAN.
func (rs *respServer) beginScan() bool {
	o, text := resp.ReadScan(rs.args)
	if text != "" {
		return rs.reject(text)
	}
	at, ok := rs.c.h.redis.cursors.Position(o.Cursor, rs.c.h.Handler.Shards())
	switch {
	case !ok:
		return rs.reject(resp.ErrCursor)
	case o.None:
		return rs.answer()
	}
	if o.Match == nil {
		o.Match = all
	}
	var key [kv.PositionBytes]byte
	at.Put(key[:])
	return rs.beginExclusive(asKeys, kv.OpKeys, key[:], o.Count, o.Match)
}

// all is the pattern that matches all keys.
var all = []byte("*")

// pageBytes is the room for a page of a walk, in bytes, and for SCAN's answer, which is made from it in place. With the head it is a block of 64 KiB.
func pageBytes(l kv.Limits) int {
	return min(64<<10, max(l.ScanRoom(), 2*(l.MaxKeyBytes+scanHeadMax))) - wire.HeaderBytes - len(crlf)
}

// scanHeadMax bounds the bytes before the keys in SCAN's answer.
const scanHeadMax = 64

// scanAnswer makes the answer to SCAN from its request's page, in the same memory. It moves the matching keys to the end of the memory, and then one by
// one into the answer at the beginning. The answer never overwrites keys that were not moved yet: a key of at least 10 bytes is 1 to 3 bytes longer in the
// answer than in the page, and there each key takes at least 16 bytes.
func (rs *respServer) scanAnswer(s *slot) []byte {
	c := rs.c
	r := &s.req
	rest, n := c.h.matchingKeys(s.block[s.key:], r.Value, s.reply)
	cursor := uint64(0)
	if next, ok := kv.PositionIn(r.Key).Next(r.Record, c.h.Handler.Shards()); ok {
		cursor = c.h.redis.cursors.Of(next)
	}
	b := appendKeys(resp.AppendScan(s.reply[:0], cursor, n), rest)
	c.h.L.Stats.Copied += uint64(len(b))
	return b
}

// matchingKeys keeps the n keys of a page that match a pattern, and moves them to the end of room, the memory of the page.
func (h *Host) matchingKeys(pattern, page, room []byte) (rest []byte, n int) {
	match, fit := &h.redis.pattern, page[:0]
	match.Compile(pattern)
	for rest := page; ; {
		k, _, after, ok := kv.NextItem(rest)
		if !ok {
			break
		}
		if bytes.Equal(pattern, all) || match.Match(k) {
			fit = append(fit, rest[:len(rest)-len(after)]...)
			n++
		}
		rest = after
	}
	rest = room[len(room)-len(fit):]
	copy(rest, fit)
	h.L.Stats.Copied += uint64(2 * len(fit))
	return rest, n
}

// appendKeys appends a page's keys to an answer.
func appendKeys(b, page []byte) []byte {
	for {
		k, _, after, ok := kv.NextItem(page)
		if !ok {
			return b
		}
		b = resp.AppendBulk(b, k)
		page = after
	}
}

// keysWalk is a KEYS under way. The found keys are in its slot's answer, as they will be sent, after room for the head of the array. The next page of the walk is
// read into the room after them. When the block has no room for a page, it is replaced by one of twice the size. KEYS never waits for the larger block, because
// two of them could wait for each other.
type keysWalk struct {
	n     int
	bytes int
}

// keysMax bounds the answer of KEYS, in bytes: a block of the size of the largest command has room for a page after it.
func (rs *respServer) keysMax() int { return rs.commandMax() - 64<<10 - wire.HeaderBytes }

// roomForPage is the largest page, in bytes, whose keys fit into n bytes of an answer. A key grows by at most 1/16: see scanAnswer.
func roomForPage(n int) int { return min(n, 64<<10) * 16 / 17 }

// beginKeys begins a KEYS as soon as all earlier answers are sent. Its memory is then all that counts as unsent.
func (rs *respServer) beginKeys(pattern []byte) bool {
	if len(pattern) > resp.PatternMax {
		return rs.reject(resp.ErrPattern)
	}
	if rs.c.account.UnsentBytes() > 0 {
		rs.pause()
		return false
	}
	rs.keys = keysWalk{}
	var at [kv.PositionBytes]byte
	kv.PositionAt(0, kv.WalkStart).Put(at[:])
	return rs.beginExclusive(asMatching, kv.OpKeys, at[:], resp.CountMax, pattern)
}

// addKeys keeps the matching keys of a page of KEYS's walk, and continues with the next page.
func (rs *respServer) addKeys(s *slot) {
	c := rs.c
	r := &s.req
	var next kv.Position
	more := false
	if r.Status == kv.StatusOK {
		room := s.reply[wire.HeaderBytes+rs.keys.bytes:]
		rest, n := c.h.matchingKeys(s.block[s.key:], r.Value, room)
		b := appendKeys(room[:0], rest)
		c.h.L.Stats.Copied += uint64(len(b))
		rs.keys.n += n
		rs.keys.bytes += len(b)
		next, more = kv.PositionIn(r.Key).Next(r.Record, c.h.Handler.Shards())
		switch room = room[len(b):]; {
		case rs.keys.bytes > rs.keysMax():
			r.Status = kv.StatusTooLarge
		case more && len(room) < 2*(c.h.O.Limits.MaxKeyBytes+scanHeadMax) && !rs.growAnswer(s):
			r.Status = kv.StatusBusy
		}
	}
	if !more || r.Status != kv.StatusOK {
		rs.done(&rs.parts[s.Index])
		return
	}
	room := s.reply[wire.HeaderBytes+rs.keys.bytes:]
	next.Put(s.block)
	r.Value = room[:0:roomForPage(len(room))]
	rs.nextPage(s)
}

// keysAnswer returns the answer to KEYS: head, the head of the array, and then the keys, which are not moved.
func (rs *respServer) keysAnswer(s *slot, head []byte) []byte {
	head = resp.AppendArray(head, rs.keys.n)
	at := wire.HeaderBytes - len(head)
	copy(s.reply[at:], head)
	return s.reply[at : wire.HeaderBytes+rs.keys.bytes]
}

// nextPage submits the request for the next page of a walk, whose position and room were set.
func (rs *respServer) nextPage(s *slot) {
	s.req.Status, s.req.Need = 0, 0
	rs.c.countRequest()
	rs.c.h.Handler.Submit(&s.req)
}

// growAnswer gives KEYS's answer a block of twice the size; false: there is no memory now.
func (rs *respServer) growAnswer(s *slot) bool {
	c := rs.c
	n := min(2*cap(s.reply), rs.commandMax())
	b := c.account.AllocLarger(n)
	if b == nil {
		return false
	}
	c.h.L.Stats.Copied += uint64(copy(b, s.reply[:wire.HeaderBytes+rs.keys.bytes]))
	c.releaseReply(s)
	s.reply = b[:cap(b)]
	c.account.AddUnsent(&s.Claim, b)
	return true
}

// randomDraw is a RANDOMKEY under way. It draws a partition, all with the same probability, and in it a random record number, up to that of the walk's first key. The answer is
// the first key that a walk finds below that number. Keys are spread over the partitions by their hash, so the choice of the partition is fair. Within a partition, a
// key's probability is proportional to its length plus the free memory behind it, where keys were deleted; the walk's first key has the smallest. If a
// partition has no keys, the next one is searched.
type randomDraw struct {
	left  int // number of partitions left to search, including the present one
	state drawState
}

type drawState uint8

const (
	drawFirst drawState = iota // searches the walk's first key
	drawBelow                  // searches a key below a random record number
	drawAny                    // found none: searches the walk's first key again, as the answer
)

// beginRandom begins a RANDOMKEY.
func (rs *respServer) beginRandom() bool {
	shards := rs.c.h.Handler.Shards()
	var at [kv.PositionBytes]byte
	kv.PositionAt(int(rs.c.h.redis.random(uint64(shards))), kv.WalkStart).Put(at[:])
	rs.draw = randomDraw{left: shards}
	return rs.beginExclusive(asRandom, kv.OpKeys, at[:], 1, nil)
}

// pickKey handles the result of a RANDOMKEY's search. It ends: after the first three searches in a partition, each further one excludes a part of it, or all.
func (rs *respServer) pickKey(s *slot) {
	d, r := &rs.draw, &s.req
	at, found := kv.PositionIn(r.Key), len(r.Value) > 0
	switch {
	case r.Status != kv.StatusOK, found && d.state != drawFirst:
		rs.done(&rs.parts[s.Index])
		return
	case found:
		d.state = drawBelow
		at = kv.PositionAt(at.Shard(), 1+uint32(rs.c.h.redis.random(uint64(r.Record)+1)))
	case r.Record != kv.WalkEnd: // the steps were used up: a long range has no keys
		at = kv.PositionAt(at.Shard(), r.Record)
	case d.state == drawBelow:
		d.state = drawAny
		at = kv.PositionAt(at.Shard(), kv.WalkStart)
	default:
		if d.left--; d.left == 0 {
			rs.done(&rs.parts[s.Index])
			return
		}
		d.state = drawFirst
		at = kv.PositionAt((at.Shard()+1)%rs.c.h.Handler.Shards(), kv.WalkStart)
	}
	at.Put(s.block)
	r.Value = r.Value[:0]
	rs.nextPage(s)
}

// textBytes is the first guess for the length of a text about the server.
const textBytes = 4<<10 - wire.HeaderBytes - len("\r\n")

// sizeAnswer returns the answer to DBSIZE, from the server's counters.
func sizeAnswer(slot *slot) (b []byte, failed string) {
	c, err := readBrief(slot.req.Value)
	if err != nil {
		return nil, "ERR kvwire: its counters cannot be read: " + err.Error()
	}
	return resp.AppendInt(slot.small[:0:ownBytes], int64(c.items())), ""
}

// brief is the part of a kv.StatsBrief reply that Redis's commands use.
type brief struct {
	Stores []struct {
		Items uint64 `json:"items"`
	} `json:"stores"`
	Process struct{ User, Sys time.Duration } `json:"process"`
}

func readBrief(b []byte) (c brief, err error) {
	err = json.Unmarshal(b, &c)
	return c, err
}

func (c *brief) items() (n uint64) {
	for _, of := range c.Stores {
		n += of.Items
	}
	return n
}

// flushWalk is the state of a FLUSHDB.
type flushWalk struct {
	slot    *slot // the slot with the page whose keys are being deleted; nil: none
	deletes int   // deletes that have not returned
}

// deletePage deletes the keys of a page of FLUSHDB's walk, and continues with the next page. Each key is deleted when the walk reaches it, and the walk ends
// even if other connections write meanwhile.
func (rs *respServer) deletePage(s *slot) {
	c := rs.c
	q := &s.req
	if q.Status != kv.StatusOK {
		rs.done(&rs.parts[s.Index])
		return
	}
	for rest := q.Value; ; {
		k, _, after, ok := kv.NextItem(rest)
		if !ok {
			break
		}
		rest = after
		d := &c.slots[c.free[len(c.free)-1]]
		c.free = c.free[:len(c.free)-1]
		rs.parts[d.Index] = part{form: asNone}
		d.block, d.reply = nil, nil
		r := &d.req
		r.Op, r.Status, r.If, r.Key, r.Value, r.Stages = kv.OpDelete, 0, kv.Always, k, nil, nil // the keys stay in the page
		rs.flush.deletes++
		c.countRequest()
		c.h.Handler.Submit(r)
	}
	if rs.flush.slot = s; rs.flush.deletes == 0 {
		rs.nextFlushPage()
	}
}

// deleted is called when a delete of a flush has returned. After the first failure no more deletes begin; the flush waits for those under way.
func (rs *respServer) deleted(d *slot) {
	if q := &rs.flush.slot.req; q.Status == kv.StatusOK && d.req.Status != kv.StatusNotFound {
		q.Status = d.req.Status
	}
	rs.c.release(d)
	if rs.flush.deletes--; rs.flush.deletes == 0 {
		rs.nextFlushPage()
	}
}

// nextFlushPage requests the next page of a flush when the present page is deleted, or ends the flush.
func (rs *respServer) nextFlushPage() {
	c := rs.c
	s := rs.flush.slot
	rs.flush.slot = nil
	next, ok := kv.PositionIn(s.req.Key).Next(s.req.Record, c.h.Handler.Shards())
	if !ok || s.req.Status != kv.StatusOK {
		rs.done(&rs.parts[s.Index])
		return
	}
	next.Put(s.block)
	c.releaseReply(s)
	s.req.Limit = uint32(c.depth)
	rs.submit(s)
}
