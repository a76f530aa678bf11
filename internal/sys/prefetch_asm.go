//go:build amd64 || arm64

package sys

import "unsafe"

// prefetch asks for so many lines, one at least.
//
//go:noescape
func prefetch(p unsafe.Pointer, lines int)
