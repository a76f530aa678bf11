package report

import (
	"fmt"
	"maps"
	"slices"

	"github.com/kvwire/kvwire/factor"
)

// owners are, for each factor column that is not in factor.All, the factors to whose values it belongs.
var owners = map[string][]string{
	"device": {"transport"}, "fabric": {"transport", "client-transport"}, "rdma_provider": {"transport", "client-transport", "rdma-verb"}, "direct_io": {"disk-engine", "backend"},
	"tcp_slow_start_after_idle": {"transport", "client-transport", "tcp-engine", "tls"},
	"data_set":                  {"backend", "mix", "update", "workload", "trace"}, "theta": {"workload", "trace"},
}

// ofTwoProcesses are the columns that have another meaning, or none, for a run in one process: inproc and codec.
var ofTwoProcesses = []string{"client_threads", "client_cpus", "server_cpus", "hosts", "load_hosts"}

// mayDiffer reports whether a column is a compared factor or belongs to its values.
func mayDiffer(column string, compared []string) bool {
	f := factor.All.ByColumn(column)
	return slices.ContainsFunc(compared, func(name string) bool {
		return f != nil && (f.Name == name || f.BelongsTo(name)) || slices.Contains(owners[column], name)
	})
}

// factor returns a factor's value for a comparison. A copy of a data set counts as the data set itself.
func (r *Row) factor(column string) string {
	v, _ := r.Value(column)
	if column == "data_set" && v == "copied" {
		return "reused"
	}
	return v
}

// unlike returns the first factor, other than the compared ones, in which two runs differ; "": none. A factor that one run does not have
// does not apply to it, and is no difference.
func unlike(a, b *Row, compared []string) (column string) {
	for _, c := range FactorColumns() {
		x, y := a.factor(c), b.factor(c)
		if x == "" || y == "" || x == y || mayDiffer(c, compared) || a.inProcess() != b.inProcess() && slices.Contains(ofTwoProcesses, c) {
			continue
		}
		if c == "client_cpus" && a.inProcess() && b.inProcess() && slices.Contains(compared, "server-cpus") { // one process has the CPUs of both
			continue
		}
		return c
	}
	return ""
}

// unlike returns the reason why a variant, or the baseline again, is not comparable with the baseline: in some generation they differ in another factor
// than the compared ones. "": they are comparable.
func (q *Pairs) unlike(v *Series) (why string) {
	if len(q.Compared) == 0 {
		return ""
	}
	for _, g := range slices.Sorted(maps.Keys(v.Rows)) {
		base, r := q.Baseline.Rows[g], v.Rows[g]
		if base == nil || base.SkippedReason != "" || r.SkippedReason != "" {
			continue
		}
		if c := unlike(base, r, q.Compared); c != "" {
			return fmt.Sprintf("a comparison by %s would differ in %s, too: %s has %s, and %s has %s, in generation %d: measure both with the same value",
				q.Compared[0], c, q.Baseline.Label, base.factor(c), v.Label, r.factor(c), g)
		}
	}
	return ""
}
