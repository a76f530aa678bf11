package verify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
)

// Crashes describes a crash run: rounds of load, SIGKILL, recovery, and reads of all keys. In each round clients change keys until the server is
// killed. It is started again on its files, and perhaps killed again during that. Then all keys are read by get and by scan. A key must have
// the value of its last acknowledged change, or of a change with an unknown outcome. The round is a History that begins with the values that the
// round before has read, and is checked as such. A folder has several rounds, each with other options; then a new folder begins.
type Crashes struct {
	Rounds int
	Each   int    // rounds per folder
	Seed   uint64 // of all choices: options, moments of kills, requests. The timing still depends on the machine
	Dir    string // for the stores
	Out    string // for pictures of violations
	Exe    string // the server's program; "": this one
	Report func(CrashFigures)
}

// CrashFigures count what a crash run has done so far.
type CrashFigures struct {
	Rounds, Folders int
	Kills           map[string]int // by moment
	Acknowledged    int            // changes that were acknowledged, each checked after the kill
	Unknown         int            // changes in flight at the kill
	Looked          int            // keys read by get after the kill
	Scanned         int            // items of scans after the kill
	Inspected       int            // folders in which the check found no damage
}

// AllKills returns the number of kills.
func (f CrashFigures) AllKills() (n int) {
	for _, k := range f.Kills {
		n += k
	}
	return n
}

// The moments of a kill.
const (
	killAfterAnswers = "after a number of answers"
	killAfterTime    = "after a time under load"
	killAtWrite      = "at a write of the disk"
	killInRecovery   = "during recovery"
	killInStart      = "after a time since its start"
)

// crashKeys is the number of keys that are changed in a folder.
const crashKeys = 500

// crashNetworks are the networks of folders, in turn. inproc also has the operations that frames do not have, and its client dies with the server.
var crashNetworks = []string{"tcp", "uring", "udp", "inproc"}

// Run runs the rounds. An error is a violation or a failure of the test; the figures are those of the rounds before it.
func (c Crashes) Run(ctx context.Context) (CrashFigures, error) {
	f := CrashFigures{Kills: map[string]int{}}
	rng := rand.New(rand.NewPCG(c.Seed, 0))
	networks := slices.DeleteFunc(slices.Clone(crashNetworks), func(name string) bool { return find(name).works() != nil })
	turn := 0
	for f.Rounds < c.Rounds && ctx.Err() == nil {
		r := &crashRun{rng: rng, turn: &turn, f: &f, engines: workingEngines(), run: run{n: find(networks[f.Folders%len(networks)]), dir: filepath.Join(c.Dir, "store"),
			events: make(chan message, 1024), live: map[*process]bool{}, idle: map[*process]bool{}, ready: map[*process]bool{}, f: &Figures{}}}
		r.s = Setup{Network: r.n.name, Backend: store.Disk, Placement: loop.Placement(rng.IntN(2)), Exe: c.Exe}
		if err := r.folder(ctx, min(c.Each, c.Rounds-f.Rounds), c); err != nil {
			return f, fmt.Errorf("crash: folder %d, round %d, %v with %s, %s: %w", f.Folders, f.Rounds, r.s, r.s.Engine, r.s.Durability, err)
		}
		f.Folders++
	}
	return f, nil
}

// workingEngines returns the disk engines that work on this machine.
func workingEngines() []string {
	return slices.DeleteFunc(slices.Clone(store.EngineNames), func(name string) bool {
		return store.NeedsRing(name) && !ringWorks() || name == store.EngineAIO && probe.AIO(probe.Local()).Err() != nil
	})
}

// crashRun is a folder's rounds.
type crashRun struct {
	run
	rng     *rand.Rand
	turn    *int // number of starts, each of which has other options
	f       *CrashFigures
	engines []string
	has     map[string]string // the state of each key at its last read
}

// folder runs rounds on a new store.
func (r *crashRun) folder(ctx context.Context, rounds int, c Crashes) error {
	defer r.end()
	r.choose()
	if err := r.begin(); err != nil {
		return err
	}
	r.has = map[string]string{}
	for range rounds {
		if ctx.Err() != nil {
			return nil
		}
		if err := r.round(filepath.Join(c.Out, fmt.Sprintf("crash-%d", r.f.Rounds))); err != nil {
			return err
		}
		r.f.Rounds++
		c.Report(*r.f)
	}
	return nil
}

// choose sets the next options. A store may be opened with any of them, whatever it was opened with before.
func (r *crashRun) choose() {
	r.s.Update = []string{store.UpdateCOW, store.UpdateInPlace}[*r.turn%2]
	r.s.Durability = []string{store.DurabilityDevice, store.DurabilityFlush}[*r.turn/2%2]
	r.s.Engine = r.engines[r.rng.IntN(len(r.engines))]
	*r.turn++
}

// round loads the server, kills it, starts it again, and reads all keys.
func (r *crashRun) round(out string) error {
	h := &History{}
	for k, state := range r.has {
		if state != absent {
			h.before(k, state)
		}
	}
	r.h, r.done = h, 0
	defer func() { r.h = nil }()
	if err := r.loadAndKill(); err != nil {
		return err
	}
	for r.rng.IntN(3) == 0 {
		if err := r.startAndKill(); err != nil {
			return err
		}
	}
	items, err := r.inspect()
	if err != nil {
		return err
	}
	r.choose()
	if err := r.serve(); err != nil {
		return err
	}
	h.note("the server has restarted")
	from := len(h.ops)
	r.work(r.clients[0], work{Task: readAll, Workers: workers, Registers: crashKeys})
	if err := r.await("the reads of all keys", r.allIdle); err != nil {
		return err
	}
	if err := r.compareReads(h.ops[from:], items); err != nil {
		return err
	}
	for _, o := range h.ops[:from] {
		switch {
		case !o.call.Op.Changes() || o.process == 0 || o.end != nil && hasNoEffect(o.end.Status):
		case o.hasOutcome():
			r.f.Acknowledged++
		default:
			r.f.Unknown++
		}
	}
	return h.Check(out)
}

// loadAndKill puts load on the server, and kills it at a random moment.
func (r *crashRun) loadAndKill() error {
	moment := []string{killAfterAnswers, killAfterTime, killAtWrite}[r.rng.IntN(3)]
	if moment == killAtWrite {
		if err := r.setFaults(faults{KillAtWrite: 1 + r.rng.IntN(1000)}); err != nil {
			return err
		}
		r.live[r.server] = false // it kills itself
		r.faults = faults{}
	}
	for _, p := range r.clients {
		r.work(p, work{Task: load, Seed: r.rng.Uint64(), Workers: workersMax, Registers: crashKeys})
	}
	var err error
	switch moment {
	case killAfterAnswers:
		at := r.rng.IntN(1 << (1 + r.rng.IntN(12))) // mostly few, up to 4096
		err = r.await("answers", func() bool { return r.done >= at })
	case killAfterTime:
		err = r.handleFor(time.Duration(r.rng.Int64N(int64(250 * time.Millisecond))))
	}
	if err == nil {
		err = r.killed(r.server, moment)
	}
	if err == nil {
		err = r.await("the clients to notice", r.allIdle)
	}
	return err
}

// killed kills a process, unless it kills itself, and counts the kill.
func (r *crashRun) killed(p *process, moment string) error {
	r.f.Kills[moment]++
	if moment == killAtWrite || moment == killInRecovery {
		r.h.note(fmt.Sprintf("process %d kills itself", p.number))
		return r.await("a process to kill itself", func() bool { return r.hasEnded(p) })
	}
	return r.kill(p)
}

// hasEnded reports whether the process has ended and all its events are handled.
func (r *crashRun) hasEnded(p *process) bool { _, there := r.live[p]; return !there }

// startAndKill starts a server and kills it during its start.
func (r *crashRun) startAndKill() error {
	r.choose()
	o := order{Serve: r.serverConfig(), Faults: &faults{}}
	moment, after := killInStart, time.Duration(r.rng.Int64N(int64(60*time.Millisecond)))
	if r.rng.IntN(2) == 0 {
		moment, o.Faults.KillInRecovery = killInRecovery, 1+r.rng.IntN(20)
	}
	p, err := r.start(r.s.Exe, o)
	if err != nil {
		return err
	}
	if moment == killInStart {
		if err := r.handleFor(after); err != nil {
			return err
		}
		return r.killed(p, moment)
	}
	r.live[p] = false
	if err := r.await("a recovery, or its end", func() bool { return r.hasEnded(p) || r.ready[p] }); err != nil {
		return err
	}
	if r.ready[p] { // recovery was shorter
		moment = killInStart
	}
	return r.killed(p, moment)
}

// handleFor handles events for this time.
func (r *crashRun) handleFor(d time.Duration) error {
	end := time.NewTimer(d)
	defer end.Stop()
	for {
		select {
		case t := <-r.events:
			if err := r.handle(t); err != nil {
				return err
			}
		case <-end.C:
			return nil
		}
	}
}

// inspect checks the folder as kvwire check does, and returns the number of items. A crash must leave no damage.
func (r *crashRun) inspect() (items int, err error) {
	all, err := store.Inspect(r.dir, nil)
	if err != nil {
		return 0, err
	}
	for _, s := range all {
		if d := s.Damage; d.Corrupt+d.Unreadable > 0 || d.Loses() {
			return 0, fmt.Errorf("kvwire check would find %d corrupt items, %d slots that it cannot read, and %d lost pages (%s): %v %v", d.Corrupt, d.Unreadable, d.LostPages, d.Record, d.Items, d.Lost)
		}
		items += int(s.Items)
	}
	r.f.Inspected++
	return items, nil
}

// compareReads records the state of all keys. There were no changes meanwhile, so gets, scans and kvwire check must agree.
func (r *crashRun) compareReads(ops []*operation, items int) error {
	got, want := map[string]string{}, fillers
	var scanned []item
	for _, o := range ops {
		switch {
		case o.end == nil || o.end.Status != kv.StatusOK && o.end.Status != kv.StatusNotFound:
			return fmt.Errorf("after the restart: %s", o)
		case o.call.Op == kv.OpGet:
			if got[o.call.Key] = o.end.Got; o.end.Got != absent {
				want++
			}
		default:
			scanned = append(scanned, o.end.Items...)
		}
	}
	if len(got) != len(r.keys()) {
		return fmt.Errorf("%d keys were read, of %d", len(got), len(r.keys()))
	}
	if items != want {
		return fmt.Errorf("kvwire check would find %d items: gets find %d, and %d fillers", items, want-fillers, fillers)
	}
	if len(scanned) != want {
		return fmt.Errorf("scans find %d items: gets find %d, and %d fillers", len(scanned), want-fillers, fillers)
	}
	for i, it := range scanned {
		switch {
		case i > 0 && it.Key <= scanned[i-1].Key:
			return fmt.Errorf("scans find %s after %s", it.Key, scanned[i-1].Key)
		case strings.HasPrefix(it.Key, "h") && got[it.Key] != it.State:
			return fmt.Errorf("%s: a scan finds %s, a get %s", it.Key, it.State, got[it.Key])
		}
	}
	r.f.Looked += len(got)
	r.f.Scanned += len(scanned)
	r.has = got
	return nil
}

// keys returns the keys that are changed.
func (r *crashRun) keys() []string { return keysOf(r.n, 0, crashKeys) }

// String formats the figures on one line.
func (f CrashFigures) String() string {
	var kills []string
	for _, m := range []string{killAfterAnswers, killAfterTime, killAtWrite, killInRecovery, killInStart} {
		kills = append(kills, fmt.Sprintf("%d %s", f.Kills[m], m))
	}
	return fmt.Sprintf("%d rounds in %d folders, %d kills (%s): %d acknowledged changes verified, %d of unknown outcome; %d keys got, %d items scanned, %d times checked as kvwire check does",
		f.Rounds, f.Folders, f.AllKills(), strings.Join(kills, ", "), f.Acknowledged, f.Unknown, f.Looked, f.Scanned, f.Inspected)
}
