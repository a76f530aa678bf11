//go:build rdma && cgo && linux

package rdma

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	tt "github.com/kvwire/kvwire/transport/transporttest"
)

// tapped is a transport whose servers show what they are made of.
type tapped struct {
	Transport
	tap func(e *endpoint) // on no loop yet
}

// Serve implements Transport.
func (t tapped) Serve(addr string, g *loop.Group, o transport.ServerOptions) (transport.Server, error) {
	return t.serve(addr, g, o, t.tap)
}

// keysRig is a rig of one loop, its server's endpoint, and options for its clients.
func keysRig(t *testing.T, o Options) (*tt.Rig, *endpoint) {
	n := need(t, o)
	var e *endpoint
	n.Transport = tapped{Transport{o}, func(made *endpoint) { e = made }}
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	if e.nic.slotAccess != verbs.Bindable {
		t.Skipf("%s has no memory windows of type 2B", e.nic.name)
	}
	return r, e
}

// slotsOf copies a side's slots. On its loop.
func slotsOf(k *link) []byte { return bytes.Clone(k.mem.arena.Bytes()[:k.mem.staged]) }

// serverSlots copies the slots of the server's end of a connection.
func serverSlots(t *testing.T, e *endpoint, c *rawConn) (slots []byte) {
	t.Helper()
	_ = e.l.Call(func() {
		e.links.Each(func(_ uint64, l **link) {
			if k := *l; k.pair.qp != nil && k.pair.qp.Num == c.k.pair.peer.qp {
				slots = slotsOf(k)
			}
		})
	})
	if slots == nil {
		t.Fatal("the server does not have that connection")
	}
	return slots
}

// put sends a put and waits for the answer.
func (r *rawConn) put(t *testing.T, key string) {
	t.Helper()
	if _, err := r.Write(frame(kv.OpPut, 1, key, []byte("value"), 0)); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 4096)); n == 0 {
		t.Fatalf("no answer: %v", err)
	}
}

// endsRefused waits for the end of a connection whose device was refused.
func (r *rawConn) endsRefused(t *testing.T) {
	t.Helper()
	if err := r.ends(t); !errors.Is(err, transport.ErrPeerGone) || !strings.Contains(err.Error(), "remote access error") {
		t.Errorf("the connection ended with: %v", err)
	}
}

// TestAKeyOpensItsConnectionsSlotsAlone: connected clients use the keys and addresses of other connections' slots. Without windows they
// get there, which shows that the test can fail.
func TestAKeyOpensItsConnectionsSlotsAlone(t *testing.T) {
	for _, o := range []Options{{Verb: Write}, {Verb: Write, Connect: ByCM}} {
		t.Run(o.Connect.String(), func(t *testing.T) {
			if o.Connect != ByCM {
				modelSuffices(t)
			}
			t.Run("AClientWritesToAnothersSlots", func(t *testing.T) { toAnothers(t, o, true) })
			t.Run("AServerWritesToAnothersSlots", func(t *testing.T) { intoAnothers(t, o, true) })
			t.Run("AClientWritesAfterTheEndOfAnother", func(t *testing.T) { toEnded(t, o) })
		})
	}
	t.Run("without windows/AClientWritesToAnothersSlots", func(t *testing.T) { toAnothers(t, Options{Verb: Write}, false) })
	t.Run("without windows/AServerWritesToAnothersSlots", func(t *testing.T) { intoAnothers(t, Options{Verb: Write}, false) })
}

func toAnothers(t *testing.T, o Options, windows bool) {
	r, e := keysRig(t, o)
	if !windows {
		_ = e.l.Call(func() { e.nic.slotAccess = verbs.RemoteWrite })
	}
	other, thief := raw(t, r, o, 4, nil), raw(t, r, o, 4, nil)
	other.put(t, "others")
	before := serverSlots(t, e, other)
	if !bytes.Contains(before, []byte("others")) {
		t.Fatal("what a client says is not in its slots")
	}
	_ = thief.on(func() error { thief.k.keys.peer = other.k.keys.peer; return nil })
	_, _ = thief.Write(frame(kv.OpPut, 1, "stolen", []byte("value"), 0))
	if !windows {
		tt.Until(t, "the write to arrive", func() bool { return !bytes.Equal(before, serverSlots(t, e, other)) })
		return
	}
	thief.endsRefused(t)
	if after := serverSlots(t, e, other); !bytes.Equal(before, after) {
		t.Error("the other's slots were written")
	}
	other.put(t, "again")
	bystander(t, r)()
}

// intoAnothers: a client sends another client's key instead of its own, on the same loop and device.
func intoAnothers(t *testing.T, o Options, windows bool) {
	r, _ := keysRig(t, o)
	d := linkOf(r.Dial(transport.DialOptions{})).d
	if !windows {
		_ = d.l.Call(func() { d.nic.slotAccess = verbs.RemoteWrite })
	}
	other := raw(t, r, o, 4, nil)
	other.put(t, "others")
	var before []byte
	thief := rawWith(t, r, o, 4, nil, func(k *link) { k.keys.own, before = other.k.keys.own, slotsOf(other.k) })
	_, _ = thief.Write(frame(kv.OpGet, 1, "others", nil, 100))
	same := func() (same bool) {
		_ = other.on(func() error { same = bytes.Equal(before, slotsOf(other.k)); return nil })
		return same
	}
	if !windows {
		tt.Until(t, "the write to arrive", func() bool { return !same() })
		return
	}
	if err := thief.ends(t); !errors.Is(err, transport.ErrPeerGone) {
		t.Errorf("the connection ended with: %v", err)
	}
	if !same() {
		t.Error("the other's slots were written")
	}
	other.put(t, "again")
	bystander(t, r)()
}

func toEnded(t *testing.T, o Options) {
	r, e := keysRig(t, o)
	thief, ended := raw(t, r, o, 4, nil), raw(t, r, o, 4, nil)
	ended.put(t, "k")
	key := ended.k.keys.peer
	_ = ended.Close()
	tt.Until(t, "the server to free it", func() (free bool) {
		_ = e.l.Call(func() {
			n := 0
			e.links.Each(func(uint64, **link) { n++ })
			free = n == 1
		})
		return free
	})
	_ = thief.on(func() error { thief.k.keys.peer = key; return nil })
	_, _ = thief.Write(frame(kv.OpPut, 1, "late", []byte("value"), 0))
	thief.endsRefused(t)
	bystander(t, r)()
}

// A window that is not bound ends its connection, and no other.
func TestAWindowThatIsNotBoundEndsTheConnectionAlone(t *testing.T) {
	for _, o := range []Options{{Verb: Write}, {Verb: Write, Connect: ByCM}} {
		for _, side := range []string{"server", "client"} {
			t.Run(o.Connect.String()+"/"+side, func(t *testing.T) {
				if o.Connect != ByCM {
					modelSuffices(t)
				}
				r, e := keysRig(t, o)
				conn := r.Dial(transport.DialOptions{})
				well := tt.NewCaller(t, r.Loop, conn)
				d := &e.rdmaEngine
				if side == "client" {
					d = linkOf(conn).d
				}
				_ = d.l.Call(func() { d.nic.slotAccess = verbs.Local }) // the device binds no window to such memory
				bad, err := r.TryDial(transport.DialOptions{})
				refused := new(*transport.Refusal)
				if errors.As(err, refused) != (side == "server" && o.Connect == ByTCP) {
					t.Fatal(err)
				}
				if err == nil { // the hello was through
					tt.Until(t, "the connection to end", func() bool {
						_ = r.Loop.Call(func() { err = bad.Err() })
						return err != nil
					})
				}
				const cause = "bind a memory window"
				if gone := errors.Is(err, transport.ErrPeerGone); gone != (side == "server" && o.Connect == ByCM) || !gone && !strings.Contains(err.Error(), cause) {
					t.Errorf("the client's connection ended with: %v", err)
				}
				if side == "server" {
					r.Logged(1, cause)
				}
				_ = d.l.Call(func() { d.nic.slotAccess = verbs.Bindable })
				echoes(t, well, []int{100})
				echoes(t, tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{})), []int{100})
			})
		}
	}
}

// Where the device of one side, or of both, has no windows, the region's own key does.
func TestWithoutWindowsTheVerbWriteWorks(t *testing.T) {
	o := Options{Verb: Write}
	r, e := keysRig(t, o)
	first := r.Dial(transport.DialOptions{})
	for _, d := range []*rdmaEngine{&e.rdmaEngine, linkOf(first).d} {
		_ = d.l.Call(func() { d.nic.slotAccess = verbs.RemoteWrite })
		c := raw(t, r, o, 4, nil)
		c.put(t, "k")
		if bare := c.k.keys.window == nil; bare != (d == linkOf(first).d) {
			t.Fatalf("the client's window: %v", c.k.keys.window)
		}
		echoes(t, tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{})), around(8<<10))
	}
	echoes(t, tt.NewCaller(t, r.Loop, first), []int{100})
}

func TestFirstMessagesThatAreNoKeyEndTheConnectionAlone(t *testing.T) {
	modelSuffices(t)
	o := Options{Verb: Write}
	r, _ := keysRig(t, o)
	well := bystander(t, r)
	c := rawWith(t, r, o, 4, nil, func(k *link) { // it sends no key
		k.keys.state = keySent
		for i := range k.out.wrs.Len() {
			k.out.wrs.At(i).bind = false
		}
	})
	_ = c.on(func() error { c.k.alive.probe = true; c.k.Touch(); return nil })
	c.ends(t)
	r.Logged(1, "the first message has 0 B")
	well()
	c = rawWith(t, r, o, 4, nil, func(k *link) { k.keys.own = slotsKey{1 << 63, 77} })
	_, _ = c.Write(frame(kv.OpGet, 1, "k", nil, 10))
	c.ends(t)
	well()
}
