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

// rdmaEngine moves the messages of all links of one member. It polls their common completion queue, and posts the work
// requests of a turn together. It is the common part of endpoint and hub.
type rdmaEngine struct {
	l           *loop.Loop
	count       *transport.Counters // of its loop
	id          loop.MemberID
	o           Options
	number      int // number of this member among those that use the device; selects the interrupt of its completions
	nic         *nic
	beforeClose func() // called before the device is closed; may be nil
	links       stream.Table[*link]
	awaited     map[verbs.CMToken]*link // of a server: links that rdma_cm will connect
	touched     stream.Touched[*link]
	owners      []*link // links of the batch's work requests
	failedPosts []failedPost
	found       []verbs.Completion // completions from Arm, for the next Poll
	drained     []verbs.Completion // completions of other links that drain found, likewise
	events      []event            // asynchronous events that drain found, for the next turn
	log         *slog.Logger
	armed       bool // the device will send an event for the next completion
	idle        bool // the last Poll found no completion

	checkAt int64 // time of the next check of clients' connections (checkAlive); 0: none waits for an answer
	failed  error // something could not be freed: a bug of ours, or the device is gone
	iov     [verbs.MaxSGE]unix.Iovec
}

// event is an asynchronous event of the device.
type event struct {
	kind int
	qp   uint32
}

// failedPost is a link with a work request that the device did not accept.
type failedPost struct {
	l   *link
	err error
}

// Tags of descriptors that are neither a link's nor the listener's.
const (
	tagCQ    = 1 << 54
	tagAsync = 1 << 53
)

// openDevice opens the device for this member. Only its loop may call it.
func (d *rdmaEngine) openDevice(c device.Choice) error {
	n, err := openNIC(c, d.o, d.number, &d.count.CCalls)
	if err != nil {
		return err
	}
	if err := d.l.WatchRarely(d.id, n.dev.AsyncFd, unix.EPOLLIN, tagAsync); err != nil {
		return errors.Join(err, n.close())
	}
	// A spinning loop never calls Arm, so its channel makes no events.
	if err := d.l.WatchRarely(d.id, n.cq.Fd, unix.EPOLLIN, tagCQ); err != nil {
		d.l.UnwatchRarely(d.id, n.dev.AsyncFd, tagAsync)
		return errors.Join(err, n.close())
	}
	d.nic = n
	return nil
}

// closeDevice closes the device. No link may use it any more.
func (d *rdmaEngine) closeDevice() error {
	if d.beforeClose != nil {
		d.beforeClose()
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

// Open implements stream.Engine, for servers' ends only: a client's link is made before its socket (prepare).
func (d *rdmaEngine) Open(s socket.Socket, ended func(stream.ConnIO, error), _ func()) (stream.ConnIO, error) {
	tag, row := d.links.Put()
	l := &link{d: d, tag: tag, tcp: control{fd: s.Fd}, onEnd: ended, served: true}
	*row = l
	if err := d.l.WatchRarely(d.id, s.Fd, unix.EPOLLIN|unix.EPOLLRDHUP, tag); err != nil {
		d.links.Drop(tag)
		return nil, err
	}
	return l, nil
}

// Each implements stream.Engine.
func (d *rdmaEngine) Each(f func(stream.ConnIO)) { d.links.Each(func(_ uint64, l **link) { f(*l) }) }

// Len implements stream.Engine.
func (d *rdmaEngine) Len() int { return d.links.Len() }

// End implements stream.Engine. What cannot be freed stays pinned until the process ends.
func (d *rdmaEngine) End() {
	n := d.nic
	if err := d.closeDevice(); err != nil {
		d.log.Error("device not freed", "device", n.name, "reason", err)
	}
}

// event handles the readiness of a descriptor.
func (d *rdmaEngine) event(tag uint64) {
	switch tag {
	case tagCQ:
		d.l.Stats.Syscalls++
		if d.nic != nil && d.nic.cq.Event() {
			d.armed = false
		}
	case tagAsync:
		d.async()
	default:
		if l := d.links.Get(tag); l != nil {
			(*l).readControl()
		}
	}
}

// async reads the device's asynchronous events.
func (d *rdmaEngine) async() {
	for d.nic != nil {
		kind, qp, ok := d.nic.dev.Async()
		d.l.Stats.Syscalls++
		if !ok {
			return
		}
		d.handleEvent(event{kind, qp})
	}
}

// handleEvent reacts to an asynchronous event.
func (d *rdmaEngine) handleEvent(e event) {
	if d.nic == nil {
		return
	}
	switch reactionTo(e.kind) {
	case reactDevice:
		d.markLost(&lostError{fmt.Sprintf("the device %s is lost: %s", d.nic.name, eventText(e.kind))})
	case reactPair:
		d.links.Each(func(_ uint64, l **link) {
			if k := *l; k.pair.qp != nil && k.pair.qp.Num == e.qp && k.side != nil {
				k.onEnd(k, d.endReason(k, fmt.Errorf("%w: the queue pair failed (event %d)", transport.ErrPeerGone, e.kind)))
			}
		})
		return
	case reactRepick:
		clearPicks()
	default:
		return
	}
	d.log.Warn("the device reported an event", "device", d.nic.name, "event", eventText(e.kind), "loop", d.number)
}

// endReason returns the reason why a link has ended: err, or a better explanation of it.
func (d *rdmaEngine) endReason(l *link, err error) error {
	if down := d.portDown(l); down != "" {
		return &lostError{down + "; so the connection failed"}
	}
	return err
}

// portDown returns a text for a link whose port is not active, with the remedy; "": the port is active, or its state is not known.
func (d *rdmaEngine) portDown(l *link) string {
	if d.nic == nil || l.pair.qp == nil {
		return ""
	}
	d.l.Stats.Syscalls++
	if p, err := d.nic.dev.Port(l.pair.choice.Port); err != nil || p.Active {
		return ""
	}
	return fmt.Sprintf("port %d of %s is down (ip link set %s up, or plug in the cable)", l.pair.choice.Port, l.pair.choice.Device, l.pair.choice.Netdev)
}

// markLost ends all connections, because the device does not work any more. closeLost closes the device after the last connection, and ensureOpen
// opens it again for the next one.
func (d *rdmaEngine) markLost(why error) {
	if d.nic == nil || d.nic.failure != nil {
		return
	}
	d.nic.failure = why
	clearPicks()
	d.links.Each(func(_ uint64, l **link) {
		if k := *l; k.pair.qp != nil && k.side != nil { // a link that is still being dialed ends with its dial
			k.onEnd(k, why)
		}
	})
	d.l.Again()
}

// closeLost closes a lost device when no connection uses it any more. Objects that cannot be freed are freed by the kernel when the descriptor is
// closed.
func (d *rdmaEngine) closeLost() {
	if d.nic == nil || d.nic.failure == nil {
		return
	}
	used := false
	d.links.Each(func(_ uint64, l **link) { used = used || (*l).pair.qp != nil })
	if used {
		return
	}
	_ = d.closeDevice()
	d.failed, d.found, d.drained, d.events, d.armed = nil, nil, nil, nil, false
}

// ensureOpen opens the device if it is not open or was lost.
func (d *rdmaEngine) ensureOpen(open func() error) error {
	d.closeLost()
	switch {
	case d.nic == nil:
		return open()
	case d.nic.failure != nil:
		return fmt.Errorf("rdma: %w (connections over it are about to end: try again)", d.nic.failure)
	}
	return nil
}

// Poll implements loop.Member.
func (d *rdmaEngine) Poll() int {
	if d.nic == nil {
		return 0
	}
	n := 0
	if len(d.found)+len(d.drained)+len(d.events) > 0 {
		n = d.handleFound()
	}
	for d.nic != nil && d.nic.failure == nil && len(d.drained) == 0 { // completions in later are older than those in the queue
		var cs []verbs.Completion
		var err error
		if d.idle && n == 0 && d.l.Spins() {
			cs, err = d.nic.cq.Spin(spinPolls)
		} else {
			cs, err = d.nic.cq.Poll()
		}
		d.count.Polls++
		d.l.Announced()
		if err != nil {
			d.markLost(err)
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

// handleFound handles the completions and events that Arm and drain found, and returns their number.
func (d *rdmaEngine) handleFound() int {
	found, later, events := d.found, d.drained, d.events
	d.found, d.drained, d.events = nil, nil, nil // reaping may add to later
	d.reap(found)
	d.reap(later)
	for _, e := range events {
		d.handleEvent(e)
	}
	return len(found) + len(later) + len(events)
}

// spinPolls is the number of polls within one call into C, when a spinning loop has found nothing. A completion is found
// sooner there than in the next turn, and the loop's other members wait no longer than for a system call.
const spinPolls = 64

func (d *rdmaEngine) reap(cs []verbs.Completion) {
	d.count.WCs += uint64(len(cs))
	for i := range cs {
		c := &cs[i]
		var l *link
		if s := d.nic.shared; s.owns(c) {
			s.outstanding--
			if l = s.byQP[c.QP]; l == nil || l.state == linkClosed || c.Status != 0 {
				_ = s.post(slotOf(c), d.nic.batch) // the queue pair is gone or has failed: another link's message may use the slot
			}
		} else if row := d.links.Get(c.WR >> wrTagShift); row != nil {
			l = *row
		}
		if l == nil || l.state == linkClosed {
			continue // the queue pair is gone
		}
		var err error
		switch {
		case c.Status != 0:
			err = d.failedWork(l, c)
		case l.resp != nil:
			err = l.resp.completed(c)
		case c.WR&wrRecv != 0:
			err = l.received(c)
		default:
			l.sendCompleted(uint32(c.WR) & (wrRecv - 1))
		}
		if err != nil {
			if l.pollRing() > 0 && l.state == linkClosed { // messages that were written before the failure
				continue
			}
			l.onEnd(l, err)
		}
	}
}

// failedWork returns the reason for a link's end after a completion with an error.
func (d *rdmaEngine) failedWork(l *link, c *verbs.Completion) error {
	switch {
	case c.Status == verbs.StatusFlushed:
		return d.endReason(l, transport.ErrPeerGone)
	case c.WR&wrRecv == 0 && l.out.binds(uint32(c.WR)&(wrRecv-1)):
		err := fmt.Errorf("rdma: bind a memory window on %s: %s (vendor's code %#x; --rdma-verb send needs none)", d.nic.name, verbs.StatusText(c.Status), c.Vendor)
		l.refuseHello(err)
		return err
	}
	return failureReason(c.Status, verbs.StatusText(c.Status), c.Vendor, d.portDown(l))
}

// drainMax bounds the time that a loop waits until a queue pair consumes no more slots of the shared receive queue. drainPause is the sleep between two checks.
const (
	drainMax   = 20 * time.Millisecond
	drainPause = 1 // ms
)

// drain stops a link's queue pair, before it is destroyed, from consuming slots of the shared receive queue, and posts again all slots that it has
// filled. Without it, these slots would be lost: when a queue pair is destroyed, its completions may be removed from the completion queue (on mlx5). See
// docs/adr/0030-a-device-that-fails.md. It blocks for at most drainMax.
func (d *rdmaEngine) drain(l *link) {
	if d.nic.failure != nil {
		return
	}
	d.l.Stats.Syscalls++
	if l.pair.qp.Fail() != nil {
		return // the device is about to be lost
	}
	for until := time.Now().Add(drainMax); ; {
		last := d.lastReceiveConsumed(l.pair.qp.Num)
		d.repostDrained(l.pair.qp.Num)
		if last || !time.Now().Before(until) {
			return
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(d.nic.dev.AsyncFd), Events: unix.POLLIN}}, drainPause)
		d.l.Stats.Syscalls++
	}
}

// lastReceiveConsumed reports whether the device has sent the event that a queue pair consumes no more receives. It keeps other events for the next turn.
func (d *rdmaEngine) lastReceiveConsumed(qp uint32) (last bool) {
	for {
		kind, of, ok := d.nic.dev.Async()
		d.l.Stats.Syscalls++
		switch {
		case !ok:
			return last
		case kind == verbs.EventLastWQE && of == qp:
			last = true
		case reactionTo(kind) != reactNone:
			d.events = append(d.events, event{kind, of})
			d.l.Again()
		}
	}
}

// repostDrained posts again the slots of a queue pair's completions in the completion queue. It keeps the completions of other queue pairs for the next turn.
func (d *rdmaEngine) repostDrained(qp uint32) {
	for {
		cs, err := d.nic.cq.PollAside()
		d.count.Polls++
		if err != nil {
			return // the next Poll reports it
		}
		for i := range cs {
			switch s := d.nic.shared; {
			case cs[i].QP != qp:
				d.drained = append(d.drained, cs[i]) // at most as many as the queue holds
				d.l.Again()
			case s.owns(&cs[i]):
				s.outstanding--
				_ = s.post(slotOf(&cs[i]), d.nic.batch)
			}
		}
		if len(cs) < verbs.PollMax {
			return
		}
	}
}

// Busy implements stream.Engine. It names work that the device has not completed. A message whose bytes were copied makes no completion of its own, and does
// not count: the answer to it shows that it has arrived. A message in the side's memory makes a completion and counts.
func (d *rdmaEngine) Busy() string {
	if len(d.found)+len(d.drained)+len(d.events)+len(d.failedPosts) > 0 {
		return "the device has completions that were not handled"
	}
	s := ""
	d.links.Each(func(_ uint64, row **link) {
		if l := *row; s == "" && l.state == linkUp && l.working() {
			s = "messages of a queue pair are under way"
		}
	})
	return s
}

// Arm implements loop.Armer.
func (d *rdmaEngine) Arm() (bool, error) {
	if d.nic == nil || d.nic.failure != nil || d.armed {
		return false, nil
	}
	if len(d.drained) > 0 {
		return true, nil
	}
	d.l.Stats.Syscalls++
	d.count.Polls++
	cs, err := d.nic.cq.Arm()
	if err != nil {
		d.markLost(err)
		return true, nil
	}
	d.armed = true
	d.found = cs
	return len(cs) > 0, nil
}

// Flush implements stream.Engine. It delivers messages that waited for memory, and posts the turn's receives and messages.
func (d *rdmaEngine) Flush() {
	list := d.touched.Detach(d.l)
	for _, l := range list {
		l.listed = false
		if l.state == linkUp && l.in.arrived.Len() > 0 {
			if err := l.deliver(); err != nil {
				l.onEnd(l, err)
			}
		}
	}
	for _, l := range list {
		switch {
		case l.state == linkClosed:
		case l.resp != nil:
			l.resp.stage()
		case l.state == linkUp:
			l.stage()
		case l.pair.qp == nil || l.keys.state != keyUnbound || l.d.o.Connect == ByCM: // else the hello waits for the memory window
			l.sendHello()
		}
	}
	if d.nic != nil && !d.nic.batch.Empty() {
		d.post()
	}
	for i, l := range list {
		list[i] = nil
		if l.state == linkUp {
			if l.out.copied > 0 {
				l.countSent(0)
			}
			l.shutIfFinished()
		}
	}
	for i, b := range d.failedPosts {
		d.failedPosts[i] = failedPost{}
		if b.l.state != linkClosed {
			b.l.onEnd(b.l, b.err)
		}
	}
	d.failedPosts = d.failedPosts[:0]
}

// post gives the batch to the device: receives first, because the messages advertise them.
func (d *rdmaEngine) post() {
	if err := d.nic.batch.PostRecvs(); err != nil {
		d.markLost(err)
		return
	}
	first := 0
	for d.nic.batch.Len() > 0 {
		bells, done, err := d.nic.batch.Post(d.o.PostBatch)
		d.count.Bells += uint64(bells)
		d.count.WRs += uint64(done)
		if d.nic.doorbellSyscalls {
			d.l.Stats.Syscalls += uint64(bells)
		}
		if err != nil {
			d.failedPosts = append(d.failedPosts, failedPost{d.owners[first+done], err})
			first += done + 1
		}
	}
	clear(d.owners)
	d.owners = d.owners[:0]
}

// readControl handles the readiness of the TCP connection. Until the hellos are done it carries their bytes; after that, only
// its end is an event.
func (l *link) readControl() {
	if l.resp != nil {
		l.resp.readCM()
		return
	}
	for l.state != linkClosed {
		var w [2][]byte
		var b [16]byte
		w[0] = b[:]
		if l.state != linkUp && l.side.RecvBuffers(&w) == 0 {
			return
		}
		n, err := sys.Recv(l.tcp.fd, w[0])
		l.d.l.Stats.Syscalls++
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR):
		case err != nil:
			l.onEnd(l, l.d.endReason(l, fmt.Errorf("%w: %w", transport.ErrPeerGone, err)))
		case n == 0:
			l.d.Poll() // messages that the peer sent before, such as a refusal, have arrived
			l.d.pollRings()
			if l.state != linkClosed {
				l.onEnd(l, l.d.endReason(l, transport.ErrPeerGone))
			}
		case l.state == linkUp:
			l.onEnd(l, fmt.Errorf("%w: %d bytes after the hello", transport.ErrProtocol, n))
		default:
			if err := l.side.Received(n, 0); err != nil {
				l.onEnd(l, err)
			}
		}
	}
}

// sendHello sends a challenge, the server's hello, or a refusal, by TCP.
func (l *link) sendHello() {
	var v [1]unix.Iovec
	for l.side.Gather(v[:], stream.GatherBytes) > 0 {
		b := sys.IovecBytes(&v[0])
		n, err := unix.Write(l.tcp.fd, b)
		l.d.l.Stats.Syscalls++
		if err != nil || n < len(b) { // the send buffer of a new connection has room for it
			l.onEnd(l, fmt.Errorf("%w: the hello could not be sent: %d of %d B: %w", transport.ErrPeerGone, n, len(b), err))
			return
		}
		l.side.Sent(n)
	}
	if l.pair.qp != nil {
		l.state = linkUp
		l.Touch()
	}
	l.shutIfFinished()
}

// shutIfFinished shuts the TCP connection's sending half: it signals to the peer that no more messages follow.
func (l *link) shutIfFinished() {
	if l.resp != nil {
		l.resp.endIfFinished()
		return
	}
	if !l.tcp.sendShut && l.side.Finished() && (l.state != linkUp || l.drained()) {
		l.tcp.sendShut = true
		_ = unix.Shutdown(l.tcp.fd, unix.SHUT_WR)
		l.d.l.Stats.Syscalls++
	}
}

// Close implements stream.ConnIO.
func (l *link) Close(err error) {
	if l.state == linkClosed {
		return
	}
	if l.side == nil { // it is still being dialed
		l.abandon()
		return
	}
	if l.d.awaited[l.pair.peer.token] == l {
		delete(l.d.awaited, l.pair.peer.token)
	}
	l.release()
	if l.resp != nil {
		l.destroy()
		err = l.resp.closed(err)
	} else {
		_ = unix.Close(l.tcp.fd)
		l.d.l.Stats.Syscalls++
		l.destroy()
	}
	l.side.Drop(err)
}

// Detach implements stream.ConnIO. It has no queue pair yet.
func (l *link) Detach() socket.Socket {
	l.release()
	return socket.Socket{Fd: l.tcp.fd}
}

// release removes the link from the loop and leaves the descriptor open.
func (l *link) release() {
	l.state = linkClosed
	if l.tcp.fd >= 0 {
		l.d.l.UnwatchRarely(l.d.id, l.tcp.fd, l.tag)
	}
	l.d.links.Drop(l.tag)
}
