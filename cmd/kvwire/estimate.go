package main

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

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/store"
	"golang.org/x/sys/unix"
)

// How fast data are loaded, opened and copied, about.
const (
	// Loading: records of 64 B, from the 6 runs there that load 50,000 of them; and what the disk takes in pages
	// (docs/results/2026-11-21-store, Loading).
	loadedPerSec   = 135_000
	loadBytesPerS  = 400 << 20
	writeBytesPerS = 1200 << 20
)

// cost is how long a cell's data take to load, about, and the space on disk that goes with them.
type cost struct {
	load  time.Duration // once, for all runs of the same data
	data  string        // these data's name; "": none, or its own each time
	bytes int64         // that they take, in folder
	extra int64         // what each of its processes takes while it lives, in the temporary folder
	dir   string        // the user's own folder; "": a temporary one
	long  string        // why the run takes so long; "": it does not
}

// estimate is what the data of a cell with these flags cost.
func estimate(f *factors) (c cost) {
	if f.Load.Trace != "" {
		c.long = f.warning
	}
	d, ok := f.data()
	at := func(bytes, perS int64) time.Duration {
		return time.Duration(float64(bytes) / float64(perS) * float64(time.Second))
	}
	load := max(at(int64(d.records), loadedPerSec), at(d.bytes(false), loadBytesPerS))
	_, shared := f.dataSet()
	switch {
	case !ok:
	case f.Store.Backend == store.Raw.String() && f.sets("dir"):
		c.dir, c.data, c.bytes = f.Store.Dir, fmt.Sprintf("raw for %d", d.partitions), int64(f.Store.RawBytes) // a file for each
		c.load = at(c.bytes, writeBytesPerS)
	case f.Store.Backend == store.Raw.String():
		c.extra = int64(f.Store.RawBytes)
	case f.Store.Backend == store.Disk.String() && f.sets("dir"):
		c.dir, c.data, c.bytes, c.load = f.Store.Dir, "store", d.bytes(f.writes()), load
	case shared:
		c.data, c.bytes, c.load, c.extra = d.name(), d.bytes(false), load, d.bytes(f.writes())
	}
	return c
}

// costs are those of an experiment's cells; ok is false for those that cannot be run here.
type costs struct {
	of   []cost
	here []bool
}

// estimates are the costs of all cells, with servers at another host, or here ("").
func estimates(x *experiments.Experiment, at string) (c costs, err error) {
	for _, cell := range x.Cells {
		f, err := cellFactors(cell)
		if err != nil {
			return c, err
		}
		net, err := find(f.Server.Transport)
		if err != nil {
			return c, err
		}
		if !f.inProcess() {
			f.serverAt = at
		}
		c.of, c.here = append(c.of, estimate(f)), append(c.here, net.works() == nil)
	}
	return c, nil
}

// loads are the costs whose data have to be loaded, one for each data set.
func (c *costs) loads(runs []experiments.Run) (all []cost) {
	for _, run := range runs {
		x := c.of[run.Cell]
		if !c.here[run.Cell] || x.data == "" {
			continue
		}
		i := slices.IndexFunc(all, func(o cost) bool { return o.data == x.data && o.dir == x.dir })
		if i < 0 {
			all = append(all, x)
			continue
		}
		all[i].bytes, all[i].load = max(all[i].bytes, x.bytes), max(all[i].load, x.load)
	}
	return all
}

// long is why runs take unusually long, each reason once.
func (c *costs) long(runs []experiments.Run) (all []string) {
	for _, run := range runs {
		if why := c.of[run.Cell].long; why != "" && !slices.Contains(all, why) {
			all = append(all, why)
		}
	}
	return all
}

// there says whether the user's folder has its store, or raw file, already.
func (c *cost) there() bool {
	if c.dir == "" {
		return false
	}
	files, err := os.ReadDir(c.dir)
	return err == nil && len(files) > 0
}

// demand is space that an experiment wants in a folder.
type demand struct {
	dir   string
	what  string
	bytes int64
}

// String is a line for people.
func (d demand) String() string {
	s := fmt.Sprintf("disk space: %s, in %s", d.what, d.dir)
	if _, free, err := freeAt(d.dir); err == nil {
		s += fmt.Sprintf(", where %s are free", report.Size(int64(free)))
	}
	return s
}

// demands are the space that these runs want: in the folder for temporary stores, where the experiment has some bytes already, and in those
// that the user named, less what is there.
func (c *costs) demands(r *lab.Runner, runs []experiments.Run, temporary string, have int64) (all []demand) {
	sets, sum, extra := 0, int64(0), int64(0)
	named := map[string]int64{}
	for _, l := range c.loads(runs) {
		if l.dir != "" {
			named[l.dir] += l.bytes
			continue
		}
		sets++
		sum += l.bytes
	}
	for _, dir := range slices.Sorted(maps.Keys(named)) {
		if left := named[dir] - used(dir); left > 0 {
			all = append(all, demand{dir, report.Size(left), left})
		}
	}
	for _, together := range r.Together() {
		sum := int64(0)
		for _, cell := range together {
			if c.here[cell] {
				sum += c.of[cell].extra
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

// roomy is an error when a disk has less than is wanted on it.
func roomy(all []demand) error {
	wanted := map[uint64]int64{} // by disk
	for _, d := range all {
		disk, free, err := freeAt(d.dir)
		if err != nil {
			continue // making the folder will say why
		}
		if wanted[disk] += d.bytes; uint64(wanted[disk]) > free {
			return fmt.Errorf("the disk of %s has %s free, and the experiment takes about %s there (free some space; or choose another disk, with TMPDIR or the experiment's dir; or fewer records)",
				d.dir, report.Size(int64(free)), report.Size(wanted[disk]))
		}
	}
	return nil
}

// freeAt is the space on the disk of a folder that is there or will be made, and which disk it is.
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

// used is the space that a folder's files take; 0 where there is none.
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

// planner is a lab.Runner that only plans.
func planner(x *experiments.Experiment, settings lab.Settings, at string) (*lab.Runner, error) {
	r := results.New("", x, lab.Plan{Settings: settings}, resultsReader()).Runner(&processes{x: x, serverAt: at})
	return r, r.Prepare()
}

// plannedTime is how long an experiment takes, about, where all its cells can be run.
func plannedTime(x *experiments.Experiment, settings lab.Settings) (time.Duration, error) {
	r, err := planner(x, settings, "")
	if err != nil {
		return 0, err
	}
	return r.Estimate(), nil
}

// forecast prints what an experiment takes, with its cells before that where all is asked for, and is an error where the disk has not
// the space.
func forecast(w io.Writer, x *experiments.Experiment, settings lab.Settings, at string, all bool) error {
	r, err := planner(x, settings, at)
	if err != nil {
		return err
	}
	c, err := estimates(x, at)
	if err != nil {
		return err
	}
	runs := r.Runs()
	if all {
		if err := printCells(w, x, runs, &c); err != nil {
			return err
		}
	}
	wants := c.demands(r, runs, temporaryParent(), 0)
	if err := c.print(w, x, r, runs, wants); err != nil {
		return err
	}
	return roomy(wants)
}

// print writes how the experiment is measured, how long it takes, and the space.
func (c *costs) print(w io.Writer, x *experiments.Experiment, r *lab.Runner, runs []experiments.Run, wants []demand) error {
	cells, missing := map[int]bool{}, 0
	for _, run := range runs {
		if !cells[run.Cell] && !c.here[run.Cell] {
			missing++
		}
		cells[run.Cell] = true
	}
	sum := r.Estimate()
	for _, l := range c.loads(runs) {
		if !l.there() {
			sum += l.load
		}
	}
	not := ""
	if missing > 0 {
		not = fmt.Sprintf(", %d of them not here", missing)
	}
	fmt.Fprintf(w, "%d questions, %d cells%s, %d generations, %s: about %v\n", len(x.Questions()), len(cells), not, r.Generations, r.Method(), sum.Round(time.Second))
	for _, d := range wants {
		fmt.Fprintln(w, d)
	}
	for _, why := range c.long(runs) {
		fmt.Fprintln(w, why)
	}
	return nil
}

// printCells prints the cells, and how often each is measured.
func printCells(w io.Writer, x *experiments.Experiment, design []experiments.Run, c *costs) error {
	runs, also := make([]int, len(x.Cells)), make([]string, len(x.Cells))
	for _, run := range design {
		if runs[run.Cell]++; run.Block == 1 && run.AA {
			also[run.Cell] += " (baseline)"
		}
		if run.Block == 1 && run.Stages {
			also[run.Cell] += " (stages)"
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, cell := range x.Cells {
		n := fmt.Sprintf("%d ×%s", runs[i], also[i])
		switch {
		case runs[i] == 0: // it answers no primary question
			continue
		case !c.here[i]:
			n = "not here"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\n", i+1, n, cell)
	}
	fmt.Fprintln(t)
	return t.Flush()
}
