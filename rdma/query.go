//go:build rdma && cgo && linux

package rdma

import (
	"errors"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport"
)

// CallC calls an empty C function once, in the same way as the data path. ok is false if this build has no C.
func CallC() (ok bool) {
	verbs.CallNothing()
	return true
}

// QueryCaps makes a queue pair as for a connection, queries its granted limits, and closes it. Any goroutine may call it.
func QueryCaps(c device.Choice, o Options) (caps Caps, err error) {
	if o, err = o.Defaults(); err != nil {
		return caps, err
	}
	dev, err := verbs.Open(c.Device)
	if err != nil {
		return caps, err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	port, err := dev.Port(c.Port)
	if err != nil {
		return caps, err
	}
	var calls uint64
	cq, err := dev.NewCQ(64, 0, &calls)
	if err != nil {
		return caps, err
	}
	defer func() { err = errors.Join(err, cq.Close()) }()
	qp, err := dev.NewQP(cq, verbs.QPOptions{SendWRs: 16, RecvWRs: 16, Inline: max(o.InlineBytes, 0), Port: c.Port, PKeyIndex: c.PKeyIndex})
	if err != nil {
		return caps, err
	}
	l := dev.Limits
	caps = Caps{Kinds: dev.Kinds(cq), InlineBytes: qp.Inline, MTU: min(port.MTU, o.MTU), MaxMessageBytes: port.MaxMessage, MaxQPs: l.QPs, MaxWRs: l.WRs,
		MaxSGEs: l.SGEs, MaxCQEs: l.CQEs, MaxRdAtomic: l.RdAtomic, MaxInitRdAtomic: l.InitRdAtomic, Vectors: l.Vectors, MaxSRQWRs: l.SRQWRs, MemoryWindows: l.MemoryWindows}
	return caps, qp.Close()
}

// Granted returns what a connection was granted: the most bytes that it sends inline, and the path MTU in bytes. ok is
// false if the connection is not of this transport, or has ended. Any goroutine except the loop's may call it.
func Granted(c transport.Conn) (inlineBytes, mtu int, ok bool) {
	k, is := c.(*conn)
	if !is {
		return 0, 0, false
	}
	l := k.link
	err := l.d.l.Call(func() {
		if l.pair.qp != nil {
			inlineBytes, mtu, ok = max(0, l.out.inlineMax), min(l.pair.own.mtu, l.pair.peer.mtu), true
		}
	})
	return inlineBytes, mtu, ok && err == nil
}
