package disk

import (
	"fmt"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"golang.org/x/sys/unix"
)

// aio is Linux' native asynchronous IO: one io_submit hands a turn's transfers over, completions are read in the memory that
// the kernel shares, and an eventfd ends the loop's sleep. It is asynchronous for files with O_DIRECT only.
type aio struct {
	engineBase
	ctx     *sys.AIO
	eventfd int         // edge-triggered: never read
	rewatch bool        // there was no room for it
	entries []sys.IOCB  // a turn's
	list    []*sys.IOCB // those that the kernel has not taken
	events  [64]sys.AIOEvent
}

var _ Engine = (*aio)(nil)
var _ loop.Armer = (*aio)(nil)

func (a *aio) Open(id loop.MemberID, fds []int, _ [][]byte) (err error) {
	a.id, a.fds = id, fds
	a.entries, a.list = make([]sys.IOCB, a.o.DepthMax), make([]*sys.IOCB, 0, a.o.DepthMax)
	if a.eventfd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("store: disk engine aio: eventfd: %w (raise ulimit -n)", err)
	}
	if a.ctx, err = sys.OpenAIO(a.o.DepthMax); err != nil {
		_ = unix.Close(a.eventfd)
		return fmt.Errorf("store: disk engine aio: %w", err)
	}
	if err = a.l.WatchRarely(id, a.eventfd, unix.EPOLLIN, 0); err != nil { // rarely: a loop that spins looks at the memory
		a.Close()
	}
	return err
}

// Submit appends an entry to the list. While the kernel has not accepted all of the last turn's entries, it returns false.
func (a *aio) Submit(tag uint64, t *Transfer) bool {
	if t.Op == Grow {
		a.grow(tag, t)
		return true
	}
	n := len(a.list)
	if n == cap(a.list) || n > 0 && a.list[0] != &a.entries[0] {
		return false
	}
	e := &a.entries[n]
	if t.Op == Read {
		e.Read(tag, a.fds[t.File], t.Buf, t.Off, a.eventfd)
	} else {
		e.Write(tag, a.fds[t.File], t.Buf, t.Off, int(a.write), a.eventfd)
	}
	a.list = append(a.list, e)
	return true
}

func (a *aio) Flush() error {
	rest := a.list
	for len(rest) > 0 {
		n, errno := a.ctx.Submit(rest)
		a.made++
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN: // no room until something completes
			a.l.Again()
			a.keep(rest)
			return nil
		case errno != 0: // about the first one
			a.done.put(Completion{rest[0].Data, -int32(errno)})
			rest = rest[1:]
			a.l.Again()
		}
		rest = rest[n:]
	}
	a.list = a.list[:0]
	return nil
}

// keep moves what is left to the front of the list.
func (a *aio) keep(rest []*sys.IOCB) { a.list = a.list[:copy(a.list[:cap(a.list)], rest)] }

// Poll counts, and finds nothing: the partition reaps.
func (a *aio) Poll() int {
	a.reportCalls(a.Calls())
	if a.rewatch {
		a.OnEvent(0, 0, 0)
	}
	return 0
}

func (a *aio) Reap(done []Completion) int {
	n := a.engineBase.Reap(done)
	for n < len(done) && a.ctx.Ready() {
		k := a.ctx.Reap(a.events[:min(len(a.events), len(done)-n)])
		if !a.ctx.Mapped() {
			a.made++
		}
		for _, e := range a.events[:k] {
			done[n] = Completion{e.Data, int32(e.Res)}
			n++
		}
		if k == 0 {
			break
		}
	}
	return n
}

// OnEvent comes after a write to the eventfd. The partition reaps in the same turn.
func (a *aio) OnEvent(_ uint64, res int32, flags uint32) {
	if a.ctx == nil || res < 0 { // the watch has been ended
		return
	}
	if a.rewatch = a.l.Rewatch(a.id, a.eventfd, unix.EPOLLIN, 0, flags) != nil; a.rewatch {
		a.l.Again()
	}
}

// Arm looks once more. Without the shared memory the eventfd must do: it is written after each completion.
func (a *aio) Arm() (bool, error) {
	return a.in.some.Load() || a.ctx != nil && a.ctx.Mapped() && a.ctx.Ready(), nil
}

// Close frees the context.
func (a *aio) Close() bool {
	if a.ctx != nil {
		a.l.UnwatchRarely(a.id, a.eventfd, 0)
		_ = a.ctx.Close()
		_ = unix.Close(a.eventfd)
		a.ctx = nil
	}
	return true
}
