package datagram

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// pair is a server and a client without a network: each packet is kept until the test moves it.
type pair struct {
	t        testing.TB
	now      int64
	server   *Server
	client   *Client
	session  *Session
	toServer [][]byte
	toClient [][]byte
	out      [8]Packet

	// The server's application.
	refuse    error  // the answer to Admit
	elsewhere []byte // the answer to Elsewhere
	full      bool   // no memory for requests
	delay     bool   // requests are not answered at once
	answer    []byte // to requests
	requests  int
	request   []byte
	frees     int
	admitted  *ServerSession
	ended     error // of the server's session

	// The client's.
	reply []byte
	dones int
	left  error // of the client's session
}

const (
	pairServer = 1
	pairClient = 2
	pairOther  = 3
)

func newPair(t testing.TB, o Options) *pair {
	p := &pair{t: t, now: 1e9, answer: []byte("answer")}
	rng := rand.New(rand.NewPCG(1, 2))
	o.Random = rng.Uint64
	var err error
	if p.server, err = NewServer(o, [32]byte{1}, pairServerHost{p}); err != nil {
		t.Fatal(err)
	}
	if p.client, err = NewClient(o, p); err != nil {
		t.Fatal(err)
	}
	return p
}

// open opens the session.
func (p *pair) open() {
	p.t.Helper()
	p.dial()
	p.settle()
	if !p.session.Open() {
		p.t.Fatalf("the session is not open: %v", p.left)
	}
}

func (p *pair) dial() {
	p.t.Helper()
	var err error
	if p.session, err = p.client.Open(p.now, simAddress(pairServer), 4, []byte("hello"), nil); err != nil {
		p.t.Fatal(err)
	}
	p.flush()
}

// flush moves what both sides send into toServer and toClient.
func (p *pair) flush() {
	for n := 1; n > 0; {
		n = p.client.Transmit(p.now, p.out[:])
		for i := range n {
			p.toServer = append(p.toServer, p.out[i].Append(nil))
		}
		p.client.Release(p.out[:n])
	}
	for n := 1; n > 0; {
		n = p.server.Transmit(p.now, p.out[:])
		for i := range n {
			p.toClient = append(p.toClient, p.out[i].Append(nil))
		}
		p.server.Release(p.out[:n])
	}
}

// arrive passes packets to the server, in order.
func (p *pair) arrive(packets ...[]byte) {
	from := simAddress(pairClient)
	for _, b := range packets {
		p.server.Receive(p.now, &from, b)
	}
	p.flush()
}

// settle moves packets until there are none.
func (p *pair) settle() {
	p.flush()
	for len(p.toServer)+len(p.toClient) > 0 {
		p.now += 10_000
		p.exchange()
	}
}

// exchange moves the packets that are under way, and flushes.
func (p *pair) exchange() {
	a, b := p.toServer, p.toClient
	p.toServer, p.toClient = nil, nil
	p.arrive(a...)
	server := simAddress(pairServer)
	for _, m := range b {
		p.client.Receive(p.now, &server, m)
	}
	p.flush()
}

// pass lets time pass in which all packets are lost.
func (p *pair) pass(d int64) {
	for by := p.now + d; ; {
		at := min(p.client.NextTick(), p.server.NextTick())
		if at > by {
			p.now = by
			break
		}
		p.now = max(at, p.now)
		p.client.Tick(p.now)
		p.server.Tick(p.now)
		p.flush()
		p.toServer, p.toClient = nil, nil
	}
}

func (p *pair) call(request []byte) int {
	p.t.Helper()
	slot, ok := p.session.Call(p.now, nil, request)
	if !ok {
		p.t.Fatal("no slot is free")
	}
	return slot
}

func kindsOf(packets [][]byte) string {
	var s []string
	for _, b := range packets {
		var h Header
		if h.Decode(b) != nil {
			return "garbage"
		}
		s = append(s, h.Kind.String())
	}
	return strings.Join(s, " ")
}

func (p *pair) expect(what string, packets [][]byte, kinds string) {
	p.t.Helper()
	if got := kindsOf(packets); got != kinds {
		p.t.Fatalf("%s: %q, want %q", what, got, kinds)
	}
}

func (p *pair) Prove(*Session, []byte) []byte { return []byte("proof") }
func (p *pair) Elsewhere(_ *Session, name []byte) (Address, bool) {
	if len(name) != 1 {
		return Address{}, false
	}
	return simAddress(int(name[0])), name[0] == pairServer
}
func (p *pair) Opened(*Session, []byte) error { return nil }
func (p *pair) Part(_ *Session, _, total, at int, b []byte) error {
	if at == 0 {
		p.reply = p.reply[:0]
	}
	p.reply = append(p.reply, b...)
	return nil
}
func (p *pair) Sent(*Session, int)          {}
func (p *pair) Done(*Session, int)          { p.dones++ }
func (p *pair) Ended(_ *Session, err error) { p.left = err }

type pairServerHost struct{ *pair }

func (p pairServerHost) Elsewhere(*Address, []byte) []byte { return p.elsewhere }
func (p pairServerHost) Admit(s *ServerSession, a *Admission) ([]byte, int, error) {
	p.admitted = s
	return []byte("welcome"), a.Slots, p.refuse
}
func (p pairServerHost) Begin(_ *ServerSession, _, bytes int) bool {
	p.request = p.request[:0]
	return !p.full
}
func (p pairServerHost) Part(_ *ServerSession, _, _ int, b []byte) {
	p.request = append(p.request, b...)
}
func (p pairServerHost) Request(s *ServerSession, slot int) {
	if p.requests++; !p.delay {
		s.Reply(slot, nil, p.answer)
	}
}
func (p pairServerHost) Free(*ServerSession, int)          { p.frees++ }
func (p pairServerHost) Ended(_ *ServerSession, err error) { p.ended = err }

func TestAnUnprovenAddressCostsTheServerNothing(t *testing.T) {
	p := newPair(t, Options{})
	p.dial()
	hello := p.toServer[0]
	for range 1000 { // the address may be forged
		p.arrive(hello)
	}
	p.expect("the answers", p.toClient[:2], "challenge challenge")
	out := 0
	for _, b := range p.toClient {
		out += len(b)
	}
	if out > 1000*len(hello) || p.server.Sessions() != 0 || len(p.server.hellos) != 0 || p.admitted != nil {
		t.Errorf("%d B for %d B, %d sessions", out, 1000*len(hello), p.server.Sessions())
	}
	if len(p.toClient) != 1000 || p.server.Count.Challenges != 1000 {
		t.Errorf("%d answers", len(p.toClient))
	}
	// Hellos that are shorter than the longest answer get none.
	p.toClient = nil
	for n := range HelloPacketBytes {
		p.arrive(hello[:n])
	}
	if len(p.toClient) != 0 {
		t.Errorf("%d answers to short hellos", len(p.toClient))
	}
}

// No answer of the server is longer than the packet that it answers, until the address is proven.
func TestNothingIsAmplified(t *testing.T) {
	p := newPair(t, Options{})
	rng := rand.New(rand.NewPCG(3, 4))
	p.dial()
	hello := p.toServer[0]
	for range 20_000 {
		b := bytes.Clone(hello[:HeaderBytes+rng.IntN(len(hello)-HeaderBytes+1)])
		b[1] = version<<4 | byte(rng.IntN(16))
		for range rng.IntN(4) {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
		p.toClient = nil
		p.arrive(b)
		n := 0
		for _, a := range p.toClient {
			n += len(a)
		}
		if n > len(b) {
			t.Fatalf("%d B for %d B: %s", n, len(b), kindsOf(p.toClient))
		}
	}
	if p.server.Sessions() != 0 {
		t.Error("a session without a proof")
	}
}

func TestANonceIsForOneAddressAndOneClientAndForAWhile(t *testing.T) {
	proven := func(t *testing.T) (p *pair, hello []byte) {
		p = newPair(t, Options{})
		p.dial()
		p.arrive(p.toServer[0])
		p.toServer = nil
		server := simAddress(pairServer)
		p.client.Receive(p.now, &server, p.toClient[0])
		p.flush()
		p.expect("the answer to a challenge", p.toServer, "hello")
		hello = p.toServer[0]
		p.toServer, p.toClient = nil, nil
		return p, hello
	}
	for name, c := range map[string]struct {
		from  int
		after int64
		byte  int // that is changed; 0: none
		want  string
	}{
		"the right one":       {from: pairClient, want: "grant"},
		"after 9 s":           {from: pairClient, after: 9e9, want: "grant"},
		"after 20 s":          {from: pairClient, after: 20e9, want: "challenge"},
		"of another address":  {from: pairOther, want: "challenge"},
		"of another token":    {from: pairClient, byte: 8, want: "challenge"},
		"of another index":    {from: pairClient, byte: 4, want: "challenge"},
		"that is another":     {from: pairClient, byte: HeaderBytes, want: "challenge"},
		"with another credit": {from: pairClient, byte: HeaderBytes + NonceBytes + 2, want: "grant"},
	} {
		t.Run(name, func(t *testing.T) {
			p, hello := proven(t)
			if c.byte > 0 {
				hello[c.byte] ^= 1
			}
			p.now += c.after
			from := simAddress(c.from)
			p.server.Receive(p.now, &from, hello)
			p.flush()
			p.expect("the answer", p.toClient, c.want)
			if want := c.want == "grant"; (p.server.Sessions() == 1) != want {
				t.Errorf("%d sessions", p.server.Sessions())
			}
		})
	}
	t.Run("twice", func(t *testing.T) {
		p, hello := proven(t)
		p.arrive(hello, hello, hello)
		p.expect("the answers", p.toClient, "grant grant grant")
		if p.server.Sessions() != 1 || !bytes.Equal(p.toClient[0], p.toClient[2]) {
			t.Errorf("%d sessions", p.server.Sessions())
		}
		p.settle()
		p.call([]byte("x"))
		p.settle()
		p.arrive(hello)
		p.expect("the answer when the session is in use", p.toClient, "")
	})
	t.Run("and a client that does not come back is forgotten", func(t *testing.T) {
		p, hello := proven(t)
		p.arrive(hello)
		p.toClient = nil
		p.session.End(errors.New("gone"))
		p.pass(6e9)
		if p.server.Sessions() != 0 || !errors.Is(p.ended, ErrSilent) {
			t.Errorf("%d sessions, %v", p.server.Sessions(), p.ended)
		}
	})
}

func TestHellosAreSentAgain(t *testing.T) {
	p := newPair(t, Options{})
	p.dial()
	for range 2 { // the hello, and the one with the nonce
		p.toServer, p.toClient = nil, nil
		p.now = p.client.NextTick()
		p.client.Tick(p.now)
		p.flush()
		p.expect("after a time-out", p.toServer, "hello")
		p.arrive(p.toServer[0])
		server := simAddress(pairServer)
		p.client.Receive(p.now, &server, p.toClient[0])
		p.toServer, p.toClient = nil, nil
		p.flush()
	}
	if !p.session.Open() {
		t.Errorf("not open: %v", p.left)
	}
}

func TestAServerThatDoesNotAnswer(t *testing.T) {
	p := newPair(t, Options{})
	p.dial()
	p.pass(6e9)
	if !errors.Is(p.left, ErrNoHello) || p.client.Sessions() != 0 || p.client.NextTick() != math.MaxInt64 {
		t.Errorf("%v, %d sessions", p.left, p.client.Sessions())
	}
}

// News that nobody receives may be forged: it counts only if nothing of the server arrives between its repetitions.
func TestARefusedSessionEndsUnlessTheServerAnswers(t *testing.T) {
	server := simAddress(pairServer)
	for name, lost := range map[string]bool{"the server is gone": true, "the news is forged": false} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, Options{})
			p.open()
			began := p.now
			for range 10 {
				p.client.Refused(p.now, &server)
				p.client.Refused(p.now, &server) // of several packets at once
				if at := p.client.NextTick(); at != math.MaxInt64 {
					p.now = at
				}
				p.client.Tick(p.now)
				p.flush()
				if lost {
					p.toServer, p.toClient = nil, nil
				}
				p.settle()
			}
			if p.session.Open() == lost || lost && (!errors.Is(p.left, ErrRefused) || p.now-began > 1e9) {
				t.Errorf("open: %v (%v), after %d ns", p.session.Open(), p.left, p.now-began)
			}
		})
	}
}

func TestARefusalHasAReason(t *testing.T) {
	p := newPair(t, Options{})
	p.refuse = &Refusal{Reason: []byte("full")}
	p.dial()
	p.settle()
	var r *Refusal
	if !errors.As(p.left, &r) || string(r.Reason) != "full" || p.server.Sessions() != 0 {
		t.Errorf("%v, %d sessions", p.left, p.server.Sessions())
	}
}

func TestSessionsAreBounded(t *testing.T) {
	p := newPair(t, Options{Sessions: 1})
	p.open()
	if _, err := p.client.Open(p.now, simAddress(pairServer), 1, nil, nil); err == nil {
		t.Error("a second session of the client")
	}
	p.session.End(errors.New("enough"))
	p.settle()
	p.open()
}

func TestAClientIsSentElsewhere(t *testing.T) {
	p := newPair(t, Options{})
	p.elsewhere = []byte{pairServer}
	p.dial()
	p.arrive(p.toServer...)
	p.expect("the answer", p.toClient, "elsewhere")
	p.toServer, p.elsewhere = nil, nil
	p.settle()
	if !p.session.Open() {
		t.Errorf("not open: %v", p.left)
	}
	p.elsewhere = []byte{9}
	p.dial()
	p.settle()
	if !errors.Is(p.left, ErrProtocol) {
		t.Errorf("%v", p.left)
	}
}

func TestRequestsOfAllSizes(t *testing.T) {
	p := newPair(t, Options{})
	p.open()
	payload := p.session.payload
	sizes := []int{1, payload - 1, payload, payload + 1, 2 * payload, 2*payload + 1, 100 * payload, 1<<20 + 4<<10}
	for i, n := range sizes {
		request := bytes.Repeat([]byte{byte(i + 1)}, n)
		p.answer = append(bytes.Repeat([]byte{byte(100 + i)}, n-1), 7)
		p.call(request)
		p.settle()
		if p.dones != i+1 || !bytes.Equal(p.request, request) || !bytes.Equal(p.reply, p.answer) {
			t.Fatalf("%d B: the server got %d, the client %d", n, len(p.request), len(p.reply))
		}
	}
	p.answer = nil
	p.call([]byte("x"))
	p.settle()
	if p.dones != len(sizes)+1 || p.client.Count.Retransmits+p.client.Count.Garbage+p.server.Count.Garbage > 0 {
		t.Errorf("%d requests; %+v", p.dones, p.client.Count)
	}
}

// What happens at most once: the request's packets come again before, while and after it is executed, and after the next one in its slot.
func TestADuplicateIsNeverExecutedAgain(t *testing.T) {
	p := newPair(t, Options{})
	p.open()
	p.delay = true
	slot := p.call([]byte("add 1"))
	p.flush()
	request := p.toServer[0]
	p.toServer = nil
	p.arrive(request)
	p.expect("the request", p.toClient, "")
	p.arrive(request)
	p.expect("a duplicate while it is executed", p.toClient, "wait")
	p.toClient = nil
	p.admitted.Reply(slot, []byte("1"), nil)
	p.flush()
	p.expect("the answer", p.toClient, "reply")
	p.arrive(request)
	p.expect("a duplicate of what is answered", p.toClient, "reply reply")
	p.settle()
	p.arrive(request)
	p.expect("a duplicate of what the client has", p.toClient, "reply")
	p.settle()
	if p.call([]byte("add 1")) != slot {
		t.Fatal("another slot")
	}
	p.settle()
	p.arrive(request)
	p.expect("a duplicate of the slot's last but one", p.toClient, "")
	if p.requests != 2 || p.dones != 1 {
		t.Errorf("%d executions, %d answers", p.requests, p.dones)
	}
}

// Duplicates of the slots' last requests, and their next requests in another order, arrive in one batch: each is answered.
func TestDuplicatesAndNewRequestsAreAnsweredTogether(t *testing.T) {
	p := newPair(t, Options{})
	p.open()
	for range 4 {
		p.call([]byte("first"))
	}
	p.flush()
	first := p.toServer
	p.settle()
	p.toServer = nil
	for range 4 {
		p.call([]byte("second"))
	}
	p.flush()
	second := p.toServer
	p.toServer = nil
	p.arrive(append(first, second...)...) // nothing is sent before all have arrived
	p.settle()
	if p.requests != 8 || p.dones != 8 {
		t.Errorf("%d executions, %d answers, want 8 each", p.requests, p.dones)
	}
}

func TestATimeOutGrowsAndTheReplyToAnEarlierPacketIsNoRoundTrip(t *testing.T) {
	p := newPair(t, Options{Keep: 20e9})
	p.open()
	p.call([]byte("x"))
	p.flush()
	first := p.toServer
	p.toServer = nil
	began := p.now
	var after []int64
	for range 10 {
		for len(p.toServer) == 0 { // a deadline may be found to be a later one
			p.now = p.client.NextTick()
			p.client.Tick(p.now)
			p.flush()
		}
		p.expect("after a time-out", p.toServer, "request")
		p.toServer = nil
		after = append(after, (p.now-began)/1e6)
		began = p.now
	}
	// The first is RFC 6298's for one round trip that was measured as 20 µs, but not below TimeoutMin.
	for i, want := range []int64{5, 10, 20, 40, 80, 160, 320, 500, 500, 500} {
		if after[i] != want {
			t.Fatalf("time-outs of %d ms", after)
		}
	}
	p.arrive(first...)
	p.settle()
	if rtt := p.session.path.smoothed; rtt != 20_000 || p.dones != 1 {
		t.Errorf("a round trip of %d ns, %d answers", rtt, p.dones)
	}
}

func TestEstimatorIsThatOfRFC6298(t *testing.T) {
	var e estimator
	if e.timeout(7, 1, 1e9) != 7 {
		t.Error("a time-out without a sample")
	}
	// R' = 100: SRTT 100, RTTVAR 50. Then 180: RTTVAR 50 + (80-50)/4 = 57, SRTT 100 + 80/8 = 110.
	e.add(100)
	if e.smoothed != 100 || e.variation != 50 || e.timeout(7, 1, 1e9) != 300 {
		t.Errorf("%+v", e)
	}
	e.add(180)
	if e.smoothed != 110 || e.variation != 57 || e.timeout(7, 1, 1e9) != 338 || e.timeout(7, 400, 1e9) != 400 || e.timeout(7, 1, 200) != 200 {
		t.Errorf("%+v", e)
	}
}

func TestTimelyFollowsTheRoundTrips(t *testing.T) {
	rate := func(rtts ...int64) float64 {
		c := timely{rate: 100e6, most: 1e9}
		now := int64(1e9)
		for _, r := range rtts {
			now += r
			c.sample(now, r)
		}
		return c.rate
	}
	if got := rate(40e3, 40e3); got != 110e6 {
		t.Errorf("short round trips: %g B/s, want two steps of 5e6 more than 100e6", got)
	}
	if got, want := rate(2e6), 100e6*(1-0.8*0.5); math.Abs(got-want) > 1 {
		t.Errorf("a long round trip: %g B/s, want %g", got, want)
	}
	if got := rate(100e3, 400e3); got >= 105e6 {
		t.Errorf("growing round trips: %g B/s", got)
	}
	flat := make([]int64, 10)
	for i := range flat {
		flat[i] = 100e3
	}
	if got := rate(flat...); got != 100e6+4*5e6+6*25e6 {
		t.Errorf("steady round trips: %g B/s", got)
	}
	if got := rate(1e9, 1e9, 1e9, 1e9, 1e9, 1e9, 1e9); got != timelyLeast {
		t.Errorf("very long round trips: %g B/s", got)
	}
	if (&timely{}).limits() {
		t.Error("no congestion control limits the rate")
	}
}

// A large reply's memory is free when the client has it, also if the packet that states it is lost.
func TestTheMemoryOfALargeReplyIsFreed(t *testing.T) {
	p := newPair(t, Options{})
	p.open()
	p.answer = make([]byte, 50_000)
	p.call([]byte("x"))
	p.settle()
	if p.dones != 1 || p.frees != 1 {
		t.Fatalf("%d answers, %d freed", p.dones, p.frees)
	}
	p.call([]byte("x"))
	for p.dones == 1 {
		p.exchange()
	}
	p.expect("the last packets", p.toServer, "done")
	p.toServer = nil
	if p.frees != 1 {
		t.Fatalf("%d freed", p.frees)
	}
	lost := p.now
	for p.frees < 2 && p.now < lost+20e9 {
		p.now = p.client.NextTick()
		p.client.Tick(p.now)
		p.settle()
	}
	if after := p.now - lost; after < 3.7e9 || after > 3.8e9 {
		t.Errorf("freed after %d ns, want an eighth of 30 s", after)
	}
}

// A request that waits at the server makes the client send lost done packets again: it may be their memory that the request waits for.
func TestALostDoneIsSentAgainWhileARequestWaits(t *testing.T) {
	p := newPair(t, Options{})
	p.open()
	p.answer = make([]byte, doneFrom+1)
	p.call([]byte("x"))
	p.call([]byte("x"))
	for p.flush(); p.dones < 2; {
		p.exchange()
	}
	p.expect("the last packets", p.toServer, "done")
	p.toServer = nil
	p.delay = true
	p.call([]byte("x")) // in one of the two slots, whose reply that frees
	p.settle()
	if p.frees != 1 || p.requests != 3 {
		t.Fatalf("%d freed, %d requests", p.frees, p.requests)
	}
	lost := p.now
	for p.frees < 2 && p.now < lost+20e9 {
		p.now = p.client.NextTick()
		p.client.Tick(p.now)
		p.settle()
	}
	if after := p.now - lost; after > 1e9 || p.client.Count.Waits == 0 {
		t.Errorf("freed after %d ns and %d waits, want less than a second", after, p.client.Count.Waits)
	}
}

func TestARequestWithoutMemoryWaits(t *testing.T) {
	p := newPair(t, Options{})
	p.open()
	p.full = true
	p.call(make([]byte, 10_000))
	p.settle()
	if p.requests != 0 || p.client.Count.Waits == 0 {
		t.Fatalf("%d requests, %d waits", p.requests, p.client.Count.Waits)
	}
	p.admitted.Retry() // too early
	p.settle()
	p.full = false
	p.admitted.Retry()
	p.settle()
	if p.dones != 1 || len(p.request) != 10_000 || p.client.Count.Timeouts != 0 {
		t.Errorf("%d answers, a request of %d B, %d time-outs", p.dones, len(p.request), p.client.Count.Timeouts)
	}
	p.full = true
	p.call(make([]byte, 10_000))
	p.settle()
	p.full = false
	for p.client.Count.Timeouts == 0 {
		p.now = p.client.NextTick()
		p.client.Tick(p.now)
	}
	p.settle()
	if p.dones != 2 || len(p.request) != 10_000 {
		t.Errorf("%d answers, a request of %d B", p.dones, len(p.request))
	}
}

func TestAnEndReachesTheOtherSide(t *testing.T) {
	for name, c := range map[string]struct {
		end          func(p *pair)
		client       error
		server       error
		packetIsLost bool
	}{
		"the client's":               {end: func(p *pair) { p.session.End(errClient) }, client: errClient, server: ErrLeft},
		"the client's, lost":         {end: func(p *pair) { p.session.End(errClient) }, client: errClient, server: ErrSilent, packetIsLost: true},
		"the server's":               {end: func(p *pair) { p.admitted.End(errServer, nil) }, client: ErrLeft, server: errServer},
		"the server's, lost":         {end: func(p *pair) { p.admitted.End(errServer, nil) }, client: ErrForgotten, server: errServer, packetIsLost: true},
		"a server that is restarted": {end: func(p *pair) { p.server = newPair(p.t, Options{}).server }, client: ErrForgotten},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, Options{})
			p.open()
			c.end(p)
			p.flush()
			if c.packetIsLost {
				p.toServer, p.toClient = nil, nil
			}
			if p.session.state != sessionEnded {
				p.call([]byte("x"))
			}
			p.settle()
			p.pass(40e9)
			if !errors.Is(p.left, c.client) || !errors.Is(p.ended, c.server) {
				t.Errorf("the client: %v, the server: %v", p.left, p.ended)
			}
			if p.client.Sessions()+p.server.Sessions() > 0 {
				t.Errorf("%d and %d sessions", p.client.Sessions(), p.server.Sessions())
			}
		})
	}
}

var errClient, errServer = errors.New("the client ends"), errors.New("the server ends")

func TestPacketsOfStrangersChangeNothing(t *testing.T) {
	p := newPair(t, Options{})
	p.open()
	p.delay = true
	p.call([]byte("x"))
	p.flush()
	request := p.toServer[0]
	other := simAddress(pairOther)
	p.server.Receive(p.now, &other, request)
	for i := 4; i < 16; i++ { // the identifier
		b := bytes.Clone(request)
		b[i] ^= 1
		p.arrive(b)
	}
	if p.requests != 0 || p.server.Count.Garbage != 13 {
		t.Errorf("%d requests, %d garbage", p.requests, p.server.Count.Garbage)
	}
	p.expect("the answers to another identifier", p.toClient, strings.TrimSuffix(strings.Repeat("unknown ", 12), " "))
	server := simAddress(pairServer)
	for _, b := range p.toClient {
		p.client.Receive(p.now, &server, b)
	}
	if !p.session.Open() {
		t.Error("unknown of an identifier that is not the session's ends it")
	}
}

func TestCreditsBoundThePacketsInFlight(t *testing.T) {
	p := newPair(t, Options{Credits: 5})
	p.open()
	for range 4 {
		p.call(make([]byte, 20_000))
	}
	p.flush()
	if len(p.toServer) != 5 {
		t.Errorf("%d packets in flight", len(p.toServer))
	}
	p.settle()
	if p.dones != 4 || p.session.credits != 5 {
		t.Errorf("%d answers, %d credits", p.dones, p.session.credits)
	}
	p.answer = make([]byte, 20_000)
	p.call([]byte("x"))
	p.flush()
	for len(p.toServer)+len(p.toClient) > 0 {
		if len(p.toClient) > 5 {
			t.Fatalf("%d packets in flight to the client", len(p.toClient))
		}
		a, b := p.toServer, p.toClient
		p.toServer, p.toClient = nil, nil
		p.arrive(a...)
		server := simAddress(pairServer)
		for _, m := range b {
			p.client.Receive(p.now, &server, m)
		}
		p.flush()
	}
	if p.dones != 5 {
		t.Errorf("%d answers", p.dones)
	}
}

func TestNothingIsAllocatedForARequest(t *testing.T) {
	for name, n := range map[string]int{"small": 64, "large": 100_000} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, Options{})
			p.open()
			request := make([]byte, n)
			p.answer = make([]byte, n)
			p.request, p.reply = make([]byte, 0, n), make([]byte, 0, n)
			out := make([]Packet, 64)
			b := make([]byte, 0, 2048)
			server, client := simAddress(pairServer), simAddress(pairClient)
			turn := func() {
				want := p.dones + 1
				if _, ok := p.session.Call(p.now, nil, request); !ok {
					t.Fatal("no slot is free")
				}
				for p.dones < want {
					p.now += 1000
					k := p.client.Transmit(p.now, out)
					for i := range k {
						b = out[i].Append(b[:0])
						p.server.Receive(p.now, &client, b)
					}
					p.client.Release(out[:k])
					k = p.server.Transmit(p.now, out)
					for i := range k {
						b = out[i].Append(b[:0])
						p.client.Receive(p.now, &server, b)
					}
					p.server.Release(out[:k])
					p.client.Tick(p.now)
				}
			}
			turn()
			if a := testing.AllocsPerRun(100, turn); a != 0 {
				t.Errorf("%v allocations for a request", a)
			}
		})
	}
}

func TestOptionsAreChecked(t *testing.T) {
	random := func() uint64 { return 1 }
	for _, o := range []Options{
		{}, {Random: random, DatagramBytes: 1199}, {Random: random, DatagramBytes: 65508}, {Random: random, Credits: -1}, {Random: random, Credits: 5000},
		{Random: random, MessageBytes: 33 << 20}, {Random: random, Sessions: -1}, {Random: random, Slots: 1025}, {Random: random, TimeoutMin: 2e9},
		{Random: random, RateMax: math.NaN()}, {Random: random, Keep: -1},
	} {
		if _, err := NewClient(o, nil); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	if parts := packetsOf(MaxMessageBytes, MinDatagramBytes-HeaderBytes); parts > math.MaxUint16 {
		t.Errorf("the largest message has %d parts", parts)
	}
}
