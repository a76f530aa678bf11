package report

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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

// manifestName is checked by `sha256sum -c`.
const manifestName = "MANIFEST.sha256"

// WriteManifest writes the sums of all files in a folder of results.
func WriteManifest(dir string) error {
	var text strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == manifestName || d.Name() == lockName {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		fmt.Fprintf(&text, "%x  %s\n", h.Sum(nil), rel)
		return err
	})
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(dir, manifestName), []byte(text.String()))
}
