package fleet

import (
	"strings"
	"testing"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
)

// The allowed CPUs are those with which kvwire was started, also in a process that kvwire has moved to fewer CPUs.
func TestCPUsThatAreNotAllowedAreRefusedWithThoseThatAre(t *testing.T) {
	t.Setenv(allowedEnv, "0,1")
	err := CheckAllowed("server-cpus", factor.CPUs{1, 2})
	if exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "CPU 2 is not allowed here (allowed here: 0,1)") {
		t.Errorf("%v", err)
	}
	if err := CheckAllowed("server-cpus", factor.CPUs{0, 1}); err != nil {
		t.Error(err)
	}
	if err := Confine(factor.CPUs{1023}); exit.Code(err) != exit.Usage || !strings.Contains(err.Error(), "allowed here: 0,1") {
		t.Errorf("%v", err)
	}
}
