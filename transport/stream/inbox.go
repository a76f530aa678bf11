package stream

// inbox cuts received bytes into headers and payloads. Small messages pass through buf; what is
// left of a larger payload is received in place, together with what follows it.
type inbox struct {
	buf    []byte
	rd, wr int
	rest   []byte // of a payload, to be received in place; buf is empty while there is some
}

func (b *inbox) window(w *[2][]byte) int {
	if len(b.rest) == 0 {
		w[0] = b.buf[b.wr:]
		return 1
	}
	w[0], w[1] = b.rest, b.buf
	return 2
}

// received advances by n bytes and reports whether a payload that was received in place is whole.
func (b *inbox) received(n int) (whole bool) {
	if len(b.rest) > 0 {
		k := min(n, len(b.rest))
		b.rest = b.rest[k:]
		n -= k
		whole = len(b.rest) == 0
	}
	b.wr += n
	return whole
}

// unread are the bytes that have not been parsed.
func (b *inbox) unread() []byte { return b.buf[b.rd:b.wr] }

// consume goes behind n bytes that were parsed.
func (b *inbox) consume(n int) {
	if b.rd += n; b.rd == b.wr {
		b.rd, b.wr = 0, 0
	}
}

// receiveInto moves what is there of a payload to dst and leaves the rest to be received in place. It
// returns the bytes copied, and whether the payload is whole.
func (b *inbox) receiveInto(dst []byte) (copied int, whole bool) {
	k := copy(dst, b.buf[b.rd:b.wr])
	b.consume(k)
	if k == len(dst) {
		return k, true
	}
	b.rest = dst[k:]
	return k, false
}

// goOn moves what there is of rest from buf.
func (b *inbox) goOn() (copied int, whole bool) {
	k := copy(b.rest, b.buf[b.rd:b.wr])
	b.rest = b.rest[k:]
	b.consume(k)
	return k, len(b.rest) == 0
}

// compact makes room for the rest of a header. At most a header's bytes are left over.
func (b *inbox) compact() {
	if b.rd == 0 {
		return
	}
	b.wr = copy(b.buf, b.buf[b.rd:b.wr])
	b.rd = 0
}

// partial reports whether a message has begun and is not whole.
func (b *inbox) partial() bool { return b.rd < b.wr || len(b.rest) > 0 }
