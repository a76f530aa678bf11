//go:build rdma && cgo && linux

package rdma

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// driver moves the messages of all links of one member: it polls their one completion queue, and posts the turn's work
// requests together. It is that member's part that endpoint and connection share.
type driver struct {
	l       *loop.Loop
	count   *transport.Counters // of its loop
	id      loop.MemberID
	o       Options
	number  int // among the members that use a device: which interrupt its completions have
	nic     *nic
	before  func() // called before the device is closed; nil: nothing is to be done
	links   stream.Table[*link]
	awaited map[verbs.CMToken]*link // of a server: those that rdma_cm will connect
	touched stream.Touched[*link]
	owners  []*link // of the batch's work requests
	broken  []broken
	found   []verbs.Completion // what Arm found, for the next Poll
	later   []verbs.Completion // what drain found of others, likewise
	events  []event            // what drain found of asynchronous events, for the next turn
	log     *slog.Logger
	armed   bool // an event will tell of the next completion
	idle    bool // the last Poll found nothing

	listenAt int64 // when clients' connections are looked at next; 0: none waits for an answer
	failed   error // something could not be freed: our own bug, or the device is gone
	iov      [verbs.MaxSGE]unix.Iovec
}

// event is an asynchronous event of the device.
type event struct {
	kind int
	qp   uint32
}

// broken is a link whose work request was refused.
type broken struct {
	l   *link
	err error
}

// Tags of what is neither a link nor the listener.
const (
	tagCQ    = 1 << 54
	tagAsync = 1 << 53
)

// open opens the device for this member. On its loop.
func (d *driver) open(c device.Choice) error {
	n, err := openNIC(c, d.o, d.number, &d.count.CCalls)
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

// shut closes the device. No link has anything of it.
func (d *driver) shut() error {
	if d.before != nil {
		d.before()
	}
	if d.nic == nil {
		return nil
	}
	d.l.UnwatchRarely(d.id, d.nic.cq.Fd, tagCQ)
	d.l.UnwatchRarely(d.id, d.nic.dev.AsyncFd, tagAsync)
	err := d.nic.close()
	d.nic = nil
	return errors.Join(d.failed, err)
}

// Open is stream.Engine's, for servers' ends: clients' are made before their socket is known (prepare).
func (d *driver) Open(s socket.Socket, ended func(stream.ConnIO, error), _ func()) (stream.ConnIO, error) {
	tag, row := d.links.Put()
	l := &link{d: d, tag: tag, tcp: control{fd: s.Fd}, ended: ended, served: true}
	*row = l
	if err := d.l.WatchRarely(d.id, s.Fd, unix.EPOLLIN|unix.EPOLLRDHUP, tag); err != nil {
		d.links.Drop(tag)
		return nil, err
	}
	return l, nil
}

// Each is stream.Engine's.
func (d *driver) Each(f func(stream.ConnIO)) { d.links.Each(func(_ uint64, l **link) { f(*l) }) }

// Len is stream.Engine's.
func (d *driver) Len() int { return d.links.Len() }

// End is stream.Engine's. What cannot be freed stays pinned until the process ends.
func (d *driver) End() {
	n := d.nic
	if err := d.shut(); err != nil {
		d.log.Error("device not freed", "device", n.name, "reason", err)
	}
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

// async takes the device's events.
func (d *driver) async() {
	for d.nic != nil {
		kind, qp, ok := d.nic.dev.Async()
		d.l.Stats.Syscalls++
		if !ok {
			return
		}
		d.happened(event{kind, qp})
	}
}

// happened does what follows from an event.
func (d *driver) happened(e event) {
	if d.nic == nil {
		return
	}
	switch reactionTo(e.kind) {
	case reactDevice:
		d.lose(&lostError{fmt.Sprintf("the device %s is lost: %s", d.nic.name, eventText(e.kind))})
	case reactPair:
		d.links.Each(func(_ uint64, l **link) {
			if k := *l; k.pair.qp != nil && k.pair.qp.Num == e.qp && k.side != nil {
				k.ended(k, d.because(k, fmt.Errorf("%w: the queue pair failed (event %d)", transport.ErrPeerGone, e.kind)))
			}
		})
		return
	case reactLook:
		forgetPicks()
	default:
		return
	}
	d.log.Warn("the device reported an event", "device", d.nic.name, "event", eventText(e.kind), "loop", d.number)
}

// because is why a link has ended: err, or what explains it.
func (d *driver) because(l *link, err error) error {
	if down := d.down(l); down != "" {
		return &lostError{down + "; so the connection failed"}
	}
	return err
}

// down says that a link's port is not active, and what to do; "": it is, or nobody can say.
func (d *driver) down(l *link) string {
	if d.nic == nil || l.pair.qp == nil {
		return ""
	}
	d.l.Stats.Syscalls++
	if p, err := d.nic.dev.Port(l.pair.choice.Port); err != nil || p.Active {
		return ""
	}
	return fmt.Sprintf("port %d of %s is down (ip link set %s up, or plug in the cable)", l.pair.choice.Port, l.pair.choice.Device, l.pair.choice.Netdev)
}

// lose ends all connections, since nothing of the device works any more. It is closed when the last one is gone (bury), and opened again
// when one is asked for (revive).
func (d *driver) lose(why error) {
	if d.nic == nil || d.nic.dead != nil {
		return
	}
	d.nic.dead = why
	forgetPicks()
	d.links.Each(func(_ uint64, l **link) {
		if k := *l; k.pair.qp != nil && k.side != nil { // one whose dial is under way ends with that
			k.ended(k, why)
		}
	})
	d.l.Again()
}

// bury closes a device that is lost, when no connection has anything of it any more. What cannot be freed of it the kernel frees with the
// descriptor.
func (d *driver) bury() {
	if d.nic == nil || d.nic.dead == nil {
		return
	}
	used := false
	d.links.Each(func(_ uint64, l **link) { used = used || (*l).pair.qp != nil })
	if used {
		return
	}
	_ = d.shut()
	d.failed, d.found, d.later, d.events, d.armed = nil, nil, nil, nil, false
}

// revive opens the device if it is not open, or was lost.
func (d *driver) revive(open func() error) error {
	d.bury()
	switch {
	case d.nic == nil:
		return open()
	case d.nic.dead != nil:
		return fmt.Errorf("rdma: %w (connections over it are about to end: try again)", d.nic.dead)
	}
	return nil
}

// Poll is loop.Member's.
func (d *driver) Poll() int {
	if d.nic == nil {
		return 0
	}
	found, later, events := d.found, d.later, d.events
	d.found, d.later, d.events = nil, nil, nil // to reap may find more for later
	n := len(found) + len(later) + len(events)
	d.reap(found)
	d.reap(later)
	for _, e := range events {
		d.happened(e)
	}
	for d.nic != nil && d.nic.dead == nil && len(d.later) == 0 { // what is for later came before what is still in the queue
		var cs []verbs.Completion
		var err error
		if d.idle && n == 0 && d.l.Spins() {
			cs, err = d.nic.cq.Spin(spinPolls)
		} else {
			cs, err = d.nic.cq.Poll()
		}
		d.count.Polls++
		if err != nil {
			d.lose(err)
			break
		}
		if len(cs) == 0 {
			d.count.EmptyPolls++
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
	d.count.WCs += uint64(len(cs))
	for i := range cs {
		c := &cs[i]
		var l *link
		if s := d.nic.shared; s.brings(c) {
			s.given--
			if l = s.byQP[c.QP]; l == nil || l.state == linkClosed || c.Status != 0 {
				_ = s.post(slotOf(c), d.nic.batch) // of a queue pair that is gone or has failed: another link's message may take it
			}
		} else if row := d.links.Get(c.WR >> wrTagShift); row != nil {
			l = *row
		}
		if l == nil || l.state == linkClosed {
			continue // of a queue pair that is gone
		}
		var err error
		switch {
		case c.Status == verbs.StatusFlushed:
			err = d.because(l, transport.ErrPeerGone)
		case c.Status != 0 && c.WR&wrRecv == 0 && l.out.binds(uint32(c.WR)&(wrRecv-1)):
			err = fmt.Errorf("rdma: bind a memory window on %s: %s (vendor's code %#x; --rdma-verb send needs none)", d.nic.name, verbs.StatusText(c.Status), c.Vendor)
			l.refuse(err)
		case c.Status != 0:
			err = lost(c.Status, verbs.StatusText(c.Status), c.Vendor, d.down(l))
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

// drainMax bounds how long a loop waits until a queue pair takes nothing more from the shared receive queue, and drainNap how long it sleeps meanwhile.
const (
	drainMax = 20 * time.Millisecond
	drainNap = 1 // ms
)

// drain has a link's queue pair, which is about to be destroyed, take no slot of the shared receive queue any more, and takes all slots back that it
// has filled: with the queue pair goes what is in the completion queue of it (on mlx5), and their slots would never be posted again. See
// docs/adr/0030-a-device-that-fails.md.
func (d *driver) drain(l *link) {
	if d.nic.dead != nil {
		return
	}
	d.l.Stats.Syscalls++
	if l.pair.qp.Fail() != nil {
		return // a device that is about to be lost
	}
	for until := time.Now().Add(drainMax); ; {
		last := d.lastTaken(l.pair.qp.Num)
		d.takeBack(l.pair.qp.Num)
		if last || !time.Now().Before(until) {
			return
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(d.nic.dev.AsyncFd), Events: unix.POLLIN}}, drainNap)
		d.l.Stats.Syscalls++
	}
}

// lastTaken says whether the device has told that a queue pair takes no more receives. Other events wait for the next turn.
func (d *driver) lastTaken(qp uint32) (last bool) {
	for {
		kind, of, ok := d.nic.dev.Async()
		d.l.Stats.Syscalls++
		switch {
		case !ok:
			return last
		case kind == verbs.EventLastWQE && of == qp:
			last = true
		case reactionTo(kind) != reactNot:
			d.events = append(d.events, event{kind, of})
			d.l.Again()
		}
	}
}

// takeBack posts again the slots that are in the completion queue for a queue pair. Others' completions wait for the next turn.
func (d *driver) takeBack(qp uint32) {
	for {
		cs, err := d.nic.cq.Aside()
		d.count.Polls++
		if err != nil {
			return // the next Poll says so
		}
		for i := range cs {
			switch s := d.nic.shared; {
			case cs[i].QP != qp:
				d.later = append(d.later, cs[i]) // at most as many as the queue holds
				d.l.Again()
			case s.brings(&cs[i]):
				s.given--
				_ = s.post(slotOf(&cs[i]), d.nic.batch)
			}
		}
		if len(cs) < verbs.PollMax {
			return
		}
	}
}

// Busy is stream.Engine's: it names work of the device's that is not done. A message whose bytes were copied into its work request makes no completion of its own, and needs none:
// what answers it shows that it has arrived. One of the side's memory does.
func (d *driver) Busy() string {
	if len(d.found)+len(d.later)+len(d.events)+len(d.broken) > 0 {
		return "the device has completions that were not looked at"
	}
	s := ""
	d.links.Each(func(_ uint64, row **link) {
		if l := *row; s == "" && l.state == linkUp && l.working() {
			s = "messages of a queue pair are under way"
		}
	})
	return s
}

// Arm is loop.Armer's.
func (d *driver) Arm() (bool, error) {
	if d.nic == nil || d.nic.dead != nil || d.armed {
		return false, nil
	}
	if len(d.later) > 0 {
		return true, nil
	}
	d.l.Stats.Syscalls++
	d.count.Polls++
	cs, err := d.nic.cq.Arm()
	if err != nil {
		d.lose(err)
		return true, nil
	}
	d.armed = true
	d.found = cs
	return len(cs) > 0, nil
}

// Flush is stream.Engine's. It delivers what waited for memory, and posts the turn's receives and messages.
func (d *driver) Flush() {
	list := d.touched.Take(d.l)
	for _, l := range list {
		l.listed = false
		if l.state == linkUp {
			if err := l.deliver(); err != nil {
				l.ended(l, err)
			}
		}
	}
	for _, l := range list {
		switch {
		case l.state == linkClosed:
		case l.state == linkUp:
			l.stage()
		case l.pair.qp == nil || l.keys.state != keyUnbound || l.d.o.Connect == ByCM: // else the hello waits for the window
			l.greet()
		}
	}
	if d.nic != nil {
		d.post()
	}
	for i, l := range list {
		list[i] = nil
		if l.state == linkUp {
			l.confirm(0)
			l.finish()
		}
	}
	for i, b := range d.broken {
		d.broken[i] = broken{}
		if b.l.state != linkClosed {
			b.l.ended(b.l, b.err)
		}
	}
	d.broken = d.broken[:0]
}

// post hands the batch to the device: receives first, since the messages say how many there are.
func (d *driver) post() {
	if err := d.nic.batch.PostRecvs(); err != nil {
		d.lose(err)
		return
	}
	first := 0
	for d.nic.batch.Len() > 0 {
		bells, done, err := d.nic.batch.Post(d.o.PostBatch)
		d.count.Bells += uint64(bells)
		d.count.WRs += uint64(done)
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
	for l.state != linkClosed {
		var w [2][]byte
		var b [16]byte
		w[0] = b[:]
		if l.state != linkUp && l.side.Window(&w) == 0 {
			return
		}
		n, err := sys.Recv(l.tcp.fd, w[0])
		l.d.l.Stats.Syscalls++
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR):
		case err != nil:
			l.ended(l, l.d.because(l, fmt.Errorf("%w: %w", transport.ErrPeerGone, err)))
		case n == 0:
			l.d.Poll() // what it sent before, a refusal say, is here already
			if l.state != linkClosed {
				l.ended(l, l.d.because(l, transport.ErrPeerGone))
			}
		case l.state == linkUp:
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
		n, err := unix.Write(l.tcp.fd, b)
		l.d.l.Stats.Syscalls++
		if err != nil || n < len(b) { // a new connection's buffer has room for it
			l.ended(l, fmt.Errorf("%w: the hello could not be sent: %d of %d B: %w", transport.ErrPeerGone, n, len(b), err))
			return
		}
		l.side.Sent(n)
	}
	if l.pair.qp != nil {
		l.state = linkUp
		l.Touch()
	}
	l.finish()
}

// finish tells the peer, by the end of the TCP connection, that all has been said.
func (l *link) finish() {
	if !l.tcp.halved && l.side.Finished() && (l.state != linkUp || l.drained()) {
		l.tcp.halved = true
		_ = unix.Shutdown(l.tcp.fd, unix.SHUT_WR)
		l.d.l.Stats.Syscalls++
	}
}

// Close is stream.ConnIO's.
func (l *link) Close(err error) {
	if l.state == linkClosed {
		return
	}
	if l.side == nil { // its hello is under way
		l.abandon()
		return
	}
	if l.d.awaited[l.pair.peer.token] == l {
		delete(l.d.awaited, l.pair.peer.token)
	}
	l.release()
	_ = unix.Close(l.tcp.fd)
	l.d.l.Stats.Syscalls++
	l.destroy()
	l.side.Drop(err)
}

// Detach is stream.ConnIO's. It has no queue pair yet.
func (l *link) Detach() socket.Socket {
	l.release()
	return socket.Socket{Fd: l.tcp.fd}
}

// release takes the link off the loop and leaves the descriptor open.
func (l *link) release() {
	l.state = linkClosed
	l.d.l.UnwatchRarely(l.d.id, l.tcp.fd, l.tag)
	l.d.links.Drop(l.tag)
}
