package serve

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/plural"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/udp"
	"golang.org/x/sys/unix"
)

// finding is what `kvwire serve --check` found about one thing that a server needs.
type finding struct {
	What  string `json:"what"`
	OK    bool   `json:"ok"`
	Found string `json:"found"` // or why not, and what to do
}

// findings are those of all things, with the exit code of the first failed one.
type findings struct {
	all    []finding
	failed int
	code   int
}

func (c *findings) add(what, found string, err error) {
	if err == nil {
		c.all = append(c.all, finding{what, true, found})
		return
	}
	if c.failed++; c.failed == 1 {
		c.code = exit.Code(err)
	}
	c.all = append(c.all, finding{what, false, strings.ReplaceAll(err.Error(), "\n", "; ")})
}

// Check prints whether a server with these settings, which CheckServe has checked, and these loops could start. It changes nothing. The error has the exit code of the
// first thing that is missing.
func (s *Settings) Check(plan loop.Plan, w io.Writer, asJSON bool) error {
	n, err := FindNetwork(s.Server.Transport)
	if err != nil {
		return err
	}
	c := s.find(n, &plan)
	if err := c.print(w, asJSON); err != nil {
		return err
	}
	if c.failed > 0 {
		return exit.With(c.code, fmt.Errorf("%d of %d checks failed", c.failed, len(c.all)))
	}
	return nil
}

// find checks one thing after the other.
func (s *Settings) find(n *server.Network, plan *loop.Plan) *findings {
	c := &findings{}
	c.add("flags", fmt.Sprintf("they go together: %s, %s", plural.Of(plan.Loops(), "loop"), plural.Of(plan.Keys(), "partition")), s.checkAmounts(plan))
	works := n.Use(s.Values)
	c.add("transport", n.Name+" works here", works)
	listen, err := s.Listen, error(nil)
	if !s.Given("listen") {
		listen, err = n.Address(s.Values, DefaultPort)
	}
	if works == nil || s.Given("listen") { // else it is the same once more
		if err == nil {
			err = s.canListen(n, listen)
		}
		c.add("listen", listen+" is free", err)
	}
	if _, err := socket.Reachable(s.Metrics); err != nil {
		c.add("metrics", "", err)
	} else if s.checkAccess(c, listen); s.Metrics != "" {
		c.add("metrics", s.Metrics+" is free", bindable(s.Metrics))
	}
	found, _ := s.memory(plan)
	c.add("memory", found, nil) // a server can start with less
	if n.Name == "rdma" && !s.RDMA.Modelled() {
		found, err := s.pinned(probe.Local(), plan)
		c.add("pinned", found, err)
	}
	s.ChooseEngine()
	if s.OnDisk() {
		c.add("disk engine", s.Store.Engine+" works here", s.EngineWorks())
		found, err := s.look(plan.Keys())
		c.add("dir", found, exit.Named(err))
	}
	return c
}

// checkAccess adds the line on which clients may connect.
func (s *Settings) checkAccess(c *findings, listen string) {
	err := s.readAccess(listen)
	_, local := socket.UnixPath(listen)
	switch {
	case err != nil || s.Access.list != nil:
		c.add("access", "only who has a secret is let in", err)
	case listen != "" && local: // by the mode of its file
		c.add("access", "this user and root alone reach "+listen, nil)
	case listen != "": // else where it would listen is not known
		c.add("access", "anybody is let in who reaches "+listen, nil)
	}
}

// print writes the findings, one line each, or one JSON array.
func (c *findings) print(w io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return e.Encode(c.all)
	}
	for _, l := range c.all {
		state := "ok"
		if !l.OK {
			state = "failed"
		}
		if _, err := fmt.Fprintf(w, "%-6s  %-11s  %s\n", state, l.What, l.Found); err != nil {
			return err
		}
	}
	return nil
}

// canListen returns the reason why a server of this network could not listen at an address.
func (s *Settings) canListen(n *server.Network, addr string) error {
	if n.Name == "rdma" {
		at, err := socket.Resolve(addr)
		if err == nil {
			_, err = device.Pick(device.Local(), at)
		}
		if err != nil {
			return err
		}
	}
	if path, local := socket.UnixPath(addr); local {
		return socket.CheckUnix(path)
	}
	if n.Name == "udp" {
		return udp.CanListen(addr)
	}
	sockets := s.TCP.Options().Sockets
	sockets.ReusePort = false // as a server's first listener: no other socket may have the port
	fd, _, err := socket.Listen(addr, sockets)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

// bindable returns the reason why no server could listen at an address.
func bindable(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w (is the port free, and the address one of this machine?)", err)
	}
	return l.Close()
}

// look describes what a store will find in its folder.
func (s *Settings) look(shards int) (string, error) {
	o := s.storeOptions(shards)
	where := "in " + o.Dir + ": "
	if o.Dir == "" {
		where = "in " + TemporaryParent() + ", removed at the end: "
		o.Dir = TemporaryParent() + "/kvwire-check" // as it will be named, with a number of its own
	}
	found, err := o.Look(shards)
	return where + found, err
}
