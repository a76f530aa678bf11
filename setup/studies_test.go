package setup_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Six rounds agree or disagree with the claim, fewer do not, and a run of fio that failed is in no ratio.
func TestFioScriptHoldsTheClaimAgainstFio(t *testing.T) {
	for _, c := range []struct{ rounds, fail, want string }{
		{"6", "", "randread 16      0.500 of fio (0.500 to 0.500, 6 rounds): disagrees"},
		{"6", "fio 1", "randread 16      0.500 of fio (0.500 to 0.500, 5 rounds): too few rounds"},
		{"1", "", "randrw 16        0.500 of fio (0.500 to 0.500, 1 rounds): too few rounds"},
	} {
		out, complaints := benchScript(t, c.fail, "fio.sh", c.rounds, "1", "1k", "0.9", "16")
		if !strings.Contains(out, c.want) {
			t.Errorf("%s rounds, %q fails:\n%s%s", c.rounds, c.fail, out, complaints)
		}
	}
	if out, _ := benchScript(t, "", "fio.sh", "6", "1", "1k", "0.4", "16"); strings.Count(out, ": agrees") != 3 {
		t.Errorf("0.5 of fio, and 0.4 is close:\n%s", out)
	}
}

// table writes a file of results, and returns its path.
func table(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "runs.csv")
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestMemoryScriptExtendsTheLine(t *testing.T) {
	name := table(t, "server_cpus,valid,records,index_bytes_per_key\n\"0,1\",true,1000000,30\n\"0,1\",true,2000000,30\nany,true,4000000,30\nany,false,8000000,90\n")
	out, complaints := benchScript(t, "", "memory.sh", name, "100000000")
	if !strings.Contains(out, "1000000 keys: 30.00 bytes a key (1 runs)") || !strings.Contains(out, "the line: 30.00 bytes for each key more; 100000000 keys: 2.79 GiB, 30.00 bytes a key") || strings.Contains(out, "8000000 keys") {
		t.Errorf("%s%s", out, complaints)
	}
}

func TestWorkbookScriptPrintsTheTable(t *testing.T) {
	name := table(t, `phase,transport,rdma_verb,mix,key_dist,valid,invalid_reason,ops_per_s,lat_mean_ns,lat_p99_ns,lat_max_ns
measure,inproc,,a,uniform,true,,1000,10000,20000,30000
measure,inproc,,a,uniform,true,,2000,20000,40000,90000
measure,inproc,,a,uniform,true,,3000,30000,60000,50000
breakdown,inproc,,a,uniform,true,,9,9,9,9
measure,rdma,write,a,uniform,true,,500,15000,,70000
measure,tcp,,a,uniform,false,"errors: io error 1, busy 2",7,7,7,7
`)
	out, complaints := benchScript(t, "", "workbook.sh", name)
	if !strings.Contains(out, "| A | uniform | 2000, 20 / 40 / 90 | - | - | 500, 15 / - / 70 | - |\n") {
		t.Errorf("%s%s", out, complaints)
	}
}
