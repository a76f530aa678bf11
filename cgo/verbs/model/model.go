//go:build rdma && cgo && linux

package model

/*
#include "model.h"
*/
import "C"

import (
	"fmt"
	"syscall"
	"time"
	"unsafe"
)

// Start sets the link, and the memory that may be registered: mem, a shared mapping of all of fd, a memfd. It may be called once, before a device is opened.
func Start(l Link, fd int, mem []byte) error {
	c := l.c()
	if n := C.model_start(&c, C.int(fd), unsafe.Pointer(unsafe.SliceData(mem)), C.size_t(len(mem))); n != 0 {
		return fmt.Errorf("model: start: %w", syscall.Errno(n))
	}
	return nil
}

func (l Link) c() C.struct_model_link {
	c := C.struct_model_link{rtt_ns: C.uint64_t(l.RTT), mtu: C.uint32_t(l.MTU), wr_ns: C.uint32_t(l.WR), doorbell_ns: C.uint32_t(l.Doorbell), read_ns: C.uint32_t(l.Read),
		loss: C.uint32_t(l.Loss * (1 << 32)), seed: C.uint64_t(l.Seed)}
	if l.BitsPerSecond != 0 {
		c.kib_time = C.uint64_t(16e9 * 8 * 1024 / float64(l.BitsPerSecond))
	}
	return c
}

// Passage is a message's way over a link, from its first bit to its last one.
type Passage struct {
	Left     time.Duration // until the last bit leaves for the last time
	OnLink   time.Duration // that its packets take on the link, with those that are sent for nothing
	Lost     int           // packets
	From     int           // the first packet that has not arrived, if Unseen
	Unseen   bool          // the packets from that one on are lost, and none behind them shows it: the transport timer will, or the next message
	TooOften bool          // a packet was lost more often than it may be sent again
}

// Pass returns a message's way over an idle link that loses packets, by the model's arithmetic. random is the state of the generator of losses.
func (l Link) Pass(random *uint64, retries, bytes int) Passage {
	c := l.c()
	r := C.uint64_t(*random)
	var p C.struct_model_passage
	C.model_pass(&c, &r, C.uint(retries), 0, C.uint64_t(bytes), 0, &p)
	*random = uint64(r)
	return Passage{Left: time.Duration(p.left >> 4), OnLink: time.Duration(p.link >> 4), Lost: int(p.lost), From: int(p.from), Unseen: p.unseen != 0, TooOften: p.given_up != 0}
}

// Losses is how many packets of this process were lost, and how often only the transport timer showed it.
func Losses() (packets, timers uint64) {
	var o C.struct_model_objects
	C.model_count(&o)
	return uint64(o.lost), uint64(o.unseen)
}

// Symbol is model_symbol, for C: it returns the function of libibverbs with a name.
func Symbol() unsafe.Pointer { return C.model_symbol }

// Objects are what this process has made and not freed, by the names of the rdma tool.
func Objects() map[string]int {
	var o C.struct_model_objects
	C.model_count(&o)
	return map[string]int{"qp": int(o.qps), "cq": int(o.cqs), "mr": int(o.mrs), "pd": int(o.pds), "srq": int(o.srqs)}
}

// RNRs is how often a message of this process has found no receive at its peer.
func RNRs() uint64 {
	var o C.struct_model_objects
	C.model_count(&o)
	return uint64(o.rnrs)
}
