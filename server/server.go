// Package server is a kvwire server as a library: the loops, the partitions on them and a listening network, with their counters, Prometheus metrics,
// parking and an orderly shutdown. Package serve, which describes servers by flags, and verify start servers with it. It parses no flags: a Config
// describes the server. It may import store and the interface of networks (transport), but no network.
package server

import (
	"errors"
	"log/slog"
	"os"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport"
)

// Config describes a server. All fields must be set, except those whose comment gives the meaning of the zero value.
type Config struct {
	Network transport.Transport
	Listen  string // an address of that network, such as host:port
	Plan    loop.Plan
	Store   func(shards int) (store.Options, error) // returns the options of a partition; the server sets Engines
	Options transport.ServerOptions
	Flags   map[string]string // returned with the counters
	Log     *slog.Logger      // nil: nothing is logged

	Temporary string // a folder that Close removes; "": none
}

// Server is a running server in this process. Any goroutine except those of its loops may call its methods.
type Server struct {
	log     *slog.Logger
	flags   map[string]string
	group   *loop.Group
	net     transport.Server
	engines store.Engines
	parking parking

	temporary string
}

// Start starts the loops, opens the store and listens. After an error nothing is left. The caller closes the server.
func Start(c Config) (*Server, error) {
	s := &Server{log: c.Log, flags: c.Flags, temporary: c.Temporary}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.open(c); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) open(c Config) (err error) {
	s.group, err = loop.NewGroup(c.Plan, func(l *loop.Loop, shard, shards int) (loop.Partition, error) {
		o, err := c.Store(shards)
		if err != nil {
			return nil, err
		}
		o.Engines = &s.engines
		p, err := store.Open(l, shard, shards, o)
		return p, exit.Named(err)
	})
	if err != nil {
		return err
	}
	for i := range s.group.Net() {
		s.onStats(s.group.Router(i))
	}
	c.Options.Log = s.log
	s.net, err = c.Network.Serve(c.Listen, s.group, c.Options)
	return err
}

// Addr is the address at which the server listens.
func (s *Server) Addr() string { return s.net.Addr() }

// Group returns the server's loops and partitions. The server owns them.
func (s *Server) Group() *loop.Group { return s.group }

// Close closes connections, partitions and loops, in this order, and removes a temporary store. It blocks until all are closed.
func (s *Server) Close() error {
	s.unpark()
	var errs []error
	if s.net != nil {
		errs = append(errs, s.net.Close())
	}
	if s.group != nil {
		errs = append(errs, s.group.Stop())
	}
	if s.temporary != "" {
		errs = append(errs, os.RemoveAll(s.temporary))
	}
	return errors.Join(errs...)
}
