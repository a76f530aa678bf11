//go:build rdma && cgo && linux

package rdma

import (
	"fmt"
	"time"

	"github.com/kvwire/kvwire/transport"
)

// A server that is stopped, or a network that is gone, need not show: the NIC goes on to acknowledge, and the kernel
// keeps the TCP connection. So a client that waits for answers and hears nothing asks for a sign of life: a message
// without bytes, of fewer news than would be worth one. The server's loop answers with another one, whatever its
// handler does. One that does not answer for the server's own StallMax is as good as dead.

// stallMin bounds StallMax from below here: a machine may be busy for that long.
const stallMin = 2 * time.Second

// waiter is a side that knows whether it waits for answers.
type waiter interface{ InFlight() int }

// quietMax is how long a client hears nothing before it asks for a sign of life.
func (l *link) quietMax() int64 { return l.stallMax / 4 }

// listen looks at the client's connections that wait for answers.
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
	if !ok || !l.up || l.stallMax == 0 || side.InFlight() == 0 {
		l.askedAt = 0
		return
	}
	switch {
	case l.askedAt == 0 && now-l.heardAt >= l.quietMax():
		l.askedAt, l.ask = now, true
		l.Touch()
	case l.askedAt != 0 && now-l.askedAt >= l.stallMax-l.quietMax():
		l.ended(l, l.d.because(l, fmt.Errorf("%w: the server gives no sign of life for %v", transport.ErrStalled, time.Duration(now-l.heardAt).Round(time.Millisecond))))
		return
	}
	by := l.heardAt + l.quietMax()
	if l.askedAt != 0 {
		by = l.askedAt + l.stallMax - l.quietMax()
	}
	l.lookAt(max(by, now+l.quietMax()/8))
}

// expect makes sure that listen looks soon.
func (l *link) expect() {
	if l.stallMax != 0 {
		l.lookAt(l.d.l.Awake() + l.quietMax()/2)
	}
}

// lookAt makes sure that listen looks at t at the latest.
func (l *link) lookAt(t int64) {
	if l.d.listenAt == 0 || t < l.d.listenAt {
		l.d.listenAt = t
	}
}
