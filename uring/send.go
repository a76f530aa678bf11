package uring

import (
	"math"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// gatherMax is the most pieces of one send. Each socket has room for them, because the kernel uses them
// until the send completes.
const gatherMax = 64

// sending is the state of a socket's send: one at a time, else the bytes of two would mix. It is one entry, or a chain of entries.
type sending struct {
	entries       int   // entries in flight
	notifications int   // completed zero-copy entries whose notification (memory free) has not come
	want          int   // bytes
	done          int   // of these, bytes of completed entries
	err           error // the first error
	copies        bool  // sends are with copy: the kernel may not hold more memory, or it is a unix socket
	silent        bool  // the entry in flight completes only if it fails, and may not wait for room in the socket's buffer
	full          bool  // such an entry found no room for all bytes: the next one waits

	msg    unix.Msghdr
	iov    [gatherMax]unix.Iovec
	chain  *chain        // Linked: while one is in flight
	pieces *ring.Buffers // Bundle: the socket's own group, which is empty while nothing is in flight
}

// chain is what a chain's entries point to: sized for the longest one.
type chain struct {
	msg []unix.Msghdr
	iov []unix.Iovec
}

// busy reports whether the kernel uses memory of the side.
func (o *sending) busy() bool { return o.entries > 0 || o.notifications > 0 }

const sendFlags = unix.MSG_NOSIGNAL

// send sends the queued bytes; false: the ring is full.
func (s *socket) send() bool {
	o, d := &s.out, s.d
	if o.busy() {
		return true
	}
	room := stream.GatherBytes
	if d.o.Large == Once {
		room = math.MaxInt32
	}
	k := s.side.Gather(o.iov[:], room)
	if k == 0 {
		switch {
		case s.sendShut || !s.side.Finished():
		case s.in.eof:
			s.onEnd(s, transport.ErrPeerGone)
		default:
			s.sendShut = true
			_ = unix.Shutdown(s.fd, unix.SHUT_WR)
			d.l.Stats.Syscalls++
		}
		return true
	}
	o.want, o.done, o.err = 0, 0, nil
	for i := range o.iov[:k] {
		o.want += int(o.iov[i].Len)
	}
	if d.o.Large == Linked && o.want > d.o.ChunkBytes {
		return s.sendChain(k)
	}
	flags := sendFlags
	if d.o.waits() {
		flags |= unix.MSG_WAITALL // the kernel continues a short send. A rest that it still leaves is sent again
	}
	zero := d.o.Large == ZeroCopy && o.want >= d.o.ZeroCopyBytes && !o.copies
	silent := d.skips && !zero && !o.full && k < gatherMax && o.want < stream.GatherBytes && s.sentCanWait()
	if silent {
		flags |= unix.MSG_DONTWAIT
	}
	e := d.l.SocketSQE(d.id, kindSend<<kindShift|s.tag)
	if e == nil {
		return false
	}
	if k > 1 {
		o.msg = unix.Msghdr{Iov: &o.iov[0]}
		o.msg.SetIovlen(k)
	}
	switch {
	case k == 1 && zero:
		e.SendZC(s.fd, sys.IovecBytes(&o.iov[0]), flags)
	case k == 1:
		e.Send(s.fd, sys.IovecBytes(&o.iov[0]), flags)
	case zero:
		e.SendmsgZC(s.fd, &o.msg, flags)
	case d.o.Bundle && s.bundle(k):
		e.SendBundle(s.fd, o.pieces.Group(), flags)
	default:
		e.Sendmsg(s.fd, &o.msg, flags)
	}
	s.useFile(e)
	if o.entries, o.silent = 1, silent; silent {
		e.SkipSuccess()
		d.silent = append(d.silent, s)
		d.silentTo = d.l.Sockets().Mark()
	}
	d.count.Sends++
	return true
}

// sentCanWait reports whether nothing waits for the completion of a send of all queued bytes. Then the loop may sleep until the next event, and enters the kernel once for a
// request instead of twice. At a client's end the next event is the answer.
func (s *socket) sentCanWait() bool {
	c, ok := s.side.(*stream.Server)
	return !ok || c.SentCanWait()
}

// settle ends the silent sends of earlier turns that have not failed. The ring's completions were handled before.
func (d *ringEngine) settle() {
	if len(d.silent) == 0 || !d.l.Sockets().Settled(d.silentTo) {
		return
	}
	for i, s := range d.silent {
		d.silent[i] = nil
		if s.out.silent {
			s.event(kindSend, int32(s.out.want), 0)
		}
	}
	d.silent = d.silent[:0]
}

// sendChain sends the first k pieces as a chain of entries, of which each begins when the one before it has sent all.
func (s *socket) sendChain(k int) bool {
	o, d := &s.out, s.d
	chunk := d.o.ChunkBytes
	n := (o.want + chunk - 1) / chunk
	if !d.l.Sockets().Room(n) {
		return false
	}
	c := d.chain()
	o.chain = c
	at := 0 // in c.iov
	i, off := 0, 0
	for j := range n {
		first, room := at, chunk
		for room > 0 && i < k {
			b := sys.IovecBytes(&o.iov[i])[off:]
			if len(b) > room {
				b = b[:room]
				off += room
			} else {
				i, off = i+1, 0
			}
			sys.SetIovec(&c.iov[at], b)
			room -= len(b)
			at++
		}
		c.msg[j] = unix.Msghdr{Iov: &c.iov[first]}
		c.msg[j].SetIovlen(at - first)
		e := d.l.SocketSQE(d.id, kindSend<<kindShift|s.tag) // there is room
		e.Sendmsg(s.fd, &c.msg[j], sendFlags|unix.MSG_WAITALL)
		s.useFile(e)
		if j < n-1 {
			e.Link()
		}
	}
	o.entries = n
	d.count.Sends += uint64(n)
	return true
}

func (d *ringEngine) chain() *chain {
	if n := len(d.chains); n > 0 {
		c := d.chains[n-1]
		d.chains = d.chains[:n-1]
		return c
	}
	longest := (stream.GatherBytes + d.o.ChunkBytes - 1) / d.o.ChunkBytes
	return &chain{make([]unix.Msghdr, longest), make([]unix.Iovec, gatherMax+longest)}
}

// sent handles the completion of a send.
func (s *socket) sent(res int32, flags uint32) {
	o, count := &s.out, s.d.count
	if flags&ring.CQEFNotif != 0 {
		o.notifications--
		count.ZeroCopies++
		if res&ring.NotifCopied != 0 {
			count.ZeroCopied++
		}
	} else {
		if flags&ring.CQEFMore == 0 {
			o.entries--
		} else if flags&ring.CQEFBuffer == 0 {
			o.entries--
			o.notifications++
		}
		switch {
		case res >= 0:
			o.done += int(res)
		case retryable(res), res == -int32(unix.ECANCELED): // of a chain: an earlier entry was short
		case res == -int32(unix.ENOMEM) && s.d.o.Large == ZeroCopy && !o.copies:
			o.copies = true
		case o.err == nil:
			o.err = peerError(res)
		}
	}
	if o.busy() {
		return
	}
	if o.chain != nil {
		s.d.chains = append(s.d.chains, o.chain)
		o.chain = nil
	}
	short := o.done < o.want
	silent := o.silent
	o.full, o.silent = silent && short, false
	if o.pieces != nil && short {
		o.closePieces() // pieces left in the group are not the next bytes
	}
	switch {
	case s.closing:
		return
	case o.err != nil:
		s.onEnd(s, o.err)
		return
	case short && !silent: // a silent one was not to wait for room
		count.Shorts++
	}
	if c, ok := s.side.(truncationMarker); ok && short && s.d.o.Large == Once {
		c.MarkSendTruncated()
	}
	if o.done > 0 {
		s.side.Sent(o.done)
	}
}

// bundle puts the first k pieces into the socket's own group; false: it has no group and cannot get one.
func (s *socket) bundle(k int) bool {
	o := &s.out
	if o.pieces == nil {
		var err error
		if o.pieces, err = s.d.l.Sockets().Provide(gatherMax, 0); err != nil {
			o.pieces = nil
			return false
		}
		s.d.l.Stats.Syscalls++
	}
	for i := range k {
		o.pieces.Add(sys.IovecBytes(&o.iov[i]), i)
	}
	o.pieces.Publish()
	return true
}

// closePieces frees the socket's own group of provided buffers.
func (o *sending) closePieces() {
	if o.pieces != nil {
		o.pieces.Close()
		o.pieces = nil
	}
}
