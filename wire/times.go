package wire

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"sync"
)

// TimesBytes is the size of the times that follow the header of a reply with FlagTimes.
const TimesBytes = 56

// Times are a request's durations at the server, in ns. On the wire each is a u64, in this order.
type Times struct {
	Notify, Queue, Store, Disk, Submit uint64 // see kv.Stage

	Arrived uint64 // when its last bytes were received, by the server's CLOCK_MONOTONIC
	Host    uint64 // the machine with that clock (Host); 0: not known
}

func (t *Times) fields() [7]*uint64 {
	return [7]*uint64{&t.Notify, &t.Queue, &t.Store, &t.Disk, &t.Submit, &t.Arrived, &t.Host}
}

// Encode writes the times to b[:TimesBytes].
func (t *Times) Encode(b []byte) {
	_ = b[TimesBytes-1]
	for i, f := range t.fields() {
		binary.LittleEndian.PutUint64(b[8*i:], *f)
	}
}

// timesMax bounds each time, so that sums do not overflow: 36 years in ns.
const timesMax = 1 << 60

// Decode decodes times from b[:TimesBytes]. The error is ErrFormat.
func (t *Times) Decode(b []byte) error {
	_ = b[TimesBytes-1]
	for i, f := range t.fields() {
		if *f = binary.LittleEndian.Uint64(b[8*i:]); *f >= timesMax && f != &t.Host {
			return fmt.Errorf("%w: a time of %d ns", ErrFormat, *f)
		}
	}
	return nil
}

// Server returns the total time at the server, from Arrived on.
func (t *Times) Server() uint64 { return t.Notify + t.Queue + t.Store + t.Disk + t.Submit }

// Host identifies this machine since its boot: it is the same for all processes with the same CLOCK_MONOTONIC. 0: not known.
var Host = sync.OnceValue(func() uint64 {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return 0
	}
	zone, _ := os.ReadFile("/proc/self/timens_offsets") // a time namespace has a clock of its own
	h := fnv.New64a()
	_, _ = h.Write([]byte(strings.TrimSpace(string(id)) + string(zone)))
	return h.Sum64()
})
