//go:build !rdma || !cgo || !linux

package rdma

import (
	"context"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport"
)

// Serve says that this build leaves RDMA out.
func (Transport) Serve(string, *loop.Group, transport.ServerOptions) (transport.Server, error) {
	return nil, Unavailable()
}

// Dial says that this build leaves RDMA out.
func (Transport) Dial(context.Context, *loop.Loop, string, transport.DialOptions) (transport.Conn, error) {
	return nil, Unavailable()
}

// PingPong says that this build leaves RDMA out.
func PingPong(device.Choice) (Pong, error) { return Pong{}, Unavailable() }

// CallC says that this build leaves C out.
func CallC() (ok bool) { return false }

// Ask says that this build leaves RDMA out.
func Ask(device.Choice, Options) (Caps, error) { return Caps{}, Unavailable() }

// Granted is ok for no connection of this build.
func Granted(transport.Conn) (inlineBytes, mtu int, ok bool) { return 0, 0, false }
