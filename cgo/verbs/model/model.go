//go:build rdma && cgo && linux

package model

/*
#include "model.h"
*/
import "C"

import (
	"fmt"
	"syscall"
	"unsafe"
)

// Start sets the link, and the memory that may be registered: mem, a shared mapping of all of fd, a memfd. It may be called once, before a device is opened.
func Start(l Link, fd int, mem []byte) error {
	c := C.struct_model_link{rtt_ns: C.uint64_t(l.RTT), bits_per_s: C.uint64_t(l.BitsPerSecond), mtu: C.uint32_t(l.MTU), wr_ns: C.uint32_t(l.WR),
		doorbell_ns: C.uint32_t(l.Doorbell), read_ns: C.uint32_t(l.Read)}
	if n := C.model_start(&c, C.int(fd), unsafe.Pointer(unsafe.SliceData(mem)), C.size_t(len(mem))); n != 0 {
		return fmt.Errorf("model: start: %w", syscall.Errno(n))
	}
	return nil
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
