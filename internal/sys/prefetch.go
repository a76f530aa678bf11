package sys

import "unsafe"

const lineBytes = 64 // of a cache line

// Prefetch asks the CPU for all cache lines of a value, and does not wait for them.
func Prefetch[T any](v *T) {
	prefetch(unsafe.Pointer(v), int(unsafe.Sizeof(*v)+lineBytes-1)/lineBytes)
}

// PrefetchBytes is Prefetch for b, which is not empty.
func PrefetchBytes(b []byte) {
	prefetch(unsafe.Pointer(unsafe.SliceData(b)), (len(b)+lineBytes-1)/lineBytes)
}
