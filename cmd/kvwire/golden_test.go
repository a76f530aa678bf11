package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/testenv"
)

// What users see is in testdata/golden: a change there is meant, or it is a mistake. KVWIRE_UPDATE=1 go test writes it anew.

// printed is what a command prints on standard output, and its exit code.
func printed(t *testing.T, args ...string) (stdout string, code int) {
	t.Helper()
	cmd := asKvwire(t.Context(), args...)
	out, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestHelpIsAsItWas(t *testing.T) {
	t.Parallel()
	text, _ := printed(t, "--help")
	testenv.Golden(t, "help/kvwire.txt", text)
	for _, c := range commands {
		if c.short == "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text, code := printed(t, c.name, "--help")
			if code != exit.OK {
				t.Errorf("exit code %d", code)
			}
			testenv.Golden(t, "help/"+c.name+".txt", text)
			if !strings.Contains(text, "--help-all lists all") {
				return
			}
			if text, code = printed(t, c.name, "--help-all"); code != exit.OK {
				t.Errorf("--help-all: exit code %d", code)
			}
			testenv.Golden(t, "help/"+c.name+".all.txt", text)
		})
	}
}

// Whether a cell can run depends on the machine, and so do time and disk space.
var ofThisMachine = regexp.MustCompile(`(?m)^(\d+) [^-]*--`)

func TestPlansAreAsTheyWere(t *testing.T) {
	t.Parallel()
	all, err := filepath.Glob("../../experiments/*/experiment.yaml")
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for _, path := range all {
		name := filepath.Base(filepath.Dir(path))
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, code := printed(t, "run", path, "--dry-run")
			if code != exit.OK {
				t.Fatalf("exit code %d: %s", code, text)
			}
			var cells strings.Builder
			for line := range strings.Lines(text) {
				if ofThisMachine.MatchString(line) {
					cells.WriteString(ofThisMachine.ReplaceAllString(line, "$1 --"))
				}
			}
			testenv.Golden(t, "plans/"+name+".txt", cells.String())
		})
	}
}

func TestExitCodesAreAsTheyWere(t *testing.T) {
	t.Parallel()
	testenv.Golden(t, "exitcodes.txt", fmt.Sprintf("ok %d\nfailed %d\nusage %d\nmissing %d\nwrong data %d\nmissed %d\ninterrupted %d\n",
		exit.OK, exit.Failed, exit.Usage, exit.Missing, exit.Wrong, exit.Missed, exit.Interrupted))
	for line, want := range map[string]int{"version": exit.OK, "--help": exit.OK, "": exit.Usage, "nonsense": exit.Usage, "bench --nonsense": exit.Usage, "check /nowhere": exit.Usage,
		"bench --target 127.0.0.1:1 --duration 1s": exit.Failed} {
		if _, code := printed(t, strings.Fields(line)...); code != want {
			t.Errorf("kvwire %s: exit code %d, and not %d", line, code, want)
		}
	}
}

func TestExperimentsOfThisCheckoutAreInOrder(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("../../experiments/*/experiment.yaml")
	if len(files) < 3 {
		t.Fatalf("experiments: %v", files)
	}
	for _, f := range files {
		x, err := program().ReadExperiment(f)
		if err != nil {
			t.Error(err)
		} else {
			t.Logf("%s: %d cells", x.Name, len(x.Cells))
		}
	}
}
