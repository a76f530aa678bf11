package kv

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
)

func TestItemsRoundTripAndNeverGrowTheAnswer(t *testing.T) {
	b := make([]byte, 0, 64)
	var ok bool
	if b, ok = AppendItem(b, []byte("key"), []byte("value")); !ok {
		t.Fatal("14 bytes do not fit into 64")
	}
	if b, ok = AppendItem(b, nil, nil); !ok {
		t.Fatal("an empty item does not fit")
	}
	whole := len(b)
	if got, ok := AppendItem(b, make([]byte, 20), make([]byte, 19)); ok || len(got) != whole {
		t.Fatal("an item of 45 bytes fits into 44")
	}
	if b, ok = AppendItem(b, make([]byte, 20), make([]byte, 18)); !ok || len(b) != 64 {
		t.Fatalf("an item of exactly the room that is left: %v, %d bytes", ok, len(b))
	}
	k, v, rest, ok := NextItem(b)
	if !ok || string(k) != "key" || string(v) != "value" {
		t.Fatalf("%q=%q, %v", k, v, ok)
	}
	if k, v, rest, ok = NextItem(rest); !ok || len(k)+len(v) != 0 {
		t.Fatalf("the empty item is %q=%q, %v", k, v, ok)
	}
	if _, _, rest, ok = NextItem(rest); !ok || len(rest) != 0 {
		t.Fatalf("%d bytes left, %v", len(rest), ok)
	}
}

func FuzzNextItem(f *testing.F) {
	b, _ := AppendItem(make([]byte, 0, 32), []byte("key"), []byte("value"))
	f.Add(b)
	f.Add([]byte{1, 0, 255, 255, 255, 255, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			k, v, rest, ok := NextItem(b)
			if !ok {
				return
			}
			again, fits := AppendItem(make([]byte, 0, len(b)), k, v)
			if !fits || !bytes.Equal(again, b[:len(b)-len(rest)]) {
				t.Fatalf("%x is read as %x=%x", b, k, v)
			}
			b = rest
		}
	})
}

// The shard of a key is part of the format of files and shard maps.
func TestShardIsStableAndEven(t *testing.T) {
	for key, want := range map[string]uint32{"": 0, "a": 0xc1d04330, "kvwire": Hash([]byte("kvwire"))} {
		if got := Hash([]byte(key)); got != want {
			t.Errorf("Hash(%q) = %#x, it was %#x", key, got, want)
		}
	}
	for _, n := range []int{1, 2, 3, 7, 256} {
		count := make([]int, n)
		for i := range 1000 * n {
			count[Shard(fmt.Appendf(nil, "user%08d", i), n)]++
		}
		for s, c := range count {
			if c < 700 || c > 1300 {
				t.Errorf("%d shards: number %d has %d keys of 1000", n, s, c)
			}
		}
	}
}

func TestLimitsCheck(t *testing.T) {
	l := Limits{MaxKeyBytes: 4, MaxValueBytes: 10}
	for _, c := range []struct {
		r    Request
		want Status
	}{
		{Request{Op: OpGet, Key: []byte("k")}, StatusOK},
		{Request{Op: OpGet}, StatusBadRequest},
		{Request{Op: OpGet, Key: []byte("12345")}, StatusTooLarge},
		{Request{Op: OpGet, Key: []byte("1234"), Value: make([]byte, 100)}, StatusOK}, // room for an answer has no limit
		{Request{Op: OpPut, Key: []byte("k"), Value: make([]byte, 10)}, StatusOK},
		{Request{Op: OpPut, Key: []byte("k"), Value: make([]byte, 11)}, StatusTooLarge},
		{Request{Op: OpDelete}, StatusBadRequest},
		{Request{Op: OpScan, Limit: 1}, StatusOK},
		{Request{Op: OpScan}, StatusBadRequest},
		{Request{Op: OpKeys, Key: make([]byte, PositionBytes), Limit: 1}, StatusOK},
		{Request{Op: OpKeys, Key: make([]byte, PositionBytes)}, StatusBadRequest},
		{Request{Op: OpKeys, Limit: 1}, StatusBadRequest},
		{Request{Op: OpKeys, Key: make([]byte, PositionBytes+1), Limit: 1}, StatusBadRequest},
		{Request{Op: OpStats, Key: []byte("k")}, StatusBadRequest},
		{Request{Op: OpStats, Limit: StatsBrief}, StatusOK},
		{Request{Op: OpStats, Limit: StatsClients}, StatusBadRequest}, // not for clients of the native protocol
		{Request{}, StatusBadRequest},
		{Request{Op: 200, Key: []byte("k")}, StatusBadRequest},
	} {
		if got := l.Check(&c.r); got != c.want {
			t.Errorf("%v with a key of %d B: %v, want %v", c.r.Op, len(c.r.Key), got, c.want)
		}
	}
}

func TestQueueKeepsOrder(t *testing.T) {
	var q Queue
	rs := make([]Request, 5)
	for i := range 4 {
		q.Push(&rs[i])
	}
	q.PushFront(&rs[4])
	all := q.Detach()
	if !q.Empty() || q.Pop() != nil {
		t.Fatal("a queue that was taken has something")
	}
	for _, want := range []int{4, 0, 1, 2, 3} {
		if r := all.Pop(); r != &rs[want] || r.Link != nil {
			t.Fatalf("number %d is out of order, or still linked", want)
		}
	}
	if !all.Empty() {
		t.Fatal("more than was put in")
	}
	all.PushFront(&rs[0])
	all.Push(&rs[1])
	if all.Pop() != &rs[0] || all.Pop() != &rs[1] || !all.Empty() {
		t.Fatal("an empty queue does not begin again")
	}
}

// 144 bytes are a size class of the allocator, and two and a quarter cache lines. Requests are the memory of every connection.
func TestARequestIsNoLargerThanItWas(t *testing.T) {
	if n := reflect.TypeFor[Request]().Size(); n > 144 {
		t.Errorf("%d bytes", n)
	}
}
