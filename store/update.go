package store

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/kvwire/kvwire/kv"
)

// An update is a change whose new value follows from the one that is there. It reads that first; nothing is taken for it meanwhile, and
// when it is at hand, the update becomes a put of what it makes of it, in the same step. So nobody comes in between.

// readToUpdate reads the item that r updates, and goes on when that is at hand.
func (p *Partition) readToUpdate(r *kv.Request, rec uint32) {
	it, s, ok := p.itemOf(r, rec)
	switch {
	case !ok: // it is run again
	case s != kv.StatusOK:
		p.finish(r, s)
	default:
		p.changeFrom(r, rec, true, it.value)
	}
}

// updateLarge goes on with what was read of a slot, if the key still has it: a slot that is read stays as it is.
func (p *Partition) updateLarge(r *kv.Request, at place, whole []byte) {
	if p.closing {
		p.abort(r, kv.StatusClosed)
		return
	}
	rec, found := p.index.Find(r.Key)
	if !found || p.index.Flags(rec)&(flagBusy|flagHidden|flagTomb) != 0 || p.at(rec) != at {
		p.change(r)
		return
	}
	it, s := p.judge(whole, r.Key)
	if s != kv.StatusOK {
		p.finish(r, s)
		return
	}
	p.changeFrom(r, rec, true, it.value)
}

// updated returns the length of a change's value, or the status with which the change fails. It changes nothing but r.Need; a swap whose key has
// to be absent, and is not, gives what is there.
func updated(r *kv.Request, old []byte, there bool, most int) (bytes int, s kv.Status) {
	switch r.Op {
	case kv.OpDelete:
		return 0, kv.StatusOK
	case kv.OpTake:
		return 0, roomFor(r, len(old))
	case kv.OpPatch:
		bytes = max(len(old), int(r.Limit)+len(r.Value))
		if bytes > most {
			return 0, kv.StatusTooLarge
		}
		return bytes, roomFor(r, bytes)
	case kv.OpAdd:
		sum, s := added(r, old, there)
		if s != kv.StatusOK {
			return 0, s
		}
		var digits [kv.AddBytes]byte
		return len(strconv.AppendInt(digits[:0], sum, 10)), kv.StatusOK
	case kv.OpAppend:
		return len(old) + len(r.Value), roomToRead(r, len(old), most)
	case kv.OpSwap:
		if s := roomToRead(r, len(old), most); s != kv.StatusOK {
			return 0, s
		}
		if there && r.If == kv.IfAbsent {
			update(r, old, there)
			return 0, kv.StatusExists
		}
	}
	return len(r.Value), kv.StatusOK
}

// update makes r.Value what is to be put. It is done once.
func update(r *kv.Request, old []byte, there bool) {
	switch r.Op {
	case kv.OpAdd:
		sum, _ := added(r, old, there)
		r.Value = strconv.AppendInt(r.Value[:0], sum, 10)
	case kv.OpAppend:
		v := r.Value[:len(old)+len(r.Value)]
		copy(v[len(old):], r.Value)
		copy(v, old)
		r.Value = v
	case kv.OpTake:
		r.Value = append(r.Value[:0], old...)
	case kv.OpPatch:
		n, at := len(r.Value), int(r.Limit)
		v := r.Value[:max(len(old), at+n)]
		copy(v[at:], r.Value) // before what is in its place
		copy(v[:at], old)
		clear(v[min(len(old), at):at])
		if len(old) > at+n {
			copy(v[at+n:], old[at+n:])
		}
		r.Value = v
	case kv.OpSwap:
		r.Limit = 0
		if there {
			n := len(r.Value)
			copy(r.Value[n:n+len(old)], old)
			r.Limit = uint32(len(old)) + 1
		}
	}
}

// added is the sum of an item and an operand.
func added(r *kv.Request, old []byte, there bool) (int64, kv.Status) {
	by := int64(binary.LittleEndian.Uint64(r.Value))
	if !there {
		return by, kv.StatusOK
	}
	n, ok := kv.Int(old)
	switch {
	case !ok:
		return 0, kv.StatusNoNumber
	case by > 0 && n > math.MaxInt64-by, by < 0 && n < math.MinInt64-by:
		return 0, kv.StatusOverflow
	}
	return n + by, kv.StatusOK
}
