package fleet

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/transport/access"
)

// HostInfo is the first line of a launched process.
type HostInfo struct {
	Kvwire  string     `json:"kvwire"`  // its version
	Machine string     `json:"machine"` // MachineID
	Env     report.Env `json:"env"`
}

// Role is the line that a launched process reads.
type Role struct {
	Args []string `json:"args"` // of kvwire
	access.Credentials
}

// roles are the commands that a launched process may execute; roleLineMax bounds a Role in bytes.
var roles = []string{"serve", "loadhost"}

const roleLineMax = 64 << 10

// MachineID identifies the running kernel: it is the same for all its processes and different elsewhere; "": not known.
func MachineID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// ReadRole reads one line, and no byte beyond it: the rest is the input of the command.
func ReadRole(in io.Reader) (r Role, err error) {
	var text []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(in, b); err != nil {
			return r, fmt.Errorf("launched: read the role: %w (is standard input passed on? kubectl exec and docker exec need -i)", err)
		}
		if b[0] == '\n' {
			break
		}
		if text = append(text, b[0]); len(text) > roleLineMax {
			return r, fmt.Errorf("launched: arguments of more than %d bytes", roleLineMax)
		}
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("launched: arguments: %w", err)
	}
	if len(r.Args) == 0 || !slices.Contains(roles, r.Args[0]) {
		return r, fmt.Errorf("launched: command %.100q is not allowed (only %s)", r.Args, strings.Join(roles, " or "))
	}
	return r, nil
}

// Execute replaces this process by the command of its role. It returns on errors only.
func (r *Role) Execute() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	return fmt.Errorf("execute %s: %w", exe, syscall.Exec(exe, append([]string{os.Args[0]}, r.Args...), r.Environ()))
}
