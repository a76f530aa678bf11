package store

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/kv"
)

// residentBytes is what the process has in memory or, pushed out, in swap, without files.
func residentBytes(t *testing.T) int64 {
	t.Helper()
	debug.FreeOSMemory()
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum, found := int64(0), 0
	for s := bufio.NewScanner(f); s.Scan(); {
		for _, line := range []string{"RssAnon: %d kB", "VmSwap: %d kB"} {
			var kib int64
			if _, err := fmt.Sscanf(strings.TrimSpace(s.Text()), line, &kib); err == nil {
				sum += kib << 10
				found++
			}
		}
	}
	if found != 2 {
		t.Fatal("/proc/self/status does not say what memory there is")
	}
	return sum
}

// A store's memory is its cache, its index, and a rest that is bounded, also when it has been opened anew.
func TestMemoryIsCacheIndexAndABoundedRest(t *testing.T) {
	n := 200_000
	if os.Getenv("KVWIRE_LONG") != "" {
		n = 5_000_000
	}
	const cache, valueBytes, rest = 64 << 20, 16, 32 << 20
	const keyBytes = 23
	flat, keys := make([]byte, 0, n*keyBytes), make([][]byte, n)
	for i := range keys {
		flat = fmt.Appendf(flat, "user%019d", uint64(i)*0x9e3779b97f4a7c15>>1) // in no order
		keys[i] = flat[i*keyBytes:]
	}
	before := residentBytes(t)
	g := newRig(t, "disk", Options{CacheBytes: cache, Log: silent})
	newChain(g, operation{op: kv.OpPut, value: valueBytes}, keys, 256).run(t, g.l, n)
	check := func(when string) {
		t.Helper()
		newChain(g, operation{op: kv.OpGet, value: valueBytes}, keys, 64).run(t, g.l, min(n, 200_000)) // fills the cache
		s := g.stats()
		used := residentBytes(t) - before
		more := used - cache - int64(s.IndexBytes)
		t.Logf("%s: %d items, %d MiB: cache %d, index %d, rest %.1f MiB; index %.1f B a key of %d", when, s.Items, used>>20, cache>>20, s.IndexBytes>>20, float64(more)/(1<<20),
			float64(s.IndexBytes)/float64(s.Items), keyBytes)
		if int(s.Items) != n || more > rest+int64(s.FileBytes)/1000 { // a bit for a slot, and a few for a page
			t.Errorf("%s: %d items take %d bytes beyond cache and index", when, s.Items, more)
		}
	}
	check("loaded")
	g.close()
	g.open()
	check("opened anew")
	g.close()
	runtime.KeepAlive(keys)
}
