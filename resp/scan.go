package resp

import (
	"bytes"
	"strconv"
	"sync"
)

// Cursors are the places of SCANs that go on. Redis's cursor is a number, and clients take it for one; ours stands for a key, behind which
// the scan goes on, so that a scan gives keys in order. They are those of a server, whichever connection asks, and the oldest is forgotten when
// there are too many. Its zero value is ready, for any goroutine.
type Cursors struct {
	mu   sync.Mutex
	last uint64
	key  map[uint64][]byte
}

// cursorsMax bounds the scans that can go on.
const cursorsMax = 4096

// After gives a cursor for what comes behind a key, which is copied.
func (c *Cursors) After(key []byte) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.key == nil {
		c.key = map[uint64][]byte{}
	}
	c.last++
	delete(c.key, c.last-cursorsMax)
	c.key[c.last] = append(bytes.Clone(key), 0) // the least key that is greater
	return c.last
}

// Key is where a scan goes on; of cursor 0 the beginning. ok is false where it is not known.
func (c *Cursors) Key(cursor uint64) (key []byte, ok bool) {
	if cursor == 0 {
		return nil, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key, ok = c.key[cursor]
	return key, ok
}

// AppendScan appends SCAN's answer.
func AppendScan(b []byte, cursor uint64, keys [][]byte) []byte {
	b = AppendArray(b, 2)
	b = AppendBulk(b, strconv.FormatUint(cursor, 10))
	b = AppendArray(b, len(keys))
	for _, k := range keys {
		b = AppendBulk(b, k)
	}
	return b
}
