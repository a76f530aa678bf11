package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/store"
	"github.com/spf13/pflag"
)

// factors are the flags that set an experiment's factors. Each is named like its column in runs.csv, with
// dashes. Every command has those that concern it.
type factors struct {
	set *pflag.FlagSet

	// The server.
	transport     string
	backend       string
	placement     string
	serverThreads int
	netLoops      int
	storeLoops    int
	wait          string
	spinMax       time.Duration
	ring          string
	durability    string
	update        string
	diskEngine    string
	diskDepth     int
	diskBatch     int
	diskWait      int
	diskWaitMax   time.Duration
	taskrun       string
	sqPoll        bool
	ioPoll        bool
	fixedBuffers  bool
	fixedFiles    bool
	rawBytes      bytesFlag
	nullBusy      time.Duration
	nullDelay     time.Duration
	cacheBytes    bytesFlag
	dir           string
	listen        string
	serverCPUs    cpusFlag
	keepStdin     bool
	control       bool // serve: obey standard input (control.go). Else: start a server that does
	drainDeadline time.Duration
	acceptLoss    bool
	bounds        serverBounds
	metrics       string
	guard         guard
	logging       logging
	log           *slog.Logger // see logger

	// RDMA's, of both sides alike but for the table.
	rdmaExportBytes bytesFlag
	rdmaVerb        string
	rdmaConnect     string
	rdmaSlotBytes   bytesFlag
	rdmaInlineBytes bytesFlag
	rdmaSignalEvery int
	rdmaPostBatch   int
	rdmaSRQ         bool
	rdmaMTU         int

	rdmaTrafficClass, rdmaServiceLevel int

	hugePages bool
	rdma      rdma.Options // what they say: plan fills it in

	tcp   tcpValues
	uring uringValues

	// The load.
	loadSource
	clientTransport string
	target          string
	redis           bool // target is a Redis's
	as              identity
	serverAt        string
	launch          launchers
	mix             string
	keyDist         string
	keyBytes        bytesFlag
	valueBytes      bytesFlag
	valueDist       string
	valueMinBytes   bytesFlag
	records         countFlag
	scanItems       int
	loopKind        string
	arrival         string
	targetPerS      rateFlag
	search          string
	goal            *goal // of search
	conns           int
	depth           int
	clientThreads   int
	clientCPUs      cpusFlag
	duration        time.Duration
	operations      countFlag // 0: the window ends after duration
	warmup          time.Duration
	seed            uint64
	stages          int

	outputDir string
	recordDir string
	runID     string
	json      bool
}

// newFactors makes the flags of a command; help is what --help begins with.
func newFactors(name, help string) *factors {
	f := &factors{set: pflag.NewFlagSet("kvwire "+name, pflag.ContinueOnError)}
	f.set.SortFlags = false
	f.set.Usage = func() {
		hideAdvanced(f.set)
		fmt.Fprintf(stdout, "%s\n\nFlags:\n%s", help, f.set.FlagUsagesWrapped(100))
	}
	return f
}

func (f *factors) serverFlags() {
	s := f.set
	s.StringVar(&f.transport, "transport", "tcp", "network between client and server: inproc (none: a call), codec (none: frames without a kernel), tcp, uring or rdma")
	f.storeFlags()
	s.StringVar(&f.placement, "placement", "colocated", "colocated: every loop has connections and keys; dispatched: network loops and store loops")
	s.IntVar(&f.serverThreads, "server-threads", 0, "loops of the server; 0: one (dispatched: --net-loops and --store-loops)")
	s.IntVar(&f.netLoops, "net-loops", 0, "dispatched: loops with connections; 0: one")
	s.IntVar(&f.storeLoops, "store-loops", 0, "dispatched: loops with keys; 0: one")
	s.StringVar(&f.wait, "wait", "block", "what an idle loop does, on both sides: block, spin or hybrid")
	s.DurationVar(&f.spinMax, "spin-max", 50*time.Microsecond, "hybrid: how long to spin before sleeping")
	s.StringVar(&f.ring, "ring", "shared", "uring: sockets and disk on one ring (shared), or on two (separate)")
	f.tcpFlags()
	f.uringFlags()
	f.rdmaFlags()
	f.serverCPUs = cpusFlag{-1} // the default depends on the machine: see defaultCPUs
	s.Var(&f.serverCPUs, "server-cpus", "CPUs of the server process (0,2-3; any); default: apart from the client's")
	s.Lookup("server-cpus").DefValue = ""
}

// rdmaFlags are the names of the flags that need --transport rdma, and which both sides have.
var rdmaFlags = []string{"rdma-verb", "rdma-connect", "rdma-slot-bytes", "rdma-inline-bytes", "rdma-signal-every", "rdma-post-batch", "rdma-srq", "rdma-mtu", "rdma-traffic-class", "rdma-service-level", "huge-pages"}

// rdmaOnly says whether a flag needs --transport rdma.
func rdmaOnly(name string) bool {
	return name == "rdma-export-bytes" || slices.Contains(rdmaFlags, name)
}

func (f *factors) rdmaFlags() {
	s := f.set
	d, _ := rdma.Options{}.Defaults() // the zero value passes
	f.rdmaSlotBytes, f.rdmaInlineBytes = bytesFlag(d.SlotBytes), bytesFlag(d.InlineBytes)
	s.StringVar(&f.rdmaVerb, "rdma-verb", d.Verb.String(), "rdma, this and what follows: how messages travel: "+strings.Join(rdma.Verbs(), ", "))
	s.StringVar(&f.rdmaConnect, "rdma-connect", d.Connect.String(), "how queue pairs are connected: tcp, or cm (rdma_cm); the hello goes by TCP in both cases")
	s.Var(&f.rdmaSlotBytes, "rdma-slot-bytes", "largest message, and the size of each receive; what is larger travels in fragments")
	s.Var(&f.rdmaInlineBytes, "rdma-inline-bytes", "messages up to that size are copied into the work request, as far as the device can; 0: none")
	s.IntVar(&f.rdmaSignalEvery, "rdma-signal-every", d.SignalEvery, "work requests for each completion, where no memory waits for it")
	s.IntVar(&f.rdmaPostBatch, "rdma-post-batch", d.PostBatch, "work requests for each doorbell, at most")
	s.BoolVar(&f.rdmaSRQ, "rdma-srq", false, "the connections of a loop share one receive queue; not with the verb write")
	s.IntVar(&f.rdmaMTU, "rdma-mtu", d.MTU, "path MTU: 256, 512, 1024, 2048 or 4096; the ports may limit it")
	s.IntVar(&f.rdmaTrafficClass, "rdma-traffic-class", 0, "traffic class of the packets, 0 to 255: on Ethernet the byte with DSCP, by which switches choose a queue; 0: the system's")
	s.IntVar(&f.rdmaServiceLevel, "rdma-service-level", 0, "service level of the packets, 0 to 15: on InfiniBand it chooses the virtual lane; 0: the path record's with --rdma-connect cm, else 0")
	s.BoolVar(&f.hugePages, "huge-pages", false, "messages in huge pages, where the kernel has some")
	f.rdmaExportBytes = 64 << 20
	s.Var(&f.rdmaExportBytes, "rdma-export-bytes", "verb read: memory of the tables, of the whole server, from which items are read")
}

// rdmaOptions are what the flags say, checked.
func (f *factors) rdmaOptions() (o rdma.Options, err error) {
	o = rdma.Options{SlotBytes: int(f.rdmaSlotBytes), InlineBytes: int(f.rdmaInlineBytes), SignalEvery: f.rdmaSignalEvery,
		PostBatch: f.rdmaPostBatch, SRQ: f.rdmaSRQ, MTU: f.rdmaMTU, TrafficClass: f.rdmaTrafficClass, ServiceLevel: f.rdmaServiceLevel, HugePages: f.hugePages}
	if o.InlineBytes == 0 {
		o.InlineBytes = -1
	}
	if o.Verb, err = rdma.ParseVerb(f.rdmaVerb); err != nil {
		return o, usagef("--rdma-verb: %v", err)
	}
	if o.Connect, err = rdma.ParseConnect(f.rdmaConnect); err != nil {
		return o, usagef("--rdma-connect: %v", err)
	}
	if o, err = o.Defaults(); err != nil {
		return o, usagef("%v", err)
	}
	return o, nil
}

func (f *factors) storeFlags() {
	s := f.set
	s.StringVar(&f.backend, "backend", "disk", "null: answers without a lookup; mem: every page resident; disk: the store on files; raw: no store, a random 4 KiB page of a file for each request")
	s.StringVar(&f.durability, "durability", store.DurabilityDevice, "a put is acknowledged when the device has it (device) or has flushed it (flush)")
	s.StringVar(&f.update, "update", store.UpdateCOW, "an item is rewritten to a free slot, which no torn write can lose (cow), or over itself (inplace)")
	s.StringVar(&f.diskEngine, "disk-engine", store.EngineUring, "how pages are read and written: "+strings.Join(store.EngineNames, ", ")+"; where there is no io_uring and none is given, pool")
	s.IntVar(&f.diskDepth, "disk-depth", 256, "reads and writes in flight, per partition")
	s.IntVar(&f.diskBatch, "disk-batch", 0, "hold them back until so many are queued or none is in flight; 0: each turn's go at its end")
	s.IntVar(&f.diskWait, "disk-wait", 1, "engine uring: completions that a loop sleeps for, if so many are in flight")
	s.DurationVar(&f.diskWaitMax, "disk-wait-max", 100*time.Microsecond, "… and for how long at most")
	s.StringVar(&f.taskrun, "taskrun", "", "disk engine and sockets uring: completions appear when the loop looks (defer), or whenever it is in the kernel (coop); default: defer where it sleeps in its ring")
	s.BoolVar(&f.sqPoll, "sqpoll", false, "uring engines and sockets: a thread of the kernel submits, and takes a CPU")
	s.BoolVar(&f.ioPoll, "iopoll", false, "engine uring: look for completions at the device, which needs poll queues (kvwire doctor)")
	s.BoolVar(&f.fixedBuffers, "fixed-buffers", true, "uring engines: register memory")
	s.BoolVar(&f.fixedFiles, "fixed-files", true, "uring engines: register files")
	f.rawBytes = 1 << 30
	s.Var(&f.rawBytes, "raw-bytes", "size of the raw backend's file, of the whole store")
	s.DurationVar(&f.nullBusy, "null-busy", 0, "null: CPU time that each request takes besides, to see whether a known cost is found (kvwire instrument)")
	s.DurationVar(&f.nullDelay, "null-delay", 0, "null: each request is answered so much later, which takes CPU time as well: its loop does not sleep meanwhile")
	f.cacheBytes = 64 << 20
	s.Var(&f.cacheBytes, "cache-bytes", "page cache of the whole store")
	s.StringVar(&f.dir, "dir", "", "the store's folder; default: a temporary one, removed at the end")
}

func (f *factors) loadFlags() {
	s := f.set
	f.records, f.keyBytes, f.valueBytes = 100_000, 16, 1<<10
	s.Var(&f.records, "records", "records in the store")
	s.Var(&f.keyBytes, "key-bytes", "size of keys")
	s.Var(&f.valueBytes, "value-bytes", "size of values, or of the largest")
	s.StringVar(&f.valueDist, "value-dist", "fixed", "sizes of values: fixed, or uniform or zipfian (short ones most often) between --value-min-bytes and --value-bytes")
	s.Var(&f.valueMinBytes, "value-min-bytes", "size of the smallest values, where sizes differ")
	s.Uint64Var(&f.seed, "seed", 1, "of the keys' order, the operations and the arrivals")
	s.IntVar(&f.conns, "conns", 4, "connections in all")
	s.IntVar(&f.depth, "depth", 16, "requests in flight on each connection")
	s.IntVar(&f.clientThreads, "client-threads", 1, "threads of the load generator")
	f.clientCPUs = cpusFlag{-1}
	s.Var(&f.clientCPUs, "client-cpus", "CPUs of the load generator's process; default: apart from the server's")
	s.Lookup("client-cpus").DefValue = ""
	s.BoolVar(&f.json, "json", false, "print the result as JSON")
	f.tcpClientFlags()
	f.sourceFlags()
	f.identityFlags()
}

func (f *factors) benchFlags() {
	s := f.set
	s.StringVar(&f.clientTransport, "client-transport", "", "the client's side, where it differs: tcp and uring understand each other")
	s.StringVar(&f.target, "target", "", "host:port or unix:PATH of a server that runs and is loaded, or redis://host:port or redis+unix:///PATH; default: a server of its own")
	s.StringVar(&f.serverAt, "server-at", "", "host:port of a kvwire host on another machine, where the server is started; default: here")
	f.launch.add(s)
	s.StringVar(&f.mix, "mix", "get", "a to f (YCSB), get, put, insert, scan, rmw, or shares such as get=50,put=50")
	s.StringVar(&f.keyDist, "key-dist", "", "uniform, zipfian or latest; default: the mix's own")
	s.IntVar(&f.scanItems, "scan-items", 100, "scans ask for 1 to that many items")
	s.StringVar(&f.loopKind, "loop", "closed", "closed: a completion starts the next; open: arrivals by the clock, --target-per-s")
	s.StringVar(&f.arrival, "arrival", "poisson", "open loop: poisson or constant")
	s.Var(&f.targetPerS, "target-per-s", "open loop: arrivals per second; 0.5 is one every two seconds")
	s.StringVar(&f.search, "search", "", "open loop: find the highest rate that keeps a percentile, such as 'p99<200us', in steps of --duration, from --target-per-s on (default: the least at which the percentile is known); the row is that of the rate found")
	s.DurationVar(&f.duration, "duration", 10*time.Second, "of the measured window")
	s.Var(&f.operations, "operations", "end the measured window after this number of operations in all, failed ones included; 0: after --duration. The time series then has one interval, and drift is not known")
	s.DurationVar(&f.warmup, "warmup", 2*time.Second, "before it, not recorded")
	s.IntVar(&f.stages, "stages", 0, "watch one request in so many: how long each stage of it takes (stages.csv); 0: none. It costs time: measure nothing else meanwhile")
	f.replayFlags()
	s.StringVar(&f.outputDir, "output-dir", "", "append the row to runs.csv in this folder, and leave the run's latencies (hdr/) and throughput over time (timeseries.csv)")
	s.StringVar(&f.recordDir, "record-dir", "", "leave those two there")
	s.StringVar(&f.runID, "run-id", "", "the run's name in them")
	for _, name := range []string{"record-dir", "run-id"} { // kvwire run's own
		_ = s.MarkHidden(name)
	}
}

// parse reads the arguments; what is left over is an error unless rest takes it.
func (f *factors) parse(args []string, rest func(args []string) error) error {
	f.limit()
	if err := f.set.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return err
		}
		return usagef("%v (see %s --help)", mistake(err), f.set.Name())
	}
	if rest != nil {
		return rest(f.set.Args())
	}
	if f.set.NArg() > 0 {
		return usagef("unexpected %q (see %s --help)", masked(f.set.Arg(0)), f.set.Name())
	}
	return nil
}

// sets says whether the user gave a flag.
func (f *factors) sets(name string) bool {
	g := f.set.Lookup(name)
	return g != nil && g.Changed
}

// plan is the server's loops. It checks the server's flags, and RDMA's.
func (f *factors) plan() (p loop.Plan, err error) {
	t, err := find(f.transport)
	if err != nil {
		return p, err
	}
	if p.Placement, err = loop.ParsePlacement(f.placement); err != nil {
		return p, usagef("--placement: %v", err)
	}
	wait, err := loop.ParseWait(f.wait)
	if err != nil {
		return p, usagef("--wait: %v", err)
	}
	switch {
	case f.sets("spin-max") && wait != loop.WaitHybrid:
		return p, usagef("--spin-max needs --wait hybrid, not %s", wait)
	case f.ring != "shared" && f.ring != "separate":
		return p, usagef("--ring %q is unknown (shared or separate)", f.ring)
	case f.ring == "separate" && f.transport != "uring":
		return p, usagef("--ring separate needs --transport uring, not %s", f.transport)
	case p.Placement == loop.Colocated && (f.netLoops != 0 || f.storeLoops != 0):
		return p, usagef("--net-loops and --store-loops need --placement dispatched")
	case p.Placement == loop.Dispatched && f.serverThreads != 0:
		return p, usagef("--server-threads needs --placement colocated (dispatched: --net-loops and --store-loops)")
	}
	for _, name := range append(rdmaFlags, "rdma-export-bytes") {
		if f.sets(name) && f.transport != "rdma" {
			return p, usagef("--%s needs --transport rdma, not %s", name, f.transport)
		}
	}
	if f.sets("rdma-export-bytes") && f.rdmaVerb != rdma.Read.String() {
		return p, usagef("--rdma-export-bytes needs --rdma-verb read, not %s", f.rdmaVerb)
	}
	if f.rdma, err = f.rdmaOptions(); err != nil {
		return p, err
	}
	if err := f.planTCP(); err != nil {
		return p, err
	}
	if err := f.planUring(); err != nil {
		return p, err
	}
	if err := f.checkTaskrun(); err != nil {
		return p, err
	}
	if err := f.checkNull(); err != nil {
		return p, err
	}
	p.NetLoops = max(1, f.serverThreads, f.netLoops)
	p.StoreLoops = max(1, f.storeLoops)
	p.Net = loop.Options{Sleep: t.sleep(), Wait: wait, SpinMax: f.spinMax, SocketRing: f.ring == "separate", CPUs: f.serverCPUs}
	p.Store = p.Net
	if f.transport == "uring" {
		f.onRing(&p.Net)
	}
	if p.Placement == loop.Colocated {
		p.Store = p.Net
	}
	p.Store.SocketRing = false
	if t.local || p.Placement == loop.Dispatched {
		p.Store.Sleep = storeSleep()
		if f.onDisk() && f.diskEngine != store.EngineUring {
			p.Store.Sleep = loop.SleepEpoll // no io_uring but the engine's, or none at all
		}
	}
	if f.onDisk() {
		if err := f.planDisk(&p.Store); err != nil {
			return p, err
		}
	}
	if p.Placement == loop.Colocated {
		socketRing := p.Net.SocketRing
		p.Net = p.Store
		p.Net.SocketRing = socketRing
	}
	return p, nil
}

// checkTaskrun checks what concerns all rings.
func (f *factors) checkTaskrun() error {
	switch {
	case f.taskrun != "" && f.taskrun != "defer" && f.taskrun != "coop":
		return usagef("--taskrun %q is unknown (defer or coop)", f.taskrun)
	case f.taskrun != "" && f.sqPoll:
		return usagef("--taskrun is without meaning with --sqpoll: completions appear in the kernel's thread")
	}
	return nil
}

// onRing gives loops with io_uring's sockets what was asked for of their ring.
func (f *factors) onRing(o *loop.Options) {
	o.CoopTaskrun, o.SQPoll = f.taskrun == "coop", f.sqPoll
}

// planDisk gives the loops that have keys what the disk engine needs, and checks its flags.
func (f *factors) planDisk(o *loop.Options) error {
	uring, coop := f.diskEngine == store.EngineUring, f.taskrun == "coop"
	epoll := o.Sleep == loop.SleepEpoll && ring.Built // a build without rings has another refusal for these (engineWorks)
	switch {
	case f.taskrun != "" && !uring && !f.hasUring():
		return usagef("--taskrun needs --disk-engine uring, not %s", f.diskEngine)
	case f.taskrun == "defer" && epoll:
		return usagef("--taskrun defer needs loops that sleep in their ring (--transport inproc or uring, or --placement dispatched): in epoll such a ring is not heard")
	case f.diskWait > 1 && uring && (epoll || o.Wait == loop.WaitSpin):
		return usagef("--disk-wait %d needs loops that sleep in their ring (--transport inproc or uring, or --placement dispatched; not --wait spin)", f.diskWait)
	case f.sets("raw-bytes") && f.backend != store.Raw.String():
		return usagef("--raw-bytes needs --backend raw, not %s", f.backend)
	case f.sets("cache-bytes") && f.backend == store.Raw.String():
		return usagef("--cache-bytes needs --backend disk, not raw")
	}
	if uring {
		o.Ring, o.CoopTaskrun, o.SQPoll = true, coop, f.sqPoll
	}
	s, err := f.store(1)
	if err != nil {
		return err
	}
	if s.Dir == "" {
		s.Dir = "a temporary folder"
	}
	if err := s.Check(1); err != nil {
		return usagef("%v", err)
	}
	return nil
}

// onDisk says whether there are files.
func (f *factors) onDisk() bool {
	return f.backend == store.Disk.String() || f.backend == store.Raw.String()
}

// keeps says whether a backend keeps what it is given, so that it can be loaded and checked.
func keeps(backend string) bool {
	return backend == store.Mem.String() || backend == store.Disk.String()
}

// diskFlags are the flags that need files.
var diskFlags = []string{"dir", "durability", "update", "disk-engine", "disk-depth", "disk-batch", "disk-wait", "disk-wait-max", "taskrun", "sqpoll", "iopoll",
	"fixed-buffers", "fixed-files", "raw-bytes", "cache-bytes"}

// ringFlags are those of them that concern the sockets' ring as well.
var ringFlags = []string{"taskrun", "sqpoll"}

// limits are the largest key and value that the server takes: 1 MiB, or what the load needs.
func (f *factors) limits() kv.Limits {
	value := max(1<<20, int(f.valueBytes))
	if answer := f.scanItems * (int(f.valueBytes) + int(f.keyBytes) + kv.ItemHeaderBytes); answer > value {
		value = min(answer, store.ValueBytesMax)
	}
	return kv.Limits{MaxKeyBytes: cmp.Or(int(f.bounds.keyBytes), store.KeyBytesMax), MaxValueBytes: cmp.Or(int(f.bounds.valueBytes), value)}
}

// nullFlags are the flags that need the null backend.
var nullFlags = []string{"null-busy", "null-delay"}

// checkNull refuses the null backend's flags where they mean nothing.
func (f *factors) checkNull() error {
	for _, name := range nullFlags {
		switch {
		case !f.sets(name):
		case f.backend != store.Null.String():
			return usagef("--%s needs --backend null, not %s", name, f.backend)
		case f.transport == "rdma" && f.rdmaVerb == rdma.Read.String():
			return usagef("--%s concerns requests that the server answers: with --rdma-verb read clients fetch values by themselves (choose send or write)", name)
		}
	}
	return nil
}

// store is the store's options, for each of the shards.
func (f *factors) store(shards int) (o store.Options, err error) {
	if o.Backend, err = store.ParseBackend(f.backend); err != nil {
		return o, usagef("--backend: %v", err)
	}
	if !f.onDisk() {
		for _, name := range diskFlags {
			if f.sets(name) && !(f.hasUring() && slices.Contains(ringFlags, name)) {
				return o, usagef("--%s needs --backend disk or raw, not %s", name, f.backend)
			}
		}
	}
	if !slices.Contains(store.EngineNames, f.diskEngine) {
		return o, usagef("--disk-engine %q is unknown (%s)", f.diskEngine, strings.Join(store.EngineNames, ", "))
	}
	if f.durability != store.DurabilityDevice && f.durability != store.DurabilityFlush {
		return o, usagef("--durability %q is unknown (device or flush)", f.durability)
	}
	if f.update != store.UpdateCOW && f.update != store.UpdateInPlace {
		return o, usagef("--update %q is unknown (cow or inplace)", f.update)
	}
	o.Dir, o.Limits, o.AcceptLoss = f.dir, f.limits(), f.acceptLoss
	o.CacheBytes = max(int(f.cacheBytes)/shards, 256<<10)
	o.DiskEngine, o.Durability, o.Update = f.diskEngine, f.durability, f.update
	o.DepthMax, o.DiskBatch, o.DiskWait, o.DiskWaitMax = f.diskDepth, f.diskBatch, f.diskWait, f.diskWaitMax
	o.SQPoll = f.sqPoll && (store.NeedsRing(f.diskEngine) || !f.hasUring())
	o.IOPoll, o.NoFixedBuffers, o.NoFixedFiles = f.ioPoll, !f.fixedBuffers, !f.fixedFiles
	o.RawBytes = int64(f.rawBytes)
	o.NullBusy, o.NullDelay, o.NullValueBytes = f.nullBusy, f.nullDelay, int(f.valueBytes)
	if f.transport == "rdma" && f.rdmaVerb == rdma.Read.String() {
		o.ExportItemBytes = min(int(f.valueBytes)+exportKeyBytes, 1<<20)
		fit := max(1, int(f.rdmaExportBytes)/shards/(o.ExportItemBytes+exportHeadBytes))
		o.ExportEntries = min(1<<(bits.Len(uint(fit))-1), 1<<26) // it would be rounded up
	}
	o.Log = f.logger()
	return o, nil
}

// Of an exported item: the room for its key (with longer ones it may go by send), and what is around it, at most.
const (
	exportKeyBytes  = 64
	exportHeadBytes = 96
)

// spec is the load. It checks the load's flags.
func (f *factors) spec() (s bench.Spec, err error) {
	if f.search != "" {
		if f.goal, err = parseGoal(f.search); err != nil {
			return s, usagef("--search: %v", err)
		}
		switch {
		case f.sets("loop") && f.loopKind != bench.Open.String():
			return s, usagef("--search needs --loop open")
		case f.targetPerS <= 0:
			f.targetPerS = rateFlag(f.goal.from(f.duration))
		}
		f.loopKind = bench.Open.String()
	}
	if f.inProcess() {
		if f.sets("client-threads") {
			return s, usagef("--client-threads: a client without a network lives on the server's loops (--server-threads; dispatched: --net-loops)")
		}
		if f.sets("client-cpus") {
			return s, usagef("--client-cpus: a client without a network lives on the server's CPUs (--server-cpus)")
		}
		f.clientThreads = f.inprocThreads()
		f.conns = max(f.conns, f.clientThreads)
	}
	s = bench.Spec{Mix: f.mix, KeyBytes: int(f.keyBytes), ValueBytes: int(f.valueBytes), ValueMinBytes: int(f.valueMinBytes), Records: uint64(f.records),
		ScanItems: f.scanItems, Seed: f.seed, TargetPerS: float64(f.targetPerS), Conns: f.conns, Depth: f.depth,
		ClientThreads: f.clientThreads, Duration: f.duration, Warmup: f.warmup, Stages: f.stages, Verify: keeps(f.backend)}
	if f.replay != nil {
		s.Trace, s.TraceSpeed, s.TraceRepeat = f.replay, float64(f.traceSpeed), f.traceRepeat
	}
	if s.Operations = uint64(f.operations); s.Operations > 0 {
		s.Duration = 0
		switch {
		case f.sets("duration"):
			return s, usagef("--operations %s and --duration %v both end the window: give one of them", &f.operations, f.duration)
		case len(f.launch.Clients) > 0: // hosts that end at different times would be in no window together
			return s, usagef("--operations: load hosts end their windows together, after --duration: leave --operations out")
		case f.goal != nil:
			return s, usagef("--search measures for --duration at each rate: leave --operations out")
		}
	}
	if f.keyDist != "" {
		if s.KeyDist, err = bench.ParseKeyDist(f.keyDist); err != nil {
			return s, usagef("--key-dist: %v", err)
		}
	}
	if f.valueDist != "" {
		if s.ValueDist, err = bench.ParseSizeDist(f.valueDist); err != nil {
			return s, usagef("--value-dist: %v", err)
		}
	}
	if f.loopKind != "" {
		if s.Loop, err = bench.ParseLoopKind(f.loopKind); err != nil {
			return s, usagef("--loop: %v", err)
		}
	}
	if f.arrival != "" {
		if s.Arrival, err = bench.ParseArrival(f.arrival); err != nil {
			return s, usagef("--arrival: %v", err)
		}
	}
	switch {
	case s.ValueDist != bench.FixedSize && f.backend == "null":
		return s, usagef("--value-dist %s needs a backend that keeps values, not null", f.valueDist)
	case s.ValueDist == bench.FixedSize && f.sets("value-min-bytes"):
		return s, usagef("--value-min-bytes needs --value-dist uniform or zipfian")
	case f.clientThreads > f.conns:
		return s, usagef("--client-threads %d: 1 to --conns (%d)", f.clientThreads, f.conns)
	case s.Loop == bench.Open && f.targetPerS <= 0 && f.replay == nil && f.set.Lookup("target-per-s") != nil:
		return s, usagef("--loop open needs --target-per-s, the arrivals per second")
	case s.Loop == bench.Closed && f.targetPerS > 0:
		return s, usagef("--target-per-s needs --loop open")
	case f.sets("arrival") && s.Loop != bench.Open:
		return s, usagef("--arrival needs --loop open")
	}
	if err := s.Check(); err != nil {
		return s, usagef("%v", err)
	}
	return s, f.checkAmounts(s)
}

// checkNames checks the flags whose values are names, one by one: what an experiment file gets wrong is
// found at its line.
func (f *factors) checkNames() error {
	if _, err := find(f.transport); err != nil {
		return err
	}
	for _, check := range []func() error{
		func() error { _, err := loop.ParsePlacement(f.placement); return err },
		func() error { _, err := loop.ParseWait(f.wait); return err },
		func() error { _, err := f.rdmaOptions(); return err },
		func() error { _, err := f.tcpOptions(); return err },
		func() error { _, err := store.ParseBackend(f.backend); return err },
		func() error { _, err := f.store(1); return err },
		func() error { _, err := bench.ParseMix(f.mix); return err },
		func() error { _, err := bench.ParseLoopKind(f.loopKind); return err },
		func() error { _, err := bench.ParseArrival(f.arrival); return err },
		f.checkSource,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	if f.keyDist != "" {
		_, err := bench.ParseKeyDist(f.keyDist)
		return err
	}
	return nil
}
