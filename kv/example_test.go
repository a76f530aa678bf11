package kv_test

import (
	"fmt"

	"github.com/kvwire/kvwire/kv"
)

// A client that knows the number of partitions finds the owner of each key.
func ExampleShard() {
	for _, key := range []string{"user1", "user2", "user3"} {
		fmt.Println(key, kv.Shard([]byte(key), 4))
	}
	// Output:
	// user1 2
	// user2 2
	// user3 1
}

// The items of a scan's answer, one after the other.
func ExampleNextItem() {
	answer := make([]byte, 0, 64)
	for _, item := range [][2]string{{"a", "1"}, {"b", "22"}} {
		answer, _ = kv.AppendItem(answer, []byte(item[0]), []byte(item[1]))
	}
	for len(answer) > 0 {
		key, value, rest, ok := kv.NextItem(answer)
		if !ok {
			break
		}
		fmt.Printf("%s = %s\n", key, value)
		answer = rest
	}
	// Output:
	// a = 1
	// b = 22
}
