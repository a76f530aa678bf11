package udp

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// server is a listening network. The first loop's socket has the address that was asked for. The others have ports of their own, which the server's hello contains.
type server struct {
	addr  string
	loops []*loop.Loop
	ends  []*endpoint // nil: not made
	close sync.Once
}

var _ transport.Server = (*server)(nil)

func serve(addr string, g *loop.Group, o transport.ServerOptions, u Options) (transport.Server, error) {
	o, err := o.Defaults()
	if err != nil {
		return nil, err
	}
	if n := len(g.Net()); n > wire.MaxShards || g.Shards() > wire.MaxShards {
		return nil, fmt.Errorf("transport: %d network loops, %d partitions: at most %d of each", n, g.Shards(), wire.MaxShards)
	}
	s := &server{loops: g.Net(), ends: make([]*endpoint, len(g.Net()))}
	fds := make([]int, len(s.loops))
	ports := make([]uint16, len(s.loops))
	for i := range fds {
		var bound netip.AddrPort
		if fds[i], bound, err = bind("udp", addr); err != nil {
			for _, fd := range fds[:i] {
				_ = unix.Close(fd)
			}
			return nil, err
		}
		ports[i] = bound.Port()
		if i == 0 {
			s.addr = bound.String()
		}
		addr = net.JoinHostPort(bound.Addr().String(), "0")
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	err = loop.TryEach(s.loops, func(i int, l *loop.Loop) (err error) {
		s.ends[i], err = newEndpoint(l, g, i, ports, fds[i], secret, o, u)
		if e := s.ends[i]; e != nil && e.carrier != nil {
			fds[i] = -1 // it belongs to the carrier
		}
		return err
	})
	if err != nil {
		_ = s.Close()
		for _, fd := range fds {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
		}
		return nil, err
	}
	return s, nil
}

// CanListen returns the reason why no server could listen on addr, host:port.
func CanListen(addr string) error {
	fd, _, err := bind("udp", addr)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

// Addr implements transport.Server.
func (s *server) Addr() string { return s.addr }

// Close implements transport.Server. All endpoints close at the same time.
func (s *server) Close() error {
	s.close.Do(func() {
		var wg sync.WaitGroup
		for i, e := range s.ends {
			if e != nil {
				wg.Go(func() { s.loops[i].Remove(e) })
			}
		}
		wg.Wait()
	})
	return nil
}

// Cut implements transport.Server.
func (s *server) Cut() {
	for i, e := range s.ends {
		s.loops[i].Do(e.cut)
	}
}

// Stats implements transport.Server.
func (s *server) Stats() ([]transport.Stats, error) {
	all := make([]transport.Stats, len(s.ends))
	err := loop.TryEach(s.loops, func(i int, _ *loop.Loop) error {
		all[i] = s.ends[i].stats()
		return nil
	})
	return all, err
}

// LoopStats implements transport.Server.
func (s *server) LoopStats(i int) transport.Stats { return s.ends[i].stats() }
