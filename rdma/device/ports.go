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

// Port is a port of a device as sysfs shows it.
type Port struct {
	Device    string
	Number    int // from 1
	Provider  string
	Software  bool
	LinkLayer string   // Ethernet or InfiniBand; "": not known
	State     string   // ACTIVE, DOWN, …; "": not known
	Netdevs   []string // the network interfaces that it serves, sorted
	Verbs     string   // the device file; "": there is none
	Choices   []Choice // what it can be addressed by, in the order of its table: loopback and link-local ones too
}

// Down says that the port is known not to be active.
func (p *Port) Down() bool { return p.State != "" && !strings.HasPrefix(p.State, "ACTIVE") }

// String is "rxe0 port 1".
func (p *Port) String() string { return p.Device + " port " + strconv.Itoa(p.Number) }

// Tables have some thousand entries, each a file, and the kernel fills them from the front: so many empty entries in
// a row are taken for the end, where the whole table is looked at next if need be.
const (
	nearTable  = 8
	wholeTable = 0
)

// list reads all ports, by device and number; of each table up to the first gap of so many entries, or the whole of it.
func (s *System) list(gap int) (ports []Port, nets []Interface) {
	nets, err := s.Interfaces()
	if err != nil {
		nets = nil // then nothing has an address
	}
	for _, device := range s.Map.Names() {
		dir := class(device)
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
			s.addressed(&p, s.gids(&p, gap), nets, strings.HasSuffix(nodeType, "RNIC"))
			ports = append(ports, p)
		}
		slices.SortFunc(ports[of:], func(a, b Port) int { return a.Number - b.Number })
	}
	return ports, nets
}

func class(device string) string { return "sys/class/infiniband/" + device }

func (p *Port) dir() string { return class(p.Device) + "/ports/" + strconv.Itoa(p.Number) }

// drivers are providers whose kernel driver has another name: that of its PCI function.
var drivers = map[string]string{"mlx5_core": "mlx5", "mlx4_core": "mlx4", "bnxt_en": "bnxt_re", "ice": "irdma", "i40e": "irdma", "qede": "qedr", "hns3": "hns"}

// provider is a device's driver, and whether it is one in software: then no bus has it, rxe names its parent
// interface, and siw is an RNIC.
func (s *System) provider(device string) (name string, software bool) {
	dir := class(device)
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
	kind   string // RoCE v2, IB/RoCE v1; "": the kernel does not say
	netdev string // "": the kernel does not say
}

// gids reads a port's table up to a gap. Of an empty entry the kernel gives zeros, and EINVAL for type and interface.
func (s *System) gids(p *Port, gap int) (table []gid) {
	empty := 0
	for index := 0; ; index++ {
		name := strconv.Itoa(index)
		text, ok := s.read(p.dir() + "/gids/" + name)
		if !ok && !s.exists(p.dir()+"/gids/"+name) {
			break // behind the table
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

// addressed fills in a port's interfaces and choices.
func (s *System) addressed(p *Port, table []gid, nets []Interface, iwarp bool) {
	switch {
	case p.unusable() != nil:
	case iwarp:
		s.byInterface(p, table, nets, s.iwarpNetdevs(p, table, nets), IWARP)
	case p.LinkLayer == InfiniBand:
		s.byInterface(p, table, nets, ipoib(table, nets), InfiniBand)
	default:
		p.byGID(table, nets)
		if parent, ok := s.read(class(p.Device) + "/parent"); ok && parent != "" {
			p.Netdevs = append(p.Netdevs, parent)
		}
	}
	slices.Sort(p.Netdevs)
	p.Netdevs = slices.Compact(p.Netdevs)
	// Those of other network namespaces concern us only when there are no others.
	if here := slices.DeleteFunc(slices.Clone(p.Netdevs), func(n string) bool { return named(nets, n) == nil }); len(here) > 0 {
		p.Netdevs = here
	}
}

// byGID takes RoCE's GIDs, each of which is an address of an interface: an IPv4 one mapped into IPv6.
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
			continue // another network namespace's, or on its way out
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

// byInterface takes the addresses of the port's interfaces, of which its GIDs do not tell: GID 0 is the port's own.
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

// ipoib are the IPoIB interfaces of an InfiniBand port: their hardware address ends in the port's GUID, as
// does GID 0.
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

// partition is the P_Key of an IPoIB interface, and where the port's table has it: a queue pair is in the partition of its index there. The top bit of a
// key says that the member is a full one, whom limited ones can reach; the table may have it as either. A child interface has another key than its parent.
func (s *System) partition(p *Port, netdev string) (key uint16, index int) {
	text, ok := s.read("sys/class/net/" + netdev + "/pkey")
	n, err := strconv.ParseUint(text, 0, 16)
	if !ok || err != nil {
		return 0, 0 // not known: the default partition's place
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

// noRC are drivers whose devices have no reliable connected queue pairs, and what they are.
var noRC = map[string]string{"efa": "Amazon's EFA", "usnic_verbs": "Cisco's usNIC"}

// unusable is why nothing of a port can be used, whatever its addresses are, or nil.
func (p *Port) unusable() error {
	if what, ok := noRC[p.Provider]; ok {
		return refuse(aboutPort, fmt.Sprintf("%s is %s, which has no reliable connected queue pairs (RC)", p, what), "a NIC with RC; or --transport tcp or uring; or make rdma-setup, for soft-RoCE")
	}
	if p.LinkLayer != "" && p.LinkLayer != InfiniBand && p.LinkLayer != Ethernet {
		return refuse(aboutPort, fmt.Sprintf("%s has the link layer %s, which is neither Ethernet nor InfiniBand", p, p.LinkLayer), "a NIC with one of these; or make rdma-setup, for soft-RoCE")
	}
	return nil
}

// Ethernet is the other link layer than InfiniBand.
const Ethernet = "Ethernet"

// iwarpNetdevs are an RNIC's interfaces: those that newer kernels name with the GID, or else those
// whose hardware address GID 0 begins with, or else those on the same bus device.
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
		entries, _ := fs.ReadDir(s.Host.Root, class(p.Device)+"/device/net")
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	return names
}
