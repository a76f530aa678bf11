package fifo

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// A queue is compared with a slice, through any mix of calls.
func TestAQueueHoldsWhatASliceHolds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		q, want, next := Make[int](rng.IntN(5)), []int(nil), 0
		for range 1000 {
			switch rng.IntN(5) {
			case 0, 1:
				if len(want) == q.Room() {
					continue
				}
				q.Push(next)
				want, next = append(want, next), next+1
			case 2:
				q.Append(next)
				want, next = append(want, next), next+1
			case 3:
				if rng.IntN(50) == 0 {
					q.Grow(len(want) + rng.IntN(4))
				}
			default:
				for n := min(len(want), rng.IntN(4)); n > 0; n-- {
					front := *q.Front()
					if got := q.Pop(); got != want[0] || front != got {
						t.Fatalf("popped %d behind a front of %d, want %d", got, front, want[0])
					}
					want = want[1:]
				}
			}
			if q.Len() != len(want) || q.Room() < q.Len() {
				t.Fatalf("%d items in a room of %d, want %d", q.Len(), q.Room(), len(want))
			}
			for i, v := range want {
				if *q.At(i) != v {
					t.Fatalf("item %d is %d, want %d", i, *q.At(i), v)
				}
			}
		}
	}
}

func TestAnItemCanBeChangedInPlace(t *testing.T) {
	q := Make[[2]int](3)
	for i := range 3 {
		q.Push([2]int{i, 0})
	}
	q.Pop()
	q.Push([2]int{3, 0}) // it lies before the others
	for i := range q.Len() {
		q.At(i)[1] = 10 * q.At(i)[0]
	}
	var got []int
	for q.Len() > 0 {
		got = append(got, q.Pop()[1])
	}
	if want := []int{10, 20, 30}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestAPoppedItemIsNotKeptAlive(t *testing.T) {
	q := Make[*int](2)
	q.Push(new(int))
	q.Pop()
	if i := slices.IndexFunc(q.items, func(p *int) bool { return p != nil }); i >= 0 {
		t.Errorf("place %d still points to the item", i)
	}
}

func TestMisusePanics(t *testing.T) {
	full := Make[int](1)
	full.Push(1)
	for name, f := range map[string]func(){
		"push into a full queue":      func() { full.Push(2) },
		"push into the zero value":    func() { var q Queue[int]; q.Push(1) },
		"pop from an empty queue":     func() { q := Make[int](1); q.Pop() },
		"front of an empty queue":     func() { q := Make[int](1); q.Front() },
		"an item behind the last one": func() { full.At(1) },
		"an item before the first":    func() { full.At(-1) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}

// item is as large as what the queues of the data path hold.
type item struct {
	a uint64
	_ [2]uint64
}

func BenchmarkPushPop(b *testing.B) {
	q := Make[item](63)
	for range 32 {
		q.Push(item{})
	}
	b.ReportAllocs()
	for b.Loop() {
		q.Push(item{a: 1})
		q.Pop()
	}
}

func BenchmarkAppendPop(b *testing.B) {
	var q Queue[item]
	for range 32 {
		q.Append(item{})
	}
	b.ReportAllocs()
	for b.Loop() {
		q.Append(item{a: 1})
		q.Pop()
	}
}

func TestNothingIsAllocatedOnceThereIsRoom(t *testing.T) {
	q := Make[item](8)
	if n := testing.AllocsPerRun(100, func() {
		for range 8 {
			q.Append(item{})
		}
		for range 8 {
			q.Pop()
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
