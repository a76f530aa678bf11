package report

import (
	"slices"
	"testing"

	"github.com/kvwire/kvwire/factor"
)

// Which columns belong to a compared factor follows from the table of factors.
func TestColumnsOfAComparedFactorMayDiffer(t *testing.T) {
	table := factor.All
	factor.All = append(slices.Clone(table), factor.Factor{Name: "made-up-bytes", Owners: []string{"wait"}, At: func(v *factor.Values) any { return &v.Load.KeyBytes }})
	t.Cleanup(func() { factor.All = table })
	for _, c := range []struct {
		column, compared string
		want             bool
	}{
		{"made_up_bytes", "wait", true}, {"made_up_bytes", "made-up-bytes", true}, {"made_up_bytes", "depth", false},
		{"spin_max_ns", "spin-max", true}, {"tcp_cork", "transport", true}, {"tcp_cork", "rdma-verb", false}, {"data_set", "mix", true}, {"data_set", "depth", false},
	} {
		if got := mayDiffer(c.column, []string{"seed", c.compared}); got != c.want {
			t.Errorf("%s where %s is compared: %t", c.column, c.compared, got)
		}
	}
}
