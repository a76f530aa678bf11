package store

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/disk"
	"golang.org/x/sys/unix"
)

// bound refuses growth beyond so many bytes of all slabs, as a file system, a quota or a limit of a process does.
func (d *faultDisk) bound(bytes int64, errno syscall.Errno) {
	d.fail = func(t *disk.Transfer) syscall.Errno {
		if t.Op == disk.Grow && d.bytes()+t.Length > bytes {
			return errno
		}
		return 0
	}
}

// filled are the keys of a store that was filled until nothing more went in, in the order in which they went in.
func fillUp(g *rig, rng *rand.Rand, name string, key, value func() int) (keys [][]byte) {
	g.t.Helper()
	refused := 0
	for i := 0; refused < 200; i += 50 {
		var all []*kv.Request
		for n := range 50 {
			k := fmt.Sprintf("%s%06d", name, i+n)
			k += strings.Repeat("k", max(key()-len(k), 0))
			all = append(all, &kv.Request{Op: kv.OpPut, Key: []byte(k), Value: make([]byte, value())})
		}
		g.do(all...)
		for _, r := range all {
			switch r.Status {
			case kv.StatusOK:
				keys = append(keys, r.Key)
			case kv.StatusNoSpace:
				refused++
			default:
				g.t.Fatalf("put of %d and %d bytes: %v", len(r.Key), len(r.Value), r.Status)
			}
		}
	}
	rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return keys
}

// empty deletes the keys, so many at the same time.
func empty(g *rig, keys [][]byte, together int) {
	g.t.Helper()
	deleted := 0
	for some := range slices.Chunk(keys, together) {
		var all []*kv.Request
		for _, k := range some {
			all = append(all, &kv.Request{Op: kv.OpDelete, Key: k})
		}
		g.do(all...)
		for _, r := range all {
			if r.Status != kv.StatusOK {
				g.t.Fatalf("delete after %d of %d: %v", deleted, len(keys), r.Status)
			}
		}
		deleted += len(some)
	}
	if s := g.stats(); s.Items != 0 || usedSlots(s) != s.Tombstones {
		g.t.Fatalf("%d items, %d slots in use and %d tombstones after all were deleted", s.Items, usedSlots(s), s.Tombstones)
	}
}

// A store that can grow no more, for whatever reason, can be emptied, one by one and all at the same time, as it is and opened again; and then filled again.
func TestAFullStoreCanBeEmptied(t *testing.T) {
	between := func(rng *rand.Rand, from, to int) func() int { return func() int { return from + rng.IntN(to-from+1) } }
	for _, kind := range []string{"fault", "inplace"} {
		for name, sizes := range map[string][4]int{ // of keys and values
			"20 kB":             {10, 10, 20_000, 20_000},
			"large":             {10, 1024, 4100, 100_000},
			"few":               {10, 10, 900_000, 1_000_000},
			"a page":            {1000, 1024, 3000, 3040},
			"smaller than keys": {10, 1024, 0, 10},
			"all":               {10, 1024, 0, 12_000},
		} {
			for i, errno := range []syscall.Errno{unix.ENOSPC, unix.EDQUOT, unix.EFBIG} {
				if testing.Short() && (i > 0 || kind == "inplace") && name != "all" {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%v", kind, name, errno), func(t *testing.T) {
					g := newRig(t, kind, Options{Log: silent, CacheBytes: 128 * pageBytes})
					rng := rand.New(rand.NewPCG(1, uint64(i)))
					g.on(func() { g.disk.bound(6<<20, errno) })
					key, value := between(rng, sizes[0], sizes[1]), between(rng, sizes[2], sizes[3])
					first := 0
					for round, together := range []int{1, 7, 1000} {
						keys := fillUp(g, rng, fmt.Sprint(round, "."), key, value)
						if round == 0 {
							first = len(keys)
						}
						if len(keys) < first/4 || len(keys) == 0 { // which classes of slots got what space is luck
							t.Fatalf("%d items, the first time %d", len(keys), first)
						}
						if round != 0 {
							g.close()
							g.open()
						}
						empty(g, keys, together)
					}
					g.close()
					g.open()
					if s := g.stats(); s.Items != 0 {
						t.Fatalf("%d items came back", s.Items)
					}
					g.close()
				})
			}
		}
	}
}

// What a full store with no free slot at all does with deletes while others are under way: they wait for slots, and none is refused.
func TestDeletesOfAFullStoreWaitForSlots(t *testing.T) {
	for _, kind := range []string{"fault", "inplace"} {
		t.Run(kind, func(t *testing.T) {
			g := newRig(t, kind, Options{Log: silent})
			g.on(func() { g.disk.bound(4<<20, unix.ENOSPC) })
			rng := rand.New(rand.NewPCG(3, 3))
			keys := fillUp(g, rng, "key", func() int { return 10 }, func() int { return 20_000 })
			g.on(func() { g.disk.held = true })
			var all []*kv.Request
			for i, k := range keys {
				if i%3 == 2 { // overwrites, which use slots meanwhile: they may be refused
					all = append(all, &kv.Request{Op: kv.OpPut, Key: k, Value: make([]byte, 20_000)})
				} else {
					all = append(all, &kv.Request{Op: kv.OpDelete, Key: k})
				}
			}
			g.begin(all...)
			g.on(func() { g.disk.held = false; g.l.Again() })
			for range all {
				<-g.back
			}
			for _, r := range all {
				if r.Status != kv.StatusOK && (r.Op == kv.OpDelete || r.Status != kv.StatusNoSpace) {
					t.Fatalf("%v: %v", r.Op, r.Status)
				}
			}
			g.close()
		})
	}
}

// A full store whose tombstones stay, because a write has failed, is changed until every change is refused: new items never use the slots that deletes need.
func TestAFullStoreWhoseTombstonesStayCanBeEmptied(t *testing.T) {
	for _, kind := range []string{"fault", "inplace"} {
		t.Run(kind, func(t *testing.T) {
			g := newRig(t, kind, Options{Log: silent})
			g.on(func() { g.disk.fail = func(t *disk.Transfer) syscall.Errno { return unix.EIO } })
			if s := g.put("first", "v"); s != kv.StatusIOError {
				t.Fatal(s)
			}
			rng := rand.New(rand.NewPCG(5, 5))
			g.on(func() { g.disk.bound(4<<20, unix.ENOSPC) })
			n := -1
			key := func() int { // and values, alternately: small, a tombstone of the largest key, more than a page
				n++
				return []int{10, 1000, 10}[n%3]
			}
			value := func() int { return []int{20, 300, 9000}[n%3] }
			var keys [][]byte
			for round := range 40 {
				some := fillUp(g, rng, fmt.Sprint(round, "."), key, value)
				keys = append(keys, some...)
				rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
				for range min(30, len(keys)-1) {
					g.mustDelete(string(keys[0]))
					keys = keys[1:]
				}
			}
			empty(g, keys, 10)
			g.close()
			g.open()
			if s := g.stats(); s.Items != 0 {
				t.Fatalf("%d items came back", s.Items)
			}
			g.close()
		})
	}
}

// A full store that crashes during changes keeps what was acknowledged, and can be emptied in the end.
func TestAFullStoreSurvivesCrashes(t *testing.T) {
	for _, kind := range []string{"fault", "inplace"} {
		t.Run(kind, func(t *testing.T) {
			for seed := range uint64(rounds(10)) {
				g := newRig(t, kind, Options{Log: silent, CacheBytes: 128 * pageBytes})
				rng := rand.New(rand.NewPCG(seed, 4))
				g.on(func() {
					g.disk.rng = rand.New(rand.NewPCG(seed, 5))
					g.disk.bound(4<<20, unix.ENOSPC)
				})
				size := func() int { return []int{20, 900, 5000, 20_000}[rng.IntN(4)] }
				may := map[string][]string{} // what a key may have: "-" for nothing
				for _, k := range fillUp(g, rng, "", func() int { return 10 + rng.IntN(20) }, size) {
					v, _ := g.get(string(k))
					may[string(k)] = []string{v}
				}
				for range 4 {
					var all []*kv.Request
					for k := range may {
						r := &kv.Request{Op: kv.OpDelete, Key: []byte(k)}
						if rng.IntN(3) == 0 {
							r.Op, r.Value = kv.OpPut, []byte(fmt.Sprint(seed, rng.Uint64(), strings.Repeat("w", size())))
						}
						if all = append(all, r); len(all) == 150 {
							break
						}
					}
					slices.SortFunc(all, func(a, b *kv.Request) int { return strings.Compare(string(a.Key), string(b.Key)) })
					g.begin(all...)
					done := map[*kv.Request]bool{}
					take := func(r *kv.Request) {
						done[r] = true
						switch {
						case r.Status == kv.StatusOK, r.Op == kv.OpDelete && r.Status == kv.StatusNotFound:
							may[string(r.Key)] = []string{after(r)}
						case r.Op == kv.OpDelete || r.Status != kv.StatusNoSpace:
							t.Fatalf("seed %d: %v: %v", seed, r.Op, r.Status)
						}
					}
					for range rng.IntN(len(all)) {
						take(<-g.back)
					}
					g.crash()
					for len(g.back) > 0 {
						take(<-g.back)
					}
					for _, r := range all {
						if !done[r] {
							may[string(r.Key)] = append(may[string(r.Key)], after(r))
						}
					}
					g.open()
					for k, vs := range may {
						v, s := g.get(k)
						if s == kv.StatusNotFound {
							v, s = "-", kv.StatusOK
						}
						if s != kv.StatusOK || !slices.Contains(vs, v) {
							t.Fatalf("seed %d: get %s: %v %s, which is none of %d", seed, k, s, short(v), len(vs))
						}
						may[k] = []string{v}
					}
				}
				var keys [][]byte
				for k, vs := range may {
					if vs[0] != "-" {
						keys = append(keys, []byte(k))
					}
				}
				empty(g, keys, 100)
				g.close()
			}
		})
	}
}

// A write without space, as on a file system that copies on overwrite, fails for its client, and the log names the remedy. No stored item is lost, and all works
// again when there is space.
func TestAWriteWithoutSpaceHurtsOnlyItsOwnChange(t *testing.T) {
	for errno, words := range map[syscall.Errno]string{unix.ENOSPC: "free some space", unix.EDQUOT: "raise the quota", unix.EFBIG: "ulimit -f", unix.EIO: "dmesg"} {
		t.Run(errno.Error(), func(t *testing.T) {
			log := &logLines{}
			g := newRig(t, "fault", Options{Log: slog.New(slog.NewTextHandler(log, nil))})
			small, large := strings.Repeat("v", 900), strings.Repeat("v", 20_000)
			g.mustPut("small", small)
			g.mustPut("large", large)
			fails := func(e syscall.Errno) {
				g.on(func() {
					g.disk.fail = func(t *disk.Transfer) syscall.Errno {
						if t.Op == disk.Write {
							return e
						}
						return 0
					}
				})
			}
			fails(errno)
			for _, s := range []kv.Status{g.put("small", large), g.put("large", small), g.put("new", small), g.del("small"), g.del("large")} {
				if s != kv.StatusIOError {
					t.Fatal(s)
				}
			}
			log.once(t, words)
			for range 2 {
				g.want("small", small)
				g.want("large", large)
				g.want("new", "-")
				g.on(func() { g.disk.fail = nil })
				g.close()
				g.open()
			}
			g.mustDelete("small")
			g.mustDelete("large")
			g.mustPut("new", large)
			g.close()
		})
	}
}
