// Package units measures the unit costs of this machine: of a system call, a message through a socket, a wake-up, a
// hop between threads, a copy. A bill of materials multiplies them by the counts of a run. It may import loop, kv,
// lab/stats and internal packages.
//
// Unit costs are CPU time of this process, with warm caches: lower bounds of the costs in a run.
package units

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/lab/stats"
	"github.com/kvwire/kvwire/loop"
	"golang.org/x/sys/unix"
)

// Unit is the cost of one operation of a kind.
type Unit struct {
	Name string    `json:"name"`
	Ns   float64   `json:"ns"`
	What string    `json:"what"`          // for people
	All  []float64 `json:"all,omitempty"` // of several measurements; Ns is their median
}

// Join adds another measurement of the same units, and computes the medians. A unit that only one side has is left out, unless
// had is empty.
func Join(had, more []Unit) (all []Unit) {
	if len(had) == 0 {
		had = make([]Unit, len(more))
		for i, u := range more {
			had[i] = Unit{Name: u.Name, What: u.What}
		}
	}
	for _, u := range had {
		i := slices.IndexFunc(more, func(m Unit) bool { return m.Name == u.Name })
		if i < 0 {
			continue
		}
		u.All = append(slices.Clone(u.All), more[i].Ns)
		u.Ns = median(u.All)
		all = append(all, u)
	}
	return all
}

// Names of units.
const (
	Syscall   = "syscall"
	Send      = "send"
	Receive   = "receive"
	SocketKiB = "socket_kib"
	Entry     = "ring_entry"
	Sleep     = "sleep"
	Hop       = "hop"
	CopyKiB   = "copy_kib"
	CgoCall   = "cgo_call"
	Operation = "operation"
	Frame     = "frame"
)

// rounds is the number of batches, whose median counts. batchMax is the approximate duration of a batch.
const (
	rounds   = 9
	batchMax = 4 * time.Millisecond
)

// Time returns the median over several batches of the CPU time that f uses for one of its n operations.
func Time(f func(n int)) float64 {
	n := 1
	for { // find the n that fills a batch
		begun := loop.Nanos()
		f(n)
		if took := time.Duration(loop.Nanos() - begun); took > batchMax/2 || n >= 1<<24 {
			break
		}
		n *= 2
	}
	var each []float64
	for range rounds {
		begun := loop.Nanos()
		f(n)
		each = append(each, float64(loop.Nanos()-begun)/float64(n))
	}
	return median(each)
}

func median(v []float64) float64 { return stats.Median(slices.Sorted(slices.Values(v))) }

// Measure measures all units that this machine and build have, in half a second. callC calls
// into C, or returns false if this build cannot. Any goroutine but a loop's may call it.
func Measure(callC func() bool) ([]Unit, error) {
	syscall := Time(func(n int) {
		for range n {
			unix.Getppid()
		}
	})
	all := []Unit{{Name: Syscall, Ns: syscall, What: "getppid: into the kernel and back"}}
	sockets, err := sockets(syscall)
	if err != nil {
		return nil, err
	}
	all = append(all, sockets...)
	if ring.Built {
		e, err := entry()
		if err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
			return nil, err
		}
		if err == nil {
			all = append(all, Unit{Name: Entry, Ns: e, What: "a NOP on a ring, of 64 in one io_uring_enter, and its completion"})
		}
	}
	sleep, hop, err := pingPong(syscall)
	if err != nil {
		return nil, err
	}
	all = append(all, Unit{Name: Sleep, Ns: sleep, What: "a thread falls asleep and is woken, without the two system calls; counted as voluntary context switches"},
		Unit{Name: Hop, Ns: hop, What: "a request's way into a loop's mailbox and out again, on one thread"})
	from, to := make([]byte, 1<<20), make([]byte, 1<<20)
	all = append(all, Unit{Name: CopyKiB, Ns: Time(func(n int) {
		for i := range n {
			at := i << 10 & (1<<20 - 1)
			copy(to[at:at+1<<10], from[at:at+1<<10])
		}
	}), What: "copying 1 KiB, within 1 MiB"})
	if callC() {
		all = append(all, Unit{Name: CgoCall, Ns: Time(func(n int) {
			for range n {
				callC()
			}
		}), What: "into C and back, as the data path calls it"})
	}
	return all, nil
}

const (
	messageBytes = 64
	largeBytes   = 16 << 10
)

// sockets measures a TCP connection on loopback. One thread has both ends, so no thread wakes up: the kernel delivers a message
// to the other end within the send.
func sockets(syscall float64) ([]Unit, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("calibrate: listen on loopback: %w", err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, fmt.Errorf("calibrate: connect on loopback: %w", err)
	}
	defer a.Close()
	b, err := l.Accept()
	if err != nil {
		return nil, fmt.Errorf("calibrate: accept on loopback: %w", err)
	}
	defer b.Close()
	var fds [2]int
	for i, c := range []net.Conn{a, b} {
		f, err := c.(*net.TCPConn).File()
		if err != nil {
			return nil, fmt.Errorf("calibrate: duplicate a socket: %w", err)
		}
		defer f.Close()
		_ = c.Close() // else each message wakes the runtime
		fds[i] = int(f.Fd())
	}
	clock := Time(func(n int) {
		for range n {
			loop.Nanos()
		}
	})
	var failed error
	both := func(bytes int) (send, receive float64) {
		buf := make([]byte, bytes)
		var v unix.Iovec
		sys.SetIovec(&v, buf)
		m := unix.Msghdr{Iov: &v}
		m.SetIovlen(1)
		var sends, receives []float64
		for range rounds {
			var out, in int64
			const n = 256
			for i := range n { // in both directions, so that no acknowledgement is a packet of its own
				t0 := loop.Nanos()
				_, err := sys.Sendmsg(fds[i%2], &m, 0)
				t1 := loop.Nanos()
				for got := 0; got < bytes && err == nil; {
					var k int
					switch k, err = sys.Recv(fds[1-i%2], buf); {
					case errors.Is(err, unix.EAGAIN): // another CPU still delivers it
						k, err = 0, nil
					case err == nil && k == 0:
						err = unix.ECONNRESET
					}
					got += k
				}
				if err != nil {
					failed = fmt.Errorf("calibrate: a message on loopback: %w", err)
					return 0, 0
				}
				out, in = out+t1-t0, in+loop.Nanos()-t1
			}
			sends, receives = append(sends, float64(out)/n-clock), append(receives, float64(in)/n-clock)
		}
		return median(sends), median(receives)
	}
	send, receive := both(messageBytes)
	largeSend, largeReceive := both(largeBytes)
	perKiB := (largeSend + largeReceive - send - receive) / float64((largeBytes-messageBytes)>>10)
	return []Unit{
		{Name: Send, Ns: max(send-syscall, 0), What: "sendmsg of 64 B over TCP on loopback, including the kernel's work for the receiver, without the system call itself"},
		{Name: Receive, Ns: max(receive-syscall, 0), What: "recv of these bytes, without the system call itself"},
		{Name: SocketKiB, Ns: max(perKiB, 0), What: "each further KiB, into the kernel and out of it"},
	}, failed
}

// entry measures the cost of a ring's entry when one call submits many.
func entry() (float64, error) {
	r, err := ring.Open(ring.Options{Entries: 128, CoopTaskrun: true})
	if err != nil {
		return 0, err
	}
	defer r.Close()
	var cqes [64]ring.CQE
	var failed error
	ns := Time(func(n int) {
		for i := 0; i < n && failed == nil; i += len(cqes) {
			for range cqes {
				r.Next(0).Nop()
			}
			failed = r.Enter(len(cqes), -1)
			for got := 0; got < len(cqes) && failed == nil; {
				got += r.Reap(cqes[:])
			}
		}
	})
	return ns, failed
}

// mirror completes each request from its loop's mailbox.
type mirror struct{ l *loop.Loop }

// OnEvent is never called.
func (m *mirror) OnEvent(uint64, int32, uint32) {}

// Poll implements loop.Member.
func (m *mirror) Poll() int { return 0 }

// Stage implements loop.Member.
func (m *mirror) Stage() error { return nil }

// Close implements loop.Member.
func (m *mirror) Close() bool { return true }

// Submit implements kv.Handler.
func (m *mirror) Submit(r *kv.Request) { m.l.Finish(r) }

// rally sends requests back and forth between two loops, which may be the same loop. It belongs to the loop that has the
// request; with several requests there is only one loop.
type rally struct {
	loops [2]*loop.Loop
	at    int
	left  int
	done  chan struct{}
}

// Complete implements kv.Completer. It sends the request to the other loop.
func (y *rally) Complete(r *kv.Request) {
	y.left--
	switch {
	case y.left > 0:
		y.at = 1 - y.at
		y.loops[y.at].Push(r)
	case y.left == 0:
		close(y.done)
	}
}

// pingPong measures two loops, each on a thread of its own. A hop is measured on a loop that sends 64 requests at a time to
// itself, and so does not sleep. With one request between two loops, each sleeps until it arrives. The CPU time of one way, less two
// system calls and the hop, is the cost of a sleep.
func pingPong(syscall float64) (sleep, hop float64, err error) {
	var loops [2]*loop.Loop
	for i := range loops {
		l, err := loop.Start(loop.Options{Name: fmt.Sprint("unit", i), Sleep: loop.SleepEpoll}, func(l *loop.Loop) error {
			m := &mirror{l: l}
			l.SetLocal(m)
			_, err := l.Add(m)
			return err
		})
		if err != nil {
			return 0, 0, fmt.Errorf("calibrate: %w", err)
		}
		defer func() { _ = l.Stop() }()
		loops[i] = l
	}
	play := func(a, b *loop.Loop, requests, n int) {
		y := &rally{loops: [2]*loop.Loop{a, b}, left: n, done: make(chan struct{})}
		_ = a.Call(func() {
			for range requests {
				a.Push(&kv.Request{Owner: y})
			}
		})
		<-y.done
	}
	hop = Time(func(n int) { play(loops[0], loops[0], 64, n) })
	var each []float64
	for range rounds {
		const n = 500
		before := cpu()
		play(loops[0], loops[1], 1, n)
		each = append(each, float64(cpu()-before)/n)
	}
	return max(median(each)-hop-2*syscall, 0), hop, nil
}

// cpu returns the process's CPU time, in ns.
func cpu() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return ts.Nano()
}
