package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
)

// madeUp adds a factor to the table of a process that has this variable in its environment.
const madeUp = "KVWIRE_TEST_MADE_UP"

// addMadeUp adds it. Its values are outside factor.Values.
func addMadeUp() {
	var lock sync.Mutex
	values := map[*factor.Values]*factor.Bytes{}
	at := func(v *factor.Values) any {
		lock.Lock()
		defer lock.Unlock()
		if values[v] == nil {
			values[v] = new(factor.Bytes)
		}
		return values[v]
	}
	factor.All = append(factor.All, factor.Factor{Name: "made-up-bytes", Group: "Made up", Side: factor.Server | factor.Client | factor.Alike, Default: "4KiB", Owners: []string{"transport"},
		Range: factor.Span{Least: "1", Most: "1MiB"}, At: at,
		Help: "a flag that is made up", Meaning: "a column that is made up", When: factor.Where("transport", "tcp")})
}

// A factor is described in one row of the table: all that users see of it follows from that row.
func TestAFactorIsOneRowOfTheTable(t *testing.T) {
	t.Setenv(madeUp, "1")
	shown := func(code int, args ...string) string {
		t.Helper()
		cmd := asKvwire(t.Context(), args...)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("kvwire %s: exit code %d, and not %d: %s", strings.Join(args, " "), got, code, out)
		}
		return string(out)
	}
	has := func(what, text, part string) {
		t.Helper()
		if !strings.Contains(text, part) {
			t.Errorf("%s: there is no %q in %s", what, part, text)
		}
	}
	for _, command := range []string{"bench", "serve"} {
		has("help of "+command, shown(exit.OK, command, "--help-all"), "\nMade up:\n      --made-up-bytes size   a flag that is made up (1 to 1MiB) (default 4KiB)")
	}
	has("a flag out of range", shown(exit.Usage, "bench", "--made-up-bytes", "0"), "--made-up-bytes 0: must be from 1 to 1MiB")
	has("a flag elsewhere", shown(exit.Usage, "bench", "--transport", "inproc", "--made-up-bytes", "1KiB"), "--made-up-bytes needs --transport tcp, not inproc")
	has("documentation", shown(exit.OK, "columns"), "| `made-up-bytes` | made_up_bytes | size | 4KiB | 1 to 1MiB | transport=tcp | a column that is made up |")

	dir := t.TempDir()
	file := filepath.Join(dir, "experiment.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("name: made\ntransport: tcp\nmade-up-bytes: 2MiB\n")
	has("a key out of range", shown(exit.Usage, "run", file), file+":3:16: made-up-bytes: must be from 1 to 1MiB")
	out := filepath.Join(dir, "out")
	owned := "name: owned\ntransport: [tcp, inproc]\nbackend: null\noverrides: {tcp: {%s: 8}}\n"
	write(fmt.Sprintf(owned, "made-up-bytes"))
	shown(exit.OK, "run", file, "--dry-run")
	write(fmt.Sprintf(owned, "depth"))
	has("an override that belongs to no transport", shown(exit.Usage, "run", file, "--dry-run"), "a comparison of transports would differ in depth too")
	write("name: made\ntransport: [tcp, inproc]\nbackend: null\nmade-up-bytes: [1KiB, 2KiB]\nduration: 5ms\nwarmup: 0s\nslice: whole\ngenerations: 1\n")
	shown(exit.OK, "run", file, "--output-dir", out)

	text, err := os.ReadFile(filepath.Join(out, lab.RowsFile))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	header := strings.Split(lines[0], ",")
	at := slices.Index(header, "made_up_bytes")
	if at < 0 || header[at+1] != "slices" {
		t.Fatalf("%q has no column made_up_bytes behind all other factors", header)
	}
	transport := slices.Index(header, "transport")
	found := map[string]int{}
	for _, line := range lines[1:] {
		fields := strings.Split(line, ",")
		found[fields[transport]+" "+fields[at]]++
	}
	if found["tcp 1024"] == 0 || found["tcp 2048"] == 0 || found["inproc "] == 0 || len(found) != 3 {
		t.Errorf("values of the column: %v", found)
	}
	about, err := os.ReadFile(filepath.Join(out, "datapackage.json"))
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Resources []struct {
			Schema struct {
				Fields []struct{ Name, Type, Unit, Description string }
			}
		}
	}
	if err := json.Unmarshal(about, &p); err != nil || len(p.Resources) == 0 {
		t.Fatal(err)
	}
	if f := p.Resources[0].Schema.Fields[at]; f.Name != "made_up_bytes" || f.Type != "integer" || f.Unit != "B" || f.Description != "a column that is made up" {
		t.Errorf("datapackage.json: %+v", f)
	}
}

// docs/columns.md has every factor and every column.
func TestColumnsAreDocumented(t *testing.T) {
	var b strings.Builder
	if err := report.WriteColumns(&b); err != nil {
		t.Fatal(err)
	}
	const name = "../../docs/columns.md"
	if os.Getenv("KVWIRE_UPDATE") == "1" {
		if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil || string(text) != b.String() {
		t.Errorf("%s is out of date (%v): kvwire columns >docs/columns.md", name, err)
	}
}
