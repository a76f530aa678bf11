package ring_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	. "github.com/kvwire/kvwire/internal/ring"
	"golang.org/x/sys/unix"
)

// pair is two connected stream sockets.
func pair(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[0]); _ = unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// Bytes arrive in the order in which they were sent, in whatever buffers, and an empty group is an error.
func TestMultishotReceivesIntoProvidedBuffers(t *testing.T) {
	for _, bundle := range []bool{false, true} {
		r := open(t, Options{Entries: 8, DeferTaskrun: true})
		if bundle && !r.Bundles() {
			t.Skip("this kernel has no bundles")
		}
		const n, size = 4, 64
		bufs, err := r.Provide(n, size)
		if err != nil {
			t.Fatal(err)
		}
		in, out := pair(t)
		rng := rand.New(rand.NewPCG(1, 2))
		armed, empty := false, 0
		var want, got []byte
		for range 200 {
			b := make([]byte, 1+rng.IntN(2*n*size))
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			if _, err := unix.Write(out, b); err != nil {
				t.Fatal(err)
			}
			want = append(want, b...)
			for len(got) < len(want) {
				if !armed {
					r.Next(1).RecvMultishot(in, bufs.Group(), bundle)
					armed = true
				}
				for _, c := range wait(t, r, 1) {
					armed = armed && c.Flags&CQEFMore != 0
					if c.Res == -int32(unix.ENOBUFS) {
						empty++
						continue
					}
					if c.Res <= 0 || c.Flags&CQEFBuffer == 0 {
						t.Fatalf("completion %+v", c)
					}
					for id, left := BufferOf(c.Flags), int(c.Res); left > 0; {
						k := min(left, size)
						got = append(got, bufs.Bytes(id, k)...)
						left -= k
						next := bufs.Next(id)
						bufs.Give(id)
						id = next
					}
				}
				bufs.Publish()
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("bundle %v: other bytes than were sent", bundle)
			}
			got, want = got[:0], want[:0]
		}
		if empty == 0 && !bundle { // a bundle ends with the last one
			t.Error("more came than the buffers hold, and never was one missing")
		}
		if armed {
			r.Next(2).Cancel(1)
			for armed {
				for _, c := range wait(t, r, 1) {
					armed = armed && (c.UserData != 1 || c.Flags&CQEFMore != 0)
				}
			}
		}
		bufs.Close()
	}
}

func TestABundleSendsItsPiecesInOrder(t *testing.T) {
	r := open(t, Options{Entries: 8})
	if !r.Bundles() {
		t.Skip("this kernel has no bundles")
	}
	group, err := r.Provide(4, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	in, out := pair(t)
	pieces := [][]byte{[]byte("one "), []byte("two "), []byte("three")}
	for range 3 { // around the ring
		for i, p := range pieces {
			group.Add(p, i)
		}
		group.Publish()
		r.Next(1).SendBundle(out, group.Group(), 0)
		if c := wait(t, r, 1)[0]; c.Res != 13 || c.Flags&CQEFMore != 0 {
			t.Fatalf("completion %+v", c)
		}
		b := make([]byte, 100)
		if n, err := unix.Read(in, b); err != nil || string(b[:n]) != "one two three" {
			t.Fatalf("%q, %v", b[:n], err)
		}
	}
}

func TestAChainEndsWhereAnEntryFails(t *testing.T) {
	r := open(t, Options{Entries: 8, DeferTaskrun: true})
	for range 7 { // five more would not fit: the chain may not be cut
		r.Next(9).Nop()
	}
	if !r.Room(5) {
		t.Fatal("no room for 5 of 8")
	}
	for i := range 4 {
		e := r.Next(uint64(i))
		if e.Nop(); i == 1 {
			e.Send(-1, []byte("x"), 0)
		}
		e.Link()
	}
	r.Next(4).Nop()
	results := map[uint64]int32{}
	for _, c := range wait(t, r, 7+5) {
		results[c.UserData] = c.Res
	}
	if results[0] != 0 || results[1] != -int32(unix.EBADF) || results[2] != -int32(unix.ECANCELED) || results[3] != -int32(unix.ECANCELED) || results[4] != -int32(unix.ECANCELED) {
		t.Fatalf("results %v", results)
	}
	if r.Room(9) {
		t.Fatal("room for 9 of 8")
	}
}

func TestFilesAreAddedBehindThoseThatWereRegistered(t *testing.T) {
	r := open(t, Options{Entries: 8})
	in, out := pair(t)
	if err := r.RegisterFiles([]int{in}); err != nil {
		t.Fatal(err)
	}
	place, err := r.AddFile(out)
	if err != nil || place != 1 {
		t.Fatalf("place %d, %v", place, err)
	}
	try := func(place int) int32 {
		e := r.Next(1)
		e.Send(place, []byte("x"), 0)
		e.FixedFile()
		return wait(t, r, 1)[0].Res
	}
	if n := try(place); n != 1 {
		t.Fatalf("a send by place %d: %d", place, n)
	}
	r.DropFile(place)
	if n := try(place); n != -int32(unix.EBADF) {
		t.Fatalf("a send by a place that was given back: %d", n)
	}
	if again, err := r.AddFile(out); err != nil || again != place {
		t.Fatalf("place %d, %v", again, err)
	}
	r.Unregister()
}

func TestASendWithoutCopyReportsWhenItsMemoryIsFree(t *testing.T) {
	r := open(t, Options{Entries: 8})
	if !r.Supports(OpSendmsgZC) {
		t.Skip("this kernel has no SENDMSG_ZC")
	}
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0) // not of AF_UNIX
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	if err := unix.Listen(l, 1); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(l)
	if err != nil {
		t.Fatal(err)
	}
	out, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(out)
	if err := unix.Connect(out, &unix.SockaddrInet4{Port: sa.(*unix.SockaddrInet4).Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	in, _, err := unix.Accept(l)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(in)
	b := make([]byte, 5000)
	r.Next(7).SendZC(out, b, 0)
	c := wait(t, r, 1)
	if c[0].Res != 5000 || c[0].Flags&(CQEFMore|CQEFNotif) != CQEFMore {
		t.Fatalf("the send: %+v", c[0])
	}
	got := make([]byte, 6000)
	if n, err := unix.Read(in, got); n != 5000 || err != nil {
		t.Fatalf("%d B, %v", n, err)
	}
	if c = append(c, wait(t, r, 2-len(c))...); c[1].Flags&CQEFNotif == 0 || c[1].Res&NotifCopied == 0 {
		t.Fatalf("the notification: %+v; on loopback the kernel copies", c[1])
	}
}

// A send with SkipSuccess that may not wait has a completion if it fails or moves only a part of its bytes, and else none.
func TestSilentSendsCompleteUnlessTheySucceed(t *testing.T) {
	for _, message := range []bool{false, true} {
		r := open(t, Options{Entries: 8, DeferTaskrun: true})
		if !r.SkipsSuccess() {
			t.Skip("before Linux 6.1 sends are not silent (SkipsSuccess)")
		}
		in, out := pair(t)
		b := make([]byte, 100_000)
		iov := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
		m := unix.Msghdr{Iov: &iov, Iovlen: 1}
		// send returns the result of a send, and whether it had a completion.
		send := func() (res int, completed bool) {
			e := r.Next(1)
			if message {
				e.Sendmsg(out, &m, unix.MSG_DONTWAIT|unix.MSG_WAITALL|unix.MSG_NOSIGNAL)
			} else {
				e.Send(out, b, unix.MSG_DONTWAIT|unix.MSG_WAITALL|unix.MSG_NOSIGNAL)
			}
			e.SkipSuccess()
			mark := r.Mark()
			r.Next(2).Nop()
			if r.Settled(mark) {
				t.Fatal("it is executed before it was submitted")
			}
			if err := r.Enter(1, 0); err != nil {
				t.Fatal(err)
			}
			var c [8]CQE
			got := c[:r.Reap(c[:])]
			if !r.Settled(mark) {
				t.Fatal("not all that was submitted is executed")
			}
			for _, c := range got {
				if c.UserData == 1 {
					return int(c.Res), true
				}
			}
			return len(b), false
		}
		sent, received := 0, 0
		for n := 0; ; n++ {
			res, completed := send()
			if !completed {
				sent += res
				continue
			}
			if n == 0 || res == len(b) || res < 0 && res != -int(unix.EAGAIN) {
				t.Fatalf("send %d has completed with %d", n, res)
			}
			sent += max(res, 0)
			if res == -int(unix.EAGAIN) {
				break // the socket's buffer is full
			}
		}
		_ = unix.SetNonblock(in, true)
		for buf := make([]byte, 1<<20); ; {
			n, err := unix.Read(in, buf)
			if err != nil {
				break
			}
			received += n
		}
		if sent != received || sent < len(b) {
			t.Errorf("%d bytes were sent, and %d received", sent, received)
		}
		_ = unix.Shutdown(in, unix.SHUT_RDWR)
		if res, completed := send(); !completed || res != -int(unix.EPIPE) {
			t.Errorf("a send to a closed socket: %d, completed: %v", res, completed)
		}
	}
}
