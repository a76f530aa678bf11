//go:build rdma && cgo && linux

package verbs

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestLossesChangeNoCompletion runs TestDevicesAgree in a process whose link loses packets: what comes of the work requests is the same.
func TestLossesChangeNoCompletion(t *testing.T) {
	if modelSymbols == nil || os.Getenv(linkEnv) != "" {
		t.Skip("for the model only")
	}
	links := []string{"loss=0.02,seed=1", "loss=0.05,seed=2,mtu=256,rate=10Gbps"}
	if testing.Short() {
		links = links[:1]
	}
	for _, link := range links {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestDevicesAgree$", "-test.v")
		cmd.Env = append(os.Environ(), linkEnv+"="+link, "KVWIRE_UPDATE=")
		out, err := cmd.CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err != nil {
			t.Fatalf("%s: %v\n%s", link, err, strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
		for _, l := range lines {
			if strings.Contains(l, "packets lost") {
				t.Logf("%s: %s", link, strings.TrimSpace(l))
			}
		}
	}
}
