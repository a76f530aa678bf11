package socket

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// If servers with a listener for each loop start at the same time, at most one gets the port.
func TestServersThatStartTogetherDoNotShareAPort(t *testing.T) {
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		_ = l.Close()
		var have atomic.Int32
		var begin, all sync.WaitGroup
		begin.Add(1)
		hold := make(chan struct{})
		var ended sync.WaitGroup
		for range 8 {
			all.Add(1)
			ended.Go(func() {
				begin.Wait()
				fds, _, _, err := ListenAll(addr, 3, Options{ReusePort: true})
				if err == nil {
					have.Add(1)
				}
				all.Done()
				<-hold
				for _, fd := range fds {
					_ = unix.Close(fd)
				}
			})
		}
		begin.Done()
		all.Wait()
		if n := have.Load(); n > 1 {
			t.Errorf("%d servers on %s", n, addr)
		}
		close(hold)
		ended.Wait()
	}
}

// All listeners of a server are on the port that the first one has picked.
func TestListenersOfEachLoopShareTheirPort(t *testing.T) {
	fds, bound, _, err := ListenAll("127.0.0.1:0", 4, Options{ReusePort: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		sa, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		if at := PeerName(fd, sa); at != bound {
			t.Errorf("a listener on %s, want %s", at, bound)
		}
		_ = unix.Close(fd)
	}
}
