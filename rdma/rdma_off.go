//go:build !rdma || !cgo || !linux

package rdma

import (
	"context"

	"github.com/kvwire/kvwire/loop"
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
