package main

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/transport/socket"
	"golang.org/x/sys/unix"
)

// checked is what serve --check has found of one thing.
type checked struct {
	What  string `json:"what"`
	OK    bool   `json:"ok"`
	Found string `json:"found"` // or why not, and what to do
}

// checks are findings, and the exit code of the first one that stands in the way.
type checks struct {
	all    []checked
	failed int
	code   int
}

func (c *checks) add(what, found string, err error) {
	if err == nil {
		c.all = append(c.all, checked{what, true, found})
		return
	}
	if c.failed++; c.failed == 1 {
		c.code = exit.Code(err)
	}
	c.all = append(c.all, checked{what, false, strings.ReplaceAll(err.Error(), "\n", "; ")})
}

// check says of each thing that serve with these flags needs whether it is there, and leaves everything as it is. Flags that contradict each other are an
// error at once, as they are without it.
func (f *factors) check(n *network, plan loop.Plan) error {
	c := &checks{}
	c.add("flags", fmt.Sprintf("they go together: %d loops, %d partitions", plan.Loops(), plan.Keys()), f.checkServerAmounts(&plan))
	works := n.works()
	c.add("transport", n.name+" works here", works)
	listen, err := f.listen, error(nil)
	if !f.sets("listen") {
		listen, err = n.listenOn(7070)
	}
	if works == nil || f.sets("listen") { // else it is the same once more
		if err == nil {
			err = f.canListen(n, listen)
		}
		c.add("listen", listen+" is free", err)
	}
	if _, err := reached(f.metrics); err != nil {
		c.add("metrics", "", err)
	} else if f.access(c, listen); f.metrics != "" {
		c.add("metrics", f.metrics+" is free", bindable(f.metrics))
	}
	said, _ := f.memory(&plan)
	c.add("memory", said, nil) // a server can be started with less
	if n.name == "rdma" {
		found, err := f.pinned(probe.Local(), &plan)
		c.add("pinned", found, err)
	}
	f.settleEngine()
	if f.OnDisk() {
		c.add("disk engine", f.Store.Engine+" works here", f.engineWorks())
		found, err := f.look(plan.Keys())
		c.add("dir", found, err)
	}
	if err := c.print(f.json); err != nil {
		return err
	}
	if c.failed > 0 {
		return exit.With(c.code, fmt.Errorf("%d of %d checks failed", c.failed, len(c.all)))
	}
	return nil
}

// access says who will be let in.
func (f *factors) access(c *checks, listen string) {
	err := f.readGuard(listen)
	_, local := socket.UnixPath(listen)
	switch {
	case err != nil || f.guard.list != nil:
		c.add("access", "only who has a secret is let in", err)
	case listen != "" && local: // by the mode of its file
		c.add("access", "this user and root alone reach "+listen, nil)
	case listen != "": // else where it would listen is not known
		c.add("access", "anybody is let in who reaches "+listen, nil)
	}
}

// print writes the findings, a line each, or one JSON array.
func (c *checks) print(asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(stdout)
		e.SetEscapeHTML(false)
		return e.Encode(c.all)
	}
	for _, l := range c.all {
		state := "ok"
		if !l.OK {
			state = "failed"
		}
		if _, err := fmt.Fprintf(stdout, "%-6s  %-11s  %s\n", state, l.What, l.Found); err != nil {
			return err
		}
	}
	return nil
}

// canListen says why a server of this network could not listen there.
func (f *factors) canListen(n *network, addr string) error {
	if n.name == "rdma" {
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
	sockets := f.TCP.Options().Sockets
	sockets.ReusePort = false // as a server's first listener: nobody else may have the port
	fd, _, err := socket.Listen(addr, sockets)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

// bindable says why nobody could listen there.
func bindable(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w (is the port free, and the address one of this machine?)", err)
	}
	return l.Close()
}

// look says what a store will find in its folder.
func (f *factors) look(shards int) (string, error) {
	o := f.store(shards)
	where := "in " + o.Dir + ": "
	if o.Dir == "" {
		where = "in " + temporaryParent() + ", removed at the end: "
		o.Dir = temporaryParent() + "/kvwire-check" // as it will be named, with a number of its own
	}
	found, err := o.Look(shards)
	return where + found, err
}
