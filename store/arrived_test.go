package store

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/disk"
)

// pageValue is a value whose item has a page of its own.
func pageValue(i int) string { return fmt.Sprint(i, strings.Repeat("v", 3000)) }

// coldRig is a partition whose items key0 to key(n-1) are on disk and not in the cache, and whose disk is held: nothing completes.
func coldRig(t *testing.T, n, readsMax int) (*rig, *Partition) {
	g := newRig(t, "fault", Options{ReadsMax: readsMax})
	g.disk.torn = false
	g.mustPutAll(n, func(i int) (string, string) { return fmt.Sprint("key", i), pageValue(i) })
	g.mustPut("small", "so that there are slots for small items")
	g.close()
	g.open()
	p := g.p.(*Partition)
	g.on(func() {
		g.disk.held = true
		clear(g.disk.begun)
	})
	return g, p
}

func (g *rig) release() { g.on(func() { g.disk.held = false; g.l.Again() }) }

func getOf(i int) *kv.Request {
	return &kv.Request{Op: kv.OpGet, Key: fmt.Append(nil, "key", i), Value: make([]byte, 0, 4000)}
}

// A hit does not wait for the misses before it while more reads may begin, and waits behind them when no more may.
func TestHitsPassMissesUpToTheBoundOfReads(t *testing.T) {
	g, p := coldRig(t, 200, 8)
	g.release()
	g.want("key0", pageValue(0)) // its page is in the cache now
	g.on(func() { g.disk.held = true })
	var misses []*kv.Request
	for i := range 7 {
		misses = append(misses, getOf(100+i))
	}
	hit := getOf(0)
	g.begin(append(misses, hit)...)
	if r := <-g.back; r != hit || string(r.Value) != pageValue(0) {
		t.Fatalf("%s has ended first: %v", r.Key, r.Status)
	}
	g.begin(getOf(150))
	g.begin(hit)
	g.on(func() {
		if p.reads != 8 || p.arrived.Empty() {
			t.Errorf("%d reads, with requests waiting: %v", p.reads, !p.arrived.Empty())
		}
	})
	if len(g.back) != 0 {
		t.Error("a request has passed the bound")
	}
	g.release()
	for range 9 {
		if r := <-g.back; r.Status != kv.StatusOK {
			t.Errorf("%s: %v", r.Key, r.Status)
		}
	}
	g.on(func() {
		if p.reads != 0 || !p.arrived.Empty() {
			t.Errorf("at rest: %d reads, with requests waiting: %v", p.reads, !p.arrived.Empty())
		}
	})
	g.close()
}

// However many requests come, and in groups or alone, at most so many pages are read for them at the same time.
func TestTheBoundOfReadsHolds(t *testing.T) {
	for _, readsMax := range []int{1, 5, groupMax, 40} {
		for _, stages := range []bool{false, true} { // requests with stages are not in groups
			g, p := coldRig(t, 150, readsMax)
			var rs []*kv.Request
			for i := range 150 {
				r := getOf(i)
				if stages {
					r.Stages = new(kv.Stages)
					r.Stages.Start(0)
				}
				rs = append(rs, r)
			}
			g.begin(rs[:100]...)
			g.begin(rs[100:]...)
			g.on(func() {
				if n := g.disk.begun[readPage]; p.reads != readsMax || n > readsMax {
					t.Errorf("bound %d: %d reads, %d of them at the disk", readsMax, p.reads, n)
				}
				g.disk.fail = func(*disk.Transfer) syscall.Errno { // each completion is one read fewer, or a next one
					if p.reads > readsMax {
						t.Errorf("bound %d: %d reads", readsMax, p.reads)
					}
					return 0
				}
			})
			g.release()
			for range rs {
				if r := <-g.back; r.Status != kv.StatusOK {
					t.Fatalf("%s: %v", r.Key, r.Status)
				}
			}
			g.on(func() {
				if p.reads != 0 {
					t.Errorf("at rest: %d reads", p.reads)
				}
			})
			g.close()
		}
	}
}

// Requests that wait for the reads of earlier ones start in the order in which they came, whatever they do: the delete finds what the puts have put, and the put after it stays.
func TestRequestsBeyondTheBoundKeepTheirOrder(t *testing.T) {
	g, _ := coldRig(t, 200, 1)
	key := []byte("new")
	get := func() *kv.Request { return &kv.Request{Op: kv.OpGet, Key: key, Value: make([]byte, 0, 100)} }
	put := func(v string) *kv.Request { return &kv.Request{Op: kv.OpPut, Key: key, Value: []byte(v)} }
	early := get()
	scan := &kv.Request{Op: kv.OpScan, Key: key, Limit: 1, Value: make([]byte, 0, 100)}
	remove := &kv.Request{Op: kv.OpDelete, Key: key}
	rs := []*kv.Request{getOf(0), early, put("1"), scan, put("2"), get(), remove, put("3")}
	g.begin(rs[:4]...)
	g.begin(rs[4:]...)
	if len(g.back) != 0 {
		t.Error("a request has passed the one that reads")
	}
	g.release()
	for range rs {
		r := <-g.back
		if r.Op.Changes() && r.Status != kv.StatusOK {
			t.Errorf("%v %s: %v", r.Op, r.Value, r.Status)
		}
	}
	if early.Status != kv.StatusNotFound {
		t.Errorf("a get before the first put: %v", early.Status)
	}
	g.want("new", "3")
	g.close()
}

// A read that fails makes room for the next one.
func TestFailedReadsMakeRoom(t *testing.T) {
	g, _ := coldRig(t, 200, 2)
	var rs []*kv.Request
	for i := range 20 {
		rs = append(rs, getOf(i))
	}
	g.begin(rs...)
	g.on(func() { g.disk.fail = func(*disk.Transfer) syscall.Errno { return syscall.EIO } })
	g.release()
	for range rs {
		if r := <-g.back; r.Status != kv.StatusIOError {
			t.Fatalf("%s: %v", r.Key, r.Status)
		}
	}
	g.on(func() { g.disk.fail = nil })
	g.want("key0", pageValue(0))
	g.close()
}

// A partition that closes ends the requests that have not begun.
func TestCloseEndsRequestsThatHaveNotBegun(t *testing.T) {
	g, _ := coldRig(t, 200, 2)
	var rs []*kv.Request
	for i := range 20 {
		rs = append(rs, getOf(i))
	}
	g.begin(rs...)
	g.on(func() { g.disk.held = false }) // no turn yet: the loop stops first
	g.close()
	closed := 0
	for range rs {
		if r := <-g.back; r.Status == kv.StatusClosed {
			closed++
		} else if r.Status != kv.StatusOK {
			t.Errorf("%s: %v", r.Key, r.Status)
		}
	}
	if closed < len(rs)-4 {
		t.Errorf("%d of %d requests have ended as closed", closed, len(rs))
	}
}

// The time until a request begins belongs to the queue in front of the partition, and not to the partition or the disk.
func TestTheWaitBeforeTheStartIsServerQueue(t *testing.T) {
	g, _ := coldRig(t, 200, 1)
	second := getOf(2)
	second.Stages = new(kv.Stages)
	var at int64
	g.on(func() { at = g.l.Now(); second.Stages.Start(at) })
	g.begin(getOf(0), second)
	g.on(func() {
		if s := second.Stages; s.At != at {
			t.Errorf("a request that has not begun has a mark: %v", s.Ns)
		}
	})
	g.release()
	<-g.back
	<-g.back
	if s := second.Stages; s.Ns[kv.StageServerQueue] == 0 || s.Ns[kv.StageDisk] == 0 || s.State != kv.StoreDone {
		t.Errorf("%v", s.Ns)
	}
	g.close()
}

func TestAStoreWithFewReadsAtATimeDoesWhatAMapDoes(t *testing.T) {
	onEvery(t, Options{ReadsMax: 2}, []string{"disk", "fault", "inplace"}, func(t *testing.T, g *rig) {
		m := newModel(g, 23, 1000)
		m.fill()
		for range rounds(100) {
			m.batch()
		}
		m.checkAll()
	})
}
