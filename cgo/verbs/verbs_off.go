//go:build !rdma || !cgo || !linux

package verbs

// Built reports whether this binary was built with the tag rdma, and with cgo.
const Built = false

// Names returns the RDMA devices that libibverbs can use: none without the library.
func Names() ([]string, error) { return nil, nil }

// UseModel returns Unavailable's error: this build has no RDMA.
func UseModel(Link) error { return Unavailable() }

// Objects returns nil: this build has no model.
func Objects() map[string]int { return nil }

// RNRs returns 0: this build has no model.
func RNRs() uint64 { return 0 }
