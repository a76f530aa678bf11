package store

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store/disk"
)

func TestKeysAndValuesOfEveryLength(t *testing.T) {
	onEvery(t, Options{}, kinds, func(t *testing.T, g *rig) {
		values := []int{0, 1, 7, 8, 39, 40, 41, 500, 1023, 1024, 2000, 4000, 4095, 4096, 4097, 8192, 65536, 65537, 1 << 20}
		keys := []int{1, 2, 3, 7, 8, 9, 255, 256, 1023, 1024}
		name := func(k, v int) string { return fmt.Sprintf("%d.%d/%s", k, v, strings.Repeat("k", 1024))[:max(k, 1)] }
		value := func(k, v int) string { return strings.Repeat(string(rune('a'+(k+v)%26)), v) }
		last := map[string]string{}
		for _, k := range keys {
			for _, v := range values {
				g.mustPut(name(k, v), value(k, v))
				last[name(k, v)] = value(k, v)
			}
		}
		for k, v := range last {
			g.want(k, v)
		}
	})
}

func TestKeysAreComparedWhole(t *testing.T) {
	onEvery(t, Options{}, kinds, func(t *testing.T, g *rig) {
		g.mustPut("12345678-a", "one")
		g.want("12345678-b", "-")
		g.want("12345678", "-")
		g.want("12345678\x00", "-")
		g.mustPut("12345678", "two")
		g.mustPut("12345678\x00", "three")
		g.want("12345678-a", "one")
		g.want("12345678", "two")
		g.want("12345678\x00", "three")
	})
}

func TestLimitsAreKeptAtTheDoor(t *testing.T) {
	onEvery(t, Options{Limits: kv.Limits{MaxKeyBytes: 16, MaxValueBytes: 100}}, kinds, func(t *testing.T, g *rig) {
		for name, c := range map[string]struct {
			r    kv.Request
			want kv.Status
		}{
			"empty key":       {kv.Request{Op: kv.OpPut}, kv.StatusBadRequest},
			"long key":        {kv.Request{Op: kv.OpGet, Key: make([]byte, 17)}, kv.StatusTooLarge},
			"long value":      {kv.Request{Op: kv.OpPut, Key: []byte("k"), Value: make([]byte, 101)}, kv.StatusTooLarge},
			"scan of nothing": {kv.Request{Op: kv.OpScan}, kv.StatusBadRequest},
			"no op":           {kv.Request{Key: []byte("k")}, kv.StatusBadRequest},
		} {
			g.do(&c.r)
			if c.r.Status != c.want {
				t.Errorf("%s: %v, want %v", name, c.r.Status, c.want)
			}
		}
	})
}

func TestGetReturnsTheRoomItNeeds(t *testing.T) {
	onEvery(t, Options{}, kinds, func(t *testing.T, g *rig) {
		for _, n := range []int{10, 10_000} {
			g.mustPut("k", strings.Repeat("v", n))
			r := &kv.Request{Op: kv.OpGet, Key: []byte("k"), Value: make([]byte, 3, n-1)}
			g.do(r)
			if r.Status != kv.StatusTooSmall || int(r.Need) != n || len(r.Value) != 3 {
				t.Fatalf("%v, needs %d, length %d", r.Status, r.Need, len(r.Value))
			}
			r.Value = make([]byte, 0, r.Need)
			if g.do(r); r.Status != kv.StatusOK || len(r.Value) != n {
				t.Fatalf("%v, length %d", r.Status, len(r.Value))
			}
		}
	})
}

// The length of a large item is known before it is read: a get without enough room gets the length without a read, and is submitted again.
func TestALargeItemIsReadOnceHoweverLittleRoomThereIs(t *testing.T) {
	g := newRig(t, "fault", Options{Limits: kv.Limits{MaxKeyBytes: 16, MaxValueBytes: 20_000}})
	g.disk.torn = false       // a transfer is one
	g.mustPut("small", "new") // a swap to a small item need not wait for its slab to grow, after which it would read again
	const n = 10_000
	old := strings.Repeat("v", n)
	for _, c := range []struct {
		op    kv.Op
		value string
		need  int
		want  string
	}{
		{kv.OpGet, "", n, old},
		{kv.OpAppend, "tail", n + 4, old + "tail"},
		{kv.OpSwap, "new", n + 3, "new"},
	} {
		t.Run(fmt.Sprint(c.op), func(t *testing.T) {
			g.mustPut("k", old)
			g.on(func() { clear(g.disk.begun) })
			r := &kv.Request{Op: c.op, Key: []byte("k"), Value: append(make([]byte, 0, c.need-1), c.value...)}
			if g.do(r); r.Status != kv.StatusTooSmall || int(r.Need) != c.need || string(r.Value) != c.value {
				t.Fatalf("%v, needs %d, %q; want %d", r.Status, r.Need, short(string(r.Value)), c.need)
			}
			r.Value = append(make([]byte, 0, c.need), c.value...)
			if g.do(r); r.Status != kv.StatusOK || string(r.Value) != c.want {
				t.Fatalf("%v, %d bytes", r.Status, len(r.Value))
			}
			g.on(func() {
				if n := g.disk.begun[readItem]; n != 1 {
					t.Errorf("%d reads, want 1", n)
				}
			})
		})
	}
	g.mustPut("k", old)
	g.on(func() { clear(g.disk.begun) })
	r := &kv.Request{Op: kv.OpAppend, Key: []byte("k"), Value: make([]byte, n+1, 3*n)}
	if g.do(r); r.Status != kv.StatusTooLarge {
		t.Errorf("an item that would be too long: %v", r.Status)
	}
	g.on(func() {
		if n := g.disk.begun[readItem]; n != 0 {
			t.Errorf("%d reads for an item that would be too long", n)
		}
	})
	g.close()
}

func TestDeletedSlotsAreUsedAgain(t *testing.T) {
	onEvery(t, Options{}, kinds, func(t *testing.T, g *rig) {
		fill := func() uint64 {
			for i := range 200 {
				g.mustPut(fmt.Sprintf("key%d", i), strings.Repeat("v", 100*(i%30)))
			}
			g.mustPut("large", strings.Repeat("L", 300_000))
			return g.stats().FileBytes
		}
		bytes := fill()
		for range 3 {
			for i := range 200 {
				g.mustDelete(fmt.Sprintf("key%d", i))
			}
			g.mustDelete("large")
			g.want("key7", "-")
			if s := g.del("key7"); s != kv.StatusNotFound {
				t.Fatalf("second delete: %v", s)
			}
			s := g.stats()
			if s.Items != 0 {
				t.Fatalf("%d items after everything was deleted", s.Items)
			}
			if n := usedSlots(s); n != s.Tombstones {
				t.Fatalf("%d slots are in use, %d by tombstones", n, s.Tombstones)
			}
			if n := fill(); n > bytes+bytes/4 {
				t.Fatalf("%d bytes of slots, %d the first time", n, bytes)
			}
		}
	})
}

func TestUpdateThatChangesItsClassMoves(t *testing.T) {
	onEvery(t, Options{}, kinds, func(t *testing.T, g *rig) {
		for i := range 60 {
			v := strings.Repeat("x", i*i*7)
			g.mustPut("k", v)
			g.mustPut("neighbour", "n")
			g.want("k", v)
		}
		g.mustPut("k", "")
		g.want("k", "")
		g.want("neighbour", "n")
		g.mustDelete("neighbour")
		g.mustDelete("k")
		if s := g.stats(); usedSlots(s) != s.Tombstones {
			t.Fatalf("%d slots are in use, %d by tombstones", usedSlots(s), s.Tombstones)
		}
	})
}

func TestScanIsOrderedAndBounded(t *testing.T) {
	onEvery(t, Options{}, kinds, func(t *testing.T, g *rig) {
		value := func(i int) string {
			n := i % 50 * 20
			if i%97 == 0 {
				n = 9000
			}
			return fmt.Sprint(i, strings.Repeat("v", n))
		}
		key := func(i int) string { return fmt.Sprintf("key%06d", i) }
		for i := range 1000 {
			g.mustPut(key(i), value(i))
		}
		items, r := g.scan(key(500), 200, 1<<20)
		if len(items) != 200 || r.More {
			t.Fatalf("%d items, %v, more %v", len(items), r.Status, r.More)
		}
		for i, it := range items {
			if it.key != key(500+i) || it.value != value(500+i) {
				t.Fatalf("item %d is %q", i, it.key)
			}
		}
		if items, r = g.scan("", 10_000, 1<<24); len(items) != 1000 || r.More {
			t.Fatalf("a scan of all has %d items, more %v", len(items), r.More)
		}
		if items, r = g.scan("", 10_000, 30_000); len(items) == 0 || len(items) > 100 || !r.More {
			t.Fatalf("a scan without room has %d items, more %v", len(items), r.More)
		}
		if _, r = g.scan(key(97), 5, 100); r.Status != kv.StatusTooSmall || int(r.Need) != kv.ItemHeaderBytes+9+len(value(97)) {
			t.Fatalf("a scan without room for one: %v, need %d", r.Status, r.Need)
		}
		if items, r = g.scan("kez", 5, 100); r.Status != kv.StatusOK || len(items) != 0 {
			t.Fatalf("a scan beyond the last key: %v, %d items", r.Status, len(items))
		}
	})
}

// The keys of a scan are deleted, moved and overwritten while it reads their pages.
func TestScanAmongChanges(t *testing.T) {
	onEvery(t, Options{}, []string{"disk", "fault"}, func(t *testing.T, g *rig) {
		key := func(i int) string { return fmt.Sprintf("key%06d", i) }
		g.mustPutAll(2000, func(i int) (string, string) { return key(i), strings.Repeat(string(rune('a'+i%26)), 1000) })
		for round := range 20 {
			scan := &kv.Request{Op: kv.OpScan, Key: []byte(key(round * 100)), Limit: 100, Value: make([]byte, 0, 1<<20)}
			all := []*kv.Request{scan}
			for i := round * 100; i < round*100+100; i += 3 {
				all = append(all, &kv.Request{Op: kv.OpDelete, Key: []byte(key(i))},
					&kv.Request{Op: kv.OpPut, Key: []byte(key(i + 1)), Value: []byte("moved")})
			}
			g.do(all...)
			seen := map[string]string{}
			for _, it := range pairs(scan.Value) {
				seen[it.key] = it.value
			}
			for i := round * 100; i < round*100+100; i++ {
				v, ok := seen[key(i)]
				old := strings.Repeat(string(rune('a'+i%26)), 1000)
				if i%3 == (round*100+2)%3 && (!ok || v != old) && i < round*100+50 {
					t.Fatalf("round %d: the scan misses %s, or has %q", round, key(i), short(v))
				}
				if ok && v != old && v != "moved" {
					t.Fatalf("round %d: the scan has %s = %q", round, key(i), short(v))
				}
			}
		}
	})
}

// usedSlots is the number of slots in use, by items or tombstones.
func usedSlots(s Stats) (n uint64) {
	for _, sl := range s.Slabs {
		n += sl.Used
	}
	return n
}

func TestRequestsJoinThePageThatIsBeingRead(t *testing.T) {
	g := newRig(t, "fault", Options{})
	g.disk.torn = false
	for i := range 1000 {
		g.mustPut(fmt.Sprintf("key%d", i), strings.Repeat("v", 1000))
	}
	g.close()
	g.open()
	g.on(func() { g.disk.held = true; clear(g.disk.begun) })
	var rs []*kv.Request
	for range 50 {
		rs = append(rs, &kv.Request{Op: kv.OpGet, Key: []byte("key0"), Value: make([]byte, 0, 1000)})
	}
	g.begin(rs...)
	g.on(func() { g.disk.held = false; g.l.Again() })
	for range rs {
		if r := <-g.back; r.Status != kv.StatusOK || len(r.Value) != 1000 {
			t.Fatalf("%v, %d bytes", r.Status, len(r.Value))
		}
	}
	g.on(func() {
		if n := g.disk.begun[readPage]; n != 1 {
			t.Errorf("%d reads for 50 gets of one item", n)
		}
	})
	if s := g.stats(); s.CacheJoins != 49 {
		t.Fatalf("%d joins, want 49", s.CacheJoins)
	}
	g.close()
}

// While a page is in flight, changes wait; then they share one write. The first
// write acknowledges only the changes that it contains.
func TestChangesOfABusyPageShareTheNextWrite(t *testing.T) {
	g := newRig(t, "inplace", Options{})
	for i := range 4 {
		g.mustPut(fmt.Sprintf("key%d", i), strings.Repeat("0", 900))
	}
	if n := g.writesOf(20, func(n int) string { return fmt.Sprintf("key%d", n%4) }); n != 2 {
		t.Errorf("%d writes, want 2", n)
	}
	for i := range 4 {
		g.want(fmt.Sprintf("key%d", i), strings.Repeat(string(rune('a'+16+i)), 900))
	}
	g.close()
}

// writesOf counts the page writes of one put and n more, which are submitted while the first is in flight.
func (g *rig) writesOf(n int, key func(n int) string) (writes int) {
	g.on(func() { g.disk.held = true; clear(g.disk.begun) })
	put := func(key, v string) *kv.Request {
		return &kv.Request{Op: kv.OpPut, Key: []byte(key), Value: []byte(strings.Repeat(v, 900))}
	}
	g.begin(put("key0", "1"))
	for range 100 { // let the write go out, also where the disk is coy
		g.on(func() {})
	}
	for i := range n {
		g.begin(put(key(i), string(rune('a'+i%26))))
	}
	g.on(func() { g.disk.held = false; g.l.Again() })
	for range n + 1 {
		if r := <-g.back; r.Status != kv.StatusOK {
			g.t.Fatal(r.Status)
		}
	}
	g.on(func() { writes = g.disk.begun[writePage] })
	return writes
}

// When as many pages are being written as keep a disk busy, changes fill pages before these go out.
func TestChangesShareWritesWhenTheDiskIsBusy(t *testing.T) {
	g := newRig(t, "fault", Options{CacheBytes: 256 * pageBytes})
	const puts = 400
	key := func(n int) string { return fmt.Sprintf("key%d", n*7%puts) }
	if n, most := g.writesOf(puts, key), writingMax+(puts-writingMax)/4+2; n > most {
		t.Errorf("%d puts take %d writes, %d at most", puts, n, most)
	}
	for i := range puts {
		g.want(key(i), strings.Repeat(string(rune('a'+i%26)), 900))
	}
	g.close()
}

// New items fill page after page, and queued writes of neighbouring pages become one write.
func TestNewItemsAreWrittenInRuns(t *testing.T) {
	g := newRig(t, "fault", Options{CacheBytes: 256 * pageBytes})
	const puts = 400 // of 4 to a page
	key := func(n int) string { return fmt.Sprintf("key%d", n) }
	if n := g.writesOf(puts, key); n > puts/4/2 {
		t.Errorf("%d puts into %d pages take %d writes, half as many at most", puts, puts/4, n)
	}
	g.on(func() {
		g.disk.fail = func(t *disk.Transfer) syscall.Errno { // one of the runs
			if kindOf(t) == writePage && len(t.Buf) > 4*pageBytes {
				g.disk.fail = nil
				return syscall.EIO
			}
			return 0
		}
	})
	g.on(func() { g.disk.held = true })
	for i := range puts {
		g.begin(&kv.Request{Op: kv.OpPut, Key: []byte(key(puts + i)), Value: []byte(strings.Repeat("v", 900))})
	}
	g.on(func() { g.disk.held = false; g.l.Again() })
	failed := map[string]bool{}
	for range puts {
		if r := <-g.back; r.Status != kv.StatusOK {
			failed[string(r.Key)] = true
		}
	}
	if len(failed) <= 4*4 || len(failed) == puts {
		t.Errorf("%d of %d puts failed with their run", len(failed), puts)
	}
	for i := range puts {
		g.want(key(i), strings.Repeat(string(rune('a'+i%26)), 900))
		want := strings.Repeat("v", 900)
		if failed[key(puts+i)] {
			want = "-"
		}
		g.want(key(puts+i), want)
	}
	g.close()
}

func TestARunEndsWhereRegisteredMemoryDoes(t *testing.T) {
	c, err := newCache(1<<disk.FixedShift + 8*pageBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer c.memory.Close()
	last := uint32(1 << disk.FixedShift / pageBytes) // the last frame in the first buffer
	for k := range uint32(6) {
		c.frames[last-2+k].id = 5<<32 | pageID(100+k)
	}
	c.frames[last+3].id = 6<<32 | 105
	c.frames[last+4].id = 6<<32 | 107
	for _, at := range []struct {
		f, g uint32
		want bool
	}{
		{last - 2, last - 1, true},
		{last - 1, last, true},
		{last, last + 1, false}, // another buffer
		{last + 1, last + 2, true},
		{last + 1, last + 3, false}, // not one after the other
		{last + 2, last + 3, false}, // another slab
		{last + 3, last + 4, false}, // a page between them
		{last - 1, last - 2, false},
		{last, 0, false},
	} {
		if got := c.adjoins(at.f, at.g); got != at.want {
			t.Errorf("frames %d and %d adjoin: %v", int(at.f)-int(last), int(at.g)-int(last), got)
		}
	}
}

func TestFlippedByteIsAnErrorAndNeighboursAreFine(t *testing.T) {
	for name, at := range map[string]int{"value": 10, "key": -3, "header": -20} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, "fault", Options{})
			g.mustPutAll(2000, func(i int) (string, string) { // much more than the cache: no flipped byte is in it
				return fmt.Sprintf("key%04d", i), fmt.Sprintf("<value of %d>%s", i, strings.Repeat("v", 400))
			})
			large := "<large>" + strings.Repeat("L", 100_000)
			g.mustPut("large", large)
			g.mustPut("large2", large)
			g.on(func() {
				if !g.disk.flip([]byte("<value of 100>"), at) || !g.disk.flip([]byte("large<large>"), 50) {
					t.Error("the items are not on disk")
				}
			})
			for _, k := range []string{"key0100", "large"} {
				if v, s := g.get(k); s != kv.StatusCorrupt {
					t.Fatalf("get of damaged %s: %v %s", k, s, short(v))
				}
			}
			for _, i := range []int{98, 99, 101, 102} {
				g.want(fmt.Sprintf("key%04d", i), fmt.Sprintf("<value of %d>%s", i, strings.Repeat("v", 400)))
			}
			g.want("large2", large)
			if _, r := g.scan("key0099", 5, 10_000); r.Status != kv.StatusCorrupt {
				t.Fatalf("scan over it: %v", r.Status)
			}
			if n := g.stats().CorruptItems; n < 2 {
				t.Fatalf("%d corrupt items counted", n)
			}
			var reported strings.Builder
			g.close()
			g.o.Log = slog.New(slog.NewTextHandler(&reported, nil))
			g.open()
			if n := g.stats().CorruptItems; n != 2 || !strings.Contains(reported.String(), "corrupt items will not be served (kvwire check names all)\" shard=0 items=2 ") {
				t.Fatalf("after reopening %d corrupt items, reported %q", n, &reported)
			}
			if v, s := g.get("key0100"); s == kv.StatusOK {
				t.Fatalf("a damaged item is served: %q", v)
			}
			g.mustPut("key0100", "mended")
			g.want("key0100", "mended")
			g.want("key0101", fmt.Sprintf("<value of 101>%s", strings.Repeat("v", 400)))
			g.close()
		})
	}
}

func TestFullDiskRefusesPutsAndLosesNothing(t *testing.T) {
	g := newRig(t, "fault", Options{})
	g.disk.capacity = 8 << 20
	kept := map[string]string{}
	refused := 0
	for i := range 6000 {
		k, v := fmt.Sprintf("key%d", i), strings.Repeat(string(rune('a'+i%26)), 1500+i%900)
		switch s := g.put(k, v); s {
		case kv.StatusOK:
			kept[k] = v
		case kv.StatusNoSpace:
			refused++
		default:
			t.Fatal(s)
		}
	}
	if refused == 0 || len(kept) < 2500 {
		t.Fatalf("%d puts refused, %d items in 8 MiB", refused, len(kept))
	}
	if s := g.put("large", strings.Repeat("L", 1<<20)); s != kv.StatusNoSpace {
		t.Fatalf("large put on a full disk: %v", s)
	}
	check := func() {
		for k, v := range kept {
			g.want(k, v)
		}
	}
	check()
	g.mustPut("key7", strings.Repeat("w", len(kept["key7"]))) // overwriting needs no space
	kept["key7"] = strings.Repeat("w", len(kept["key7"]))
	for i := range 10 {
		k := fmt.Sprintf("key%d", i)
		n := len(kept[k])
		g.mustDelete(k)
		delete(kept, k)
		g.mustPut(k+"again", strings.Repeat("n", n-5))
		kept[k+"again"] = strings.Repeat("n", n-5)
	}
	g.close()
	g.open()
	check()
	g.close()
}

func TestDiskErrorsFailTheRequestAlone(t *testing.T) {
	for _, kind := range []string{"fault", "inplace"} {
		t.Run(kind, func(t *testing.T) { diskErrors(t, newRig(t, kind, Options{})) })
	}
}

func diskErrors(t *testing.T, g *rig) {
	g.mustPutAll(1000, func(i int) (string, string) { return fmt.Sprintf("key%04d", i), strings.Repeat("v", 900) })
	large := strings.Repeat("L", 50_000)
	g.mustPut("large", large)
	failing := func(e syscall.Errno, kinds ...transferKind) {
		g.on(func() {
			g.disk.fail = func(t *disk.Transfer) syscall.Errno {
				for _, k := range kinds {
					if kindOf(t) == k {
						return e
					}
				}
				return 0
			}
		})
	}
	wants := func(what string, s, want kv.Status) {
		t.Helper()
		if s != want {
			t.Fatalf("%s: %v, want %v", what, s, want)
		}
	}
	failing(syscall.EIO, readPage, readItem)
	_, s := g.get("key0003")
	wants("get", s, kv.StatusIOError)
	_, s = g.get("large")
	wants("large get", s, kv.StatusIOError)
	if g.o.Update == UpdateInPlace {
		wants("overwrite that must read", g.put("key0003", strings.Repeat("w", 900)), kv.StatusIOError)
	}
	_, r := g.scan("", 100, 1<<20)
	wants("scan", r.Status, kv.StatusIOError)
	failing(0)
	g.want("key0003", strings.Repeat("v", 900))

	writes := 0 // the first write fails; what cleans up after it does not
	g.on(func() {
		g.disk.fail = func(t *disk.Transfer) syscall.Errno {
			if t.Op == disk.Write {
				if writes++; writes == 1 {
					return syscall.EIO
				}
			}
			return 0
		}
	})
	wants("insert", g.put("new", "value"), kv.StatusIOError)
	g.want("new", "-")
	g.mustPut("new", "value")
	writes = 0
	wants("large overwrite", g.put("large", strings.Repeat("M", 50_000)), kv.StatusIOError)
	g.want("large", large)
	writes = 0
	wants("overwrite", g.put("key0003", strings.Repeat("w", 900)), kv.StatusIOError)
	g.want("key0003", strings.Repeat("v", 900))
	writes = 0
	wants("delete", g.del("key0003"), kv.StatusIOError)
	g.want("key0003", strings.Repeat("v", 900))
	writes = 0
	wants("large delete", g.del("large"), kv.StatusIOError)
	g.want("large", large)

	failing(syscall.EIO, writePage, writeItem)
	wants("insert on a dead disk", g.put("never", "value"), kv.StatusIOError)
	wants("move on a dead disk", g.put("key0004", "short"), kv.StatusIOError)
	wants("delete on a dead disk", g.del("key0006"), kv.StatusIOError)
	g.want("never", "-")
	g.want("key0004", strings.Repeat("v", 900))
	g.want("key0006", strings.Repeat("v", 900))
	failing(0)
	g.mustDelete("key0004")
	g.mustDelete("key0005")
	g.want("key0004", "-")
	g.close()
	g.open()
	g.want("key0004", "-")
	g.want("key0005", "-")
	g.want("key0006", strings.Repeat("v", 900))
	g.want("large", large)
	g.close()

	g.disk.fail = func(*disk.Transfer) syscall.Errno { return syscall.EIO }
	if err := g.tryOpen(); err == nil || strings.Contains(err.Error(), "\n") {
		t.Fatalf("opening what cannot be read: %v", err)
	}
}

// A put whose write failed may have reached the disk. A later change of its key supersedes it.
func TestFailedPutDoesNotComeBack(t *testing.T) {
	for name, values := range map[string][2]string{
		"small then larger":    {"value", strings.Repeat("v", 500)},
		"large then small":     {strings.Repeat("L", 9000), "value"},
		"larger than it there": {strings.Repeat("v", 500), "value"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, "fault", Options{})
			g.mustPut("other", "value")
			if name == "larger than it there" {
				g.mustPut("k", values[1])
			}
			writes := 0
			g.on(func() {
				g.disk.writesAnyway = true
				g.disk.fail = func(t *disk.Transfer) syscall.Errno {
					if t.Op == disk.Write {
						if writes++; writes == 1 {
							return syscall.EIO
						}
					}
					return 0
				}
			})
			if s := g.put("k", values[0]); s != kv.StatusIOError {
				t.Fatal(s)
			}
			g.mustPut("k", values[1])
			g.mustDelete("k")
			g.close()
			g.open()
			g.want("k", "-")
			g.want("other", "value")
			g.close()
		})
	}
}

// Many simultaneous changes of few keys: in the end each key has the value of one of its last changes,
// for gets, scans and the count of slots, also after reopening.
func TestChangesOfOneKeyAtTheSameTime(t *testing.T) {
	onEvery(t, Options{}, kinds, func(t *testing.T, g *rig) {
		rng := rand.New(rand.NewPCG(5, 5))
		for range rounds(300) {
			var all []*kv.Request
			for i := range 40 {
				r := &kv.Request{Op: kv.OpPut, Key: []byte{byte('a' + rng.IntN(5))}, Value: []byte(strings.Repeat("v", []int{5, 500, 3000, 5000, 20000}[rng.IntN(5)]))}
				if i%3 == 0 {
					r.Op = kv.OpDelete
				}
				all = append(all, r)
			}
			g.do(all...)
			for _, r := range all {
				if r.Status != kv.StatusOK && (r.Op == kv.OpPut || r.Status != kv.StatusNotFound) {
					t.Fatalf("%v: %v", r.Op, r.Status)
				}
			}
		}
		see := func() (seen []pair) {
			items, _ := g.scan("", 100, 1<<20)
			for _, it := range items {
				g.want(it.key, it.value)
			}
			return items
		}
		before := see()
		for _, it := range before {
			g.mustPut(it.key, it.value+"x") // waits until what frees its old slots has ended
			g.mustDelete(it.key)
			g.mustPut(it.key, it.value)
		}
		s := g.stats()
		if n := usedSlots(s) - s.Tombstones; n != s.Items || int(s.Items) != len(before) {
			t.Fatalf("%d slots in use by items, %d items counted, %d in a scan", n, s.Items, len(before))
		}
		if g.o.Backend == Disk {
			g.close()
			g.open()
			if now := see(); !slices.Equal(now, before) {
				t.Fatalf("after reopening there are %d items, before %d, or they differ", len(now), len(before))
			}
		}
	})
}

func TestGroupServesAllItsPartitions(t *testing.T) {
	testenv.Uring(t)
	dir := t.TempDir()
	open := func(shards int) (*loop.Group, error) {
		return loop.NewGroup(loop.Plan{NetLoops: shards}, func(l *loop.Loop, shard, shards int) (loop.Partition, error) {
			return Open(l, shard, shards, Options{Backend: Disk, Dir: dir, Limits: testLimits, CacheBytes: cacheBytesMin})
		})
	}
	back := completer(make(chan *kv.Request, 1000))
	do := func(g *loop.Group, rs ...*kv.Request) {
		if err := g.Net()[0].Call(func() {
			for _, r := range rs {
				r.Owner = back
				g.Router(0).Submit(r)
			}
		}); err != nil {
			t.Fatal(err)
		}
		for range rs {
			if r := <-back; r.Status != kv.StatusOK {
				t.Fatalf("%v: %v", r.Op, r.Status)
			}
		}
	}
	g, err := open(3)
	if err != nil {
		t.Fatal(err)
	}
	var puts []*kv.Request
	for i := range 500 {
		puts = append(puts, &kv.Request{Op: kv.OpPut, Key: fmt.Appendf(nil, "key%03d", i), Value: fmt.Appendf(nil, "value %d", i)})
	}
	do(g, puts...)
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(2); err == nil || !strings.Contains(err.Error(), "3 partitions, not 2") {
		t.Fatalf("opened with another number of partitions: %v", err)
	}
	if g, err = open(3); err != nil {
		t.Fatal(err)
	}
	scan := &kv.Request{Op: kv.OpScan, Limit: 1000, Value: make([]byte, 0, 1<<20)}
	do(g, scan)
	items := pairs(scan.Value)
	for i, it := range items {
		if it.key != fmt.Sprintf("key%03d", i) || it.value != fmt.Sprintf("value %d", i) {
			t.Fatalf("item %d is %q", i, it.key)
		}
	}
	if len(items) != 500 {
		t.Fatalf("%d items", len(items))
	}
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
}

type completer chan *kv.Request

func (c completer) Complete(r *kv.Request) { c <- r }

func TestCloseCompletesEverything(t *testing.T) {
	onEvery(t, Options{}, kinds, func(t *testing.T, g *rig) {
		g.mustPutAll(500, func(i int) (string, string) { return fmt.Sprintf("key%d", i), strings.Repeat("v", 900) })
		kept := map[string]int{}
		for round := range 10 {
			var all []*kv.Request
			for i := range 300 {
				k := []byte(fmt.Sprintf("key%d", (i*7+round)%700))
				switch i % 5 {
				case 0:
					all = append(all, &kv.Request{Op: kv.OpGet, Key: k, Value: make([]byte, 0, 50_000)})
				case 1:
					all = append(all, &kv.Request{Op: kv.OpScan, Key: k, Limit: 50, Value: make([]byte, 0, 100_000)})
				case 2:
					all = append(all, &kv.Request{Op: kv.OpDelete, Key: k})
				default:
					all = append(all, &kv.Request{Op: kv.OpPut, Key: k, Value: make([]byte, i*97)})
				}
			}
			g.begin(all...)
			g.close()
			if n := len(g.back); n != len(all) {
				t.Fatalf("%d of %d requests have completed when the loop has ended", n, len(all))
			}
			for range all {
				r := <-g.back
				if r.Status != kv.StatusOK && r.Status != kv.StatusNotFound && r.Status != kv.StatusClosed {
					t.Fatalf("%v: %v", r.Op, r.Status)
				}
				if r.Op == kv.OpPut && r.Status == kv.StatusOK {
					kept[string(r.Key)] = len(r.Value)
				} else if r.Op != kv.OpGet && r.Op != kv.OpScan {
					delete(kept, string(r.Key)) // two may have raced: not what this test is about
				}
			}
			g.open()
		}
	})
}

func TestNullAnswersWithoutALookup(t *testing.T) {
	g := &rig{t: t, o: Options{Backend: Null, NullValueBytes: 100}, back: make(chan *kv.Request, 8)}
	g.open()
	g.o.Limits = testLimits
	for i, c := range []struct {
		r      kv.Request
		status kv.Status
		n      int
	}{
		{kv.Request{Op: kv.OpPut, Key: []byte("k"), Value: []byte("v")}, kv.StatusOK, 1},
		{kv.Request{Op: kv.OpGet, Key: []byte("k"), Value: make([]byte, 0, 200)}, kv.StatusOK, 100},
		{kv.Request{Op: kv.OpGet, Key: []byte("k"), Value: make([]byte, 0, 99)}, kv.StatusTooSmall, 0},
		{kv.Request{Op: kv.OpDelete, Key: []byte("k")}, kv.StatusOK, 0},
		{kv.Request{Op: kv.OpScan, Limit: 5, Value: make([]byte, 7)}, kv.StatusOK, 0},
		{kv.Request{Op: kv.OpGet}, kv.StatusBadRequest, 0},
	} {
		r := c.r
		if g.do(&r); r.Status != c.status || len(r.Value) != c.n || (c.status == kv.StatusTooSmall) != (r.Need == 100) {
			t.Errorf("%d: %v, %d bytes, need %d", i, r.Status, len(r.Value), r.Need)
		}
	}
	if s := g.stats(); s.Backend != "null" {
		t.Errorf("statistics of backend %q", s.Backend)
	}
	g.close()
}

func TestTheCostOfNullBusyIsMeasured(t *testing.T) {
	for _, d := range []time.Duration{1, 500, 20 * time.Microsecond} {
		if cost := NullBusyCost(d); cost < d || cost > d+time.Millisecond {
			t.Errorf("a request that is busy for %v takes %v", d, cost)
		}
	}
}

func TestNullBusyAndNullDelayAreKept(t *testing.T) {
	const each = 2 * time.Millisecond
	for _, o := range []Options{{Backend: Null, NullBusy: each}, {Backend: Null, NullDelay: each}} {
		g := &rig{t: t, o: o, back: make(chan *kv.Request, 8)}
		g.open()
		for range 3 {
			begun := time.Now()
			r := kv.Request{Op: kv.OpPut, Key: []byte("k"), Value: []byte("v")}
			if g.do(&r); r.Status != kv.StatusOK || time.Since(begun) < each {
				t.Errorf("busy %v, delay %v: %v after %v", o.NullBusy, o.NullDelay, r.Status, time.Since(begun))
			}
		}
		g.close()
	}
}

func TestMemRefusesPutsBeyondItsBound(t *testing.T) {
	g := newRig(t, "mem", Options{MemBytes: 4 << 20})
	ok, refused := 0, 0
	for i := range 5000 {
		switch s := g.put(fmt.Sprintf("key%d", i), strings.Repeat("v", 1900)); s {
		case kv.StatusOK:
			ok++
		case kv.StatusNoSpace:
			refused++
		default:
			t.Fatal(s)
		}
	}
	if ok != 2048 || refused == 0 {
		t.Fatalf("%d puts into 4 MiB, %d refused", ok, refused)
	}
	g.want("key17", strings.Repeat("v", 1900))
	g.close()
}

func TestStatsAnswer(t *testing.T) {
	onEvery(t, Options{}, kinds, func(t *testing.T, g *rig) {
		g.mustPut("k", "v")
		r := &kv.Request{Op: kv.OpStats, Value: make([]byte, 0, 4096)}
		if g.do(r); r.Status != kv.StatusOK || !strings.Contains(string(r.Value), `"items":1`) {
			t.Fatalf("%v %s", r.Status, r.Value)
		}
	})
}

// Gets in one turn, more and fewer than one lookup handles, with changes of their keys between them: each sees
// exactly the changes before it.
func TestGetsThatComeTogether(t *testing.T) {
	onEvery(t, Options{}, kinds, func(t *testing.T, g *rig) {
		value := func(i int) string { return fmt.Sprint("value ", i, strings.Repeat("v", i*13%900)) }
		const keys = 500
		for i := range keys {
			g.mustPut(fmt.Sprintf("shared-prefix-%04d", i), value(i))
		}
		for _, n := range []int{1, 2, groupMax - 1, groupMax, groupMax + 1, 100} {
			var rs []*kv.Request
			want := map[*kv.Request]string{}
			for i := range n {
				k := i * 7 % (keys + 50) // some are not there
				key := fmt.Sprintf("shared-prefix-%04d", k)
				r := &kv.Request{Op: kv.OpGet, Key: []byte(key), Value: make([]byte, 0, 2000)}
				if want[r] = "-"; k < keys {
					want[r] = value(k)
				}
				rs = append(rs, r)
			}
			for _, key := range []string{"a", "shared", "shared-prefix-0001x", "z"} {
				r := &kv.Request{Op: kv.OpGet, Key: []byte(key), Value: make([]byte, 0, 2000)}
				rs, want[r] = append(rs, r), "-"
			}
			g.do(rs...)
			for r, w := range want {
				if got := string(r.Value); w == "-" && r.Status != kv.StatusNotFound || w != "-" && (r.Status != kv.StatusOK || got != w) {
					t.Fatalf("%d gets: %s: %v %s, want %s", n, r.Key, r.Status, short(got), short(w))
				}
			}
		}
		// With the mem backend, where nothing waits, in order.
		if g.o.Backend != Mem {
			return
		}
		get := func() *kv.Request {
			return &kv.Request{Op: kv.OpGet, Key: []byte("k"), Value: make([]byte, 0, 100)}
		}
		before, between, after := get(), get(), get()
		g.do(before, &kv.Request{Op: kv.OpPut, Key: []byte("k"), Value: []byte("v")}, between, &kv.Request{Op: kv.OpDelete, Key: []byte("k")}, after)
		if before.Status != kv.StatusNotFound || between.Status != kv.StatusOK || after.Status != kv.StatusNotFound {
			t.Errorf("before a put %v, after it %v, after a delete %v", before.Status, between.Status, after.Status)
		}
	})
}

// A get returns no change that is not on disk yet: it waits for the write, and returns its result.
func TestReadsWaitForChangesUnderWay(t *testing.T) {
	onEvery(t, Options{}, []string{"fault", "inplace"}, func(t *testing.T, g *rig) {
		g.mustPut("a", "makes room")
		ask := func() (all []*kv.Request) {
			return []*kv.Request{
				{Op: kv.OpGet, Key: []byte("k"), Value: make([]byte, 0, 10)},
				{Op: kv.OpScan, Key: []byte("k"), Limit: 1, Value: make([]byte, 0, 100)},
				{Op: kv.OpPut, Key: []byte("k"), Value: []byte("wrong"), If: kv.IfAbsent},
			}
		}
		for _, c := range []struct {
			change, was, now string // "-": a delete, and nothing there
			errno            syscall.Errno
		}{
			{"one", "-", "one", 0}, {"two", "one", "two", 0}, {"three", "two", "two", syscall.EIO}, {"-", "two", "two", syscall.EIO}, {"-", "two", "-", 0},
		} {
			g.want("k", c.was)
			g.on(func() {
				g.disk.held = true
				g.disk.fail = func(x *disk.Transfer) syscall.Errno {
					if kindOf(x) == writePage {
						return c.errno
					}
					return 0
				}
			})
			change := &kv.Request{Op: kv.OpPut, Key: []byte("k"), Value: []byte(c.change)}
			if c.change == "-" {
				change = &kv.Request{Op: kv.OpDelete, Key: []byte("k")}
			}
			asks := ask()
			if c.change == "-" { // a put if absent would be one, and no question
				asks[2] = &kv.Request{Op: kv.OpDelete, Key: []byte("k")}
				if c.errno != 0 {
					asks = asks[:2]
				}
			}
			g.begin(append([]*kv.Request{change}, asks...)...)
			for range 20 {
				g.on(func() {})
			}
			if n := len(g.back); n != 0 {
				t.Fatalf("%s over %s: %d requests were answered while the disk is silent", c.change, c.was, n)
			}
			g.on(func() { g.disk.held = false; g.l.Again() })
			for range 1 + len(asks) {
				<-g.back
			}
			got := "-"
			if asks[0].Status == kv.StatusOK {
				got = string(asks[0].Value)
			}
			var scanned []pair
			if asks[1].Status == kv.StatusOK {
				scanned = pairs(asks[1].Value)
			}
			if got != c.now || c.now == "-" != (len(scanned) == 0) || len(scanned) > 0 && scanned[0].value != c.now {
				t.Fatalf("%s over %s: get %s, scan %v, want %s", c.change, c.was, got, scanned, c.now)
			}
			if len(asks) == 3 && asks[2].Status != map[bool]kv.Status{true: kv.StatusNotFound, false: kv.StatusExists}[c.change == "-"] {
				t.Fatalf("%s over %s: %v: %v", c.change, c.was, asks[2].Op, asks[2].Status)
			}
			g.on(func() { g.disk.fail = nil })
			g.want("k", c.now)
		}
	})
}

// A key that is being changed all the time can be read all the same.
func TestReadsDoNotStarve(t *testing.T) {
	onEvery(t, Options{}, []string{"disk", "fault", "inplace"}, func(t *testing.T, g *rig) {
		var reads []*kv.Request
		for i := range 16 {
			g.begin(&kv.Request{Op: kv.OpPut, Key: []byte("k"), Value: fmt.Append(nil, i)})
		}
		reads = append(reads, &kv.Request{Op: kv.OpGet, Key: []byte("k"), Value: make([]byte, 0, 10)},
			&kv.Request{Op: kv.OpScan, Key: []byte("k"), Limit: 1, Value: make([]byte, 0, 100)})
		g.begin(reads...)
		for changes, left := 0, len(reads); left > 0; {
			r := <-g.back
			if r.Op != kv.OpPut {
				left--
				continue
			}
			if changes++; changes > 2000 {
				t.Fatalf("%d changes were made, and a read of the key still waits", changes)
			}
			g.begin(r)
		}
		for range 16 {
			<-g.back
		}
	})
}
