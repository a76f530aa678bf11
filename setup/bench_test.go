package setup_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
)

// fakes are programs that print the same figure each time, but for the runs that $FAIL names: "ib_send_lat 2" is the second of ib_send_lat's.
// Those print what a failed run prints, and end with code 1.
var fakes = map[string]string{
	"lib": `
run() { # NAME FIGURES…: counts this run, and fails or prints
	local n=$(($(cat "$WORK/runs-$1" 2>/dev/null || echo 0) + 1))
	echo $n >"$WORK/runs-$1"
	[[ " $FAIL," != *" $1 $n,"* ]] || { echo "$1: no luck" >&2; exit 1; }
	shift
	printf '%s\n' "$@"
}`,
	// 200 and 100 are how often a script looks for a server, which does not listen here.
	"seq":     `case $1 in 100 | 200) ;; *) PATH=${PATH#*:} exec seq "$@" ;; esac`,
	"shuf":    `[[ $1 == -e ]] || PATH=${PATH#*:} exec shuf "$@"; shift; printf '%s\n' "$@"`, // in the order given
	"taskset": `shift 2; exec "$@"`,
	"nproc":   `echo 2`,
	"kvwire": `case $1 in
doctor) echo "rxe0: --listen 10.77.0.1:7070 (rxe0 port 1, GID 1 (RoCE v2))" ;;
load)
	while (($# > 1)); do [[ $1 != --dir ]] || { mkdir -p "$2/shard-000"; head -c 8192 /dev/zero >"$2/shard-000/slab-00"; }; shift; done ;;
serve) exec sleep 60 ;;
bench) run kvwire '{"ops_per_s":1000,"lat_p50_ns":20000,"client_user_ns_per_op":500,"client_sys_ns_per_op":500,"server_user_ns_per_op":400,"server_sys_ns_per_op":600}' ;;
esac`,
	"ib_": `[[ $* =~ " -n "[0-9] ]] || exit 1
[[ ${*: -1} == 10.77.0.1 ]] || exit 0
run "${0##*/}" '#bytes' " 64 2000 4.00 9.00 $([[ $0 == *bw ]] && echo 0.002 || echo 5.00) 5.10 0.1 6.0 7.0"`,
	"sockperf":        `[[ $1 == ping-pong ]] || exec sleep 60; run sockperf 'sockperf: ---> percentile 50.000 =   10.000'`,
	"fio":             `[[ $* != *--rw=write* ]] || exit 0; run fio '      "iops" : 0.000000,' '      "iops" : 2000.000000,'`,
	"redis-check-rdb": `exec sleep 60`,
	"redis-cli":       redisCLI,
	"redis-benchmark": `run redis-benchmark '"test","rps"' '"GET","1000"'`,
	"valkey-server":   `exec sleep 60`,
	"valkey-cli":      `[[ $1 != --help ]] || { echo --rdma && exit; }` + "\n" + redisCLI,
	"valkey-benchmark": `[[ $1 != --help ]] || { echo --rdma && exit; }
run valkey-benchmark '"test","rps"' '"GET","1000"'`,
}

const redisCLI = `case $* in
*ping) echo PONG ;;
*set*) echo OK ;;
*get*) echo hello ;;
*cpu) n=$(cat "$WORK/cpu" 2>/dev/null || echo 0); echo $((n + 1)) >"$WORK/cpu"; printf 'used_cpu_sys:%d\r\nused_cpu_user:1\r\n' $n ;;
*) printf 'redis_version:1.2.3\r\nvalkey_version:1.2.3\r\n' ;;
esac`

// benchScript runs a script of bench/ with fake programs, and returns what it prints.
func benchScript(t *testing.T, fail, name string, args ...string) (out, complaints string) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"bin", "bench", "data"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, script := range []string{"lib.sh", name} {
		b, err := os.ReadFile(filepath.Join("../bench", script))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "bench", script), b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	programs := map[string]string{}
	for program, text := range fakes {
		programs[program] = text
	}
	for _, verb := range []string{"send_lat", "write_lat", "read_lat", "send_bw"} {
		programs["ib_"+verb] = fakes["ib_"]
	}
	for program, text := range programs {
		if err := os.WriteFile(filepath.Join(dir, "bin", program), []byte("#!/bin/bash\n"+fakes["lib"]+"\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "timeout", append([]string{"60", filepath.Join(dir, "bench", name)}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "WORK="+filepath.Join(dir, "data"), "FAIL="+fail, "KVWIRE_DIR="+dir)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s, where %q fails: %v\n%s%s", name, fail, err, &stdout, &stderr)
	}
	return stdout.String(), stderr.String()
}

// fields makes one space of each run of them.
func fields(s string) string { return regexp.MustCompile(`[ \t]+`).ReplaceAllString(s, " ") }

// Figures are equal in every round. A run that fails, which looked like 0, is in no median, and is counted.
func TestFailedRunsAreInNoMedian(t *testing.T) {
	for _, c := range []struct {
		script string
		args   []string
		fail   string
		want   []string // lines of what is printed
		says   string   // on stderr
	}{
		{"perftest.sh", []string{"2", "1"}, "none", []string{" median 10.000 10.000 20.000 2.000 10.000 20.000 2.000 5.000 20.000 4.000 2.000 2.000 1.000 1.000"}, ""},
		{"perftest.sh", []string{"2", "1"}, "ib_send_lat 1", []string{" median 10.000 10.000 20.000 2.000 10.000 20.000 2.000 5.000 20.000 4.000 2.000 2.000 1.000 1.000"}, ""},
		{"perftest.sh", []string{"2", "1"}, "ib_send_lat 1, ib_send_bw 2, kvwire 2", []string{
			" 1 - 10.00 20.00 - 10.00 - - 5.00 20.00 4.000 2.0 2.0 1.000 -",
			" median 10.000 10.000 20.000 2.000 10.000 20.000 2.000 5.000 20.000 4.000 2.000 2.000 1.000 1.000",
			" failed 1 0 0 1 0 1 1 0 0 0 1 0 1 1"}, "perftest.sh: ib_send_lat failed and is left out"},
		{"echo.sh", []string{"2", "1"}, "sockperf 1, kvwire 4", []string{
			" 1 - 10.00 20.00 20.00 - - -",
			"median 10.000 10.000 20.000 20.000 1.000 2.000 -",
			"from - - - - - - -",
			"failed 1 0 0 1 1 1 2"}, "echo.sh: kvwire bench --transport uring failed and is left out"},
		{"echo.sh", []string{"7", "1"}, "kvwire 1", []string{
			"from 10.000 10.000 20.000 20.000 1.000 2.000 2.000",
			"to 10.000 10.000 20.000 20.000 1.000 2.000 2.000",
			"failed 0 0 1 0 0 1 0"}, "echo.sh: kvwire bench --transport tcp failed and is left out"},
		{"store.sh", []string{"2", "1", "1k"}, "fio 1, kvwire 1, fio 10, kvwire 10", []string{
			"get-depth-1 - 2000 - - -",
			"get-depth-1 median ratio 0.500, A/A 1.000, 1 of 2 rounds failed",
			"get-depth-16 median ratio 0.500, A/A 1.000",
			"put-inplace-depth-64 median ratio 0.500, A/A 1.000, 1 of 2 rounds failed",
			"flush/device median ratio 1.000, of fio 1.000"}, "store.sh: fio --rw=randread failed and is left out"},
		{"peers.sh", []string{"2", "1"}, "redis-benchmark 11, kvwire 1", []string{"2 of 96 runs failed, and are in no median"}, "failed and is left out"},
		{"peers.sh", []string{"--rdma", "2", "1"}, "valkey-benchmark 9, kvwire 1", []string{"valkey-cli with kvwire over rdma: ok",
			"2 of 64 runs failed, and are in no median"}, "failed and is left out"},
		{"sockets.sh", []string{"2", "1", "quickack"}, "kvwire 5, kvwire 7", []string{
			"1 x 1 64 get: 1000 operations/s, 2.00 us of CPU each", "4 x 4 1MiB get: 1000 operations/s, 2.00 us of CPU each",
			"2 of 36 runs failed, and are in no median"}, "failed and is left out"},
	} {
		t.Run(c.script+" "+c.fail, func(t *testing.T) {
			if c.script == "perftest.sh" && !strings.Contains(c.fail, ",") || c.script == "sockets.sh" || c.script == "peers.sh" {
				testenv.NotShort(t, "the other runs of this script, or of one that has the same lines, fail in more ways")
			}
			t.Parallel()
			out, said := benchScript(t, c.fail, c.script, c.args...)
			lines := "\n" + fields(out)
			for _, want := range c.want {
				if !strings.Contains(lines, "\n"+want+"\n") {
					t.Errorf("no line %q in\n%s%s", want, out, said)
				}
			}
			if !strings.Contains(said, c.says) {
				t.Errorf("it does not say %q: %s", c.says, said)
			}
			for _, wrong := range regexp.MustCompile(`(?m)^.* x 0\.\d.*$|^.*\b(nan|inf)\b.*$|^.*\b(0|500)/s .*$`).FindAllString(lines, -1) {
				t.Errorf("a figure of a failed run: %q", wrong)
			}
		})
	}
}

// The interval contains the median with a probability of at least 95 %: of n figures k are left out on each side, where fewer than k heads in n tosses of a coin have a
// probability of at most 2.5 %.
func TestTheIntervalOfAMedian(t *testing.T) {
	for figures, want := range map[string]string{"5": "- -", "6": "1 6", "8": "1 8", "9": "2 8", "20": "6 15", "100": "40 61", "1200": "566 635"} {
		out, err := exec.CommandContext(t.Context(), "bash", "-c", `. ../bench/lib.sh; seq "$0" | shuf | center | cut -d ' ' -f 2-`, figures).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("of 1 to %s: %q, expected %q (%v)", figures, got, want, err)
		}
	}
}
