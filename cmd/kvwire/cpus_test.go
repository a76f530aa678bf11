package main

import (
	"fmt"
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// All threads of a process are where it was told to be, those too that the runtime had made before.
func TestAConfinedProcessHasNoThreadElsewhere(t *testing.T) {
	allowed := affinity()
	if len(allowed) < 2 {
		t.Skip("one CPU: there is nowhere else to be")
	}
	cpu := fmt.Sprint(allowed[len(allowed)-1])
	list := regexp.MustCompile(`Cpus_allowed_list:\s*(.*)`)
	for range 5 {
		s := serve(t, "--transport", "tcp", "--backend", "null", "--server-threads", "2", "--server-cpus", cpu)
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

// What is allowed is what kvwire was started with, also in a process that another side has confined.
func TestCPUsThatAreNotAllowedAreRefusedWithThoseThatAre(t *testing.T) {
	t.Setenv(allowedEnv, "0,1")
	err := checkAllowed("server-cpus", factor.CPUs{1, 2})
	if exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "CPU 2 is not allowed here (allowed here: 0,1)") {
		t.Errorf("%v", err)
	}
	if err := checkAllowed("server-cpus", factor.CPUs{0, 1}); err != nil {
		t.Error(err)
	}
	if err := confine(factor.CPUs{1023}); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "allowed here: 0,1") {
		t.Errorf("%v", err)
	}
}
