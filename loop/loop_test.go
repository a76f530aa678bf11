package loop

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"golang.org/x/sys/unix"
)

// bare is a member that does nothing; tests override what they need.
type bare struct{}

func (bare) OnEvent(uint64, int32, uint32) {}
func (bare) Poll() int                     { return 0 }
func (bare) Stage() error                  { return nil }
func (bare) Close() bool                   { return true }

// pinger keeps up to three tokens moving, each announced to the loop in another way: a reply
// in the mailbox, a readable socket, a finished disk read. Every token waits for its own
// wake-up, so one that is lost stops its count for good.
type pinger struct {
	bare
	l     *Loop
	id    MemberID
	peer  *Loop
	req   kv.Request
	sock  int // our end of a socket pair; the peer's member echoes on the other
	file  int
	page  []byte // the disk's
	byte  []byte // the socket's, where the ring receives it
	kinds string
	relay relay
	count [3]atomic.Uint64
}

const (
	tagSock = 1
	tagDisk = 2
)

func (p *pinger) begin() error {
	for _, k := range p.kinds {
		switch k {
		case 'm':
			p.req = kv.Request{Op: kv.OpGet, Key: []byte("k"), Owner: p}
			p.mail()
		case 's':
			if p.l.o.SocketRing {
				p.receive()
			} else if err := p.l.Watch(p.id, p.sock, unix.EPOLLIN, tagSock); err != nil {
				return err
			}
			if _, err := unix.Write(p.sock, []byte{1}); err != nil {
				return err
			}
		case 'd':
			p.read()
		}
	}
	return nil
}

func (p *pinger) mail() {
	p.relay = relay{p.l, p.peer}
	p.req.Home, p.req.Owner = p, &p.relay
	p.l.post(p.peer, &p.req)
}

// receive waits for the socket on the ring for sockets.
func (p *pinger) receive() { p.l.SocketSQE(p.id, tagSock).Recv(p.sock, p.byte, 0) }

func (p *pinger) read() { p.l.SQE(p.id, tagDisk).Read(p.file, p.page, 0) }

func (p *pinger) Complete(*kv.Request) { p.count[0].Add(1); p.mail() }

func (p *pinger) OnEvent(tag uint64, res int32, _ uint32) {
	switch tag {
	case tagSock:
		switch {
		case p.l.o.SocketRing:
			_, _ = unix.Write(p.sock, p.byte[:res])
			p.count[1].Add(1)
			p.receive()
		case echo(p.sock):
			p.count[1].Add(1)
		}
	case tagDisk:
		if res != int32(len(p.page)) {
			panic("short disk read")
		}
		p.count[2].Add(1)
		p.read()
	}
}

// echo sends back what came; edge-triggered, so it reads until it would block.
func echo(fd int) bool {
	var b [8]byte
	any := false
	for {
		n, err := sys.Recv(fd, b[:])
		if err != nil || n == 0 {
			return any
		}
		any = true
		_, _ = unix.Write(fd, b[:n])
	}
}

type echoer struct {
	bare
	fd int
}

func (e *echoer) OnEvent(uint64, int32, uint32) { echo(e.fd) }

// nullPartition completes everything at once.
type nullPartition struct {
	bare
	l *Loop
}

func (n *nullPartition) Submit(r *kv.Request) { r.Status = kv.StatusOK; n.l.Finish(r) }

// TestLoopLosesNoWakeUp lets loops of each kind fall asleep a million times with KVWIRE_LONG (100,000 without, 5000 with -short), waiting for
// a mailbox, a socket, a disk, alone and together, and fails when a token stops.
func TestLoopLosesNoWakeUp(t *testing.T) {
	testenv.Uring(t)
	for name, o := range map[string]Options{
		"ring":      {Sleep: SleepRing},
		"two rings": {Sleep: SleepRing, SocketRing: true},
		"epoll":     {Sleep: SleepEpoll, Ring: true},
	} {
		for kinds, sleeps := range map[string]uint64{"m": 400_000, "s": 400_000, "d": 50_000, "msd": 150_000} {
			switch {
			case testing.Short():
				sleeps /= 200
			case os.Getenv("KVWIRE_LONG") == "":
				sleeps /= 10
			}
			t.Run(name+"/"+kinds, func(t *testing.T) { wakeUps(t, o, kinds, sleeps) })
		}
	}
}

func wakeUps(t *testing.T, o Options, kinds string, sleeps uint64) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	name := filepath.Join(t.TempDir(), "page")
	if err := os.WriteFile(name, make([]byte, arena.PageBytes), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) { // tmpfs: cached reads complete at once, but still through the ring
		file, err = unix.Open(name, unix.O_RDONLY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(file)
	a, err := arena.New(2 * arena.PageBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()

	peer, err := Start(o, func(l *Loop) error {
		l.SetLocal(&nullPartition{l: l})
		e := &echoer{fd: pair[1]}
		id, err := l.Add(e)
		if err != nil {
			return err
		}
		return l.Watch(id, pair[1], unix.EPOLLIN, tagSock)
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &pinger{peer: peer, sock: pair[0], file: file, page: a.Bytes()[:arena.PageBytes], byte: a.Bytes()[arena.PageBytes:][:8], kinds: kinds}
	l, err := Start(o, func(l *Loop) (err error) {
		p.l = l
		if p.id, err = l.Add(p); err != nil {
			return err
		}
		return p.begin()
	})
	if err != nil {
		t.Fatal(err)
	}
	var last [3]uint64
	const ticks = 300 // of the watchdog: a token makes 750,000 rounds in these 30 s on a quiet machine
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := 1; ; n++ {
		s, err := counters(l)
		if err != nil {
			t.Fatal(err)
		}
		if s.Sleeps >= sleeps {
			t.Logf("%d sleeps, %d turns; mailbox %d, sockets %d, disk %d", s.Sleeps, s.Turns, p.count[0].Load(), p.count[1].Load(), p.count[2].Load())
			break
		}
		if <-tick.C; n%ticks != 0 {
			continue
		}
		for i, k := range []byte("msd") {
			n := p.count[i].Load()
			if n == last[i] && containsByte(kinds, k) {
				t.Fatalf("the %c token has stopped after %d rounds and %d sleeps: a wake-up was lost", k, n, s.Sleeps)
			}
			last[i] = n
		}
	}
	// Stop the tokens: what is in flight ends with the loops.
	if err := l.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := peer.Stop(); err != nil {
		t.Fatal(err)
	}
}

func containsByte(s string, b byte) bool {
	for i := range len(s) {
		if s[i] == b {
			return true
		}
	}
	return false
}

// mapKeys bounds the keys of a mapPartition.
const mapKeys = 20_000

// mapPartition keeps items in a map, in order for scans.
type mapPartition struct {
	bare
	l     *Loop
	items map[string]string
	shard int
}

func (m *mapPartition) Submit(r *kv.Request) {
	r.Status = kv.StatusOK
	switch r.Op {
	case kv.OpPut:
		m.items[string(r.Key)] = string(r.Value)
	case kv.OpGet:
		v, ok := m.items[string(r.Key)]
		if !ok {
			r.Status = kv.StatusNotFound
			break
		}
		r.Value = append(r.Value[:0], v...)
	case kv.OpScan:
		r.Value = r.Value[:0]
		r.More = false
		n := uint32(0)
		for k := range mapKeys {
			key := key(k)
			v, ok := m.items[string(key)]
			if !ok || string(key) < string(r.Key) {
				continue
			}
			if n == r.Limit {
				break
			}
			out, fits := kv.AppendItem(r.Value, key, []byte(v))
			if !fits {
				r.More = true
				break
			}
			r.Value = out
			n++
		}
	}
	m.l.Finish(r)
}

func key(i int) []byte {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(i))
	return b[:]
}

// driver submits requests to a router from its loop and signals when they come back.
type driver struct{ back chan *kv.Request }

func (d *driver) Complete(r *kv.Request) { d.back <- r }

func newMapGroup(t *testing.T, p Plan) *Group {
	g, err := NewGroup(p, func(l *Loop, shard, _ int) (Partition, error) {
		m := &mapPartition{l: l, items: map[string]string{}, shard: shard}
		_, err := l.Add(m)
		return m, err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func TestRouterFindsEveryKeyAndMergesScans(t *testing.T) {
	for name, p := range map[string]Plan{
		"colocated/1":    {NetLoops: 1},
		"colocated/3":    {NetLoops: 3},
		"dispatched/1+1": {Placement: Dispatched, NetLoops: 1, StoreLoops: 1},
		"dispatched/2+3": {Placement: Dispatched, NetLoops: 2, StoreLoops: 3},
	} {
		t.Run(name, func(t *testing.T) {
			p.Net.Sleep, p.Store.Sleep = SleepEpoll, SleepEpoll
			g := newMapGroup(t, p)
			d := &driver{back: make(chan *kv.Request, 1)}
			do := func(r *kv.Request) *kv.Request {
				r.Owner = d
				g.Net()[0].Do(func() { g.Router(0).Submit(r) })
				return <-d.back
			}
			for i := range 200 {
				if r := do(&kv.Request{Op: kv.OpPut, Key: key(i), Value: key(i * 7)}); r.Status != kv.StatusOK {
					t.Fatalf("put %d: %v", i, r.Status)
				}
			}
			for i := range 200 {
				r := do(&kv.Request{Op: kv.OpGet, Key: key(i), Value: make([]byte, 0, 16)})
				if r.Status != kv.StatusOK || string(r.Value) != string(key(i*7)) {
					t.Fatalf("get %d: %v %x", i, r.Status, r.Value)
				}
			}
			r := do(&kv.Request{Op: kv.OpScan, Key: key(50), Limit: 100, Value: make([]byte, 0, 1<<16)})
			checkRun(t, r.Value, 50, 100)
			// Room for ten items: the answer is a prefix without a gap, with More set.
			r = do(&kv.Request{Op: kv.OpScan, Key: key(0), Limit: 100, Value: make([]byte, 0, 10*(kv.ItemHeaderBytes+8))})
			if !r.More {
				t.Fatal("a scan that ran out of room did not say so")
			}
			checkRun(t, r.Value, 0, 10)
		})
	}
}

// A scan of many small items is merged in several turns, and others are answered in between.
func TestALargeMergeIsCutIntoTurns(t *testing.T) {
	const loops = 3
	g := newMapGroup(t, Plan{NetLoops: loops, Net: Options{Sleep: SleepEpoll}})
	for i, p := range g.Partitions() {
		_ = g.Net()[i].Call(func() {
			for k := range mapKeys {
				if kv.Shard(key(k), loops) == i {
					p.(*mapPartition).items[string(key(k))] = string(key(k * 7))
				}
			}
		})
	}
	d := &driver{back: make(chan *kv.Request, 1)}
	l := g.Net()[0]
	scan := &kv.Request{Op: kv.OpScan, Key: key(0), Limit: mapKeys, Value: make([]byte, 0, mapKeys*(kv.ItemHeaderBytes+8)), Owner: d}
	scans := &mergeWatch{r: scan}
	l.Do(func() {
		_, _ = l.Add(scans)
		g.Router(0).Submit(scan)
	})
	r := <-d.back
	if r.Status != kv.StatusOK || r.More {
		t.Fatalf("%v, more %v", r.Status, r.More)
	}
	checkRun(t, r.Value, 0, mapKeys)
	_ = l.Call(func() {
		if least := mapKeys * loops / mergeTurn; scans.most > mergeTurn/loops || scans.turns < least {
			t.Errorf("%d items were merged in one turn, in %d turns in all, of %d at least", scans.most, scans.turns, least)
		}
	})
}

// mergeWatch counts the items that a merge adds to a scan's answer between two turns.
type mergeWatch struct {
	bare
	r     *kv.Request
	had   int
	most  int
	turns int
}

func (w *mergeWatch) Stage() error {
	have := len(w.r.Value) / (kv.ItemHeaderBytes + 8)
	if have > w.had {
		w.turns++
		w.most = max(w.most, have-w.had)
	}
	w.had = have
	return nil
}

func checkRun(t *testing.T, b []byte, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		k, v, rest, ok := kv.NextItem(b)
		if !ok || string(k) != string(key(i)) || string(v) != string(key(i*7)) {
			t.Fatalf("item %d of the scan is %x=%x (ok=%v)", i, k, v, ok)
		}
		b = rest
	}
	if len(b) != 0 {
		t.Fatalf("%d bytes too many in the scan's answer", len(b))
	}
}

func TestDoAfterStopIsRefused(t *testing.T) {
	l, err := Start(Options{Sleep: SleepEpoll}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Call(func() {}); err != nil {
		t.Fatal(err)
	}
	if err := l.Stop(); err != nil {
		t.Fatal(err)
	}
	if l.Do(func() {}) || l.Push(&kv.Request{}) || !errors.Is(l.Call(func() {}), ErrStopped) {
		t.Fatal("a stopped loop took work")
	}
}

// sleeper is a member that needs a turn at a certain time.
type sleeper struct {
	bare
	l    *Loop
	at   int64
	when chan int64
}

func (w *sleeper) Stage() error {
	if w.at == 0 {
		return nil
	}
	if now := Nanos(); now >= w.at {
		w.at = 0
		w.when <- now
		return nil
	}
	w.l.WakeAt(w.at)
	return nil
}

func TestWakeAtEndsTheSleep(t *testing.T) {
	for _, kind := range []Sleep{SleepRing, SleepEpoll} {
		t.Run(kind.String(), func(t *testing.T) {
			if kind == SleepRing {
				testenv.Uring(t)
			}
			w := &sleeper{at: Nanos() + int64(20*time.Millisecond), when: make(chan int64, 1)}
			at := w.at
			l, err := Start(Options{Sleep: kind}, func(l *Loop) error { w.l = l; _, err := l.Add(w); return err })
			if err != nil {
				t.Fatal(err)
			}
			if got := <-w.when; got < at {
				t.Fatalf("woke %d ns early", at-got)
			}
			if err := l.Stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// chain submits its request again each time it completes.
type chain struct {
	h    kv.Handler
	r    kv.Request
	left int
	done chan struct{}
}

func (c *chain) Complete(r *kv.Request) {
	if c.left--; c.left == 0 {
		close(c.done)
		return
	}
	c.h.Submit(r)
}

// A null store completes at once and its client submits again: the stack must not grow.
func TestFinishNeverDeliversFromSubmit(t *testing.T) {
	l, err := Start(Options{Sleep: SleepEpoll}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Stop()
	c := &chain{left: 1_000_000, done: make(chan struct{})}
	c.h = &nullPartition{l: l}
	c.r.Owner = c
	l.Do(func() { c.h.Submit(&c.r) })
	<-c.done
}

func BenchmarkTurnNull(b *testing.B) {
	l, err := Start(Options{Sleep: SleepEpoll, Wait: WaitSpin}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Stop()
	b.ReportAllocs()
	c := &chain{left: b.N, done: make(chan struct{})}
	c.h = &nullPartition{l: l}
	c.r.Owner = c
	l.Do(func() { c.h.Submit(&c.r) })
	<-c.done
}
