package stream

// inbox splits received bytes into headers and payloads. Small messages pass through buf. The rest of a
// larger payload is received in place, together with the bytes that follow it.
type inbox struct {
	buf    []byte
	rd, wr int
	rest   []byte // the part of a payload that is still to be received in place; while it is not empty, buf is
}

func (b *inbox) recvBuffers(w *[2][]byte) int {
	if len(b.rest) == 0 {
		w[0] = b.buf[b.wr:]
		return 1
	}
	w[0], w[1] = b.rest, b.buf
	return 2
}

// received counts n received bytes and reports whether the payload that was received in place is now complete.
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

// unread returns the bytes that have not been parsed.
func (b *inbox) unread() []byte { return b.buf[b.rd:b.wr] }

// consume removes n parsed bytes.
func (b *inbox) consume(n int) {
	if b.rd += n; b.rd == b.wr {
		b.rd, b.wr = 0, 0
	}
}

// receiveInto copies the received part of a payload to dst; the rest will be received in place. It
// returns the number of bytes copied, and whether the payload is complete.
func (b *inbox) receiveInto(dst []byte) (copied int, whole bool) {
	k := copy(dst, b.buf[b.rd:b.wr])
	b.consume(k)
	if k == len(dst) {
		return k, true
	}
	b.rest = dst[k:]
	return k, false
}

// copyToRest copies bytes of the payload from buf to rest. Its results are those of receiveInto.
func (b *inbox) copyToRest() (copied int, whole bool) {
	k := copy(b.rest, b.buf[b.rd:b.wr])
	b.rest = b.rest[k:]
	b.consume(k)
	return k, len(b.rest) == 0
}

// compact moves the unread bytes, less than a header, to the beginning of buf, to make room for the rest.
func (b *inbox) compact() {
	if b.rd == 0 {
		return
	}
	b.wr = copy(b.buf, b.buf[b.rd:b.wr])
	b.rd = 0
}

// partial reports whether a message has begun and is not complete.
func (b *inbox) partial() bool { return b.rd < b.wr || len(b.rest) > 0 }
