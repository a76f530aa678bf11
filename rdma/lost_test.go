//go:build rdma && cgo && linux

package rdma

import (
	"errors"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/transport"
	tt "github.com/kvwire/kvwire/transport/transporttest"
)

// lostRig is a rig of one loop, and its server's endpoint.
func lostRig(t *testing.T, o Options) (*tt.Rig, *endpoint) {
	n := need(t, o)
	var e *endpoint
	n.Transport = tapped{Transport{o}, func(made *endpoint) { e = made }}
	return tt.NewRig(t, n, 1, transport.ServerOptions{}), e
}

// TestALostDeviceIsOpenedAgain reports to the server, and then to the client, that its device has failed. All connections end, and the next one works.
func TestALostDeviceIsOpenedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		o    Options
		lose func(e *endpoint) // on the server's loop, or not
	}{
		"fatal":                {Options{}, func(e *endpoint) { e.handleEvent(event{kind: verbs.EventDeviceFatal}) }},
		"shared receive queue": {Options{SRQ: true}, func(e *endpoint) { e.handleEvent(event{kind: verbs.EventSRQError}) }},
		"told by rdma_cm":      {Options{Connect: ByCM}, func(e *endpoint) { e.removed() }},
		"verb read":            {Options{Verb: Read}, func(e *endpoint) { e.handleEvent(event{kind: verbs.EventCQError}) }},
		"verb write":           {Options{Verb: Write}, func(e *endpoint) { e.handleEvent(event{kind: verbs.EventDeviceFatal}) }},
	} {
		t.Run(name, func(t *testing.T) {
			if c.o.Connect != ByCM {
				modelSuffices(t)
			}
			r, e := lostRig(t, c.o)
			conn := r.Dial(transport.DialOptions{})
			caller := tt.NewCaller(t, r.Loop, conn)
			caller.Expect(tt.Put("k", []byte("value")), kv.StatusOK)
			var was, is *nic
			_ = e.l.Call(func() { was = e.nic; c.lose(e) })
			caller.Submit(tt.Get("k", 10)) // it ends, whatever it finds
			if s := caller.Next().Status; s == kv.StatusOK {
				t.Error("a get over a device that is lost is answered")
			}
			again := tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
			again.Expect(tt.Get("k", 10), kv.StatusOK)
			_ = e.l.Call(func() { is = e.nic })
			if was == is || is.failure != nil {
				t.Errorf("the server's device is the one that was lost: %v", was.failure)
			}

			conn = r.Dial(transport.DialOptions{})
			d := linkOf(conn).d
			var err error
			_ = r.Loop.Call(func() {
				was = d.nic
				d.handleEvent(event{kind: verbs.EventDeviceFatal})
				err = conn.Err()
			})
			if !errors.Is(err, transport.ErrPeerGone) || !strings.Contains(err.Error(), "is lost: it failed or was removed") {
				t.Errorf("the client's connection ended with: %v", err)
			}
			caller = tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
			caller.Expect(tt.Get("k", 10), kv.StatusOK)
			_ = r.Loop.Call(func() { is = d.nic })
			if was == is {
				t.Error("the client's device is the one that was lost")
			}
		})
	}
}

// TestASharedReceiveQueueLosesNoSlot has clients that break off in every way, also after a message that ends the connection.
func TestASharedReceiveQueueLosesNoSlot(t *testing.T) {
	modelSuffices(t)
	o := Options{SRQ: true}
	r, e := lostRig(t, o)
	well := bystander(t, r)
	check := func(after string) {
		t.Helper()
		tt.Until(t, "the slots after "+after, func() bool {
			links, given, posted := 0, 0, 0
			_ = e.l.Call(func() {
				e.links.Each(func(uint64, **link) { links++ })
				given, posted = e.nic.shared.outstanding, e.nic.shared.posted
			})
			return links == 1 && given == posted
		})
		well()
	}
	check("one connection")
	for _, by := range []int32{1000, -5} {
		c := raw(t, r, o, 4, nil)
		_ = c.on(func() error { c.k.credits.posted += uint32(by); return nil })
		_, _ = c.Write(frame(kv.OpGet, 1, "k", nil, 10))
		c.ends(t)
	}
	check("counts that lie")
	for i := range 5 {
		conn := r.Dial(transport.DialOptions{})
		c := tt.NewCaller(t, r.Loop, conn)
		r.Parts[0].Hold(t)
		for range 10 {
			c.Submit(tt.Put("k", tt.Fill(i*5000, 1)))
		}
		conn.Hangup()
		r.Parts[0].Release(t)
	}
	check("clients that end in the middle")
}
