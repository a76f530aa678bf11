package main

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/rdma"
)

// serverOf reads the flags of kvwire serve.
func serverOf(t *testing.T, args ...string) *factors {
	t.Helper()
	f := newFactors("serve", "")
	f.serverFlags()
	f.boundFlags()
	f.Load.ValueBytes, f.Load.KeyBytes, f.Load.ScanItems = 1<<10, 16, 100
	if err := f.parse(append(args, "--backend", "mem"), nil); err != nil {
		t.Fatal(err)
	}
	if err := f.checkBounds(); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestOverRDMAAServerPinsTheTransportsOwnMemoryUnlessItIsTold(t *testing.T) {
	const twoGiB = "MemTotal:       2097152 kB\n"
	host := &probe.Host{Root: fstest.MapFS{"proc/meminfo": {Data: []byte(twoGiB)},
		"proc/self/limits": {Data: []byte("Max locked memory         unlimited            unlimited            bytes\n")}}}
	for _, c := range []struct {
		args []string
		says string // of what is pinned, or why not
	}{
		{nil, "48 MiB for each loop and 2.016 MiB for each of its connections (at most 64): 50 MiB with the first connection, 177 MiB with all; limit unlimited; of 2GiB of memory"},
		{[]string{"--server-threads", "3"}, "48 MiB for each loop and 2.016 MiB for each of its connections (at most 64): 146 MiB with the first connection, 531 MiB with all"},
		{[]string{"--rdma-verb", "read", "--rdma-export-bytes", "100MiB"}, ": 150 MiB with the first connection, 277 MiB with all"},
		{[]string{"--message-memory", "256MiB", "--connection-memory", "512MiB"}, "768 MiB for each loop"},
		{[]string{"--message-memory", "256MiB", "--connection-memory", "512MiB", "--server-threads", "3"}, "2.252GiB are to be pinned of 2GiB of memory"},
	} {
		f := serverOf(t, append(c.args, "--transport", "rdma")...)
		plan, err := f.plan()
		if err != nil {
			t.Fatal(err)
		}
		said, err := f.pinned(host, &plan)
		if err != nil {
			said = err.Error()
		}
		if !strings.Contains(said, c.says) {
			t.Errorf("%v: %s\nwant %s", c.args, said, c.says)
		}
		if p, err := (rdma.Transport{}).Pinned(f.serverOptions()); err != nil || c.args == nil && p.Loop != 48<<20 {
			t.Errorf("%v: what Serve is given pins %+v, %v", c.args, p, err)
		}
	}
	for _, args := range [][]string{{"--transport", "tcp"}, {"--transport", "tcp", "--connection-memory", "0", "--message-memory", "0"}} {
		if o, err := serverOf(t, args...).serverOptions().Defaults(); err != nil || o.ConnBytes != 512<<20 || o.PoolBytes != 256<<20 {
			t.Errorf("%v: %d and %d B, %v", args, o.ConnBytes, o.PoolBytes, err)
		}
	}
	least, most, err := defaultPins()
	if err != nil || least>>20 != 50 || most>>20 != 177 {
		t.Errorf("doctor asks for %d MiB, and %d: %v", least>>20, most>>20, err)
	}
}
