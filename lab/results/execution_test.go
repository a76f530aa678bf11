package results

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/kvwire/kvwire/lab"
)

// Experiments that begin in the same second have folders of their own.
func TestFoldersOfTheSameNameAreDifferent(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "results")
	var mu sync.Mutex
	dirs := map[string]bool{}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			dir, err := NewFolder(parent, "quick-20261128-120000")
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			dirs[dir] = true
		})
	}
	wait.Wait()
	if len(dirs) != 8 || !dirs[filepath.Join(parent, "quick-20261128-120000")] || !dirs[filepath.Join(parent, "quick-20261128-120000-8")] {
		t.Errorf("folders %v", dirs)
	}
}

// A report that could not be written, as on a full disk, is not named. Errors name the file, and not its temporary copy.
func TestOnlyAWrittenReportIsNamed(t *testing.T) {
	f := newTestFolder(t, 1, 0)
	e := &Execution{Folder: f}
	finish := func() error {
		t.Helper()
		var err error
		if e.keeper, err = f.Keeper(); err != nil {
			t.Fatal(err)
		}
		for _, file := range []**os.File{&e.Log, &e.planLock} {
			if *file, err = os.CreateTemp(t.TempDir(), ""); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err = e.Finish()
		return err
	}
	report := filepath.Join(f.Dir, "report.html")
	if err := os.Mkdir(report, 0o755); err != nil {
		t.Fatal(err)
	}
	if err, line := finish(), e.ReportLine(); err == nil || !strings.Contains(err.Error(), "write "+report+": ") || !strings.HasPrefix(line, "Rows: "+filepath.Join(f.Dir, lab.RowsFile)) || strings.Contains(line, report) {
		t.Errorf("%v; %s", err, line)
	}
	if err := os.Remove(report); err != nil {
		t.Fatal(err)
	}
	if err, line := finish(), e.ReportLine(); err != nil || !strings.HasPrefix(line, "Report: "+report) {
		t.Errorf("%v; %s", err, line)
	}
}

// results/latest is a link at every moment.
func TestLatestIsAlwaysALink(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir(Parent, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(Parent, "latest")
	if err := linkLatest("results/a"); err != nil {
		t.Fatal(err)
	}
	if err := linkLatest(link); err != nil { // --resume results/latest
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != "a" {
		t.Fatalf("it points at %q: %v", to, err)
	}
	done := make(chan error)
	go func() {
		var all error
		for range 500 {
			all = errors.Join(all, linkLatest("results/b"), linkLatest("results/a"))
		}
		done <- all
	}()
	for {
		if _, err := os.Readlink(link); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			if left, err := os.ReadDir(Parent); err != nil || len(left) != 1 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			return
		default:
		}
	}
}
