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
		name    string
		built   bool
		devices int
		err     error
		device  probe.Finding
		has     []string
		hasNot  []string
	}{
		{"left out, no device", false, 0, nil, none, []string{"make build", "build tag rdma", "none; rdma_rxe can make one", "modprobe rdma_rxe"}, nil},
		{"left out, device there", false, 0, nil, there, []string{"make build"}, []string{"rxe0", "for a device"}},
		{"built, no device", true, 0, nil, none, []string{"no device", "modprobe rdma_rxe"}, []string{"make build"}},
		{"built, no library", true, 0, errors.New("verbs: load libibverbs.so.1: no such file (apt-get install libibverbs1)"), there, []string{"apt-get install libibverbs1"}, []string{"make build", "for a device"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := unavailable(c.built, c.devices, c.err, func() probe.Finding { return c.device })
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
	if err := unavailable(true, 1, nil, func() probe.Finding { return there }); err != nil {
		t.Errorf("with a device: %v", err)
	}
}

func TestMTUCodes(t *testing.T) {
	for code, bytes := range []int{0, 256, 512, 1024, 2048, 4096, 0} {
		if got := MTUBytes(uint8(code)); got != bytes {
			t.Errorf("code %d is %d B, want %d", code, got, bytes)
		}
	}
	for bytes, code := range map[int]uint8{0: 1, 256: 1, 1000: 2, 1024: 3, 1500: 3, 4096: 5, 9000: 5} {
		if got := mtuCode(bytes); got != code {
			t.Errorf("%d B have code %d, want %d", bytes, got, code)
		}
	}
}
