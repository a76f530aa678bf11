package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Guest describes an experiment that runs in a guest with soft-RoCE: all of it, or with Two its client, while its servers are in a second guest on the same wire.
type Guest struct {
	Script   string // GuestScript
	Two      bool
	Timeout  time.Duration // after which the guest is killed
	File     string        // of the experiment, or the name of a built-in one
	Folders  []string      // folders that the guest must be able to read, besides the program: the folder of File
	Dir      string        // for the results
	Writable string        // a folder that exists: Dir, or one above it
	Flags    []string      // of kvwire run
}

// serverGuest is where kvwire host listens in the guest of the servers; vm.sh gives the address.
const serverGuest = "10.78.0.1:7069"

// Execute replaces this process by vm.sh, whose signals, output and exit code are this process's from then on. It returns on errors only.
func (g *Guest) Execute() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{g.Script, "--timeout", strconv.Itoa(int(g.Timeout.Seconds())), "--rw", g.Writable, "--ro", filepath.Dir(exe)}
	for _, folder := range g.Folders {
		args = append(args, "--ro", folder)
	}
	if g.Two {
		args = append(args, "--two", "--server", "exec '"+strings.ReplaceAll(exe, "'", `'\''`)+"' host --insecure --listen "+serverGuest)
	}
	args = append(args, "--", exe, "run", g.File, "--output-dir", g.Dir)
	if g.Two {
		args = append(args, "--server-at", serverGuest)
	}
	return fmt.Errorf("start %s: %w", g.Script, syscall.Exec(g.Script, append(args, g.Flags...), os.Environ()))
}

// GuestScript finds test/vm/vm.sh, in the checkout of this program or above the working folder.
func GuestScript() (string, error) {
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
	return "", fmt.Errorf("--vm: no file %s in the checkout of this program or above the working folder (run bin/kvwire in a checkout of kvwire)", name)
}

// InGuest reports whether this machine is a guest of vm.sh.
func InGuest() bool {
	_, err := os.Stat("/run/kvwire/vm/config")
	return err == nil
}

// GuestTitle is printed above a table that was measured in a guest, or in two; "" elsewhere.
func GuestTitle(two bool) string {
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
