package run

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/lab/results"
)

// splitVM removes the value of --vm from the arguments that are no flags. Two of the words may be its value and an experiment, in any order.
func splitVM(words []string) (vm string, rest []string, err error) {
	for i, w := range words {
		if w != "one" && w != "two" {
			continue
		}
		switch len(words) {
		case 1:
			if _, err := experiment.Find(w); err != nil {
				return "", nil, exit.Usagef("--vm=%s needs the name of an experiment (kvwire run --vm=%s NAME)", w, w)
			}
		case 2:
			return w, []string{words[1-i]}, nil
		}
	}
	return "one", words, nil
}

// runInGuest runs an experiment in guests. It returns on errors only.
func (p *Program) runInGuest(x *experiment.Experiment, o *Options, settings lab.Settings) error {
	switch {
	case o.VM != "one" && o.VM != "two":
		return exit.Usagef("--vm=%s is unknown (--vm alone: one guest; --vm=two)", o.VM)
	case o.ServerAt != "":
		return exit.Usagef("--vm has its servers in guests: leave --server-at out")
	case o.KeepData:
		return exit.Usagef("--vm: the data of a guest are deleted with it: leave --keep-data out")
	case len(o.Device) > 0:
		return exit.Usagef("--vm is for soft-RoCE, and the model of a device runs here: leave out --vm, or --rdma-device and --rdma-model")
	case fleet.InGuest():
		return exit.Usagef("--vm: this is a guest already: leave --vm out")
	}
	script, err := fleet.GuestScript()
	if err != nil {
		return err
	}
	guest := fleet.Guest{Script: script, Two: o.VM == "two", Dir: o.OutputDir, Writable: o.OutputDir, Flags: o.Planned}
	if guest.File, guest.Folders, err = guestFile(o.Experiment); err != nil {
		return err
	}
	if guest.Dir == "" {
		guest.Writable = results.Parent
		if guest.Dir, err = results.NewFolder(guest.Writable, results.NewID(x, time.Now())); err != nil {
			return err
		}
	} else if _, err := os.Stat(filepath.Join(guest.Dir, lab.RowsFile)); err == nil {
		return exit.Usagef("%s has results already: choose another --output-dir", guest.Dir)
	}
	if err := os.MkdirAll(guest.Writable, 0o755); err != nil { // the guest writes only in folders that exist
		return fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err)
	}
	if guest.Timeout, err = p.guestTimeMax(x, settings); err != nil {
		return err
	}
	if o.JSON {
		guest.Flags = append(guest.Flags, "--json")
	}
	p.Note("starting %s with soft-RoCE for %s", map[string]string{"one": "a guest", "two": "two guests"}[o.VM], x.Name)
	return guest.Execute()
}

// guestFile returns how the guest's kvwire names the experiment, and the folders that the guest must be able to read.
func guestFile(arg string) (file string, folders []string, err error) {
	if file, err = experiment.Find(arg); err != nil {
		return "", nil, err
	}
	if experiment.IsBuiltIn(file) {
		return arg, nil, nil
	}
	if file, err = filepath.Abs(file); err != nil {
		return "", nil, err
	}
	return file, []string{filepath.Dir(file)}, nil
}

// guestStart is the most that an emulated guest takes to start the processes of a run, to connect them and to load their data. (A generation of the
// experiment loss, with four variants and links of their own, took 30 s more than its slices.)
const guestStart = 10 * time.Second

// guestTimeMax is when a guest is ended at the latest: an emulated one needs several times as long to start processes and to load data.
func (p *Program) guestTimeMax(x *experiment.Experiment, settings lab.Settings) (time.Duration, error) {
	r := p.planner(x, settings, "")
	if err := r.Prepare(); err != nil {
		return 0, err
	}
	return min(5*time.Minute+4*r.Estimate()+time.Duration(len(r.Runs()))*guestStart, 250*time.Hour), nil
}
