package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kvwire/kvwire/bench"
)

// LoadHost is one of several processes that made a run's load together, each behind a launcher.
type LoadHost struct {
	Name   string // as reasons name it
	Result *bench.Result
	Beside bench.Usage // of the run's other processes on the same machine, over the window
}

// FillHosts is Fill for a load that several hosts made: all is their results together (bench.Together). Times of machines are
// those of the worst one, and the run is invalid or has marks where a host's part of it is or has, with the host's name.
func FillHosts(row *Row, all *bench.Result, sides Sides, hosts []LoadHost) {
	sides.IdleCPUs = Float{} // not known
	Fill(row, all, sides)
	row.LoadHosts = I(len(hosts))
	why, marks := []string{row.InvalidReason}, []string{row.Marks}
	for _, h := range hosts {
		one := Row{Hosts: I(1)} // other processes on its machine count as a server there
		Fill(&one, h.Result, Sides{Server: &Server{Usage: h.Beside}})
		row.StealRatio, row.ForeignCPURatio = worse(row.StealRatio, one.StealRatio), worse(row.ForeignCPURatio, one.ForeignCPURatio)
		row.ThrottledRatio = worse(row.ThrottledRatio, one.ThrottledRatio)
		switch {
		case len(hosts) == 1: // its fields need no names of hosts
			row.HostSoftirqNsPerOp = one.HostSoftirqNsPerOp
			why, marks = []string{one.InvalidReason}, []string{one.Marks}
		default:
			if one.InvalidReason != "" && one.InvalidReason != row.InvalidReason {
				why = append(why, h.Name+": "+one.InvalidReason)
			}
			if one.Marks != "" && one.Marks != row.Marks {
				marks = append(marks, h.Name+": "+one.Marks)
			}
		}
	}
	row.InvalidReason, row.Marks = joined(why), joined(marks)
	row.Valid = B(row.InvalidReason == "")
}

// joined joins the parts that are not empty.
func joined(parts []string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}

// FillServerHost adds to a filled row the marks of the server's machine, when no load is made there: it may be as
// disturbed as a client's.
func FillServerHost(row *Row, h bench.Host, server bench.Usage) {
	if !h.Known {
		return
	}
	steal, foreign := h.Ratio(h.Steal), max(0, h.Ratio(h.User+h.Nice+h.System-server.CPU()))
	row.StealRatio, row.ForeignCPURatio = worse(row.StealRatio, F(steal)), worse(row.ForeignCPURatio, F(foreign))
	for _, c := range []struct {
		what        string
		value, most float64
		digits      int
	}{{"steal", steal, maxSteal, 1}, {"foreign CPU", foreign, maxForeign, 0}} {
		if c.value <= c.most {
			continue
		}
		row.mark("the server's host: %s %.*f %%", c.what, c.digits, c.value*100)
	}
}

// FillServerQuota adds to a filled row the mark of the CPU quota of the server's process, which may be another one than that of the load: it is looked
// at where it is the worse one.
func FillServerQuota(row *Row, h bench.Host) {
	v, ok := h.Throttled()
	load, known := row.ThrottledRatio.Get()
	if !ok || known && load >= v {
		return
	}
	if row.ThrottledRatio = F(v); v > maxStill && load <= maxStill {
		row.mark("the server's CPU quota: throttled in %.0f %% of its periods", v*100)
	}
}

// mark adds a mark to a row.
func (r *Row) mark(format string, a ...any) {
	r.Marks = joined([]string{r.Marks, fmt.Sprintf(format, a...)})
}

func worse(a, b Float) Float {
	x, _ := a.Get()
	if y, ok := b.Get(); ok && (!a.Known() || y > x) {
		return b
	}
	return a
}

// HostEnv is the environment of a host that a launcher reached.
type HostEnv struct {
	Role string `json:"role"` // server, or load 1 and so on
	Env  Env    `json:"env"`
}

// WriteHosts writes hosts.json into a folder: what env.json is for this machine, of the others.
func WriteHosts(dir string, hosts []HostEnv) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	err := enc.Encode(hosts)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = WriteFile(filepath.Join(dir, "hosts.json"), b.Bytes())
	}
	if err != nil {
		return fmt.Errorf("report: environments of the hosts: %w", err)
	}
	return nil
}
