package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/report"
)

// sshConfig is the configuration of a server for this test alone: on loopback, with keys of its own.
const sshConfig = `ListenAddress 127.0.0.1
Port %d
HostKey %s/host
AuthorizedKeysFile %[2]s/client.pub
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowUsers %s
UsePAM no
StrictModes no
AllowTcpForwarding no
PidFile none
`

// sshd runs an SSH server for this test, and gives the command that reaches it.
func sshd(t *testing.T) (launcher string) {
	t.Helper()
	server, err := exec.LookPath("sshd")
	if err != nil {
		server, err = exec.LookPath("/usr/sbin/sshd")
	}
	_, cerr := exec.LookPath("ssh")
	_, kerr := exec.LookPath("ssh-keygen")
	testenv.Need(t, "sshd", errors.Join(err, cerr, kerr))
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, key := range []string{"host", "client"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	port := freePort(t)
	config := filepath.Join(dir, "sshd_config")
	hostKey, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	err = errors.Join(err, os.WriteFile(config, fmt.Appendf(nil, sshConfig, port, dir, me.Username), 0o600),
		os.WriteFile(filepath.Join(dir, "known"), fmt.Appendf(nil, "[127.0.0.1]:%d %s", port, hostKey), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	const separation = "/run/sshd" // which a package's service would make
	if os.Geteuid() == 0 && os.Mkdir(separation, 0o755) == nil {
		t.Cleanup(func() { _ = os.Remove(separation) })
	}
	said, err := os.Create(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	// The shell ends it with its own input, which ends with this process, too.
	cmd := exec.Command("sh", "-c", `"$@" & read end; kill $!; wait`, "sh", server, "-D", "-e", "-f", config)
	cmd.Stderr = said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	launcher = fmt.Sprintf("ssh -F none -i %s/client -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile=%[1]s/known -o StrictHostKeyChecking=yes -p %d %s@127.0.0.1", dir, port, me.Username)
	words := append(strings.Fields(launcher), "true")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience / 4); ; <-tick.C {
		out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
		if err == nil {
			return launcher
		}
		if time.Now().After(deadline) {
			why, _ := os.ReadFile(said.Name())
			testenv.Need(t, "sshd", fmt.Errorf("log in: %w: %s (sshd: %s)", err, out, why))
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Through ssh a shell stands on the other side: arguments get through it as they are, and processes end with the connection.
func TestHostsBehindSSH(t *testing.T) {
	ssh := sshd(t)
	t.Setenv(asProgram, "1")
	dir := t.TempDir()
	kvwire := filepath.Join(dir, "kvwire.sh") // the environment stays behind
	if err := os.WriteFile(kvwire, fmt.Appendf(nil, "#!/bin/sh\nexport %s=1\nexec %s \"$@\"\n", asProgram, os.Args[0]), 0o700); err != nil {
		t.Fatal(err)
	}
	store, out := filepath.Join(dir, `it's a "store" $HOME`), filepath.Join(dir, "out")
	for _, transport := range []string{"tcp", "uring"} {
		t.Run(transport, func(t *testing.T) {
			if transport == "uring" {
				testenv.Uring(t)
			}
			said, err := exec.Command(os.Args[0], "bench", "--server-launch="+ssh, "--client-launch="+ssh, "--client-launch="+ssh, "--server-addr=127.0.0.1", "--launch-path="+kvwire,
				"--transport="+transport, "--dir="+store, "--disk-engine=pool", "--mix=a", "--records=2k", "--value-bytes=100", "--duration=1s", "--warmup=0s", "--output-dir="+out+transport).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			row := onlyRow(t, out+transport)
			if ops, _ := row.Ops.Get(); ops == 0 || row.LoadHosts != report.I(2) || row.Hosts != report.I(1) || row.Misses != report.U(0) || row.VerifyFailures != report.U(0) || row.Device != "loopback" {
				t.Errorf("%+v", row)
			}
			if files, err := os.ReadDir(store); err != nil || len(files) == 0 {
				t.Errorf("the store: %d files, %v", len(files), err)
			}
		})
	}
	said, err := exec.Command(os.Args[0], "bench", "--server-launch="+ssh, "--server-addr=127.0.0.1", "--launch-path=/nowhere/kvwire", "--backend=null").CombinedOutput()
	if status := new(exec.ExitError); !errors.As(err, &status) || status.ExitCode() != exit.Failed || !strings.Contains(string(said), "/nowhere/kvwire") {
		t.Errorf("%v: %s", err, said)
	}
	if left := runningIn(kvwire, store); left != "" {
		t.Errorf("left: %s", left)
	}
}

// runningIn lists processes whose command line has one of these words.
func runningIn(words ...string) (left string) {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range lines {
		b, _ := os.ReadFile(name)
		for _, w := range words {
			if strings.Contains(string(b), w) {
				left += strings.ReplaceAll(string(b), "\x00", " ") + "\n"
			}
		}
	}
	return left
}
