package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/lab/results"
)

// vmFlag is --vm, which says where an experiment runs: "", here; one, in a guest; two, in two, client and servers apart.
func vmFlag(f *factors, to *string) {
	f.set.StringVar(to, "vm", "", "run all of it in a guest that has soft-RoCE, or, with =two, client and servers in two of them")
	f.set.Lookup("vm").NoOptDefVal = "one"
}

// vmWord takes the value of --vm out of what stands beside the flags: one of two words, the other of which is the experiment.
func vmWord(words []string) (vm string, rest []string, err error) {
	for i, w := range words {
		if w != "one" && w != "two" {
			continue
		}
		switch len(words) {
		case 1:
			if _, err := experiment.Find(w); err != nil {
				return "", nil, usagef("--vm=%s of which experiment? (kvwire run --vm=%s NAME)", w, w)
			}
		case 2:
			return w, []string{words[1-i]}, nil
		}
	}
	return "one", words, nil
}

// runInGuest runs an experiment in guests. It returns on errors only.
func runInGuest(vm string, x *experiment.Experiment, arg string, f *factors, g *generationsFlags, settings lab.Settings) error {
	switch {
	case vm != "one" && vm != "two":
		return usagef("--vm=%s is unknown (--vm alone: one guest; --vm=two)", vm)
	case f.ServerAt != "":
		return usagef("--vm has its servers in guests: leave --server-at out")
	case g.keepData:
		return usagef("--vm: what a guest has loaded goes with it: leave --keep-data out")
	case fleet.InGuest():
		return usagef("--vm: this is a guest already: leave --vm out")
	}
	script, err := fleet.GuestScript()
	if err != nil {
		return err
	}
	file, folders, err := forGuest(arg)
	if err != nil {
		return err
	}
	dir, writable := f.outputDir, f.outputDir
	if dir == "" {
		writable = results.Parent
		if dir, err = results.NewFolder(writable, results.NewID(x, time.Now())); err != nil {
			return err
		}
	} else if _, err := os.Stat(filepath.Join(dir, "runs.csv")); err == nil {
		return usagef("%s has results already: choose another --output-dir", dir)
	}
	if err := os.MkdirAll(writable, 0o755); err != nil { // here: the guest writes in folders that are there
		return fmt.Errorf("folder for the results: %w (name another one with --output-dir)", err)
	}
	most, err := guestTime(x, settings)
	if err != nil {
		return err
	}
	guest := fleet.Guest{Script: script, Two: vm == "two", Timeout: most, File: file, Folders: folders, Dir: dir, Writable: writable}
	for _, name := range plannedFlags {
		if flag := f.set.Lookup(name); flag.Changed {
			guest.Flags = append(guest.Flags, "--"+name+"="+flag.Value.String())
		}
	}
	if f.json {
		guest.Flags = append(guest.Flags, "--json")
	}
	guests := map[string]string{"one": "a guest", "two": "two guests"}[vm]
	fmt.Fprintf(os.Stderr, "kvwire: starting %s with soft-RoCE for %s\n", guests, x.Name)
	return guest.Execute()
}

// forGuest returns how the guest's kvwire names the experiment, and the folders that the guest must be able to read.
func forGuest(arg string) (file string, folders []string, err error) {
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

// guestTime is when a guest is ended at the latest: an emulated one takes several times as long to start processes and to load data.
func guestTime(x *experiment.Experiment, settings lab.Settings) (time.Duration, error) {
	r := planner(x, settings, "")
	if err := r.Prepare(); err != nil {
		return 0, err
	}
	return min(5*time.Minute+4*r.Estimate(), 250*time.Hour), nil
}
