//go:build rdma && cgo && linux

package rdma

import (
	"errors"
	"net"
	"testing"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"golang.org/x/sys/unix"
)

// TestTheDeviceIsOpenBeforeTheServerWaits: memory is registered before the client connects, because the deadline of the hello begins with the connection. So the
// device is open after a call to a port where nobody listens.
func TestTheDeviceIsOpenBeforeTheServerWaits(t *testing.T) {
	n := need(t, Options{})
	o, err := Options{}.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	s, err := net.Listen("tcp", net.JoinHostPort(n.Host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := loop.Start(loop.Options{Sleep: loop.SleepEpoll}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Dial(t.Context(), l, s.Addr().String(), transport.DialOptions{}); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	c, err := pick(s.Addr().(*net.TCPAddr).AddrPort().Addr())
	if err != nil {
		t.Fatal(err)
	}
	open := false
	if err := l.Call(func() {
		m, err := l.Shared(hubKey{c.Device, o}, func() (loop.Member, error) { return nil, errors.New("no hub") })
		if err == nil {
			open = m.(*hub).nic != nil
		}
	}); err != nil || !open {
		t.Errorf("the device is open: %v (%v)", open, err)
	}
	if err := l.Stop(); err != nil {
		t.Error(err)
	}
}
