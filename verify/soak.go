package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/datagram"
	"github.com/kvwire/kvwire/transport/transporttest"
	"github.com/kvwire/kvwire/wire"
)

// Soak keeps servers of several networks under load at the same time, in this process, each with a store on disk. Clients connect, send requests and leave, in good
// order or with requests in flight. Hostile peers send garbage, or requests without reading the answers. Transfers of the disk are slow, and fail. At the end of each
// lap all of them stop, one server is closed and opened again on its files, and resources are counted. There must be no connections, slots, buffers and
// memory of connections then, and no more goroutines, descriptors and device objects than before.
type Soak struct {
	For      time.Duration
	Laps     int
	Networks []string
	Dir      string // for the stores
	Report   func(Lap)
}

// Lap has the counts since the start, and the resources in use when all has stopped.
type Lap struct {
	Number       int
	Took         time.Duration
	Operations   int64 // completed, with whatever status
	Failed       int64 // of these, those with an error of the disk
	Unknown      int64 // of these, those that lost their connection
	Connections  int64
	Hangups      int64 // connections that were closed with requests in flight
	HostilePeers int64
	Reopened     int
	Slow, EIO    int64

	Resources
}

// Resources are the resources in use without load.
type Resources struct {
	Goroutines, Files int
	Objects           int // queue pairs, completion queues, regions, domains of RDMA devices
	HeapBytes         int
	ResidentBytes     int
}

// soakKeys is the largest number of keys of a store. soakClients and soakHostilePeers are the numbers of clients and of hostile peers of a server at a time.
const (
	soakKeys         = 300
	soakClients      = 3
	soakHostilePeers = 2
)

// soakOptions have low bounds, so that a leak exhausts them soon.
var soakOptions = transport.ServerOptions{Depth: 16, MaxConns: 24, PoolBytes: 16 << 20, ConnBytes: 16 << 20, StallMax: 2 * time.Second}

// Run runs for the time For, or until ctx ends. An error is a wrong answer or a leak.
func (k Soak) Run(ctx context.Context) (last Lap, err error) {
	s := &soaking{Soak: k}
	defer func() { err = errors.Join(err, s.close()) }()
	// A first round allocates what is allocated only once.
	if err := s.open(); err != nil {
		return last, err
	}
	if err := s.load(ctx, time.Now().Add(200*time.Millisecond)); err != nil {
		return last, err
	}
	if err := s.close(); err != nil {
		return last, err
	}
	none, err := s.resources()
	if err != nil {
		return last, err
	}
	if err := s.open(); err != nil {
		return last, err
	}
	began := time.Now()
	var first Resources
	for i := range k.Laps {
		if err := s.load(ctx, began.Add(k.For*time.Duration(i+1)/time.Duration(k.Laps))); err != nil {
			return last, err
		}
		t := s.servers[i%len(s.servers)]
		if err := errors.Join(t.close(), t.open()); err != nil {
			return last, err
		}
		s.lap.Reopened++
		now, err := s.awaitIdle(first)
		s.lap.Number, s.lap.Took, s.lap.Resources = i+1, time.Since(began), now
		last = s.report()
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
	_, err = s.awaitIdle(none)
	return last, err
}

type soaking struct {
	Soak
	servers []*soakServer
	lap     Lap
	count   struct{ operations, failed, unknown, connections, hangups, hostilePeers atomic.Int64 }
}

// report fills in the counts of the lap, reports it and returns it.
func (s *soaking) report() Lap {
	l, c := &s.lap, &s.count
	l.Operations, l.Failed, l.Unknown = c.operations.Load(), c.failed.Load(), c.unknown.Load()
	l.Connections, l.Hangups, l.HostilePeers = c.connections.Load(), c.hangups.Load(), c.hostilePeers.Load()
	l.Slow, l.EIO = 0, 0
	for _, t := range s.servers {
		n := t.disk.counts()
		l.Slow += n.Slow
		l.EIO += n.EIO
	}
	s.Report(*l)
	return *l
}

func (s *soaking) open() error {
	if s.servers == nil {
		for i, name := range s.Networks {
			t := &soakServer{s: s, n: find(name), config: serverConfig{Placement: loop.Placement(i % 2), Backend: store.Disk,
				Update: []string{store.UpdateCOW, store.UpdateInPlace}[i/2%2], Dir: filepath.Join(s.Dir, name)}}
			t.disk.set(faults{SlowOneIn: 50, EIOOneIn: 200})
			s.servers = append(s.servers, t)
		}
	}
	for _, t := range s.servers {
		if err := t.open(); err != nil {
			return err
		}
	}
	return nil
}

func (s *soaking) close() (err error) {
	for _, t := range s.servers {
		err = errors.Join(err, t.close())
	}
	return err
}

// load runs all clients and hostile peers until that time.
func (s *soaking) load(ctx context.Context, until time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var all sync.WaitGroup
	errs := make(chan error, len(s.servers)*(soakClients+soakHostilePeers))
	for _, t := range s.servers {
		for range soakClients {
			all.Go(func() {
				if err := t.client(ctx); err != nil {
					errs <- fmt.Errorf("soak %s: %w", t.n.name, err)
					cancel()
				}
			})
		}
		for range soakHostilePeers {
			switch {
			case t.n.local:
			case t.n.udp:
				all.Go(func() { t.hostileDatagrams(ctx) })
			default:
				all.Go(func() { t.hostilePeer(ctx) })
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

// awaitIdle waits until servers hold no memory for connections, and there are no more goroutines, files and objects than before. With a zero before their numbers do not matter.
func (s *soaking) awaitIdle(before Resources) (now Resources, err error) {
	end := time.Now().Add(transporttest.WaitMax)
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for ; ; <-pause.C {
		var held []string
		for _, t := range s.servers {
			if h, err := t.held(); err != nil {
				return now, err
			} else if h != "" {
				held = append(held, t.n.name+": "+h)
			}
		}
		if len(held) == 0 {
			if now, err = s.resources(); err != nil {
				return now, err
			}
			if before == (Resources{}) || now.Goroutines <= before.Goroutines && now.Files <= before.Files && now.Objects <= before.Objects {
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

// resources counts the resources in use.
func (s *soaking) resources() (l Resources, err error) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	l.Goroutines, l.HeapBytes = runtime.NumGoroutine(), int(m.HeapAlloc)
	if l.Files, err = testenv.OpenFiles(); err != nil {
		return l, err
	}
	resident, err := sys.Resident(0)
	if err != nil {
		return l, err
	}
	l.ResidentBytes = int(resident)
	for _, t := range s.servers {
		if t.n.feature == "rdma" {
			kinds := rdma.Objects()
			if rdma.Modelled() == nil {
				kinds, err = testenv.RDMAObjects()
			}
			for _, n := range kinds {
				l.Objects += n
			}
			return l, err
		}
	}
	return l, nil
}

// soakServer is the server of a network, and its clients.
type soakServer struct {
	s      *soaking
	n      *network
	config serverConfig
	disk   faultyDisk
	server *server.Server // nil: closed
	net    transport.Server
	loops  []*loop.Loop // of the clients
}

func (t *soakServer) open() (err error) {
	if t.server, t.net, err = t.n.serve(t.config, &t.disk, soakOptions); err != nil {
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

func (t *soakServer) close() (err error) {
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

// held describes the memory that the server holds for connections; "": none.
func (t *soakServer) held() (string, error) {
	if t.server == nil {
		return "", nil
	}
	all, err := t.net.Stats()
	if err != nil {
		return "", fmt.Errorf("soak %s: %w", t.n.name, err)
	}
	for i, s := range all {
		if s.Conns+s.ConnBytes+s.PoolBytes > 0 {
			return fmt.Sprintf("loop %d has %d connections, %d B for them, and %d B for requests in flight", i, s.Conns, s.ConnBytes, s.PoolBytes), nil
		}
	}
	return "", nil
}

// soakClient receives the completions of a client's connection.
type soakClient struct {
	back chan *kv.Request
}

// Complete implements kv.Completer.
func (g *soakClient) Complete(r *kv.Request) { g.back <- r }

// client connects, sends requests in batches, and leaves, again and again.
func (t *soakServer) client(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
	for ctx.Err() == nil {
		l := t.loops[rand.IntN(len(t.loops))]
		depth := 1 + rand.IntN(soakOptions.Depth)
		dial, cancel := context.WithTimeout(context.Background(), transporttest.WaitMax)
		conn, err := t.n.impl.Dial(dial, l, t.server.Addr(), transport.DialOptions{Depth: depth, Loop: transport.AnyLoop, Redis: t.n.redis, DialMax: transporttest.WaitMax})
		cancel()
		var refusal *transport.Refusal
		if errors.As(err, &refusal) && refusal.Code == wire.RefusedBusy {
			continue // hostile peers use all connections or memory
		}
		if err != nil {
			return err
		}
		t.s.count.connections.Add(1)
		g := &soakClient{make(chan *kv.Request, 4*depth)}
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
					hangup = hangup || t.n.redis && (r.Status == kv.StatusUnknown || r.Status == kv.StatusClosed) // a Redis client treats an error of the disk as a lost connection
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

// request returns a random request. All clients use the same keys.
func (t *soakServer) request(rng *rand.Rand) *kv.Request {
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

// check counts a completion and checks its values.
func (t *soakServer) check(r *kv.Request, hungUp bool) error {
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

// hostileDatagrams sends packets of each kind with random contents, from many ports.
func (t *soakServer) hostileDatagrams(ctx context.Context) {
	pause := time.NewTicker(time.Millisecond)
	defer pause.Stop()
	for ctx.Err() == nil {
		nc, err := net.Dial("udp", t.server.Addr())
		if err != nil {
			return // the process has no more ports or files, which other checks report
		}
		t.s.count.hostilePeers.Add(1)
		for range 16 {
			b := make([]byte, datagram.HeaderBytes+rand.IntN(1400))
			for i := range b {
				b[i] = byte(rand.Uint32())
			}
			h := datagram.Header{Kind: datagram.Kind(1 + rand.IntN(15)), Slot: uint16(rand.IntN(16)), ID: datagram.ID{Index: uint32(rand.IntN(8)), Token: rand.Uint64()},
				Number: uint32(rand.IntN(4)), Bytes: uint32(rand.IntN(2000)), Flags: uint8(rand.IntN(2))}
			h.Encode(b)
			_, _ = nc.Write(b)
		}
		_ = nc.Close()
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
}

// hostilePeer connects by TCP, sends something, perhaps waits for a moment, and leaves, perhaps with a reset.
func (t *soakServer) hostilePeer(ctx context.Context) {
	for ctx.Err() == nil {
		nc, err := net.DialTimeout("tcp", t.server.Addr(), transporttest.WaitMax)
		if err != nil {
			return // the process has no more ports or files, which other checks report
		}
		t.s.count.hostilePeers.Add(1)
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
			case <-time.After(time.Duration(rand.IntN(100)) * time.Millisecond): // the pause is part of the test
			}
		}
		if rand.IntN(2) == 0 {
			_ = nc.(*net.TCPConn).SetLinger(0)
		}
		_ = nc.Close()
	}
}
