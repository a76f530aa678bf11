package verify

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/transport/transporttest"
)

var soakFor = flag.Duration("soak", 0, "make soak: how long TestSoak goes on; 0: some seconds")

// Clients connect, end, fail and misbehave: no connection, memory, goroutine or file is left, and memory does not grow.
func TestSoak(t *testing.T) {
	k := Soak{For: *soakFor, Laps: 20, Dir: t.TempDir()}
	switch {
	case k.For > 0:
	case transporttest.Long:
		k.For = 2 * time.Minute
	case transporttest.Emulated:
		k.For, k.Laps = 10*time.Second, 3
	case testenv.Short():
		k.For, k.Laps = time.Second, 2
	default:
		k.For, k.Laps = 3*time.Second, 3
	}
	rdmaOnly := transporttest.Emulated // it is what a guest is for
	for i := range networks {
		n := &networks[i]
		if rdmaOnly && n.feature != "rdma" {
			continue
		}
		if err := n.works(); err != nil {
			t.Logf("without %s: %v", n.name, err)
			continue
		}
		k.Networks = append(k.Networks, n.name)
	}
	var laps []Lap
	k.Report = func(l Lap) {
		laps = append(laps, l)
		if *soakFor > 0 {
			fmt.Fprintf(os.Stderr, "%6.0f s  lap %d: %d operations, %d connections, %d MiB\n", l.Took.Seconds(), l.Number, l.Operations, l.Connections, l.ResidentBytes>>20)
		}
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
	defer stop()
	l, err := k.Run(ctx)
	out := t.Output()
	if *soakFor > 0 {
		out = os.Stdout
	}
	soakTable(out, laps)
	if err != nil {
		t.Fatal(err)
	}
	if l.Operations == 0 || l.Hangups == 0 || l.Reopened != len(laps) {
		t.Errorf("that is no soak: %+v", l)
	}
	// Half of the laps have seen all that there is: what all pools hold, and the caches.
	most := 0
	for _, l := range laps[:(len(laps)+1)/2] {
		most = max(most, l.ResidentBytes)
	}
	if most += most/10 + 32<<20; l.ResidentBytes > most && !testenv.Race {
		t.Errorf("%d MiB are resident in the end, more than %d MiB", l.ResidentBytes>>20, most>>20)
	}
}

func soakTable(out interface{ Write([]byte) (int, error) }, laps []Lap) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "lap\tseconds\toperations\tfailed\tunknown\tconnections\thangups\tstrangers\treopened\tslow IO\tEIO\tgoroutines\tfiles\tRDMA objects\theap KiB\tresident MiB\t")
	for _, l := range laps {
		fmt.Fprintf(w, "%d\t%.0f\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", l.Number, l.Took.Seconds(), l.Operations, l.Failed, l.Unknown, l.Connections, l.Hangups, l.HostilePeers,
			l.Reopened, l.Slow, l.EIO, l.Goroutines, l.Files, l.Objects, l.HeapBytes>>10, l.ResidentBytes>>20)
	}
	_ = w.Flush()
}
