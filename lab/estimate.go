package lab

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kvwire/kvwire/internal/plural"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
	"golang.org/x/sys/unix"
)

// Data describes the data of a cell: the estimated time to load them, and the space on disk that they need.
type Data struct {
	Name  string        // equal for cells with the same data; "": no data, or new data for each run
	Load  time.Duration // once, for all runs of the same data
	Bytes int64         // space in their folder
	Extra int64         // space in the temporary folder for each process of the cell, while it lives
	Dir   string        // the user's own folder; "": a temporary one
	Long  string        // why a run of the cell takes unusually long; "": it does not
}

// loads returns the data that must be loaded for these runs, each data set once.
func (r *Runner) loads(runs []experiment.Run) (all []Data) {
	for _, run := range runs {
		f := r.factsOf(run.Cell)
		d := f.Data
		if !f.Here || d.Name == "" {
			continue
		}
		i := slices.IndexFunc(all, func(o Data) bool { return o.Name == d.Name && o.Dir == d.Dir })
		if i < 0 {
			all = append(all, d)
			continue
		}
		all[i].Bytes, all[i].Load = max(all[i].Bytes, d.Bytes), max(all[i].Load, d.Load)
	}
	return all
}

// Remarks returns lines for the user about these runs: why some of them take unusually long, why cells are not measured in slices although slices were
// chosen, and that the experiment's duration has no effect.
func (r *Runner) Remarks(runs []experiment.Run) (all []string) {
	add := func(line string) {
		if !slices.Contains(all, line) {
			all = append(all, line)
		}
	}
	inSlices, duration := r.Slice > 0, false
	for _, run := range runs {
		f := r.factsOf(run.Cell)
		if f.Data.Long != "" {
			add(f.Data.Long)
		}
		if f.Whole != "" && r.Slice > 0 {
			add("whole runs, not slices: " + f.Whole)
		}
		inSlices = inSlices && f.Whole == "" && !run.Stages
		_, given := r.Experiment.Cells[run.Cell].Get("duration")
		duration = duration || given
	}
	if duration && inSlices && r.Time == 0 && r.Experiment.Slice == 0 { // time or slice show that slices are meant
		add("duration has no effect: it is the length of whole runs, and all questions are measured in slices (set time for the length of a question, or slice: whole for whole runs)")
	}
	return all
}

// there reports whether the user's folder already contains a store or a raw file.
func (d *Data) there() bool {
	if d.Dir == "" {
		return false
	}
	files, err := os.ReadDir(d.Dir)
	return err == nil && len(files) > 0
}

// demand is the space that an experiment needs in a folder.
type demand struct {
	dir   string
	what  string
	bytes int64
}

// String formats the demand for people.
func (d demand) String() string {
	s := fmt.Sprintf("disk space: %s, in %s", d.what, d.dir)
	if _, free, err := freeAt(d.dir); err == nil {
		s += fmt.Sprintf(", where %s are free", report.Size(int64(free)))
	}
	return s
}

// demands returns the space that these runs need in the folder for temporary stores, less have, the bytes that the experiment already uses there, and
// in the folders that the user named, less their contents.
func (r *Runner) demands(runs []experiment.Run, temporary string, have int64) (all []demand) {
	sets, sum, extra := 0, int64(0), int64(0)
	named := map[string]int64{}
	for _, d := range r.loads(runs) {
		if d.Dir != "" {
			named[d.Dir] += d.Bytes
			continue
		}
		sets++
		sum += d.Bytes
	}
	for _, dir := range slices.Sorted(maps.Keys(named)) {
		if left := named[dir] - used(dir); left > 0 {
			all = append(all, demand{dir, report.Size(left), left})
		}
	}
	for _, together := range r.Together() {
		sum := int64(0)
		for _, cell := range together {
			if f := r.factsOf(cell); f.Here {
				sum += f.Data.Extra
			}
		}
		extra = max(extra, sum)
	}
	var what []string
	switch sets {
	case 0:
	case 1:
		what = append(what, "a data set of "+report.Size(sum))
	default:
		what = append(what, fmt.Sprintf("%d data sets of %s in all", sets, report.Size(sum)))
	}
	if extra > 0 {
		what = append(what, "up to "+report.Size(extra)+" for the processes of a generation")
	}
	if left := sum + extra - have; left > 0 {
		all = append(all, demand{temporary, strings.Join(what, ", and "), left})
	}
	return all
}

// roomy returns an error if a disk has less free space than all its demands together.
func roomy(all []demand) error {
	wanted := map[uint64]int64{} // by disk
	for _, d := range all {
		disk, free, err := freeAt(d.dir)
		if err != nil {
			continue // the later creation of the folder reports the error
		}
		if wanted[disk] += d.bytes; uint64(wanted[disk]) > free {
			return fmt.Errorf("the disk of %s has %s free, and the experiment takes about %s there (free some space; or choose another disk, with TMPDIR or the experiment's dir; or fewer records)",
				d.dir, report.Size(int64(free)), report.Size(wanted[disk]))
		}
	}
	return nil
}

// freeAt returns the free space on the disk of a folder that exists or will be made, and the disk's number.
func freeAt(dir string) (disk, free uint64, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return 0, 0, err
	}
	for {
		var st unix.Stat_t
		err := unix.Stat(dir, &st)
		if errors.Is(err, unix.ENOENT) && dir != "/" {
			dir = filepath.Dir(dir)
			continue
		}
		var fs unix.Statfs_t
		if err == nil {
			err = unix.Statfs(dir, &fs)
		}
		return st.Dev, fs.Bavail * uint64(fs.Bsize), err
	}
}

// used returns the space of a folder's files; 0 if there is no folder.
func used(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && d.Type().IsRegular() && unix.Lstat(path, &st) == nil {
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum
}

// Afford returns an error if a disk lacks the space for these runs. data is the folder of the data sets, which may exist already.
func (r *Runner) Afford(runs []experiment.Run, data string) error {
	return roomy(r.demands(runs, filepath.Dir(data), used(data)))
}

// Forecast prints how the experiment is measured, how long it takes and the space in the folder for temporary stores, and before that its cells if cells is
// true. It returns an error if a disk lacks the space.
func (r *Runner) Forecast(w io.Writer, temporary string, cells bool) error {
	if err := r.Prepare(); err != nil {
		return err
	}
	runs := r.Runs()
	if cells {
		if err := r.printCells(w, runs); err != nil {
			return err
		}
	}
	all := r.demands(runs, temporary, 0)
	r.printCosts(w, runs, all)
	return roomy(all)
}

// printCosts prints how the experiment is measured, how long it takes, and the space.
func (r *Runner) printCosts(w io.Writer, runs []experiment.Run, space []demand) {
	cells, missing := map[int]bool{}, 0
	for _, run := range runs {
		if !cells[run.Cell] && !r.factsOf(run.Cell).Here {
			missing++
		}
		cells[run.Cell] = true
	}
	sum := r.Estimate()
	for _, d := range r.loads(runs) {
		if !d.there() {
			sum += d.Load
		}
	}
	not := ""
	if missing > 0 {
		not = fmt.Sprintf(", %d of them not here", missing)
	}
	fmt.Fprintf(w, "%s, %s%s, %s, %s: about %v\n", plural.Of(len(r.questions), "question"), plural.Of(len(cells), "cell"), not, plural.Of(r.Generations, "generation"), r.Method(), sum.Round(time.Second))
	for _, d := range space {
		fmt.Fprintln(w, d)
	}
	for _, why := range r.Remarks(runs) {
		fmt.Fprintln(w, why)
	}
}

// printCells prints the cells, and how often each is measured.
func (r *Runner) printCells(w io.Writer, design []experiment.Run) error {
	x := r.Experiment
	runs, also := make([]int, len(x.Cells)), make([]string, len(x.Cells))
	for _, run := range design {
		if runs[run.Cell]++; run.Generation == 1 && run.AA {
			also[run.Cell] += " (baseline)"
		}
		if run.Generation == 1 && run.Stages {
			also[run.Cell] += " (stages)"
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, cell := range x.Cells {
		n := fmt.Sprintf("%d ×%s", runs[i], also[i])
		switch {
		case runs[i] == 0: // with --primary: it belongs to no primary question
			continue
		case !r.factsOf(i).Here:
			n = "not here"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\n", i+1, n, cell)
	}
	fmt.Fprintln(t)
	return t.Flush()
}
