package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
	"github.com/spf13/pflag"
)

// How often all cells of an experiment are run, where its file does not say.
const (
	quickBlocks    = lab.QuickBlocks // no verdicts
	standardBlocks = 10              // the smallest exact p is 0.002
	paperBlocks    = 20
)

// blocksFlags say which runs there are to be.
type blocksFlags struct {
	quick, paper     bool
	dryRun, estimate bool
	primary          bool
	keepData         bool
	retry            int
	blocks           int
	resume           string
}

func (b *blocksFlags) add(s *pflag.FlagSet) {
	s.BoolVar(&b.quick, "quick", false, fmt.Sprintf("%d blocks, and no verdicts", quickBlocks))
	s.BoolVar(&b.paper, "paper", false, fmt.Sprintf("%d blocks", paperBlocks))
	s.IntVar(&b.blocks, "blocks", 0, fmt.Sprintf("how often all cells are run; default: as the experiment says, or %d", standardBlocks))
	s.BoolVar(&b.primary, "primary", false, "only the cells that the experiment makes claims about")
	s.BoolVar(&b.dryRun, "dry-run", false, "print the runs, and how much time and disk space they take, and run nothing")
	s.BoolVar(&b.estimate, "estimate", false, "the same without the runs")
	s.IntVar(&b.retry, "retry", 0, "repeat a run that the machine disturbed (steal, a CPU quota, other processes, drift), at most this many times; the column attempts has the number of tries")
	s.BoolVar(&b.keepData, "keep-data", false, "leave the stores that were loaded for the runs; default: they are removed at the end")
	s.StringVar(&b.resume, "resume", "", "a folder of results: do the runs that are missing or have failed there")
}

// of is the number of blocks; -1 when the flags contradict each other.
func (b *blocksFlags) of(x *experiments.Experiment) int {
	n, said := x.Blocks, 0
	if n == 0 {
		n = standardBlocks
	}
	for _, f := range []struct {
		set    bool
		blocks int
	}{{b.quick, quickBlocks}, {b.paper, paperBlocks}, {b.blocks != 0, b.blocks}} {
		if f.set {
			n = f.blocks
			said++
		}
	}
	if said > 1 || n < 1 || n > experiments.MaxBlocks {
		return -1
	}
	return n
}

// create makes the folder of a new execution: dir, or where that is "" one of its own.
func (r *runner) create(x *experiments.Experiment, path, dir string, b blocksFlags) error {
	now := r.begun.UTC()
	plan := lab.Plan{Experiment: x.Name, ID: x.Name + "-" + now.Format("20060102-150405"), Blocks: b.of(x), Seed: uint64(now.UnixNano()), GitRev: version,
		Launch: lab.Launchers(r.launch), Primary: b.primary, Retry: b.retry}
	r.folder = results.New(dir, x, plan, resultsReader())
	if err := r.afford(); err != nil {
		return err
	}
	file, err := experiments.Find(path)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	folder := r.folder
	if dir != "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err)
		}
		if _, err := os.Stat(filepath.Join(dir, lab.RowsFile)); err == nil {
			return hasResults(dir)
		}
	} else {
		if dir, err = newFolder(resultsFolder, folder.Plan.ID); err != nil {
			return err
		}
		folder.Dir, folder.Plan.ID = dir, filepath.Base(dir)
		r.data.dir = r.dataFolder()
	}
	if folder.Plan.Inputs, err = lab.CopyInputs(x, dir); err != nil {
		return err
	}
	inputs = lab.Inputs{Dir: dir, Copies: folder.Plan.Inputs} // runs take the copies, which nobody changes meanwhile
	j, err := folder.Plan.Text()
	if err != nil {
		return err
	}
	r.planLock, err = lab.LockPlan(dir, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if errors.Is(err, fs.ErrExist) {
		return hasResults(dir)
	}
	if err != nil {
		return err
	}
	_, err = r.planLock.Write(j)
	return errors.Join(err, lab.CopyClaims(file, dir), report.WriteFile(filepath.Join(dir, lab.ExperimentCopy), text))
}

func hasResults(dir string) error {
	return usagef("%s has results already: choose another --output-dir (or go on with --resume)", dir)
}

// resultsFolder is where folders of results are made that have no other place.
const resultsFolder = "results"

// newFolder makes a folder of that name, or of the name with -2, -3 and so on where another process has it.
func newFolder(parent, name string) (dir string, err error) {
	if err = os.MkdirAll(parent, 0o755); err == nil {
		dir = filepath.Join(parent, name)
		for n := 2; n <= foldersMax; n++ {
			if err = os.Mkdir(dir, 0o755); !errors.Is(err, fs.ErrExist) {
				break
			}
			dir = filepath.Join(parent, fmt.Sprintf("%s-%d", name, n))
		}
	}
	if err != nil {
		return "", fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err)
	}
	return dir, nil
}

// foldersMax bounds the folders of one experiment that are made in one second.
const foldersMax = 1000

// failedRun begins the reason of a run that failed, though it counted operations; one that read wrong data is not tried again.
var failedRun = fmt.Sprintf("exit status %d: ", exitFailed)

// resume goes on in a folder. Runs that failed or were cut short are done again.
func (r *runner) resume(x *experiments.Experiment, dir string) (err error) {
	if r.folder, err = results.Load(dir, x, resultsReader()); err != nil {
		return fmt.Errorf("--resume %s: %w", dir, err)
	}
	if r.planLock, err = lab.LockPlan(dir, os.O_RDWR); err != nil {
		return fmt.Errorf("--resume %w", err)
	}
	plan, rows := &r.folder.Plan, r.folder.Rows
	r.launch = launchers(plan.Launch)
	if plan.GitRev != version {
		return fmt.Errorf("--resume %s: it was begun by kvwire %s, this is %s: go on with that one, or run the experiment anew", dir, plan.GitRev, version)
	}
	maps.DeleteFunc(rows, func(_ string, row report.Row) bool {
		return row.SkippedReason != "" || !row.Ops.Known() || strings.Contains(row.InvalidReason, "interrupted") || strings.HasPrefix(row.InvalidReason, failedRun)
	})
	fmt.Fprintf(os.Stderr, "kvwire: %s has %d of its runs\n", dir, len(rows))
	if err := r.afford(); err != nil {
		return fmt.Errorf("--resume %s: %w", dir, err)
	}
	if err := report.Forget(dir, func(run string) bool { _, there := rows[run]; return there }); err != nil {
		return fmt.Errorf("--resume %s: %w", dir, err)
	}
	return nil
}
