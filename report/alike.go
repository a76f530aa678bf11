package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ownColumns are, for each factor, the columns that belong to its values: if the factor is compared, they may differ, too. A name that ends with *
// stands for all columns with that prefix.
var ownColumns = map[string][]string{
	"transport":        {"client_transport", "device", "ring", "tls", "sqpoll", "taskrun", "huge_pages", "tcp_*", "uring_*", "rdma_*"},
	"client_transport": {"ring", "tls", "sqpoll", "taskrun", "tcp_*", "uring_*", "rdma_*"},
	"rdma_verb":        {"rdma_*"},
	"tcp_engine":       {"tcp_*", "tls"},
	"tls":              {"tcp_*"},
	"disk_engine":      {"disk_*", "direct_io", "fixed_buffers", "fixed_files", "sqpoll", "iopoll", "taskrun"},
	"backend":          {"disk_*", "direct_io", "fixed_buffers", "fixed_files", "sqpoll", "iopoll", "taskrun", "data_set", "null_*"},
	"server_threads":   {"client_threads", "net_loops", "store_loops", "conns", "server_cpus", "client_cpus"},
	"placement":        {"server_threads", "net_loops", "store_loops", "server_cpus", "client_cpus"},
	"client_threads":   {"conns", "client_cpus"},
	"mix":              {"scan_items", "data_set"},
	"update":           {"data_set"},
	"value_dist":       {"value_min_bytes"},
	"value_bytes":      {"value_min_bytes", "cache_bytes"},
	"workload":         {"mix", "key_dist", "theta", "scan_items", "key_bytes", "value_bytes", "value_dist", "value_min_bytes", "records", "data_set"},
	"trace": {"trace_*", "mix", "key_dist", "theta", "scan_items", "key_bytes", "value_bytes", "value_dist", "value_min_bytes", "records",
		"data_set", "arrival"},
	"loop": {"arrival", "target_per_s"},
}

// ofTwoProcesses are the columns that have another meaning, or none, for a run in one process: inproc and codec.
var ofTwoProcesses = []string{"client_threads", "client_cpus", "server_cpus", "hosts", "load_hosts"}

// mayDiffer reports whether a column is a compared factor or belongs to its values.
func mayDiffer(column string, compared []string) bool {
	for _, name := range compared {
		name = strings.ReplaceAll(name, "-", "_")
		if column == name || column == name+"_ns" { // spin-max is spin_max_ns
			return true
		}
		for _, own := range ownColumns[name] {
			if prefix, many := strings.CutSuffix(own, "*"); column == own || many && strings.HasPrefix(column, prefix) {
				return true
			}
		}
	}
	return false
}

// factor is a factor's value for a comparison, in which a copy of a data set counts as the data set itself.
func (r *Row) factor(column string) string {
	v, _ := r.Value(column)
	if column == "data_set" && v == "copied" {
		return "reused"
	}
	return v
}

// unlike is the first factor, other than the compared ones, in which two runs differ; "": none. A factor that one run does not have
// does not apply to it, and is no difference.
func unlike(a, b *Row, compared []string) (column string) {
	for _, c := range FactorColumns() {
		x, y := a.factor(c), b.factor(c)
		if x == "" || y == "" || x == y || mayDiffer(c, compared) || a.inProcess() != b.inProcess() && slices.Contains(ofTwoProcesses, c) {
			continue
		}
		return c
	}
	return ""
}

// unlike is why a variant, or the baseline again, is not comparable with the baseline: in some generation they differ in another factor than the
// compared ones. "": they are comparable.
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
