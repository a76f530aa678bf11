package verify

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/transport/transporttest"
)

var (
	crashRounds = flag.Int("rounds", 0, "make crash: how many rounds TestCrashes does; 0: a few")
	crashSeed   = flag.Uint64("seed", 0, "make crash: seed of what is chosen, to repeat it; 0: any")
)

// A server that is killed at any moment, with whatever options, loses nothing that it acknowledged, keeps no part of what it did not, and brings
// nothing back that was deleted.
func TestCrashes(t *testing.T) {
	c := Crashes{Rounds: *crashRounds, Each: 20, Seed: *crashSeed, Dir: t.TempDir(), Out: *out}
	switch {
	case c.Rounds > 0:
	case transporttest.Long:
		c.Rounds = 300
	case testenv.Short():
		c.Rounds, c.Each = 6, 3
	default:
		c.Rounds, c.Each = 12, 4
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	for _, name := range crashNetworks {
		if err := find(name).works(); err != nil {
			t.Logf("without %s: %v", name, err)
		}
	}
	began := time.Now()
	c.Report = func(f CrashFigures) {
		if *crashRounds > 0 && f.Rounds%10 == 0 {
			fmt.Fprintf(os.Stderr, "%5.0f s  %4d rounds, %5d kills, %8d acknowledged changes verified\n", time.Since(began).Seconds(), f.Rounds, f.AllKills(), f.Acknowledged)
		}
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	f, err := c.Run(ctx)
	said := fmt.Sprintf("%v; %.0f s; seed %d", f, time.Since(began).Seconds(), c.Seed)
	if t.Log(said); *crashRounds > 0 {
		fmt.Println(said)
	}
	if err != nil {
		t.Fatal(err)
	}
	if f.Rounds < c.Rounds && context.Cause(ctx) == nil || f.Acknowledged == 0 || f.Unknown == 0 {
		t.Errorf("that is no crash test")
	}
}
