package fleet

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

// ProcessID identifies a process: by its number, which the kernel uses again after its end, and its start, in ticks since the start of the machine.
type ProcessID struct {
	Pid   int
	began string
}

// Descendants returns the processes that a process has started, and their descendants, as far as they are visible. Children of an ended process are not among them.
func Descendants(pid int) (all []ProcessID) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	children := map[int][]ProcessID{}
	for _, name := range files {
		if id, parent, ok := readStat(name); ok {
			children[parent] = append(children[parent], id)
		}
	}
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		for _, c := range children[next[0]] {
			all, next = append(all, c), append(next, c.Pid)
		}
	}
	return all
}

// readStat reads /proc/PID/stat (proc_pid_stat(5)); ok is false for a process that has ended, zombies included.
func readStat(name string) (id ProcessID, parent int, ok bool) {
	b, err := os.ReadFile(name)
	if err != nil {
		return id, 0, false
	}
	number, _, _ := bytes.Cut(b, []byte(" "))
	rest := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // its name may have spaces and brackets
	if len(rest) < 20 || rest[0] == "Z" || rest[0] == "X" {
		return id, 0, false
	}
	id.Pid, err = strconv.Atoi(string(number))
	parent, perr := strconv.Atoi(rest[1])
	id.began = rest[19]
	return id, parent, err == nil && perr == nil
}

// Identify returns the process with that number; false: it has ended, or there is none.
func Identify(pid int) (ProcessID, bool) {
	id, _, ok := readStat(fmt.Sprintf("/proc/%d/stat", pid))
	return id, ok
}

// Lives reports whether the process has not ended.
func (p ProcessID) Lives() bool {
	now, ok := Identify(p.Pid)
	return ok && now == p
}

// awaitEnd waits for the end of processes, and kills those that have not ended after wait.
func awaitEnd(all []ProcessID, wait time.Duration) {
	lives := func() bool { return slices.ContainsFunc(all, ProcessID.Lives) }
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
		if p.Lives() {
			_ = syscall.Kill(p.Pid, syscall.SIGKILL)
		}
	}
}
