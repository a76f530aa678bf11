package store_test

import (
	"fmt"
	"log"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
)

// completed passes each request back to the goroutine that waits for it.
type completed chan *kv.Request

func (c completed) Complete(r *kv.Request) { c <- r }

// A store in memory on one loop: a put, and a get that reads it. With Backend: store.Disk and Dir it keeps its records.
func Example() {
	var part loop.Partition
	l, err := loop.Start(loop.Options{Name: "store", Sleep: loop.SleepEpoll}, func(l *loop.Loop) (err error) {
		if part, err = store.Open(l, 0, 1, store.Options{Backend: store.Mem}); err != nil {
			return err
		}
		_, err = l.Add(part)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	defer l.Stop()

	back := make(completed, 1)
	do := func(r *kv.Request) *kv.Request {
		r.Owner = back
		l.Do(func() { part.Submit(r) }) // only the partition's loop may call it
		return <-back
	}
	fmt.Println(do(&kv.Request{Op: kv.OpPut, Key: []byte("greeting"), Value: []byte("hello")}).Status)
	get := do(&kv.Request{Op: kv.OpGet, Key: []byte("greeting"), Value: make([]byte, 0, 64)})
	fmt.Printf("%s: %s\n", get.Status, get.Value)
	fmt.Println(do(&kv.Request{Op: kv.OpGet, Key: []byte("no such key")}).Status)
	// Output:
	// ok
	// ok: hello
	// not found
}
