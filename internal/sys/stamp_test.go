package sys

import (
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestReceivesAreStamped(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	raw, err := b.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	if err := b.SetReadDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	var asked bool
	if err := raw.Control(func(fd uintptr) { asked = AskStamps(int(fd)) }); err != nil || !asked {
		t.Fatalf("the kernel stamps nothing (%v)", err)
	}
	var buf [16]byte
	var control [StampBytes]byte
	for stamped := 0; stamped < 3; { // from some receive on: the kernel turns it on beside us
		before := time.Now().UnixNano()
		if _, err := a.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		var v unix.Iovec
		SetIovec(&v, buf[:])
		m := unix.Msghdr{Iov: &v, Control: &control[0]}
		m.SetIovlen(1)
		m.SetControllen(len(control))
		var n int
		var rerr error
		if err := raw.Read(func(fd uintptr) bool { n, rerr = Recvmsg(int(fd), &m); return rerr != errEAGAIN }); err != nil || rerr != nil || n != 5 {
			t.Fatalf("%d B (%v, %v)", n, err, rerr)
		}
		switch at := Stamp(&m); {
		case at == 0 && stamped == 0:
			if time.Now().After(deadline) {
				t.Fatal("no receive was stamped")
			}
			runtime.Gosched()
			continue
		case at < before || at > time.Now().UnixNano():
			t.Errorf("after %d stamped receives one was stamped %d, which is not between its send at %d and now", stamped, at, before)
		}
		stamped++
		m.SetControllen(0)
		if at := Stamp(&m); at != 0 {
			t.Errorf("without control data the stamp is %d", at)
		}
	}
}
