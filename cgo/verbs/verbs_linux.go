//go:build rdma

package verbs

// Built says whether this binary was built with the tag rdma.
const Built = true
