package setup_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// machine is a folder that holds a copy of install.sh and, as its whole PATH, the programs given:
// a name alone is this machine's own, name=text a script.
func machine(t *testing.T, programs ...string) string {
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} { // another user must get in
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script, err := os.ReadFile("install.sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "bin"), 0o777); err != nil { // a user's programs write their logs there
		t.Fatal(err)
	}
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("setup/install.sh", string(script))
	for _, p := range slices.Concat(programs, []string{"bash", "dirname", "env"}) {
		if name, text, ok := strings.Cut(p, "="); ok {
			write("bin/"+name, "#!/bin/bash\n"+text+"\n")
			continue
		}
		path, err := exec.LookPath(p)
		if err != nil {
			t.Skip(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, "bin", p)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestInstall(t *testing.T) {
	const (
		goodGo = `go=[[ $1 == env ]] && echo go1.26.8; exit 0`
		gcc    = `gcc=exit 0`
		noHdrs = `gcc=exit 1`
		apt    = `apt-get=echo "apt-get $*" >>"$0.log"` // what it prints is shown only if it fails
		badApt = `apt-get=echo "apt-get $*"; exit 100`
		sudo   = `sudo=echo "sudo $*" >>"$0.log"; exec "$@"`
	)
	// Programs that the guest and the tests need. The libraries of RDMA, which are searched in /usr/lib, are not among them.
	guest := []string{`qemu-system-x86_64=`, `mke2fs=`, `rdma=`, `modprobe=`, `xz=`, `zstd=`, `ibv_devinfo=`, `ib_send_lat=`, `redis-cli=`}
	libraries, _ := filepath.Glob("/usr/lib*/*/libibverbs/librxe-rdmav*.so")
	devices, _ := filepath.Glob("/sys/class/infiniband/*")
	here := runtime.GOARCH == "amd64" && len(devices) == 0 // test and run are to have a guest
	noQemu := slices.Concat([]string{goodGo, gcc}, guest[1:])
	const all = "gcc libc6-dev libibverbs-dev librdmacm-dev"
	for _, c := range []struct {
		name     string
		programs []string
		purpose  string
		tags     string // "" means all
		require  string // KVWIRE_REQUIRE
		user     bool   // not root
		skip     bool
		code     int
		has      string // in what it prints; "" means that it prints nothing
		hasNot   string
	}{
		{name: "nothing missing", programs: slices.Concat([]string{goodGo, gcc, badApt}, guest), purpose: "test", skip: len(libraries) == 0},
		{name: "nothing missing for a guest", programs: slices.Concat([]string{goodGo, gcc, badApt}, guest), purpose: "vm", skip: len(libraries) == 0},
		{name: "without RDMA build needs no compiler", programs: []string{goodGo, badApt}, purpose: "build", tags: "giouring"},
		{name: "build needs no guest", programs: []string{goodGo, gcc, badApt}, purpose: "build"},
		{name: "no such purpose", programs: []string{goodGo, gcc, badApt}, purpose: "fun", code: 1, has: "install.sh fun: build, test, run, vm, bench-store, peers or instrument"},
		{name: "no Go", purpose: "build", code: 1, has: "Install Go 1.26 or later"},
		{name: "old Go", programs: []string{`go=echo go1.24.4`}, purpose: "build", code: 1, has: "go1.24.4 is too old"},
		{name: "release candidate", programs: []string{`go=echo go1.27rc1`, gcc}, purpose: "build"},
		{name: "Go 2", programs: []string{`go=echo go2.0`, gcc}, purpose: "build"},
		{name: "Go from source", programs: []string{`go=echo devel +abc`, gcc}, purpose: "build", has: "the version of Go is not clear"},
		{name: "old Go that may not fetch", programs: []string{`go=echo "go.mod requires go >= 1.26.0 (running go 1.24.4; GOTOOLCHAIN=local)"; exit 1`}, purpose: "test", code: 1, has: "GOTOOLCHAIN=auto make test"},
		{name: "compiler missing", programs: []string{goodGo, apt}, purpose: "build", has: "install -y --no-install-recommends " + all + "\n"},
		{name: "compiler missing for the race detector", programs: []string{goodGo, apt}, purpose: "test", tags: "giouring", has: "install -y --no-install-recommends gcc libc6-dev"},
		{name: "headers missing", programs: []string{goodGo, noHdrs, apt}, purpose: "test", has: all},
		{name: "header of RDMA missing", programs: []string{goodGo, `gcc=IFS= read -r line; [[ $line != *cma.h* ]]`, apt}, purpose: "build", has: "recommends librdmacm-dev\n"},
		{name: "guest missing", programs: slices.Concat(noQemu, []string{apt}), purpose: "vm", has: "recommends qemu-system-x86"},
		{name: "guest missing for the tests", programs: slices.Concat(noQemu, []string{apt}), purpose: "test", has: "recommends qemu-system-x86", skip: !here},
		{name: "guest missing for a run", programs: slices.Concat(noQemu, []string{apt}), purpose: "run", has: "recommends qemu-system-x86", skip: !here},
		{name: "browser missing where it is required", programs: slices.Concat([]string{goodGo, gcc, apt}, guest), purpose: "test", require: "auto,chromium", has: "recommends chromium\n", skip: len(libraries) == 0},
		{name: "browser missing", programs: slices.Concat([]string{goodGo, gcc, badApt}, guest), purpose: "test", require: "auto,rdma", skip: len(libraries) == 0},
		{name: "apt fails", programs: []string{goodGo, badApt}, purpose: "build", code: 1, has: "By hand, as root: apt-get update && apt-get install " + all},
		{name: "no apt", programs: []string{goodGo}, purpose: "test", code: 1, has: "neither Debian nor Ubuntu"},
		{name: "no apt for a guest", programs: noQemu, purpose: "vm", code: 1, has: "neither Debian nor Ubuntu"},
		{name: "no apt for a run's guest", programs: noQemu, purpose: "run", has: "no guest for RDMA: missing: qemu-system-x86", skip: !here},
		{name: "sudo", programs: []string{goodGo, apt, sudo}, purpose: "test", user: true, has: "sudo env DEBIAN_FRONTEND=noninteractive apt-get"},
		{name: "no sudo", programs: []string{goodGo, badApt}, purpose: "test", user: true, code: 1, has: "As root: apt-get install " + all, hasNot: "apt-get -qq"},
		{name: "no sudo for a build", programs: []string{goodGo, badApt}, purpose: "build", user: true, code: 1, has: all + ". Or leave RDMA out: make build TAGS=giouring"},
		{name: "no sudo for the tests' guest", programs: slices.Concat(noQemu, []string{badApt}), purpose: "test", user: true, has: "no guest for RDMA: missing: qemu-system-x86", hasNot: "apt-get -qq", skip: !here},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.skip {
				t.Skip("not on this machine")
			}
			root := os.Getuid() == 0
			if !root && !c.user && strings.Contains(fmt.Sprint(c.programs), apt) {
				t.Skip("needs root: install.sh would ask for sudo")
			}
			dir := machine(t, c.programs...)
			cmd := exec.Command(filepath.Join(dir, "setup/install.sh"), c.purpose)
			cmd.Env = []string{"PATH=" + filepath.Join(dir, "bin"), "SSL_CERT_FILE=" + filepath.Join(dir, "setup/install.sh")} // any file will do
			if c.require != "" {
				cmd.Env = append(cmd.Env, "KVWIRE_REQUIRE="+c.require)
			}
			if c.tags != "" {
				cmd.Env = append(cmd.Env, "KVWIRE_TAGS="+c.tags)
			}
			if c.user && root {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			}
			out, _ := cmd.CombinedOutput()
			logs, _ := filepath.Glob(filepath.Join(dir, "bin/*.log"))
			for _, log := range logs {
				called, err := os.ReadFile(log)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, called...)
			}
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			if !strings.Contains(string(out), c.has) || c.has == "" && len(out) != 0 || c.hasNot != "" && strings.Contains(string(out), c.hasNot) {
				t.Errorf("it prints %q; want %q, and not %q", out, c.has, c.hasNot)
			}
		})
	}
}

func TestScriptsParse(t *testing.T) {
	scripts, err := filepath.Glob("*.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts", err)
	}
	more, err := filepath.Glob("../test/vm/*")
	if err != nil || len(more) == 0 {
		t.Fatal("no scripts of the guest", err)
	}
	more = slices.DeleteFunc(more, func(s string) bool { return filepath.Ext(s) == ".c" })
	benches, _ := filepath.Glob("../bench/*.sh")
	for _, s := range slices.Concat(scripts, more, benches, []string{"../.ci/run"}) {
		if out, err := exec.Command("bash", "-n", s).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", s, err, out)
		}
		st, err := os.Stat(s)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode()&0o100 == 0 {
			t.Errorf("%s is not executable", s)
		}
	}
}
