package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/disk"
)

// damages is what may happen to one slab of a store that was closed. Each changes pages at a place that rng chooses; old is the disk at
// an earlier time.
var damages = []struct {
	name string
	wide bool // it reaches pages beside the chosen one
	do   func(rng *rand.Rand, d *faultDisk, old [][]byte, c, page int)
}{
	{"nothing", false, func(*rand.Rand, *faultDisk, [][]byte, int, int) {}},
	{"zeroed page", false, func(_ *rand.Rand, d *faultDisk, _ [][]byte, c, page int) { clear(pageOf(d.slab, c, page)) }},
	{"zeroed sector", false, func(rng *rand.Rand, d *faultDisk, _ [][]byte, c, page int) {
		clear(pageOf(d.slab, c, page)[rng.IntN(pageBytes/sectorBytes)*sectorBytes:][:sectorBytes])
	}},
	{"cut off before a page", false, func(_ *rand.Rand, d *faultDisk, _ [][]byte, c, page int) { d.slab[c] = d.slab[c][:page*pageBytes] }},
	{"cut off within a page", false, func(_ *rand.Rand, d *faultDisk, _ [][]byte, c, page int) {
		d.slab[c] = d.slab[c][:page*pageBytes+pageBytes/2]
	}},
	{"one page less", true, func(_ *rand.Rand, d *faultDisk, _ [][]byte, c, _ int) {
		d.slab[c] = d.slab[c][:len(d.slab[c])-pageBytes]
	}},
	{"another page of the slab", false, func(rng *rand.Rand, d *faultDisk, _ [][]byte, c, page int) {
		copy(pageOf(d.slab, c, page), pageOf(d.slab, c, rng.IntN(usedPages(d.slab[c]))))
	}},
	{"a page of another slab", false, func(rng *rand.Rand, d *faultDisk, _ [][]byte, c, page int) {
		from := usedSlab(rng, d.slab)
		copy(pageOf(d.slab, c, page), pageOf(d.slab, from, rng.IntN(usedPages(d.slab[from]))))
	}},
	{"two pages swapped", true, func(rng *rand.Rand, d *faultDisk, _ [][]byte, c, page int) {
		a, b := pageOf(d.slab, c, page), pageOf(d.slab, c, rng.IntN(usedPages(d.slab[c])))
		was := bytes.Clone(a)
		copy(a, b)
		copy(b, was)
	}},
	{"a page as it was", false, func(_ *rand.Rand, d *faultDisk, old [][]byte, c, page int) {
		if len(old[c]) >= (page+1)*pageBytes {
			copy(pageOf(d.slab, c, page), pageOf(old, c, page))
		}
	}},
	{"a flipped byte", false, func(rng *rand.Rand, d *faultDisk, _ [][]byte, c, page int) {
		pageOf(d.slab, c, page)[rng.IntN(pageBytes)] ^= byte(1 + rng.IntN(255))
	}},
	{"bytes at random", false, func(rng *rand.Rand, d *faultDisk, _ [][]byte, c, page int) {
		b := pageOf(d.slab, c, page)[rng.IntN(pageBytes-64):][:1+rng.IntN(64)]
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
	}},
}

func pageOf(slab [][]byte, c, page int) []byte { return slab[c][page*pageBytes:][:pageBytes] }

// usedPages is how many pages of a slab have been written, one at least.
func usedPages(b []byte) int {
	n := len(b) / pageBytes
	for n > 1 && zero(b[(n-1)*pageBytes:][:pageBytes]) {
		n--
	}
	return n
}

// usedSlab chooses a slab in which something was written.
func usedSlab(rng *rand.Rand, slab [][]byte) int {
	for {
		if c := rng.IntN(len(slab)); len(slab[c]) > 0 && !zero(slab[c][:usedPages(slab[c])*pageBytes]) {
			return c
		}
	}
}

// found is what kvwire check finds on a disk.
func (d *faultDisk) found(t *testing.T) Damage {
	t.Helper()
	p := newPartition(nil, 0, Options{Limits: testLimits, Log: silent})
	defer p.free()
	p.files = d
	v, err := p.examine()
	if err != nil {
		t.Fatal(err)
	}
	return v.report
}

// changedRig is a store that is changed at random, with what its keys have, and had.
type changedRig struct {
	*rig
	keys  int
	sizes []int
	n     int // rounds
	has   map[string]string
	ever  map[string][]string
	old   [][]byte // the slabs as they were half-way
}

// changed puts, overwrites and deletes keys of a new store at random, and opens it anew and crashes it now and then. It is closed at the end.
func changed(t *testing.T, rng *rand.Rand, kind string) *changedRig {
	g := &changedRig{rig: newRig(t, kind, Options{Log: silent}), keys: 3 + rng.IntN(40), has: map[string]string{}, ever: map[string][]string{}}
	g.disk.rng = rand.New(rand.NewPCG(rng.Uint64(), 1))
	g.sizes = [][]int{{10}, {300}, {1500}, {10, 90, 300, 1000, 1500, 3000, 4050}, {1500, 9000}, {100, 700, 30_000}}[rng.IntN(6)]
	for i := range g.keys {
		g.ever[fmt.Sprintf("key %d", i)] = []string{}
	}
	rounds := 1 + rng.IntN(12)
	for round := range rounds {
		g.round(rng)
		switch rng.IntN(6) {
		case 0:
			g.close()
			g.open()
		case 1:
			g.crash()
			g.open()
		}
		if round == rounds/2 {
			g.old = cloned(g.disk.slab)
		}
	}
	g.close()
	return g
}

// round changes some keys at the same time.
func (g *changedRig) round(rng *rand.Rand) {
	g.t.Helper()
	var all []*kv.Request
	for _, i := range rng.Perm(g.keys)[:1+rng.IntN(g.keys)] {
		r := &kv.Request{Op: kv.OpPut, Key: fmt.Appendf(nil, "key %d", i)}
		if rng.IntN(4) == 0 {
			r.Op = kv.OpDelete
		} else {
			r.Value = fmt.Appendf(nil, "round %d of key %d %s", g.n, i, strings.Repeat("v", g.sizes[rng.IntN(len(g.sizes))]))
		}
		all = append(all, r)
	}
	g.n++
	g.do(all...)
	for _, r := range all {
		key := string(r.Key)
		if r.Status != kv.StatusOK && (r.Status != kv.StatusNotFound || r.Op != kv.OpDelete) {
			g.t.Fatalf("%v of %s: %v", r.Op, key, r.Status)
		}
		if delete(g.has, key); r.Op == kv.OpPut {
			g.has[key] = string(r.Value)
			g.ever[key] = append(g.ever[key], g.has[key])
		}
	}
}

// shorten removes most of the free space at the end of slabs.
func (g *changedRig) shorten() {
	for c, b := range g.disk.slab {
		unit := classes[c].pages * pageBytes
		g.disk.slab[c] = b[:min(roundUp(usedPages(b)*pageBytes, unit)+unit, len(b))]
	}
}

// outcomes counts what damage has led to.
type outcomes struct {
	tries                      map[string]int
	refused, corrupt, harmless int
}

// try opens a damaged store: either it is refused, or each key has its last value or an error. After a crash a check may also report slots whose content is unknown.
func (o *outcomes) try(t *testing.T, at string, disk *faultDisk, has map[string]string, ever map[string][]string, crashed bool) {
	t.Helper()
	d := disk.found(t)
	bad := d.Corrupt > 0 || d.Unreadable > 0 || d.Loses()
	r := newFuzzedRig(t, disk, false)
	if r == nil {
		if o.refused++; !d.Loses() {
			t.Fatalf("%s: refused, and check finds %+v", at, d)
		}
		acceptLoss(t, at, disk, ever)
		return
	}
	errs := 0
	for key := range ever {
		got, s := r.get(key)
		want, there := has[key]
		switch {
		case s == kv.StatusCorrupt:
			errs++
		case crashed && d.Unreadable > 0:
		case there && (s != kv.StatusOK || got != want), !there && s != kv.StatusNotFound:
			t.Fatalf("%s: %s is %v %s, want %s; check finds %+v", at, key, s, short(got), short(want), d)
		}
	}
	if errs > 0 && !bad {
		t.Fatalf("%s: %d keys have errors, and check finds nothing", at, errs)
	}
	if errs > 0 {
		o.corrupt++
	} else {
		o.harmless++
	}
	r.close()
}

// Any damage to a part of one slab of a closed store is reported: each key has its last value or an error, or the store is not opened. No key silently
// has an older value, returns after its delete, or is missing. A check finds the damage. After a crash the same holds for pages that were not written
// since the store was opened.
func TestDamageIsNeverSilent(t *testing.T) {
	for _, crashed := range []bool{false, true} {
		t.Run(map[bool]string{false: "closed", true: "crashed"}[crashed], func(t *testing.T) {
			o := outcomes{tries: map[string]int{}}
			for seed := range uint64(max(rounds(100), len(damages))) {
				for _, kind := range []string{"fault", "inplace"} {
					o.store(t, seed, kind, crashed)
				}
			}
			t.Logf("%v: %d refused, %d with corrupt keys, %d harmless", o.tries, o.refused, o.corrupt, o.harmless)
			if want := len(damages) - len(o.tries); want > 2 || want > 0 && !crashed || o.refused == 0 || o.corrupt == 0 {
				t.Fatal("not everything was tried")
			}
		})
	}
}

// store damages one store in several ways, each anew.
func (o *outcomes) store(t *testing.T, seed uint64, kind string, crashed bool) {
	rng := rand.New(rand.NewPCG(seed, 11))
	g := changed(t, rng, kind)
	disk := g.disk
	before := cloned(disk.slab)
	if crashed {
		g.open()
		for range 1 + rng.IntN(3) {
			g.round(rng)
		}
		g.crash()
	}
	g.shorten()
	intact, mark, pages := cloned(disk.slab), disk.state, disk.accountBytes
	if zero(slices.Concat(intact...)) { // deletes of nothing
		return
	}
	tries := 6
	if testing.Short() && !crashed { // closed, each damage is in the first try of a seed
		tries = 3
	}
	for i := range tries {
		w := 1 + rng.IntN(len(damages)-1)
		if i == 0 {
			w = int(seed) % len(damages)
		}
		what := damages[w]
		disk.slab, disk.state, disk.accountBytes = cloned(intact), mark, pages
		c := usedSlab(rng, disk.slab)
		page := rng.IntN(usedPages(disk.slab[c]))
		if crashed && (what.wide || len(before[c]) < (page+1)*pageBytes || !bytes.Equal(pageOf(before, c, page), pageOf(intact, c, page))) {
			continue // it was written since
		}
		what.do(rng, disk, g.old, c, page)
		at := fmt.Sprintf("seed %d, %s, %s: page %d of slab %d", seed, kind, what.name, page, classes[c].bytes)
		if w == 0 {
			if d := disk.found(t); d.Corrupt+d.Unreadable > 0 || d.Loses() {
				t.Fatalf("%s: check finds %+v", at, d)
			}
		}
		o.tries[what.name]++
		o.try(t, at, disk, g.has, g.ever, crashed)
	}
}

func cloned(slab [][]byte) (all [][]byte) {
	for _, b := range slab {
		all = append(all, bytes.Clone(b))
	}
	return all
}

// acceptLoss opens a store that was refused, with values that its keys had some day, and then again as any other.
func acceptLoss(t *testing.T, at string, disk *faultDisk, ever map[string][]string) {
	t.Helper()
	for _, accept := range []bool{true, false} {
		r := newFuzzedRig(t, disk, accept)
		if r == nil {
			t.Fatalf("%s: refused, accepted: %v", at, accept)
		}
		for key, values := range ever {
			if got, s := r.get(key); s != kv.StatusNotFound && s != kv.StatusCorrupt && (s != kv.StatusOK || !slices.Contains(values, got)) {
				t.Fatalf("%s: %s is %v %s, which it never was", at, key, s, short(got))
			}
		}
		if r.mustPut("a new key", "x"); !accept {
			r.want("a new key", "x")
		}
		r.close()
	}
	if d := disk.found(t); d.Loses() {
		t.Fatalf("%s: accepted, and still lost: %+v", at, d)
	}
}

// lostStore is one in which each of twelve keys has a slab's page to itself and a newer copy than its first, and 50 small keys are
// in another slab, open again.
func lostStore(t *testing.T, kind string) *rig {
	t.Helper()
	g := newRig(t, kind, Options{Log: silent})
	for i := range 24 {
		g.mustPut(fmt.Sprintf("large %d", i%12), fmt.Sprintf("round %d %s", i/12, strings.Repeat("v", 3000)))
	}
	g.close()
	g.open()
	for i := range 50 {
		g.mustPut(fmt.Sprintf("small %d", i), "x")
	}
	return g
}

// After a crash, too, a page is found that was last written before the store was opened and has other content now. A page that was written since, and is
// torn, does not count as such a page.
func TestPagesLostBeforeACrashAreNoticed(t *testing.T) {
	large, small := classOf(itemBytes(7, 3008)), classOf(itemBytes(7, 1))
	for _, kind := range []string{"fault", "inplace"} {
		for name, c := range map[string]struct {
			lost uint64 // pages
			do   func(d *faultDisk)
		}{
			"nothing":                     {0, func(*faultDisk) {}},
			"a zeroed page":               {1, func(d *faultDisk) { clear(pageOf(d.slab, int(large), 3)) }},
			"a page at another's place":   {1, func(d *faultDisk) { copy(pageOf(d.slab, int(large), 3), pageOf(d.slab, int(large), 5)) }},
			"a page where there was none": {1, func(d *faultDisk) { copy(pageOf(d.slab, int(large), 40), pageOf(d.slab, int(large), 5)) }},
			"a slab that was cut off":     {4, func(d *faultDisk) { d.slab[large] = d.slab[large][:(usedPages(d.slab[large])-4)*pageBytes] }},
			"a page written since":        {0, func(d *faultDisk) { clear(pageOf(d.slab, int(small), 0)) }}, // this cannot be detected
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				g := lostStore(t, kind)
				g.crash()
				c.do(g.disk)
				if d := g.disk.found(t); d.LostPages != c.lost || d.Record != "" || d.Loses() != (c.lost > 0) {
					t.Fatalf("found %+v", d)
				}
				if r := newFuzzedRig(t, g.disk, false); (r == nil) != (c.lost > 0) {
					t.Fatal("refused:", r == nil)
				} else if r != nil {
					r.close()
				}
			})
		}
	}
}

// A page that another program changes while the store serves is found at the next open, also if the store has written to it since.
func TestPagesLostWhileServingAreNoticedLater(t *testing.T) {
	small := int(classOf(itemBytes(7, 1)))
	for _, how := range []string{"read only", "written"} {
		g := newRig(t, "inplace", Options{Log: silent})
		for i := range 50 {
			g.mustPut(fmt.Sprintf("small %d", i), "x")
		}
		g.close()
		g.open()
		g.on(func() { clear(pageOf(g.disk.slab, small, 0)) })
		if how == "written" {
			for i := range 20 {
				g.mustPut(fmt.Sprintf("small %d", i), "y")
			}
			if zero(pageOf(g.disk.slab, small, 0)) {
				t.Fatal("nothing was written to the page")
			}
		}
		g.close()
		if d := g.disk.found(t); d.LostPages != 1 || d.Lost[0] != (LostPages{SlotBytes: classes[small].bytes, Pages: 1}) {
			t.Fatalf("%s: found %+v", how, d)
		}
		if newFuzzedRig(t, g.disk, false) != nil {
			t.Fatal(how, ": it was opened")
		}
	}
}

// The error for a refused store is one line, which names the loss and the remedy. The store is not changed.
func TestALossIsRefusedInOneLine(t *testing.T) {
	g := lostStore(t, "fault")
	g.close()
	c := classOf(itemBytes(7, 3008))
	clear(pageOf(g.disk.slab, int(c), 0))
	clear(pageOf(g.disk.slab, int(c), 1))
	clear(pageOf(g.disk.slab, int(c), 7))
	mark, pages := g.disk.state, bytes.Clone(g.disk.accountBytes)
	err := g.tryOpen()
	if err == nil || strings.Contains(err.Error(), "\n") {
		t.Fatal(err)
	}
	for _, part := range []string{"shard 0", "3 pages", "pages 0 to 1 of the slab of 4096-byte slots", "up to 3 keys", "kvwire check", "--accept-loss"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
	if g.disk.state != mark || !bytes.Equal(g.disk.accountBytes, pages) {
		t.Error("it was changed")
	}
}

// A recovery that ends after it has cleared unfinished items, and before it has written an account, does not make these items count as lost.
func TestAnInterruptedRecoveryIsNoLoss(t *testing.T) {
	torn := uint64(0)
	var buffers [][]byte
	for seed := range uint64(rounds(80)) {
		g := newRig(t, "fault", Options{CacheBytes: 128 * pageBytes, Log: silent})
		g.disk.rng = rand.New(rand.NewPCG(seed, 3))
		m := newModel(g, seed, 120)
		m.buffers = buffers
		m.fill()
		for range 3 {
			m.batch()
			g.close() // the account before the next crash has the sums of slots that are torn then
			g.open()
			m.crashInFlight()
			torn += g.disk.found(t).Unfinished
			g.disk.accountErr = syscall.EIO
			if err := g.tryOpen(); !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
			g.disk.accountErr = nil
			g.open()
			m.checkAll()
		}
		buffers = m.buffers
		g.close()
	}
	if torn == 0 {
		t.Fatal("nothing was torn")
	}
}

// The comparison needs no additional reads: each slab is read once, after a close and after a crash.
func TestRecoveryReadsEachSlabOnce(t *testing.T) {
	for _, end := range []string{"closed", "crashed"} {
		g := lostStore(t, "fault")
		if end == "closed" {
			g.close()
		} else {
			g.crash()
		}
		var read atomic.Int64
		g.disk.fail = func(t *disk.Transfer) syscall.Errno {
			if kindOf(t) == readPage {
				read.Add(int64(len(t.Buf)))
			}
			return 0
		}
		if g.open(); read.Load() != g.disk.bytes() {
			t.Errorf("%s: %d bytes read of %d", end, read.Load(), g.disk.bytes())
		}
		g.close()
	}
}

// Where there is no space for an account, and where an older version had the store, it is opened as before.
func TestStoresWithoutAnAccountAreOpened(t *testing.T) {
	for name, before := range map[string]func(d *faultDisk){
		"no space": func(d *faultDisk) { d.accountErr = syscall.ENOSPC },
		"an older version's": func(d *faultDisk) {
			old := binary.LittleEndian.AppendUint64(nil, d.state.seq)
			d.state = parseState(binary.LittleEndian.AppendUint32(old, crc32.Checksum(old, castagnoli)))
			d.accountBytes = nil
		},
	} {
		for _, end := range []string{"closed", "crashed"} {
			t.Run(name+"/"+end, func(t *testing.T) {
				g := newRig(t, "fault", Options{Log: silent})
				if name == "no space" {
					g.disk.accountErr = syscall.ENOSPC
				}
				for i := range 100 {
					g.mustPut(fmt.Sprintf("key %d", i%50), fmt.Sprint(i))
				}
				g.close()
				for range 2 {
					before(g.disk)
					if g.disk.state.state == stateDamaged {
						t.Fatal("the mark is not read")
					}
					g.open()
					g.mustPut("key 1", "new")
					if end == "closed" {
						g.close()
					} else {
						g.crash()
					}
				}
				g.disk.accountErr = nil
				g.open() // with an account again
				g.want("key 49", "99")
				g.want("key 1", "new")
				g.close()
				if g.disk.state.state != stateClosed || g.disk.accountBytes == nil {
					t.Fatalf("%+v", g.disk.state)
				}
			})
		}
	}
}

// A missing, damaged or older account or mark counts as a loss, too, because other losses cannot be excluded then.
func TestALostAccountIsNoticed(t *testing.T) {
	g := loaded(t)
	dir := shardDir(g.o.Dir, 0)
	files := map[string][]byte{}
	for _, name := range []string{accountName, stateName} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = b
	}
	g.open()
	g.mustPut("one more", "x")
	g.close()
	later, err := os.ReadFile(filepath.Join(dir, accountName))
	if err != nil || bytes.Equal(later, files[accountName]) {
		t.Fatal("the account did not change: ", err)
	}
	for _, c := range []struct {
		file string
		b    []byte // nil: it is gone
	}{
		{accountName, nil}, {accountName, later[:len(later)-1]}, {accountName, append(bytes.Clone(later), 0)}, {accountName, []byte{}},
		{accountName, flipped(later, 30)}, {accountName, files[accountName]},
		{stateName, nil}, {stateName, flipped(files[stateName], 3)}, {stateName, files[stateName][:5]},
	} {
		name := filepath.Join(dir, c.file)
		err := os.Remove(name)
		if c.b != nil {
			err = os.WriteFile(name, c.b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		found, err := Inspect(g.o.Dir, nil)
		if err != nil || !strings.HasPrefix(found[0].Damage.Record, c.file+" is ") {
			t.Fatalf("%s of %d bytes: %v, %+v", c.file, len(c.b), err, found)
		}
		if err := g.tryOpen(); err == nil || !strings.Contains(err.Error(), c.file+" is ") || !strings.Contains(err.Error(), "--accept-loss") {
			t.Fatalf("%s of %d bytes: %v", c.file, len(c.b), err)
		}
		g.o.AcceptLoss = true
		g.open()
		g.want("one more", "x")
		g.close()
		g.o.AcceptLoss = false
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 4
	return b
}

// An account is read back as it was written, for slabs of any length. It has one byte for a thousand bytes of the slab.
func TestAccountsAreReadAsTheyWereWritten(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		slabs := newPartition(nil, 0, Options{}).slabs
		pages := 0
		for i := range slabs {
			n := rng.IntN(1 + rng.IntN(5000))
			slabs[i].sums = make([]uint32, n)
			for u := range n - n/3 {
				slabs[i].sums[u] = rng.Uint32()
			}
			pages += n * classes[i].pages
		}
		var b bytes.Buffer
		want, err := writeAccount(&b, slabs, 77)
		if err != nil || b.Len() > pages*pageBytes/1000+len(slabs)*4+24 {
			t.Fatal(err, b.Len(), pages)
		}
		read := newPartition(nil, 0, Options{}).slabs
		short, cut := rng.IntN(len(slabs)), 0
		for i := range read {
			n := len(slabs[i].sums)
			if i == short {
				n /= 2
			}
			read[i].sums = make([]uint32, n)
		}
		seq, crc, err := readAccount(bytes.NewReader(b.Bytes()), read, func(s *slab, unit uint32) {
			if int(s.class) != short || slabs[short].sums[unit] == 0 {
				t.Fatal("nothing was cut off there")
			}
			cut++
		})
		if err != nil || seq != 77 || crc != want {
			t.Fatal(err, seq, crc, want)
		}
		for i := range read {
			if !slices.Equal(read[i].sums, slabs[i].sums[:len(read[i].sums)]) {
				t.Fatal("slab ", i)
			}
		}
		if n := len(slabs[short].sums); cut > n-n/2 || n > 100 && cut == 0 {
			t.Fatal(cut, " of ", n)
		}
	}
}

// FuzzReadAccount reads any bytes as a shard's account and as its mark. They are accepted as a whole, or the sums stay as they were. Accepted bytes are those
// that would have been written.
func FuzzReadAccount(f *testing.F) {
	room := func() []slab {
		slabs := newPartition(nil, 0, Options{}).slabs
		for i := range slabs {
			slabs[i].sums = make([]uint32, i%5)
		}
		return slabs
	}
	some := room()
	for i := range some {
		for u := range some[i].sums {
			some[i].sums[u] = uint32(i*u + 1)
		}
	}
	for _, slabs := range [][]slab{room(), some} {
		var b bytes.Buffer
		if _, err := writeAccount(&b, slabs, 5); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
		f.Add(b.Bytes()[:b.Len()-1])
		f.Add(append(b.Bytes()[:20:20], bytes.Repeat([]byte{0xff}, 200)...))
	}
	f.Add(shardState{seq: 7, state: stateClosed, account: 3}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if m := parseState(b); m.state != stateDamaged && len(b) == stateBytes && !bytes.Equal(m.encode(), b) {
			t.Fatalf("%+v is not what was read", m)
		}
		if len(b) > 24 { // a right checksum, sometimes: else nothing gets past it
			if n := len(b) - 4; b[n] == 0 {
				b = binary.LittleEndian.AppendUint32(bytes.Clone(b[:n]), crc32.Checksum(b[:n], castagnoli))
			}
		}
		slabs := room()
		cut := 0
		seq, crc, err := readAccount(bytes.NewReader(b), slabs, func(s *slab, unit uint32) {
			if cut++; int(unit) < len(s.sums) || cut > len(b)/4 {
				t.Fatal("that was not cut off")
			}
		})
		if err != nil {
			for i := range slabs {
				if slices.ContainsFunc(slabs[i].sums, func(sum uint32) bool { return sum != 0 }) {
					t.Fatal("sums of what is damaged")
				}
			}
			if !errors.Is(err, errAccount) || errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return
		}
		var again bytes.Buffer
		if wrote, err := writeAccount(&again, slabs, seq); cut == 0 && (err != nil || wrote != crc && again.Len() == len(b)) {
			t.Fatal("not what was read: ", err)
		}
	})
}
