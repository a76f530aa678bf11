package disk

import (
	"fmt"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"golang.org/x/sys/unix"
)

// aio is Linux' native asynchronous IO. One io_submit submits a turn's transfers; completions are read from memory that the kernel shares; an
// eventfd ends the loop's sleep. It is asynchronous for files with O_DIRECT only.
type aio struct {
	engineBase
	ctx         *sys.AIO
	eventfd     int         // edge-triggered: never read
	rewatch     bool        // the watch could not be set yet
	entries     []sys.IOCB  // of a turn
	unsubmitted []*sys.IOCB // entries that the kernel has not accepted
	events      [64]sys.AIOEvent
}

var _ Engine = (*aio)(nil)
var _ loop.Armer = (*aio)(nil)

func (a *aio) Open(id loop.MemberID, fds []int, _ [][]byte) (err error) {
	a.id, a.fds = id, fds
	a.entries, a.unsubmitted = make([]sys.IOCB, a.o.DepthMax), make([]*sys.IOCB, 0, a.o.DepthMax)
	if a.eventfd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("store: disk engine aio: eventfd: %w (raise ulimit -n)", err)
	}
	if a.ctx, err = sys.OpenAIO(a.o.DepthMax); err != nil {
		_ = unix.Close(a.eventfd)
		return fmt.Errorf("store: disk engine aio: %w", err)
	}
	if err = a.l.WatchRarely(id, a.eventfd, unix.EPOLLIN, 0); err != nil { // rarely: a spinning loop polls the memory instead
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
	n := len(a.unsubmitted)
	if n == cap(a.unsubmitted) || n > 0 && a.unsubmitted[0] != &a.entries[0] {
		return false
	}
	e := &a.entries[n]
	if t.Op == Read {
		e.Read(tag, a.fds[t.File], t.Buf, t.Off, a.eventfd)
	} else {
		e.Write(tag, a.fds[t.File], t.Buf, t.Off, int(a.write), a.eventfd)
	}
	a.unsubmitted = append(a.unsubmitted, e)
	return true
}

func (a *aio) Flush() error {
	rest := a.unsubmitted
	for len(rest) > 0 {
		n, errno := a.ctx.Submit(rest)
		a.calls++
		switch {
		case errno == unix.EINTR:
		case errno == unix.EAGAIN: // no room until something completes
			a.l.Again()
			a.keepRest(rest)
			return nil
		case errno != 0: // the error of the first entry
			a.done.Push(Completion{rest[0].Data, -int32(errno)})
			rest = rest[1:]
			a.l.Again()
		}
		rest = rest[n:]
	}
	a.unsubmitted = a.unsubmitted[:0]
	return nil
}

// keepRest moves the remaining entries to the front of the list.
func (a *aio) keepRest(rest []*sys.IOCB) {
	a.unsubmitted = a.unsubmitted[:copy(a.unsubmitted[:cap(a.unsubmitted)], rest)]
}

// Poll implements loop.Member. It updates counters and finds nothing: the partition reaps.
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
			a.calls++
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

// OnEvent implements loop.Member. The kernel has written to the eventfd; the partition reaps in the same turn.
func (a *aio) OnEvent(_ uint64, res int32, flags uint32) {
	if a.ctx == nil || res < 0 { // the watch has ended
		return
	}
	if a.rewatch = a.l.Rewatch(a.id, a.eventfd, unix.EPOLLIN, 0, flags) != nil; a.rewatch {
		a.l.Again()
	}
}

// Arm checks for completions again. If the shared memory cannot be read, the eventfd suffices: the kernel writes to it after each completion.
func (a *aio) Arm() (bool, error) {
	return a.in.nonEmpty.Load() || a.ctx != nil && a.ctx.Mapped() && a.ctx.Ready(), nil
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
