package setup_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	for _, p := range append(programs, "bash", "dirname", "env") {
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
		apt    = `apt-get=echo "apt-get $*"`
		badApt = `apt-get=echo "apt-get $*"; exit 100`
		sudo   = `sudo=echo "sudo $*"; exec "$@"`
	)
	for _, c := range []struct {
		name     string
		programs []string
		purpose  string
		user     bool // not root
		code     int
		has      string // in what it prints; "" means that it prints nothing
		hasNot   string
	}{
		{name: "nothing missing", programs: []string{goodGo, gcc, badApt}, purpose: "test"},
		{name: "build needs no compiler", programs: []string{goodGo, badApt}, purpose: "build"},
		{name: "no Go", purpose: "build", code: 1, has: "Install Go 1.26 or later"},
		{name: "old Go", programs: []string{`go=echo go1.24.4`}, purpose: "build", code: 1, has: "go1.24.4 is too old"},
		{name: "release candidate", programs: []string{`go=echo go1.27rc1`}, purpose: "build"},
		{name: "Go 2", programs: []string{`go=echo go2.0`}, purpose: "build"},
		{name: "Go from source", programs: []string{`go=echo devel +abc`}, purpose: "build", has: "cannot tell the version"},
		{name: "old Go that may not fetch", programs: []string{`go=echo "go.mod requires go >= 1.26.0 (running go 1.24.4; GOTOOLCHAIN=local)"; exit 1`}, purpose: "test", code: 1, has: "GOTOOLCHAIN=auto make test"},
		{name: "compiler missing", programs: []string{goodGo, apt}, purpose: "test", has: "install -y --no-install-recommends gcc libc6-dev"},
		{name: "headers missing", programs: []string{goodGo, noHdrs, apt}, purpose: "test", has: "gcc libc6-dev"},
		{name: "apt fails", programs: []string{goodGo, badApt}, purpose: "test", code: 1, has: "By hand, as root: apt-get update && apt-get install gcc libc6-dev"},
		{name: "no apt", programs: []string{goodGo}, purpose: "test", code: 1, has: "neither Debian nor Ubuntu"},
		{name: "sudo", programs: []string{goodGo, apt, sudo}, purpose: "test", user: true, has: "sudo env DEBIAN_FRONTEND=noninteractive apt-get"},
		{name: "no sudo", programs: []string{goodGo, badApt}, purpose: "test", user: true, code: 1, has: "As root: apt-get install gcc libc6-dev", hasNot: "apt-get -qq"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := os.Getuid() == 0
			if !root && !c.user && strings.Contains(fmt.Sprint(c.programs), apt) {
				t.Skip("needs root: install.sh would ask for sudo")
			}
			dir := machine(t, c.programs...)
			cmd := exec.Command(filepath.Join(dir, "setup/install.sh"), c.purpose)
			cmd.Env = []string{"PATH=" + filepath.Join(dir, "bin"), "SSL_CERT_FILE=" + filepath.Join(dir, "setup/install.sh")} // any file will do
			if c.user && root {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			}
			out, _ := cmd.CombinedOutput()
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
	for _, s := range append(scripts, "../.ci/run") {
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
