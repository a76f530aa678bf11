package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/disk"
)

// tornKey has items in slots of 80 bytes. These do not divide a sector, so a crash can separate the head of an item from the rest of the key.
var tornKey = strings.Repeat("k", 50)

// crashWriting begins requests and crashes when all of them are being written. Of the latest item of tornKey only the sectors up to its head, or only those after
// it, reach the disk. It returns the place of that item in its file.
func (g *rig) crashWriting(head bool, rs ...*kv.Request) (at int64) {
	g.t.Helper()
	g.on(func() { g.disk.held = true })
	g.begin(rs...)
	for n := 0; n < len(rs); {
		g.on(func() {
			n = 0
			for _, io := range g.disk.pending {
				if io.t.Op == disk.Write {
					n++
				}
			}
		})
	}
	g.disk.arrives = func(t *disk.Transfer, off int) bool {
		i := bytes.LastIndex(t.Buf, []byte(tornKey)) - headerBytes
		if i < 0 {
			return true
		}
		at = t.Off + int64(i)
		return (off <= i) == head
	}
	g.crash()
	g.disk.held, g.disk.arrives = false, nil
	return at
}

// Two writes of a slot that are torn at two crashes do not become one item: the first leaves the head of its item, and the second, of the same key, leaves the rest of the
// key. That item would be a change that was undone before, with a number that is older than the account.
func TestTornWritesOfASlotDoNotMix(t *testing.T) {
	for _, first := range []string{"-", ""} { // a delete, and a put of no bytes: an item with no other value is whole
		for _, second := range []string{"-", "second"} {
			for _, later := range []bool{false, true} { // a change with a higher number reached the disk at the first crash
				for _, fill := range []int{5, 18} { // items before: then the key is in two sectors, or the head is
					more := true
					for mix := -1; more; mix++ { // of the first recovery; 0: it is not interrupted; -1: an earlier version has left the slot, and closed the store
						name := fmt.Sprintf("%q and %q, later %v, fill %d, mix %d", first, second, later, fill, mix)
						more = mixTornWrites(t, name, first, second, later, fill, mix)
					}
				}
			}
		}
	}
}

// mixTornWrites returns false if the first recovery has changed fewer sectors than mix has bits.
func mixTornWrites(t *testing.T, name, first, second string, later bool, fill, mix int) bool {
	t.Helper()
	change := func(value string) *kv.Request {
		if value == "-" {
			return &kv.Request{Op: kv.OpDelete, Key: []byte(tornKey)}
		}
		return &kv.Request{Op: kv.OpPut, Key: []byte(tornKey), Value: []byte(value)}
	}
	g := newRig(t, "fault", Options{Log: silent})
	for i := range fill {
		g.mustPut(fmt.Sprint(i), strings.Repeat("v", 50)) // of the same class
	}
	g.mustPut(tornKey, "value")
	g.mustPut("small", "x")
	changes := []*kv.Request{change(first)}
	if later {
		changes = append(changes, &kv.Request{Op: kv.OpPut, Key: []byte("small"), Value: []byte("y")})
	}
	at := g.crashWriting(true, changes...)
	if d := g.disk.found(t); d.Unreadable != 1 || d.Loses() {
		t.Fatalf("%s: after the first crash: %+v", name, d)
	}
	switch {
	case mix < 0:
		g.disk.closeAsItIs(t)
	case mix > 0 && !g.interruptRecovery(mix-1):
		return false
	}
	g.open()
	g.want(tornKey, "value")
	if again := g.crashWriting(false, change(second)); again != at {
		t.Fatalf("%s: items at %d and %d", name, at, again)
	}
	if err := g.tryOpen(); err != nil {
		t.Errorf("%s: %v", name, err)
		return true
	}
	got, s := g.get(tornKey)
	if s == kv.StatusNotFound {
		got, s = "-", kv.StatusOK
	}
	if s != kv.StatusOK || !slices.Contains([]string{"value", second}, got) {
		t.Errorf("%s: %v %q", name, s, got)
	}
	if n := g.stats().CorruptItems; n > 0 {
		t.Errorf("%s: %d corrupt items", name, n)
	}
	g.close()
	if d := g.disk.found(t); d.Corrupt+d.Unreadable > 0 || d.Loses() {
		t.Errorf("%s: after an orderly close: %+v", name, d)
	}
	return true
}

// closeAsItIs records an orderly close of what is on disk.
func (d *faultDisk) closeAsItIs(t *testing.T) {
	p := newPartition(nil, 0, Options{Limits: testLimits, Log: silent})
	defer p.free()
	p.files = d
	_, err := p.examine()
	if err != nil {
		t.Fatal(err)
	}
	d.state = shardState{seq: p.window.last, state: stateClosed}
	if d.state.account, err = p.storeAccount(); err != nil {
		t.Fatal(err)
	}
}

// interruptRecovery ends a recovery before it has written its account. Of the sectors that it has changed, those in the set mix stay changed; false: there are
// not that many.
func (g *rig) interruptRecovery(mix int) bool {
	g.t.Helper()
	before := cloned(g.disk.slab)
	g.disk.accountErr = syscall.EIO
	if err := g.tryOpen(); !errors.Is(err, syscall.EIO) {
		g.t.Fatal(err)
	}
	g.disk.accountErr = nil
	for c, b := range g.disk.slab {
		for off := 0; off < len(b); off += sectorBytes {
			if now, was := b[off:][:sectorBytes], before[c][off:][:sectorBytes]; !bytes.Equal(now, was) {
				if mix%2 == 0 {
					copy(now, was)
				}
				mix /= 2
			}
		}
	}
	return mix == 0
}

// FuzzRecover lays bytes over the slabs of a store that was closed in order, anywhere, and opens it. Whatever they are, no key has a value that
// was never put, or another than its last, unless the store was refused and its loss accepted. The store accepts changes, which are there after the next open.
func FuzzRecover(f *testing.F) {
	ever := map[string][]string{} // all values that each key had
	g := newRig(f, "fault", Options{Log: silent})
	image := g.disk
	sizes := []int{0, 10, 90, 300, 1000, 3000, 9000, 70_000}
	for round := range 3 {
		for i, n := range sizes {
			for _, name := range []string{"a", "b", "c"} {
				key, value := fmt.Sprint(name, i), fmt.Sprint(name, round)+strings.Repeat("v", n)
				if round == 2 && name != "c" {
					if name == "b" {
						g.mustDelete(key)
					}
					continue
				}
				g.mustPut(key, value)
				ever[key] = append(ever[key], value)
			}
		}
	}
	g.close()
	used := make([][]byte, len(classes)) // without most of the room at the end
	for c, b := range image.slab {
		unit := classes[c].pages * pageBytes
		used[c] = b[:min(roundUp(len(bytes.TrimRight(b, "\x00")), unit)+unit, len(b))]
		if len(used[c]) > 0 {
			f.Add(uint8(c), uint32(0), []byte("no head of an item"))
			f.Add(uint8(c), uint32(len(used[c])/2), used[c][:min(len(used[c]), 64)])
		}
	}
	item := make([]byte, 64)
	encodeItem(item, []byte("a1"), []byte("a0"), stamp{kindTombstone, 1 << 40, behindUnknown})
	f.Add(uint8(0), uint32(64), item)
	f.Fuzz(func(t *testing.T, class uint8, at uint32, b []byte) {
		c := int(class) % len(classes)
		disk := newFaultDisk(1)
		disk.state, disk.accountBytes = image.state, image.accountBytes
		for i := range image.slab {
			disk.slab[i] = bytes.Clone(used[i])
		}
		if n := len(disk.slab[c]); n > 0 {
			copy(disk.slab[c][int(at)%n:], b)
		}
		r := newFuzzedRig(t, disk, false)
		refused := r == nil
		if refused {
			if r = newFuzzedRig(t, disk, true); r == nil {
				return // with the reason
			}
		}
		for key, values := range ever {
			value, status := r.get(key)
			known := false
			for _, v := range values {
				known = known || v == value
			}
			if status == kv.StatusOK && !known {
				t.Fatalf("key %s has a value that nobody put: %s", key, short(value))
			}
			if status != kv.StatusOK && status != kv.StatusNotFound && status != kv.StatusCorrupt {
				t.Fatalf("key %s: %v", key, status)
			}
			if len(b) == 0 || len(disk.slab[c]) == 0 || !refused && status != kv.StatusCorrupt {
				if gone := key[0] == 'b'; gone != (status == kv.StatusNotFound) || !gone && value != values[len(values)-1] {
					t.Fatalf("key %s: %v, %s (refused: %v)", key, status, short(value), refused)
				}
			}
		}
		r.mustPut("a1", "changed")
		r.mustPut("new", "changed")
		r.close()
		if r = newFuzzedRig(t, disk, false); r == nil {
			t.Fatal("it opened before a change, and does not after it")
		}
		r.want("a1", "changed")
		r.want("new", "changed")
		r.close()
	})
}

// newFuzzedRig opens a store on a disk; nil: the open failed, with an error of one line.
func newFuzzedRig(t *testing.T, disk *faultDisk, acceptLoss bool) *rig {
	r := &rig{t: t, disk: disk, back: make(chan *kv.Request, 64)}
	r.o = Options{Backend: Disk, Dir: "memory", Limits: testLimits, CacheBytes: 64 * pageBytes, Log: silent, AcceptLoss: acceptLoss}
	err := r.tryOpen()
	if err == nil {
		return r
	}
	if strings.Contains(err.Error(), "\n") {
		t.Fatalf("not one line: %v", err)
	}
	return nil
}

// A torn write over a tombstone that is no longer needed leaves its head with one other byte in its key. The repaired head has no value that could be damaged, and no
// older copy of its key that could come back: the key is still deleted.
func TestATornWriteOverAnOldTombstoneIsNoDamage(t *testing.T) {
	deleted := tornKey[1:] + "1"
	for _, crash := range []bool{true, false} { // else a byte of the tombstone changes in another way
		g := newRig(t, "fault", Options{Log: silent})
		for i := range 5 {
			g.mustPut(fmt.Sprint(i), strings.Repeat("v", 50))
		}
		g.mustPut(deleted, "value")
		g.mustDelete(deleted)                       // in a slot whose key is in two sectors
		g.mustPut("other", strings.Repeat("v", 50)) // over the value, so that no tombstone is needed
		if s := g.stats(); s.Tombstones != 0 {
			t.Fatal(s.Tombstones, " tombstones")
		}
		if crash {
			g.crashWriting(false, &kv.Request{Op: kv.OpPut, Key: []byte(tornKey), Value: []byte("second")})
		} else if g.close(); !g.disk.flip([]byte(deleted), 40) {
			t.Fatal("there is no tombstone")
		}
		if d := g.disk.found(t); d.Corrupt+d.Unreadable > 0 || d.Loses() {
			t.Errorf("crash %v: %+v", crash, d)
		}
		g.open()
		g.want(deleted, "-")
		g.want(tornKey, "-")
		if s := g.stats(); s.Items != 6 || s.Tombstones != 0 {
			t.Errorf("%d items and %d tombstones", s.Items, s.Tombstones)
		}
		g.close()
	}
}

// A damaged tombstone may be dropped only if there is no older item of its key: otherwise the key would have that item's value some day.
func TestADamagedTombstoneThatIsNeededIsReported(t *testing.T) {
	class := classOf(itemBytes(len(tornKey), 0))
	for _, c := range []struct {
		kinds  []uint8 // of the copies of a key, oldest first; the last one is damaged
		status kv.Status
	}{
		{[]uint8{kindTombstone}, kv.StatusNotFound},
		{[]uint8{kindTombstone, kindTombstone}, kv.StatusNotFound},
		{[]uint8{kindLive, kindTombstone}, kv.StatusCorrupt},
		{[]uint8{kindLive, kindTombstone, kindTombstone}, kv.StatusCorrupt},
		{[]uint8{kindLive}, kv.StatusCorrupt},
	} {
		d := newFaultDisk(1)
		d.slab[class] = make([]byte, pageBytes)
		var b []byte
		for i, kind := range c.kinds {
			b = d.slab[class][i*classes[class].bytes:]
			encodeItem(b, []byte(tornKey), nil, stamp{kind, uint64(i + 1), behindUnknown})
		}
		b[headerBytes+3] ^= 1
		d.state = shardState{seq: uint64(len(c.kinds)), state: stateNoAccount}
		for range 3 { // the damage stays, and so does its report
			if n := d.found(t).Corrupt; n != 1 != (c.status == kv.StatusNotFound) {
				t.Errorf("%v: %d corrupt items", c.kinds, n)
			}
			g := newFuzzedRig(t, d, false)
			if v, s := g.get(tornKey); s != c.status {
				t.Errorf("%v: %v %q", c.kinds, s, v)
			}
			g.close()
		}
	}
}
