package factor

import (
	"errors"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
)

var transports = []string{"inproc", "codec", "tcp", "uring", "rdma", "udp"}

// networks are the Owners of factors that belong to a network.
var networks = []string{"transport", "client-transport"}

var networkRows = []Factor{
	{Name: "transport", Common: true, Group: "Network", Side: Server | Load, Default: "tcp", Words: transports, At: func(v *Values) any { return &v.Server.Transport },
		Help:    "network between client and server: inproc (a call in one process), codec (frames in one process, without a kernel), tcp, uring, rdma, or udp (datagrams)",
		Meaning: "network between client and server"},
	{Name: "client-transport", Group: "Network", Side: Bench | Client, Words: transports, Owners: []string{"transport"}, At: func(v *Values) any { return &v.Load.ClientTransport },
		Help:    "network of the client, if it differs from the server's: uring for a server with tcp, or tcp for a server with uring",
		Meaning: "network of the client's side",
		Scope:   "transport=tcp/uring, of which it is the other one, or the same as transport"},
}

var loopRows = []Factor{
	{Name: "placement", Group: "Loops", Side: Server, Default: "colocated", Words: []string{"colocated", "dispatched"}, At: func(v *Values) any { return &v.Server.Placement },
		Help: "colocated: every loop has connections and keys; dispatched: network loops and store loops"},
	{Name: "server-threads", Common: true, Group: "Loops", Side: Server, Default: "0", Range: Span{"0", "256"}, ByRun: true, Owners: []string{"placement"}, At: func(v *Values) any { return &v.Server.Threads },
		Help:    "number of loops of the server; 0: one (dispatched: see --net-loops and --store-loops)",
		Meaning: "number of loops of the server",
		Sweep:   Unless("placement", "dispatched")},
	{Name: "net-loops", Group: "Loops", Side: Server, Default: "0", Range: Span{"0", "256"}, ByRun: true, Owners: []string{"server-threads", "placement"}, At: func(v *Values) any { return &v.Server.NetLoops },
		Help:    "dispatched: number of loops with connections; 0: one",
		Meaning: "dispatched: number of loops with connections",
		When:    Where("placement", "dispatched")},
	{Name: "store-loops", Group: "Loops", Side: Server, Default: "0", Range: Span{"0", "256"}, ByRun: true, Owners: []string{"server-threads", "placement"}, At: func(v *Values) any { return &v.Server.StoreLoops },
		Help:    "dispatched: number of loops with keys; 0: one",
		Meaning: "dispatched: number of loops with keys",
		When:    Where("placement", "dispatched")},
	{Name: "wait", Common: true, Group: "Loops", Side: Server | Client, Default: "block", Words: []string{"block", "spin", "hybrid"}, At: func(v *Values) any { return &v.Server.Wait },
		Help: "what an idle loop does, on both sides: sleep (block), poll (spin), or poll and then sleep (hybrid)"},
	{Name: "spin-max", Group: "Loops", Side: Server | Client, Default: "50us", Range: Span{"1ns", "10s"}, At: func(v *Values) any { return &v.Server.SpinMax },
		Help: "hybrid: how long a loop polls before it sleeps",
		When: Where("wait", "hybrid")},
	{Name: "server-cpus", Group: "Loops", Side: Server, ByRun: true, Owners: []string{"server-threads", "placement"}, At: func(v *Values) any { return &v.Server.CPUs },
		Help:    "CPUs of the server's process, such as 0,2-3, or any; default: other CPUs than the client's",
		Meaning: "CPUs of the server's process"},
}

// CheckServer returns an error for flags of the server, of its store and of the network that contradict each other. With TLS it sets the engines: see CheckTLS.
func (v *Values) CheckServer(given Given) error {
	if err := All.CheckWords(v); err != nil {
		return err
	}
	if err := v.CheckTLS(given); err != nil {
		return err
	}
	if err := All.CheckGiven(v, given, Any(Server|Client)); err != nil {
		return err
	}
	if v.Server.Placement == loop.Dispatched.String() && v.Server.Threads != 0 {
		return errors.New("--server-threads needs --placement colocated (dispatched: --net-loops and --store-loops)")
	}
	for _, check := range []func() error{v.checkRDMA, v.TCP.Check, v.Uring.Check, v.checkStore} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// ServerTexts returns the server's factors by name, as a user would write them.
func (v *Values) ServerTexts() map[string]string {
	texts, get := map[string]string{}, All.Get(v)
	for _, name := range All.Of(Server) {
		texts[name] = get(name)
	}
	return texts
}

// Plan returns the plan of the server's loops. net is how loops with connections sleep. local is true if client and server are one process, without
// connections.
func (v *Values) Plan(net loop.Sleep, local bool) (p loop.Plan, err error) {
	s := &v.Server
	p.Placement, _ = loop.ParsePlacement(s.Placement) // CheckWords has checked it, like the values below
	wait, _ := loop.ParseWait(s.Wait)
	p.NetLoops = max(1, s.Threads, s.NetLoops)
	p.StoreLoops = max(1, s.StoreLoops)
	p.Net = loop.Options{Sleep: net, Wait: wait, SpinMax: s.SpinMax, SocketRing: v.Uring.Ring == "separate", CPUs: s.CPUs}
	p.Store = p.Net
	if s.Transport == "uring" {
		v.OfSocketRing(&p.Net)
	}
	if p.Placement == loop.Colocated {
		p.Store = p.Net
	}
	p.Store.SocketRing = false
	if local || p.Placement == loop.Dispatched {
		p.Store.Sleep = storeSleep()
		if v.OnDisk() && v.Store.Engine != store.EngineUring {
			p.Store.Sleep = loop.SleepEpoll // the loop has no ring of its own: the engine has one, or there is none
		}
	}
	if v.OnDisk() {
		if err := v.planDisk(&p.Store); err != nil {
			return p, err
		}
	}
	if p.Placement == loop.Colocated {
		socketRing := p.Net.SocketRing
		p.Net = p.Store
		p.Net.SocketRing = socketRing
	}
	if s.Transport == "udp" && p.Net.Sleep == loop.SleepRing && p.Net.SQPoll {
		return p, errors.New("--sqpoll cannot be used with --udp-engine uring, whose sends must have ended with the turn: use --placement dispatched, where the disk has rings of its own")
	}
	return p, nil
}

// OfSocketRing sets the options of the loop's ring from --taskrun and --sqpoll. The ring carries io_uring sockets, or the disk engine uring.
func (v *Values) OfSocketRing(o *loop.Options) {
	o.CoopTaskrun, o.SQPoll = v.Store.Taskrun == "coop", v.Store.SQPoll
}

// storeSleep is how loops without connections sleep: in their ring, if this build has io_uring.
func storeSleep() loop.Sleep {
	if ring.Built {
		return loop.SleepRing
	}
	return loop.SleepEpoll
}

// InprocThreads is the number of loops for a client without a network.
func (v *ServerValues) InprocThreads() int { return max(1, v.Threads, v.NetLoops) }
