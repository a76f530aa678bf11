//go:build rdma && cgo && linux

package verbs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/cgo/verbs/model"
	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/testenv"
	"golang.org/x/sys/unix"
)

// patience is for machines under emulation, with other work besides.
const patience = 30 * time.Second

// linkEnv is the variable with a link, for which a process uses the model even where there is a device.
const linkEnv = "KVWIRE_TEST_LINK"

// TestMain uses the model where the kernel has no device, and need not have one.
func TestMain(m *testing.M) {
	text := os.Getenv(linkEnv)
	if text != "" || !testenv.Required("rdma") && probe.RDMA(probe.Local()).State != probe.Available {
		link, err := model.Default, error(nil)
		if text != "" {
			link, err = model.Parse(text)
		}
		if err == nil {
			err = UseModel(link)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func open(t testing.TB) *Device {
	t.Helper()
	names, err := Names()
	if err == nil && len(names) == 0 {
		err = Unavailable()
	}
	testenv.Need(t, "rdma", err)
	d, err := Open(names[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// end is a queue pair with all that it needs. One goroutine uses it.
type end struct {
	t     testing.TB
	dev   *Device
	cq    *CQ
	qp    *QP
	batch *Batch
	mem   []byte
	key   *Region
	calls uint64
}

const queueLen = 16

func newEnd(t testing.TB, d *Device, through Access) *end {
	t.Helper()
	return newEndOf(t, d, through, 64<<10, queueLen)
}

// newEndOf makes an end whose memory the peer of its queue pair may write, with queues for so many work requests.
func newEndOf(t testing.TB, d *Device, through Access, memBytes, queueLen int) *end {
	t.Helper()
	e := &end{t: t, dev: d}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	e.cq, err = d.NewCQ(64, 0, &e.calls)
	check(err)
	t.Cleanup(func() { e.must(e.cq.Close()) })
	e.batch, err = NewBatch(&e.calls)
	check(err)
	t.Cleanup(func() { e.must(e.batch.Close()) })
	mem, err := arena.NewShared(memBytes)
	check(err)
	t.Cleanup(func() { e.must(mem.Close()) })
	e.mem = mem.Bytes()
	e.key, err = d.Register(e.mem, RemoteWrite)
	check(err)
	t.Cleanup(func() {
		if e.key != nil {
			e.must(e.key.Close())
		}
	})
	e.qp, err = d.NewQP(e.cq, QPOptions{Access: through, SendWRs: queueLen, RecvWRs: queueLen, Port: 1})
	check(err)
	t.Cleanup(func() { e.must(e.qp.Close()) })
	return e
}

func (e *end) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Error(err)
	}
}

// pair is two ends that are connected to each other, for all that the memory allows.
func pair(t testing.TB) (a, b *end) {
	t.Helper()
	return pairThrough(t, RemoteRead|RemoteWrite)
}

func pairThrough(t testing.TB, through Access) (a, b *end) {
	t.Helper()
	d := open(t)
	a, b = newEnd(t, d, through), newEnd(t, d, through)
	connect(t, a, b)
	return a, b
}

func connect(t testing.TB, a, b *end) {
	t.Helper()
	connectTo(t, a, b.qp.Num)
	connectTo(t, b, a.qp.Num)
}

func connectTo(t testing.TB, a *end, peer uint32) {
	t.Helper()
	connectWith(t, a, peer, 4, 4)
}

// connectWith connects an end on port 1, by its first IPv4 GID, for so many READs in flight: its own ones, and the peer's.
func connectWith(t testing.TB, a *end, peer uint32, initiates, responds int) {
	t.Helper()
	port, err := a.dev.Port(1)
	if err != nil {
		t.Fatal(err)
	}
	gid, index := [16]byte{}, -1
	for i := range port.GIDs {
		g, err := a.dev.GID(1, i)
		if err == nil && bytes.Equal(g[:12], []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF}) {
			gid, index = g, i
			break
		}
	}
	if index < 0 {
		t.Skip("port 1 has no IPv4 GID")
	}
	if err := a.qp.Connect(Peer{QP: peer, PSN: 7, MyPSN: 7, GID: gid, GIDIndex: index, MTU: port.MTU, Initiates: initiates, Responds: responds, Port: 1}); err != nil {
		t.Fatal(err)
	}
}

func (e *end) recv(n int) {
	e.t.Helper()
	e.must(e.batch.Recv(e.qp, nil, 1, e.mem[:n], e.key.LKey))
	e.must(e.batch.PostRecvs())
}

// op puts a work request of n bytes into the batch.
func (e *end) op(kind uint32, n int) *Op {
	o := e.batch.Next(e.qp)
	o.WR, o.Kind, o.Flags, o.Remote, o.RKey, o.Imm, o.SGEs = 2, kind, Signaled, 0, 0, 77, 1
	o.SGE[0] = Piece(e.mem[:n], e.key.LKey)
	return o
}

func (e *end) post() {
	e.t.Helper()
	_, _, err := e.batch.Post(BatchMax)
	e.must(err)
}

// next waits for a completion.
func (e *end) next() Completion {
	e.t.Helper()
	for until := time.Now().Add(patience); time.Now().Before(until); {
		cs, err := e.cq.Spin(1000)
		if err != nil {
			e.t.Fatal(err)
		}
		if len(cs) > 1 {
			e.t.Fatalf("%d completions, one is expected", len(cs))
		}
		if len(cs) == 1 {
			return cs[0]
		}
	}
	e.t.Fatal("no completion")
	return Completion{}
}

func TestMessagesArriveWithTheirImmediateData(t *testing.T) {
	a, b := pair(t)
	for _, kind := range []uint32{OpSend, OpWrite} {
		b.recv(4096)
		clear(b.mem)
		copy(a.mem, "what is said")
		o := a.op(kind, 12)
		o.Remote, o.RKey = Address(b.mem), b.key.RKey
		a.post()
		if c := b.next(); c.Status != 0 || c.Recv == 0 || c.Imm != 77 || c.Bytes != 12 || c.QP != b.qp.Num || string(b.mem[:13]) != "what is said\x00" {
			t.Errorf("kind %d: %+v, %q", kind, c, b.mem[:13])
		}
		if c := a.next(); c.Status != 0 || c.WR != 2 {
			t.Errorf("kind %d: sent: %+v", kind, c)
		}
	}
}

// TestKeysThatDoNotFitAreRefused reads and writes memory to which the peer has granted no access.
func TestKeysThatDoNotFitAreRefused(t *testing.T) {
	for name, change := range map[string]func(o *Op, b *end){
		"wrong key":        func(o *Op, _ *end) { o.RKey ^= 0xFF00 },
		"no key":           func(o *Op, _ *end) { o.RKey = 0 },
		"local key":        func(o *Op, b *end) { o.RKey = b.key.LKey ^ 1 },
		"behind the end":   func(o *Op, b *end) { o.Remote += uint64(len(b.mem)) },
		"across the end":   func(o *Op, b *end) { o.Remote += uint64(len(b.mem)) - 8 },
		"before the start": func(o *Op, _ *end) { o.Remote-- },
		"end of addresses": func(o *Op, _ *end) { o.Remote = ^uint64(0) - 7 },
		"stale key": func(_ *Op, b *end) {
			b.must(b.key.Close())
			b.key = nil
		},
	} {
		for kind, what := range map[uint32]string{OpRead: "read", OpWrite: "write"} {
			t.Run(what+", "+name, func(t *testing.T) {
				a, b := pair(t)
				b.recv(4096)
				for i := range b.mem {
					b.mem[i] = 'b'
				}
				o := a.op(kind, 64)
				o.Remote, o.RKey = Address(b.mem), b.key.RKey
				change(o, b)
				a.post()
				if c := a.next(); StatusText(c.Status) != "remote access error" {
					t.Errorf("%s (%d)", StatusText(c.Status), c.Status)
				}
				if n := bytes.Count(b.mem, []byte{'b'}); n != len(b.mem) {
					t.Errorf("%d B were changed", len(b.mem)-n)
				}
			})
		}
	}
}

// A key that was guessed, or is of another connection, allows no more than the queue pair's access rights.
func TestAKeyIsGoodForWhatItsQueuePairOffersOnly(t *testing.T) {
	for through, name := range map[Access]string{Local: "nothing", RemoteRead: "reads", RemoteWrite: "writes"} {
		for kind, needs := range map[uint32]Access{OpRead: RemoteRead, OpWrite: RemoteWrite} {
			t.Run(fmt.Sprintf("%s, asked for %d", name, kind), func(t *testing.T) {
				a, b := pairThrough(t, through)
				key := b.key
				if kind == OpRead {
					ro, err := b.dev.Register(b.mem, RemoteRead)
					if err != nil {
						t.Fatal(err)
					}
					defer func() { b.must(ro.Close()) }()
					key = ro
				}
				b.recv(4096)
				copy(a.mem, "what was here")
				copy(b.mem, "what was there")
				o := a.op(kind, 8)
				o.Remote, o.RKey = Address(b.mem), key.RKey
				a.post()
				c := a.next()
				if ok := through&needs != 0; (c.Status == 0) != ok || !ok && (string(a.mem[:13]) != "what was here" || string(b.mem[:14]) != "what was there") {
					t.Errorf("%s (%d), %q here, %q there", StatusText(c.Status), c.Status, a.mem[:13], b.mem[:14])
				}
			})
		}
	}
}

func TestRegionsForReadingCannotBeWritten(t *testing.T) {
	a, b := pair(t)
	ro, err := b.dev.Register(b.mem, RemoteRead)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { b.must(ro.Close()) }()
	copy(b.mem, "for all to read")
	o := a.op(OpRead, 15)
	o.Remote, o.RKey = Address(b.mem), ro.RKey
	a.post()
	if c := a.next(); c.Status != 0 || string(a.mem[:15]) != "for all to read" {
		t.Fatalf("%+v, %q", c, a.mem[:15])
	}
	b.recv(0)
	copy(a.mem, "and for none to write")
	o = a.op(OpWrite, 15)
	o.Remote, o.RKey = Address(b.mem), ro.RKey
	a.post()
	if c := a.next(); StatusText(c.Status) != "remote access error" || string(b.mem[:15]) != "for all to read" {
		t.Errorf("%s, %q", StatusText(c.Status), b.mem[:15])
	}
}

// thirds are two more, connected to each other, in the protection domain that the pair's ends share.
func thirds(t *testing.T, a *end) (c, d *end) {
	t.Helper()
	c, d = newEnd(t, a.dev, RemoteRead|RemoteWrite), newEnd(t, a.dev, RemoteRead|RemoteWrite)
	connect(t, c, d)
	return c, d
}

// window binds a window to the first bytes of b's memory, and closes it before the queue pair.
func window(t *testing.T, b *end, access Access, bytes int) (w *MemoryWindow, r *Region, bound Completion) {
	t.Helper()
	if !b.dev.Limits.MemoryWindows {
		t.Skipf("%s has no memory windows of type 2B", b.dev.Name)
	}
	var err error
	if r, err = b.dev.Register(b.mem[:bytes], access); err != nil {
		t.Fatal(err)
	}
	w, err = b.dev.NewMemoryWindow()
	if err == nil {
		err = w.Bind(b.qp, r, b.mem[:bytes], 5)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.must(errors.Join(w.Close(), r.Close())) })
	return w, r, b.next()
}

// A window's key is good through its own queue pair, in its own memory, for writing, and until it is closed.
func TestAWindowsKeyIsGoodThroughItsQueuePairAlone(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   uint32
		change func(o *Op, r *Region)
		other  bool // through another queue pair of the same protection domain
		ok     bool
	}{
		{"its own", OpWrite, nil, false, true},
		{"another queue pair's", OpWrite, nil, true, false},
		{"to read", OpRead, nil, false, false},
		{"with the key of its memory", OpWrite, func(o *Op, r *Region) { o.RKey = r.LKey }, false, false},
		{"behind its end", OpWrite, func(o *Op, _ *Region) { o.Remote += 4096 }, false, false},
		{"across its end", OpWrite, func(o *Op, _ *Region) { o.Remote += 4096 - 8 }, false, false},
		{"before its start", OpWrite, func(o *Op, _ *Region) { o.Remote-- }, false, false},
		{"with the key that it had before", OpWrite, func(o *Op, _ *Region) { o.RKey = o.RKey&^0xFF | (o.RKey-1)&0xFF }, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t)
			w, r, bound := window(t, b, Bindable, 4096)
			if bound.Status != 0 || bound.WR != 5 {
				t.Fatalf("%s: %+v", StatusText(bound.Status), bound)
			}
			from := a
			if c.other {
				var to *end
				from, to = thirds(t, a)
				to.recv(4096)
			}
			b.recv(0)
			copy(b.mem, "what was there")
			copy(from.mem, "WHAT WAS HERE")
			o := from.op(c.kind, 13)
			o.Remote, o.RKey = Address(b.mem), w.RKey
			if c.change != nil {
				c.change(o, r)
			}
			from.post()
			got := from.next()
			want := "what was there"
			if c.ok {
				want = "WHAT WAS HEREe"
			}
			if (got.Status == 0) != c.ok || !c.ok && StatusText(got.Status) != "remote access error" || string(b.mem[:14]) != want {
				t.Errorf("%s (%d), %q there", StatusText(got.Status), got.Status, b.mem[:14])
			}
		})
	}
}

func TestAClosedWindowsKeyOpensNothing(t *testing.T) {
	a, b := pair(t)
	r, err := b.dev.Register(b.mem, Bindable)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { b.must(r.Close()) }()
	write := func(key uint32, said string) Completion {
		b.recv(0)
		copy(a.mem, said)
		o := a.op(OpWrite, 4)
		o.Remote, o.RKey = Address(b.mem), key
		a.post()
		return a.next()
	}
	opened := func() *MemoryWindow {
		if !b.dev.Limits.MemoryWindows {
			t.Skipf("%s has no memory windows of type 2B", b.dev.Name)
		}
		w, err := b.dev.NewMemoryWindow()
		if err == nil {
			err = w.Bind(b.qp, r, b.mem, 5)
		}
		if err != nil {
			t.Fatal(err)
		}
		if c := b.next(); c.Status != 0 {
			t.Fatal(StatusText(c.Status))
		}
		return w
	}
	w := opened()
	if c, came := write(w.RKey, "soon"), b.next(); c.Status != 0 || came.Status != 0 || string(b.mem[:4]) != "soon" {
		t.Fatal(StatusText(c.Status), StatusText(came.Status))
	}
	b.must(w.Close())
	again := opened() // of the same memory; it may have the number that the other had, and not its key
	defer func() { b.must(again.Close()) }()
	if c := write(w.RKey, "late"); StatusText(c.Status) != "remote access error" || string(b.mem[:4]) != "soon" {
		t.Errorf("%s, %q", StatusText(c.Status), b.mem[:4])
	}
}

func TestWindowsAreBoundToMemoryThatIsForThem(t *testing.T) {
	_, b := pair(t)
	if _, _, bound := window(t, b, Local, 4096); StatusText(bound.Status) != "memory management operation error" {
		t.Errorf("%s (%d)", StatusText(bound.Status), bound.Status)
	}
}

func TestMessagesBeyondTheReceiveAreRefused(t *testing.T) {
	a, b := pair(t)
	b.recv(100)
	clear(b.mem)
	for i := range 101 {
		a.mem[i] = 'a'
	}
	a.op(OpSend, 101)
	a.post()
	if c := b.next(); c.Status == 0 {
		t.Errorf("it came: %+v", c)
	}
	if c := a.next(); c.Status == 0 { // a remote invalid request error; of rxe a remote operation error
		t.Errorf("it was sent: %+v", c)
	}
	if b.mem[100] != 0 {
		t.Error("memory behind the receive was written")
	}
}

func TestMessagesWithoutAReceiveFailAfterAWhile(t *testing.T) {
	a, _ := pair(t)
	a.op(OpSend, 10)
	a.post()
	if c := a.next(); StatusText(c.Status) != "RNR retry counter exceeded" {
		t.Errorf("%s (%d)", StatusText(c.Status), c.Status)
	}
}

// TestAFullSendQueueRefusesOnlyWhatIsTooMuch posts more than fits, in one batch.
func TestAFullSendQueueRefusesOnlyWhatIsTooMuch(t *testing.T) {
	a, b := pair(t)
	for range queueLen {
		b.recv(10)
	}
	const many = 100 // the device may have made the queue longer than it was asked to
	for range many {
		a.op(OpSend, 10).Flags = 0
	}
	refused, posted := 0, 0
	for a.batch.Len() > 0 {
		_, n, err := a.batch.Post(BatchMax)
		posted += n
		if err == nil {
			continue
		}
		if refused++; !errors.Is(err, syscall.ENOMEM) || !strings.Contains(err.Error(), "send queue is full") {
			t.Fatal(err)
		}
	}
	if posted < queueLen || refused == 0 || posted+refused != many {
		t.Fatalf("of %d: %d posted, %d refused", many, posted, refused)
	}
	came := 0
	for until := time.Now().Add(patience); came < queueLen; {
		cs, err := b.cq.Poll()
		if err != nil || time.Now().After(until) {
			t.Fatalf("%d messages came: %v", came, err)
		}
		for _, c := range cs {
			if came++; c.Status != 0 || c.Bytes != 10 {
				t.Fatalf("message %d: %+v", came, c)
			}
		}
	}
}

// TestArmLosesNoCompletion sends at moments around the one at which the receiver stops polling and asks for an
// event: a completion between the two causes no event.
func TestArmLosesNoCompletion(t *testing.T) {
	a, b := pair(t)
	n := 20_000
	if os.Getenv("KVWIRE_ACCEL") == "tcg" {
		n = 2000
	}
	var asked, stop atomic.Int64
	ended := make(chan struct{})
	go func() { // all of a is this goroutine's
		defer close(ended)
		for sent := int64(0); sent < int64(n); {
			if stop.Load() != 0 {
				return
			}
			if asked.Load() == sent {
				continue
			}
			for range rand.IntN(2000) { // about as long as a poll and Arm take
				_ = asked.Load()
			}
			a.op(OpSend, 8)
			a.post()
			for cs, err := a.cq.Poll(); len(cs) == 0; cs, err = a.cq.Poll() {
				if err != nil || stop.Load() != 0 {
					return
				}
			}
			sent++
		}
	}()
	defer func() { stop.Store(1); <-ended }()
	slept, caught := 0, 0
	for i := range n {
		b.recv(8)
		asked.Store(int64(i + 1))
		cs, err := b.cq.Poll()
		for err == nil && len(cs) == 0 {
			if cs, err = b.cq.Arm(); err != nil {
				break
			}
			if len(cs) > 0 {
				caught++
				break
			}
			slept++
			fds := []unix.PollFd{{Fd: int32(b.cq.Fd), Events: unix.POLLIN}}
			k, e := unix.Poll(fds, int(patience.Milliseconds()))
			if errors.Is(e, unix.EINTR) {
				continue
			}
			if k == 0 || e != nil {
				t.Fatalf("message %d: no event for %v (%v)", i, patience, e)
			}
			b.cq.Event()
			cs, err = b.cq.Poll()
		}
		if err != nil || len(cs) != 1 || cs[0].Status != 0 {
			t.Fatalf("message %d: %v, %v", i, cs, err)
		}
	}
	t.Logf("%d messages: %d times asleep, %d times one came before Arm", n, slept, caught)
}

func TestConnectsAndClosesLeaveNothing(t *testing.T) {
	d := open(t)
	for i := range 100 {
		var calls uint64
		cq, err := d.NewCQ(16, i, &calls)
		if err != nil {
			t.Fatal(err)
		}
		qp, err := d.NewQP(cq, QPOptions{SendWRs: 4, RecvWRs: 4, Inline: 64, Port: 1})
		if err != nil {
			t.Fatal(err)
		}
		if d.Limits.MemoryWindows {
			w, err := d.NewMemoryWindow()
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(qp.Close(), cq.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkRegister is what a connection's memory costs.
func BenchmarkRegister(b *testing.B) {
	d := open(b)
	a, err := arena.NewShared(16 << 20)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	b.SetBytes(16 << 20)
	for b.Loop() {
		r, err := d.Register(a.Bytes(), Local)
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
