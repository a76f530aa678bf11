package store

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/store/disk"
)

// model is a map that does what the store should do, with the values that a key may have: one,
// or two after a crash in the middle of a change. "-" stands for absence.
type model struct {
	g    *rig
	rng  *rand.Rand
	keys []string
	may  map[string][]string
	told map[*kv.Request]outcome // of changes under way
	seq  int

	acked, unknown int // changes that were acknowledged, and those that a crash met

	buffers [][]byte // of gets, used again by each batch, and by the next model
	taken   int
}

// buffer has room for the largest value.
func (m *model) buffer() []byte {
	if m.taken == len(m.buffers) {
		m.buffers = append(m.buffers, make([]byte, 0, m.g.o.Limits.MaxValueBytes)) // appends make items of that size, seldom
	}
	m.taken++
	return m.buffers[m.taken-1]
}

func newModel(g *rig, seed uint64, keys int) *model {
	m := &model{g: g, rng: rand.New(rand.NewPCG(seed, 2)), may: map[string][]string{}, told: map[*kv.Request]outcome{}}
	for i := range keys {
		k := fmt.Sprintf("sameprefix%d", i) // the first 8 bytes are the same
		switch i % 8 {
		case 0:
			k = fmt.Sprint(i)
		case 1:
			k += strings.Repeat("\x00", i%5)
		case 2:
			k = fmt.Sprintf("%s%d", strings.Repeat("L", min(i*8, 1000)), i)
		}
		m.keys = append(m.keys, k)
		m.may[k] = []string{"-"}
	}
	return m
}

// value makes one of a length that falls into all kinds of classes, never twice the same.
func (m *model) value() string {
	m.seq++
	n := 0
	switch m.rng.IntN(40) {
	case 0:
		n = m.rng.IntN(200_000)
	case 1, 2, 3:
		n = m.rng.IntN(20_000)
	case 4, 5, 6, 7:
		n = m.rng.IntN(5000)
	case 8:
	default:
		n = m.rng.IntN(300)
	}
	v := fmt.Sprintf("%d.", m.seq)
	return v + strings.Repeat(string(rune('a'+m.seq%26)), max(n-len(v), 0))
}

// fill puts every key, all at the same time.
func (m *model) fill() {
	var all []*kv.Request
	for _, k := range m.keys {
		v := m.value()
		r := &kv.Request{Op: kv.OpPut, Key: []byte(k), Value: []byte(v)}
		m.told[r] = outcome{after: v, gives: v}
		all = append(all, r)
	}
	m.g.do(all...)
	for _, r := range all {
		m.acknowledged(r)
	}
}

// foretold is what becomes of a change, and of its key.
type outcome struct {
	status kv.Status
	after  string // what the key has then
	gives  string // what Value must have, with what follows a swap's
}

// change makes one request that changes a key, and foretells what it leads to.
func (m *model) change(key string) *kv.Request {
	r := &kv.Request{Key: []byte(key)}
	was := m.may[key]
	kind := m.rng.IntN(14)
	switch {
	case kind < 3:
		r.Op = kv.OpDelete
		f := outcome{after: "-"}
		if was[0] == "-" {
			f.status = kv.StatusNotFound
		}
		m.told[r] = f
		return r
	case kind < 8 || len(was) > 1:
		r.Op, r.Value = kv.OpPut, []byte(m.value())
		m.told[r] = outcome{after: string(r.Value), gives: string(r.Value)}
		return r
	}
	old, there := was[0], was[0] != "-"
	if !there {
		old = ""
	}
	value := m.value()
	f := outcome{after: was[0], gives: value}
	room := len(old) + len(value) - m.rng.IntN(2)*m.rng.IntN(2) // sometimes one byte less than it needs
	if kind != 8 {
		r.If = []kv.If{kv.Always, kv.IfAbsent, kv.IfPresent}[m.rng.IntN(3)]
	}
	switch kind {
	case 8:
		r.Op, r.If = kv.OpAppend, kv.Always
		switch {
		case len(old)+len(value) > m.g.o.Limits.MaxValueBytes:
			f.status = kv.StatusTooLarge
		case there && room < len(old)+len(value):
			f.status = kv.StatusTooSmall
		default:
			f.after, f.gives = old+value, old+value
		}
	case 9:
		r.Op = kv.OpPut
		f.after = value
	case 10:
		r.Op = kv.OpSwap
		f.after, f.gives = value, value+old
		if there && room < len(old)+len(value) {
			f = outcome{status: kv.StatusTooSmall, after: was[0], gives: value}
		}
	case 12:
		r.Op, r.If, value = kv.OpTake, kv.Always, ""
		room = len(old) - m.rng.IntN(2)*m.rng.IntN(2)
		switch {
		case !there:
			f = outcome{status: kv.StatusNotFound, after: "-"}
		case room < len(old):
			f = outcome{status: kv.StatusTooSmall, after: old}
		default:
			f = outcome{after: "-", gives: old}
		}
	case 13:
		r.Op, r.If, r.Limit = kv.OpPatch, kv.Always, uint32(m.rng.IntN(len(old)+50))
		now := make([]byte, max(len(old), int(r.Limit)+len(value)))
		copy(now, old)
		copy(now[r.Limit:], value)
		room = len(now) - m.rng.IntN(2)*m.rng.IntN(2)
		switch {
		case len(now) > m.g.o.Limits.MaxValueBytes:
			f.status = kv.StatusTooLarge
		case max(room, len(value)) < len(now):
			f.status = kv.StatusTooSmall
		default:
			f.after, f.gives = string(now), string(now)
		}
	default:
		n, err := strconv.ParseInt(old, 10, 64)
		by := m.rng.Int64N(2000) - 1000
		r.Op, r.If, r.Value = kv.OpAdd, kv.Always, binary.LittleEndian.AppendUint64(make([]byte, 0, kv.AddBytes), uint64(by))
		sum := strconv.FormatInt(n+by, 10)
		f = outcome{after: sum, gives: sum}
		if there && err != nil {
			f = outcome{status: kv.StatusNoNumber, after: was[0], gives: string(r.Value)}
		}
		m.told[r] = f
		return r
	}
	if f.status == kv.StatusOK {
		switch {
		case r.If == kv.IfAbsent && there:
			f.status, f.after = kv.StatusExists, was[0]
		case r.If == kv.IfPresent && !there:
			f = outcome{status: kv.StatusNotFound, after: was[0], gives: value}
		}
	}
	r.Value = append(make([]byte, 0, max(room, len(value))), value...)
	m.told[r] = f
	return r
}

func after(r *kv.Request) string {
	if r.Op == kv.OpDelete {
		return "-"
	}
	return string(r.Value)
}

// batch changes some keys and reads others, all at the same time.
func (m *model) batch() {
	t := m.g.t
	t.Helper()
	order := m.rng.Perm(len(m.keys))
	m.taken = 0
	n := 1 + m.rng.IntN(48)
	var all, changes, gets []*kv.Request
	changed := map[string]bool{}
	for _, i := range order[:n] {
		r := m.change(m.keys[i])
		changed[m.keys[i]] = true
		changes = append(changes, r)
		if m.rng.IntN(3) == 0 { // a read at the same time: its answer may be either
			all = append(all, &kv.Request{Op: kv.OpGet, Key: r.Key, Value: m.buffer()})
		}
		all = append(all, r)
	}
	for _, i := range order[n:min(2*n, len(order))] {
		r := &kv.Request{Op: kv.OpGet, Key: []byte(m.keys[i]), Value: m.buffer()}
		gets = append(gets, r)
	}
	scan := &kv.Request{Op: kv.OpScan, Key: []byte(m.keys[order[0]]), Limit: uint32(1 + m.rng.IntN(80)), Value: make([]byte, 0, 1<<m.rng.IntN(20))}
	all = append(append(all, gets...), scan)
	m.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	m.g.do(all...)
	for _, r := range changes {
		m.acknowledged(r)
	}
	for _, r := range gets {
		m.checkGet(r)
	}
	m.checkScan(scan, changed)
}

func (m *model) acknowledged(r *kv.Request) {
	m.g.t.Helper()
	key := string(r.Key)
	f := m.told[r]
	delete(m.told, r)
	if was := m.may[key]; r.Op == kv.OpDelete && len(was) > 1 && r.Status == kv.StatusNotFound {
		f.status = kv.StatusNotFound // it was one of what it may have been
	}
	gives := string(r.Value)
	if r.Op == kv.OpSwap && r.Limit > 0 {
		gives = string(r.Value[:len(r.Value)+int(r.Limit)-1])
	}
	if r.Status != f.status || gives != f.gives {
		m.g.t.Fatalf("%v of %.40q: %v and %s, want %v and %s", r.Op, key, r.Status, short(gives), f.status, short(f.gives))
	}
	m.may[key] = []string{f.after}
	m.acked++
}

func (m *model) checkGet(r *kv.Request) {
	m.g.t.Helper()
	got := string(r.Value)
	switch r.Status {
	case kv.StatusOK:
	case kv.StatusNotFound:
		got = "-"
	default:
		m.g.t.Fatalf("get %.40q: %v", r.Key, r.Status)
	}
	if !slices.Contains(m.may[string(r.Key)], got) {
		m.g.t.Fatalf("get %.40q gives %s, want %s", r.Key, short(got), short(m.may[string(r.Key)][0]))
	}
	m.may[string(r.Key)] = []string{got}
}

// checkScan compares a scan with the model; keys that change at the same time are left aside.
func (m *model) checkScan(r *kv.Request, except map[string]bool) {
	t := m.g.t
	t.Helper()
	keys := slices.Sorted(maps.Keys(m.may))
	i, _ := slices.BinarySearch(keys, string(r.Key))
	keys = keys[i:]
	there := func() { // leave only what the answer must have
		for len(keys) > 0 && (except[keys[0]] || m.may[keys[0]][0] == "-") {
			keys = keys[1:]
		}
	}
	if r.Status == kv.StatusTooSmall {
		return
	}
	if r.Status != kv.StatusOK {
		t.Fatalf("scan from %.40q: %v", r.Key, r.Status)
	}
	items := pairs(r.Value)
	last := ""
	for n, it := range items {
		if n > 0 && it.key <= last {
			t.Fatalf("scan: %.40q after %.40q", it.key, last)
		}
		last = it.key
		if except[it.key] {
			continue
		}
		there()
		if len(keys) == 0 || keys[0] != it.key || m.may[it.key][0] != it.value {
			t.Fatalf("scan: %.40q with %d bytes is not what comes next", it.key, len(it.value))
		}
		keys = keys[1:]
	}
	there()
	if len(items) < int(r.Limit) && !r.More && len(keys) > 0 {
		t.Fatalf("scan ended after %d items without reaching its limit, and without a reason", len(items))
	}
}

// checkAll reads every key, and everything by scans.
func (m *model) checkAll() {
	m.g.t.Helper()
	items, room := 0, 0
	for keys := range slices.Chunk(m.keys, 32) {
		m.taken = 0
		var gets []*kv.Request
		for _, k := range keys {
			gets = append(gets, &kv.Request{Op: kv.OpGet, Key: []byte(k), Value: m.buffer()})
		}
		m.g.do(gets...)
		for i, r := range gets {
			m.checkGet(r)
			if now := m.may[keys[i]][0]; now != "-" {
				items++
				room += kv.ItemHeaderBytes + len(r.Key) + len(now)
			}
		}
	}
	if s := m.g.stats(); int(s.Items) != items {
		m.g.t.Fatalf("%d items in the statistics, %d in the model", s.Items, items)
	}
	r := &kv.Request{Op: kv.OpScan, Limit: 1 << 20, Value: make([]byte, 0, room)}
	m.g.do(r)
	m.checkScan(r, nil)
	if n := len(pairs(r.Value)); n != items {
		m.g.t.Fatalf("a scan of everything has %d items, the model %d", n, items)
	}
}

// rounds is half of n in make test, a tenth in a short run, and five times n in make test-long.
func rounds(n int) int {
	switch {
	case testing.Short():
		return n / 10
	case os.Getenv("KVWIRE_LONG") != "":
		return 5 * n
	}
	return n / 2
}

func TestStoreDoesWhatAMapDoes(t *testing.T) {
	onEvery(t, Options{}, slices.Concat(kinds, []string{"disk-epoll"}, otherEngines), func(t *testing.T, g *rig) {
		t.Parallel()              // it waits for the disk
		m := newModel(g, 7, 3000) // about ten times what the cache holds
		m.fill()
		for range rounds(300) {
			m.batch()
		}
		m.checkAll()
		s := g.stats()
		t.Logf("%d items; disk: %d reads, %d writes; cache: %d hits, %d misses, %d joins", s.Items, s.DiskReads, s.DiskWrites, s.CacheHits, s.CacheMisses, s.CacheJoins)
	})
}

func TestReopenFindsEverything(t *testing.T) {
	onEvery(t, Options{}, append([]string{"disk", "fault", "inplace"}, otherEngines...), func(t *testing.T, g *rig) {
		t.Parallel() // it waits for the disk
		m := newModel(g, 11, 1000)
		m.fill()
		for range map[bool]int{false: 5, true: 2}[testing.Short()] {
			for range rounds(40) {
				m.batch()
			}
			g.close()
			g.open()
			m.checkAll()
			if s := g.stats(); s.CorruptItems != 0 {
				t.Fatalf("%d corrupt items after an orderly close", s.CorruptItems)
			}
		}
	})
}

// After a crash every acknowledged change is there. Each change that was under way has happened
// or not. Items that the crash has torn do not count as damage.
func TestCrashLosesNothingThatWasAcknowledged(t *testing.T) {
	crashModels(t, rounds(125), Options{}, false)
}

// The same after a power cut, if every write is flushed. The disk has a cache, which loses what is not flushed, and files may have their earlier length.
func TestPowerCutLosesNothingThatWasFlushed(t *testing.T) {
	crashModels(t, rounds(25), Options{Durability: DurabilityFlush}, true)
}

// crashModels crashes a store four times for each seed while a model changes it, and compares all keys afterwards.
func crashModels(t *testing.T, seeds int, o Options, cache bool) {
	o.CacheBytes, o.Log = 128*pageBytes, silent
	for _, kind := range []string{"fault", "inplace"} {
		t.Run(kind, func(t *testing.T) {
			crashes, acked, unknown := 0, 0, 0
			var unfinished, tombstones uint64
			var buffers [][]byte
			for seed := range uint64(seeds) {
				g := newRig(t, kind, o)
				g.disk.rng, g.disk.cache = rand.New(rand.NewPCG(seed, 3)), cache
				m := newModel(g, seed, 120)
				m.buffers = buffers
				m.fill()
				for range 4 {
					for range 1 + m.rng.IntN(12) {
						m.batch()
					}
					m.crashInFlight()
					crashes++
					g.open()
					s := g.stats()
					if s.CorruptItems != 0 {
						t.Fatalf("seed %d: %d corrupt items after a crash", seed, s.CorruptItems)
					}
					unfinished += s.UnfinishedWrites
					tombstones += s.Tombstones
					m.checkAll()
				}
				acked += m.acked
				unknown += m.unknown
				buffers = m.buffers
				g.close()
			}
			t.Logf("%d crashes: %d acknowledged changes verified, %d of unknown outcome; %d torn writes were discarded, %d tombstones were kept",
				crashes, acked, unknown, unfinished, tombstones)
		})
	}
}

// crashInFlight begins changes, lets some of them end, and crashes.
func (m *model) crashInFlight() {
	var all []*kv.Request
	for _, i := range m.rng.Perm(len(m.keys))[:60] {
		all = append(all, m.change(m.keys[i]))
	}
	m.g.begin(all...)
	wait := m.rng.IntN(len(all))
	done := map[*kv.Request]bool{}
	take := func(r *kv.Request) {
		done[r] = true
		if r.Status == m.told[r].status || r.Status == kv.StatusOK || r.Status == kv.StatusNotFound {
			m.may[string(r.Key)] = []string{m.told[r].after}
			m.acked++
		}
	}
	for range wait {
		take(<-m.g.back)
	}
	m.g.crash()
	for len(m.g.back) > 0 {
		take(<-m.g.back)
	}
	for _, r := range all {
		if !done[r] {
			k := string(r.Key)
			m.may[k] = append(m.may[k], m.told[r].after)
			m.unknown++
		}
	}
	clear(m.told)
}

const childDir = "KVWIRE_STORE_CHILD" // names the folder to a process that is going to be killed

// A process that is killed at any moment leaves on real files everything that it has acknowledged.
func TestKilledProcessLosesNothingThatWasAcknowledged(t *testing.T) {
	testenv.Uring(t)
	if dir := os.Getenv(childDir); dir != "" {
		putUntilKilled(t, dir)
	}
	dir := t.TempDir()
	acked := map[string]int{} // the last acknowledged round of each key
	round := 0
	for range map[bool]int{false: 5, true: 2}[testing.Short()] {
		round = killAfter(t, dir, round, 3000, acked)
		g := newRigIn(t, dir)
		for k, want := range acked {
			v, s := g.get(k)
			var got int
			if _, err := fmt.Sscanf(v, "%d.", &got); s != kv.StatusOK || err != nil || got < want || len(v) != childLength(k, got) {
				t.Fatalf("%s: %v round %d, %d bytes; round %d was acknowledged", k, s, got, len(v), want)
			}
		}
		if n := int(g.stats().Items); n < len(acked) {
			t.Fatalf("%d items, %d were acknowledged", n, len(acked))
		}
		g.close()
	}
}

// childLength makes values of changing classes, some beyond a page.
func childLength(key string, round int) int {
	n := 20 + (round*37+len(key)*11)%1500
	if round%23 == 0 {
		n *= 40
	}
	return n
}

func newRigIn(t *testing.T, dir string) *rig {
	g := &rig{t: t, back: make(chan *kv.Request, 4096),
		o: Options{Backend: Disk, Dir: dir, Limits: testLimits, CacheBytes: 64 * pageBytes, Log: testLog(t)}}
	g.open()
	return g
}

// putUntilKilled puts 64 keys at a time and prints, line by line, which have been acknowledged.
func putUntilKilled(t *testing.T, dir string) {
	g := newRigIn(t, dir)
	var round int
	if _, err := fmt.Sscan(os.Getenv(childDir+"_ROUND"), &round); err != nil {
		t.Fatal(err)
	}
	for {
		out := map[*kv.Request]int{}
		for i := range 64 {
			round++
			key := fmt.Sprintf("key%0*d", 1+i%9, i*31%200)
			v := fmt.Sprintf("%d.", round)
			v += strings.Repeat("v", childLength(key, round)-len(v))
			r := &kv.Request{Op: kv.OpPut, Key: []byte(key), Value: []byte(v)}
			out[r] = round
			g.begin(r)
		}
		for range out {
			r := <-g.back
			if r.Status != kv.StatusOK {
				t.Fatal(r.Status)
			}
			fmt.Fprintf(os.Stderr, "acked %s %d\n", r.Key, out[r])
		}
	}
}

func killAfter(t *testing.T, dir string, round, lines int, acked map[string]int) int {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	c.Env = append(os.Environ(), childDir+"="+dir, fmt.Sprintf("%s_ROUND=%d", childDir, round))
	out, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for s := bufio.NewScanner(out); s.Scan(); {
		var k string
		var r int
		if _, err := fmt.Sscanf(s.Text(), "acked %s %d", &k, &r); err != nil {
			continue
		}
		acked[k] = max(acked[k], r)
		round = max(round, r)
		if n++; n == lines {
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = c.Wait()
	if n < lines {
		t.Fatalf("the process ended by itself after %d puts", n)
	}
	return round + 64 // some that were not acknowledged may have been written
}

// Writes fail at random, also those of several simultaneous changes of a key. Each key has the value that was acknowledged
// last, or that of a later failed change, and no other; and no slot is lost or used twice.
func TestFailedWritesHurtOnlyTheirOwnChange(t *testing.T) {
	for _, kind := range []string{"fault", "inplace"} {
		t.Run(kind, func(t *testing.T) {
			failed := 0
			for seed := range uint64(rounds(20)) {
				g := newRig(t, kind, Options{CacheBytes: 96 * pageBytes, Log: silent})
				rng := rand.New(rand.NewPCG(seed, 9))
				g.disk.writesAnyway = seed%2 == 0
				fails := false
				g.disk.fail = func(t *disk.Transfer) syscall.Errno {
					if fails && t.Op == disk.Write && rng.IntN(6) == 0 {
						failed++
						return syscall.EIO
					}
					return 0
				}
				may := map[string][]string{}
				check := func(when string) {
					t.Helper()
					items := 0
					for k, vs := range may {
						v, s := g.get(k)
						if s == kv.StatusNotFound {
							v = "-"
						} else {
							items++
						}
						if s != kv.StatusOK && s != kv.StatusNotFound || !slices.Contains(vs, v) {
							t.Fatalf("seed %d, %s: get %s: %v %s, which is none of %d", seed, when, k, s, short(v), len(vs))
						}
					}
					st := g.stats()
					if int(st.Items) != items || usedSlots(st) != st.Items+st.Tombstones {
						t.Fatalf("seed %d, %s: %d items, %d counted, %d slots in use, %d tombstones", seed, when, items, st.Items, usedSlots(st), st.Tombstones)
					}
				}
				for range 3 {
					for n := range 20 {
						var all []*kv.Request
						for i := range 1 + rng.IntN(40) {
							k := fmt.Sprintf("key%d", rng.IntN(12))
							r := &kv.Request{Op: kv.OpPut, Key: []byte(k), Value: []byte(fmt.Sprintf("%d.%d.%d.", seed, n, i) + strings.Repeat("v", []int{0, 400, 900, 3000, 9000}[rng.IntN(5)]))}
							if rng.IntN(4) == 0 {
								r.Op = kv.OpDelete
							}
							all = append(all, r)
						}
						g.on(func() { fails = true })
						g.do(all...)
						g.on(func() { fails = false })
						acked := map[string]bool{}
						for _, r := range all {
							switch r.Status {
							case kv.StatusOK:
								acked[string(r.Key)] = true
							case kv.StatusIOError, kv.StatusNotFound: // a delete may have found what another one failed to delete
							default:
								t.Fatal(r.Status)
							}
						}
						for k := range acked {
							may[k] = nil
						}
						for _, r := range all {
							k := string(r.Key)
							if may[k] == nil && !acked[k] {
								may[k] = []string{"-"}
							}
							may[k] = append(may[k], after(r))
						}
						check("running")
					}
					g.close()
					g.open()
					check("after reopening")
				}
				g.close()
			}
			t.Logf("%d writes failed", failed)
		})
	}
}

// A disk with a cache of its own loses some writes at a power cut. A store that flushes every write loses nothing; a store that
// does not flush must lose acknowledged puts, because otherwise this test could not find a missing flush.
func TestPowerCut(t *testing.T) {
	lost := map[string]int{}
	for seed := range uint64(rounds(20)) {
		for _, durability := range []string{DurabilityFlush, DurabilityDevice} {
			g := newRig(t, "fault", Options{Durability: durability, Log: silent})
			g.disk.rng = rand.New(rand.NewPCG(seed, 5))
			g.disk.cache = true
			for i := range 200 {
				g.mustPut(fmt.Sprintf("key%d", i%150), fmt.Sprint(i, strings.Repeat("v", i*7)))
			}
			g.crash()
			g.open()
			for i := 50; i < 200; i++ {
				if v, _ := g.get(fmt.Sprintf("key%d", i%150)); !strings.HasPrefix(v, fmt.Sprint(i, "v")) {
					lost[durability]++
				}
			}
			g.close()
		}
	}
	t.Logf("of %d puts that were acknowledged: %d lost when every write is flushed, %d when not", 150*rounds(20), lost[DurabilityFlush], lost[DurabilityDevice])
	if lost[DurabilityFlush] != 0 || lost[DurabilityDevice] == 0 {
		t.Fail()
	}
}

// Only the last of a key's copies is served: if it is damaged, no older one takes its place, also not after
// the store was opened again.
func TestDamageDoesNotBringAnOlderCopyBack(t *testing.T) {
	for name, at := range map[string]int{"value": 1, "key": -2, "header": -20, "sequence": -3 - headerBytes + 9} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t, "fault", Options{})
			for i := range 300 {
				g.mustPut(fmt.Sprintf("k%02d", i%100), fmt.Sprintf("<round %d of %d>%s", i/100, i%100, strings.Repeat("v", 300)))
			}
			g.close()
			if !g.disk.flip([]byte("<round 2 of 42>"), at) {
				t.Fatal("the item is not on disk")
			}
			var reported strings.Builder
			g.o.Log = slog.New(slog.NewTextHandler(&reported, nil))
			for range 2 {
				g.open()
				if v, s := g.get("k42"); s != kv.StatusCorrupt {
					t.Fatalf("get: %v %s", s, short(v))
				}
				if !strings.Contains(reported.String(), `key \"k42\"`) || g.stats().Items != 100 {
					t.Fatalf("%d items, reported %q", g.stats().Items, &reported)
				}
				g.want("k41", fmt.Sprintf("<round 2 of 41>%s", strings.Repeat("v", 300)))
				g.close()
			}
			g.open()
			g.mustPut("k42", "mended")
			g.want("k42", "mended")
			g.close()
			g.open()
			g.want("k42", "mended")
			g.close()
		})
	}
}
