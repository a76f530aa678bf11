package store

import "sync/atomic"

// writeBack waits, where files go through the kernel's page cache, until what was written is on the disk. The kernel would write dirty pages when it likes, also while
// this store's loops are parked and another store is measured, which would then pay for them. It is a goroutine's work, since the call blocks; a file system in memory
// has nothing to write. It belongs to the partition's loop.
type writeBack struct {
	upTo  uint64        // of transfers.writes: those that the last call covers
	ended atomic.Bool   // written by the goroutine, read by the loop: the last call has ended
	done  chan struct{} // closed at its end; nil: there was none
	under bool          // it has been begun, and nobody has seen its end
}

// busy begins a call of sync where there were writes since the last one, and names it until it has ended. A failure is logged and ends the wait: requests were
// acknowledged before, as their durability promises, and hear nothing of it.
func (w *writeBack) busy(writes uint64, sync func() error, o *Options) string {
	if w.under && w.ended.Load() {
		w.under = false
	}
	if !w.under && w.upTo != writes {
		w.upTo, w.under, w.done = writes, true, make(chan struct{})
		w.ended.Store(false)
		log, done := o.Log, w.done
		go func() {
			defer close(done)
			if err := sync(); err != nil && log != nil {
				log.Warn("writing back failed", "dir", o.Dir, "reason", err)
			}
			w.ended.Store(true)
		}()
	}
	if w.under {
		return "the kernel writes back what its page cache holds"
	}
	return ""
}

// wait waits for a call that is under way, before files are closed.
func (w *writeBack) wait() {
	if w.done != nil {
		<-w.done
	}
}
