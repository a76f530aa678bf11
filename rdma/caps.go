package rdma

import (
	"slices"
	"time"

	"github.com/kvwire/kvwire/cgo/verbs"
)

// Built is true if this build has RDMA.
const Built = verbs.Built

// Verbs returns the names that ParseVerb accepts, the default first.
func Verbs() []string { return slices.Clone(verbNames[:]) }

// Caps are the limits that a queue pair of a device was granted, and the device's own limits.
type Caps struct {
	Kinds           []string `json:"kinds"`          // kinds of queue pairs that the device supports, of RC, UC and UD. kvwire uses RC
	InlineBytes     int      `json:"inline_bytes"`   // as the queue pair reports it
	MTU             int      `json:"path_mtu_bytes"` // the smaller of the port's and the requested one
	MaxMessageBytes int      `json:"max_message_bytes"`
	MaxQPs          int      `json:"max_queue_pairs"`
	MaxWRs          int      `json:"max_work_requests"`  // of a queue
	MaxSGEs         int      `json:"max_sges"`           // of a work request
	MaxCQEs         int      `json:"max_cqes"`           // of a completion queue
	MaxRdAtomic     int      `json:"max_rd_atomic"`      // READs in flight of a queue pair's peer
	MaxInitRdAtomic int      `json:"max_init_rd_atomic"` // READs in flight of the queue pair itself
	Vectors         int      `json:"completion_vectors"`
	MaxSRQWRs       int      `json:"max_srq_wrs"`    // 0: no shared receive queues
	MemoryWindows   bool     `json:"memory_windows"` // of type 2B: with the verbs write and write-poll, a key for a connection's slots opens them to its peer alone
}

// Pong is the result of PingPong.
type Pong struct {
	Trips, Bytes int
	Median       time.Duration // of the round trips
}
