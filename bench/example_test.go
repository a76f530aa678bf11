package bench_test

import (
	"context"
	"fmt"
	"log"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
)

// table is a store in a map: the least that a kv.Handler must do.
type table struct {
	l     *loop.Loop
	items map[string][]byte
}

// Submit does what r asks for, on the loop's goroutine. Finish completes r in the loop's turn, and not from inside Submit.
func (t *table) Submit(r *kv.Request) {
	r.Status = kv.StatusOK
	switch value, found := t.items[string(r.Key)]; {
	case r.Op == kv.OpPut:
		t.items[string(r.Key)] = append(value[:0], r.Value...)
	case r.Op != kv.OpGet:
		r.Status = kv.StatusBadRequest
	case !found:
		r.Status = kv.StatusNotFound
	default:
		r.SetAnswer(value)
	}
	t.l.Finish(r)
}

// The generator loads and measures any kv.Handler: here one of the caller's own, on one loop, with YCSB's mix B and every value checked.
func Example() {
	l, err := loop.Start(loop.Options{Name: "client", Sleep: loop.SleepEpoll}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Stop()
	clients := []bench.Client{{Loop: l, Handler: &table{l, map[string][]byte{}}, InFlight: 8}}
	spec := bench.Spec{Mix: "b", Records: 1000, ValueBytes: 64, Operations: 10_000, Verify: true}

	loaded, err := bench.Load(context.Background(), spec, clients, nil)
	if err != nil {
		log.Fatal(err)
	}
	res, err := bench.Run(context.Background(), spec, clients, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("records:", loaded.Records)
	fmt.Println("operations:", res.Ops, "errors:", res.Errors, "misses:", res.Misses, "wrong values:", res.VerifyFailures)
	fmt.Println("a median was recorded:", res.Lat.ValueAtQuantile(50) > 0)
	// Output:
	// records: 1000
	// operations: 10000 errors: 0 misses: 0 wrong values: 0
	// a median was recorded: true
}
