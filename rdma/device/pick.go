package device

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kvwire/kvwire/internal/probe"
)

// The subjects of refusals.
const (
	aboutAddress = "RDMA address"
	aboutPort    = "RDMA port"
	aboutFile    = "RDMA device file"
	aboutPath    = "RDMA path"
	aboutMTU     = "RDMA MTU"
)

// Pick picks device, port and GID for an address of this machine. It searches the GID tables for the IPv4 address mapped
// into IPv6, or the IPv6 address, with type RoCE v2 and the interface that has the address. On InfiniBand it picks
// the port of the IPoIB interface with the address, and GID 0; with iWARP the device of that interface
// (Choice.CMOnly). For the unspecified address, or none, it picks the first IPv4 address of an active port.
// An error is a *probe.Refusal. Pick reads a hundred small files, or thousands before it returns an error.
func Pick(s *System, ip netip.Addr) (Choice, error) {
	c, err := pick(s, ip.Unmap(), nearTable)
	if err != nil {
		return pick(s, ip.Unmap(), wholeTable)
	}
	return c, nil
}

func pick(s *System, ip netip.Addr, gap int) (Choice, error) {
	ports, nets := s.list(gap)
	if len(ports) == 0 {
		return Choice{}, noDevice(s)
	}
	unfit := ports[0].unusable()
	if ports = slices.DeleteFunc(ports, func(p Port) bool { return p.unusable() != nil }); len(ports) == 0 {
		return Choice{}, unfit
	}
	if ip.IsLoopback() && !s.Model {
		return Choice{}, refuse(aboutAddress, ip.String()+" is loopback, on which no RDMA device is supported (rdmamap refuses lo, and no peer reaches it)", suggestAddress(ports))
	}
	if !ip.IsValid() || ip.IsUnspecified() {
		return pickAny(s, ports)
	}
	own := owner(nets, ip)
	if own == nil {
		return Choice{}, refuse(aboutAddress, ip.String()+" is not an address of this machine", suggestAddress(ports))
	}
	best := pickBest(s, ports, func(c *Choice) bool { return c.Addr == ip.WithZone("") && (ip.Zone() == "" || c.Netdev == ip.Zone()) }, own.Name)
	if best == nil {
		return Choice{}, noGID(ports, own, ip)
	}
	if err := best.usable(s, ports); err != nil {
		return Choice{}, err
	}
	return *best, nil
}

// pickBest returns the best of the choices that fit, the first one of equal ones, or nil.
func pickBest(s *System, ports []Port, fits func(c *Choice) bool, netdev string) (best *Choice) {
	top := -1
	for i := range ports {
		p := &ports[i]
		for j := range p.Choices {
			c := &p.Choices[j]
			if !fits(c) {
				continue
			}
			rank := 0
			for _, good := range []bool{!p.Down(), c.GIDType != RoCEv1, !c.CMOnly(), c.openable(s) == nil, netdev == "" || c.Netdev == netdev, !c.Software} {
				rank *= 2
				if good {
					rank++
				}
			}
			if rank > top {
				best, top = c, rank
			}
		}
	}
	return best
}

// usable returns an error if a choice cannot be used.
func (c *Choice) usable(s *System, ports []Port) error {
	for i := range ports {
		if p := &ports[i]; p.Device == c.Device && p.Number == c.Port && p.Down() {
			return portDown(p)
		}
	}
	if c.GIDType == RoCEv1 {
		return refuse(aboutAddress, fmt.Sprintf("%s is a GID of RoCE v1 alone on %s port %d: other networks do not carry it", c.Addr, c.Device, c.Port),
			"a NIC and kernel with RoCE v2, or another address: "+suggestAddress(ports))
	}
	if c.PKeyIndex < 0 {
		return refuse(aboutPort, fmt.Sprintf("%s is in the partition %#04x, which is not in the table of %s port %d", c.Netdev, c.PKey, c.Device, c.Port),
			"have the subnet manager give the port that partition, or use the address of another interface")
	}
	return c.openable(s)
}

// pickAny picks the first IPv4 address of a usable port, or else the first address.
func pickAny(s *System, ports []Port) (Choice, error) {
	if s.Model && len(ports[0].Choices) > 0 {
		return ports[0].Choices[0], nil
	}
	var first error
	for _, fits := range []func(c *Choice) bool{
		func(c *Choice) bool { return isPublic(c) && c.Addr.Is4() },
		isPublic,
	} {
		if best := pickBest(s, ports, fits, ""); best != nil {
			err := best.usable(s, ports)
			if err == nil {
				return *best, nil
			}
			first = cmp.Or(first, err)
		}
	}
	if first != nil {
		return Choice{}, first
	}
	next := &ports[0]
	for i := range ports { // the port with the simplest remedy
		p := &ports[i]
		if !p.Down() && (next.Down() || next.onLoopback()) {
			next = p
		}
	}
	if next.Down() {
		return Choice{}, portDown(next)
	}
	return Choice{}, noAddress(next)
}

// isPublic reports whether a choice can be offered to any peer.
func isPublic(c *Choice) bool {
	return c.GIDType != RoCEv1 && !c.Addr.IsLoopback() && !c.Addr.IsLinkLocalUnicast()
}

// noDevice returns the error for a machine without a device, or without a port.
func noDevice(s *System) error {
	if err := probe.RDMA(s.Host).Err(); err != nil {
		return err
	}
	return refuse(probe.NameRDMA, "no port of a device can be read in /sys/class/infiniband", "see kvwire doctor")
}

func portDown(p *Port) error {
	return refuse(aboutPort, fmt.Sprintf("%s is %s", p, p.State), fmt.Sprintf("as root: ip link set %s up, or plug in the cable", p.netdev()))
}

const makeDevice = "as root: rdma link add rxe0 type rxe netdev INTERFACE, with one that has an address"

func (p *Port) onLoopback() bool { return len(p.Netdevs) == 1 && p.Netdevs[0] == "lo" }

// netdev returns the name of the port's interface for a command line.
func (p *Port) netdev() string {
	if len(p.Netdevs) == 0 {
		return "INTERFACE"
	}
	return p.Netdevs[0]
}

// noAddress returns the error for an active port without an address.
func noAddress(p *Port) error {
	if p.onLoopback() {
		return refuse(aboutPort, fmt.Sprintf("%s is on lo, where no RDMA device is supported (rdmamap refuses lo, and no peer reaches it)", p), makeDevice)
	}
	return refuse(aboutAddress, fmt.Sprintf("%s has no IPv4 GID: its interface %s has no address", p, p.netdev()), "as root: ip addr add 10.77.0.1/24 dev "+p.netdev())
}

// noGID returns the error for an address of this machine that belongs to no device.
func noGID(ports []Port, own *Interface, ip netip.Addr) error {
	for i := range ports {
		if p := &ports[i]; slices.Contains(p.Netdevs, own.Name) {
			if p.Down() {
				return portDown(p)
			}
			return refuse(aboutAddress, fmt.Sprintf("%s serves %s, but has no GID for %s", p, own.Name, ip),
				fmt.Sprintf("as root, so that the kernel makes one: ip addr del %s dev %s and ip addr add it again; or %s", ip.WithZone(""), own.Name, suggestAddress(ports)))
		}
	}
	return refuse(aboutAddress, fmt.Sprintf("%s is on %s, which has no RDMA device", ip, own.Name),
		fmt.Sprintf("%s; or as root: rdma link add rxe_%s type rxe netdev %s", suggestAddress(ports), own.Name, own.Name))
}

// suggestAddress returns a remedy with the usable addresses, like "use 10.77.0.1 (rxe0)".
func suggestAddress(ports []Port) string {
	const most = 4 // on one line
	var list []string
	seen := map[netip.Addr]bool{}
	for i := range ports {
		for j := range ports[i].Choices {
			if c := &ports[i].Choices[j]; isPublic(c) && !ports[i].Down() && !seen[c.Addr] {
				seen[c.Addr] = true
				list = append(list, fmt.Sprintf("%s (%s)", c.Addr, c.Device))
			}
		}
	}
	switch {
	case len(list) == 0:
		return suggestSetup(ports)
	case len(list) > most:
		list = append(list[:most], "…")
	}
	return "use " + strings.Join(list, " or ")
}

// suggestSetup returns the remedy if no address is usable.
func suggestSetup(ports []Port) string {
	todo := makeDevice
	for i := range ports {
		switch p := &ports[i]; {
		case p.onLoopback():
		case p.Down():
			todo = fmt.Sprintf("as root: ip link set %s up", p.netdev())
		default:
			return fmt.Sprintf("as root: ip addr add 10.77.0.1/24 dev %s, for %s", p.netdev(), p.Device)
		}
	}
	return todo
}

// PickForPeer picks for a client: the device with the address from which the kernel would send to a peer.
func PickForPeer(s *System, peer netip.Addr) (Choice, error) {
	peer = peer.Unmap()
	if s.Model && peer.IsValid() && !peer.IsUnspecified() {
		return Pick(s, peer)
	}
	if peer.IsLoopback() || !peer.IsValid() || peer.IsUnspecified() {
		if !peer.IsLoopback() {
			return Choice{}, refuse(aboutPath, "the peer's address is missing", "name the server's address, not that of all its interfaces")
		}
		return Pick(s, peer)
	}
	from, err := s.Source(peer)
	if err != nil {
		return Choice{}, noRoute(s, peer, err)
	}
	c, err := Pick(s, from.WithZone(peer.Zone()))
	if err != nil {
		return c, explainPath(s, peer, from, err)
	}
	return c, nil
}

func noRoute(s *System, peer netip.Addr, err error) error {
	ports, _ := s.list(wholeTable)
	if len(ports) == 0 {
		return noDevice(s)
	}
	return refuse(aboutPath, fmt.Sprintf("no route to %s: %v", peer, err), "put both hosts into one network: here "+suggestAddress(ports))
}

// explainPath adds the path to the peer to a refusal of Pick.
func explainPath(s *System, peer, from netip.Addr, err error) error {
	if peer == from {
		return err
	}
	f := err.(*probe.Refusal).Finding
	if f.Name == aboutAddress {
		f.Name = aboutPath
		f.Why = fmt.Sprintf("the way to %s begins at %s: %s", peer, from, f.Why)
	}
	return f.Err()
}

// CheckReach checks whether packets from a choice can reach a peer: it is in one of the networks of the choice's interface, or
// is an address of this machine, or the kernel's route to it uses that interface. The error is a
// *probe.Refusal. nil does not mean that the peer exists.
func CheckReach(s *System, c Choice, peer netip.Addr) error {
	peer = peer.Unmap()
	if s.Model {
		return checkModelReach(s, peer)
	}
	if !peer.IsValid() || peer.IsUnspecified() || peer.IsLoopback() {
		_, err := PickForPeer(s, peer) // always an error for these
		return err
	}
	if peer.Is4() != c.Addr.Is4() {
		return refuse(aboutPath, fmt.Sprintf("%s cannot be reached from %s: one is IPv4, the other IPv6", peer, c.Addr), "use addresses of one family on both sides")
	}
	nets, err := s.Interfaces()
	if err != nil {
		nets = nil
	}
	if own := owner(nets, peer); own != nil {
		_, err := Pick(s, peer)
		return err
	}
	if net := named(nets, c.Netdev); net != nil && slices.ContainsFunc(net.Prefixes, func(p netip.Prefix) bool { return p.Contains(peer.WithZone("")) }) {
		return nil
	}
	from, err := s.Source(peer)
	if err != nil {
		return noRoute(s, peer, err)
	}
	by := owner(nets, from)
	if by != nil && by.Name == c.Netdev {
		return nil
	}
	leaves := from.String()
	if by != nil {
		leaves = fmt.Sprintf("%s (%s)", by.Name, from)
	}
	return refuse(aboutPath, fmt.Sprintf("%s is not in the network of %s (%s on %s): the route to it uses %s", peer, c.Device, c.Addr, c.Netdev, leaves),
		fmt.Sprintf("use the server's address in %s, or as root: ip route add %s dev %s", networkOf(nets, c), netip.PrefixFrom(peer.WithZone(""), peer.BitLen()), c.Netdev))
}

// networkOf returns the network of a choice's address, like 10.77.0.0/24.
func networkOf(nets []Interface, c Choice) string {
	if net := named(nets, c.Netdev); net != nil {
		for _, p := range net.Prefixes {
			if p.Addr() == c.Addr {
				return p.Masked().String()
			}
		}
	}
	return "the network of " + c.Addr.String()
}
