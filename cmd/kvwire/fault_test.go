package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
)

// faulty is a kvwire run in which something goes wrong.
type faulty struct {
	*running
	t   *testing.T
	dir string // of the results
	kin map[processID]bool
}

// beginFaulty runs an experiment in slices.
func beginFaulty(t *testing.T, text string, env ...string) *faulty {
	t.Helper()
	dir := t.TempDir()
	file, out := filepath.Join(dir, "faulty.yaml"), filepath.Join(dir, "out")
	text = "name: faulty\nslice: 20ms\nwarmup: 0s\n" + text
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return resumeFaulty(t, out, []string{"run", file, "--output-dir", out}, env...)
}

func resumeFaulty(t *testing.T, out string, args []string, env ...string) *faulty {
	t.Helper()
	r := &running{t: t, cmd: exec.Command(os.Args[0], args...)}
	r.cmd.Env = append(append(os.Environ(), asProgram+"=1", "TMPDIR="+filepath.Dir(out)), env...)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.said
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f := &faulty{running: r, t: t, dir: out, kin: map[processID]bool{}}
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		for p := range f.kin {
			if p.lives() {
				_ = syscall.Kill(p.pid, syscall.SIGKILL)
			}
		}
	})
	return f
}

// find waits for a variant of the run whose run ID ends so, that is at work and none of the others, and returns it, or its server.
func (f *faulty) find(others []processID, cell string, server bool) processID {
	f.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); f.lives() && time.Now().Before(deadline); <-tick.C {
		for _, p := range f.look() {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
			if words := string(b); !strings.Contains(words, "\x00variant\x00") || !strings.Contains(words, cell+"\x00") || cpuTicks(p.pid) < 6 {
				continue
			}
			if server {
				of := descendants(p.pid)
				if len(of) != 1 {
					continue
				}
				p = of[0]
			}
			if !slices.Contains(others, p) {
				return p
			}
		}
	}
	f.t.Fatalf("no variant %s at work: %s", cell, &f.said)
	return processID{}
}

func (f *faulty) lives() bool {
	_, _, ok := readStat(fmt.Sprintf("/proc/%d/stat", f.cmd.Process.Pid))
	return ok
}

// look are the run's processes now. All that were ever seen are in kin.
func (f *faulty) look() []processID {
	all := descendants(f.cmd.Process.Pid)
	for _, p := range all {
		f.kin[p] = true
	}
	return all
}

// ends waits for the run, wants an exit code, and that no process is left behind.
func (f *faulty) ends(code int) {
	f.t.Helper()
	watchdog := time.AfterFunc(patience, func() { _ = f.cmd.Process.Signal(syscall.SIGQUIT) })
	defer watchdog.Stop()
	_ = f.cmd.Wait()
	if got := f.cmd.ProcessState.ExitCode(); got != code {
		f.t.Fatalf("exit code %d, want %d: %s", got, code, &f.said)
	}
	f.leavesNobody(time.Second)
}

// leavesNobody wants all processes that were seen to end within that time.
func (f *faulty) leavesNobody(within time.Duration) {
	f.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var left []string
	for deadline := time.Now().Add(within); ; <-tick.C {
		left = nil
		for p := range f.kin {
			if p.lives() {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
				left = append(left, fmt.Sprintf("%d %s", p.pid, bytes.ReplaceAll(b, []byte{0}, []byte{' '})))
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("processes are left behind:\n%s\nit said %s", strings.Join(left, "\n"), &f.said)
		}
	}
}

// rows wants the folder to have so many rows that belong together with their slices, so many of them failed, each with a reason.
func (f *faulty) rows(want, wantFailed int, reason string) {
	f.t.Helper()
	if err := checkSliced(f.dir); err != nil {
		f.t.Errorf("%v; it said %s", err, &f.said)
	}
	rows, err := report.ReadRows(filepath.Join(f.dir, lab.RowsFile))
	failed := 0
	for i := range rows {
		if r := &rows[i]; !r.Ops.Known() {
			if failed++; !strings.Contains(r.InvalidReason, reason) {
				f.t.Errorf("run %s: %q, which does not have %q", r.RunID, r.InvalidReason, reason)
			}
		}
	}
	if err != nil || len(rows) != want || failed != wantFailed {
		f.t.Errorf("%d rows, %d of them failed, want %d and %d (%v): %s", len(rows), failed, want, wantFailed, err, &f.said)
	}
}

// twoNetworks is an experiment of 3 s, whose cells 1 and 2 are tcp and inproc.
const twoNetworks = "transport: [tcp, inproc]\nbackend: mem\nmix: a\nrecords: 1k\ngenerations: 1\ntime: 3s\n"

// A process that is killed or stands still has its generation done again; the second time its variant is failed, and the others go on.
func TestAProcessThatFailsInTheMiddleOfAGeneration(t *testing.T) {
	for _, c := range []struct {
		name   string
		cell   string
		server bool
		signal syscall.Signal
		wait   string // orderWait
		reason string
	}{
		{"variant killed", "-c002", false, syscall.SIGKILL, "", "inproc ended: signal: killed"},
		{"variant stopped", "-c002", false, syscall.SIGSTOP, "1s", "inproc said nothing for 1."},
		{"server killed", "-c001", true, syscall.SIGKILL, "", "tcp ended: exit status 1; it said last: "},
		{"server stopped", "-c001", true, syscall.SIGSTOP, "", "tcp ended: exit status 1; it said last: "},
		{"server stopped, and the variant does not say so in time", "-c001", true, syscall.SIGSTOP, "1s", "tcp said nothing for 1."},
	} {
		for _, times := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s %d", c.name, times), func(t *testing.T) {
				f := beginFaulty(t, twoNetworks, orderWaitOfTest+"="+c.wait)
				var hit []processID
				for range times {
					p := f.find(hit, c.cell, c.server)
					hit = append(hit, p)
					if err := syscall.Kill(p.pid, c.signal); err != nil {
						t.Fatal(err)
					}
				}
				if times == 1 {
					f.ends(exitOK)
					f.rows(3, 0, "")
					return
				}
				f.ends(exitFailed)
				f.rows(3, 1, c.reason)
			})
		}
	}
}
