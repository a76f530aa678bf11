package udp

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/transport/datagram"
	"github.com/kvwire/kvwire/transport/transporttest"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

var network = transporttest.Network{Transport: Transport{Options{Segments: true}}, Datagrams: true}

// onEach runs a test with both engines.
func onEach(t *testing.T, test func(t *testing.T, n transporttest.Network)) {
	t.Run("epoll", func(t *testing.T) { test(t, network) })
	t.Run("uring", func(t *testing.T) {
		testenv.Uring(t)
		test(t, onRing)
	})
}

// ringEnv is the environment variable that makes a child process use the engine uring.
const ringEnv = "KVWIRE_UDPTEST_URING"

var onRing = transporttest.Network{Transport: Transport{Options{Engine: Uring, Segments: true}}, Datagrams: true, Env: []string{ringEnv + "=1"}}

func TestMain(m *testing.M) {
	n := network
	if os.Getenv(ringEnv) != "" {
		n = onRing
	}
	transporttest.Main(m, n)
}

func TestUDP(t *testing.T) { transporttest.RunUnlessShort(t, network) }

func TestUring(t *testing.T) {
	testenv.Uring(t)
	transporttest.RunVariant(t, onRing)
}

// Each datagram is a message of its own, and there are few credits.
func TestUringOptions(t *testing.T) {
	testenv.Uring(t)
	n := onRing
	n.Transport = Transport{Options{Engine: Uring, DatagramBytes: 1200, Credits: 4}}
	transporttest.RunBrief(t, n)
}

// The suite over datagrams of loopback's size, each a message of its own, few credits, and a rate.
func TestOptions(t *testing.T) {
	n := network
	n.Transport = Transport{Options{DatagramBytes: 60_000, Credits: 4, Congestion: datagram.CongestionTimely}}
	transporttest.RunBrief(t, n)
}

func TestIPv6(t *testing.T) {
	c, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	_ = c.Close()
	n := network
	n.Host = "[::1]"
	r := transporttest.NewRig(t, n, 2, transport.ServerOptions{})
	for loop := range 2 {
		k := transporttest.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Loop: loop}))
		k.Expect(transporttest.Put("k", transporttest.Fill(10_000, 1)), kv.StatusOK)
	}
}

// relay passes datagrams on between clients and a server, and loses and doubles some of them.
func relay(t *testing.T, to string, seed uint64, loss float64) string {
	t.Helper()
	front, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := net.Dial("udp4", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = front.Close(); _ = server.Close() })
	copies := func(rng *rand.Rand) int {
		switch p := rng.Float64(); {
		case p < loss:
			return 0
		case p < 2*loss:
			return 2
		}
		return 1
	}
	client := make(chan net.Addr, 1)
	go func() { // to the server
		rng := rand.New(rand.NewPCG(seed, 1))
		b := make([]byte, 65536)
		for first := true; ; first = false {
			n, from, err := front.ReadFrom(b)
			if err != nil {
				close(client)
				return
			}
			if first {
				client <- from
			}
			for range copies(rng) {
				_, _ = server.Write(b[:n])
			}
		}
	}()
	go func() { // from the server
		rng := rand.New(rand.NewPCG(seed, 2))
		b := make([]byte, 65536)
		to := <-client
		for {
			n, err := server.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			for range copies(rng) {
				_, _ = front.WriteTo(b[:n], to)
			}
		}
	}()
	return front.LocalAddr().String()
}

// Over a path that loses and doubles packets each request is executed once, and each answer is right.
func TestRequestsOverALossyPath(t *testing.T) {
	onEach(t, requestsOverALossyPath)
}

func requestsOverALossyPath(t *testing.T, n transporttest.Network) {
	r := transporttest.NewRig(t, n, 1, transport.ServerOptions{})
	for seed, loss := range []float64{0.001, 0.02, 0.1} {
		conn, err := n.Dial(t.Context(), r.Loop, relay(t, r.Server.Addr(), uint64(seed), loss), transport.DialOptions{DialMax: transporttest.WaitMax})
		if err != nil {
			t.Fatal(err)
		}
		c := transporttest.NewCaller(t, r.Loop, conn)
		before, err := r.Server.Stats()
		if err != nil {
			t.Fatal(err)
		}
		ops := transporttest.Effort(200)
		for i := range ops {
			v := transporttest.Fill([]int{10, 300, 2000, 40_000}[i%4], uint64(i))
			c.Expect(transporttest.Put(fmt.Sprint(i%10), v), kv.StatusOK)
			if g := c.Expect(transporttest.Get(fmt.Sprint(i%10), 40_000), kv.StatusOK); !bytes.Equal(g.Value, v) {
				t.Fatalf("get %d: other bytes", i)
			}
		}
		after, err := r.Server.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if n := after[0].Requests - before[0].Requests; n != uint64(2*ops) {
			t.Errorf("loss %g: %d requests were executed, of %d", loss, n, 2*ops)
		}
		conn.Hangup()
	}
}

// Packets of strangers change nothing, and are not answered with more than they bring.
func TestGarbageIsNotAnswered(t *testing.T) {
	onEach(t, garbageIsNotAnswered)
}

func garbageIsNotAnswered(t *testing.T, n transporttest.Network) {
	r := transporttest.NewRig(t, n, 1, transport.ServerOptions{})
	c := transporttest.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	s, err := net.Dial("udp4", r.Server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	before, err := r.Server.Stats()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	sent := 0
	for range 500 {
		b := make([]byte, rng.IntN(1400))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		if len(b) > 1 && rng.IntN(2) == 0 {
			b[0], b[1] = 0xCE, 0x10|byte(rng.IntN(16))
		}
		_, _ = s.Write(b)
		sent += len(b)
	}
	c.Expect(transporttest.Put("k", []byte("v")), kv.StatusOK)
	after, err := r.Server.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if out := after[0].BytesOut - before[0].BytesOut; out > uint64(sent) || after[0].Conns != 1 || after[0].Requests != 1 {
		t.Errorf("%d B were sent for %d; %+v", out, sent, after[0])
	}
}

func TestNobodyListens(t *testing.T) {
	onEach(t, nobodyListens)
}

func nobodyListens(t *testing.T, n transporttest.Network) {
	r := transporttest.NewRig(t, n, 1, transport.ServerOptions{})
	s, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := s.LocalAddr().String()
	_ = s.Close()
	if _, err := n.Dial(t.Context(), r.Loop, addr, transport.DialOptions{DialMax: transporttest.WaitMax}); !errors.Is(err, datagram.ErrRefused) {
		t.Errorf("%v", err)
	}
}

// A server that has another secret, and grants all the same, is rejected.
func TestAServerWithoutTheSecretIsRejected(t *testing.T) {
	ann := access.Entry{Name: "ann", Secret: "the secret of ann"}
	open := transporttest.NewRig(t, network, 1, transport.ServerOptions{})
	_, err := open.TryDial(transport.DialOptions{Access: &ann})
	var refusal *transport.Refusal
	if !errors.As(err, &refusal) {
		t.Errorf("a server without secrets: %v", err)
	}
	grant := wire.ServerHello{Version: wire.Version, Depth: 1, MaxKeyBytes: 100, MaxValueBytes: 100, Loops: 1}
	h := &hub{}
	c := &conn{who: &ann, opened: make(chan error, 1)}
	if err := h.Opened(&datagram.Session{User: c}, grant.Append(nil)); !errors.Is(err, transport.ErrImpostor) {
		t.Errorf("a grant without a proof: %v", err)
	}
}

// Requests for which the server has no memory wait until there is some.
func TestRequestsWaitForMemory(t *testing.T) {
	onEach(t, requestsWaitForMemory)
}

func requestsWaitForMemory(t *testing.T, n transporttest.Network) {
	r := transporttest.NewRig(t, n, 1, transport.ServerOptions{PoolBytes: 1})
	var cs []*transporttest.Caller
	for range 4 {
		cs = append(cs, transporttest.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 4})))
	}
	v := transporttest.Fill(1<<20, 1)
	for _, c := range cs {
		for i := range 4 {
			c.Submit(transporttest.Put(fmt.Sprint(i), v))
		}
	}
	for _, c := range cs {
		for range 4 {
			if q := c.Next(); q.Status != kv.StatusOK {
				t.Fatalf("a put ends as %v", q.Status)
			}
		}
		for i := range 4 {
			c.Submit(transporttest.Get(fmt.Sprint(i), 1<<20))
		}
	}
	for _, c := range cs {
		for range 4 {
			if q := c.Next(); q.Status != kv.StatusOK || !bytes.Equal(q.Value, v) {
				t.Fatalf("a get ends as %v", q.Status)
			}
		}
		r.Hangup(c)
	}
	transporttest.Until(t, "all memory to be free", func() bool {
		s, err := r.Server.Stats()
		return err == nil && s[0].PoolBytes == 0 && s[0].ConnBytes == 0 && s[0].Conns == 0
	})
}

// Answers that turned out small hold no memory for which others of their connection wait.
func TestSmallAnswersHoldNoMemory(t *testing.T) {
	for _, bytes := range []int{-1, 0, 1, 256, 257, 500, 1024, 1025} { // -1: no such key
		t.Run(fmt.Sprint(bytes), func(t *testing.T) {
			r := transporttest.NewRig(t, network, 1, transport.ServerOptions{PoolBytes: 8 << 20}) // unsent answers of one connection may hold 1 MiB
			c := transporttest.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 16}))
			v := transporttest.Fill(1<<20, 1)
			c.Expect(transporttest.Put("large", v), kv.StatusOK)
			small := transporttest.Get("small", 1<<20)
			status := kv.StatusNotFound
			if bytes >= 0 {
				status = kv.StatusOK
				c.Expect(transporttest.Put("small", transporttest.Fill(bytes, 2)), kv.StatusOK)
			}
			for range 20 {
				if g := c.Expect(transporttest.Get("large", 1<<20), kv.StatusOK); len(g.Value) != len(v) { // the next answers are expected to be that large
					t.Fatalf("%d B", len(g.Value))
				}
				c.Submit(transporttest.Get("small", 1<<20))
				for range 4 {
					c.Submit(transporttest.Get("large", 1<<20))
				}
				for range 5 {
					if q := c.Next(); q.Status != kv.StatusOK && (q.Status != status || string(q.Key) != string(small.Key)) {
						t.Fatalf("a get of %s ends as %v", q.Key, q.Status)
					}
				}
			}
		})
	}
}

// counting is a core that keeps the first byte of each packet.
type counting struct{ seen []byte }

func (c *counting) Receive(_ int64, _ *datagram.Address, b []byte) {
	c.seen = append(c.seen, 255)
	if len(b) > 0 {
		c.seen[len(c.seen)-1] = b[0]
	}
}
func (*counting) Transmit(int64, []datagram.Packet) int { return 0 }
func (*counting) Release([]datagram.Packet)             {}
func (*counting) Tick(int64)                            {}
func (*counting) NextTick() int64                       { return math.MaxInt64 }

// A turn handles a share of the packets that have come, in order and across messages, and the loop has another turn for the rest.
func TestATurnHandlesAShare(t *testing.T) {
	parts := func(first, packets, last int) message { // packets of 10 B, and one of last bytes, with numbers from first on
		b := make([]byte, 10*packets+last)
		for i := 0; i < len(b); i += 10 {
			b[i] = byte(first + i/10)
		}
		return message{b: b, size: 10}
	}
	for name, c := range map[string]struct {
		in    []message
		turns []int // packets of each
	}{
		"few":             {[]message{parts(0, 3, 0)}, []int{3}},
		"one message":     {[]message{parts(0, 40, 5)}, []int{16, 16, 9}},
		"two messages":    {[]message{parts(0, 10, 1), parts(11, 20, 0)}, []int{16, 15}},
		"many":            {[]message{parts(0, 60, 0), parts(60, 60, 0), parts(120, 60, 0)}, []int{45, 45, 45, 45}},
		"an empty packet": {[]message{{size: 0}, parts(1, 1, 0)}, []int{2}},
	} {
		t.Run(name, func(t *testing.T) {
			got := &counting{}
			s := &carrier{l: &loop.Loop{}, core: got, share: shareMin}
			for _, m := range c.in {
				s.arrived(m, 0)
			}
			for i, want := range c.turns {
				if n := s.poll(0); n != want {
					t.Errorf("turn %d handles %d packets, not %d", i, n, want)
				}
				if last := i == len(c.turns)-1; s.unread() == last {
					t.Errorf("turn %d: there are more is %v", i, !last)
				}
			}
			for i, b := range got.seen {
				if int(b) != i && !(b == 255 && i == 0) {
					t.Fatalf("packet %d is number %d", i, b)
				}
			}
		})
	}
}

// Packets that the kernel has not sent are sent again in their order, those with an error once, and all others go back to the core.
func TestSendsThatFail(t *testing.T) {
	packet := func(number byte, bytes int) (p datagram.Packet) {
		p.To, p.HeadBytes = datagram.Address{1}, datagram.HeaderBytes
		p.Head[0] = number
		p.Body[0] = make([]byte, bytes)
		return p
	}
	s := &carrier{l: &loop.Loop{}, core: &counting{}, ring: &ringSocket{}, segments: true}
	s.packets = copy(s.out[:], []datagram.Packet{packet(0, 500), packet(1, 600), packet(2, 600), packet(3, 700), packet(4, 700), packet(5, 800), packet(6, 900)})
	s.describe()
	if s.n != 5 {
		t.Fatalf("%d messages", s.n)
	}
	settle := func(results ...unix.Errno) {
		s.ring.staged = copy(s.ring.results[s.first:], resultsOf(results))
		s.settle()
	}
	expect := func(numbers ...byte) {
		t.Helper()
		var left []byte
		for _, p := range s.out[s.packet:s.packets] {
			left = append(left, p.Head[0])
		}
		if !bytes.Equal(left, numbers) {
			t.Errorf("packets %v are left, not %v", left, numbers)
		}
	}
	settle(0, unix.EAGAIN, unix.EMSGSIZE, unix.EPERM) // the last message is not on the ring yet
	expect(1, 2, 3, 4, 5, 6)
	if !s.ring.full || s.segments || s.n != 6 {
		t.Errorf("full %v, segments %v, %d messages", s.ring.full, s.segments, s.n)
	}
	settle(0, unix.EINTR, 0, 0, unix.EPERM, 0)
	expect(2)
	settle(0)
	expect()
}

// resultsOf returns the results of entries with these errors; 0: success.
func resultsOf(errs []unix.Errno) (all []int32) {
	for _, e := range errs {
		all = append(all, -int32(e))
	}
	return all
}

// Packets of one size to one address are one message, with a shorter one at its end, up to the largest datagram.
func TestPacketsAreOneMessage(t *testing.T) {
	one, other := datagram.Address{1}, datagram.Address{2}
	packets := func(to datagram.Address, sizes ...int) (all []datagram.Packet) {
		for _, n := range sizes {
			all = append(all, datagram.Packet{To: to, HeadBytes: datagram.HeaderBytes, Body: [2][]byte{make([]byte, n-datagram.HeaderBytes)}})
		}
		return all
	}
	many := make([]int, 64)
	for i := range many {
		many[i] = 1472
	}
	for name, c := range map[string]struct {
		packets []datagram.Packet
		want    int
	}{
		"one size":        {packets(one, 90, 90, 90), 3},
		"a shorter one":   {packets(one, 90, 80, 80), 2},
		"a longer one":    {packets(one, 90, 91), 1},
		"another address": {append(packets(one, 90, 90), packets(other, 90)...), 2},
		"too many bytes":  {packets(one, many...), 44},
	} {
		if got := (&carrier{segments: true}).together(c.packets); got != c.want {
			t.Errorf("%s: %d of %d packets", name, got, len(c.packets))
		}
		if got := (&carrier{}).together(c.packets); got != 1 {
			t.Errorf("%s, without segments: %d packets", name, got)
		}
	}
}

func BenchmarkLoopUDPNull(b *testing.B) { transporttest.BenchmarkNull(b, network) }

func BenchmarkLoopUDPUringNull(b *testing.B) {
	testenv.Uring(b)
	transporttest.BenchmarkNull(b, onRing)
}
