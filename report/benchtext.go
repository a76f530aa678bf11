package report

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
)

// WriteBench writes runs in the form of Go benchmarks (golang.org/design/14313-benchmark-format), which benchstat reads: a line for each run,
// named by name, with the time per operation at this rate, latencies and CPU time. Runs without operations are left out.
func WriteBench(w io.Writer, experiment string, rows []Row, name func(r *Row) string) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "goos: linux\ngoarch: %s\npkg: kvwire/%s\n", runtime.GOARCH, experiment)
	for i := range rows {
		r := &rows[i]
		ops, ok := r.Ops.Get()
		rate, ok2 := r.OpsPerS.Get()
		if !ok || !ok2 || rate <= 0 {
			continue
		}
		fmt.Fprintf(b, "Benchmark%s %d %.6g ns/op", name(r), ops, 1e9/rate)
		for _, m := range Metrics {
			if v, ok := m.of(r).Get(); ok {
				fmt.Fprintf(b, " %.6g %s", v, m.unit)
			}
		}
		fmt.Fprintln(b)
	}
	return b.Flush()
}
