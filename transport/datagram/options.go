package datagram

import (
	"cmp"
	"fmt"
	"math"
)

// Bounds of the options.
const (
	// MinDatagramBytes is the least size of a datagram: that of a hello's packet.
	MinDatagramBytes = HelloPacketBytes
	// MaxDatagramBytes is the largest size of a datagram of UDP over IPv4.
	MaxDatagramBytes = 65507
	// MaxSlots is the most requests in flight of a session.
	MaxSlots = 1024
	// MaxCredits is the most packets in flight of a session.
	MaxCredits = 4096
	// MaxMessageBytes bounds requests and replies: their packets are numbered by 16 bits, also at the least size of a datagram.
	MaxMessageBytes = 32 << 20
)

// Options are the options of a Client or a Server. Times are in ns. Zero values mean the defaults.
type Options struct {
	DatagramBytes int // largest datagram, with our header; a session has the smaller of its two ends' (1472: Ethernet's MTU less the headers of IPv4 and UDP)
	Credits       int // packets of a session that are in flight to the server; a session has the smaller of its two ends', and one for each slot at least (32)
	MessageBytes  int // largest request and reply (1 MiB + 4 KiB)
	Sessions      int // most sessions (16384)
	Slots         int // server: most requests in flight of a session (256)

	HelloMax   int64 // longest time of a hello; after it a server ends a session without a request (5 s)
	SilentMax  int64 // a session ends if nothing is received for that long (30 s)
	Keep       int64 // client: asks whether the server is there after that long without packets (an eighth of SilentMax)
	TimeoutMin int64 // client: least retransmission time-out (5 ms)
	TimeoutMax int64 // client: longest (500 ms)
	Congestion Congestion
	RateMax    float64 // client, CongestionTimely: rate of a session without congestion, in bytes per second (1.25e9: 10 Gbit/s)

	// Random returns 64 bits that a peer cannot guess. It must not be nil.
	Random func() uint64
}

// defaults replaces zero values by the defaults, and checks the others.
func (o Options) defaults() (Options, error) {
	o.DatagramBytes = cmp.Or(o.DatagramBytes, 1472)
	o.Credits = cmp.Or(o.Credits, 32)
	o.MessageBytes = cmp.Or(o.MessageBytes, 1<<20+4<<10)
	o.Sessions = cmp.Or(o.Sessions, 16384)
	o.Slots = cmp.Or(o.Slots, 256)
	o.HelloMax = cmp.Or(o.HelloMax, 5e9)
	o.SilentMax = cmp.Or(o.SilentMax, 30e9)
	o.Keep = cmp.Or(o.Keep, o.SilentMax/8)
	o.TimeoutMin = cmp.Or(o.TimeoutMin, 5e6)
	o.TimeoutMax = cmp.Or(o.TimeoutMax, 500e6)
	o.RateMax = cmp.Or(o.RateMax, 1.25e9)
	switch {
	case o.DatagramBytes < MinDatagramBytes || o.DatagramBytes > MaxDatagramBytes:
		return o, fmt.Errorf("datagram: datagrams of %d B: %d to %d", o.DatagramBytes, MinDatagramBytes, MaxDatagramBytes)
	case o.Credits < 1 || o.Credits > MaxCredits:
		return o, fmt.Errorf("datagram: %d credits: 1 to %d", o.Credits, MaxCredits)
	case o.MessageBytes < 1 || o.MessageBytes > MaxMessageBytes:
		return o, fmt.Errorf("datagram: messages of %d B: 1 to %d", o.MessageBytes, MaxMessageBytes)
	case o.Sessions < 1 || int64(o.Sessions) > math.MaxUint32:
		return o, fmt.Errorf("datagram: %d sessions: 1 at least", o.Sessions)
	case o.Slots < 1 || o.Slots > MaxSlots:
		return o, fmt.Errorf("datagram: %d slots: 1 to %d", o.Slots, MaxSlots)
	case o.HelloMax < 1 || o.SilentMax < 1 || o.Keep < 1 || o.TimeoutMin < 1 || o.TimeoutMax < o.TimeoutMin || o.TimeoutMax > math.MaxInt64>>timeoutShift:
		return o, fmt.Errorf("datagram: times of %d ns for a hello, %d of silence, %d between questions, time-outs from %d to %d: at least 1 each", o.HelloMax, o.SilentMax, o.Keep, o.TimeoutMin, o.TimeoutMax)
	case !(o.RateMax >= timelyLeast):
		return o, fmt.Errorf("datagram: a rate of %g B/s: %g at least", o.RateMax, timelyLeast)
	case o.Random == nil:
		return o, fmt.Errorf("datagram: no source of random bits")
	}
	return o, nil
}

// control is a queue of packets that belong to no message: hellos, acknowledgements, ends. It is bounded: a packet without room is dropped, as the
// network may do, too.
type control struct {
	packets  []Packet // a ring
	first, n int
}

func newControl(room int) control { return control{packets: make([]Packet, room)} }

// push returns the place for another packet; nil: there is none.
func (q *control) push(count *Counters) *Packet {
	if q.n == len(q.packets) {
		count.Overflows++
		return nil
	}
	p := &q.packets[(q.first+q.n)%len(q.packets)]
	q.n++
	return p
}

// transmit moves packets to out, and returns how many.
func (q *control) transmit(out []Packet) (n int) {
	for n < len(out) && q.n > 0 {
		out[n] = q.packets[q.first]
		q.packets[q.first].Body = [2][]byte{}
		q.first = (q.first + 1) % len(q.packets)
		q.n--
		n++
	}
	return n
}

// table finds sessions by their index.
type table[T any] struct {
	rows []*T
	free []uint32
	most int
}

// put adds a session and returns its index; false: the table is full.
func (t *table[T]) put(s *T) (uint32, bool) {
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		t.rows[i] = s
		return i, true
	}
	if len(t.rows) == t.most {
		return 0, false
	}
	t.rows = append(t.rows, s)
	return uint32(len(t.rows) - 1), true
}

// get returns the session with an index; nil: there is none.
func (t *table[T]) get(i uint32) *T {
	if int64(i) >= int64(len(t.rows)) {
		return nil
	}
	return t.rows[i]
}

// drop removes a session.
func (t *table[T]) drop(i uint32) {
	t.rows[i] = nil
	t.free = append(t.free, i)
}

// len returns the number of sessions.
func (t *table[T]) len() int { return len(t.rows) - len(t.free) }
