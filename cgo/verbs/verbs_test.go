package verbs

import (
	"errors"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/probe"
)

func TestUnavailableSaysWhyAndWhatToDoOnOneLine(t *testing.T) {
	none := probe.Finding{Name: "RDMA device", State: probe.Unavailable, Why: "none; rdma_rxe can make one", Remedy: "modprobe rdma_rxe"}
	there := probe.Finding{Name: "RDMA device", State: probe.Available, Why: "rxe0"}
	for _, c := range []struct {
		name   string
		built  bool
		device probe.Finding
		has    []string
		hasNot []string
	}{
		{"left out, no device", false, none, []string{"make build", "build tag rdma", "none; rdma_rxe can make one", "modprobe rdma_rxe"}, nil},
		{"left out, device there", false, there, []string{"make build"}, []string{"rxe0", "for a device"}},
		{"built, no device", true, none, []string{"not implemented in this version", "modprobe rdma_rxe"}, []string{"make build"}},
		{"built, device there", true, there, []string{"not implemented in this version", "use inproc, tcp or uring"}, []string{"make build", "for a device"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := unavailable(c.built, c.device)
			var refusal *probe.Refusal
			if !errors.As(err, &refusal) {
				t.Fatalf("%T is no refusal", err)
			}
			for _, s := range c.has {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q is not in: %v", s, err)
				}
			}
			for _, s := range append(c.hasNot, "\n") {
				if strings.Contains(err.Error(), s) {
					t.Errorf("%q is in: %v", s, err)
				}
			}
		})
	}
}
