package report_test

import (
	"fmt"
	"log"
	"strings"

	"github.com/kvwire/kvwire/report"
)

// The rows of a runs.csv, of which columns may be missing. A field that was empty is not known.
func ExampleRead() {
	const csv = "schema_version,transport,depth,ops_per_s,lat_p99_ns\n2,tcp,16,151000,84000\n2,inproc,16,2100000,\n"
	rows, err := report.Read(strings.NewReader(csv))
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range rows {
		p99, known := r.LatP99Ns.Get()
		fmt.Printf("%s depth=%v: %v/s, p99 %d ns (known: %t)\n", r.Transport, r.Depth, r.OpsPerS, p99, known)
	}
	// Output:
	// tcp depth=16: 151000/s, p99 84000 ns (known: true)
	// inproc depth=16: 2100000/s, p99 0 ns (known: false)
}
