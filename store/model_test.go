package store

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
)

// model is a map that does what the store should do, with the values that a key may have: one,
// or two after a crash in the middle of a change. "-" stands for absence.
type model struct {
	g    *rig
	rng  *rand.Rand
	keys []string
	may  map[string][]string
	seq  int
}

func newModel(g *rig, seed uint64, keys int) *model {
	m := &model{g: g, rng: rand.New(rand.NewPCG(seed, 2)), may: map[string][]string{}}
	for i := range keys {
		k := fmt.Sprintf("sameprefix%d", i) // the first 8 bytes tell nothing
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
		all = append(all, &kv.Request{Op: kv.OpPut, Key: []byte(k), Value: []byte(m.value())})
	}
	m.g.do(all...)
	for _, r := range all {
		m.acknowledged(r)
	}
}

// change makes one request that changes a key, and notes what it leads to.
func (m *model) change(key string) *kv.Request {
	if m.rng.IntN(4) == 0 {
		return &kv.Request{Op: kv.OpDelete, Key: []byte(key)}
	}
	return &kv.Request{Op: kv.OpPut, Key: []byte(key), Value: []byte(m.value())}
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
	n := 1 + m.rng.IntN(48)
	var all, changes, gets []*kv.Request
	changed := map[string]bool{}
	for _, i := range order[:n] {
		r := m.change(m.keys[i])
		changed[m.keys[i]] = true
		changes = append(changes, r)
		if m.rng.IntN(3) == 0 { // a read at the same time: its answer may be either
			all = append(all, &kv.Request{Op: kv.OpGet, Key: r.Key, Value: make([]byte, 0, 1<<18)})
		}
		all = append(all, r)
	}
	for _, i := range order[n:min(2*n, len(order))] {
		r := &kv.Request{Op: kv.OpGet, Key: []byte(m.keys[i]), Value: make([]byte, 0, 1<<18)}
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
	was := m.may[key]
	want := kv.StatusOK
	if r.Op == kv.OpDelete && len(was) == 1 && was[0] == "-" {
		want = kv.StatusNotFound
	}
	if r.Status != want {
		m.g.t.Fatalf("%v of %.40q: %v, want %v", r.Op, key, r.Status, want)
	}
	m.may[key] = []string{after(r)}
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
	if len(items) < int(r.Limit) && r.Need != kv.ScanMore && len(keys) > 0 {
		t.Fatalf("scan ended after %d items without reaching its limit, and without a reason", len(items))
	}
}

// checkAll reads every key, and everything by scans.
func (m *model) checkAll() {
	m.g.t.Helper()
	items, room, buf := 0, 0, make([]byte, 0, 1<<18)
	for _, k := range m.keys {
		r := &kv.Request{Op: kv.OpGet, Key: []byte(k), Value: buf}
		m.g.do(r)
		m.checkGet(r)
		if m.may[k][0] != "-" {
			items++
			room += kv.ItemHeaderBytes + len(k) + len(m.may[k][0])
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

func rounds(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

func TestStoreDoesWhatAMapDoes(t *testing.T) {
	onEvery(t, Options{}, slices.Concat(kinds, []string{"disk-epoll"}, otherEngines), func(t *testing.T, g *rig) {
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
	onEvery(t, Options{}, append([]string{"disk", "fault"}, otherEngines...), func(t *testing.T, g *rig) {
		m := newModel(g, 11, 1000)
		m.fill()
		for range 5 {
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

// After a crash every acknowledged change is there, and of those that were under way each has
// happened or not.
func TestCrashLosesNothingThatWasAcknowledged(t *testing.T) {
	for seed := range uint64(rounds(60)) {
		g := newRig(t, "fault", Options{CacheBytes: 128 * pageBytes, Log: func(string) {}})
		g.disk.rng = rand.New(rand.NewPCG(seed, 3))
		m := newModel(g, seed, 120)
		m.fill()
		for range 4 {
			for range 1 + m.rng.IntN(12) {
				m.batch()
			}
			m.crashInFlight()
			g.open()
			m.checkAll()
		}
		g.close()
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
		if r.Status == kv.StatusOK || r.Status == kv.StatusNotFound {
			m.may[string(r.Key)] = []string{after(r)}
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
			m.may[k] = append(m.may[k], after(r))
		}
	}
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
	for range 5 {
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
		o: Options{Backend: Disk, Dir: dir, Limits: testLimits, CacheBytes: 64 * pageBytes, Log: func(s string) { t.Log(s) }}}
	g.open()
	return g
}

// putUntilKilled puts 64 keys at a time and tells, line by line, which have been acknowledged.
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
