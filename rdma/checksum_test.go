//go:build rdma && cgo && linux

package rdma

import (
	"testing"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/transporttest"
	"github.com/kvwire/kvwire/wire"
)

// Headers have a checksum with write-poll, and with clients that do not offer the feature, such as those of the hostile tests (rawConn).
func TestOnlyWritePollHasHeaderChecksums(t *testing.T) {
	for _, v := range []Verb{Send, Write, Read, WritePoll} {
		t.Run(v.String(), func(t *testing.T) {
			n := need(t, Options{Verb: v})
			if v == WritePoll {
				leaveProcessors(t)
				n.Wait = loop.WaitSpin
			}
			r := transporttest.NewRig(t, n, 1, transport.ServerOptions{})
			k := r.Dial(transport.DialOptions{}).(*conn)
			c := transporttest.NewCaller(t, r.Loop, k)
			c.Expect(transporttest.Put("key", []byte("value")), kv.StatusOK)
			if g := c.Expect(transporttest.Get("key", 10), kv.StatusOK); string(g.Value) != "value" {
				t.Errorf("got %q", g.Value)
			}
			if bare := k.Hello().Features == wire.FeatureNoChecksum; bare != (v != WritePoll) {
				t.Errorf("features %#x are in use", k.Hello().Features)
			}
		})
	}
}
