package store

import (
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
)

// The faults of Options.Fault are injected, and no others. A failed write is undone, whether or not the disk has it, and a delayed write is acknowledged after
// its delay.
func TestFaultsAreInjected(t *testing.T) {
	var fault atomic.Pointer[Fault]
	fault.Store(&Fault{})
	o := Options{Fault: func(write bool) Fault {
		if write {
			return *fault.Load()
		}
		return Fault{}
	}}
	onEvery(t, o, []string{"disk", "disk-epoll"}, func(t *testing.T, g *rig) {
		for _, key := range []string{"small", "large"} {
			value := func(c string) string {
				if key == "large" {
					return c + string(make([]byte, 20_000))
				}
				return c
			}
			fault.Store(&Fault{})
			g.mustPut(key, value("a"))
			for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EROFS} {
				for _, done := range []bool{false, true} { // nobody may be told that nothing was done
					fault.Store(&Fault{Errno: errno, Done: done})
					if s := g.put(key, value("b")); s != kv.StatusIOError {
						t.Fatalf("a write that fails with %v: %v", errno, s)
					}
					g.want(key, value("a"))
				}
			}
			fault.Store(&Fault{Wait: 20 * time.Millisecond})
			began := time.Now()
			g.mustPut(key, value("c"))
			if took := time.Since(began); took < 20*time.Millisecond {
				t.Fatalf("a write that waits 20 ms was acknowledged after %v", took)
			}
			g.want(key, value("c"))
		}
	})
}
