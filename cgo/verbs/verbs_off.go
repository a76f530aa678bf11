//go:build !rdma || !cgo || !linux

package verbs

// Built reports whether this binary was built with the tag rdma, and with cgo.
const Built = false

// Names returns the RDMA devices that libibverbs can use: none without the library.
func Names() ([]string, error) { return nil, nil }
