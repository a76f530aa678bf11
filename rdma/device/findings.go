package device

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/kvwire/kvwire/internal/probe"
)

// Findings returns rows for kvwire doctor: each port, its device file, whether a server can pin its memory (probe.Pinnable), and the
// address to listen on. Without a device there are none: probe.RDMA reports what is missing.
func Findings(s *System, pinLeast, pinMost uint64) (r probe.Report) {
	ports, nets := s.list(wholeTable)
	if len(ports) == 0 {
		return nil
	}
	var files []string
	for i := range ports {
		p := &ports[i]
		r = append(r, portFinding(p))
		if len(p.Choices) > 0 && !slices.Contains(files, p.Verbs) {
			files = append(files, p.Verbs)
			name := aboutFile
			if p.Verbs != "" {
				name = "RDMA " + path.Base(p.Verbs)
			}
			r = append(r, row(name, p.Choices[0].openable(s), p.Verbs+" can be opened"))
		}
	}
	memory := probe.Pinnable(s.Host, pinLeast, pinMost)
	if memory.State == probe.Available {
		memory.Why = fmt.Sprintf("a server with the defaults pins %d MiB with its first connection, and %d MiB with all that it can have; %s", pinLeast>>20, pinMost>>20, memory.Why)
	}
	memory.Name = "RDMA memory"
	c, err := Pick(s, netip.Addr{})
	address := row(aboutAddress, err, fmt.Sprintf("--listen %s (%s)", netip.AddrPortFrom(c.Addr, 7070), c.where()))
	if err == nil {
		address.Remedy = "with --auth-file FILE, which names who may connect, since other machines reach it (or --insecure: anybody)"
	}
	if err == nil && named(nets, c.Netdev) != nil {
		if err := CheckMTU(c, 0); err != nil {
			r = append(r, row(aboutMTU, err, ""))
		}
	}
	return append(r, memory, address)
}

// row returns the finding of an error; without an error, that all is fine.
func row(name string, err error, fine string) probe.Finding {
	if err == nil {
		return probe.Finding{Name: name, State: probe.Available, Why: fine}
	}
	f := err.(*probe.Refusal).Finding
	f.Name = name
	return f
}

// where returns a text like "rxe0 port 1, GID 1".
func (c Choice) where() string {
	_, where, _ := strings.Cut(c.String(), ": ")
	return where
}

func portFinding(p *Port) probe.Finding {
	name := fmt.Sprintf("RDMA %s/%d", p.Device, p.Number)
	what := p.Provider
	if p.Software {
		what += " (software)"
	}
	if len(p.Netdevs) > 0 {
		what += " on " + strings.Join(p.Netdevs, ", ")
	}
	var gids []string
	mtu := ""
	for i := range p.Choices {
		c := &p.Choices[i]
		if !isPublic(c) {
			continue
		}
		switch {
		case c.CMOnly():
			gids = append(gids, fmt.Sprintf("%s not for kvwire (iWARP has no immediate data)", c.Addr))
		default:
			gids = append(gids, fmt.Sprintf("%s is GID %d (%s)", c.Addr, c.GIDIndex, c.GIDType))
		}
		if c.MTU > 0 {
			mtu = fmt.Sprintf(", path MTU %d of %d", c.MTU, c.NetMTU)
		}
	}
	if err := p.unusable(); err != nil {
		return row(name, err, "")
	}
	switch {
	case p.Down():
		return row(name, portDown(p), "")
	case len(gids) == 0:
		return row(name, noAddress(p), "")
	}
	state := p.State
	if state == "" {
		state = "state not known"
	}
	return probe.Finding{Name: name, State: probe.Available, Why: fmt.Sprintf("%s, %s%s: %s", what, state, mtu, strings.Join(gids, ", "))}
}
