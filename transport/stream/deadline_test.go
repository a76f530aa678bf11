package stream

import (
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/wire"
)

// age makes the host and all that its connections remember older by d: a clock that the test sets.
func (p *peer) age(d time.Duration) {
	for _, t := range []*int64{&p.h.nextTick, &p.h.unblockAt} {
		*t -= int64(d)
	}
	for _, c := range p.h.servers {
		for _, t := range []*int64{&c.accepted, &c.inSince, &c.outSince, &c.account.AnswerWaitSince, &c.account.HeldSince} {
			*t -= int64(d)
		}
	}
}

// lives returns how long the connection exists by that clock, and how often the loop checks the deadlines: only when it is woken for that.
func (p *peer) lives(atMost time.Duration) (lived time.Duration, looks int) {
	p.t.Helper()
	for ended := false; !ended; looks++ {
		if lived > atMost {
			p.t.Fatalf("it lives after %v", lived)
		}
		p.turn(func() {
			if p.h.nextTick == 0 {
				p.t.Error("the loop is not woken for a deadline")
				ended = true
				return
			}
			sleep := max(time.Duration(p.h.nextTick-p.h.L.Now()), 0)
			lived += sleep
			p.age(sleep)
			p.h.Tick(func(c *Server, err error) {
				if c == p.srv {
					ended = true
				} else {
					c.Drop(err)
				}
			})
			ended = ended || p.srv.state == stateRefusing
		})
	}
	return lived, looks
}

// A connection that misses a deadline ends at most a tenth later, whenever the loop checks.
func TestDeadlinesEndOnTime(t *testing.T) {
	const hello, stall, idle = 5 * time.Second, 30 * time.Second, 60 * time.Second
	secrets := access.NewList(access.Entry{Name: "ann", Secret: "the secret of ann"})
	half := frames(wire.Header{Op: kv.OpPut, KeyBytes: 1, ValueBytes: 100})[:wire.HeaderBytes+50]
	greeting := (&wire.ClientHello{Version: wire.Version, Required: wire.FeatureAccess, Depth: 4, Loop: wire.AnyLoop, Name: "ann"}).Append(nil)
	for _, c := range []struct {
		name     string
		deadline time.Duration
		o        transport.ServerOptions
		do       func(p *peer)
	}{
		{"nothing is said", hello, transport.ServerOptions{}, func(*peer) {}},
		{"half of a hello", hello, transport.ServerOptions{}, func(p *peer) { p.receive(grantedHello[:10]) }},
		{"no proof", hello, transport.ServerOptions{Access: secrets}, func(p *peer) { p.receive(greeting); p.drain() }},
		{"no AUTH", hello, transport.ServerOptions{Access: secrets}, func(p *peer) { p.receive([]byte("PING\r\n")); p.drain() }},
		{"half of a message", stall, transport.ServerOptions{}, func(p *peer) { p.exchangeHellos(4); p.receive(half) }},
		{"half of a command", stall, transport.ServerOptions{}, func(p *peer) { p.receive([]byte("PING")) }},
		{"an answer is not taken", stall, transport.ServerOptions{}, func(p *peer) { p.exchangeHellos(4); p.get(1) }},
		{"an answer to a command is not taken", stall, transport.ServerOptions{}, func(p *peer) { p.receive([]byte("PING\r\n")) }},
		{"idle", idle, transport.ServerOptions{IdleMax: idle}, func(p *peer) { p.exchangeHellos(4) }},
		{"a client of Redis is idle", idle, transport.ServerOptions{IdleMax: idle}, func(p *peer) { p.receive([]byte("PING\r\n")); p.drain() }},
		{"no memory for the rest of a command, for which others wait", 2 * stall, transport.ServerOptions{PoolBytes: 1}, func(p *peer) {
			p.h.O.Limits.MaxValueBytes = 1 << 20
			p.receive([]byte("PING\r\n"))
			p.drain()
			p.receive([]byte("*100000\r\n" + strings.Repeat("$1\r\nk\r\n", 100)))
			p.leaveFree(0)
			p.receiveSome([]byte(strings.Repeat("$1\r\nk\r\n", 20_000)))
			p.turn(func() {
				another := p.h.NewServer(p, "another")
				another.state = stateOpen
				another.account.Pause(1 << 30)
				p.t.Cleanup(func() { p.turn(func() { another.Drop(transport.ErrPeerGone) }) })
			})
		}},
		{"no memory for an answer", 4 * stall, transport.ServerOptions{PoolBytes: 1}, func(p *peer) { p.exchangeHellos(4); p.leaveFree(0); p.get(1) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.HelloMax, c.o.StallMax = hello, stall
			p := acceptPeer(t, make([]byte, 1<<20), c.o)
			p.turn(func() { // another connection has the loop look at other times
				p.age(700 * time.Millisecond)
				p.srv = p.h.NewServer(p, "peer")
			})
			c.do(p)
			lived, looks := p.lives(2 * c.deadline)
			if early := c.deadline - lived; early > c.deadline/4 { // the test needs some time itself
				t.Errorf("it has %v, and %v of the loop's time", c.deadline, lived)
			}
			if late := lived - c.deadline; late > c.deadline/10 {
				t.Errorf("it lives %v longer than %v", late, c.deadline)
			}
			if most := 3 + int(c.deadline/(refusingMax/4)); looks > most {
				t.Errorf("the loop looks %d times, at most %d are worth it", looks, most)
			}
		})
	}
}

// A refusal has its second, and no more, to arrive.
func TestARefusalHasADeadline(t *testing.T) {
	p := acceptPeer(t, nil, transport.ServerOptions{}) // which is looked at after 250 ms
	p.turn(func() { p.age(100 * time.Millisecond) })
	p.receive((&wire.ClientHello{Version: wire.Version + 1, Depth: 4, Loop: wire.AnyLoop}).Append(nil))
	late := false
	lived := time.Duration(0)
	for !late && lived < 2*refusingMax {
		p.turn(func() {
			sleep := max(time.Duration(p.h.nextTick-p.h.L.Now()), 0)
			lived += sleep
			p.age(sleep)
			p.h.Tick(func(*Server, error) { late = true })
		})
	}
	if !late || lived > refusingMax*11/10 {
		t.Errorf("closed: %v, after %v", late, lived)
	}
}

// Thousands of deadlines, each at its own time, are checked together.
func TestStaggeredDeadlinesAreCheckedTogether(t *testing.T) {
	p := acceptPeer(t, nil, transport.ServerOptions{HelloMax: 5 * time.Second})
	var all []*Server
	p.turn(func() {
		for i := range 1000 {
			c := p.h.NewServer(p, "another")
			c.accepted -= int64(i) * 4e6 // one every 4 ms
			all = append(all, c)
		}
	})
	looks, closed := 0, 0
	for passed := time.Duration(0); closed < 1000 && passed < 10*time.Second; looks++ {
		p.turn(func() {
			sleep := max(time.Duration(p.h.nextTick-p.h.L.Now()), time.Millisecond)
			passed += sleep
			p.age(sleep)
			p.h.Tick(func(c *Server, err error) {
				if c != p.srv {
					c.Drop(err)
					closed++
				}
			})
		})
	}
	p.turn(func() {
		for _, c := range all {
			c.Drop(transport.ErrPeerGone)
		}
	})
	if closed < 1000 || looks > 100 {
		t.Errorf("%d of 1000 closed, in %d looks", closed, looks)
	}
}
