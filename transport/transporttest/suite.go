// Package transporttest is the conformance suite: every transport must pass all of it. It has its own
// handler, which can delay answers, so that a test determines the order of completions.
package transporttest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/wire"
)

// Emulated is true in a guest with an emulated CPU, which is 20 to 50 times as slow as a real one.
var Emulated = os.Getenv("KVWIRE_ACCEL") == "tcg"

// WaitMax bounds every wait of the suite. It is so long that reaching it is a
// failure and not a matter of speed, even on a machine with ten times as many runnable threads as CPUs.
const WaitMax = 100 * time.Second

// Stall is a short deadline for peers that stop in the middle of a message. Peers that continue meet it: with an emulated CPU a megabyte
// takes some 100 ms.
var Stall = map[bool]time.Duration{false: time.Second, true: 2 * time.Second}[Emulated]

// Effort returns the number of repetitions of a randomized test: n, or fewer in short runs and if
// the CPU is emulated.
func Effort(n int) int {
	switch {
	case Emulated:
		return max(n/10, 2)
	case testenv.Short():
		return max(n/4, 2)
	}
	return n
}

// Long is true in long test runs (make test-long).
var Long = os.Getenv("KVWIRE_LONG") != ""

// Bytes returns the size of a test's data: n, or an eighth of it with an emulated CPU in a run that is not Long.
func Bytes(n int) int {
	if Emulated && !Long {
		return n / 8
	}
	return n
}

// Network is a transport under test.
type Network struct {
	transport.Transport

	// Host is the address that servers listen on; loopback if it is empty, and with unix:FOLDER unix sockets in that folder, whose
	// path is short.
	Host string

	// Local means that client and server share a loop: there is no peer that could die, no depth of the
	// connection, and no choice of a loop.
	Local bool

	// Loops are the options of the loops, except Sleep and Wait.
	Loops loop.Options

	// Wait is the wait policy of all loops.
	Wait loop.Wait

	// Polled means that only loops that spin can use the network.
	Polled bool

	// Stream means that the suite can connect to the server's address by TCP, and send what no client sends:
	// garbage, incomplete frames, or nothing.
	Stream bool

	// Datagrams means that the hello does not travel by TCP, and that nothing can be sent to the server but by a client.
	Datagrams bool

	// ServerTLS and ClientTLS are the transport's configurations, for connections that the suite makes itself, as a server or as a client; nil: plain text.
	ServerTLS, ClientTLS *tls.Config

	// Allocates returns the number of allocations per operation of size bytes that packages outside kvwire make; nil: none.
	Allocates func(size int) float64
	// RESPAllocates: connections of RESP are of the test's own making and allocate, so what commands allocate is counted by RunRedis alone.
	RESPAllocates bool

	// Raw is for networks where only the hello travels by TCP. It exchanges hellos
	// on c, a TCP connection to the server, and returns a connection that replaces c: each Write is a
	// message (several, if it is too long for one), and unread messages stop the sender as a full socket
	// buffer does. If the hello is not granted, it returns c.
	Raw func(t testing.TB, l *loop.Loop, c net.Conn, depth int) (net.Conn, wire.ServerHello)

	// RESP is for networks where Redis's protocol does not travel by TCP. It connects to a server. If l is nil, it makes a loop.
	RESP func(t testing.TB, l *loop.Loop, addr string) net.Conn

	// Env is the environment with which TestMain uses this network in a child process.
	Env []string
}

func (n Network) listen() string {
	if n.Host == "" {
		return "127.0.0.1:0"
	}
	if n.unix() {
		return fmt.Sprintf("%s/%d.%d", n.Host, os.Getpid(), sockets.Add(1))
	}
	return n.Host + ":0"
}

const unixScheme = "unix:"

// unix reports whether servers listen on unix sockets.
func (n Network) unix() bool { return strings.HasPrefix(n.Host, unixScheme) }

// sockets counts the unix sockets of this process.
var sockets atomic.Int64

// goNet converts an address for Go's net package.
func goNet(addr string) (network, address string) {
	if path, local := strings.CutPrefix(addr, unixScheme); local {
		return "unix", path
	}
	return "tcp", addr
}

// UnixHost returns a Host for unix sockets, in a folder that is removed at the end of the test.
func UnixHost(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kvsock-") // t.TempDir may be longer than a socket's path can be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return unixScheme + dir
}

// clientLoop returns the loop for clients' connections, and a function that ends it.
func (n Network) clientLoop(g *loop.Group) (*loop.Loop, func() error, error) {
	if n.Local {
		return g.Net()[0], func() error { return nil }, nil
	}
	o := n.Loops
	o.Name, o.Sleep, o.Wait = "client", n.Sleep(), n.Wait
	l, err := loop.Start(o, nil)
	if err != nil {
		return nil, nil, err
	}
	return l, l.Stop, nil
}

type test struct {
	name string
	f    func(t *testing.T, n Network)
}

// waits is a test that waits for a deadline most of its time. In Run these wait at the same time, after the other tests: they use little CPU, and nothing
// that belongs to the process. An emulated CPU is too slow for that.
func waits(f func(t *testing.T, n Network)) func(t *testing.T, n Network) {
	return func(t *testing.T, n Network) {
		if !Emulated {
			t.Parallel()
		}
		f(t, n)
	}
}

// Run runs the suite.
func Run(t *testing.T, n Network) {
	tests := []test{
		{"RoundTrip", roundTrip},
		{"ValueSizesUpToTheLimitAndBeyond", valueSizes},
		{"LargeValuesArriveComplete", largeValues},
		{"LargePutsWithoutPause", largePuts},
		{"OutOfOrderCompletion", outOfOrder},
		{"ExactlyOnceCompletion", exactlyOnce},
		{"ScansReturnItemsInKeyOrder", scans},
		{"ScansReportThatThereIsMore", scanMore},
		{"ScansReturnTheLargestItem", scanLargest},
		{"TooSmallReturnsTheNeededCapacity", tooSmall},
		{"EveryStatusReachesTheClient", statuses},
		{"SubmitAfterClose", submitAfterClose},
		{"WaitPolicies", waitPolicies},
		{"ZeroAllocationsPerOperation", zeroAllocations},
		{"StagesSumToTheTotal", stages},
		{"AParkedServerUsesNoCPU", parked},
		{"CongestionWindowOfTCPConnections", congestion},
	}
	if !n.Local {
		tests = append(append(tests, remoteTests...), accessTests...)
		if !n.Datagrams {
			tests = append(tests, helloTests...)
		}
	}
	if n.Stream || n.Raw != nil {
		tests = append(append(tests, hostileTests...), test{"TimeParkedDoesNotCountForTheHelloDeadline", waits(parkedHello)})
	}
	if n.Stream {
		tests = append(append(append(append(tests, respTests...), respAccessTests...), halfCloseTests...), manyConnTests...)
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) { c.f(t, n) })
	}
}

// RunRESP runs the tests of servers with Redis's protocol, for a network with RESP. With an emulated CPU and unless the run is Long, it is those in which the network carries
// the bytes in another way than TCP does: the rest is the protocol's own, which TCP has.
func RunRESP(t *testing.T, n Network) {
	tests := append(append([]test{}, respTests...), respAccessTests...)
	if Emulated && !Long {
		tests = []test{
			{"RespPipelinesOfAnyLength", respPipeline},
			{"RespCommandsLargerThanTheBuffer", respLargeCommands},
			{"RespAnswersWaitForMemory", respMemory},
			{"RespProtocolErrorsAreAnsweredAndEndTheConnection", respProtocolErrors},
			{"RespIdleClientsMeetTheDeadline", respIdle},
			{"RespClientsDieWithRequestsInFlight", respDies},
			{"RespCommandsAreAnsweredAtShutdown", respShutdown},
			{"RespClientsAuthenticate", respAuth},
		}
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) { c.f(t, n) })
	}
}

// RunVariant runs the suite for a variant of a transport; in a short run, such as that of the race detector, RunBrief. A variant has the same goroutines as the transport
// with the complete suite.
func RunVariant(t *testing.T, n Network) {
	if testing.Short() {
		RunBrief(t, n)
	} else {
		Run(t, n)
	}
}

// RunUnlessShort runs the suite; in make check RunBrief.
func RunUnlessShort(t *testing.T, n Network) {
	if testenv.Short() {
		RunBrief(t, n)
	} else {
		Run(t, n)
	}
}

// RunBrief runs the most important tests for an option of a transport whose suite runs elsewhere: data of all sizes
// arrive, in any order, many at a time, and the death of a peer is detected. With an emulated CPU and unless the run is Long, it leaves out what
// is kvwire's own bookkeeping, over whatever network.
func RunBrief(t *testing.T, n Network) {
	tests := []test{
		{"ValueSizesUpToTheLimitAndBeyond", valueSizes},
		{"OutOfOrderCompletion", outOfOrder},
		{"ExactlyOnceCompletion", exactlyOnce},
		{"ServerDeathInFlight", serverDeath},
		{"BothSidesParkAlternately", parkedBoth},
	}
	if !Emulated || Long {
		tests = append(tests, test{"LargePutsWithoutPause", largePuts}, test{"PipeliningToDepthAndBeyond", pipelining})
		if !n.Datagrams {
			tests = append(tests, test{"RequestsWaitForMemory", smallPool})
		}
	}
	if n.unix() {
		tests = append(tests, test{"ASecondServerOnAPortIsRefused", OnePort})
	}
	if n.Loops.SocketRing && !testing.Short() { // loops sleep in another way, and give another ring what they submit
		tests = append(tests, test{"WaitPolicies", waitPolicies}, test{"AParkedServerUsesNoCPU", parked}, test{"ZeroAllocationsPerOperation", zeroAllocations},
			test{"StagesSumToTheTotal", stages}, test{"ConnectionsMoveToTheRequestedLoop", handOver}, test{"Dispatched", dispatched},
			test{"CloseWithRequestsInFlight", closeInFlight}, test{"CutWithRequestsInFlight", cutInFlight}, test{"ClientDeathInFlight", clientDeath})
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) { c.f(t, n) })
	}
}

// remoteTests are the tests that need two sides.
var remoteTests = []test{
	{"PipeliningToDepthAndBeyond", pipelining},
	{"ServerDeathInFlight", serverDeath},
	{"ClientDeathInFlight", clientDeath},
	{"CloseWithRequestsInFlight", closeInFlight},
	{"CutWithRequestsInFlight", cutInFlight},
	{"CountersMatchTheRequests", countersMatch},
	{"ConnectionsMoveToTheRequestedLoop", handOver},
	{"Dispatched", dispatched},
	{"TooManyConnectionsAreRefused", tooManyConns},
	{"ASecondServerOnAPortIsRefused", OnePort},
	{"ABusyServerIsNotParked", parkedNotQuiet},
	{"BothSidesParkAlternately", parkedBoth},
	{"TimeParkedDoesNotCountAsIdle", waits(parkedIdle)},
}

// OnePort: a second server that listens on the address of the first, or on the wildcards of its port, gets the error that the address is in use, however many loops
// accept. The first one continues.
func OnePort(t *testing.T, n Network) {
	first, second := NewRig(t, n, 2, transport.ServerOptions{}), NewRig(t, n, 2, transport.ServerOptions{})
	addrs := []string{first.Server.Addr()}
	if !n.unix() {
		host, port, err := net.SplitHostPort(addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		if net.ParseIP(host).IsLoopback() {
			for _, any := range []string{"0.0.0.0", "::", ""} {
				addrs = append(addrs, net.JoinHostPort(any, port))
			}
		}
	}
	for _, addr := range addrs {
		s, err := n.Serve(addr, second.group, transport.ServerOptions{Limits: small})
		if err == nil {
			_ = s.Close()
			t.Errorf("a second server on %s, where there is one", addr)
		} else if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a second server on %s: %v, want that it is in use", addr, err)
		}
	}
	first.bystander()()
}

// Rig is a server with its loops and a client's loop.
type Rig struct {
	Server transport.Server
	Parts  []*Held    // the server's partitions
	Loop   *loop.Loop // of the client

	t      *testing.T
	n      Network
	as     *access.Entry // the identity of Dial, unless its options have one
	group  *loop.Group
	closed bool
	mu     sync.Mutex
	logged []string
}

var small = kv.Limits{MaxKeyBytes: 1024, MaxValueBytes: 1 << 20}

// NewRig starts a server with loops network loops and as many partitions, and ends it with the test.
func NewRig(t *testing.T, n Network, loops int, o transport.ServerOptions) *Rig {
	return NewRigPlan(t, n, loop.Plan{NetLoops: loops}, o)
}

func NewRigPlan(t *testing.T, n Network, p loop.Plan, o transport.ServerOptions) *Rig {
	t.Helper()
	r := &Rig{t: t, n: n}
	p.Net = n.Loops
	p.Net.Sleep, p.Store.Sleep = n.Sleep(), n.Sleep()
	p.Net.Wait, p.Store.Wait = n.Wait, n.Wait
	g, err := loop.NewGroup(p, func(l *loop.Loop, _, _ int) (loop.Partition, error) {
		h := &Held{l: l, items: map[string][]byte{}}
		_, err := l.Add(h)
		return h, err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range g.Partitions() {
		r.Parts = append(r.Parts, p.(*Held))
	}
	r.group = g
	if o.Limits == (kv.Limits{}) {
		o.Limits = small
	}
	o.HelloMax = cmp.Or(o.HelloMax, WaitMax)
	o.Log = slog.New(slog.NewTextHandler(r, nil))
	if r.Server, err = n.Serve(n.listen(), g, o); err != nil {
		_ = g.Stop()
		t.Fatal(err)
	}
	l, stop, err := n.clientLoop(g)
	if err != nil {
		t.Fatal(err)
	}
	r.Loop = l
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server's log: %q", r.Logs())
		}
		if err := stop(); err != nil {
			t.Errorf("the client's loop: %v", err)
		}
		r.Stop()
	})
	return r
}

// Stop ends the server in order.
func (r *Rig) Stop() {
	if r.closed {
		return
	}
	r.closed = true
	for _, p := range r.Parts {
		p.Release(r.t)
	}
	if err := r.Server.Close(); err != nil {
		r.t.Errorf("server: %v", err)
	}
	if err := r.group.Stop(); err != nil {
		r.t.Errorf("the server's loops: %v", err)
	}
}

// Write implements io.Writer. It keeps a line of the server's log.
func (r *Rig) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logged = append(r.logged, string(line))
	return len(line), nil
}

func (r *Rig) Logs() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.logged...)
}

// Logged waits until n lines of the server's log contain what. The server may log the end of a connection after its client has
// seen it.
func (r *Rig) Logged(n int, what string) {
	r.t.Helper()
	defer func() {
		if r.t.Failed() {
			r.t.Logf("the log: %q", r.Logs())
		}
	}()
	Until(r.t, fmt.Sprintf("%d lines of the log with %q", n, what), func() bool {
		have := 0
		for _, l := range r.Logs() {
			if strings.Contains(l, what) {
				have++
			}
		}
		return have >= n
	})
}

func (r *Rig) Dial(o transport.DialOptions) transport.Conn {
	r.t.Helper()
	c, err := r.TryDial(o)
	if err != nil {
		r.t.Fatalf("dial: %v", err)
	}
	return c
}

func (r *Rig) TryDial(o transport.DialOptions) (transport.Conn, error) {
	if o.DialMax == 0 {
		o.DialMax = WaitMax
	}
	if o.Access == nil {
		o.Access = r.as
	}
	ctx, cancel := context.WithTimeout(context.Background(), WaitMax)
	defer cancel()
	return r.n.Dial(ctx, r.Loop, r.Server.Addr(), o)
}

// Held is a partition that keeps items in a map, and can delay requests.
type Held struct {
	l     *loop.Loop
	items map[string][]byte
	hold  bool // requests wait until release
	wait  []*kv.Request
	seen  atomic.Int64 // received requests
	read  atomic.Int64 // bytes of values that were read for gets

	directCalls int // of Read and Write
}

func (h *Held) OnEvent(uint64, int32, uint32) {}
func (h *Held) Poll() int                     { return 0 }
func (h *Held) Stage() error                  { return nil }

func (h *Held) Close() bool {
	h.answerHeld(func(i int) int { return i })
	return true
}

func (h *Held) Submit(r *kv.Request) {
	loop.Mark(r, kv.StageServerQueue)
	h.seen.Add(1)
	if h.hold {
		h.wait = append(h.wait, r)
		return
	}
	h.answer(r)
}

var _ kv.Direct = (*Held)(nil)

// Read implements kv.Direct for some of the keys, so that a test has gets of both ways.
func (h *Held) Read(keys, values [][]byte) int {
	keys = keys[:h.direct(len(keys))]
	for i, k := range keys {
		values[i] = h.items[string(k)]
	}
	return len(keys)
}

// Write implements kv.Direct for some of the keys.
func (h *Held) Write(keys, values [][]byte) int {
	keys = keys[:h.direct(len(keys))]
	for i, k := range keys {
		h.put(k, values[i])
	}
	return len(keys)
}

// direct returns how many of n requests are executed at once: 0 to 3 in turn, or none while requests are delayed.
func (h *Held) direct(n int) int {
	if h.hold || len(h.wait) > 0 {
		return 0
	}
	h.directCalls++
	n = min(n, h.directCalls%4)
	h.seen.Add(int64(n))
	return n
}

func (h *Held) put(key, value []byte) {
	if v, there := h.items[string(key)]; there && len(v) == len(value) {
		copy(v, value)
	} else {
		h.items[string(key)] = append([]byte{}, value...)
	}
}

func (h *Held) answer(r *kv.Request) {
	loop.Mark(r, kv.StageDisk)
	r.Status = kv.StatusOK
	v, there := h.items[string(r.Key)]
	switch {
	case r.Op == kv.OpPut:
		h.put(r.Key, r.Value)
	case r.Op == kv.OpScan:
		h.scan(r)
	case r.Op == kv.OpKeys:
		h.page(r)
	case !there:
		r.Status = kv.StatusNotFound
	case r.Op == kv.OpDelete:
		delete(h.items, string(r.Key))
	case len(v) > cap(r.Value):
		r.Status, r.Need = kv.StatusTooSmall, uint32(len(v))
	default:
		r.Value = append(r.Value[:0], v...)
		h.read.Add(int64(len(v)))
	}
	h.l.Finish(r)
}

// scan returns the items k00 … k99, from the key on.
func (h *Held) scan(r *kv.Request) {
	r.Value, r.More = r.Value[:0], false
	n := uint32(0)
	for i := 0; i < 100 && n < r.Limit; i++ {
		key := []byte(fmt.Sprintf("k%02d", i))
		v, ok := h.items[string(key)]
		if !ok || bytes.Compare(key, r.Key) < 0 {
			continue
		}
		out, fits := kv.AppendItem(r.Value, key, v)
		if !fits {
			r.More = true
			return
		}
		r.Value = out
		n++
	}
}

// page returns a page of a walk over k00 … k99. The record of a position is the number of keys that remain.
func (h *Held) page(r *kv.Request) {
	r.Value = r.Value[:0]
	left := min(kv.PositionIn(r.Key).Record(), 100)
	for n := uint32(0); left > 0 && n < r.Limit; left-- {
		key := []byte(fmt.Sprintf("k%02d", 100-left))
		if _, ok := h.items[string(key)]; ok {
			r.Value, _ = kv.AppendItem(r.Value, key, nil)
			n++
		}
	}
	r.Record = left
}

// answerHeld answers the delayed requests. pick returns the index of the next one among those left.
func (h *Held) answerHeld(pick func(left int) int) {
	for len(h.wait) > 0 {
		i := pick(len(h.wait)) % len(h.wait)
		r := h.wait[i]
		h.wait = append(h.wait[:i], h.wait[i+1:]...)
		h.answer(r)
	}
}

// Hold makes the partition delay requests from now on.
func (h *Held) Hold(t *testing.T) {
	t.Helper()
	if err := h.l.Call(func() { h.hold = true }); err != nil {
		t.Fatal(err)
	}
}

// Release answers the delayed requests, oldest first, and ends Hold.
func (h *Held) Release(t *testing.T) {
	t.Helper()
	_ = h.l.Call(func() { h.hold = false; h.answerHeld(func(int) int { return 0 }) })
}

// Await waits until the partition has received n requests in all.
func (h *Held) Await(t *testing.T, n int64) {
	t.Helper()
	Until(t, fmt.Sprintf("%d requests at the server", n), func() bool { return h.seen.Load() >= n })
}

// Until waits until ok returns true. Between two calls it yields to the loops.
func Until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(WaitMax)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("waited %v for %s", WaitMax, what)
		case <-tick.C:
		}
	}
}

// Caller submits requests from outside the loop and collects them.
type Caller struct {
	t    *testing.T
	l    *loop.Loop
	c    transport.Conn
	back chan *kv.Request
	more sync.Map // *kv.Request → times completed
}

func NewCaller(t *testing.T, l *loop.Loop, c transport.Conn) *Caller {
	return &Caller{t: t, l: l, c: c, back: make(chan *kv.Request, 4096)}
}

// Complete implements kv.Completer.
func (c *Caller) Complete(r *kv.Request) {
	loop.Mark(r, kv.StageNotifyClient)
	n, _ := c.more.LoadOrStore(r, new(atomic.Int32))
	if n.(*atomic.Int32).Add(1) > 1 {
		c.t.Errorf("a %v request completed twice", r.Op)
		return
	}
	c.back <- r
}

func (c *Caller) Submit(rs ...*kv.Request) {
	c.t.Helper()
	if err := c.l.Call(func() {
		for _, r := range rs {
			r.Owner = c
			c.c.Submit(r)
		}
	}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *Caller) Next() *kv.Request {
	c.t.Helper()
	select {
	case r := <-c.back:
		c.more.Delete(r)
		return r
	case <-time.After(WaitMax):
		c.t.Fatalf("no completion within %v", WaitMax)
		return nil
	}
}

func (c *Caller) do(r *kv.Request) *kv.Request {
	c.t.Helper()
	c.Submit(r)
	return c.Next()
}

func (c *Caller) Expect(r *kv.Request, s kv.Status) *kv.Request {
	c.t.Helper()
	if got := c.do(r); got.Status != s {
		c.t.Fatalf("%v %.20q: %v, want %v", r.Op, r.Key, got.Status, s)
	}
	return r
}

func Put(key string, value []byte) *kv.Request {
	return &kv.Request{Op: kv.OpPut, Key: []byte(key), Value: value}
}

func Get(key string, room int) *kv.Request {
	return &kv.Request{Op: kv.OpGet, Key: []byte(key), Value: make([]byte, 0, room)}
}

// Fill returns n bytes that any shift or exchange changes.
func Fill(n int, seed uint64) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], uint64(n))
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // a call for each byte would be a fifth of the suite's CPU time
	return b
}

func roundTrip(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	c.Expect(Get("a", 10), kv.StatusNotFound)
	c.Expect(Put("a", []byte("one")), kv.StatusOK)
	if got := c.Expect(Get("a", 10), kv.StatusOK); string(got.Value) != "one" {
		t.Fatalf("get gives %q", got.Value)
	}
	c.Expect(&kv.Request{Op: kv.OpDelete, Key: []byte("a")}, kv.StatusOK)
	c.Expect(&kv.Request{Op: kv.OpDelete, Key: []byte("a")}, kv.StatusNotFound)
	h := c.c.Hello()
	if h.Depth < 16 || h.Loops != 1 || len(h.Shards) != 1 || int(h.MaxValueBytes) != small.MaxValueBytes {
		t.Fatalf("the hello grants %+v", h)
	}
}

func valueSizes(t *testing.T, n Network) {
	limit := 70_000
	r := NewRig(t, n, 1, transport.ServerOptions{Limits: kv.Limits{MaxKeyBytes: 300, MaxValueBytes: limit}})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	for _, k := range []int{1, 2, 223, 224, 225, 255, 256, 257, 300} {
		for _, v := range []int{0, 1, 100, 224, 255, 256, 257, 479, 480, 481, 512, 1000, 4063, 4064, 4096, 16352, 16384, 65536, limit - 1, limit} {
			key := string(Fill(k, 1))
			value := Fill(v, uint64(k))
			c.Expect(Put(key, value), kv.StatusOK)
			if got := c.Expect(Get(key, limit), kv.StatusOK); !bytes.Equal(got.Value, value) {
				t.Fatalf("key of %d B: a value of %d B came back as %d B, others", k, v, len(got.Value))
			}
		}
	}
	c.Expect(Put("k", make([]byte, limit+1)), kv.StatusTooLarge)
	c.Expect(Put(string(make([]byte, 301)), nil), kv.StatusTooLarge)
	c.Expect(Put("", []byte("x")), kv.StatusBadRequest)
	c.Expect(&kv.Request{Op: 99, Key: []byte("k")}, kv.StatusBadRequest)
	c.Expect(Put("k", []byte("still works")), kv.StatusOK)
}

func largeValues(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{Limits: kv.Limits{MaxKeyBytes: 64, MaxValueBytes: 4 << 20}})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 8}))
	var sums [8][32]byte
	for round := range max(Effort(3), 2) {
		var puts, gets []*kv.Request
		for i := range sums {
			v := Fill(Bytes(1<<20+i*(1<<17))+round, uint64(i))
			sums[i] = sha256.Sum256(v)
			puts = append(puts, Put(fmt.Sprint("large", i), v))
			gets = append(gets, Get(fmt.Sprint("large", i), 4<<20))
			gets[i].Slot = uint64(i)
		}
		c.Submit(puts...)
		for range puts {
			if r := c.Next(); r.Status != kv.StatusOK {
				t.Fatalf("put %s: %v", r.Key, r.Status)
			}
		}
		c.Submit(gets...)
		for range gets {
			g := c.Next()
			if g.Status != kv.StatusOK || sha256.Sum256(g.Value) != sums[g.Slot] {
				t.Fatalf("get %s: %v, %d B, checksum differs", g.Key, g.Status, len(g.Value))
			}
		}
	}
}

// largePuts keeps every slot busy with messages that are larger than socket buffers: sends end anywhere,
// and an answer can arrive before its request is reported as sent.
func largePuts(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	var ps []*ping
	for range 3 {
		c := r.Dial(transport.DialOptions{Depth: 16})
		p := &ping{h: c, left: Effort(200), done: make(chan struct{}, 1)}
		ps = append(ps, p)
		if err := r.Loop.Call(func() {
			for i := range 16 {
				q := Put(fmt.Sprint(i), Fill(Bytes(1<<20), uint64(i)))
				q.Owner = p
				c.Submit(q)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range ps {
		select {
		case <-p.done:
		case <-time.After(WaitMax):
			t.Fatal("the puts have stopped")
		}
		if p.failed != 0 {
			t.Fatalf("%d puts failed, the first as %v", p.failed, p.first)
		}
	}
}

func pipelining(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{Depth: 32})
	conn := r.Dial(transport.DialOptions{Depth: 100})
	if d := conn.Hello().Depth; d != 32 {
		t.Fatalf("granted depth %d, the server allows 32", d)
	}
	c := NewCaller(t, r.Loop, conn)
	p := r.Parts[0]
	p.Hold(t)
	var rs []*kv.Request
	for i := range 200 {
		rs = append(rs, Put(fmt.Sprint(i), []byte("v")))
	}
	c.Submit(rs...)
	p.Await(t, 32)
	// More than the depth never arrives at once: a full round trip of another connection, and still 32.
	other := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	other.Submit(Get("x", 1))
	p.Await(t, 33)
	if got := p.seen.Load(); got != 33 {
		t.Fatalf("%d requests reached the server, the depth is 32 and 1 came on another connection", got)
	}
	p.Release(t)
	for range rs {
		if r := c.Next(); r.Status != kv.StatusOK {
			t.Fatal(r.Status)
		}
	}
	other.Next()
}

func outOfOrder(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 64}))
	var puts []*kv.Request // all at a time: where loops spin on few CPUs, each crossing to one may wait a time slice
	for i := range 64 {
		puts = append(puts, Put(fmt.Sprint(i), Fill(i*37, uint64(i))))
	}
	c.Submit(puts...)
	for range puts {
		if q := c.Next(); q.Status != kv.StatusOK {
			t.Fatalf("put %s: %v", q.Key, q.Status)
		}
	}
	p := r.Parts[0]
	rng := rand.New(rand.NewPCG(3, 4))
	for range Effort(20) {
		p.Hold(t)
		before := p.seen.Load()
		var gets []*kv.Request
		for i := range 64 {
			g := Get(fmt.Sprint(i), 4096)
			g.Slot = uint64(i)
			gets = append(gets, g)
		}
		c.Submit(gets...)
		p.Await(t, before+64)
		if err := p.l.Call(func() { p.hold = false; p.answerHeld(rng.IntN) }); err != nil {
			t.Fatal(err)
		}
		for range 64 {
			g := c.Next()
			if g.Status != kv.StatusOK || !bytes.Equal(g.Value, Fill(int(g.Slot)*37, g.Slot)) {
				t.Fatalf("get %d has another's answer (%v)", g.Slot, g.Status)
			}
		}
	}
}

func exactlyOnce(t *testing.T, n Network) {
	r := NewRig(t, n, 2, transport.ServerOptions{})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 16}))
	const many = 3000
	var rs []*kv.Request
	for i := range many {
		rs = append(rs, Put(fmt.Sprint(i%100), Fill(i%700, uint64(i))))
	}
	c.Submit(rs...)
	for range many {
		c.Next()
	}
	// A further round trip gives a second completion time to arrive.
	c.Expect(Get("0", 4096), kv.StatusOK)
	if len(c.back) != 0 {
		t.Fatal("more completions than requests")
	}
}

func scans(t *testing.T, n Network) {
	r := NewRig(t, n, 3, transport.ServerOptions{})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	for i := range 100 {
		c.Expect(Put(fmt.Sprintf("k%02d", i), Fill(i, uint64(i))), kv.StatusOK)
	}
	s := c.Expect(&kv.Request{Op: kv.OpScan, Key: []byte("k10"), Limit: 50, Value: make([]byte, 0, 64<<10)}, kv.StatusOK)
	b := s.Value
	for i := 10; i < 60; i++ {
		k, v, rest, ok := kv.NextItem(b)
		if !ok || string(k) != fmt.Sprintf("k%02d", i) || !bytes.Equal(v, Fill(i, uint64(i))) {
			t.Fatalf("item %d of the scan is %q (ok=%v)", i, k, ok)
		}
		b = rest
	}
	if len(b) != 0 {
		t.Fatalf("%d bytes after the last item", len(b))
	}
	c.Expect(&kv.Request{Op: kv.OpScan, Key: []byte("k10"), Value: make([]byte, 0, 100)}, kv.StatusBadRequest)
}

// scanMore has all items in one of two partitions, and room for half of them.
func scanMore(t *testing.T, n Network) {
	r := NewRig(t, n, 2, transport.ServerOptions{})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	stored := 0
	for i := 0; i < 100 && stored < 10; i++ {
		if k := fmt.Sprintf("k%02d", i); kv.Shard([]byte(k), 2) == 0 {
			c.Expect(Put(k, Fill(100, 1)), kv.StatusOK)
			stored++
		}
	}
	for _, q := range []struct {
		room int
		more bool
	}{{5 * 109, true}, {10 * 109, false}, {5*109 + 50, true}, {1 << 16, false}} {
		s := c.Expect(&kv.Request{Op: kv.OpScan, Key: []byte("k"), Limit: 50, Value: make([]byte, 0, q.room), Need: 7, More: !q.more}, kv.StatusOK)
		items := 0
		for b, ok := s.Value, true; ok; items++ {
			_, _, b, ok = kv.NextItem(b)
		}
		if items--; s.Need != 0 || s.More != q.more || items != min(q.room/109, 10) {
			t.Errorf("room for %d B: %d of 10 items, Need %d, more %v, want %v", q.room, items, s.Need, s.More, q.more)
		}
	}
}

func scanLargest(t *testing.T, n Network) {
	r := NewRig(t, n, 2, transport.ServerOptions{Limits: kv.Limits{MaxKeyBytes: 3, MaxValueBytes: 8155}}) // with its header just above a block of the pool
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	v := Fill(8155, 1)
	c.Expect(Put("k42", v), kv.StatusOK)
	s := c.Expect(&kv.Request{Op: kv.OpScan, Key: []byte("k"), Limit: 1, Value: make([]byte, 0, 1<<20)}, kv.StatusOK)
	if k, got, _, ok := kv.NextItem(s.Value); !ok || string(k) != "k42" || !bytes.Equal(got, v) {
		t.Fatalf("the scan gives %d B", len(s.Value))
	}
}

func tooSmall(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	for _, v := range []int{10, 300, 5000, 100_000} {
		c.Expect(Put("k", Fill(v, 1)), kv.StatusOK)
		if g := c.Expect(Get("k", v-1), kv.StatusTooSmall); int(g.Need) != v {
			t.Fatalf("a get with room for %d of %d B is told to make room for %d", v-1, v, g.Need)
		}
		if g := c.Expect(Get("k", v), kv.StatusOK); !bytes.Equal(g.Value, Fill(v, 1)) {
			t.Fatalf("with room for exactly %d B other bytes came", v)
		}
	}
}

func statuses(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	p := r.Parts[0]
	for s := kv.StatusNotFound; s.Valid(); s++ {
		if s == kv.StatusTooSmall {
			continue
		}
		p.Hold(t)
		before := p.seen.Load()
		c.Submit(Get("k", 10))
		p.Await(t, before+1)
		if err := p.l.Call(func() {
			r := p.wait[0]
			p.wait = p.wait[:0]
			r.Status = s
			p.l.Finish(r)
		}); err != nil {
			t.Fatal(err)
		}
		if got := c.Next(); got.Status != s {
			t.Fatalf("%v arrived as %v", s, got.Status)
		}
	}
}

func serverDeath(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	child := StartChild(t, n, Plan{})
	ctx, cancel := context.WithTimeout(context.Background(), WaitMax)
	defer cancel()
	conn, err := n.Dial(ctx, r.Loop, child.Addr, transport.DialOptions{Depth: 4})
	if err != nil {
		t.Fatal(err)
	}
	c := NewCaller(t, r.Loop, conn)
	for i := range 6 {
		c.Submit(Put(fmt.Sprint(i), []byte("v")))
	}
	child.Await(4)
	child.Kill()
	var unknown, closed int
	for range 6 {
		switch s := c.Next().Status; s {
		case kv.StatusUnknown:
			unknown++
		case kv.StatusClosed:
			closed++
		default:
			t.Fatalf("a request ended as %v", s)
		}
	}
	if unknown != 4 || closed != 2 {
		t.Fatalf("%d unknown and %d closed; 4 were sent and 2 were not", unknown, closed)
	}
	if e := r.Loop.Call(func() { err = conn.Err() }); e != nil || err == nil {
		t.Fatalf("the connection's error is %v (%v)", err, e)
	}
	c.Expect(Put("k", nil), kv.StatusClosed)
}

func clientDeath(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	p := r.Parts[0]
	good := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	for range Effort(20) {
		p.Hold(t)
		before := p.seen.Load()
		conn := r.Dial(transport.DialOptions{Depth: 8})
		c := NewCaller(t, r.Loop, conn)
		for i := range 8 {
			c.Submit(Put(fmt.Sprint(i), Fill(5000, 1)))
		}
		p.Await(t, before+8)
		conn.Hangup()
		for range 8 {
			if s := c.Next().Status; s != kv.StatusUnknown {
				t.Fatalf("a request in flight ended as %v", s)
			}
		}
		p.Release(t) // answers that no client reads
		good.Expect(Put("good", []byte("v")), kv.StatusOK)
	}
}

// eightInFlight has a server's partition hold a client's eight puts.
func eightInFlight(t *testing.T, n Network) (*Rig, *Caller, *Held) {
	t.Helper()
	r := NewRig(t, n, 1, transport.ServerOptions{})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 8}))
	p := r.Parts[0]
	p.Hold(t)
	for i := range 8 {
		c.Submit(Put(fmt.Sprint(i), []byte("v")))
	}
	p.Await(t, 8)
	return r, c, p
}

func closeInFlight(t *testing.T, n Network) {
	r, c, p := eightInFlight(t, n)
	done := make(chan struct{})
	go func() { _ = r.Server.Close(); close(done) }()
	// An orderly close waits for the handler, so nothing has completed yet; then every answer arrives.
	c.mustBeSilent(r)
	p.Release(t)
	for range 8 {
		if s := c.Next().Status; s != kv.StatusOK {
			t.Fatalf("a request that was in flight when the server closed ended as %v", s)
		}
	}
	select {
	case <-done:
	case <-time.After(WaitMax):
		t.Fatal("the server does not close")
	}
	Until(t, "the client to notice", func() bool {
		var err error
		_ = r.Loop.Call(func() { err = c.c.Err() })
		return err != nil
	})
	var err error
	_ = r.Loop.Call(func() { err = c.c.Err() })
	var refusal *transport.Refusal
	if !errors.As(err, &refusal) || refusal.Code != wire.RefusedClosing {
		t.Fatalf("the client was told %v", err)
	}
	if _, err := r.TryDial(transport.DialOptions{DialMax: time.Second}); err == nil {
		t.Fatal("a closed server takes connections")
	}
}

// mustBeSilent checks that no request completes during some turns of both sides.
func (c *Caller) mustBeSilent(r *Rig) {
	for range 10 {
		_ = r.group.Net()[0].Call(func() {})
		_ = r.Loop.Call(func() {})
	}
	if len(c.back) != 0 {
		c.t.Fatalf("a request completed (%v) that the handler still holds", c.Next().Status)
	}
}

func submitAfterClose(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	conn := r.Dial(transport.DialOptions{})
	c := NewCaller(t, r.Loop, conn)
	c.Expect(Put("k", []byte("v")), kv.StatusOK)
	conn.Hangup()
	conn.Hangup() // a second call does nothing
	c.Expect(Get("k", 10), kv.StatusClosed)
}

func handOver(t *testing.T, n Network) {
	r := NewRig(t, n, 3, transport.ServerOptions{})
	for want := range 3 {
		conn := r.Dial(transport.DialOptions{Loop: want})
		h := conn.Hello()
		if int(h.Loop) != want || h.Loops != 3 || len(h.Shards) != 3 {
			t.Fatalf("asked for loop %d, got %+v", want, h)
		}
		c := NewCaller(t, r.Loop, conn)
		for i := range 30 { // keys of all shards, by way of this loop
			key := fmt.Sprint("key", i)
			c.Expect(Put(key, Fill(i*50, uint64(i))), kv.StatusOK)
			if g := c.Expect(Get(key, 4096), kv.StatusOK); !bytes.Equal(g.Value, Fill(i*50, uint64(i))) {
				t.Fatalf("%s came back wrong", key)
			}
		}
	}
	_, err := r.TryDial(transport.DialOptions{Loop: 3})
	var refusal *transport.Refusal
	if !errors.As(err, &refusal) || refusal.Code != wire.RefusedLoop {
		t.Fatalf("loop 3 of 3: %v", err)
	}
}

func dispatched(t *testing.T, n Network) {
	r := NewRigPlan(t, n, loop.Plan{Placement: loop.Dispatched, NetLoops: 2, StoreLoops: 2}, transport.ServerOptions{})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Loop: 1}))
	if m := c.c.Hello().Shards; len(m) != 0 {
		t.Fatalf("network loops own no keys, but the shard map is %v", m)
	}
	var rs []*kv.Request
	for i := range 500 {
		rs = append(rs, Put(fmt.Sprint(i), Fill(i, uint64(i))))
	}
	c.Submit(rs...)
	for range rs {
		if s := c.Next().Status; s != kv.StatusOK {
			t.Fatal(s)
		}
	}
	for i := range 500 {
		if g := c.Expect(Get(fmt.Sprint(i), 4096), kv.StatusOK); !bytes.Equal(g.Value, Fill(i, uint64(i))) {
			t.Fatalf("key %d came back wrong", i)
		}
	}
}

func tooManyConns(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{MaxConns: 3})
	var cs []*Caller
	for range 3 {
		cs = append(cs, NewCaller(t, r.Loop, r.Dial(transport.DialOptions{})))
	}
	_, err := r.TryDial(transport.DialOptions{})
	var refusal *transport.Refusal
	if !errors.As(err, &refusal) || refusal.Code != wire.RefusedBusy {
		t.Fatalf("the fourth of three connections: %v", err)
	}
	for _, c := range cs {
		c.Expect(Put("k", []byte("v")), kv.StatusOK)
	}
	cs[0].c.Hangup()
	Until(t, "a place to become free", func() bool {
		c, err := r.TryDial(transport.DialOptions{})
		if err == nil {
			c.Hangup()
		}
		return err == nil
	})
}

// ping submits a request again and again from the loop itself, so that only the data path runs.
type ping struct {
	h    kv.Handler
	left int
	last int // what left is when it is done: 0, or below by those that are on their way then
	done chan struct{}

	failed int
	first  kv.Status
}

// Complete implements kv.Completer.
func (p *ping) Complete(r *kv.Request) {
	if r.Status != kv.StatusOK {
		if p.failed++; p.failed == 1 {
			p.first = r.Status
		}
	}
	if p.left--; p.left <= 0 {
		if p.left == p.last {
			p.done <- struct{}{}
		}
		return
	}
	if r.Op == kv.OpGet {
		r.Value = r.Value[:0]
	}
	p.h.Submit(r)
}

// waits returns those of the wait policies that the network allows.
func (n Network) waits(all ...loop.Wait) []loop.Wait {
	if n.Polled {
		return []loop.Wait{loop.WaitSpin}
	}
	return all
}

// waitPolicies runs over loops that never sleep, and over loops that sleep after a while.
func waitPolicies(t *testing.T, n Network) {
	// Two loops that spin would leave no processor to the test itself.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 4))
	for _, n.Wait = range n.waits(loop.WaitSpin, loop.WaitHybrid) {
		t.Run(n.Wait.String(), func(t *testing.T) {
			roundTrip(t, n)
			outOfOrder(t, n)
			if !n.Local {
				closeInFlight(t, n)
			}
		})
	}
}

func zeroAllocations(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	conn := r.Dial(transport.DialOptions{Depth: 8})
	c := NewCaller(t, r.Loop, conn)
	sizes, ops := []int{64, 4096, 100_000}, 2000
	if n.Allocates != nil || testenv.Short() {
		ops = 400
	}
	if Emulated {
		sizes, ops = []int{64, 20_000}, 400
		if !Long {
			ops = 150
		}
	}
	for _, size := range sizes {
		for _, op := range []kv.Op{kv.OpGet, kv.OpPut} {
			c.Expect(Put("k", Fill(size, 1)), kv.StatusOK)
			var rs []*kv.Request
			p := &ping{h: conn, last: -7, done: make(chan struct{}, 1)}
			for range 8 {
				q := Get("k", size)
				if op == kv.OpPut {
					q = Put("k", Fill(size, 1))
				}
				q.Owner = p
				rs = append(rs, q)
			}
			start := func() {
				if err := r.Loop.Call(func() {
					p.left = ops
					for _, q := range rs {
						conn.Submit(q)
					}
				}); err != nil {
					t.Fatal(err)
				}
				select {
				case <-p.done:
				case <-time.After(WaitMax):
					t.Fatal("the pings have stopped")
				}
			}
			checkAllocations(t, n, op.String(), ops, size, start)
		}
	}
}

// frameAllocs are the allocations of one round, however many operations it has: Loop.Call, the timer of the deadline, and the runtime's own while
// goroutines wait for each other.
const frameAllocs = 20

// checkAllocations runs a round of ops operations of size bytes some times, and requires that none of the operations allocates. It counts the
// allocations of the whole process, of which the client and the server are part.
func checkAllocations(t *testing.T, n Network, what string, ops, size int, round func()) {
	t.Helper()
	allowed := float64(frameAllocs)
	if n.Allocates != nil {
		allowed += float64(ops) * (0.1 + n.Allocates(size))
	}
	if a := testing.AllocsPerRun(3, round); a > allowed {
		t.Errorf("%s of %d B: %v allocations in %d operations, of %.0f at most", what, size, a, ops, allowed)
	}
}
