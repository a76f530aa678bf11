package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport/transporttest"
)

// Setup is a configuration to verify: a row of the table.
type Setup struct {
	Network   string
	Placement loop.Placement
	Backend   store.Backend
	Update    string
	Exe       string // the server's program; "": this one

	Engine     string // of the disk; "": the best one that works here
	Durability string
}

// opsEach returns the number of operations of each client in a history.
func opsEach() int {
	switch {
	case transporttest.Emulated:
		return 60
	case testenv.Short():
		return 120
	}
	return 240
}

// String names a setup in the path of a test.
func (s Setup) String() string {
	t := s.Network + "/" + s.Placement.String() + "/" + s.Backend.String()
	if s.Backend == store.Disk {
		t += "-" + s.Update
	}
	return t
}

// perNetwork is the number of Setups of each network.
const perNetwork = 6

// Setups returns all combinations of network, placement, backend and way of updating.
func Setups() (all []Setup) {
	for _, n := range networks {
		for _, p := range []loop.Placement{loop.Colocated, loop.Dispatched} {
			all = append(all, Setup{Network: n.name, Placement: p, Backend: store.Mem},
				Setup{Network: n.name, Placement: p, Backend: store.Disk, Update: store.UpdateCOW},
				Setup{Network: n.name, Placement: p, Backend: store.Disk, Update: store.UpdateInPlace})
		}
	}
	return all
}

// Available returns the feature that a setup needs, as KVWIRE_REQUIRE names it, and the reason why it does not work here; nil: it works.
func (s Setup) Available() (feature string, err error) {
	n := find(s.Network)
	return n.feature, n.works()
}

// plan has the faults of a history.
type plan struct {
	Cuts       bool // connections are cut
	KillServer bool // the server is killed, and started again on its files
	KillClient bool // a client is killed, and another continues
	Slow, EIO  bool // faults of the disk
}

// plans are used in turn by the histories of a setup, each without the faults that the setup cannot have.
var plans = []plan{
	{},
	{Slow: true, KillServer: true},
	{Cuts: true},
	{EIO: true},
	{KillServer: true},
	{KillClient: true, Cuts: true},
	{Slow: true, Cuts: true},
	{EIO: true, KillServer: true, Cuts: true, Slow: true},
}

// restrict returns the faults that a setup can have: without a network there is no connection to cut, and only one process, the server;
// the backend mem does not survive its server, and has no disk.
func (p plan) restrict(s Setup, n *network) plan {
	if n.local {
		p.Cuts, p.KillClient = false, false
	}
	if s.Backend != store.Disk {
		p.KillServer, p.Slow, p.EIO = false, false, false
	}
	return p
}

// String describes the plan.
func (p plan) String() string {
	var all []string
	for _, f := range []struct {
		planned bool
		text    string
	}{{p.Cuts, "connections cut"}, {p.KillServer, "server killed"}, {p.KillClient, "client killed"}, {p.Slow, "slow disk"}, {p.EIO, "EIO"}} {
		if f.planned {
			all = append(all, f.text)
		}
	}
	if all == nil {
		return "nothing goes wrong"
	}
	return strings.Join(all, ", ")
}

// Figures count what a run has done.
type Figures struct {
	Histories  int
	Operations int // operations whose outcome was checked
	Unknown    int // operations whose outcome is unknown
	Scans      int // of the operations

	Cuts, ServerKills, ClientKills, Slow, EIO int // faults
	Reads                                     int // of the disk
}

// Add sums figures.
func (f *Figures) Add(o Figures) {
	f.Histories += o.Histories
	f.Operations += o.Operations
	f.Unknown += o.Unknown
	f.Scans += o.Scans
	f.Cuts += o.Cuts
	f.ServerKills += o.ServerKills
	f.ClientKills += o.ClientKills
	f.Slow += o.Slow
	f.EIO += o.EIO
	f.Reads += o.Reads
}

// Run makes histories of a setup and checks them, until enough returns true after one of them, until ctx ends, or until one is not
// linearizable. dir is for the store, out for pictures of violations. An error that is only ErrUndecided means that all other histories are linearizable.
func Run(ctx context.Context, s Setup, dir, out string, enough func(Figures) bool) (f Figures, err error) {
	r := &run{s: s, n: find(s.Network), dir: filepath.Join(dir, "store"), events: make(chan message, 1024), live: map[*process]bool{},
		idle: map[*process]bool{}, ready: map[*process]bool{}, f: &f}
	defer r.end()
	if err := r.begin(); err != nil {
		return f, fmt.Errorf("verify %v: %w", s, err)
	}
	var undecided error
	first := rand.IntN(len(plans))
	for i := 0; ctx.Err() == nil; i++ {
		p := plans[(first+i)%len(plans)].restrict(s, r.n)
		h, err := r.history(i, p)
		if err == nil {
			err = r.check(h, out)
		}
		if err != nil {
			err = fmt.Errorf("verify %v: history %d (%v): %w", s, i, p, err)
		}
		switch {
		case errors.Is(err, ErrUndecided):
			undecided = err
		case err != nil:
			return f, err
		}
		if enough(f) {
			break
		}
	}
	err = r.setFaults(faults{}) // the server sends its final counts
	return f, errors.Join(undecided, err)
}

// run has the processes of a setup.
type run struct {
	s      Setup
	n      *network
	dir    string
	f      *Figures
	events chan message
	live   map[*process]bool // processes whose end event is outstanding; false: they are being killed
	last   int               // number of the process that was started last

	server  *process
	addr    string
	faults  faults
	clients []*process

	h      *History          // the present history; nil: none
	done   int               // number of its operations that have returned
	idle   map[*process]bool // clients that have finished their work
	ready  map[*process]bool // servers that have replied to the last order
	before counts            // the server's counts at its last reply
}

// begin starts the server and its clients, and puts the fillers.
func (r *run) begin() error {
	if err := r.serve(); err != nil {
		return err
	}
	for !r.n.local && len(r.clients) < 2 {
		if err := r.newClient(); err != nil {
			return err
		}
	}
	r.work(r.clients[0], work{Task: fillUp})
	return r.await("the fillers", func() bool { return r.idle[r.clients[0]] })
}

func (r *run) start(exe string, o order) (*process, error) {
	r.last++
	p, err := start(exe, r.last, r.events)
	if err != nil {
		return nil, err
	}
	r.live[p] = true
	o.Network, o.Process = r.s.Network, r.last
	p.order(o)
	return p, nil
}

func (r *run) serverConfig() *serverConfig {
	return &serverConfig{r.s.Placement, r.s.Backend, r.s.Update, r.s.Engine, r.s.Durability, r.dir}
}

// serve starts the server on its files, and sends its address to the clients. Without a network it is the client, too.
func (r *run) serve() error {
	p, err := r.start(r.s.Exe, order{Serve: r.serverConfig(), Client: r.n.local, Faults: &r.faults})
	if err != nil {
		return err
	}
	r.server, r.before = p, counts{}
	if err := r.await("the server", func() bool { return r.ready[p] }); err != nil {
		return err
	}
	if r.n.local {
		r.clients, r.idle[p] = []*process{p}, true
	}
	for _, c := range r.clients {
		c.order(order{Addr: r.addr})
	}
	return nil
}

func (r *run) newClient() error {
	p, err := r.start("", order{Client: true, Addr: r.addr})
	if err != nil {
		return err
	}
	r.idle[p] = true
	r.clients = append(r.clients, p)
	return nil
}

func (r *run) work(p *process, w work) {
	r.idle[p] = false
	p.order(order{Work: &w})
}

// setFaults sets the faults of the server's disk.
func (r *run) setFaults(f faults) error {
	r.faults = f
	r.ready[r.server] = false
	r.server.order(order{Faults: &f})
	return r.await("the server", func() bool { return r.ready[r.server] })
}

// await handles events until a condition holds.
func (r *run) await(what string, ok func() bool) error {
	timeout := time.NewTimer(2 * transporttest.WaitMax) // clients give up after one
	defer timeout.Stop()
	for !ok() {
		select {
		case t := <-r.events:
			if err := r.handle(t); err != nil {
				return err
			}
		case <-timeout.C:
			return fmt.Errorf("waited %v for %s", 2*transporttest.WaitMax, what)
		}
	}
	return nil
}

func (r *run) handle(t message) error {
	switch {
	case t.gone:
		killed := !r.live[t.from]
		delete(r.live, t.from)
		if !killed {
			return fmt.Errorf("process %d ended by itself: its error output is above", t.from.number)
		}
		r.idle[t.from] = true
	case t.Kind == failed:
		return fmt.Errorf("process %d: %s", t.from.number, t.Text)
	case t.Kind == ready:
		r.ready[t.from], r.addr = true, t.Text
		r.f.Reads += int(t.Counts.Reads - r.before.Reads)
		r.f.Slow += int(t.Counts.Slow - r.before.Slow)
		r.f.EIO += int(t.Counts.EIO - r.before.EIO)
		r.before = t.Counts
	case t.Kind == cut:
		r.f.Cuts++
	case t.Kind == ended:
		r.idle[t.from] = true
	case r.h != nil:
		r.h.add(t.from.number, t.event)
		if t.Kind == returned {
			r.done++
		}
	}
	return nil
}

// kill kills a process, and waits until all its events are handled.
func (r *run) kill(p *process) error {
	r.live[p] = false
	r.h.note(fmt.Sprintf("process %d is killed", p.number))
	p.kill()
	return r.await("a killed process to end", func() bool { _, there := r.live[p]; return !there })
}

func (r *run) allIdle() bool {
	for _, p := range r.clients {
		if !r.idle[p] {
			return false
		}
	}
	return true
}

// history makes a history.
func (r *run) history(i int, p plan) (*History, error) {
	h := &History{}
	r.h, r.done = h, 0
	defer func() { r.h = nil }()
	if err := r.applyPlan(p); err != nil {
		return nil, err
	}
	w := work{Task: mixed, History: i, Seed: rand.Uint64(), Workers: workers, Registers: registers, Ops: opsEach()}
	if p.Cuts {
		w.CutOneIn = 60
	}
	for _, c := range r.clients {
		r.work(c, w)
	}
	// The moment is random: after this number of operations has returned.
	total := len(r.clients) * opsEach()
	for _, k := range []struct {
		planned bool
		kill    func(work) error
	}{{p.KillClient, r.killClient}, {p.KillServer, r.killServer}} {
		if !k.planned {
			continue
		}
		at := r.done + rand.IntN(total/2)
		if err := r.await("operations", func() bool { return r.done >= at || r.allIdle() }); err != nil {
			return nil, err
		}
		if err := k.kill(w); err != nil {
			return nil, err
		}
	}
	if err := r.await("the operations", r.allIdle); err != nil {
		return nil, err
	}
	if err := r.applyPlan(plan{}); err != nil {
		return nil, err
	}
	r.work(r.clients[0], work{Task: readBack, History: i, Registers: registers})
	return h, r.await("the last operations", r.allIdle)
}

// applyPlan sets the faults of the disk, if they change.
func (r *run) applyPlan(p plan) error {
	f := faults{}
	if p.Slow {
		f.SlowOneIn = 4
	}
	if p.EIO {
		f.EIOOneIn = 25
	}
	if f == r.faults {
		return nil
	}
	return r.setFaults(f)
}

// killClient kills the last client, and starts another one, which continues its work.
func (r *run) killClient(w work) error {
	last := len(r.clients) - 1
	p := r.clients[last]
	r.clients = r.clients[:last]
	if err := r.kill(p); err != nil {
		return err
	}
	r.f.ClientKills++
	if err := r.newClient(); err != nil {
		return err
	}
	w.Ops /= 2
	r.work(r.clients[last], w)
	return nil
}

// killServer kills the server, and starts it again on its files. Clients reconnect; without a network the client is new, too.
func (r *run) killServer(w work) error {
	if err := r.kill(r.server); err != nil {
		return err
	}
	r.f.ServerKills++
	if err := r.serve(); err != nil {
		return err
	}
	r.h.note("the server has restarted")
	if r.n.local {
		w.Ops /= 2
		r.work(r.server, w)
	}
	return nil
}

// check counts a history and checks it.
func (r *run) check(h *History, out string) error {
	r.f.Histories++
	for _, o := range h.ops {
		switch {
		case o.end != nil && hasNoEffect(o.end.Status):
		case o.hasOutcome():
			r.f.Operations++
			if o.call.Op == kv.OpScan {
				r.f.Scans++
			}
		case o.call.Op.Changes():
			r.f.Unknown++
		}
	}
	return h.Check(filepath.Join(out, r.s.String()))
}

// end ends all processes, and waits for them.
func (r *run) end() {
	for p := range r.live {
		p.kill()
	}
	for n := len(r.live); n > 0; {
		if t := <-r.events; t.gone {
			n--
		}
	}
	_ = os.RemoveAll(r.dir)
}
