package cell

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/report"
)

// serverHost is the host that the server is on.
func (s *Session) serverHost() fleet.HostInfo {
	if s.child != nil && s.f.Launch.Server != "" {
		return s.child.Host
	}
	return thisHost()
}

// thisHost describes this machine as a launched process describes its own.
func thisHost() fleet.HostInfo {
	w := fleet.HostInfo{Machine: fleet.MachineID()}
	w.Env.Kernel = kernel()
	return w
}

// allHosts are the hosts of the server and of the load, in this order.
func (s *Session) allHosts() []fleet.HostInfo {
	all := []fleet.HostInfo{s.serverHost()}
	if s.hosts == nil {
		return append(all, thisHost())
	}
	for _, h := range s.hosts.hosts {
		all = append(all, h.Host)
	}
	return all
}

// serverApart reports whether the server is known to be on a machine where no load is made.
func (s *Session) serverApart() bool {
	if !s.f.Launch.Used() {
		return false
	}
	all := s.allHosts()
	return all[0].Machine != "" && !slices.ContainsFunc(all[1:], func(p fleet.HostInfo) bool { return p.Machine == "" || p.Machine == all[0].Machine })
}

// fillHosts writes to r where the run's processes were. Hosts count by their kernels: namespaces and containers of one machine are one host.
func (s *Session) fillHosts(r *report.Row) {
	if !s.f.Launch.Used() {
		return
	}
	machines, kernels, known := map[string]bool{}, []string(nil), true
	for _, p := range s.allHosts() {
		machines[p.Machine] = true
		known = known && p.Machine != ""
		if !slices.Contains(kernels, p.Env.Kernel) {
			kernels = append(kernels, p.Env.Kernel)
		}
	}
	if r.Kernel = strings.Join(kernels, ", "); known {
		r.Hosts = report.I(len(machines))
	}
	if ip, err := netip.ParseAddr(s.f.Launch.Addr); err == nil && ip.IsLoopback() && len(machines) == 1 && s.f.Server.Transport != "rdma" {
		r.Device = "loopback"
	}
}

// addForeignCPU adds to each load host the CPU time of the run's other processes on its machine.
func (s *Session) addForeignCPU(hosts []report.LoadHost, server *report.Server) {
	for i := range hosts {
		at := s.hosts.hosts[i].Host.Machine
		if at == "" {
			continue
		}
		for j := range hosts {
			if j != i && s.hosts.hosts[j].Host.Machine == at {
				hosts[i].Beside.Add(hosts[j].Result.Process)
			}
		}
		if server != nil && s.serverHost().Machine == at {
			hosts[i].Beside.Add(server.Usage)
		}
	}
}

// writeHosts writes the environments of the launched hosts to a folder of results.
func (s *Session) writeHosts(dir string) error {
	var hosts []report.HostEnv
	if s.child != nil && s.f.Launch.Server != "" {
		hosts = append(hosts, report.HostEnv{Role: "server", Env: s.child.Host.Env})
	}
	if s.hosts != nil {
		for i, h := range s.hosts.hosts {
			hosts = append(hosts, report.HostEnv{Role: fmt.Sprintf("load %d", i+1), Env: h.Host.Env})
		}
	}
	if len(hosts) == 0 {
		return nil
	}
	return report.WriteHosts(dir, hosts)
}
