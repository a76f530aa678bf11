// Package units measures what the things cost of which a request is made: a system call, a message through a socket, a wake-up, a
// hop between threads, a copy. A bill of materials multiplies them with how often a run did each. It may import loop, kv,
// lab/stats and internal packages.
//
// All are of CPU time that this process is charged with, on its quiet caches: the least that such a thing costs.
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

// Unit is what one of something costs.
type Unit struct {
	Name string    `json:"name"`
	Ns   float64   `json:"ns"`
	What string    `json:"what"`          // for people
	All  []float64 `json:"all,omitempty"` // of several looks, whose median Ns is
}

// Join adds another look at the same units: the median of all looks counts. One that either has alone is left out, but into
// nothing at all.
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

// rounds are the batches of which the median counts; batchMax is how long each may take, about.
const (
	rounds   = 9
	batchMax = 4 * time.Millisecond
)

// Time is the median over several batches of what f takes for each of the n things that it does.
func Time(f func(n int)) float64 {
	n := 1
	for { // as many as fill a batch
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

// Measure gives all units that this machine and build have, but those of an operation; it takes half a second. callC calls
// into C, and says whether it can. Any goroutine but a loop's.
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

// sockets measures a TCP connection on loopback whose ends are one thread's, so that nobody is woken: the kernel takes a message all
// the way to the other end within the send.
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
		_ = c.Close() // the runtime would be woken by each message
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
			for i := range n { // to and fro, so that no acknowledgement goes alone
				t0 := loop.Nanos()
				_, err := sys.Sendmsg(fds[i%2], &m, 0)
				t1 := loop.Nanos()
				for got := 0; got < bytes && err == nil; {
					var k int
					switch k, err = sys.Recv(fds[1-i%2], buf); {
					case errors.Is(err, unix.EAGAIN): // another CPU is still at it
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

// entry is what a ring's entry costs where many go in one call.
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

// mirror finishes what comes out of its loop's mailbox.
type mirror struct{ l *loop.Loop }

// OnEvent is never called.
func (m *mirror) OnEvent(uint64, int32, uint32) {}

// Poll is loop.Member's.
func (m *mirror) Poll() int { return 0 }

// Stage is loop.Member's.
func (m *mirror) Stage() error { return nil }

// Close is loop.Member's.
func (m *mirror) Close() bool { return true }

// Submit takes a request from the mailbox.
func (m *mirror) Submit(r *kv.Request) { m.l.Finish(r) }

// rally has requests go to and fro between two loops, one of which may be the other. It belongs to the loop that has the
// request; with several requests both are one.
type rally struct {
	loops [2]*loop.Loop
	at    int
	left  int
	done  chan struct{}
}

// Complete sends a request on from the loop that it came to.
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

// pingPong measures two loops, each on a thread of its own. A hop is that of a loop that sends to itself, 64 at a time, and so does
// not sleep. With one request between two loops each sleeps until it comes: what the process is charged with for a way, beside two
// system calls and the hop, is what a sleep costs.
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

// cpu is the process's CPU time, in ns.
func cpu() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return ts.Nano()
}
