package store

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/kvwire/kvwire/kv"
)

// An update is a change whose new value depends on the present one. It reads the present value first, and reserves nothing meanwhile. Then, in the
// same step, it computes the new value and continues as a put, so that no other change of the key comes between.

// readToUpdate reads the item that r updates, and continues r when it has been read.
func (p *Partition) readToUpdate(r *kv.Request, rec uint32) {
	it, s, ok := p.fetchItem(r, rec)
	switch {
	case !ok: // it is run again
	case s != kv.StatusOK:
		p.finish(r, s)
	default:
		p.changeFrom(r, rec, true, it.value)
	}
}

// updateLarge continues an update with a large item that was read, if it is still the key's item. Else it begins the update again.
func (p *Partition) updateLarge(r *kv.Request, at place, whole []byte) {
	if p.closing {
		p.abort(r, kv.StatusClosed)
		return
	}
	rec, found := p.index.Find(r.Key)
	if !found || p.index.Flags(rec)&(flagBusy|flagHidden|flagTomb) != 0 || p.placeOf(rec) != at {
		p.change(r)
		return
	}
	it, s := p.verifyItem(whole, r.Key)
	if s != kv.StatusOK {
		p.finish(r, s)
		return
	}
	p.changeFrom(r, rec, true, it.value)
}

// updatedBytes returns the length of a change's new value, or the status with which the change fails. It changes only r.Need, except for a swap
// that requires an absent key: if the key is present, r gets the present value.
func updatedBytes(r *kv.Request, old []byte, there bool, most int) (bytes int, s kv.Status) {
	switch r.Op {
	case kv.OpDelete:
		return 0, kv.StatusOK
	case kv.OpTake:
		return 0, checkRoom(r, len(old))
	case kv.OpPatch:
		bytes = max(len(old), int(r.Limit)+len(r.Value))
		if bytes > most {
			return 0, kv.StatusTooLarge
		}
		return bytes, checkRoom(r, bytes)
	case kv.OpAdd:
		sum, s := operandSum(r, old, there)
		if s != kv.StatusOK {
			return 0, s
		}
		var digits [kv.AddBytes]byte
		return len(strconv.AppendInt(digits[:0], sum, 10)), kv.StatusOK
	case kv.OpAppend:
		return len(old) + len(r.Value), checkReadRoom(r, len(old), most)
	case kv.OpSwap:
		if s := checkReadRoom(r, len(old), most); s != kv.StatusOK {
			return 0, s
		}
		if there && r.If == kv.IfAbsent {
			applyUpdate(r, old, there)
			return 0, kv.StatusExists
		}
	}
	return len(r.Value), kv.StatusOK
}

// applyUpdate replaces r.Value by the value to write. It must be called once per request.
func applyUpdate(r *kv.Request, old []byte, there bool) {
	switch r.Op {
	case kv.OpAdd:
		sum, _ := operandSum(r, old, there)
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
		copy(v[at:], r.Value) // first, because r.Value and v share memory
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

// operandSum returns the sum of the present number and r's operand.
func operandSum(r *kv.Request, old []byte, there bool) (int64, kv.Status) {
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
