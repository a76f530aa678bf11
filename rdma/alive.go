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

// life is what a client's end knows of its server's. Times are the loop's, in ns (Awake).
type life struct {
	stallMax int64 // the server's StallMax; 0: the client waits as long as it takes
	heardAt  int64 // when a message last came
	askedAt  int64 // when a sign of life was asked for, and none came since; 0: it was not
	ask      bool  // one is to be asked for
}

// waiter is a side that knows whether it waits for answers.
type waiter interface{ InFlight() int }

// quietMax is how long a client hears nothing before it asks for a sign of life.
func (l *link) quietMax() int64 { return l.life.stallMax / 4 }

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

// expect makes sure that listen looks soon.
func (l *link) expect() {
	if l.life.stallMax != 0 {
		l.lookAt(l.d.l.Awake() + l.quietMax()/2)
	}
}

// lookAt makes sure that listen looks at t at the latest.
func (l *link) lookAt(t int64) {
	if l.d.listenAt == 0 || t < l.d.listenAt {
		l.d.listenAt = t
	}
}
