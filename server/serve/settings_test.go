package serve

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/rdma"
	"github.com/spf13/pflag"
)

// newSettings returns settings without flags, and the set to which a test adds them.
func newSettings() (*Settings, *pflag.FlagSet) {
	v, set := factor.NewValues(), pflag.NewFlagSet("", pflag.ContinueOnError)
	return &Settings{Values: &v, Given: set.Changed}, set
}

// parse returns the settings with these flags of kvwire serve.
func parse(t *testing.T, args ...string) *Settings {
	t.Helper()
	s, set := newSettings()
	s.BindFactors(set)
	s.Bounds.Bind(set)
	s.Load.ValueBytes, s.Load.KeyBytes, s.Load.ScanItems = 1<<10, 16, 100
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	if err := s.Bounds.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOverRDMAAServerPinsTheTransportsOwnMemoryByDefault(t *testing.T) {
	const twoGiB = "MemTotal:       2097152 kB\n"
	host := &probe.Host{Root: fstest.MapFS{"proc/meminfo": {Data: []byte(twoGiB)},
		"proc/self/limits": {Data: []byte("Max locked memory         unlimited            unlimited            bytes\n")}}}
	for _, c := range []struct {
		args  []string
		found string // of what is pinned, or why not
	}{
		{nil, "48 MiB for each loop and 2.016 MiB for each of its connections (at most 64): 50 MiB with the first connection, 177 MiB with all; limit unlimited; of 2GiB of memory"},
		{[]string{"--server-threads", "3"}, "48 MiB for each loop and 2.016 MiB for each of its connections (at most 64): 146 MiB with the first connection, 531 MiB with all"},
		{[]string{"--rdma-verb", "read", "--rdma-export-bytes", "100MiB"}, ": 150 MiB with the first connection, 277 MiB with all"},
		{[]string{"--message-memory", "256MiB", "--connection-memory", "512MiB"}, "768 MiB for each loop"},
		{[]string{"--message-memory", "256MiB", "--connection-memory", "512MiB", "--server-threads", "3"}, "2.252GiB are to be pinned of 2GiB of memory"},
	} {
		s := parse(t, append(c.args, "--transport", "rdma", "--backend", "mem")...)
		plan, err := s.Plan()
		if err != nil {
			t.Fatal(err)
		}
		found, err := s.pinned(host, &plan)
		if err != nil {
			found = err.Error()
		}
		if !strings.Contains(found, c.found) {
			t.Errorf("%v: %s\nwant %s", c.args, found, c.found)
		}
		if p, err := (rdma.Transport{}).Pinned(s.options()); err != nil || c.args == nil && p.Loop != 48<<20 {
			t.Errorf("%v: what Serve is given pins %+v, %v", c.args, p, err)
		}
	}
	for _, args := range [][]string{{"--transport", "tcp"}, {"--transport", "tcp", "--connection-memory", "0", "--message-memory", "0"}} {
		if o, err := parse(t, append(args, "--backend", "mem")...).options().Defaults(); err != nil || o.ConnBytes != 512<<20 || o.PoolBytes != 256<<20 {
			t.Errorf("%v: %d and %d B, %v", args, o.ConnBytes, o.PoolBytes, err)
		}
	}
	least, most, err := DefaultPins()
	if err != nil || least>>20 != 50 || most>>20 != 177 {
		t.Errorf("doctor asks for %d MiB, and %d: %v", least>>20, most>>20, err)
	}
}

func TestMoreMemoryThanTheMachineHasIsAUsageError(t *testing.T) {
	for name, args := range map[string][]string{
		"cache":           {"--cache-bytes=1024TiB"},
		"provided memory": {"--transport=uring", "--uring-receive=multishot", "--uring-buffers=32768", "--uring-buffer-bytes=1MiB", "--server-threads=256"},
	} {
		s := parse(t, args...)
		p, err := s.Plan()
		if err == nil {
			err = s.checkAmounts(&p)
		}
		if exit.Code(err) != exit.Usage || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want a usage error", name, err)
		}
	}
}
