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

// Times are how long a request was with the server, in ns. On the wire: each as a u64, in this order.
type Times struct {
	Notify, Queue, Store, Disk, Submit uint64 // see kv.Stage

	Arrived uint64 // when its last bytes were there, by the server's CLOCK_MONOTONIC
	Host    uint64 // whose clock that is (see Host); 0: nobody's
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

// timesMax bounds each time, so that sums do not overflow: 36 years.
const timesMax = 1 << 60

// Decode reads times from b[:TimesBytes]. The error is ErrFormat.
func (t *Times) Decode(b []byte) error {
	_ = b[TimesBytes-1]
	for i, f := range t.fields() {
		if *f = binary.LittleEndian.Uint64(b[8*i:]); *f >= timesMax && f != &t.Host {
			return fmt.Errorf("%w: a time of %d ns", ErrFormat, *f)
		}
	}
	return nil
}

// Server is how long the request was with the server in all, from Arrived on.
func (t *Times) Server() uint64 { return t.Notify + t.Queue + t.Store + t.Disk + t.Submit }

// Host names this machine since its start: the same for all processes whose CLOCK_MONOTONIC is the same clock. 0 where the kernel
// does not say.
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
