package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
)

// All threads of a process run on the CPUs that it was given, also those that the runtime had made before.
func TestAConfinedProcessHasNoThreadElsewhere(t *testing.T) {
	allowed := fleet.AllowedCPUs()
	if len(allowed) < 2 {
		t.Skip("one CPU: there is nowhere else to be")
	}
	cpu := fmt.Sprint(allowed[len(allowed)-1])
	list := regexp.MustCompile(`Cpus_allowed_list:\s*(.*)`)
	for range 5 {
		s := startServer(t, "--transport", "tcp", "--backend", "null", "--server-threads", "2", "--server-cpus", cpu)
		status, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", s.cmd.Process.Pid))
		if err != nil || len(status) < 4 {
			t.Fatalf("%d threads (%v)", len(status), err)
		}
		for _, name := range status {
			b, err := os.ReadFile(name)
			if os.IsNotExist(err) {
				continue // it has ended
			}
			if m := list.FindSubmatch(b); m == nil || string(m[1]) != cpu {
				t.Errorf("%s: %q (%v), want CPU %s", name, m, err, cpu)
			}
		}
		s.signal()
		s.end(exit.OK)
	}
}
