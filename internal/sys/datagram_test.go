package sys

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// One message of three datagrams is received with their sizes, as one message or as several.
func TestSegmentsKeepTheSizesOfDatagrams(t *testing.T) {
	socket := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	from, to := socket(), socket()
	if !AskSegments(to) || !AskSegments(from) {
		t.Skip("this kernel has no UDP_SEGMENT or no UDP_GRO")
	}
	at, err := unix.Getsockname(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(from, at); err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789"), 24)
	var v unix.Iovec
	var room SegmentRoom
	m := make([]Datagram, 1)
	SetIovec(&v, sent)
	m[0].Hdr.Iov = &v
	m[0].Hdr.SetIovlen(1)
	m[0].SetSegments(&room, 100)
	if n, err := Sendmmsg(from, m); n != 1 || err != nil {
		t.Fatalf("%d messages, %v", n, err)
	}
	var got []byte
	var sizes []int
	for len(got) < len(sent) {
		p := []unix.PollFd{{Fd: int32(to), Events: unix.POLLIN}}
		if n, err := unix.Poll(p, 10_000); n != 1 && err != unix.EINTR {
			t.Fatalf("%d B, and nothing more comes: %v", len(got), err)
		}
		b := make([]byte, 1000)
		in := make([]Datagram, 1)
		SetIovec(&v, b)
		in[0].Hdr.Iov = &v
		in[0].Hdr.SetIovlen(1)
		in[0].SetSegmentRoom(&room)
		if n, err := Recvmmsg(to, in); n != 1 || err != nil {
			t.Fatalf("%d messages, %v", n, err)
		}
		got = append(got, b[:in[0].Len]...)
		for left := int(in[0].Len); left > 0; left -= in[0].Segment() {
			sizes = append(sizes, min(left, in[0].Segment()))
		}
	}
	if !bytes.Equal(got, sent) || len(sizes) != 3 || sizes[0] != 100 || sizes[1] != 100 || sizes[2] != 40 {
		t.Errorf("datagrams of %d B", sizes)
	}
}
