package store

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/kv"
)

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
