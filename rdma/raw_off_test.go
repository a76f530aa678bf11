//go:build !rdma || !cgo || !linux

package rdma

import (
	"net"
	"testing"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/wire"
)

// rawDial is for builds with RDMA.
func rawDial(Options) func(testing.TB, *loop.Loop, net.Conn, int) (net.Conn, wire.ServerHello) {
	return nil
}
