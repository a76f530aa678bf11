package transporttest

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/socket"
	"golang.org/x/sys/unix"
)

// parkPause is the time for which tests park a server, and parkedMax the CPU time that each of its threads may use meanwhile: to
// fall asleep, and because the clock of a thread may lag.
var (
	parkPause = map[bool]time.Duration{false: 60 * time.Millisecond, true: 400 * time.Millisecond}[Emulated]
	parkedMax = parkPause / 4
)

// parkServer parks the server once it is quiet, and returns its loops' threads.
func (r *Rig) parkServer() (tids []int) {
	r.t.Helper()
	var mu sync.Mutex
	by := map[*loop.Loop]int{} // last may run again
	if err := r.group.Park(WaitMax, func(l *loop.Loop) {
		mu.Lock()
		defer mu.Unlock()
		by[l] = unix.Gettid()
	}); err != nil {
		r.t.Fatal(err)
	}
	for _, tid := range by {
		tids = append(tids, tid)
	}
	return tids
}

// threadCPU returns the CPU time of a thread of this process, in ns.
func threadCPU(t *testing.T, tid int) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^tid<<3|6), &ts); err != nil { // CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED
		t.Fatal(err)
	}
	return ts.Nano()
}

// parked parks a server several times, under each wait policy: a parked server uses no CPU time, and answers requests after it was resumed.
func parked(t *testing.T, n Network) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 4)) // loops that spin
	for _, n.Wait = range n.waits(loop.WaitBlock, loop.WaitSpin, loop.WaitHybrid) {
		t.Run(n.Wait.String(), func(t *testing.T) {
			r := NewRig(t, n, 2, transport.ServerOptions{})
			c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Depth: 16}))
			c.Expect(Put("k", Fill(20_000, 1)), kv.StatusOK)
			for range 3 {
				tids := r.parkServer()
				asked := func() { // more bytes than one message of any transport has
					for i := range 8 {
						q := Get("k", 20_000)
						if i%2 == 0 {
							q = Put("other", Fill(20_000, uint64(i)))
						}
						q.Owner = c
						c.c.Submit(q)
					}
				}
				if !r.Loop.Do(asked) { // with n.Local it is a parked loop
					t.Fatal("the client's loop has ended")
				}
				before := make([]int64, len(tids))
				for i, tid := range tids {
					before[i] = threadCPU(t, tid)
				}
				select {
				case q := <-c.back:
					t.Fatalf("a parked server has answered a %v: %v", q.Op, q.Status)
				case <-time.After(parkPause):
				}
				for i, tid := range tids {
					if used := time.Duration(threadCPU(t, tid) - before[i]); used > parkedMax {
						t.Errorf("a parked loop has used %v of CPU time in %v", used, parkPause)
					}
				}
				r.group.Resume()
				for range 8 {
					if q := c.Next(); q.Status != kv.StatusOK {
						t.Fatalf("a %v that was sent to a parked server: %v", q.Op, q.Status)
					}
				}
			}
		})
	}
}

// parkedNotQuiet: a server does not park while it has a request to answer.
func parkedNotQuiet(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	r.Parts[0].Hold(t)
	c.Submit(Put("k", []byte("v")))
	r.Parts[0].Await(t, 1)
	if err := r.group.Park(10*time.Millisecond, nil); err == nil {
		t.Fatal("a server was parked with a request under way")
	}
	r.Parts[0].Release(t)
	if q := c.Next(); q.Status != kv.StatusOK {
		t.Fatal(q.Status)
	}
	r.parkServer()
	r.group.Resume()
	c.Expect(Get("k", 10), kv.StatusOK)
}

// parkedBoth parks client and server alternately, many times, with requests in between: in the order of a slice.
func parkedBoth(t *testing.T, n Network) {
	r := NewRig(t, n, 2, transport.ServerOptions{})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	for i := range Effort(50) {
		c.Expect(Put("k", Fill(3000, uint64(i))), kv.StatusOK)
		c.Expect(Get("k", 3000), kv.StatusOK)
		if err := loop.ParkAll([]*loop.Loop{r.Loop}, WaitMax, nil); err != nil {
			t.Fatal(err)
		}
		r.parkServer()
		r.group.Resume()
		r.Loop.Resume()
	}
}

// parkedIdle parks a server for IdleMax: its connections stay open, and end when they were idle for IdleMax while the server was awake.
func parkedIdle(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{IdleMax: Stall, HelloMax: Stall, StallMax: Stall})
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	c.Expect(Put("k", []byte("v")), kv.StatusOK)
	r.parkServer()
	<-time.After(Stall)
	r.group.Resume()
	c.Expect(Get("k", 10), kv.StatusOK)
	Until(t, "the end of a connection that is idle while the server is awake", func() bool { return c.err() != nil })
}

// err returns the error with which the connection has ended.
func (c *Caller) err() (err error) {
	if cerr := c.l.Call(func() { err = c.c.Err() }); cerr != nil {
		c.t.Fatal(cerr)
	}
	return err
}

// parkedHello parks a server for HelloMax during a hello.
func parkedHello(t *testing.T, n Network) {
	hello := 2 * Stall
	r := NewRig(t, n, 1, transport.ServerOptions{HelloMax: hello})
	network, address := goNet(r.Server.Addr())
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	Until(t, "the connection to be accepted", func() bool {
		s, err := r.Server.Stats()
		return err == nil && s[0].Conns == 1
	})
	r.parkServer()
	<-time.After(hello)
	r.group.Resume()
	_ = conn.SetReadDeadline(time.Now().Add(hello / 4))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a server that was parked did not wait for a hello: %v", err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(WaitMax))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a server that was parked waits for a hello for ever: %v", err)
	}
}

// congestion: a client's connection over TCP without TLS has a congestion window, others have none.
func congestion(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	conn := r.Dial(transport.DialOptions{})
	c := NewCaller(t, r.Loop, conn)
	c.Expect(Put("k", Fill(100_000, 1)), kv.StatusOK)
	window := func() (segments int, ok bool) {
		if err := r.Loop.Call(func() { segments, ok = socket.CongestionWindow(conn) }); err != nil {
			t.Fatal(err)
		}
		return segments, ok
	}
	want := n.Stream && !n.unix() && n.ClientTLS == nil
	if segments, ok := window(); ok != want || ok && segments < 1 {
		t.Fatalf("a congestion window of %d segments, known %v, want %v", segments, ok, want)
	}
	conn.Hangup()
	if segments, ok := window(); ok {
		t.Fatalf("a congestion window of %d segments of a connection that has ended", segments)
	}
}
