package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processID is a process: its number, which is another's once it has ended, and when it began, in ticks since the machine did.
type processID struct {
	pid   int
	began string
}

// descendants are the processes that a process has started, and theirs, as far as they can be seen. Those of a process that has ended are not its own any more.
func descendants(pid int) (all []processID) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	children := map[int][]processID{}
	for _, name := range files {
		if id, parent, ok := readStat(name); ok {
			children[parent] = append(children[parent], id)
		}
	}
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		for _, c := range children[next[0]] {
			all, next = append(all, c), append(next, c.pid)
		}
	}
	return all
}

// readStat reads /proc/PID/stat (proc_pid_stat(5)); ok is false for a process that has ended, also one that nobody has waited for.
func readStat(name string) (id processID, parent int, ok bool) {
	b, err := os.ReadFile(name)
	if err != nil {
		return id, 0, false
	}
	number, _, _ := bytes.Cut(b, []byte(" "))
	rest := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // its name may have spaces and brackets
	if len(rest) < 20 || rest[0] == "Z" || rest[0] == "X" {
		return id, 0, false
	}
	id.pid, err = strconv.Atoi(string(number))
	parent, perr := strconv.Atoi(rest[1])
	id.began = rest[19]
	return id, parent, err == nil && perr == nil
}

// lives says whether the process has not ended.
func (p processID) lives() bool {
	now, _, ok := readStat(fmt.Sprintf("/proc/%d/stat", p.pid))
	return ok && now == p
}

// outlive waits until processes have ended that are about to, and kills those that have not after so long.
func outlive(all []processID, wait time.Duration) {
	lives := func() bool { return slices.ContainsFunc(all, processID.lives) }
	if !lives() {
		return
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); <-tick.C {
		if !lives() {
			return
		}
	}
	for _, p := range all {
		if p.lives() {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
}
