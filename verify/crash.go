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

// Crashes is what a crash run does: rounds of load, SIGKILL, recovery, and a look at everything. In each round clients change keys until the server is
// killed; it is started again on its files, perhaps killed meanwhile some times more; and then every key is got and all are scanned. A key must have
// what its last acknowledged change left, or what one whose outcome nobody knows would have: the round is a History, which begins with what the
// round before has found, and is checked as such. A folder goes through several rounds, with other options in each; then another is begun.
type Crashes struct {
	Rounds int
	Each   int    // rounds of a folder
	Seed   uint64 // of what is chosen: what is set up, when is killed, what clients ask for. What then meets is the machine's affair
	Dir    string // for the stores
	Out    string // for pictures of what went wrong
	Exe    string // the program that the server runs in; "": this one
	Told   func(CrashFigures)
}

// CrashFigures are what a crash run has done so far.
type CrashFigures struct {
	Rounds, Folders int
	Kills           map[string]int // by moment
	Acknowledged    int            // changes that were acknowledged, each checked after the kill
	Unknown         int            // changes that were under way when it came
	Looked          int            // keys got after it
	Scanned         int            // items of the scans after it
	Inspected       int            // folders that kvwire check would have found sound
}

// AllKills is their sum.
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

// crashKeys is how many keys are changed in a folder.
const crashKeys = 500

// crashNetworks are those that folders take in turn. Over inproc there are changes that are in no frame, and the client dies with the server.
var crashNetworks = []string{"tcp", "uring", "inproc"}

// Run does the rounds. An error is a violation, or tells what did not work; the figures are of the rounds before it.
func (c Crashes) Run(ctx context.Context) (CrashFigures, error) {
	f := CrashFigures{Kills: map[string]int{}}
	rng := rand.New(rand.NewPCG(c.Seed, 0))
	networks := slices.DeleteFunc(slices.Clone(crashNetworks), func(name string) bool { return find(name).here() != nil })
	turn := 0
	for f.Rounds < c.Rounds && ctx.Err() == nil {
		r := &crashRun{rng: rng, turn: &turn, f: &f, engines: enginesHere(), run: run{n: find(networks[f.Folders%len(networks)]), dir: filepath.Join(c.Dir, "store"),
			events: make(chan told, 1024), live: map[*process]bool{}, idle: map[*process]bool{}, told: map[*process]bool{}, f: &Figures{}}}
		r.s = Setup{Network: r.n.name, Backend: store.Disk, Placement: loop.Placement(rng.IntN(2)), Exe: c.Exe}
		if err := r.folder(ctx, min(c.Each, c.Rounds-f.Rounds), c); err != nil {
			return f, fmt.Errorf("crash: folder %d, round %d, %v with %s, %s: %w", f.Folders, f.Rounds, r.s, r.s.Engine, r.s.Durability, err)
		}
		f.Folders++
	}
	return f, nil
}

// enginesHere are the disk engines that work on this machine.
func enginesHere() []string {
	return slices.DeleteFunc(slices.Clone(store.EngineNames), func(name string) bool {
		return store.NeedsRing(name) && !ringHere() || name == store.EngineAIO && probe.AIO(probe.Local()).Err() != nil
	})
}

// crashRun is a folder's rounds.
type crashRun struct {
	run
	rng     *rand.Rand
	turn    *int // of the options: every server that is started has others
	f       *CrashFigures
	engines []string
	has     map[string]string // what each key had when it was looked at last
}

// folder does so many rounds on a new store.
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
		c.Told(*r.f)
	}
	return nil
}

// choose takes the next options that a store may be opened with, whatever it was opened with before.
func (r *crashRun) choose() {
	r.s.Update = []string{store.UpdateCOW, store.UpdateInPlace}[*r.turn%2]
	r.s.Durability = []string{store.DurabilityDevice, store.DurabilityFlush}[*r.turn/2%2]
	r.s.Engine = r.engines[r.rng.IntN(len(r.engines))]
	*r.turn++
}

// round loads the server, kills it, starts it again, and looks at everything.
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
	h.note("the server is there again")
	from := len(h.ops)
	r.work(r.clients[0], work{Task: look, Workers: workers, Registers: crashKeys})
	if err := r.await("the look at everything", r.allIdle); err != nil {
		return err
	}
	if err := r.looked(h.ops[from:], items); err != nil {
		return err
	}
	for _, o := range h.ops[:from] {
		switch {
		case !o.call.Op.Changes() || o.process == 0 || o.end != nil && nothingDone(o.end.Status):
		case o.known():
			r.f.Acknowledged++
		default:
			r.f.Unknown++
		}
	}
	return h.Check(out)
}

// loadAndKill has the clients change keys, and kills the server at some moment.
func (r *crashRun) loadAndKill() error {
	moment := []string{killAfterAnswers, killAfterTime, killAtWrite}[r.rng.IntN(3)]
	if moment == killAtWrite {
		if err := r.fail(faults{KillAtWrite: 1 + r.rng.IntN(1000)}); err != nil {
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
		err = r.listen(time.Duration(r.rng.Int64N(int64(250 * time.Millisecond))))
	}
	if err == nil {
		err = r.killed(r.server, moment)
	}
	if err == nil {
		err = r.await("the clients to notice", r.allIdle)
	}
	return err
}

// killed kills a process, if it does not do so itself, and counts it.
func (r *crashRun) killed(p *process, moment string) error {
	r.f.Kills[moment]++
	if moment == killAtWrite || moment == killInRecovery {
		r.h.note(fmt.Sprintf("process %d kills itself", p.number))
		return r.await("a process to kill itself", func() bool { return r.gone(p) })
	}
	return r.kill(p)
}

// gone says that the process has ended, and all that it said was heard.
func (r *crashRun) gone(p *process) bool { _, there := r.live[p]; return !there }

// startAndKill starts a server that does not get far.
func (r *crashRun) startAndKill() error {
	r.choose()
	o := order{Serve: r.serving(), Faults: &faults{}}
	moment, after := killInStart, time.Duration(r.rng.Int64N(int64(60*time.Millisecond)))
	if r.rng.IntN(2) == 0 {
		moment, o.Faults.KillInRecovery = killInRecovery, 1+r.rng.IntN(20)
	}
	p, err := r.start(r.s.Exe, o)
	if err != nil {
		return err
	}
	if moment == killInStart {
		if err := r.listen(after); err != nil {
			return err
		}
		return r.killed(p, moment)
	}
	r.live[p] = false
	if err := r.await("a recovery, or its end", func() bool { return r.gone(p) || r.told[p] }); err != nil {
		return err
	}
	if r.told[p] { // it had less to read
		moment = killInStart
	}
	return r.killed(p, moment)
}

// listen handles what processes say for so long.
func (r *crashRun) listen(d time.Duration) error {
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

// inspect looks at the folder as kvwire check does, and gives its items. A crash leaves nothing that is damaged.
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

// looked takes what every key has now. Nobody changed anything meanwhile: gets, scans and kvwire check must agree.
func (r *crashRun) looked(ops []*operation, items int) error {
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
		return fmt.Errorf("%d keys were looked at, of %d", len(got), len(r.keys()))
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

// keys are those that are changed.
func (r *crashRun) keys() []string { return keysOf(r.n, 0, crashKeys) }

// String are the figures in a line.
func (f CrashFigures) String() string {
	var kills []string
	for _, m := range []string{killAfterAnswers, killAfterTime, killAtWrite, killInRecovery, killInStart} {
		kills = append(kills, fmt.Sprintf("%d %s", f.Kills[m], m))
	}
	return fmt.Sprintf("%d rounds in %d folders, %d kills (%s): %d acknowledged changes verified, %d of unknown outcome; %d keys got, %d items scanned, %d times checked as kvwire check does",
		f.Rounds, f.Folders, f.AllKills(), strings.Join(kills, ", "), f.Acknowledged, f.Unknown, f.Looked, f.Scanned, f.Inspected)
}
