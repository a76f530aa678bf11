package report

import (
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/factor"
)

func TestEveryColumnHasAMeaning(t *testing.T) {
	for _, c := range rowSchema().columns {
		if c.meaning == "" {
			t.Errorf("runs.csv: the column %s has no meaning: give it a line in columns.go", c.name)
		}
	}
	all := Columns()
	for c := range meanings {
		if !slices.Contains(all, c) {
			t.Errorf("columns.go describes %s, which is not a column", c)
		}
	}
	for _, f := range factor.All {
		if c := f.ColumnName(); meanings[c] != "" {
			t.Errorf("columns.go describes %s, and so does factor.All", c)
		}
	}
	for _, c := range SliceColumns() {
		if sliceMeanings[c] == "" {
			t.Errorf("slices.csv: the column %s has no meaning: give it a line in columns.go", c)
		}
	}
	if len(sliceMeanings) != len(SliceColumns()) {
		t.Errorf("%d meanings of %d columns of slices.csv", len(sliceMeanings), len(SliceColumns()))
	}
	for _, fields := range [][]tableField{seriesColumns, histColumns, compareColumns, carryColumns, stepColumns, billColumns} {
		for _, f := range fields {
			if f.meaning == "" {
				t.Errorf("the column %s has no meaning", f.name)
			}
		}
	}
}

func TestUnitsAreThoseOfTheNames(t *testing.T) {
	for name, want := range map[string]string{"lat_p50_ns": "ns", "client_sys_ns_per_op": "ns/op", "bytes_copied_per_op": "B/op", "goodput_bytes_per_s": "B/s", "ops_per_s": "1/s",
		"disk_syscalls_per_io": "1/IO", "achieved_ratio": "1", "allocs_per_op": "1/op", "value_bytes": "B", "mix": "", "generation": "", "client_cpu_ns": "ns"} {
		if got := unitOf(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// recorded is a folder with two runs, the second of which is an open loop's.
func recorded(t *testing.T) (dir string, rows []Row) {
	t.Helper()
	dir = t.TempDir()
	for _, run := range []string{"one", "two"} {
		res := &bench.Result{Lat: hist(1000, 1000, 70_000), Series: []bench.Bin{{Length: time.Second, Ops: 3}}}
		if run == "two" {
			res.Svc, res.Lag = hist(900), hist(5, 6)
		}
		if err := Record(dir, run, res); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, Row{RunID: run, Ops: U(3)})
	}
	f, err := os.Create(filepath.Join(dir, "runs.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := NewWriter(f)
	for _, r := range rows {
		if err == nil {
			err = w.Append(r)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, append(rows, Row{RunID: "skipped", SkippedReason: "no device"})
}

func TestHistogramsHaveALineForEachBucketWithACount(t *testing.T) {
	dir, rows := recorded(t)
	if err := WriteHistograms(dir, rows); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "hist.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(z).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range lines {
		got = append(got, strings.Join(l, ","))
	}
	want := []string{"run_id,kind,lower_ns,upper_ns,count", "one,lat,1000,1000,2", "one,lat,69952,70015,1", "two,lat,1000,1000,2", "two,lat,69952,70015,1",
		"two,svc,900,900,1", "two,lag,5,5,1", "two,lag,6,6,1"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if h, err := ReadHistogram(dir, "two"); err != nil || h.TotalCount() != 3 {
		t.Errorf("the latencies are the first: %v, %v", h, err)
	}
	if err := os.Truncate(histogramFile(dir, "one"), 200); err == nil {
		if _, err := ReadHistogram(dir, "one"); err == nil || !strings.Contains(err.Error(), "one.hlog") {
			t.Errorf("half a histogram: %v", err)
		}
	}
}

// The form that specs.frictionlessdata.io asks for, version 1, and that each field is a column of its file, in order.
func TestPackageDescribesTheFilesThatAreThere(t *testing.T) {
	dir, rows := recorded(t)
	if err := WriteHistograms(dir, rows); err != nil {
		t.Fatal(err)
	}
	slicesOf, err := OpenSlices(filepath.Join(dir, SlicesFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(slicesOf.Append(Slice{RunID: "one", Slice: I(1)}), slicesOf.Close(), WritePackage(dir, "small")); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "datapackage.json"))
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Name      string
		Licenses  []struct{ Name, Path string }
		Resources []struct {
			Name, Path string
			Schema     struct {
				Fields                    []struct{ Name, Type, Description string }
				MissingValues, PrimaryKey []string
			}
		}
	}
	if err := json.Unmarshal(b, &p); err != nil || p.Name != "small" {
		t.Fatalf("%v, %q", err, p.Name)
	}
	if len(p.Licenses) != 1 || p.Licenses[0].Name != "Apache-2.0" || p.Licenses[0].Path == "" {
		t.Errorf("licences: %+v", p.Licenses)
	}
	var paths []string
	for _, r := range p.Resources {
		paths = append(paths, r.Path)
		if r.Name == "" || !slices.Equal(r.Schema.MissingValues, []string{""}) || len(r.Schema.PrimaryKey) == 0 {
			t.Errorf("%s: %q, missing %q, key %q", r.Path, r.Name, r.Schema.MissingValues, r.Schema.PrimaryKey)
		}
		var columns []string
		for _, f := range r.Schema.Fields {
			columns = append(columns, f.Name)
			if f.Description == "" || !slices.Contains([]string{"string", "integer", "number", "boolean", "datetime"}, f.Type) {
				t.Errorf("%s: %+v", r.Path, f)
			}
		}
		if got := header(t, filepath.Join(dir, r.Path)); !slices.Equal(got, columns) {
			t.Errorf("%s has the columns %q, and its description %q", r.Path, got, columns)
		}
		for _, k := range r.Schema.PrimaryKey {
			if !slices.Contains(columns, k) {
				t.Errorf("%s: the key's %s is no column", r.Path, k)
			}
		}
	}
	if !slices.Equal(paths, []string{"runs.csv", "slices.csv", "timeseries.csv", "hist.csv.gz"}) { // nothing was compared
		t.Error(paths)
	}
}

// header is the first line of a CSV file, compressed or not.
func header(t *testing.T, name string) []string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	if filepath.Ext(name) == ".gz" {
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		r = csv.NewReader(z)
	}
	line, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// A file of version 1 is described by its own columns.
func TestThePackageDescribesOlderFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"runs.csv": "schema_version,block,ops\n", "runs-guest.csv": "ops\n", "compare.csv": "question,pairs,riddle\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := WritePackage(dir, "old"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "datapackage.json"))
	if err != nil {
		t.Fatal(err)
	}
	var p dataPackage
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range p.Resources {
		for _, f := range r.Schema.Fields {
			got[r.Path] += f.Name + ":" + f.Type + " "
		}
	}
	for path, want := range map[string]string{"runs.csv": "schema_version:integer block:integer ops:integer ", "runs-guest.csv": "ops:integer ", "compare.csv": "question:string pairs:integer riddle:any "} {
		if got[path] != want {
			t.Errorf("%s: %q, want %q", path, got[path], want)
		}
	}
}
