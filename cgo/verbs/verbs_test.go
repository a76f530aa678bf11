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
		{"built, no device", true, 0, nil, none, []string{"rdma: none; rdma_rxe can make one; libibverbs finds no device", "modprobe rdma_rxe"}, []string{"make build"}},
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

func TestInlineDataIsAsMuchAsTheDeviceGrants(t *testing.T) {
	refused := errors.New("invalid argument")
	for _, c := range []struct{ want, limit, got, tries int }{
		{220, 1000, 220, 1}, {220, 220, 220, 1}, {220, 192, 192, 2}, {220, 191, 160, 3}, {220, 100, 96, 5}, {220, 64, 64, 6}, {220, 36, 32, 7}, {220, 0, 0, 8},
		{1024, 900, 896, 2}, {1024, 0, 0, 9}, {64, 60, 48, 2}, {16, 15, 0, 2}, {1, 0, 0, 2}, {0, 0, 0, 1},
	} {
		got, tries := -1, 0
		err := withInline(c.want, func(bytes int) error {
			if tries++; bytes > c.limit {
				return refused
			}
			got = bytes
			return nil
		})
		if err != nil || got != c.got || tries != c.tries {
			t.Errorf("of %d B with a limit of %d: %d B after %d tries, %v; want %d after %d", c.want, c.limit, got, tries, err, c.got, c.tries)
		}
	}
	if err := withInline(220, func(int) error { return refused }); err != refused {
		t.Errorf("what cannot be made: %v", err)
	}
}

func TestCompletionVectorsAreSpread(t *testing.T) {
	for _, c := range []struct{ user, vectors, want int }{{0, 4, 0}, {3, 4, 3}, {4, 4, 0}, {7, 4, 3}, {5, 1, 0}, {5, 0, 0}} {
		if got := vectorOf(c.user, c.vectors); got != c.want {
			t.Errorf("user %d of %d vectors: %d, want %d", c.user, c.vectors, got, c.want)
		}
	}
}
