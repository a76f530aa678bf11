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

// liveness is the state of a client's check that its server is alive. Times are by Loop.AwakeNow, in ns.
type liveness struct {
	stallMax   int64 // the server's StallMax; 0: the client waits without a bound
	receivedAt int64 // when the last message was received
	probedAt   int64 // when the outstanding sign of life was requested; 0: there is none
	probe      bool  // the next message must request one
}

// waiter is a side that can report whether it waits for answers.
type waiter interface{ InFlight() int }

// silenceMax is the time without a received message, in ns, after which a client requests a sign of life.
func (l *link) silenceMax() int64 { return l.alive.stallMax / 4 }

// checkAlive checks the clients' connections that wait for answers.
func (d *rdmaEngine) checkAlive() {
	if d.checkAt == 0 {
		return
	}
	if now := d.l.AwakeNow(); now >= d.checkAt {
		d.checkAt = 0
		d.links.Each(func(_ uint64, row **link) { (*row).checkAlive(now) })
	}
	if d.checkAt != 0 {
		d.l.WakeAtAwake(d.checkAt)
	}
}

func (l *link) checkAlive(now int64) {
	side, ok := l.side.(waiter)
	if !ok || l.state != linkUp || l.alive.stallMax == 0 || side.InFlight() == 0 {
		l.alive.probedAt = 0
		return
	}
	switch {
	case l.alive.probedAt == 0 && now-l.alive.receivedAt >= l.silenceMax():
		l.alive.probedAt, l.alive.probe = now, true
		l.Touch()
	case l.alive.probedAt != 0 && now-l.alive.probedAt >= l.alive.stallMax-l.silenceMax():
		l.onEnd(l, l.d.endReason(l, fmt.Errorf("%w: the server gives no sign of life for %v", transport.ErrStalled, time.Duration(now-l.alive.receivedAt).Round(time.Millisecond))))
		return
	}
	by := l.alive.receivedAt + l.silenceMax()
	if l.alive.probedAt != 0 {
		by = l.alive.probedAt + l.alive.stallMax - l.silenceMax()
	}
	l.checkBy(max(by, now+l.silenceMax()/8))
}

// checkSoon makes sure that the next check is soon.
func (l *link) checkSoon() {
	if l.alive.stallMax != 0 {
		l.checkBy(l.d.l.AwakeNow() + l.silenceMax()/2)
	}
}

// checkBy makes sure that the next check is at t or earlier.
func (l *link) checkBy(t int64) {
	if l.d.checkAt == 0 || t < l.d.checkAt {
		l.d.checkAt = t
	}
}
