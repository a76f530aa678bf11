package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/lab/results"
	"golang.org/x/sys/unix"
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

// runInGuest puts test/vm/vm.sh in the place of this process: ^C, output and exit code are its own from then on. It
// returns on errors only.
func runInGuest(vm string, x *experiment.Experiment, arg string, f *factors, g *generationsFlags, settings lab.Settings) error {
	switch {
	case vm != "one" && vm != "two":
		return usagef("--vm=%s is unknown (--vm alone: one guest; --vm=two)", vm)
	case f.serverAt != "":
		return usagef("--vm has its servers in guests: leave --server-at out")
	case g.keepData:
		return usagef("--vm: what a guest has loaded goes with it: leave --keep-data out")
	case inGuest():
		return usagef("--vm: this is a guest already: leave --vm out")
	}
	script, err := vmScript()
	if err != nil {
		return err
	}
	exe, err := os.Executable()
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
	args := []string{script, "--timeout", strconv.Itoa(int(most.Seconds())), "--rw", writable,
		"--ro", filepath.Dir(exe)}
	args = append(args, folders...)
	if vm == "two" {
		args = append(args, "--two", "--server", "exec '"+strings.ReplaceAll(exe, "'", `'\''`)+"' host --insecure --listen "+firstGuest)
	}
	args = append(args, "--", exe, "run", file, "--output-dir", dir)
	if vm == "two" {
		args = append(args, "--server-at", firstGuest)
	}
	for _, name := range plannedFlags { // what else the experiment says it says there, too
		if flag := f.set.Lookup(name); flag.Changed {
			args = append(args, "--"+name+"="+flag.Value.String())
		}
	}
	if f.json {
		args = append(args, "--json")
	}
	guests := map[string]string{"one": "a guest", "two": "two guests"}[vm]
	fmt.Fprintf(os.Stderr, "kvwire: starting %s with soft-RoCE for %s\n", guests, x.Name)
	return fmt.Errorf("start %s: %w", script, syscall.Exec(script, args, os.Environ()))
}

// forGuest is how the guest's kvwire names the experiment, and the flags of vm.sh that let it read the file.
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
	return file, []string{"--ro", filepath.Dir(file)}, nil
}

// firstGuest is where kvwire host listens in the first of two guests; vm.sh gives the address.
const firstGuest = "10.78.0.1:7069"

// vmScript finds test/vm/vm.sh: of the checkout where this program was built, or above the working folder.
func vmScript() (string, error) {
	const name = "test/vm/vm.sh"
	var places []string
	if exe, err := os.Executable(); err == nil {
		if exe, err = filepath.EvalSymlinks(exe); err == nil {
			places = append(places, filepath.Dir(filepath.Dir(exe)))
		}
	}
	if dir, err := os.Getwd(); err == nil {
		for ; len(dir) > 1; dir = filepath.Dir(dir) {
			places = append(places, dir)
		}
	}
	for _, p := range places {
		if path := filepath.Join(p, name); unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("--vm: no %s beside this program, nor above the working folder (run bin/kvwire in a checkout of kvwire)", name)
}

// guestTime is when a guest is ended at the latest: an emulated one takes several times as long to start processes and to load data.
func guestTime(x *experiment.Experiment, settings lab.Settings) (time.Duration, error) {
	r := planner(x, settings, "")
	if err := r.Prepare(); err != nil {
		return 0, err
	}
	return min(5*time.Minute+4*r.Estimate(), 250*time.Hour), nil
}

// inGuest says whether this is a guest of vm.sh.
func inGuest() bool {
	_, err := os.Stat("/run/kvwire/vm/config")
	return err == nil
}

// guestTitle stands above a table that was measured in a guest, or in two; "" elsewhere.
func guestTitle(two bool) string {
	accel := os.Getenv("KVWIRE_ACCEL")
	if accel != "kvm" && accel != "tcg" {
		return ""
	}
	title := "In a guest (" + accel + "): RDMA is soft-RoCE"
	if two {
		title = "In two guests (" + accel + ") on one wire: RDMA is soft-RoCE"
	}
	if accel == "tcg" {
		title += ", and CPUs are emulated"
		if two {
			title += ": this shows that it works, and not how fast"
		}
	}
	return title + ".\nCompare these rows with each other, and not with another machine's.\n\n"
}
