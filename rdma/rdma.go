// Package rdma will be the transport over RC queue pairs, behind the same seam as tcp and uring.
// In this version it only says why it is not to be had. It may import transport, loop, wire and
// cgo/verbs, and never the store.
package rdma

import "github.com/kvwire/kvwire/cgo/verbs"

// Unavailable is why this transport cannot run here, as one line with the remedy: a *probe.Refusal.
// In this version it is never nil.
func Unavailable() error { return verbs.Unavailable() }
