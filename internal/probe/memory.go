package probe

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/kvwire/kvwire/internal/cgroup"
)

// Pinnable reports whether a server can pin memory on this machine: least bytes at its start, and up to most while it serves. It compares both with the
// locked-memory limit and with the machine's memory, of which a quarter must stay free, because the kernel cannot reclaim pinned memory.
func Pinnable(h *Host, least, most uint64) Finding {
	f := Lockable(h, least)
	if f.State == Unavailable {
		return f
	}
	have, by, err := Memory(h)
	if err != nil {
		return f // an unknown size is no reason to refuse
	}
	room := uint64(have) / 4 * 3
	f.Why += fmt.Sprintf("; of %s of memory (%s)", size(uint64(have)), by)
	switch {
	case least > room:
		f.State = Unavailable
		f.Why = fmt.Sprintf("%s are to be pinned of %s of memory (%s); a quarter must stay free for other uses", size(least), size(uint64(have)), by)
		f.Remedy = "less memory to be pinned: fewer loops, or a lower --message-memory or --connection-memory"
	case most > room:
		f.Remedy = fmt.Sprintf("with all connections %s are pinned, and the kernel may end the process: lower --max-conns or --max-depth", size(most))
	default:
		if l := Lockable(h, most); l.State == Unavailable {
			f.Remedy = "some connections will be refused: " + l.Why + " with all of them: " + l.Remedy
		}
	}
	return f
}

// Memory returns how many bytes this process may use before the kernel ends it or others, and the source of the limit: the machine's memory, or the least limit of its control groups
// (cgroups(7): memory.max of version 2, memory.limit_in_bytes of version 1).
func Memory(h *Host) (bytes int64, by string, err error) {
	b, err := fs.ReadFile(h.Root, "proc/meminfo")
	if err != nil {
		return 0, "", fmt.Errorf("memory: %w", err)
	}
	if _, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &bytes); err != nil {
		return 0, "", fmt.Errorf("memory: /proc/meminfo: %w", err)
	}
	bytes, by = bytes<<10, "this machine"
	cgroup.Folders(h.Root, "memory", func(dir string, version int) {
		file := path.Join(dir, map[int]string{1: "memory.limit_in_bytes", 2: "memory.max"}[version])
		b, err := fs.ReadFile(h.Root, file)
		if n, perr := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && perr == nil && n < bytes {
			bytes, by = n, "/"+file
		}
	})
	return bytes, by, nil
}

// here is what Memory finds on this machine at first: an experiment asks for each of its cells.
var here = sync.OnceValue(func() (m struct {
	bytes int64
	by    string
	err   error
}) {
	m.bytes, m.by, m.err = Memory(Local())
	return m
})

// Fits returns an error if this machine, or its control group, has less memory than need bytes. what has the flags that need them. Where the size of the memory is not
// known, the kernel decides.
func Fits(need float64, what string) error {
	m := here()
	if m.err != nil || need <= float64(m.bytes) {
		return nil
	}
	return fmt.Errorf("%s: %.1f GiB, and %s has %.1f GiB of memory: lower one of them", what, need/(1<<30), m.by, float64(m.bytes)/(1<<30))
}
