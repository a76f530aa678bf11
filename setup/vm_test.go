package setup_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// fakeGuest takes the place of qemu, and prints what a guest's init prints. Its clock is this machine's plus, each time that it is read, the next of
// $LIES hundredths of a second.
const fakeGuest = `lies=($LIES) n=0
for a; do
	case $a in
	pipe,id=ctl,path=*) ctl=${a#*path=} ;;
	file,id=out,path=*) out=${a#*path=} ;;
	esac
done
printf '%s\n' "$@" >"$WORK/args"
: >"${out%/out}/console"
exec 8<>"$ctl.in" 9<>"$ctl.out"
echo up >&9
while read -r word <&8; do
	case $word in
	clock)
		read -r up _ </proc/uptime
		up=$((10#${up/./} + ${lies[n]:-0}))
		printf 'clock %d.%02d\n' $((up / 100)) $((up % 100)) >&9
		((n++ > 0)) || echo ready >&9
		;;
	go)
		echo run >&9
		echo "from the command" >>"$out"
		echo exit 7 >&9
		;;
	bye) exit ;;
	esac
done
`

// vm runs a copy of vm.sh with a fake guest. It returns its exit code, its output, and the arguments of the guest's kernel.
func vm(t *testing.T, env ...string) (code int, out, kernelArgs string) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("guests are made for x86-64")
	}
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"vm.sh", "kernel.sh", "init", "tsc.c"} {
		b, err := os.ReadFile(filepath.Join("../test/vm", name))
		if err != nil {
			t.Fatal(err)
		}
		write("test/vm/"+name, string(b))
	}
	sum, ok := run(t, "bash", "-c", "cksum <../test/vm/kernel.sh")
	if !ok {
		t.Fatal(sum)
	}
	kernel := "cache/kvwire/vm/fake-" + strings.Fields(sum)[0] + "/"
	write(kernel+"base.cpio", "")
	write(kernel+"vmlinux", "")
	write(kernel+"busybox", "#!/bin/bash\ncat >/dev/null\n")
	for _, name := range []string{"mke2fs", "ip", "rdma", "modprobe"} {
		write("bin/"+name, "#!/bin/bash\n")
	}
	write("bin/qemu-system-x86_64", "#!/bin/bash\n"+fakeGuest)
	write("bin/cc", "#!/bin/bash\n[[ ${NO_CC:-} ]] && echo 'cc: no luck' >&2 && exit 1\nprintf '#!/bin/bash\\necho 2600000\\n' >\"$3\" && chmod 755 \"$3\"\n")
	cmd := exec.CommandContext(t.Context(), "timeout", "60", filepath.Join(dir, "test/vm/vm.sh"), "some-command")
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"),
		"TMPDIR="+dir, "WORK="+dir, "KVWIRE_VM_ACCEL=tcg", "KVWIRE_VM_TSC_KHZ="), env...)
	b, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	args, _ := os.ReadFile(filepath.Join(dir, "args"))
	return code, string(b), string(args)
}

// If a guest's clock runs at another rate than this machine's, the run ends with its own exit code, and before the command begins if the difference is found by then.
func TestAGuestWithAWrongClockIsEnded(t *testing.T) {
	for _, c := range []struct {
		lies    string // at the start, before the command, and after it
		code    int
		runs    bool
		message string
	}{
		{"0 0 0", 7, true, ""},
		{"50 51 49", 7, true, ""}, // a clock's step, not its rate
		{"0 100000", 123, false, "vm: the clock of the guest went on by 100"},
		{"100000 0", 123, false, "vm: the clock of the guest went on by -"},
		{"0 0 100000", 123, true, "vm: the clock of the guest went on by 100"},
	} {
		t.Run(c.lies, func(t *testing.T) {
			code, out, _ := vm(t, "LIES="+c.lies)
			if code != c.code || strings.Contains(out, "from the command") != c.runs || !strings.Contains(out, c.message) {
				t.Errorf("exit code %d, want %d: %s", code, c.code, out)
			}
			if code == 123 && strings.Count(out, "vm: ") != 1 {
				t.Errorf("not one line: %s", out)
			}
		})
	}
}

// The kernel of a guest gets the frequency of its clock's counter from this machine, and does not measure it.
func TestAGuestsKernelGetsItsClocksFrequency(t *testing.T) {
	for _, c := range []struct {
		env, arg, says string
		code           int
	}{
		{"A=b", "tsc_early_khz=2600000 ", "", 7},
		{"KVWIRE_VM_TSC_KHZ=1234567", "tsc_early_khz=1234567 ", "", 7},
		{"KVWIRE_VM_TSC_KHZ=0", "", "", 7},
		{"NO_CC=1", "", "cc cannot compile tsc.c: the guest's kernel measures the rate of its clock itself (cc: no luck)", 7},
		{"KVWIRE_VM_TSC_KHZ=2.6GHz", "", "KVWIRE_VM_TSC_KHZ=2.6GHz: must be a number of kHz", 2},
	} {
		code, out, args := vm(t, c.env)
		if code != c.code || !strings.Contains(out, c.says) || strings.Contains(args, "tsc_early_khz") != (c.arg != "") || !strings.Contains(args, c.arg) {
			t.Errorf("%s: exit code %d, %q; the kernel's arguments: %s", c.env, code, out, args)
		}
	}
}

// What the program measures is the same each time.
func TestTheCountersFrequencyIsMeasured(t *testing.T) {
	if _, err := exec.LookPath("cc"); err != nil || runtime.GOARCH != "amd64" {
		t.Skip("this needs a C compiler and x86-64")
	}
	program := filepath.Join(t.TempDir(), "tsc")
	if out, ok := run(t, "cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, "../test/vm/tsc.c"); !ok {
		t.Fatal(out)
	}
	var khz [2]float64
	for i := range khz {
		out, ok := run(t, program)
		var err error
		if khz[i], err = strconv.ParseFloat(strings.TrimSpace(out), 64); !ok || err != nil || khz[i] < 100_000 || khz[i] > 100_000_000 {
			t.Fatalf("%q, %v", out, err)
		}
	}
	if r := khz[0] / khz[1]; r < 0.99 || r > 1.01 {
		t.Errorf("%.0f kHz, then %.0f", khz[0], khz[1])
	}
}
