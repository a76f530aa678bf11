package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
)

// faulty is a kvwire run in which something goes wrong.
type faulty struct {
	*running
	t   *testing.T
	dir string // of the results
	kin map[fleet.ProcessID]bool
}

// beginFaulty runs an experiment in slices.
func beginFaulty(t *testing.T, text string, env ...string) *faulty {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	return resumeFaulty(t, out, []string{"run", writeFaulty(t, text), "--output-dir", out}, env...)
}

// writeFaulty is the file of an experiment that is measured in slices.
func writeFaulty(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "faulty.yaml")
	if err := os.WriteFile(file, []byte("name: faulty\nslice: 20ms\nwarmup: 0s\n"+text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// takesGenerations marks a test whose generations take seconds on any machine: such tests run at the same time, and not in short runs.
func takesGenerations(t *testing.T) {
	t.Helper()
	testenv.NotShort(t, "generations of several seconds")
	t.Parallel()
}

// resumeFaulty runs kvwire run, with its results in out and its temporary files in the same folder as out.
func resumeFaulty(t *testing.T, out string, args []string, env ...string) *faulty {
	t.Helper()
	r := &running{t: t, cmd: asKvwire(context.Background(), args...)}
	r.cmd.Env = append(append(r.cmd.Env, "TMPDIR="+filepath.Dir(out)), env...)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.said
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f := &faulty{running: r, t: t, dir: out, kin: map[fleet.ProcessID]bool{}}
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		for p := range f.kin {
			if p.Lives() {
				_ = syscall.Kill(p.Pid, syscall.SIGKILL)
			}
		}
	})
	return f
}

// find waits for a variant whose arguments end with cell, which has used CPU time and is none of the others. It returns its process, or its server's.
func (f *faulty) find(others []fleet.ProcessID, cell string, server bool) fleet.ProcessID {
	f.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); f.lives() && time.Now().Before(deadline); <-tick.C {
		for _, p := range f.look() {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Pid))
			if words := string(b); !strings.Contains(words, "\x00variant\x00") || !strings.Contains(words, cell+"\x00") || cpuTicks(p.Pid) < 3 {
				continue
			}
			if server {
				of := fleet.Descendants(p.Pid)
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
	return fleet.ProcessID{}
}

func (f *faulty) lives() bool {
	_, ok := fleet.Identify(f.cmd.Process.Pid)
	return ok
}

// look are the run's processes now. All that were ever seen are in kin.
func (f *faulty) look() []fleet.ProcessID {
	all := fleet.Descendants(f.cmd.Process.Pid)
	for _, p := range all {
		f.kin[p] = true
	}
	return all
}

// ends waits for the run, and checks its exit code and that no process is left.
func (f *faulty) ends(code int) {
	f.t.Helper()
	watchdog := time.AfterFunc(patience, func() { _ = f.cmd.Process.Signal(syscall.SIGQUIT) })
	defer watchdog.Stop()
	_ = f.cmd.Wait()
	if got := f.cmd.ProcessState.ExitCode(); got != code {
		f.t.Fatalf("exit code %d, want %d: %s", got, code, &f.said)
	}
	f.leavesNobody(orphansEnd)
}

// orphansEnd bounds the life of processes whose parent has ended. A process that only the kill after fleet.Patience ends lives longer.
const orphansEnd = 10 * time.Second

// leavesNobody requires that all processes that were seen end within that time.
func (f *faulty) leavesNobody(within time.Duration) {
	f.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var left []string
	for deadline := time.Now().Add(within); ; <-tick.C {
		left = nil
		for p := range f.kin {
			if p.Lives() {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Pid))
				left = append(left, fmt.Sprintf("%d %s", p.Pid, bytes.ReplaceAll(b, []byte{0}, []byte{' '})))
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

// rows checks that the folder has so many rows, which match their slices, and that so many of them failed, each with a reason.
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
const twoNetworks = "transport: [tcp, inproc]\nbackend: mem\nmix: a\nrecords: 1k\ngenerations: 1\ntime: 6s\n"

// If a process is killed or stopped, its generation is measured again. The second time its variant has failed, and the others continue.
func TestAProcessThatFailsInTheMiddleOfAGeneration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		cell   string
		server bool
		signal syscall.Signal
		wait   string // fleet.CommandWait
		reason string
	}{
		{"variant killed", "-c002", false, syscall.SIGKILL, "", "inproc ended: signal: killed"},
		{"variant stopped", "-c002", false, syscall.SIGSTOP, "1s", "inproc: no line on standard output within 1"},
		{"server killed", "-c001", true, syscall.SIGKILL, "", "tcp ended: exit status 1; its last line of standard error: "},
		{"server stopped", "-c001", true, syscall.SIGSTOP, "", "tcp ended: exit status 1; its last line of standard error: "},
		{"server stopped, and the variant does not say so in time", "-c001", true, syscall.SIGSTOP, "1s", "tcp: no line on standard output within 1"},
	} {
		for _, times := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s %d", c.name, times), func(t *testing.T) {
				takesGenerations(t)
				f := beginFaulty(t, twoNetworks, orderWaitOfTest+"="+c.wait)
				var hit []fleet.ProcessID
				for range times {
					p := f.find(hit, c.cell, c.server)
					hit = append(hit, p)
					if err := syscall.Kill(p.Pid, c.signal); err != nil {
						t.Fatal(err)
					}
				}
				if times == 1 {
					f.ends(exit.OK)
					f.rows(3, 0, "")
					return
				}
				f.ends(exit.Failed)
				f.rows(3, 1, c.reason)
			})
		}
	}
}

// twoGenerations is twoNetworks with a complete generation before the one under way.
func twoGenerations(time string) string {
	return strings.Replace(twoNetworks, "generations: 1\ntime: 6s", "generations: 2\ntime: "+time, 1)
}

// ^C in the middle of a generation, once and twice, and the death of kvwire run itself leave no process, and no slice without its row. --resume does the
// generation again, and keeps the complete one.
func TestARunThatEndsInTheMiddleOfAGeneration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		signals []syscall.Signal
		code    int
		clean   bool // it removes what has no row itself, and not --resume alone
	}{
		{"^C", []syscall.Signal{syscall.SIGINT}, exit.Interrupted, true},
		{"^C twice", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, exit.Interrupted, false},
		{"killed", []syscall.Signal{syscall.SIGKILL}, -1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			takesGenerations(t)
			f := beginFaulty(t, twoGenerations("12s"))
			f.find(nil, "-b02-c001", true)
			f.look()
			for _, s := range c.signals {
				_ = f.cmd.Process.Signal(s)
			}
			_ = f.cmd.Wait()
			if code := f.cmd.ProcessState.ExitCode(); code != c.code {
				t.Fatalf("exit code %d, want %d: %s", code, c.code, &f.said)
			}
			f.leavesNobody(orphansEnd)
			if c.clean {
				f.rows(3, 0, "")
			}
			before := f.read(lab.RowsFile)
			again := resumeFaulty(t, f.dir, []string{"run", "--resume", f.dir})
			again.ends(exit.OK)
			again.rows(6, 0, "")
			if after := f.read(lab.RowsFile); !bytes.HasPrefix(after, before) {
				t.Errorf("the rows of the complete generation are not as they were:\n%s\n%s", before, after)
			}
			if !strings.Contains(again.said.String(), "has 3 of its runs") {
				t.Errorf("it said %s", &again.said)
			}
		})
	}
}

func (f *faulty) read(name string) []byte {
	f.t.Helper()
	b, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// A generation is measured again if the last lines of its rows or of its slices were truncated.
func TestLinesThatWereCutShortAreMeasuredAgain(t *testing.T) {
	takesGenerations(t)
	f := beginFaulty(t, twoGenerations("1s"))
	f.ends(exit.OK)
	f.rows(6, 0, "")
	for _, file := range []string{lab.RowsFile, report.SlicesFile} {
		b := f.read(file)
		if err := os.WriteFile(filepath.Join(f.dir, file), b[:len(b)-20], 0o644); err != nil {
			t.Fatal(err)
		}
		again := resumeFaulty(t, f.dir, []string{"run", "--resume", f.dir})
		again.ends(exit.OK)
		again.rows(6, 0, "")
		if !strings.Contains(again.said.String(), "has 3 of its runs") {
			t.Errorf("%s was cut, and it said %s", file, &again.said)
		}
	}
}

// Variants that read other values than were written fail, with exit code 4.
func TestVariantsThatReadWrongData(t *testing.T) {
	takesGenerations(t)
	file := writeFaulty(t, "transport: [inproc, tcp]\nbackend: disk\ndisk-engine: pool\nmix: get\nrecords: 500\nvalue-bytes: 128\ngenerations: 1\ntime: 1s\n")
	out := filepath.Join(t.TempDir(), "out")
	kept := resumeFaulty(t, out, []string{"run", file, "--keep-data", "--output-dir", out})
	kept.ends(exit.OK)
	// Replace the data set that was kept by another one.
	sets, _ := filepath.Glob(filepath.Join(filepath.Dir(out), "kvwire-faulty-*", "records-*"))
	if len(sets) != 1 {
		t.Fatalf("data sets: %q", sets)
	}
	header, _, _ := bytes.Cut(kept.read(lab.RowsFile), []byte("\n"))
	if err := errors.Join(os.RemoveAll(sets[0]), runKvwire(t.Context(), []string{"load", "--dir", sets[0], "--disk-engine=pool", "--records=500", "--value-bytes=100"}),
		os.WriteFile(filepath.Join(out, lab.RowsFile), append(header, '\n'), 0o644)); err != nil {
		t.Fatal(err)
	}
	again := resumeFaulty(t, out, []string{"run", "--resume", out})
	again.ends(exit.Wrong)
	again.rows(3, 3, "values differ from those that were written")
}

// A full disk ends the run with an error that names the file. Complete generations are kept, and --resume continues when there is room.
func TestAFullDiskKeepsWhatIsComplete(t *testing.T) {
	takesGenerations(t)
	dir := t.TempDir()
	if err := syscall.Mount("kvwire", dir, "tmpfs", 0, "size=4m"); err != nil {
		testenv.Need(t, "mount", fmt.Errorf("a small disk: %w", err))
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	out := filepath.Join(dir, "out")
	f := resumeFaulty(t, out, []string{"run", writeFaulty(t, twoGenerations("12s")), "--output-dir", out})
	f.find(nil, "-b02-c001", false)
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 4<<20), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	f.ends(exit.Failed)
	if said := f.said.String(); !strings.Contains(said, "no space left on device") || !strings.Contains(said, out) {
		t.Errorf("it said %s", said)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	again := resumeFaulty(t, out, []string{"run", "--resume", out})
	again.ends(exit.OK)
	again.rows(6, 0, "")
	if !strings.Contains(again.said.String(), "has 3 of its runs") {
		t.Errorf("it said %s", &again.said)
	}
}

// A generation in which a variant failed, or was skipped and can be run now, is measured again as a whole. Its rows and slices stay until the new ones are complete,
// also where --resume is interrupted.
func TestAGenerationIsReplacedOnlyByACompleteOne(t *testing.T) {
	t.Parallel()
	for _, why := range []string{"failed", "skipped"} {
		t.Run(why, func(t *testing.T) {
			takesGenerations(t)
			f := beginFaulty(t, twoGenerations("10s")) // the signal must come before a generation ends
			f.ends(exit.OK)
			rows, err := report.ReadRows(filepath.Join(f.dir, lab.RowsFile))
			all, serr := report.ReadSlices(filepath.Join(f.dir, report.SlicesFile))
			if err := errors.Join(err, serr); err != nil {
				t.Fatal(err)
			}
			lost := rows[1].RunID // inproc of the first generation
			row := &rows[1]
			row.Ops, row.Slices = report.Uint{}, report.Int{}
			if why == "skipped" {
				row.SkippedReason = "it did not work then"
			} else {
				row.Valid, row.InvalidReason = report.B(false), "it failed then"
			}
			err = errors.Join(report.WriteRows(filepath.Join(f.dir, lab.RowsFile), rows), report.Forget(f.dir, func(run string) bool { return run != lost }))
			if err != nil {
				t.Fatal(err)
			}
			before, slicesBefore := f.read(lab.RowsFile), f.read(report.SlicesFile)
			first := resumeFaulty(t, f.dir, []string{"run", "--resume", f.dir})
			first.find(nil, "-b01-c001-again", true)
			first.look()
			_ = first.cmd.Process.Signal(syscall.SIGINT)
			first.ends(exit.Interrupted)
			if !bytes.Equal(f.read(lab.RowsFile), before) || !bytes.Equal(f.read(report.SlicesFile), slicesBefore) {
				t.Errorf("an interrupted --resume has changed the rows or the slices: it said %s", &first.said)
			}
			again := resumeFaulty(t, f.dir, []string{"run", "--resume", f.dir})
			again.ends(exit.OK)
			again.rows(6, 0, "")
			if said := again.said.String(); !strings.Contains(said, "has 3 of its runs") || !strings.Contains(said, "3 more runs are measured again") {
				t.Errorf("it said %s", said)
			}
			after, err := report.ReadRows(filepath.Join(f.dir, lab.RowsFile))
			if err != nil || len(after) != len(rows) || !after[1].Ops.Known() {
				t.Fatalf("%d rows (%v)", len(after), err)
			}
			for i := range rows {
				if first := i < 3; after[i].RunID != rows[i].RunID || (after[i].OpsPerS == rows[i].OpsPerS) == first {
					t.Errorf("run %s became %s, with %v operations/s from %v", rows[i].RunID, after[i].RunID, after[i].OpsPerS, rows[i].OpsPerS)
				}
			}
			now, err := report.ReadSlices(filepath.Join(f.dir, report.SlicesFile))
			if of := byRun(now); err != nil || len(of) != len(byRun(all)) {
				t.Errorf("slices of %d runs (%v)", len(of), err)
			}
			for _, pattern := range []string{"*again*", "hdr/*again*"} {
				if left, _ := filepath.Glob(filepath.Join(f.dir, pattern)); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
			}
			if bytes.Contains(f.read("timeseries.csv"), []byte("-again")) {
				t.Error("timeseries.csv has the names of runs that were measured again")
			}
		})
	}
}
