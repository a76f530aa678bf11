package probe

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Memory is how many bytes this process may use before the kernel ends it or others, and what says so: the machine's memory, or the least limit of its control groups
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
	b, err = fs.ReadFile(h.Root, "proc/self/cgroup")
	if err != nil {
		return bytes, by, nil // a kernel without them
	}
	for l := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(l), ":", 3) // number:controllers:path
		if len(f) < 3 {
			continue
		}
		root, name := "sys/fs/cgroup", "memory.max"
		switch {
		case f[1] == "memory":
			root, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		case f[1] != "":
			continue
		}
		for at := path.Clean("/" + f[2]); ; at = path.Dir(at) {
			file := path.Join(root, at, name)
			b, err := fs.ReadFile(h.Root, file) // in a container the path may be another's: then what is above counts
			if n, perr := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && perr == nil && n < bytes {
				bytes, by = n, "/"+file
			}
			if at == "/" {
				break
			}
		}
	}
	return bytes, by, nil
}
