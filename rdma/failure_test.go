//go:build rdma && cgo && linux

package rdma

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport"
	tt "github.com/kvwire/kvwire/transport/transporttest"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// TestFailures are the failures that a network of queue pairs has to get over, for each verb.
func TestFailures(t *testing.T) {
	for _, v := range []Verb{Send, Write, WritePoll} {
		t.Run(v.String(), func(t *testing.T) {
			if v != Write {
				modelSuffices(t)
				testenv.NotShort(t, "the failures of write are enough")
				testenv.NotRaced(t)
			}
			o := Options{Verb: v}
			n := need(t, o)
			if n.Polled {
				leaveProcessors(t)
			}
			type failure struct {
				name string
				f    func(t *testing.T, n tt.Network, o Options)
			}
			all := []failure{ // their course depends on the device, and on what the kernel does for it
				{"AKilledServerIsNoticed", killedServer},
				{"AKilledClientFreesWhatItHad", killedClient},
				{"AStoppedServerIsNoticed", stoppedServer},
				{"AStoppedServerHoldsTheSender", withheldByServer},
				{"MessagesBeyondTheSlotEndTheConnectionAlone", beyondSlot},
				{"AnswersToNowhereEndTheConnectionAlone", toNowhere},
				{"ParametersThatCannotBeAreRefused", badParams},
				{"ConnectionsLeaveNoResource", noResource},
				{"LittleLockedMemoryIsALineThatSaysWhatToDo", memlock},
			}
			if !modelIsEnough() {
				all = append(all, []failure{
					{"ASlowHandlerIsNoStoppedServer", slowHandler},
					{"AStoppedClientMeetsTheDeadline", stoppedClient},
					{"AClientThatReadsLateHoldsTheSender", withheldByClient},
					{"MoreMessagesThanTheSendQueueArrive", fullQueue},
					{"FramesAroundTheSlotArrive", boundaries},
					{"ValuesOf16MiBArrive", largest},
					{"SidesMayHaveOtherSlots", otherSlots},
					{"CountsThatLieEndTheConnectionAlone", lies},
					{"BytesAfterTheHelloEndTheConnectionAlone", afterHello},
					{"VerbsThatDifferAreRefused", otherVerb},
					{"AnswersThatCannotBeEndTheDial", badAnswers},
				}...)
			}
			for _, c := range all {
				t.Run(c.name, func(t *testing.T) {
					c.f(t, n, o)
				})
			}
			if v.writes() { // whose messages carry their address
				t.Run("WritesElsewhereEndTheConnectionAlone", func(t *testing.T) { writesElsewhere(t, n, o) })
			}
		})
	}
}

// repeats is n in a long run (KVWIRE_LONG), and fewer else where the CPU is emulated.
func repeats(n int) int {
	if tt.Long {
		return n
	}
	return tt.Effort(n)
}

func dial(t *testing.T, n tt.Network, l *loop.Loop, addr string, o transport.DialOptions) transport.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), tt.WaitMax)
	defer cancel()
	o.DialMax = tt.WaitMax
	c, err := n.Dial(ctx, l, addr, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bystander is a connection that must not be affected. Each call checks that it works.
func bystander(t *testing.T, r *tt.Rig) func() {
	c := tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	return func() {
		t.Helper()
		c.Expect(tt.Put("by", []byte("stander")), kv.StatusOK)
		if g := c.Expect(tt.Get("by", 20), kv.StatusOK); string(g.Value) != "stander" {
			t.Fatalf("another connection reads %q", g.Value)
		}
	}
}

// raw makes a connection, after the hellos and keys, on which the test can send anything.
func raw(t *testing.T, r *tt.Rig, o Options, depth int, change func(p *params)) *rawConn {
	t.Helper()
	c := rawWith(t, r, o, depth, change, nil)
	if change == nil {
		if err := c.wait(func() bool { return c.k.keys.known }); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// rawWith is raw that waits for nothing; see newRaw.
func rawWith(t *testing.T, r *tt.Rig, o Options, depth int, change func(p *params), began func(k *link)) *rawConn {
	t.Helper()
	c, h := newRaw(t, o, r.Loop, tcpTo(t, r.Server.Addr()), depth, change, began)
	if h.Code != wire.Granted {
		t.Fatalf("hello refused: %v %s", h.Code, h.Reason)
	}
	_ = c.SetDeadline(time.Now().Add(tt.WaitMax))
	t.Cleanup(func() { _ = c.on(func() error { c.k.Close(transport.ErrClosed); return nil }) })
	return c
}

func tcpTo(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, tt.WaitMax)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(tt.WaitMax))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ends waits for the end of a raw connection.
func (r *rawConn) ends(t *testing.T) error {
	t.Helper()
	err := r.wait(func() bool { return false })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection goes on")
	}
	return err
}

// frame is a request on the wire.
func frame(op kv.Op, id uint64, key string, value []byte, room int) []byte {
	h := wire.Header{Op: op, ID: id, KeyBytes: uint16(len(key)), ValueBytes: uint32(len(value) + room)}
	b := make([]byte, wire.HeaderBytes)
	h.Encode(b)
	return append(append(b, key...), value...)
}

// resources are the objects that a device has, by kind, as the rdma tool counts them.
func resources(t *testing.T) map[string]int {
	t.Helper()
	if Modelled() != nil {
		return verbs.Objects()
	}
	c, err := device.Pick(device.Local(), netip.IPv4Unspecified())
	if err != nil {
		t.Fatal(err)
	}
	all, err := testenv.RDMAObjects(c.Device)
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("no rdma tool here (apt-get install iproute2)")
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// untilResources waits until there are as many as there were.
func untilResources(t *testing.T, want map[string]int) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("there are %v, want %v", resources(t), want)
		}
	}()
	tt.Until(t, "all queue pairs and their memory to be freed", func() bool { return fmt.Sprint(resources(t)) == fmt.Sprint(want) })
}

// rnrs counts how often a message has come and no receive was posted.
func rnrs(t *testing.T) uint64 {
	t.Helper()
	if Modelled() != nil {
		return verbs.RNRs()
	}
	s := device.Local()
	c, err := device.Pick(s, netip.IPv4Unspecified())
	if err != nil {
		t.Fatal(err)
	}
	w := device.ReadCounters(s, c).Wire(true)
	if !w.RNR.Known {
		t.Skip("this device does not count what comes without a receive")
	}
	return w.RNR.N
}

// allUnknown waits for so many requests to end, which were on their way.
func allUnknown(t *testing.T, c *tt.Caller, n int) {
	t.Helper()
	for range n {
		if s := c.Next().Status; s != kv.StatusUnknown {
			t.Fatalf("a request in flight ended as %v", s)
		}
	}
}

func killedServer(t *testing.T, n tt.Network, _ Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{}) // for its client's loop
	var took time.Duration
	rounds := repeats(10)
	for range rounds {
		child := tt.StartChild(t, n, tt.Plan{})
		c := tt.NewCaller(t, r.Loop, dial(t, n, r.Loop, child.Addr, transport.DialOptions{Depth: 16}))
		for i := range 16 {
			c.Submit(tt.Put(fmt.Sprint(i), []byte("v")))
		}
		child.Await(16)
		gone := make(chan struct{})
		at := time.Now()
		go func() { child.Kill(); close(gone) }()
		allUnknown(t, c, 16)
		took = max(took, time.Since(at))
		<-gone
	}
	t.Logf("%d times, from SIGKILL of the server to the end of all 16 requests in flight: %v at most", rounds, took.Round(time.Microsecond))
}

func killedClient(t *testing.T, n tt.Network, _ Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{MaxConns: 2})
	well := bystander(t, r)
	well()
	before := resources(t)
	p := r.Parts[0]
	p.Hold(t)
	child := tt.StartChild(t, n, tt.Plan{Dial: r.Server.Addr(), Depth: 16})
	p.Await(t, 2+16)
	gone := make(chan struct{})
	at := time.Now()
	go func() { child.Kill(); close(gone) }()
	p.Release(t) // answers that no client reads
	var c transport.Conn
	tt.Until(t, "its place to become free", func() (ok bool) {
		var err error
		c, err = r.TryDial(transport.DialOptions{})
		return err == nil
	})
	t.Logf("from SIGKILL of the client to another one in its place: %v", time.Since(at).Round(time.Microsecond))
	<-gone
	c.Hangup()
	untilResources(t, before)
	well()
}

// stopStall is the server's StallMax where a stopped process is to be noticed soon. Below stallMin clients wait longer.
const stopStall = 500 * time.Millisecond

func stoppedServer(t *testing.T, n tt.Network, _ Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	child := tt.StartChild(t, n, tt.Plan{Stall: stopStall})
	conn := dial(t, n, r.Loop, child.Addr, transport.DialOptions{Depth: 16})
	c := tt.NewCaller(t, r.Loop, conn)
	c.Submit(tt.Put("before", []byte("v")))
	child.Await(1)
	child.Freeze()
	at := time.Now()
	for i := range 7 { // into its slots, while it is stopped
		c.Submit(tt.Put(fmt.Sprint(i), tt.Fill(5000, 1)))
	}
	allUnknown(t, c, 8)
	t.Logf("from SIGSTOP of the server to the end of all 8 requests in flight: %v (%v at least)", time.Since(at).Round(time.Millisecond), stallMin*3/4)
	var err error
	_ = r.Loop.Call(func() { err = conn.Err() })
	if !errors.Is(err, transport.ErrStalled) || !strings.Contains(err.Error(), "no sign of life") {
		t.Errorf("the connection ended with: %v", err)
	}
	child.Thaw()
	c = tt.NewCaller(t, r.Loop, dial(t, n, r.Loop, child.Addr, transport.DialOptions{Depth: 16}))
	c.Submit(tt.Put("after", []byte("v")))
	child.Await(9)
}

// slowHandler holds requests for longer than a stopped server is waited for.
func slowHandler(t *testing.T, n tt.Network, _ Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{StallMax: stopStall})
	conn := r.Dial(transport.DialOptions{Depth: 16})
	c := tt.NewCaller(t, r.Loop, conn)
	p := r.Parts[0]
	p.Hold(t)
	c.Submit(tt.Put("k", []byte("v")))
	p.Await(t, 1)
	k := linkOf(conn)
	var began int64
	_ = r.Loop.Call(func() { began = r.Loop.Now() })
	tt.Until(t, "signs of life", func() (late bool) {
		_ = r.Loop.Call(func() { late = k.alive.receivedAt > began+int64(stallMin)*3/2 })
		return late
	})
	p.Release(t)
	if s := c.Next().Status; s != kv.StatusOK {
		t.Fatal(s)
	}
}

func linkOf(c transport.Conn) *link {
	if c, ok := c.(*respConn); ok {
		return c.link
	}
	return c.(*conn).link
}

func stoppedClient(t *testing.T, n tt.Network, _ Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{MaxConns: 2, StallMax: stopStall})
	well := tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	well.Expect(tt.Put("large", tt.Fill(1<<20, 1)), kv.StatusOK)
	child := tt.StartChild(t, n, tt.Plan{Dial: r.Server.Addr(), Depth: 16, Room: 1 << 20})
	child.Await(3)
	child.Freeze() // with answers on their way, for which it will post no receives
	at := time.Now()
	tt.Until(t, "the server to give up on it", func() bool {
		well.Expect(tt.Get("large", 1<<20), kv.StatusOK)
		// One that is looked at late may have waited too long for memory, too.
		said := strings.Join(r.Logs(), "\n")
		return strings.Contains(said, "stopped in the middle") || strings.Contains(said, "no memory for its answers")
	})
	t.Logf("from SIGSTOP of the client to the end of its connection: %v (StallMax %v)", time.Since(at).Round(time.Millisecond), stopStall)
	r.Dial(transport.DialOptions{}).Hangup() // there is a place again
}

// withheldByServer submits many times what a stopped server has slots for.
func withheldByServer(t *testing.T, n tt.Network, o Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	child := tt.StartChild(t, n, tt.Plan{Answers: true})
	conn := dial(t, n, r.Loop, child.Addr, transport.DialOptions{Depth: 32})
	c := tt.NewCaller(t, r.Loop, conn)
	c.Expect(tt.Put("k", []byte("v")), kv.StatusOK)
	k := linkOf(conn)
	before := rnrs(t)
	child.Freeze()
	many := repeats(500)
	for i := range many {
		c.Submit(tt.Put(fmt.Sprint(i), tt.Fill(100_000, uint64(i))))
	}
	tt.Until(t, "the credits to be used up", func() (ok bool) {
		_ = r.Loop.Call(func() { ok = k.credits.available() <= 1 })
		return ok
	})
	child.Thaw()
	for range many {
		if s := c.Next().Status; s != kv.StatusOK {
			t.Fatal(s)
		}
	}
	for i := range many {
		if g := c.Expect(tt.Get(fmt.Sprint(i), 100_000), kv.StatusOK); !bytes.Equal(g.Value, tt.Fill(100_000, uint64(i))) {
			t.Fatalf("value %d came back as another", i)
		}
	}
	if k := rnrs(t) - before; k != 0 {
		t.Errorf("%d messages came where no receive was posted", k)
	}
}

// withheldByClient requests much and reads nothing until the server has no credits left.
func withheldByClient(t *testing.T, n tt.Network, o Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{StallMax: time.Hour})
	well := bystander(t, r)
	owner := tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	const valueBytes, gets = 1 << 20, 8
	want := tt.Fill(valueBytes, 1)
	owner.Expect(tt.Put("large", want), kv.StatusOK)
	before := rnrs(t)
	c := raw(t, r, o, 16, nil)
	keys := uint32(0) // messages that fill no slot
	if o.Verb.writes() {
		keys = 1
	}
	for i := range gets {
		_, _ = c.Write(frame(kv.OpGet, uint64(i), "large", nil, valueBytes))
	}
	tt.Until(t, "the server's credits to be used up", func() (up bool) {
		well()
		// The last one is kept. How many of the slots that this side has emptied the server knows of is a matter of
		// when the last request left.
		_ = r.Loop.Call(func() { up = len(c.out) == 0 && int32(c.k.credits.advertised-messages(c.k)-keys) <= 1 })
		return up
	})
	got := make([]byte, gets*(wire.HeaderBytes+valueBytes))
	for have := 0; have < len(got); {
		n, err := c.Read(got[have:])
		if err != nil {
			t.Fatalf("after %d of %d B: %v", have, len(got), err)
		}
		have += n
	}
	for ; len(got) > 0; got = got[wire.HeaderBytes+valueBytes:] {
		if !bytes.Equal(got[wire.HeaderBytes:][:valueBytes], want) {
			t.Fatal("another value")
		}
	}
	if k := rnrs(t) - before; k != 0 {
		t.Errorf("%d messages came where no receive was posted", k)
	}
	well()
}

// messages returns the number of messages with bytes that a link has received.
func messages(k *link) uint32 {
	if k.ring != nil {
		return k.ring.found
	}
	return k.in.arrivals
}

func fullQueue(t *testing.T, _ tt.Network, o Options) {
	o.SlotBytes, o.SignalEvery = 256, 64
	n := need(t, o)
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	conn := r.Dial(transport.DialOptions{Depth: 4})
	k := linkOf(conn)
	c := tt.NewCaller(t, r.Loop, conn)
	for i := range 8 {
		c.Submit(tt.Put(fmt.Sprint(i), tt.Fill(100_000+i, uint64(i))))
	}
	for range 8 {
		if s := c.Next().Status; s != kv.StatusOK {
			t.Fatal(s)
		}
	}
	for i := range 8 {
		if g := c.Expect(tt.Get(fmt.Sprint(i), 200_000), kv.StatusOK); !bytes.Equal(g.Value, tt.Fill(100_000+i, uint64(i))) {
			t.Fatalf("value %d came back as another", i)
		}
	}
	var sent uint32
	_ = r.Loop.Call(func() { sent = k.credits.sent })
	if sent < 8*100_000/256 || k.out.wrs.Room() > 16 {
		t.Fatalf("%d messages through a queue of %d", sent, k.out.wrs.Room())
	}
}

// around are the values that make frames of about one or two slots: puts with a key of 1 byte, and answers.
func around(slot int) (sizes []int) {
	for _, frameBytes := range []int{slot - 1, slot, slot + 1, 2*slot - 1, 2 * slot, 2*slot + 1} {
		sizes = append(sizes, frameBytes-wire.HeaderBytes-1, frameBytes-wire.HeaderBytes)
	}
	return sizes
}

func echoes(t *testing.T, c *tt.Caller, sizes []int) {
	t.Helper()
	for _, size := range sizes {
		v := tt.Fill(size, uint64(size))
		c.Expect(tt.Put("k", v), kv.StatusOK)
		if g := c.Expect(tt.Get("k", size), kv.StatusOK); !bytes.Equal(g.Value, v) {
			t.Fatalf("%d B came back as %d B, others", size, len(g.Value))
		}
	}
}

func boundaries(t *testing.T, _ tt.Network, o Options) {
	for _, o.SlotBytes = range []int{256, 8 << 10, 64 << 10} {
		r := tt.NewRig(t, need(t, o), 1, transport.ServerOptions{})
		echoes(t, tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{})), around(o.SlotBytes))
		r.Stop()
	}
}

func largest(t *testing.T, n tt.Network, _ Options) {
	const most = 16 << 20
	r := tt.NewRig(t, n, 1, transport.ServerOptions{Limits: kv.Limits{MaxKeyBytes: 64, MaxValueBytes: most}})
	c := tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 4}))
	echoes(t, c, []int{most - 1, most})
	c.Expect(tt.Put("k", make([]byte, most+1)), kv.StatusTooLarge)
}

func otherSlots(t *testing.T, n tt.Network, o Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	for _, o.SlotBytes = range []int{256, 1024, 32 << 10} {
		conn := dial(t, need(t, o), r.Loop, r.Server.Addr(), transport.DialOptions{})
		echoes(t, tt.NewCaller(t, r.Loop, conn), append(around(o.SlotBytes), 100_000))
		conn.Hangup()
	}
}

func beyondSlot(t *testing.T, n tt.Network, o Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	well := bystander(t, r)
	o.SlotBytes = 32 << 10 // the server's are of 8 KiB
	c := raw(t, r, o, 4, nil)
	_ = c.on(func() error { c.k.out.maxBytes = 20_000; return nil })
	_, _ = c.Write(frame(kv.OpPut, 1, "k", tt.Fill(19_000, 1), 0))
	t.Logf("the sender: %v; the log: %q", c.ends(t), r.Logs())
	well()
}

func lies(t *testing.T, n tt.Network, o Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	well := bystander(t, r)
	for n, by := range []int32{1000, 1 << 30, -5} { // too many, endless, back
		c := raw(t, r, o, 4, nil)
		_ = c.on(func() error { c.k.credits.posted += uint32(by); return nil })
		_, _ = c.Write(frame(kv.OpGet, 1, "k", nil, 10))
		c.ends(t)
		r.Logged(n+1, "it has posted")
		well()
	}
}

func writesElsewhere(t *testing.T, n tt.Network, o Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	well := bystander(t, r)
	for name, change := range map[string]func(k *link){
		"wrong key":        func(k *link) { k.keys.peer.rkey ^= 0x00FF00 },
		"out of range":     func(k *link) { k.keys.peer.addr += 1 << 30 },
		"across the end":   func(k *link) { k.keys.peer.addr += uint64(k.pair.peer.slots*k.pair.peer.slotBytes) - 8 },
		"behind the end":   func(k *link) { k.keys.peer.addr += uint64(k.pair.peer.slots * k.pair.peer.slotBytes) }, // where messages lie that it sends
		"before the start": func(k *link) { k.keys.peer.addr -= 8 },
	} {
		c := raw(t, r, o, 4, nil)
		_ = c.on(func() error { change(c.k); return nil })
		_, _ = c.Write(frame(kv.OpPut, 1, "key", []byte("value"), 0))
		if err := c.ends(t); !errors.Is(err, transport.ErrPeerGone) {
			t.Errorf("%s: %v", name, err)
		}
		well()
	}
}

func afterHello(t *testing.T, n tt.Network, o Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	well := bystander(t, r)
	c := raw(t, r, o, 4, nil)
	_ = c.on(func() error { _, err := unix.Write(c.k.tcp.fd, []byte("more")); return err })
	c.ends(t)
	r.Logged(1, "after the hello")
	well()
}

// toNowhere names a queue pair that there is not, or a place in its stream that is not the next.
func toNowhere(t *testing.T, n tt.Network, o Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	well := bystander(t, r)
	before := resources(t)
	for _, c := range []struct {
		name   string
		change func(p *params)
	}{
		{"queue pair", func(p *params) { p.qp ^= 0xFFF000 }},
		{"later sequence number", func(p *params) { p.psn = (p.psn + 1<<20) & (1<<24 - 1) }},
		{"earlier sequence number", func(p *params) { p.psn = (p.psn - 1<<20) & (1<<24 - 1) }},
	} {
		name, c := c.name, raw(t, r, o, 4, c.change)
		at := time.Now()
		_, _ = c.Write(frame(kv.OpGet, 1, "k", nil, 10))
		// The device may take what came before its time for a copy, acknowledge it, and forget it: with the verb write, our key.
		err := c.wait(func() bool { return c.k.drained() && (len(c.out) == 0 || c.k.keys.state >= keySent && !c.k.keys.known) })
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("another %s: neither acknowledged nor refused", name)
		}
		t.Logf("another %s: after %v: %v", name, time.Since(at).Round(time.Millisecond), err)
		well()
		_ = c.on(func() error { c.k.Close(transport.ErrClosed); return nil })
	}
	untilResources(t, before)
}

func badParams(t *testing.T, n tt.Network, o Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	well := bystander(t, r)
	before := resources(t)
	good := params{verb: o.Verb, mtu: 1024, responds: 16, qp: 77, slots: 16, slotBytes: 8192, gid: netip.MustParseAddr(n.Host).As16()}
	if err := new(params).decode(good.encode()); err != nil {
		t.Fatal(err)
	}
	bad := map[string][]byte{
		"none":          nil,
		"a few bytes":   {1, 0, 4},
		"zeroes":        make([]byte, paramsBytes),
		"garbage":       tt.Fill(wire.MaxParams, 7),
		"cut":           good.encode()[:paramsBytes-1],
		"other format":  append([]byte{9}, good.encode()[1:]...),
		"verb":          with(good, func(p *params) { p.verb = 77 }),
		"MTU":           with(good, func(p *params) { p.mtu = 768 }),
		"large MTU":     with(good, func(p *params) { p.mtu = 8192 }),
		"no MTU":        with(good, func(p *params) { p.mtu = 0 }),
		"no slots":      with(good, func(p *params) { p.slots = 0 }),
		"odd slots":     with(good, func(p *params) { p.slots = 5 }),
		"many slots":    with(good, func(p *params) { p.slots = 8192 }),
		"small slots":   with(good, func(p *params) { p.slotBytes = 8 }),
		"huge slots":    with(good, func(p *params) { p.slotBytes = 1 << 31 }),
		"queue pair":    with(good, func(p *params) { p.qp = 1 << 24 }),
		"sequence":      with(good, func(p *params) { p.psn = 1 << 31 }),
		"another verb":  with(good, func(p *params) { p.verb = Send + Write - o.Verb }),
		"no GID":        with(good, func(p *params) { p.gid = [16]byte{} }),
		"GID elsewhere": with(good, func(p *params) { p.gid = netip.MustParseAddr("203.0.113.77").As16() }),
	}
	for name, b := range bad {
		c := tcpTo(t, r.Server.Addr())
		h, err := exchange(c, 4, b)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case h.Code == wire.Granted && !strings.Contains(name, "GID"): // whether there is a route is the device's word
			t.Errorf("%s: granted", name)
		case h.Code != wire.Granted && (h.Reason == "" || strings.Contains(h.Reason, "\n")):
			t.Errorf("%s: refused (%v): %q", name, h.Code, h.Reason)
		}
		t.Logf("%s: %v: %s", name, h.Code, h.Reason)
		_ = c.Close()
		well()
	}
	untilResources(t, before)
}

func with(p params, change func(p *params)) []byte {
	change(&p)
	return p.encode()
}

func otherVerb(t *testing.T, n tt.Network, o Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	well := bystander(t, r)
	for _, o.Verb = range []Verb{Send, Write, Read, WritePoll} {
		if o.Verb == n.Transport.(Transport).Verb || o.Verb.CheckWait(n.Wait) != nil { // the second is refused before any hello
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), tt.WaitMax)
		_, err := need(t, o).Dial(ctx, r.Loop, r.Server.Addr(), transport.DialOptions{DialMax: tt.WaitMax})
		cancel()
		var refusal *transport.Refusal
		if !errors.As(err, &refusal) || refusal.Code != refusedVerb || !strings.Contains(err.Error(), "--rdma-verb") {
			t.Errorf("%v: %v", o.Verb, err)
		}
		well()
	}
}

// badAnswers are of a server that is none.
func badAnswers(t *testing.T, n tt.Network, o Options) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	well := bystander(t, r)
	well()
	before := resources(t)
	good := params{verb: o.Verb, mtu: 1024, responds: 16, qp: 77, slots: 16, slotBytes: 8192, gid: netip.MustParseAddr(n.Host).As16()}
	granted := wire.ServerHello{Version: wire.Version, Depth: 4, MaxKeyBytes: 100, MaxValueBytes: 1000, Loops: 1}
	answer := func(params []byte) []byte {
		h := granted
		h.Params = params
		return h.Append(nil)
	}
	for name, b := range map[string][]byte{
		"no parameters": answer(nil),
		"garbage":       answer(tt.Fill(60, 1)),
		"another verb":  answer(with(good, func(p *params) { p.verb = Send + Write - o.Verb })),
		"no slots":      answer(with(good, func(p *params) { p.slots = 0 })),
		"no hello":      []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"half a hello":  answer(good.encode())[:40],
		"nothing":       nil,
		"the end":       {},
	} {
		ln, err := net.Listen("tcp", net.JoinHostPort(n.Host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			if b == nil { // it never sends anything
				_, _ = c.Read(make([]byte, 4096))
				_, _ = c.Read(make([]byte, 4096))
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write(b)
		}()
		o := transport.DialOptions{DialMax: tt.WaitMax}
		if b == nil {
			o.DialMax = 300 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), tt.WaitMax)
		_, err = n.Dial(ctx, r.Loop, ln.Addr().String(), o)
		cancel()
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %v", name, err)
		_ = ln.Close()
		<-served
		well()
	}
	untilResources(t, before)
}

func noResource(t *testing.T, n tt.Network, _ Options) { noResourceOf(t, n, false) }

// noResourceOf is noResource for clients of one protocol.
func noResourceOf(t *testing.T, n tt.Network, redis bool) {
	none := resources(t)
	var r *tt.Rig
	t.Run("WhileTheServerRuns", func(t *testing.T) {
		r = tt.NewRig(t, n, 2, transport.ServerOptions{})
		for loop := range 2 {
			r.Dial(transport.DialOptions{Loop: loop, Redis: redis}).Hangup()
		}
		well := bystander(t, r)
		well()
		p := r.Parts[0]
		tt.Until(t, "the connections of before to be freed", func() bool { return resources(t)["qp"] == none["qp"]+2 }) // both ends of well's
		before := resources(t)
		var d *rdmaEngine
		for i := range repeats(400) {
			conn := r.Dial(transport.DialOptions{Loop: i % 2, Redis: redis})
			d = linkOf(conn).d
			c := tt.NewCaller(t, r.Loop, conn)
			c.Expect(tt.Put("k", tt.Fill(i*30, 1)), kv.StatusOK)
			if i%10 == 0 { // with a request on its way
				p.Hold(t)
				c.Submit(tt.Get("k", 10))
			}
			conn.Hangup()
			p.Release(t)
		}
		untilResources(t, before)
		well()
		_ = r.Loop.Call(func() {
			if d.failed != nil {
				t.Error(d.failed)
			}
		})
	})
	untilResources(t, none)
	// Windows are not counted, but a region is not freed under one (rxe), nor a protection domain.
	for _, line := range r.Logs() {
		if strings.Contains(line, "verbs: free") {
			t.Error(line)
		}
	}
}

// memlock starts a server and a client with very little memory that they may lock, as many systems have it.
func memlock(t *testing.T, n tt.Network, _ Options) {
	if Modelled() != nil {
		t.Skip("the model locks no memory")
	}
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	for name, p := range map[string]tt.Plan{"server": {Memlock: 64 << 10}, "client": {Memlock: 64 << 10, Dial: r.Server.Addr(), Depth: 16}} {
		cmd := tt.Command(n, p)
		var said bytes.Buffer
		cmd.Stderr = &said
		err := startUnprivileged(cmd)
		if err == nil {
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err = <-ended:
			case <-time.After(tt.WaitMax):
				_ = cmd.Process.Kill()
				<-ended
				t.Fatalf("the %s goes on", name)
			}
		}
		var exit *exec.ExitError
		if line := strings.TrimSuffix(said.String(), "\n"); !errors.As(err, &exit) || strings.Contains(line, "\n") || !strings.Contains(line, "ulimit -l") {
			t.Errorf("%s: %v: %s", name, err, line)
		} else {
			t.Logf("%s: %s", name, line)
		}
	}
	bystander(t, r)()
}

// startUnprivileged starts a command that may not lock more memory than its limit, as root may.
func startUnprivileged(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its lack of the capability
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_IPC_LOCK, 0, 0, 0); err != nil && !errors.Is(err, unix.EPERM) {
			started <- fmt.Errorf("drop CAP_IPC_LOCK: %w", err)
			return
		}
		started <- cmd.Start()
	}()
	return <-started
}
