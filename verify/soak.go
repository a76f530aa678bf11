package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/transporttest"
	"github.com/kvwire/kvwire/wire"
)

// Soak keeps servers of several networks under load at the same time, in this process, each with a store on disk. Clients come, ask, and go, in good order or with
// requests under way; strangers say what no client says, or ask and do not read; transfers of the disk are slow, and fail. At the end of each lap all of
// them stop, one server is closed and opened again on its files, and what is there is counted. Connections, their slots, buffers and memory have to be
// none then, and goroutines, descriptors and the device's objects as many as before.
type Soak struct {
	For      time.Duration
	Laps     int
	Networks []string
	Dir      string // for the stores
	Told     func(Lap)
}

// Lap is what was done since the begin, and what there is when all has stopped.
type Lap struct {
	Number      int
	Took        time.Duration
	Operations  int64 // completed, with whatever status
	Failed      int64 // of these, those that the disk failed
	Unknown     int64 // … and those that were cut off
	Connections int64
	Hangups     int64 // with requests under way
	Strangers   int64
	Reopened    int
	Slow, EIO   int64

	Left
}

// Left is what is there when nobody does anything.
type Left struct {
	Goroutines, Files int
	Objects           int // queue pairs, completion queues, regions, domains of RDMA devices
	HeapBytes         int
	ResidentBytes     int
}

// soakKeys is how many keys a store has at most, soakClients how many clients it has at a time, and soakStrangers how many strangers.
const (
	soakKeys      = 300
	soakClients   = 3
	soakStrangers = 2
)

// soakOptions bound a server, so that what stays behind is soon missed.
var soakOptions = transport.ServerOptions{Depth: 16, MaxConns: 24, PoolBytes: 16 << 20, ConnBytes: 16 << 20, StallMax: 2 * time.Second}

// Run soaks for as long as it says, or until ctx is done. An error is what was wrong, or left over.
func (k Soak) Run(ctx context.Context) (last Lap, err error) {
	s := &soaking{Soak: k}
	defer func() { err = errors.Join(err, s.close()) }()
	// What everything has that is made once is there after a first round.
	if err := s.open(); err != nil {
		return last, err
	}
	if err := s.load(ctx, time.Now().Add(200*time.Millisecond)); err != nil {
		return last, err
	}
	if err := s.close(); err != nil {
		return last, err
	}
	none, err := s.left()
	if err != nil {
		return last, err
	}
	if err := s.open(); err != nil {
		return last, err
	}
	began := time.Now()
	var first Left
	for i := range k.Laps {
		if err := s.load(ctx, began.Add(k.For*time.Duration(i+1)/time.Duration(k.Laps))); err != nil {
			return last, err
		}
		t := s.tanks[i%len(s.tanks)]
		if err := errors.Join(t.close(), t.open()); err != nil {
			return last, err
		}
		s.lap.Reopened++
		now, err := s.settled(first)
		s.lap.Number, s.lap.Took, s.lap.Left = i+1, time.Since(began), now
		last = s.told()
		if err != nil {
			return last, err
		}
		if i == 0 {
			first = now
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := s.close(); err != nil {
		return last, err
	}
	_, err = s.settled(none)
	return last, err
}

type soaking struct {
	Soak
	tanks []*tank
	lap   Lap
	count struct{ operations, failed, unknown, connections, hangups, strangers atomic.Int64 }
}

// told gives the lap with the counts of now, and tells it.
func (s *soaking) told() Lap {
	l, c := &s.lap, &s.count
	l.Operations, l.Failed, l.Unknown = c.operations.Load(), c.failed.Load(), c.unknown.Load()
	l.Connections, l.Hangups, l.Strangers = c.connections.Load(), c.hangups.Load(), c.strangers.Load()
	l.Slow, l.EIO = 0, 0
	for _, t := range s.tanks {
		n := t.disk.counts()
		l.Slow += n.Slow
		l.EIO += n.EIO
	}
	s.Told(*l)
	return *l
}

func (s *soaking) open() error {
	if s.tanks == nil {
		for i, name := range s.Networks {
			t := &tank{s: s, n: find(name), serving: serving{Placement: loop.Placement(i % 2), Backend: store.Disk,
				Update: []string{store.UpdateCOW, store.UpdateInPlace}[i/2%2], Dir: filepath.Join(s.Dir, name)}}
			t.disk.set(faults{SlowOneIn: 50, EIOOneIn: 200})
			s.tanks = append(s.tanks, t)
		}
	}
	for _, t := range s.tanks {
		if err := t.open(); err != nil {
			return err
		}
	}
	return nil
}

func (s *soaking) close() (err error) {
	for _, t := range s.tanks {
		err = errors.Join(err, t.close())
	}
	return err
}

// load has all clients and strangers do what they do until then.
func (s *soaking) load(ctx context.Context, until time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var all sync.WaitGroup
	errs := make(chan error, len(s.tanks)*(soakClients+soakStrangers))
	for _, t := range s.tanks {
		for range soakClients {
			all.Go(func() {
				if err := t.client(ctx); err != nil {
					errs <- fmt.Errorf("soak %s: %w", t.n.name, err)
					cancel()
				}
			})
		}
		for range soakStrangers {
			if !t.n.local {
				all.Go(func() { t.stranger(ctx) })
			}
		}
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// settled waits until servers hold nothing and there are no more goroutines, files and objects than before; the zero Left: however many.
func (s *soaking) settled(before Left) (now Left, err error) {
	end := time.Now().Add(transporttest.WaitMax)
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for ; ; <-pause.C {
		var held []string
		for _, t := range s.tanks {
			if h, err := t.holds(); err != nil {
				return now, err
			} else if h != "" {
				held = append(held, t.n.name+": "+h)
			}
		}
		if len(held) == 0 {
			if now, err = s.left(); err != nil {
				return now, err
			}
			if before == (Left{}) || now.Goroutines <= before.Goroutines && now.Files <= before.Files && now.Objects <= before.Objects {
				return now, nil
			}
			held = []string{fmt.Sprintf("%d goroutines, %d files, %d objects of RDMA, and %d, %d, %d before", now.Goroutines, now.Files, now.Objects,
				before.Goroutines, before.Files, before.Objects)}
		}
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			return now, fmt.Errorf("left over after %v: %s\n%s", transporttest.WaitMax, strings.Join(held, "; "), stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// left counts what there is.
func (s *soaking) left() (l Left, err error) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	l.Goroutines, l.HeapBytes = runtime.NumGoroutine(), int(m.HeapAlloc)
	if l.Files, err = testenv.OpenFiles(); err != nil {
		return l, err
	}
	if l.ResidentBytes, err = testenv.Resident(os.Getpid()); err != nil {
		return l, err
	}
	for _, t := range s.tanks {
		if t.n.feature == "rdma" {
			kinds, err := testenv.RDMAObjects()
			for _, n := range kinds {
				l.Objects += n
			}
			return l, err
		}
	}
	return l, nil
}

// tank is a network's server and its clients.
type tank struct {
	s       *soaking
	n       *network
	serving serving
	disk    faultyDisk
	server  *server.Server // nil: closed
	loops   []*loop.Loop   // the clients'
}

func (t *tank) open() (err error) {
	if t.server, err = t.n.serve(t.serving, &t.disk, soakOptions); err != nil {
		return fmt.Errorf("soak %s: %w", t.n.name, err)
	}
	if t.n.local {
		t.loops = t.server.Group().Net()
		return nil
	}
	l, err := loop.Start(loop.Options{Name: "soak", Sleep: t.n.impl.Sleep()}, nil)
	t.loops = []*loop.Loop{l}
	return err
}

func (t *tank) close() (err error) {
	if t.server == nil {
		return nil
	}
	if !t.n.local && t.loops[0] != nil {
		err = t.loops[0].Stop()
	}
	err = errors.Join(err, t.server.Close())
	t.server = nil
	return err
}

// holds is what the server has for connections; "": nothing.
func (t *tank) holds() (string, error) {
	if t.server == nil {
		return "", nil
	}
	all, err := t.server.ConnStats()
	if err != nil {
		return "", fmt.Errorf("soak %s: %w", t.n.name, err)
	}
	for i, s := range all {
		if s.Conns+s.ConnBytes+s.PoolBytes > 0 {
			return fmt.Sprintf("loop %d has %d connections, %d B for them, and %d B for what is under way", i, s.Conns, s.ConnBytes, s.PoolBytes), nil
		}
	}
	return "", nil
}

// guest is a client's connection.
type guest struct {
	back chan *kv.Request
}

// Complete is kv.Completer's.
func (g *guest) Complete(r *kv.Request) { g.back <- r }

// client connects, asks in batches, and leaves, again and again.
func (t *tank) client(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
	for ctx.Err() == nil {
		l := t.loops[rand.IntN(len(t.loops))]
		depth := 1 + rand.IntN(soakOptions.Depth)
		dial, cancel := context.WithTimeout(context.Background(), transporttest.WaitMax)
		conn, err := t.n.impl.Dial(dial, l, t.server.Addr(), transport.DialOptions{Depth: depth, Loop: transport.AnyLoop, Redis: t.n.redis, DialMax: transporttest.WaitMax})
		cancel()
		var refusal *transport.Refusal
		if errors.As(err, &refusal) && refusal.Code == wire.RefusedBusy {
			continue // strangers have all places, or memory
		}
		if err != nil {
			return err
		}
		t.s.count.connections.Add(1)
		g := &guest{make(chan *kv.Request, 4*depth)}
		for range 1 + rand.IntN(8) {
			batch := make([]*kv.Request, 1+rand.IntN(2*depth))
			for i := range batch {
				batch[i] = t.request(rng)
				batch[i].Owner = g
			}
			if !l.Do(func() {
				for _, r := range batch {
					conn.Submit(r)
				}
			}) {
				return loop.ErrStopped
			}
			hangup := rand.IntN(6) == 0
			if hangup {
				t.s.count.hangups.Add(1)
				conn.Hangup()
			}
			for range batch {
				select {
				case r := <-g.back:
					hangup = hangup || t.n.redis && (r.Status == kv.StatusUnknown || r.Status == kv.StatusClosed) // what a Redis says of a disk that fails is no answer
					if err := t.check(r, hangup); err != nil {
						var why error
						_ = l.Call(func() { why = conn.Err() })
						return fmt.Errorf("%w (the connection: %v)", err, why)
					}
				case <-time.After(transporttest.WaitMax):
					return fmt.Errorf("a request did not complete within %v", transporttest.WaitMax)
				}
			}
			if hangup {
				break
			}
		}
		conn.Hangup()
	}
	return nil
}

var soakNumbers atomic.Int64

// request is any: its keys are every client's.
func (t *tank) request(rng *rand.Rand) *kv.Request {
	r := &kv.Request{Key: fmt.Appendf(nil, "key%04d", rng.IntN(soakKeys))}
	switch d := rng.IntN(100); {
	case d < 50:
		r.Op, r.Value = kv.OpGet, make([]byte, 0, valueBytesMax)
	case d < 85:
		r.Op, r.Value = kv.OpPut, appendPiece(nil, idOf(1, 1, int(soakNumbers.Add(1))), valueBytes(rng))
	case d < 95 || t.n.redis:
		r.Op = kv.OpDelete
	default:
		r.Op, r.Limit, r.Value = kv.OpScan, uint32(1+rng.IntN(20)), make([]byte, 0, 64<<10)
	}
	return r
}

// check counts what has completed, and looks at values.
func (t *tank) check(r *kv.Request, hungUp bool) error {
	c := &t.s.count
	c.operations.Add(1)
	switch r.Status {
	case kv.StatusOK:
	case kv.StatusNotFound, kv.StatusTooSmall, kv.StatusBusy:
		return nil
	case kv.StatusIOError:
		c.failed.Add(1)
		return nil
	case kv.StatusUnknown, kv.StatusClosed:
		c.unknown.Add(1)
		if hungUp {
			return nil
		}
		fallthrough
	default:
		return fmt.Errorf("%v %s: %v", r.Op, r.Key, r.Status)
	}
	torn := func(key, value []byte) error {
		if s := stateOf(string(key), value); strings.HasPrefix(s, "torn") {
			return fmt.Errorf("%v %s: %s", r.Op, key, s)
		}
		return nil
	}
	switch r.Op {
	case kv.OpGet:
		return torn(r.Key, r.Value)
	case kv.OpScan:
		for k, v, rest, ok := kv.NextItem(r.Value); ok; k, v, rest, ok = kv.NextItem(rest) {
			if err := torn(k, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// stranger connects by TCP, says something, perhaps stays for a moment, and leaves, perhaps by a reset.
func (t *tank) stranger(ctx context.Context) {
	for ctx.Err() == nil {
		nc, err := net.DialTimeout("tcp", t.server.Addr(), transporttest.WaitMax)
		if err != nil {
			return // the process has no more ports or files: that is seen by others
		}
		t.s.count.strangers.Add(1)
		_ = nc.SetDeadline(time.Now().Add(time.Second))
		hello := (&wire.ClientHello{Version: wire.Version, Depth: 8, Loop: wire.AnyLoop}).Append(nil)
		b := make([]byte, 1+rand.IntN(400))
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		switch rand.IntN(4) {
		case 0: // nothing
		case 1:
			_, _ = nc.Write(b)
		case 2:
			_, _ = nc.Write(hello[:rand.IntN(len(hello))])
		default:
			_, _ = nc.Write(hello)
			if _, err := transporttest.ReadHello(nc); err == nil && rand.IntN(2) == 0 {
				b = nil
				for id := range uint64(8) { // gets that it does not read
					key := fmt.Sprintf("key%04d", rand.IntN(soakKeys))
					h := make([]byte, wire.HeaderBytes)
					(&wire.Header{Op: kv.OpGet, ID: id, KeyBytes: uint16(len(key)), ValueBytes: valueBytesMax}).Encode(h)
					b = append(append(b, h...), key...)
				}
			}
			_, _ = nc.Write(b)
		}
		if rand.IntN(4) == 0 {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(rand.IntN(100)) * time.Millisecond): // nobody waits for it: it is what a stranger does
			}
		}
		if rand.IntN(2) == 0 {
			_ = nc.(*net.TCPConn).SetLinger(0)
		}
		_ = nc.Close()
	}
}
