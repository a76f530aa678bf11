//go:build rdma && cgo && linux

package rdma

import (
	"errors"
	"fmt"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// driver moves the messages of all links of one member: it polls their one completion queue, and posts the turn's work
// requests together. It is that member's part that endpoint and connection share.
type driver struct {
	l       *loop.Loop
	id      loop.MemberID
	o       Options
	nic     *nic
	links   stream.Table[*link]
	touched stream.Touched[*link]
	owners  []*link // of the batch's work requests
	broken  []broken
	found   []verbs.Completion // what Arm found, for the next Poll
	armed   bool               // an event will tell of the next completion
	idle    bool               // the last Poll found nothing

	listenAt int64 // when clients' connections are looked at next; 0: none waits for an answer
	failed   error // something could not be freed: our own bug, or the device is gone
	iov      [verbs.MaxSGE]unix.Iovec
}

// broken is a link whose work request was refused.
type broken struct {
	l   *link
	err error
}

// Tags of what is no link.
const (
	tagListener = 1 << 55
	tagCQ       = 1 << 54
	tagAsync    = 1 << 53
)

// open opens the device for this member. On its loop.
func (d *driver) open(c device.Choice) error {
	n, err := openNIC(c, d.o, &d.l.Stats)
	if err != nil {
		return err
	}
	if err := d.l.WatchRarely(d.id, n.dev.AsyncFd, unix.EPOLLIN, tagAsync); err != nil {
		return errors.Join(err, n.close())
	}
	// Spinning loops never arm, so that the channel stays silent there.
	if err := d.l.WatchRarely(d.id, n.cq.Fd, unix.EPOLLIN, tagCQ); err != nil {
		d.l.UnwatchRarely(d.id, n.dev.AsyncFd, tagAsync)
		return errors.Join(err, n.close())
	}
	d.nic = n
	return nil
}

func (d *driver) shut() error {
	if d.nic == nil {
		return nil
	}
	d.l.UnwatchRarely(d.id, d.nic.cq.Fd, tagCQ)
	d.l.UnwatchRarely(d.id, d.nic.dev.AsyncFd, tagAsync)
	err := d.nic.close()
	d.nic = nil
	return errors.Join(d.failed, err)
}

// event takes the readiness of a descriptor.
func (d *driver) event(tag uint64) {
	switch tag {
	case tagCQ:
		d.l.Stats.Syscalls++
		if d.nic != nil && d.nic.cq.Drain() > 0 {
			d.armed = false
		}
	case tagAsync:
		d.async()
	default:
		if l := d.links.Get(tag); l != nil {
			(*l).control()
		}
	}
}

// Kinds of asynchronous events, of ibv_event_type.
const (
	eventCQError     = 0
	eventQPFatal     = 1
	eventQPRequest   = 2
	eventQPAccess    = 3
	eventDeviceFatal = 8
)

func (d *driver) async() {
	for d.nic != nil {
		kind, qp, ok := d.nic.dev.Async()
		d.l.Stats.Syscalls++
		if !ok {
			return
		}
		switch kind {
		case eventCQError, eventDeviceFatal:
			d.failAll(fmt.Errorf("%w: the device %s failed or was removed (event %d)", transport.ErrPeerGone, d.nic.name, kind))
		case eventQPFatal, eventQPRequest, eventQPAccess:
			d.links.Each(func(_ uint64, l **link) {
				if k := *l; k.qp != nil && k.qp.Num == qp {
					k.ended(k, fmt.Errorf("%w: the queue pair failed (event %d)", transport.ErrPeerGone, kind))
				}
			})
		}
	}
}

// failAll ends all connections.
func (d *driver) failAll(err error) {
	d.links.Each(func(_ uint64, l **link) { (*l).ended(*l, err) })
}

// Poll is loop.Member's.
func (d *driver) Poll() int {
	if d.nic == nil {
		return 0
	}
	n := len(d.found)
	d.reap(d.found)
	d.found = nil
	for d.nic != nil {
		var cs []verbs.Completion
		var err error
		if d.idle && n == 0 && d.l.Spins() {
			cs, err = d.nic.cq.Spin(spinPolls)
		} else {
			cs, err = d.nic.cq.Poll()
		}
		d.l.Stats.Polls++
		if err != nil {
			d.failAll(err)
			break
		}
		if len(cs) == 0 {
			d.l.Stats.EmptyPolls++
			break
		}
		n += len(cs)
		d.reap(cs)
		if len(cs) < verbs.PollMax {
			break
		}
	}
	d.idle = n == 0
	return n
}

// spinPolls is how often a loop that spins, and has found nothing, polls within one call into C: a completion is seen
// sooner there than by the next turn, and the loop's other members wait no longer than for a system call.
const spinPolls = 64

func (d *driver) reap(cs []verbs.Completion) {
	d.l.Stats.WCs += uint64(len(cs))
	for i := range cs {
		c := &cs[i]
		var l *link
		if s := d.nic.shared; s != nil && c.WR>>wrTagShift == 0 && c.WR&wrRecv != 0 {
			if l = s.byQP[c.QP]; l == nil {
				_ = s.post(uint32(c.WR)&(wrRecv-1), d.nic.batch) // of a queue pair that is gone
				continue
			}
		} else if row := d.links.Get(c.WR >> wrTagShift); row != nil {
			l = *row
		}
		if l == nil || l.closed {
			continue // of a queue pair that is gone
		}
		var err error
		switch {
		case c.Status == verbs.StatusFlushed:
			err = transport.ErrPeerGone
		case c.Status != 0 && c.WR&wrRecv == 0 && l.sq[c.WR&(wrRecv-1)].bind:
			err = fmt.Errorf("rdma: bind a memory window on %s: %s (vendor's code %#x; --rdma-verb send needs none)", d.nic.name, verbs.StatusText(c.Status), c.Vendor)
			l.refuse(err)
		case c.Status != 0:
			err = fmt.Errorf("%w: %s (vendor's code %#x)", transport.ErrPeerGone, verbs.StatusText(c.Status), c.Vendor)
		case c.WR&wrRecv != 0:
			err = l.received(c)
		default:
			l.done(uint32(c.WR) & (wrRecv - 1))
		}
		if err != nil {
			l.ended(l, err)
		}
	}
}

// Arm is loop.Armer's.
func (d *driver) Arm() (bool, error) {
	if d.nic == nil || d.armed {
		return false, nil
	}
	d.l.Stats.Syscalls++
	d.l.Stats.Polls++
	cs, err := d.nic.cq.Arm()
	if err != nil {
		d.failAll(err)
		return true, nil
	}
	d.armed = true
	d.found = cs
	return len(cs) > 0, nil
}

// flush takes what waited for memory, and posts the turn's receives and messages.
func (d *driver) flush() {
	list := d.touched.Take(d.l)
	for _, l := range list {
		l.listed = false
		if l.up && !l.closed {
			if err := l.take(); err != nil {
				l.ended(l, err)
			}
		}
	}
	for _, l := range list {
		switch {
		case l.closed:
		case l.up:
			l.stage()
		case l.qp == nil || l.ours != keyUnbound || l.d.o.Connect == ByCM: // else the hello waits for the window
			l.greet()
		}
	}
	d.post()
	for i, l := range list {
		list[i] = nil
		if l.up && !l.closed {
			l.tell()
			l.finish()
		}
	}
	for i, b := range d.broken {
		d.broken[i] = broken{}
		if !b.l.closed {
			b.l.ended(b.l, b.err)
		}
	}
	d.broken = d.broken[:0]
}

// post hands the batch to the device: receives first, since the messages say how many there are.
func (d *driver) post() {
	if err := d.nic.batch.PostRecvs(); err != nil {
		d.failAll(err)
		return
	}
	first := 0
	for d.nic.batch.Len() > 0 {
		bells, done, err := d.nic.batch.Post(d.o.PostBatch)
		d.l.Stats.Bells += uint64(bells)
		d.l.Stats.WRs += uint64(done)
		if d.nic.writes {
			d.l.Stats.Syscalls += uint64(bells)
		}
		if err != nil {
			d.broken = append(d.broken, broken{d.owners[first+done], err})
			first += done + 1
		}
	}
	clear(d.owners)
	d.owners = d.owners[:0]
}

// control takes the readiness of the TCP connection: before the hellos are done bytes of them, then nothing but
// its end.
func (l *link) control() {
	for !l.closed {
		var w [2][]byte
		var b [16]byte
		w[0] = b[:]
		if !l.up && l.side.Window(&w) == 0 {
			return
		}
		n, err := sys.Recv(l.fd, w[0])
		l.d.l.Stats.Syscalls++
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR):
		case err != nil:
			l.ended(l, fmt.Errorf("%w: %w", transport.ErrPeerGone, err))
		case n == 0:
			l.d.Poll() // what it sent before, a refusal say, is here already
			if !l.closed {
				l.ended(l, transport.ErrPeerGone)
			}
		case l.up:
			l.ended(l, fmt.Errorf("%w: %d bytes after the hello", transport.ErrProtocol, n))
		default:
			if err := l.side.Received(n, 0); err != nil {
				l.ended(l, err)
			}
		}
	}
}

// greet sends a challenge, our hello, or a refusal, by TCP.
func (l *link) greet() {
	var v [1]unix.Iovec
	for l.side.Gather(v[:], stream.GatherBytes) > 0 {
		b := sys.IovecBytes(&v[0])
		n, err := unix.Write(l.fd, b)
		l.d.l.Stats.Syscalls++
		if err != nil || n < len(b) { // a new connection's buffer has room for it
			l.ended(l, fmt.Errorf("%w: the hello could not be sent: %d of %d B: %w", transport.ErrPeerGone, n, len(b), err))
			return
		}
		l.side.Sent(n)
	}
	if l.qp != nil {
		l.up = true
		l.Touch()
	}
	l.finish()
}

// finish tells the peer, by the end of the TCP connection, that all has been said.
func (l *link) finish() {
	if !l.halved && l.side.Finished() && (!l.up || l.drained()) {
		l.halved = true
		_ = unix.Shutdown(l.fd, unix.SHUT_WR)
		l.d.l.Stats.Syscalls++
	}
}

// close ends the connection; err is told to its side.
func (l *link) close(err error) {
	if l.closed {
		return
	}
	l.release()
	_ = unix.Close(l.fd)
	l.d.l.Stats.Syscalls++
	l.destroy()
	l.side.Drop(err)
}

// release takes the link off the loop and leaves the descriptor open.
func (l *link) release() {
	l.closed = true
	l.d.l.UnwatchRarely(l.d.id, l.fd, l.tag)
	l.d.links.Drop(l.tag)
}
