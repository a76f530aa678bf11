//go:build rdma && cgo && linux

package rdma

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport"
	tt "github.com/kvwire/kvwire/transport/transporttest"
)

// Of the device that the test makes, and takes away.
const (
	goneNet   = "kvwgone"
	goneLink  = "rxegone"
	goneAddr  = "10.99.77.1"
	goneReach = goneAddr + "/24"
)

// must runs a command, of ip or rdma.
func must(t *testing.T, line string) {
	t.Helper()
	args := strings.Fields(line)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
}

// goneRig is a server on a device that the test may remove, with eight requests in flight.
func goneRig(t *testing.T, n tt.Network) (*tt.Rig, *tt.Caller, transport.Conn) {
	must(t, "ip link add "+goneNet+" type dummy")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", goneNet).Run() })
	must(t, "ip addr add "+goneReach+" dev "+goneNet)
	must(t, "ip link set "+goneNet+" up")
	must(t, "rdma link add "+goneLink+" type rxe netdev "+goneNet)
	t.Cleanup(func() { _ = exec.Command("rdma", "link", "del", goneLink).Run() })
	n.Host = goneAddr
	r := tt.NewRig(t, n, 1, transport.ServerOptions{StallMax: stopStall})
	conn := r.Dial(transport.DialOptions{Depth: 16})
	c := tt.NewCaller(t, r.Loop, conn)
	c.Expect(tt.Put("k", tt.Fill(5000, 1)), kv.StatusOK)
	r.Parts[0].Hold(t)
	for range 8 {
		c.Submit(tt.Get("k", 5000))
	}
	r.Parts[0].Await(t, 1+8)
	return r, c, conn
}

// TestTheNetworkGoesAway removes, in a guest, device, address or interface under a connection with requests in flight. The requests end
// soon, one way or another; connections over another device do not notice; and when it is back, one can connect again.
func TestTheNetworkGoesAway(t *testing.T) {
	there := need(t, Options{})
	if os.Getenv("KVWIRE_ACCEL") == "" || os.Getuid() != 0 {
		t.Skip("changes network interfaces, so it runs as root in a guest only: make test")
	}
	for _, c := range []struct{ name, away, back, says string }{
		{"AddressRemoved", "ip addr del " + goneReach + " dev " + goneNet, "ip addr add " + goneReach + " dev " + goneNet, ""},
		{"InterfaceDown", "ip link set " + goneNet + " down", "ip link set " + goneNet + " up", "port 1 of " + goneLink + " is down (ip link set " + goneNet + " up"},
	} {
		t.Run(c.name, func(t *testing.T) {
			well := bystander(t, tt.NewRig(t, there, 1, transport.ServerOptions{}))
			r, caller, conn := goneRig(t, there)
			at := time.Now()
			must(t, c.away)
			r.Parts[0].Release(t)
			ended := map[kv.Status]int{}
			for range 8 {
				ended[caller.Next().Status]++
			}
			t.Logf("the 8 requests in flight ended after %v: %v", time.Since(at).Round(time.Millisecond), ended)
			if ended[kv.StatusOK]+ended[kv.StatusUnknown] != 8 {
				t.Errorf("requests in flight ended as %v", ended)
			}
			var err error
			if _ = r.Loop.Call(func() { err = conn.Err() }); ended[kv.StatusUnknown] > 0 && (err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "the peer closed")) {
				t.Errorf("the connection ended with %v, and not with %s", err, c.says)
			} else {
				t.Log(err)
			}
			if conn, err := r.TryDial(transport.DialOptions{}); err == nil {
				conn.Hangup()
			} else if t.Log(err); strings.Contains(err.Error(), "\n") {
				t.Error("that is more than a line")
			}
			well()
			must(t, c.back)
			tt.Until(t, "connections as before", func() bool {
				conn, err := r.TryDial(transport.DialOptions{})
				if err != nil {
					return false
				}
				c := tt.NewCaller(t, r.Loop, conn)
				c.Expect(tt.Get("k", 5000), kv.StatusOK)
				return true
			})
			well()
		})
	}
	t.Run("LinkDeleted", func(t *testing.T) {
		well := bystander(t, tt.NewRig(t, there, 1, transport.ServerOptions{}))
		ended := make(chan error, 1)
		t.Cleanup(func() { // after all that holds the device
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(tt.WaitMax):
				t.Error("server and client have ended and still hold the device")
			}
			well()
		})
		r, caller, _ := goneRig(t, there)
		go func() { ended <- exec.Command("rdma", "link", "del", goneLink).Run() }()
		file := "/sys/class/infiniband/" + goneLink
		tt.Until(t, "the deletion to begin", func() bool {
			_, err := os.Stat(file + "/ports")
			out, _ := exec.Command("rdma", "link", "show", goneLink+"/1").Output()
			return err != nil || len(out) == 0
		})
		_, err := device.Pick(device.Local(), netip.MustParseAddr(goneAddr))
		if t.Log(err); err == nil || strings.Contains(err.Error(), "udevadm") {
			t.Errorf("of a device that is being removed one is told: %v", err)
		}
		// rxe waits until the link is not used; another driver may remove it at once.
		r.Parts[0].Release(t)
		for range 8 {
			if s := caller.Next().Status; s != kv.StatusOK && s != kv.StatusUnknown {
				t.Errorf("a request in flight ended as %v", s)
			}
		}
		well()
	})
}
