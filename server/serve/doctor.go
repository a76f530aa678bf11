package serve

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/rdma/device"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/store"
)

// Doctor finds out what works on this machine, with a store in dir, which may list several folders.
func Doctor(dir string) (probe.Report, error) {
	if err := store.CheckFolders(dir); err != nil {
		return nil, exit.Named(err)
	}
	failed := map[string]error{}
	for _, n := range Networks {
		if n.Probe == nil {
			continue
		}
		if err := n.Probe(&factor.Values{}); err != nil {
			failed[n.Name] = err
		}
	}
	least, most, err := DefaultPins()
	if err != nil {
		return nil, err
	}
	r := append(probe.Doctor(store.Folders(dir), failed), device.Findings(device.Local(), least, most)...)
	return append(append(r, pingPong()...), device.ModelFinding(rdma.Built)), nil
}

// pingPong exchanges messages over the device that a server would use by default; without one there is no row.
func pingPong() probe.Report {
	c, err := device.Pick(device.Local(), netip.Addr{})
	if err != nil {
		return nil
	}
	f := probe.Finding{Name: "verbs ping-pong", State: probe.Unavailable}
	p, err := rdma.PingPong(c)
	var refusal *probe.Refusal
	switch {
	case err == nil:
		f.State = probe.Available
		f.Why = fmt.Sprintf("%s, %d B round trip %s (median of %d)", c.Device, p.Bytes, report.Duration(p.Median.Nanoseconds()), p.Trips)
		if caps, err := rdma.QueryCaps(c, rdma.Options{}); err == nil {
			f.Why += fmt.Sprintf("; it makes queue pairs of the kinds %s, and kvwire uses RC", strings.Join(caps.Kinds, ", "))
			if caps.MemoryWindows {
				f.Why += "; with memory windows of type 2B, which keep connections of --rdma-verb write and write-poll apart"
			} else {
				f.Why += "; without memory windows of type 2B: connections of --rdma-verb write and write-poll are not kept apart (SECURITY.md)"
			}
		}
	case errors.As(err, &refusal):
		f.State, f.Why, f.Remedy = refusal.Finding.State, refusal.Finding.Why, refusal.Finding.Remedy
	default:
		f.Why = strings.ReplaceAll(err.Error(), "\n", "; ") // ends with what to do
	}
	return probe.Report{f}
}

// rdmaEnvironment is the section rdma of env.json.
type rdmaEnvironment struct {
	*device.Env
	Model string     `json:"model,omitempty"`      // the links of modelled devices, with "; " between them
	Caps  *rdma.Caps `json:"queue_pair,omitempty"` // of one with the default options
}

// Environment is this machine, with the RDMA device that a server would use by default. revision is kvwire's; "": not known. links are those of the modelled devices
// that other processes use.
func Environment(revision string, links ...string) report.Env {
	e := report.Environment(revision)
	s := device.Local()
	if l := rdma.Modelled(); l != nil {
		links = append(links, l.String())
	}
	r := rdmaEnvironment{Model: strings.Join(links, "; ")}
	if c, err := device.Pick(s, netip.Addr{}); err == nil {
		env := device.ReadEnv(s, c)
		r.Env = &env
		if caps, err := rdma.QueryCaps(c, rdma.Options{}); err == nil {
			r.Caps = &caps
		}
	}
	if r.Env != nil || r.Model != "" {
		e.RDMA = r
	}
	return e
}
