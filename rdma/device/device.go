// Package device finds the RDMA devices of a machine, picks device, port and GID for an IP address, and reads a port's
// counters. It reads sysfs and opens no verbs, so every build has it. Its errors are one line, a *probe.Refusal, with
// what is missing and the remedy. It is the only importer of rdmamap, and imports internal
// packages only.
package device

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"strings"

	"github.com/kvwire/kvwire/internal/probe"
)

// System is the part of a machine that the package reads. Local is this machine; tests have recorded ones.
type System struct {
	Host       *probe.Host // sysfs, limits, and the rights to device files
	Map        Map
	Interfaces func() ([]Interface, error)
	Source     func(peer netip.Addr) (netip.Addr, error) // the address that the kernel would send from
	Model      bool                                      // its only device is the model: the others are not used
}

// Interface is a network interface.
type Interface struct {
	Name         string
	MTU          int              // bytes
	HardwareAddr net.HardwareAddr // of InfiniBand: 20 bytes, the last 8 of them the port's GUID
	Prefixes     []netip.Prefix   // its addresses, unmapped and without zones, with their networks
}

// Local returns this machine, as this process sees it.
func Local() *System {
	return &System{Host: probe.Local(), Map: rdmaMap{}, Interfaces: interfaces, Source: source, Model: model.Load()}
}

func interfaces() ([]Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	list := make([]Interface, 0, len(all))
	for _, n := range all {
		i := Interface{Name: n.Name, MTU: n.MTU, HardwareAddr: n.HardwareAddr}
		addrs, err := n.Addrs()
		if err != nil {
			continue // it is gone
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				i.Prefixes = append(i.Prefixes, netip.PrefixFrom(p.Addr().Unmap().WithZone(""), p.Bits()))
			}
		}
		list = append(list, i)
	}
	return list, nil
}

// source returns the address from which the kernel would send to a peer. Connecting a datagram socket sends nothing.
func source(peer netip.Addr) (netip.Addr, error) {
	const discard = 9 // any port
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(peer, discard)))
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// has reports whether the interface has an address.
func (i *Interface) has(a netip.Addr) bool {
	for _, p := range i.Prefixes {
		if p.Addr() == a.WithZone("") {
			return a.Zone() == "" || a.Zone() == i.Name
		}
	}
	return false
}

// owner returns the interface with an address, or nil.
func owner(all []Interface, a netip.Addr) *Interface {
	for i := range all {
		if all[i].has(a) {
			return &all[i]
		}
	}
	return nil
}

func named(all []Interface, name string) *Interface {
	for i := range all {
		if all[i].Name == name {
			return &all[i]
		}
	}
	return nil
}

// Choice is a device's port, and the GID by which a peer reaches it. It is a copy that does not change
// with the machine.
type Choice struct {
	Device    string
	Port      int        // from 1
	GIDIndex  int        // in the port's table; iWARP: not used
	GID       [16]byte   // network byte order
	PKey      uint16     // of the interface's partition, on InfiniBand; 0: not known
	PKeyIndex int        // index of PKey in the port's table; below 0: it is not there
	GIDType   string     // RoCE v2, RoCE v1, InfiniBand or iWARP
	Addr      netip.Addr // the address for which it was picked
	Netdev    string     // the network interface with the address
	NetMTU    int        // bytes of the interface's packets; 0: not known
	MTU       int        // bytes of payload of an RDMA packet that fit NetMTU; 0: not known from sysfs
	LinkLayer string     // Ethernet or InfiniBand
	Provider  string     // the driver: rxe, siw, mlx5, …; model
	Software  bool       // rxe, siw or model: the CPU does its work, so it is never called hardware
	Verbs     string     // the device file, /dev/infiniband/uverbs0; "": there is none
}

// The types of GID.
const (
	RoCEv2     = "RoCE v2"
	RoCEv1     = "RoCE v1"
	InfiniBand = "InfiniBand"
	IWARP      = "iWARP"
)

// CMOnly reports whether only rdma_cm can connect queue pairs: iWARP addresses peers by IP and TCP, not by GID.
func (c Choice) CMOnly() bool { return c.GIDType == IWARP }

// Kind returns the value of the column device: rxe, siw, model, or hw for a NIC.
func (c Choice) Kind() string {
	if c.Software {
		return c.Provider
	}
	return "hw"
}

// String returns a text like "10.77.0.1: rxe0 port 1, GID 1 (RoCE v2)".
func (c Choice) String() string {
	s := fmt.Sprintf("%s: %s port %d", c.Addr, c.Device, c.Port)
	if c.CMOnly() {
		return s + " (iWARP: by rdma_cm only)"
	}
	return fmt.Sprintf("%s, GID %d (%s)", s, c.GIDIndex, c.GIDType)
}

// read returns the text of a file in sysfs without white space at the ends; "" and false if it cannot be read. One read returns
// all of it, with half the system calls of fs.ReadFile.
func (s *System) read(path string) (string, bool) {
	f, err := s.Host.Root.Open(path)
	if err != nil {
		return "", false
	}
	defer f.Close()
	var page [4096]byte
	n, err := f.Read(page[:])
	return strings.TrimSpace(string(page[:n])), err == nil || errors.Is(err, io.EOF)
}

func (s *System) exists(path string) bool {
	_, err := fs.Stat(s.Host.Root, path)
	return err == nil
}

func refuse(name, why, remedy string) error {
	return probe.Finding{Name: name, State: probe.Unavailable, Why: why, Remedy: remedy}.Err()
}
