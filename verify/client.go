package verify

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/transporttest"
)

// work is work for a client on the keys of a history. Several workers do it; each waits for each answer.
type work struct {
	Task      task
	History   int
	Seed      uint64 // of random choices
	Workers   int    // mixed, load, readAll
	Registers int    // keys
	Ops       int    // mixed: of all workers
	CutOneIn  int    // mixed: before one in so many operations a connection is cut, with its requests in flight; 0: never
}

// task is a kind of work.
type task uint8

const (
	fillUp   task = iota // the fillers
	mixed                // random operations, of all workers at the same time
	readBack             // reads all keys, and then deletes them
	load                 // random changes, until the connection is lost
	readAll              // a get of every key, and then all of them by scans
)

// Keys of a history: few, so that operations conflict.
const (
	registers  = 4
	counters   = 1
	workers    = 6  // of a client
	workersMax = 24 // of a client that loads the server
	linkCount  = 2  // connections of a client, which its workers share
)

// client sends requests to a server, and emits an event for each start and end.
type client struct {
	n       *network
	process int
	loops   []*loop.Loop
	addr    atomic.Value // string; written by orders, read by workers that connect
	emit    func(event)
	links   [linkCount]link
	numbers atomic.Int64 // of operations
}

// link is a connection, which is replaced when it has died.
type link struct {
	mu   sync.Mutex
	conn transport.Conn // nil: none
	addr string         // of the server
}

// newClient makes a client. local are the server's loops, if the client is in the server's process.
func newClient(n *network, process int, local []*loop.Loop, emit func(event)) (*client, error) {
	c := &client{n: n, process: process, loops: local, emit: emit}
	if local == nil {
		l, err := loop.Start(loop.Options{Name: "client", Sleep: n.impl.Sleep()}, nil)
		if err != nil {
			return nil, err
		}
		c.loops = []*loop.Loop{l}
	}
	return c, nil
}

func (c *client) loop(i int) *loop.Loop { return c.loops[i%len(c.loops)] }

// connect returns connection i, and makes it if there is none. With again set it retries while the server restarts, perhaps at another address.
func (c *client) connect(i int, again bool) (transport.Conn, error) {
	k := &c.links[i]
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn != nil {
		return k.conn, nil
	}
	end := time.Now().Add(transporttest.WaitMax)
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for ; ; <-pause.C {
		ctx, cancel := context.WithDeadline(context.Background(), end)
		addr := c.addr.Load().(string)
		conn, err := c.n.impl.Dial(ctx, c.loop(i), addr, transport.DialOptions{Depth: workersMax, Loop: transport.AnyLoop, Redis: c.n.redis})
		cancel()
		if err == nil {
			k.conn, k.addr = conn, addr
			return conn, nil
		}
		if !again || time.Now().After(end) {
			return nil, fmt.Errorf("connect to %s for %v: %w", addr, transporttest.WaitMax, err)
		}
	}
}

// connected returns connection i if there is one.
func (c *client) connected(i int) (transport.Conn, bool) {
	k := &c.links[i]
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.conn, k.conn != nil
}

// cut ends connection i, if it still is conn, with its requests in flight.
func (c *client) cut(i int, conn transport.Conn) {
	k := &c.links[i]
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn == conn {
		k.conn = nil
		conn.Hangup()
	}
}

// setAddr sets the address of a new server, and hangs up connections to the old one.
func (c *client) setAddr(addr string) {
	c.addr.Store(addr) // first: connect holds the lock while it waits for the new address
	for i := range c.links {
		k := &c.links[i]
		k.mu.Lock()
		if k.conn != nil && k.addr != addr {
			k.conn.Hangup()
			k.conn = nil
		}
		k.mu.Unlock()
	}
}

// do does the work, and then emits the event ended.
func (c *client) do(w work) {
	n := max(w.Workers, 1)
	errs := make(chan error, n)
	for i := range n {
		go func() {
			rng := rand.New(rand.NewPCG(w.Seed, uint64(c.process)<<workerBits|uint64(i)))
			errs <- (&worker{c: c, work: w, n: i, rng: rng, completed: make(chan struct{}, 1), buf: make([]byte, 0, valueBytesMax)}).run()
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			c.emit(event{Kind: failed, Text: err.Error()})
			return
		}
	}
	c.emit(event{Kind: ended})
}

// worker has one operation in flight at a time.
type worker struct {
	c         *client
	work      work
	n         int
	rng       *rand.Rand
	completed chan struct{}
	buf       []byte
}

// Complete implements kv.Completer.
func (w *worker) Complete(*kv.Request) { w.completed <- struct{}{} }

func (w *worker) run() error {
	keys := keysOf(w.c.n, w.work.History, w.work.Registers)
	switch w.work.Task {
	case fillUp:
		return w.fill()
	case readBack:
		return w.readBack(keys)
	case load:
		return w.load(keys)
	case readAll:
		return w.readAll(keys)
	}
	for range w.work.Ops / w.work.Workers {
		link := w.n % linkCount
		if n := w.work.CutOneIn; n > 0 && w.rng.IntN(n) == 0 {
			conn, err := w.c.connect(link, true)
			if err != nil {
				return err
			}
			w.c.cut(link, conn)
			w.c.emit(event{Kind: cut})
		}
		e, size := w.pick(keys)
		if _, err := w.perform(e, size); err != nil {
			return err
		}
	}
	return nil
}

// keysOf are the keys of a history.
func keysOf(n *network, history, registers int) (keys []string) {
	for i := range registers {
		keys = append(keys, registerKey(history, i))
	}
	if n.local { // updates are not in the native frame
		for i := range counters {
			keys = append(keys, counterKey(history, i))
		}
	}
	return keys
}

func (w *worker) fill() error {
	for i := range fillers {
		w.buf = appendPiece(w.buf[:0], idOf(0, 0, i), fillerBytes)
		r := &kv.Request{Op: kv.OpPut, Key: []byte(fillerKey(i)), Value: w.buf}
		if err := w.submit(r); err != nil {
			return err
		}
		if r.Status != kv.StatusOK {
			return fmt.Errorf("put %s: %v", r.Key, r.Status)
		}
	}
	return nil
}

func (w *worker) readBack(keys []string) error {
	asks := []event{}
	for _, op := range []kv.Op{kv.OpGet, kv.OpScan, kv.OpDelete} {
		for i, k := range keys {
			if op != kv.OpScan || i == 0 && !w.c.n.redis {
				asks = append(asks, event{Op: op, Key: k, Limit: registers + counters + 2})
			}
		}
	}
	end := time.Now().Add(transporttest.WaitMax)
	for i := 0; i < len(asks); {
		status, err := w.perform(asks[i], 0)
		switch {
		case err != nil:
			return err
		case status != kv.StatusIOError: // a request of a killed client may still be failing
			i++
		case time.Now().After(end):
			return fmt.Errorf("%v %s: %v, for %v after the last failure", asks[i].Op, asks[i].Key, status, transporttest.WaitMax)
		}
	}
	return nil
}

// load changes keys until the server has ended. Half of the changes are on a few keys, so that changes conflict.
func (w *worker) load(keys []string) error {
	if _, err := w.c.connect(w.n%linkCount, false); err != nil {
		return nil // it has been killed already
	}
	for {
		from := keys
		if w.rng.IntN(2) == 0 {
			from = keys[:min(hotKeys, len(keys))]
		}
		e, size := w.choose(from, readPercent+w.rng.IntN(100-readPercent))
		switch status, err := w.perform(e, size); {
		case err != nil:
			return err
		case status == kv.StatusUnknown || status == kv.StatusClosed:
			return nil
		}
	}
}

const hotKeys = 16

// readAll reads the worker's share of the keys. The first worker scans them all, too.
func (w *worker) readAll(keys []string) error {
	for i := w.n; i < len(keys); i += w.work.Workers {
		if _, err := w.perform(event{Op: kv.OpGet, Key: keys[i]}, 0); err != nil {
			return err
		}
	}
	if w.n > 0 || w.c.n.redis {
		return nil
	}
	for from := registerKey(w.work.History, 0)[:8]; from != ""; {
		next := ""
		scanned := func(items []item, more bool) {
			if n := len(items); n > 0 && (more || n == scanItems) {
				next = items[n-1].Key + "\x00"
			}
		}
		if _, err := w.performThen(event{Op: kv.OpScan, Key: from, Limit: scanItems}, 0, scanned); err != nil {
			return err
		}
		from = next
	}
	return nil
}

const scanItems = 200

// readPercent is the percentage of reads in pick.
const readPercent = 45

// pick chooses an operation and the size of its value.
func (w *worker) pick(keys []string) (e event, size int) {
	dice := w.rng.IntN(100)
	if dice < 4 && !w.c.n.redis {
		e.Op, e.Limit, e.Key = kv.OpScan, 1+w.rng.IntN(80), keys[w.rng.IntN(len(keys))]
		if dice < 2 {
			e.Key = fillerKey(w.rng.IntN(fillers))
		}
		return e, 0
	}
	return w.choose(keys, dice)
}

// choose is pick without scans.
func (w *worker) choose(keys []string, dice int) (e event, size int) {
	e.Key = keys[w.rng.IntN(len(keys))]
	switch {
	case dice < readPercent:
		e.Op = kv.OpGet
	case dice < 57:
		e.Op = kv.OpDelete
	case isCounter(e.Key):
		e.Op, e.By = kv.OpAdd, 1+w.rng.Int64N(1000)
	case dice < 80 || !w.c.n.local:
		e.Op = kv.OpPut
	case dice < 86:
		e.Op, e.If = kv.OpPut, kv.If(1+w.rng.IntN(2))
	case dice < 94:
		e.Op, e.If = kv.OpSwap, kv.If(w.rng.IntN(3))
	default:
		e.Op = kv.OpAppend
	}
	return e, valueBytes(w.rng)
}

// valueBytes returns a random size: of small items, of a page, of several pages, or more than a socket accepts at once.
func valueBytes(rng *rand.Rand) int {
	switch d := rng.IntN(100); {
	case d < 50:
		return pieceHeadBytes + rng.IntN(200)
	case d < 82:
		return 200 + rng.IntN(3000)
	case d < 94:
		return 3000 + rng.IntN(17_000)
	case d < 99:
		return 64<<10 + rng.IntN(64<<10)
	}
	return 300_000
}

// perform does one operation and emits events for its start and end.
func (w *worker) perform(e event, size int) (kv.Status, error) {
	return w.performThen(e, size, func([]item, bool) {})
}

// performThen is perform, and calls onScan with the result of a scan.
func (w *worker) performThen(e event, size int, onScan func(items []item, more bool)) (kv.Status, error) {
	r := &kv.Request{Op: e.Op, If: e.If, Key: []byte(e.Key), Value: w.buf[:0], Limit: uint32(e.Limit)}
	e.Kind, e.Number, e.Worker = invoked, int(w.c.numbers.Add(1)), w.n
	wrote := 0
	switch e.Op {
	case kv.OpAdd:
		r.Value = binary.LittleEndian.AppendUint64(r.Value, uint64(e.By))
	case kv.OpPut, kv.OpSwap, kv.OpAppend:
		id := idOf(w.c.process, w.n, e.Number)
		r.Value = appendPiece(r.Value, id, size)
		e.Wrote, wrote = name(id), len(r.Value)
	}
	e.At = now()
	w.c.emit(e)
	if err := w.submit(r); err != nil {
		return 0, err
	}
	got := event{Kind: returned, Number: e.Number, At: now(), Status: r.Status}
	switch {
	case e.Op == kv.OpSwap && (r.Status == kv.StatusOK || r.Status == kv.StatusExists):
		if got.Got = absent; r.Limit > 0 {
			got.Got = stateOf(e.Key, r.Value[wrote:wrote+int(r.Limit)-1])
		}
	case e.Op == kv.OpGet && r.Status == kv.StatusNotFound:
		got.Got = absent
	case r.Status != kv.StatusOK:
	case e.Op == kv.OpScan:
		got.More = r.More
		for k, v, rest, ok := kv.NextItem(r.Value); ok; k, v, rest, ok = kv.NextItem(rest) {
			got.Items = append(got.Items, item{string(k), stateOf(string(k), v)})
		}
		onScan(got.Items, got.More)
	case e.Op == kv.OpGet || e.Op == kv.OpAdd || e.Op == kv.OpAppend:
		got.Got = stateOf(e.Key, r.Value)
	}
	w.c.emit(got)
	return r.Status, nil
}

// submit waits until r has completed. It replaces a connection that has died, except in the task load, which ends with its connection.
func (w *worker) submit(r *kv.Request) error {
	i := w.n % linkCount
	conn, ok := w.c.connected(i)
	if !ok && w.work.Task == load {
		r.Status = kv.StatusClosed
		return nil
	}
	if !ok {
		var err error
		if conn, err = w.c.connect(i, true); err != nil {
			return err
		}
	}
	r.Owner = w
	if !w.c.loop(i).Do(func() { conn.Submit(r) }) {
		return fmt.Errorf("%v %s: %w", r.Op, r.Key, loop.ErrStopped)
	}
	select {
	case <-w.completed:
	case <-time.After(transporttest.WaitMax):
		return fmt.Errorf("%v %s did not complete within %v", r.Op, r.Key, transporttest.WaitMax)
	}
	if r.Status == kv.StatusUnknown || r.Status == kv.StatusClosed {
		w.c.cut(i, conn)
	}
	return nil
}
