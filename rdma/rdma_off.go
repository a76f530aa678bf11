//go:build !rdma || !cgo || !linux

package rdma

import (
	"context"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport"
)

// Serve returns Unavailable's error: this build has no RDMA.
func (Transport) Serve(string, *loop.Group, transport.ServerOptions) (transport.Server, error) {
	return nil, Unavailable()
}

// Dial returns Unavailable's error: this build has no RDMA.
func (Transport) Dial(context.Context, *loop.Loop, string, transport.DialOptions) (transport.Conn, error) {
	return nil, Unavailable()
}

// PingPong returns Unavailable's error: this build has no RDMA.
func PingPong(device.Choice) (Pong, error) { return Pong{}, Unavailable() }

// CallC returns false: this build has no C.
func CallC() (ok bool) { return false }

// QueryCaps returns Unavailable's error: this build has no RDMA.
func QueryCaps(device.Choice, Options) (Caps, error) { return Caps{}, Unavailable() }

// Granted returns ok = false: this build has no RDMA connections.
func Granted(transport.Conn) (inlineBytes, mtu int, ok bool) { return 0, 0, false }
