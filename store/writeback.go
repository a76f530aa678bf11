package store

import "sync/atomic"

// writeBack syncs files without O_DIRECT before a store's loops are parked. Otherwise the kernel might write their dirty pages later, while another store is
// measured. A goroutine makes the call, because it blocks. writeBack belongs to the partition's loop.
type writeBack struct {
	upTo    uint64        // the number of writes that the last call covers
	ended   atomic.Bool   // written by the goroutine, read by the loop: the last call has ended
	done    chan struct{} // closed when the last call has ended; nil: there was none
	running bool          // a call has begun, and the loop has not handled its end
}

// busy begins a call of sync if there were writes since the last one, and returns a description until the call has ended; "": none. A failure is logged and ends the wait.
// It changes no answer: the requests were acknowledged before, as their durability allows.
func (w *writeBack) busy(writes uint64, sync func() error, o *Options) string {
	if w.running && w.ended.Load() {
		w.running = false
	}
	if !w.running && w.upTo != writes {
		w.upTo, w.running, w.done = writes, true, make(chan struct{})
		w.ended.Store(false)
		log, done := o.Log, w.done
		go func() {
			defer close(done)
			if err := sync(); err != nil && log != nil {
				log.Warn("the sync of the files before parking has failed", "dir", o.Dir, "reason", err)
			}
			w.ended.Store(true)
		}()
	}
	if w.running {
		return "the kernel writes back what its page cache holds"
	}
	return ""
}

// wait waits for a call under way. It is called before files are closed.
func (w *writeBack) wait() {
	if w.done != nil {
		<-w.done
	}
}
