//go:build rdma && cgo && linux

package rdma

import (
	"fmt"
	"time"

	"github.com/kvwire/kvwire/transport"
)

// A client may not notice that a server is stopped or that the network fails: the NIC continues to acknowledge, and the
// kernel keeps the TCP connection. So a client that waits for answers and receives nothing requests a sign of life. The
// request is a message without bytes that grants fewer credits than would justify a message. The server's loop replies
// with a message without bytes, even if its handler is blocked. If no reply comes within the server's StallMax, the client
// ends the connection.

// stallMin is the least value used for StallMax here: a busy machine may not reply sooner.
const stallMin = 2 * time.Second

// life is the state of a client's check that its server is alive. Times are by Loop.Awake, in ns.
type life struct {
	stallMax int64 // the server's StallMax; 0: the client waits without a bound
	heardAt  int64 // when the last message was received
	askedAt  int64 // when a sign of life was requested that has not come yet; 0: none was requested
	ask      bool  // the next message must request one
}

// waiter is a side that can report whether it waits for answers.
type waiter interface{ InFlight() int }

// quietMax is the time without a received message, in ns, after which a client requests a sign of life.
func (l *link) quietMax() int64 { return l.life.stallMax / 4 }

// listen checks the clients' connections that wait for answers.
func (d *driver) listen() {
	if d.listenAt == 0 {
		return
	}
	if now := d.l.Awake(); now >= d.listenAt {
		d.listenAt = 0
		d.links.Each(func(_ uint64, row **link) { (*row).listen(now) })
	}
	if d.listenAt != 0 {
		d.l.WakeAwake(d.listenAt)
	}
}

func (l *link) listen(now int64) {
	side, ok := l.side.(waiter)
	if !ok || l.state != linkUp || l.life.stallMax == 0 || side.InFlight() == 0 {
		l.life.askedAt = 0
		return
	}
	switch {
	case l.life.askedAt == 0 && now-l.life.heardAt >= l.quietMax():
		l.life.askedAt, l.life.ask = now, true
		l.Touch()
	case l.life.askedAt != 0 && now-l.life.askedAt >= l.life.stallMax-l.quietMax():
		l.ended(l, l.d.because(l, fmt.Errorf("%w: the server gives no sign of life for %v", transport.ErrStalled, time.Duration(now-l.life.heardAt).Round(time.Millisecond))))
		return
	}
	by := l.life.heardAt + l.quietMax()
	if l.life.askedAt != 0 {
		by = l.life.askedAt + l.life.stallMax - l.quietMax()
	}
	l.lookAt(max(by, now+l.quietMax()/8))
}

// expect makes sure that the next check is soon.
func (l *link) expect() {
	if l.life.stallMax != 0 {
		l.lookAt(l.d.l.Awake() + l.quietMax()/2)
	}
}

// lookAt makes sure that the next check is at t or earlier.
func (l *link) lookAt(t int64) {
	if l.d.listenAt == 0 || t < l.d.listenAt {
		l.d.listenAt = t
	}
}
