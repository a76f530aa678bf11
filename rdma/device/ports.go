package device

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Port is a port of a device, from sysfs.
type Port struct {
	Device    string
	Number    int // from 1
	Provider  string
	Software  bool
	LinkLayer string   // Ethernet or InfiniBand; "": not known
	State     string   // ACTIVE, DOWN, …; "": not known
	Netdevs   []string // the network interfaces that it serves, sorted
	Verbs     string   // the device file; "": there is none
	Choices   []Choice // all its addresses, in the order of its table, including loopback and link-local ones
}

// Down reports whether the port is known not to be active.
func (p *Port) Down() bool { return p.State != "" && !strings.HasPrefix(p.State, "ACTIVE") }

// String returns a text like "rxe0 port 1".
func (p *Port) String() string { return p.Device + " port " + strconv.Itoa(p.Number) }

// GID tables have up to some thousand entries, each a file, and the kernel fills them from the front. So nearTable empty entries in
// a row count as the end. If no choice is found there, the whole table is read.
const (
	nearTable  = 8
	wholeTable = 0
)

// list reads all ports, by device and number. It reads each GID table up to the first gap empty entries in a row, or with wholeTable all of it.
func (s *System) list(gap int) (ports []Port, nets []Interface) {
	nets, err := s.Interfaces()
	if err != nil {
		nets = nil // no interface has an address
	}
	if s.Model {
		return []Port{modelPort(nets)}, nets
	}
	for _, device := range s.Map.Names() {
		dir := classDir(device)
		entries, err := fs.ReadDir(s.Host.Root, dir+"/ports")
		if err != nil {
			continue // it is gone
		}
		provider, software := s.provider(device)
		nodeType, _ := s.read(dir + "/node_type")
		verbs := s.verbsFile(device)
		of := len(ports)
		for _, e := range entries {
			n, err := strconv.Atoi(e.Name())
			if err != nil {
				continue
			}
			p := Port{Device: device, Number: n, Provider: provider, Software: software, Verbs: verbs}
			p.LinkLayer, _ = s.read(p.dir() + "/link_layer")
			state, _ := s.read(p.dir() + "/state") // "4: ACTIVE"
			_, p.State, _ = strings.Cut(state, ": ")
			s.setChoices(&p, s.gids(&p, gap), nets, strings.HasSuffix(nodeType, "RNIC"))
			ports = append(ports, p)
		}
		slices.SortFunc(ports[of:], func(a, b Port) int { return a.Number - b.Number })
	}
	return ports, nets
}

func classDir(device string) string { return "sys/class/infiniband/" + device }

func (p *Port) dir() string { return classDir(p.Device) + "/ports/" + strconv.Itoa(p.Number) }

// drivers are the providers whose kernel driver has another name: that of the PCI function.
var drivers = map[string]string{"mlx5_core": "mlx5", "mlx4_core": "mlx4", "bnxt_en": "bnxt_re", "ice": "irdma", "i40e": "irdma", "qede": "qedr", "hns3": "hns"}

// provider returns a device's driver, and whether it is software. A software device is on no bus; rxe has a parent
// interface, and siw is an RNIC.
func (s *System) provider(device string) (name string, software bool) {
	dir := classDir(device)
	if driver, err := fs.ReadLink(s.Host.Root, dir+"/device/driver"); err == nil {
		driver = path.Base(driver)
		if other, ok := drivers[driver]; ok {
			driver = other
		}
		return driver, false
	}
	target, err := fs.ReadLink(s.Host.Root, dir)
	if err != nil || !strings.Contains(target, "/virtual/") {
		return "unknown", false
	}
	nodeType, _ := s.read(dir + "/node_type")
	_, hasParent := s.read(dir + "/parent")
	switch {
	case strings.HasSuffix(nodeType, "RNIC"):
		return "siw", true
	case hasParent, strings.HasSuffix(nodeType, "CA"):
		return "rxe", true
	}
	return "software", true
}

// gid is an entry of a port's table that is not empty.
type gid struct {
	index  int
	raw    [16]byte
	kind   string // RoCE v2, IB/RoCE v1; "": not known
	netdev string // "": not known
}

// gids reads a port's table up to a gap. For an empty entry the kernel returns zeros as the GID, and EINVAL for type and interface.
func (s *System) gids(p *Port, gap int) (table []gid) {
	empty := 0
	for index := 0; ; index++ {
		name := strconv.Itoa(index)
		text, ok := s.read(p.dir() + "/gids/" + name)
		if !ok && !s.exists(p.dir()+"/gids/"+name) {
			break // beyond the table
		}
		a, err := netip.ParseAddr(text)
		if err != nil || !a.Is6() || a.As16() == [16]byte{} {
			if empty++; empty == gap {
				break
			}
			continue
		}
		empty = 0
		g := gid{index: index, raw: a.As16()}
		g.kind, _ = s.read(p.dir() + "/gid_attrs/types/" + name)
		g.netdev, _ = s.read(p.dir() + "/gid_attrs/ndevs/" + name)
		table = append(table, g)
	}
	return table
}

// setChoices fills in a port's interfaces and choices.
func (s *System) setChoices(p *Port, table []gid, nets []Interface, iwarp bool) {
	switch {
	case p.unusable() != nil:
	case iwarp:
		s.byInterface(p, table, nets, s.iwarpNetdevs(p, table, nets), IWARP)
	case p.LinkLayer == InfiniBand:
		s.byInterface(p, table, nets, ipoib(table, nets), InfiniBand)
	default:
		p.byGID(table, nets)
		if parent, ok := s.read(classDir(p.Device) + "/parent"); ok && parent != "" {
			p.Netdevs = append(p.Netdevs, parent)
		}
	}
	slices.Sort(p.Netdevs)
	p.Netdevs = slices.Compact(p.Netdevs)
	// Interfaces of other network namespaces are listed only if there are no others.
	if here := slices.DeleteFunc(slices.Clone(p.Netdevs), func(n string) bool { return named(nets, n) == nil }); len(here) > 0 {
		p.Netdevs = here
	}
}

// byGID adds the choices of a RoCE port: each GID is an address of an interface, IPv4 mapped into IPv6.
func (p *Port) byGID(table []gid, nets []Interface) {
	for _, g := range table {
		if g.netdev != "" {
			p.Netdevs = append(p.Netdevs, g.netdev)
		}
		a := netip.AddrFrom16(g.raw).Unmap()
		net := named(nets, g.netdev)
		if g.netdev == "" {
			net = owner(nets, a)
		}
		if net == nil || !net.has(a) {
			continue // of another network namespace, or being removed
		}
		c := p.choice(g, a, net)
		c.GIDType = RoCEv1
		if g.kind == RoCEv2 {
			c.GIDType = RoCEv2
		}
		c.MTU = PathMTU(net.MTU, p.Provider)
		p.Choices = append(p.Choices, c)
	}
}

// byInterface adds the addresses of the port's interfaces, which are not in its GIDs: GID 0 is the port's own.
func (s *System) byInterface(p *Port, table []gid, nets []Interface, netdevs []string, kind string) {
	p.Netdevs = netdevs
	var own gid
	if len(table) > 0 && table[0].index == 0 {
		own = table[0]
	} else if kind == InfiniBand {
		return
	}
	for _, name := range netdevs {
		net := named(nets, name)
		if net == nil {
			continue
		}
		pkey, index := uint16(0), 0
		if kind == InfiniBand {
			pkey, index = s.partition(p, name)
		}
		for _, prefix := range net.Prefixes {
			c := p.choice(own, prefix.Addr(), net)
			c.GIDType, c.PKey, c.PKeyIndex = kind, pkey, index
			p.Choices = append(p.Choices, c)
		}
	}
}

func (p *Port) choice(g gid, a netip.Addr, net *Interface) Choice {
	return Choice{Device: p.Device, Port: p.Number, GIDIndex: g.index, GID: g.raw, Addr: a, Netdev: net.Name, NetMTU: net.MTU,
		LinkLayer: p.LinkLayer, Provider: p.Provider, Software: p.Software, Verbs: p.Verbs}
}

// ipoib returns the IPoIB interfaces of an InfiniBand port: their hardware address ends with the port's GUID, as
// GID 0 does.
func ipoib(table []gid, nets []Interface) (names []string) {
	if len(table) == 0 || table[0].index != 0 {
		return nil
	}
	for _, n := range nets {
		if len(n.HardwareAddr) == 20 && bytes.Equal(n.HardwareAddr[12:], table[0].raw[8:]) {
			names = append(names, n.Name)
		}
	}
	return names
}

// partition returns the P_Key of an IPoIB interface, and its index in the port's table, which determines the partition of a queue pair. The top bit of a
// key marks a full member, which limited members can reach; the table may have the key with or without it. A child interface has another key than its parent.
func (s *System) partition(p *Port, netdev string) (key uint16, index int) {
	text, ok := s.read("sys/class/net/" + netdev + "/pkey")
	n, err := strconv.ParseUint(text, 0, 16)
	if !ok || err != nil {
		return 0, 0 // not known: the default partition
	}
	const full = 0x8000
	key, index = uint16(n), -1
	for i := 0; ; i++ {
		text, ok := s.read(p.dir() + "/pkeys/" + strconv.Itoa(i))
		if !ok {
			return key, index
		}
		switch n, err := strconv.ParseUint(text, 0, 16); {
		case err != nil:
		case uint16(n) == key:
			return key, i
		case uint16(n)&^full == key&^full && index < 0:
			index = i
		}
	}
}

// noRC are the drivers whose devices have no reliable connected queue pairs, with the devices' names.
var noRC = map[string]string{"efa": "Amazon's EFA", "usnic_verbs": "Cisco's usNIC"}

// unusable returns an error if a port cannot be used, whatever its addresses are.
func (p *Port) unusable() error {
	if what, ok := noRC[p.Provider]; ok {
		return refuse(aboutPort, fmt.Sprintf("%s is %s, which has no reliable connected queue pairs (RC)", p, what), "a NIC with RC; or --transport tcp or uring; or make rdma-setup, for soft-RoCE")
	}
	if p.LinkLayer != "" && p.LinkLayer != InfiniBand && p.LinkLayer != Ethernet {
		return refuse(aboutPort, fmt.Sprintf("%s has the link layer %s, which is neither Ethernet nor InfiniBand", p, p.LinkLayer), "a NIC with one of these; or make rdma-setup, for soft-RoCE")
	}
	return nil
}

// Ethernet is the link layer of RoCE and iWARP.
const Ethernet = "Ethernet"

// iwarpNetdevs returns an RNIC's interfaces: those that newer kernels report with the GID; else those
// whose hardware address is the beginning of GID 0; else those on the same bus device.
func (s *System) iwarpNetdevs(p *Port, table []gid, nets []Interface) (names []string) {
	for _, g := range table {
		if g.netdev != "" {
			names = append(names, g.netdev)
		}
	}
	if len(names) == 0 && len(table) > 0 {
		for _, n := range nets {
			if len(n.HardwareAddr) == 6 && bytes.Equal(n.HardwareAddr, table[0].raw[:6]) {
				names = append(names, n.Name)
			}
		}
	}
	if len(names) == 0 {
		entries, _ := fs.ReadDir(s.Host.Root, classDir(p.Device)+"/device/net")
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	return names
}
