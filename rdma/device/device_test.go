package device

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/kvwire/kvwire/internal/probe"
)

// machine is a canned System: add devices and interfaces, then take system().
type machine struct {
	files fstest.MapFS
	chars map[string][]string
	nets  []Interface
	deny  map[string]error
	route map[string]string // from which address to which peer
}

func newMachine() *machine {
	m := &machine{files: fstest.MapFS{}, chars: map[string][]string{}, deny: map[string]error{}, route: map[string]string{}}
	m.file("proc/self/limits", "Max locked memory         8388608              8388608              bytes     \n")
	m.file("proc/self/status", "CapEff:\t0000000000000000\n")
	m.file("proc/sys/kernel/osrelease", "6.1.0\n")
	return m.net("lo", 65536, "", "127.0.0.1/8", "::1/128")
}

func (m *machine) file(name, text string) *machine {
	m.files[name] = &fstest.MapFile{Data: []byte(text)}
	return m
}

func (m *machine) link(name, target string) *machine {
	m.files[name] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
	return m
}

func (m *machine) net(name string, mtu int, hardware string, prefixes ...string) *machine {
	i := Interface{Name: name, MTU: mtu}
	if hardware != "" {
		i.HardwareAddr, _ = net.ParseMAC(hardware)
	}
	for _, p := range prefixes {
		i.Prefixes = append(i.Prefixes, netip.MustParsePrefix(p))
	}
	m.nets = append(m.nets, i)
	return m
}

// device adds one, with its device file. Where the class links to tells software from hardware.
func (m *machine) device(name, bus, nodeType string) *machine {
	dir := "devices/" + bus + "/infiniband/" + name
	m.link("sys/class/infiniband/"+name, "../../"+dir)
	m.file("sys/"+dir+"/node_type", nodeType+"\n")
	n := fmt.Sprint("uverbs", len(m.chars))
	m.file("sys/class/infiniband_verbs/"+n+"/ibdev", name+"\n")
	m.file("dev/infiniband/"+n, "")
	m.chars[name] = []string{"/dev/infiniband/umad0", "/dev/infiniband/" + n, "/dev/infiniband/rdma_cm"}
	return m.file("sys/"+dir+"/fw_ver", "\n").file("sys/"+dir+"/node_guid", "4c0c:ecff:fe6f:35af\n")
}

// dir is a device's folder.
func (m *machine) dir(device string) string {
	target := string(m.files["sys/class/infiniband/"+device].Data)
	return "sys" + strings.TrimPrefix(target, "../..")
}

// port adds one with its table: "GID type netdev", in the kernel's words; "" is an empty entry.
func (m *machine) port(device string, number int, state, layer string, table ...string) *machine {
	dir := fmt.Sprintf("%s/ports/%d/", m.dir(device), number)
	m.file(dir+"state", state+"\n").file(dir+"link_layer", layer+"\n").file(dir+"rate", "2.5 Gb/sec (1X SDR)\n")
	for i, entry := range table {
		g, rest, _ := strings.Cut(entry, " ")
		if g == "" {
			m.file(fmt.Sprint(dir, "gids/", i), "0000:0000:0000:0000:0000:0000:0000:0000\n")
			continue // reading type and interface fails with EINVAL
		}
		at := strings.LastIndex(rest, " ")
		m.file(fmt.Sprint(dir, "gids/", i), colons(netip.MustParseAddr(g))+"\n")
		if at > 0 {
			m.file(fmt.Sprint(dir, "gid_attrs/types/", i), rest[:at]+"\n")
			if rest[at+1:] != "-" {
				m.file(fmt.Sprint(dir, "gid_attrs/ndevs/", i), rest[at+1:]+"\n")
			}
		}
	}
	return m
}

// colons is a GID as sysfs prints it: eight groups of four.
func colons(a netip.Addr) string {
	b := a.As16()
	var groups []string
	for i := 0; i < 16; i += 2 {
		groups = append(groups, fmt.Sprintf("%02x%02x", b[i], b[i+1]))
	}
	return strings.Join(groups, ":")
}

func (m *machine) system() *System {
	return &System{
		Host: &probe.Host{Root: m.files, Access: func(path string) error { return m.deny[path] }},
		Map:  canned(m.chars),
		Interfaces: func() ([]Interface, error) {
			return m.nets, nil
		},
		Source: func(peer netip.Addr) (netip.Addr, error) {
			if from := m.route[peer.String()]; from != "" {
				return netip.ParseAddr(from)
			}
			return netip.Addr{}, syscall.ENETUNREACH
		},
	}
}

type canned map[string][]string

func (c canned) Names() []string                    { return slices.Sorted(maps.Keys(c)) }
func (c canned) CharDevices(device string) []string { return c[device] }

// soft is a machine as a guest with soft-RoCE shows itself (Linux 6.1): rxe0 on dummy0, and eth0 without RDMA.
func soft() *machine {
	return newMachine().
		net("dummy0", 1500, "4e:0c:ec:6f:35:af", "10.77.0.1/24", "fe80::4c0c:ecff:fe6f:35af/64", "fd00::1/64").
		net("eth0", 1500, "52:54:00:12:34:56", "10.0.0.5/24").
		rxe("rxe0", "dummy0", "4: ACTIVE", "fe80::4c0c:ecff:fe6f:35af RoCE v2 dummy0", "::ffff:10.77.0.1 RoCE v2 dummy0", "", "fd00::1 RoCE v2 dummy0", "")
}

func (m *machine) rxe(name, netdev, state string, table ...string) *machine {
	return m.device(name, "virtual", "1: CA").file(m.dir(name)+"/parent", netdev+"\n").port(name, 1, state, "Ethernet", table...)
}

// nic is a machine with a NIC of two ports: each address is in the table twice, and other namespaces' too.
func nic() *machine {
	return newMachine().
		net("eth1", 9000, "0c:42:a1:00:00:01", "10.1.0.1/24").
		net("eth2", 1500, "0c:42:a1:00:00:02", "10.2.0.1/24", "10.2.0.2/24").
		device("mlx5_0", "pci0000:00/0000:05:00.0", "1: CA").
		link("sys/devices/pci0000:00/0000:05:00.0/infiniband/mlx5_0/device", "../../../0000:05:00.0").
		link("sys/devices/pci0000:00/0000:05:00.0/driver", "../../../bus/pci/drivers/mlx5_core").
		port("mlx5_0", 1, "4: ACTIVE", "Ethernet", "fe80::1 IB/RoCE v1 eth1", "fe80::1 RoCE v2 eth1", "::ffff:172.17.0.2 RoCE v2 veth9", "::ffff:10.1.0.1 IB/RoCE v1 eth1", "::ffff:10.1.0.1 RoCE v2 eth1").
		port("mlx5_0", 2, "4: ACTIVE", "Ethernet", "::ffff:10.2.0.1 IB/RoCE v1 eth2", "::ffff:10.2.0.1 RoCE v2 eth2", "::ffff:10.2.0.2 IB/RoCE v1 eth2")
}

// infiniband is a machine with IPoIB: GID 0 ends in the port's GUID, and so does the interface's address. The
// node's GUID is another one.
func infiniband() *machine {
	return newMachine().
		net("ib0", 2044, "00:00:10:49:fe:80:00:00:00:00:00:00:e4:1d:2d:03:00:aa:bb:c1", "10.3.0.1/24").
		net("ib1", 2044, "00:00:10:49:fe:80:00:00:00:00:00:00:e4:1d:2d:03:00:aa:bb:c2", "10.4.0.1/24").
		device("mlx4_0", "pci0000:00/0000:06:00.0", "1: CA").
		link("sys/devices/pci0000:00/0000:06:00.0/infiniband/mlx4_0/device", "../../../0000:06:00.0").
		link("sys/devices/pci0000:00/0000:06:00.0/driver", "../../../bus/pci/drivers/mlx4_core").
		port("mlx4_0", 1, "4: ACTIVE", "InfiniBand", "fe80::e41d:2d03:aa:bbc1 IB/RoCE v1 -").
		port("mlx4_0", 2, "4: ACTIVE", "InfiniBand", "fe80::e41d:2d03:aa:bbc2 IB/RoCE v1 -")
}

// siw is software iWARP as older kernels show it: the table does not name the interface.
func siw() *machine {
	return newMachine().
		net("eth3", 1500, "52:54:00:00:00:07", "10.5.0.1/24").
		device("siw0", "virtual", "4: RNIC").
		port("siw0", 1, "4: ACTIVE", "Ethernet", "5254:0:7:0:0:0:0:0")
}

func TestPickFindsDevicePortAndGID(t *testing.T) {
	for _, c := range []struct {
		name string
		m    *machine
		ip   string
		want string
		kind string
	}{
		{"IPv4", soft(), "10.77.0.1", "10.77.0.1: rxe0 port 1, GID 1 (RoCE v2)", "rxe"},
		{"IPv4 mapped into IPv6", soft(), "::ffff:10.77.0.1", "10.77.0.1: rxe0 port 1, GID 1 (RoCE v2)", "rxe"},
		{"IPv6", soft(), "fd00::1", "fd00::1: rxe0 port 1, GID 3 (RoCE v2)", "rxe"},
		{"link-local", soft(), "fe80::4c0c:ecff:fe6f:35af%dummy0", "fe80::4c0c:ecff:fe6f:35af: rxe0 port 1, GID 0 (RoCE v2)", "rxe"},
		{"unspecified", soft(), "0.0.0.0", "10.77.0.1: rxe0 port 1, GID 1 (RoCE v2)", "rxe"},
		{"unspecified IPv6", soft(), "::", "10.77.0.1: rxe0 port 1, GID 1 (RoCE v2)", "rxe"},
		{"RoCE v2 rather than v1", nic(), "10.1.0.1", "10.1.0.1: mlx5_0 port 1, GID 4 (RoCE v2)", "hw"},
		{"second port", nic(), "10.2.0.1", "10.2.0.1: mlx5_0 port 2, GID 1 (RoCE v2)", "hw"},
		{"InfiniBand", infiniband(), "10.3.0.1", "10.3.0.1: mlx4_0 port 1, GID 0 (InfiniBand)", "hw"},
		{"InfiniBand, second port", infiniband(), "10.4.0.1", "10.4.0.1: mlx4_0 port 2, GID 0 (InfiniBand)", "hw"},
		{"InfiniBand, unspecified", infiniband(), "0.0.0.0", "10.3.0.1: mlx4_0 port 1, GID 0 (InfiniBand)", "hw"},
		{"iWARP by hardware address", siw(), "10.5.0.1", "10.5.0.1: siw0 port 1 (iWARP: by rdma_cm only)", "siw"},
		{"iWARP by the table's interface", newMachine().net("eth3", 1500, "", "10.5.0.1/24").device("siw0", "virtual", "4: RNIC").
			port("siw0", 1, "4: ACTIVE", "Ethernet", "5254:0:7:0:0:0:0:0 IB/RoCE v1 eth3"), "10.5.0.1", "10.5.0.1: siw0 port 1 (iWARP: by rdma_cm only)", "siw"},
		{"iWARP by the bus device", newMachine().net("eth4", 1500, "00:07:43:00:00:01", "10.6.0.1/24").device("cxgb4_0", "pci0", "4: RNIC").
			link("sys/devices/pci0/infiniband/cxgb4_0/device", "../../").link("sys/devices/pci0/driver", "../bus/pci/drivers/cxgb4").file("sys/devices/pci0/net/eth4/mtu", "1500").
			port("cxgb4_0", 1, "4: ACTIVE", "Ethernet", "1234::"), "10.6.0.1", "10.6.0.1: cxgb4_0 port 1 (iWARP: by rdma_cm only)", "hw"},
		{"RoCE rather than iWARP on one interface", siw().rxe("zrxe", "eth3", "4: ACTIVE", "::ffff:10.5.0.1 RoCE v2 eth3"), "10.5.0.1", "10.5.0.1: zrxe port 1, GID 0 (RoCE v2)", "rxe"},
		{"hardware rather than software", nic().rxe("a_rxe", "eth1", "4: ACTIVE", "::ffff:10.1.0.1 RoCE v2 eth1"), "10.1.0.1", "10.1.0.1: mlx5_0 port 1, GID 4 (RoCE v2)", "hw"},
		{"active rather than hardware", nic().port("mlx5_0", 1, "1: DOWN", "Ethernet").rxe("rxe0", "eth1", "4: ACTIVE", "::ffff:10.1.0.1 RoCE v2 eth1"), "10.1.0.1", "10.1.0.1: rxe0 port 1, GID 0 (RoCE v2)", "rxe"},
		{"the interface with the address", newMachine().net("a", 1500, "", "10.9.0.1/24").net("b", 1500, "", "10.9.1.1/24", "10.9.0.1/32").
			rxe("rxe0", "b", "4: ACTIVE", "::ffff:10.9.0.1 RoCE v2 b").rxe("rxe1", "a", "4: ACTIVE", "::ffff:10.9.0.1 RoCE v2 a"), "10.9.0.1", "10.9.0.1: rxe1 port 1, GID 0 (RoCE v2)", "rxe"},
		{"a kernel that does not name the interface", newMachine().net("eth0", 1500, "", "10.0.0.5/24").rxe("rxe0", "eth0", "4: ACTIVE", "::ffff:10.0.0.5 RoCE v2 -"), "10.0.0.5", "10.0.0.5: rxe0 port 1, GID 0 (RoCE v2)", "rxe"},
		{"state not known", newMachine().net("eth0", 1500, "", "10.0.0.5/24").rxe("rxe0", "eth0", "", "::ffff:10.0.0.5 RoCE v2 eth0"), "10.0.0.5", "10.0.0.5: rxe0 port 1, GID 0 (RoCE v2)", "rxe"},
		{"unspecified: past a port that is down", soft().net("eth9", 1500, "", "10.9.0.9/24").rxe("a_rxe", "eth9", "1: DOWN", "::ffff:10.9.0.9 RoCE v2 eth9"), "0.0.0.0", "10.77.0.1: rxe0 port 1, GID 1 (RoCE v2)", "rxe"},
		{"unspecified: past lo", soft().rxe("a_lo", "lo", "4: ACTIVE", "::ffff:127.0.0.1 RoCE v2 lo"), "0.0.0.0", "10.77.0.1: rxe0 port 1, GID 1 (RoCE v2)", "rxe"},
		{"unspecified: IPv6 where there is nothing else", newMachine().net("d", 1500, "", "fe80::1/64", "fd00::2/64").rxe("rxe0", "d", "4: ACTIVE", "fe80::1 RoCE v2 d", "fd00::2 RoCE v2 d"), "0.0.0.0", "fd00::2: rxe0 port 1, GID 1 (RoCE v2)", "rxe"},
		{"unspecified: IPv6 where IPv4 is down", newMachine().net("d", 1500, "", "10.0.0.5/24").net("e", 1500, "", "fd00::2/64").
			rxe("rxe0", "d", "1: DOWN", "::ffff:10.0.0.5 RoCE v2 d").rxe("rxe1", "e", "4: ACTIVE", "fd00::2 RoCE v2 e"), "0.0.0.0", "fd00::2: rxe1 port 1, GID 0 (RoCE v2)", "rxe"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Pick(c.m.system(), netip.MustParseAddr(c.ip))
			if err != nil || got.String() != c.want || got.Kind() != c.kind {
				t.Fatalf("%s, %s: %v\nwant %s, %s", got, got.Kind(), err, c.want, c.kind)
			}
			if got.CMOnly() != strings.Contains(c.want, "iWARP") {
				t.Errorf("CMOnly is %v", got.CMOnly())
			}
		})
	}
}

// A table with a hole: what lies behind it is found all the same, and so is the best of what lies before it.
func TestPickLooksBehindHoles(t *testing.T) {
	table := make([]string, 2*nearTable+3)
	table[0], table[2*nearTable] = "fe80::1 RoCE v2 d", "::ffff:10.0.0.5 RoCE v2 d"
	m := newMachine().net("d", 1500, "", "10.0.0.5/24").rxe("rxe0", "d", "4: ACTIVE", table...)
	for _, ip := range []string{"10.0.0.5", "0.0.0.0"} {
		if c, err := Pick(m.system(), netip.MustParseAddr(ip)); err != nil || c.GIDIndex != 2*nearTable {
			t.Errorf("%s: %+v, %v", ip, c, err)
		}
	}
}

// partitions is infiniband with child interfaces, whose addresses belong to other partitions.
func partitions() *machine {
	m := infiniband()
	for i, key := range []string{"0x7fff", "0xffff", "0x0002", "0x8003"} {
		m.file(fmt.Sprint(m.dir("mlx4_0"), "/ports/1/pkeys/", i), key+"\n")
	}
	for name, key := range map[string]string{"ib0": "0xffff", "ib0.8002": "0x8002", "ib0.8003": "0x8003", "ib0.8004": "0x8004"} {
		m.file("sys/class/net/"+name+"/pkey", key+"\n")
	}
	for i, name := range []string{"ib0.8002", "ib0.8003", "ib0.8004"} {
		m.net(name, 2044, "00:00:10:49:fe:80:00:00:00:00:00:00:e4:1d:2d:03:00:aa:bb:c1", fmt.Sprintf("10.3.%d.1/24", 2+i))
	}
	return m
}

func TestPickTakesThePartitionOfTheInterface(t *testing.T) {
	for ip, want := range map[string]struct {
		key   uint16
		index int
	}{"10.3.0.1": {0xffff, 1}, "10.3.2.1": {0x8002, 2}, "10.3.3.1": {0x8003, 3}, "10.4.0.1": {0, 0}} {
		if c, err := Pick(partitions().system(), netip.MustParseAddr(ip)); err != nil || c.PKey != want.key || c.PKeyIndex != want.index {
			t.Errorf("%s: partition %#x at %d, want %#x at %d; %v", ip, c.PKey, c.PKeyIndex, want.key, want.index, err)
		}
	}
	_, err := Pick(partitions().system(), netip.MustParseAddr("10.3.4.1"))
	line(t, err, "ib0.8004 is in the partition 0x8004, which is not in the table of mlx4_0 port 1", "subnet manager")
}

// efa is a machine of Amazon's: its device has neither RC nor a link layer that has a name.
func efa() *machine {
	return newMachine().
		net("ens5", 9001, "0a:00:00:00:00:01", "10.6.0.1/24").
		device("rdmap0s6", "pci0000:00/0000:00:06.0", "6: <unknown>").
		link("sys/devices/pci0000:00/0000:00:06.0/infiniband/rdmap0s6/device", "../../../0000:00:06.0").
		link("sys/devices/pci0000:00/0000:00:06.0/driver", "../../../bus/pci/drivers/efa").
		port("rdmap0s6", 1, "4: ACTIVE", "Unspecified", "fe80::800:ff:fe00:1 - -")
}

func TestDevicesWithoutReliableConnectionsAreNamed(t *testing.T) {
	const why, remedy = "rdmap0s6 port 1 is Amazon's EFA, which has no reliable connected queue pairs (RC)", "--transport tcp or uring"
	for _, ip := range []string{"10.6.0.1", "0.0.0.0", "127.0.0.1"} {
		_, err := Pick(efa().system(), netip.MustParseAddr(ip))
		line(t, err, why, remedy)
	}
	f, ok := Findings(efa().system(), 1, 1).Get("RDMA rdmap0s6/1")
	if !ok || f.State != probe.Unavailable || f.Why != why || !strings.Contains(f.Remedy, remedy) {
		t.Errorf("doctor: %+v", f)
	}
	both := efa().net("eth9", 1500, "", "10.7.0.1/24").rxe("rxe9", "eth9", "4: ACTIVE", "::ffff:10.7.0.1 RoCE v2 eth9")
	if c, err := Pick(both.system(), netip.Addr{}); err != nil || c.Device != "rxe9" {
		t.Errorf("beside one with RC: %+v, %v", c, err)
	}
	odd := newMachine().net("o", 1500, "", "10.8.0.1/24").device("odd0", "pci0000:00/0000:00:07.0", "1: CA").port("odd0", 1, "4: ACTIVE", "Unknown", "::ffff:10.8.0.1 RoCE v2 o")
	_, err := Pick(odd.system(), netip.MustParseAddr("10.8.0.1"))
	line(t, err, "odd0 port 1 has the link layer Unknown, which is neither Ethernet nor InfiniBand", "rdma-setup")
}

func TestPickKnowsItsDevice(t *testing.T) {
	for _, c := range []struct {
		m    *machine
		ip   string
		want Choice
	}{
		{soft(), "10.77.0.1", Choice{Device: "rxe0", Port: 1, GIDIndex: 1, GIDType: RoCEv2, Netdev: "dummy0", NetMTU: 1500, MTU: 1024, LinkLayer: "Ethernet", Provider: "rxe", Software: true, Verbs: "/dev/infiniband/uverbs0"}},
		{nic(), "10.1.0.1", Choice{Device: "mlx5_0", Port: 1, GIDIndex: 4, GIDType: RoCEv2, Netdev: "eth1", NetMTU: 9000, MTU: 4096, LinkLayer: "Ethernet", Provider: "mlx5", Verbs: "/dev/infiniband/uverbs0"}},
		{infiniband(), "10.3.0.1", Choice{Device: "mlx4_0", Port: 1, GIDType: InfiniBand, Netdev: "ib0", NetMTU: 2044, LinkLayer: "InfiniBand", Provider: "mlx4", Verbs: "/dev/infiniband/uverbs0"}},
		{siw(), "10.5.0.1", Choice{Device: "siw0", Port: 1, GIDType: IWARP, Netdev: "eth3", NetMTU: 1500, LinkLayer: "Ethernet", Provider: "siw", Software: true, Verbs: "/dev/infiniband/uverbs0"}},
	} {
		got, err := Pick(c.m.system(), netip.MustParseAddr(c.ip))
		if err != nil {
			t.Error(err)
			continue
		}
		c.want.Addr, c.want.GID = netip.MustParseAddr(c.ip), got.GID
		if got != c.want {
			t.Errorf("%+v\nwant %+v", got, c.want)
		}
		if mapped := c.want.Addr.As16(); c.want.GIDType == RoCEv2 && got.GID != mapped {
			t.Errorf("GID %x of %s", got.GID, c.ip)
		}
	}
}

// line checks that an error is a refusal on one line that says why and what to do.
func line(t *testing.T, err error, why, remedy string) {
	t.Helper()
	var r *probe.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("%v is no refusal; want …%s…", err, why)
	}
	if f := r.Finding; f.State != probe.Unavailable || !strings.Contains(f.Why, why) || !strings.Contains(f.Remedy, remedy) || f.Remedy == "" {
		t.Errorf("got %s: %s -> %s\nwant …%s… -> …%s…", f.Name, f.Why, f.Remedy, why, remedy)
	}
	if strings.ContainsAny(err.Error(), "\n\t\"") {
		t.Errorf("not one plain line: %q", err)
	}
}

func TestPickSaysOnOneLineWhatIsMissing(t *testing.T) {
	denied := soft()
	denied.deny["/dev/infiniband/uverbs0"] = syscall.EACCES
	broken := soft()
	broken.deny["/dev/infiniband/uverbs0"] = syscall.EIO
	vanished := soft()
	vanished.deny["/dev/infiniband/uverbs0"] = syscall.ENOENT
	leaving := soft().file("sys/class/infiniband_verbs/abi_version", "6\n")
	delete(leaving.files, "sys/class/infiniband_verbs/uverbs0/ibdev")
	noUverbs := soft()
	noUverbs.chars["rxe0"] = nil
	delete(noUverbs.files, "sys/class/infiniband_verbs/uverbs0/ibdev")
	crowd := newMachine()
	for i := range 6 {
		crowd.net(fmt.Sprint("d", i), 1500, "", fmt.Sprintf("10.%d.0.1/24", i)).rxe(fmt.Sprint("rxe", i), fmt.Sprint("d", i), "4: ACTIVE", fmt.Sprintf("::ffff:10.%d.0.1 RoCE v2 d%d", i, i))
	}
	bare := func(state string) *machine {
		return newMachine().net("dummy0", 1500, "").rxe("rxe0", "dummy0", state, "fe80::1 RoCE v2 dummy0")
	}
	const use = "use 10.77.0.1 (rxe0) or fd00::1 (rxe0)"
	for _, c := range []struct {
		name        string
		m           *machine
		ip          string
		why, remedy string
	}{
		{"no module", newMachine(), "10.0.0.5", ": kernel 6.1.0 has no modules here", "make vm"},
		{"no device", newMachine().file("sys/module/rdma_rxe/refcnt", "0"), "0.0.0.0", ", though rdma_rxe is loaded", "rdma link add"},
		{"device without a port", newMachine().device("rxe0", "virtual", "1: CA"), "0.0.0.0", "no port of a device", "kvwire doctor"},
		{"uverbs not loaded", noUverbs, "10.77.0.1", "the kernel module ib_uverbs is not loaded", "modprobe ib_uverbs"},
		{"loopback", soft(), "127.0.0.1", "127.0.0.1 is loopback", use},
		{"loopback, IPv6", soft(), "::1", "::1 is loopback", use},
		{"loopback, rxe on lo", newMachine().rxe("rxe0", "lo", "4: ACTIVE", "::ffff:127.0.0.1 RoCE v2 lo"), "127.0.0.1", "rdmamap refuses lo", "rdma link add rxe0 type rxe netdev INTERFACE"},
		{"rxe on lo, unspecified", newMachine().rxe("rxe0", "lo", "4: ACTIVE", "::ffff:127.0.0.1 RoCE v2 lo"), "0.0.0.0", "rxe0 port 1 is on lo", "rdma link add rxe0 type rxe netdev INTERFACE"},
		{"rxe on lo beside one without an address", bare("4: ACTIVE").rxe("a_lo", "lo", "4: ACTIVE", "::ffff:127.0.0.1 RoCE v2 lo"), "0.0.0.0", "rxe0 port 1 has no IPv4 GID", "ip addr add 10.77.0.1/24 dev dummy0"},
		{"loopback, no address", bare("4: ACTIVE"), "127.0.0.1", "is loopback", "ip addr add 10.77.0.1/24 dev dummy0, for rxe0"},
		{"loopback, all down", bare("1: DOWN"), "127.0.0.1", "is loopback", "ip link set dummy0 up"},
		{"not ours", soft(), "10.9.9.9", "10.9.9.9 is not an address of this machine", use},
		{"another interface's zone", soft(), "fe80::4c0c:ecff:fe6f:35af%eth0", "is not an address of this machine", use},
		{"many devices", crowd, "10.9.9.9", "is not an address", "use 10.0.0.1 (rxe0) or 10.1.0.1 (rxe1) or 10.2.0.1 (rxe2) or 10.3.0.1 (rxe3) or …"},
		{"interface without RDMA", soft(), "10.0.0.5", "10.0.0.5 is on eth0, which has no RDMA device", use + "; or as root: rdma link add rxe_eth0 type rxe netdev eth0"},
		{"address without a GID", soft().net("x", 1500, "").addr("dummy0", "10.78.0.1/24"), "10.78.0.1", "rxe0 port 1 serves dummy0, but has no GID for 10.78.0.1", "ip addr del 10.78.0.1 dev dummy0"},
		{"port down", newMachine().net("dummy0", 1500, "", "10.77.0.1/24").rxe("rxe0", "dummy0", "1: DOWN", "::ffff:10.77.0.1 RoCE v2 dummy0"), "10.77.0.1", "rxe0 port 1 is DOWN", "ip link set dummy0 up"},
		{"port down, without a GID", newMachine().net("dummy0", 1500, "", "10.77.0.1/24").rxe("rxe0", "dummy0", "1: DOWN"), "10.77.0.1", "rxe0 port 1 is DOWN", "ip link set dummy0 up"},
		{"no active port", bare("1: DOWN"), "0.0.0.0", "rxe0 port 1 is DOWN", "ip link set dummy0 up, or plug in the cable"},
		{"no active port, with an address", newMachine().net("dummy0", 1500, "", "10.77.0.1/24").rxe("rxe0", "dummy0", "1: DOWN", "::ffff:10.77.0.1 RoCE v2 dummy0"), "0.0.0.0", "rxe0 port 1 is DOWN", "ip link set dummy0 up"},
		{"no IPv4 GID", bare("4: ACTIVE"), "0.0.0.0", "rxe0 port 1 has no IPv4 GID: its interface dummy0 has no address", "ip addr add 10.77.0.1/24 dev dummy0"},
		{"RoCE v1 alone", nic(), "10.2.0.2", "10.2.0.2 is a GID of RoCE v1 alone on mlx5_0 port 2", "use 10.1.0.1 (mlx5_0) or 10.2.0.1 (mlx5_0)"},
		{"another namespace's GID", nic(), "172.17.0.2", "is not an address of this machine", "use 10.1.0.1"},
		{"no permission", denied, "10.77.0.1", "no permission for /dev/infiniband/uverbs0 of rxe0", "usermod -aG rdma USER"},
		{"no permission, unspecified", denied, "0.0.0.0", "no permission for /dev/infiniband/uverbs0", "--device /dev/infiniband/uverbs0"},
		{"device file gone", vanished, "10.77.0.1", "/dev/infiniband/uverbs0 of rxe0 is not there", "docker run --device /dev/infiniband/uverbs0"},
		{"being removed", leaving, "10.77.0.1", "rxe0 is being removed: a process that has it open", "rdma resource show qp"},
		{"device file broken", broken, "10.77.0.1", "cannot be opened: input/output error", "kvwire doctor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Pick(c.m.system(), netip.MustParseAddr(c.ip))
			line(t, err, c.why, c.remedy)
			if got != (Choice{}) {
				t.Errorf("a choice beside the error: %+v", got)
			}
		})
	}
}

func (m *machine) addr(netdev, prefix string) *machine {
	n := named(m.nets, netdev)
	n.Prefixes = append(n.Prefixes, netip.MustParsePrefix(prefix))
	return m
}

func TestPickSaysMissingDeviceFileWithLoadedModule(t *testing.T) {
	m := soft()
	m.chars["rxe0"] = []string{"/dev/infiniband/rdma_cm"}
	_, err := Pick(m.system(), netip.MustParseAddr("10.77.0.1"))
	line(t, err, "rxe0 has no /dev/infiniband/uverbs*", "docker run --device /dev/infiniband")
}

func TestTowardPicksTheWayOut(t *testing.T) {
	m := soft()
	m.route["10.77.0.2"], m.route["10.77.0.1"] = "10.77.0.1", "10.77.0.1"
	m.route["10.0.0.9"], m.route["10.0.0.5"] = "10.0.0.5", "10.0.0.5"
	s := m.system()
	for _, peer := range []string{"10.77.0.2", "10.77.0.1", "::ffff:10.77.0.2"} {
		if c, err := PickForPeer(s, netip.MustParseAddr(peer)); err != nil || c.Device != "rxe0" || c.GIDIndex != 1 {
			t.Errorf("to %s: %+v, %v", peer, c, err)
		}
	}
	for _, c := range []struct{ peer, why, remedy string }{
		{"10.0.0.9", "the way to 10.0.0.9 begins at 10.0.0.5: 10.0.0.5 is on eth0, which has no RDMA device", "use 10.77.0.1"},
		{"10.0.0.5", "10.0.0.5 is on eth0, which has no RDMA device", "rdma link add"},
		{"10.8.8.8", "no route to 10.8.8.8: network is unreachable", "put both hosts into one network: here use 10.77.0.1"},
		{"127.0.0.1", "127.0.0.1 is loopback", "use 10.77.0.1"},
		{"0.0.0.0", "the peer's address is missing", "name the server's address"},
	} {
		_, err := PickForPeer(s, netip.MustParseAddr(c.peer))
		line(t, err, c.why, c.remedy)
	}
	_, err := PickForPeer(newMachine().system(), netip.MustParseAddr("10.8.8.8"))
	line(t, err, "has no modules here", "make vm")
}

func TestReachKnowsWhichNetworkAPeerIsIn(t *testing.T) {
	m := soft()
	m.route["10.0.0.9"], m.route["192.168.1.1"], m.route["10.99.0.1"] = "10.0.0.5", "10.0.0.5", "10.77.0.1"
	s := m.system()
	c, err := Pick(s, netip.MustParseAddr("10.77.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, peer := range []string{"10.77.0.2", "10.77.0.1", "10.99.0.1"} { // in its network, itself, by a router behind it
		if err := CheckReach(s, c, netip.MustParseAddr(peer)); err != nil {
			t.Errorf("%s: %v", peer, err)
		}
	}
	for _, x := range []struct{ peer, why, remedy string }{
		{"192.168.1.1", "192.168.1.1 is not in the network of rxe0 (10.77.0.1 on dummy0): the route to it uses eth0 (10.0.0.5)", "use the server's address in 10.77.0.0/24"},
		{"10.8.8.8", "no route to 10.8.8.8", "put both hosts into one network"},
		{"10.0.0.5", "10.0.0.5 is on eth0, which has no RDMA device", "use 10.77.0.1"}, // this machine's own
		{"fd00::2", "one is IPv4, the other IPv6", "one family"},
		{"127.0.0.1", "is loopback", "use 10.77.0.1"},
		{"0.0.0.0", "the peer's address is missing", "name the server's"},
	} {
		line(t, CheckReach(s, c, netip.MustParseAddr(x.peer)), x.why, x.remedy)
	}
}

func TestMTUFitsTheInterface(t *testing.T) {
	// What ibv_devinfo says on Linux 6.1 for rxe on an interface with that MTU.
	for netMTU, want := range map[int]int{4175: 2048, 4176: 4096, 9000: 4096, 1500: 1024, 1103: 512, 1104: 1024, 336: 256, 335: 0} {
		if got := PathMTU(netMTU, "rxe"); got != want {
			t.Errorf("rxe on %d: %d, want %d", netMTU, got, want)
		}
	}
	if PathMTU(4191, "mlx5") != 2048 || PathMTU(4192, "mlx5") != 4096 {
		t.Error("NICs take 96 bytes off")
	}
	c := Choice{Device: "rxe0", Provider: "rxe", Netdev: "dummy0", NetMTU: 1500, MTU: 1024, LinkLayer: "Ethernet", GIDType: RoCEv2}
	for _, want := range []int{0, 256, 1024} {
		if err := CheckMTU(c, want); err != nil {
			t.Error(err)
		}
	}
	line(t, CheckMTU(c, 4096), "a path MTU of 4096 does not fit rxe0 (dummy0, MTU 1500): at most 1024", "ip link set dummy0 mtu 4176, or --rdma-mtu 1024")
	line(t, CheckMTU(c, 1500), "1500 is not a path MTU", "1024, 2048")
	c.MTU = 512 // as verbs said
	line(t, CheckMTU(c, 1024), "at most 512", "--rdma-mtu 512")
	c.NetMTU, c.MTU = 300, 0
	line(t, CheckMTU(c, 0), "a path MTU of 256 does not fit", "mtu 336")
	c.LinkLayer = InfiniBand
	if err := CheckMTU(c, 4096); err != nil {
		t.Errorf("InfiniBand's MTU is not known here: %v", err)
	}
}

func TestCountersLeaveOutWhatIsNotCounted(t *testing.T) {
	m := soft()
	dir := m.dir("rxe0") + "/ports/1/"
	m.file(dir+"hw_counters/duplicate_request", "3\n").file(dir+"hw_counters/lifespan", "10\n").
		file(dir+"counters/port_xmit_data", "18446744073709551615\n").file(dir+"counters/symbol_error", "N/A (no PMA)\n").file(dir+"counters/link_downed", "0\n").
		file(m.dir("rxe0")+"/hw_counters/duplicate_request", "99\n").file(m.dir("rxe0")+"/hw_counters/roce_slow_restart", "1\n")
	s := m.system()
	c, err := Pick(s, netip.MustParseAddr("10.77.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	got, want := ReadCounters(s, c), Counters{"hw_counters/duplicate_request": 3, "counters/port_xmit_data": 1<<64 - 1, "counters/link_downed": 0, "hw_counters/roce_slow_restart": 1}
	if !maps.Equal(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	if all := ReadCounters(s, Choice{Device: "gone", Port: 1}); len(all) != 0 {
		t.Errorf("a device that is gone counts %v", all)
	}
}

func TestSubLeavesOutWhatWentBackwards(t *testing.T) {
	before := Counters{"a": 5, "b": 7, "c": 9}
	if got := (Counters{"a": 8, "b": 7, "c": 1, "d": 4}).Sub(before); !maps.Equal(got, Counters{"a": 3, "b": 0}) {
		t.Errorf("%v", got)
	}
}

func TestWireKnowsTheDriversNames(t *testing.T) {
	hw := func(pairs map[string]uint64) Counters {
		c := Counters{}
		for name, n := range pairs {
			c["hw_counters/"+name] = n
		}
		return c
	}
	known := func(n uint64) Count { return Count{n, true} }
	rxe := hw(map[string]uint64{"rcvd_rnr_err": 1, "send_rnr_err": 2, "duplicate_request": 3, "rcvd_seq_err": 4, "out_of_seq_request": 5, "retry_exceeded_err": 6, "retry_rnr_exceeded_err": 7, "sent_pkts": 1000})
	mlx5 := hw(map[string]uint64{"rnr_nak_retry_err": 1, "out_of_buffer": 2, "duplicate_request": 3, "packet_seq_err": 4, "out_of_sequence": 5, "local_ack_timeout_err": 9})
	newer := maps.Clone(mlx5)
	newer["hw_counters/req_transport_retries_exceeded"], newer["hw_counters/req_rnr_retries_exceeded"] = 6, 7
	bnxt := hw(map[string]uint64{"rnr_naks_rcvd": 1, "dup_req": 3, "seq_err_naks_rcvd": 4, "oos_drop_count": 5, "max_retry_exceeded": 6})
	for _, c := range []struct {
		name     string
		counters Counters
		loopback bool
		want     Wire
	}{
		{"rxe to itself", rxe, true, Wire{RNR: known(1), DupReq: known(3), SeqErr: known(4), RetryExceeded: known(13)}},
		{"rxe to a peer", rxe, false, Wire{RNR: known(3), DupReq: known(3), SeqErr: known(9), RetryExceeded: known(13)}},
		{"mlx5", mlx5, false, Wire{RNR: known(3), DupReq: known(3), SeqErr: known(9)}},
		{"newer mlx5", newer, true, Wire{RNR: known(1), DupReq: known(3), SeqErr: known(4), RetryExceeded: known(13)}},
		{"bnxt_re", bnxt, false, Wire{RNR: known(1), DupReq: known(3), SeqErr: known(9), RetryExceeded: known(6)}},
		{"one end alone is counted", hw(map[string]uint64{"out_of_sequence": 5}), true, Wire{SeqErr: known(5)}},
		{"siw counts nothing", Counters{}, true, Wire{}},
		{"other counters of those names", Counters{"counters/duplicate_request": 3}, true, Wire{}},
	} {
		if got := c.counters.Wire(c.loopback); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestEnvDescribesTheChoice(t *testing.T) {
	m := nic()
	m.file(m.dir("mlx5_0")+"/fw_ver", "16.35.2000\n").file(m.dir("mlx5_0")+"/board_id", "MT_0000000012\n")
	s := m.system()
	c, err := Pick(s, netip.MustParseAddr("10.1.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	want := Env{Device: "mlx5_0", Port: 1, Provider: "mlx5", Firmware: "16.35.2000", Board: "MT_0000000012", NodeGUID: "4c0c:ecff:fe6f:35af",
		LinkLayer: "Ethernet", State: "4: ACTIVE", Rate: "2.5 Gb/sec (1X SDR)", GIDIndex: 4, GIDType: "RoCE v2", GID: "::ffff:10.1.0.1", Address: "10.1.0.1", Netdev: "eth1", NetMTU: 9000, MTU: 4096}
	if got := ReadEnv(s, c); got != want {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

func TestFindingsShowPortsFilesMemoryAndAddress(t *testing.T) {
	denied, low := soft(), newMachine().net("d", 300, "", "10.0.0.5/24").rxe("rxe0", "d", "4: ACTIVE", "::ffff:10.0.0.5 RoCE v2 d")
	denied.deny["/dev/infiniband/uverbs0"] = syscall.EPERM
	for _, c := range []struct {
		name string
		m    *machine
		want string
	}{
		{"soft-RoCE", soft().file("proc/self/status", "CapEff:\t000001ffffffffff\n"), `
RDMA rxe0/1   available  rxe (software) on dummy0, ACTIVE, path MTU 1024 of 1500: 10.77.0.1 is GID 1 (RoCE v2), fd00::1 is GID 3 (RoCE v2)
RDMA uverbs0  available  /dev/infiniband/uverbs0 can be opened
RDMA memory   available  a server with the defaults pins 50 MiB with its first connection, and 176 MiB with all that it can have; limit 8MiB, which does not bind this process (CAP_IPC_LOCK)
RDMA address  available  --listen 10.77.0.1:7070 (rxe0 port 1, GID 1 (RoCE v2))
                         -> with --auth-file FILE, which names who may connect, since other machines reach it (or --insecure: anybody)
`},
		{"no permission", denied, `
RDMA rxe0/1   available  rxe (software) on dummy0, ACTIVE, path MTU 1024 of 1500: 10.77.0.1 is GID 1 (RoCE v2), fd00::1 is GID 3 (RoCE v2)
RDMA uverbs0  no         no permission for /dev/infiniband/uverbs0 of rxe0
                         -> run as root, or as root: chmod a+rw /dev/infiniband/uverbs0 (or usermod -aG rdma USER, where the file is that group's), or in a container: --device /dev/infiniband/uverbs0
RDMA memory   no         50MiB are to be registered and the limit is 8MiB
                         -> ulimit -l unlimited, or LimitMEMLOCK=infinity in the service, or docker run --ulimit memlock=-1
RDMA address  no         no permission for /dev/infiniband/uverbs0 of rxe0
                         -> run as root, or as root: chmod a+rw /dev/infiniband/uverbs0 (or usermod -aG rdma USER, where the file is that group's), or in a container: --device /dev/infiniband/uverbs0
`},
		{"MTU too small", low, `
RDMA rxe0/1   available  rxe (software) on d, ACTIVE: 10.0.0.5 is GID 0 (RoCE v2)
RDMA uverbs0  available  /dev/infiniband/uverbs0 can be opened
RDMA MTU      no         a path MTU of 256 does not fit rxe0 (d, MTU 300): at most 0
                         -> on both hosts as root: ip link set d mtu 336
RDMA memory   no         50MiB are to be registered and the limit is 8MiB
                         -> ulimit -l unlimited, or LimitMEMLOCK=infinity in the service, or docker run --ulimit memlock=-1
RDMA address  available  --listen 10.0.0.5:7070 (rxe0 port 1, GID 0 (RoCE v2))
                         -> with --auth-file FILE, which names who may connect, since other machines reach it (or --insecure: anybody)
`},
		{"nothing to address", newMachine().net("d", 1500, "").rxe("rxe0", "d", "4: ACTIVE").rxe("rxe1", "e", "1: DOWN").file("proc/self/limits", "Max locked memory         unlimited            unlimited            bytes\n"), `
RDMA rxe0/1   no         rxe0 port 1 has no IPv4 GID: its interface d has no address
                         -> as root: ip addr add 10.77.0.1/24 dev d
RDMA rxe1/1   no         rxe1 port 1 is DOWN
                         -> as root: ip link set e up, or plug in the cable
RDMA memory   available  a server with the defaults pins 50 MiB with its first connection, and 176 MiB with all that it can have; limit unlimited
RDMA address  no         rxe0 port 1 has no IPv4 GID: its interface d has no address
                         -> as root: ip addr add 10.77.0.1/24 dev d
`},
		{"iWARP", siw().file("proc/self/limits", "Max locked memory         unlimited            unlimited            bytes\n"), `
RDMA siw0/1   available  siw (software) on eth3, ACTIVE: 10.5.0.1 not for kvwire (iWARP has no immediate data)
RDMA uverbs0  available  /dev/infiniband/uverbs0 can be opened
RDMA memory   available  a server with the defaults pins 50 MiB with its first connection, and 176 MiB with all that it can have; limit unlimited
RDMA address  available  --listen 10.5.0.1:7070 (siw0 port 1 (iWARP: by rdma_cm only))
                         -> with --auth-file FILE, which names who may connect, since other machines reach it (or --insecure: anybody)
`},
		{"no device", newMachine(), "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Findings(c.m.system(), 50<<20, 176<<20)
			var b strings.Builder
			b.WriteByte('\n')
			if err := r.WriteText(&b); err != nil {
				t.Fatal(err)
			}
			if b.String() != c.want {
				t.Errorf("%s\nwant%s", b.String(), c.want)
			}
			for _, f := range r {
				if f.State == probe.Unavailable && f.Remedy == "" {
					t.Errorf("%s: no remedy", f.Name)
				}
			}
		})
	}
}

func TestListShowsPortsInOrder(t *testing.T) {
	var got []string
	ports, _ := nic().rxe("rxe0", "eth1", "4: ACTIVE").system().list(wholeTable)
	for _, p := range ports {
		got = append(got, fmt.Sprintf("%s %s %v %s %v", &p, p.Provider, p.Software, strings.Join(p.Netdevs, "+"), len(p.Choices)))
	}
	want := []string{"mlx5_0 port 1 mlx5 false eth1 2", "mlx5_0 port 2 mlx5 false eth2 3", "rxe0 port 1 rxe true eth1 0"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

func TestRdmamapListsWhatIsInSysfs(t *testing.T) {
	entries, err := os.ReadDir("/sys/class/infiniband")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Skip(err)
	}
	if got := (rdmaMap{}).Names(); len(got) != len(entries) {
		t.Errorf("rdmamap says %v, sysfs %v", got, entries)
	}
}

func TestLocalAnswers(t *testing.T) {
	s := Local()
	nets, err := s.Interfaces()
	if err != nil || owner(nets, netip.MustParseAddr("127.0.0.1")) == nil {
		t.Errorf("lo is not there: %v, %v", nets, err)
	}
	if from, err := s.Source(netip.MustParseAddr("127.0.0.1")); err != nil || !from.IsLoopback() {
		t.Errorf("the way to 127.0.0.1 begins at %s, %v", from, err)
	}
	if c, err := Pick(s, netip.Addr{}); err == nil {
		t.Logf("%s; %+v; %v", c, ReadEnv(s, c), ReadCounters(s, c))
	} else if !strings.Contains(err.Error(), "(") || strings.Contains(err.Error(), "\n") {
		t.Errorf("no line with a remedy: %v", err)
	} else {
		t.Log(err)
	}
	var b strings.Builder
	if err := Findings(s, 50<<20, 176<<20).WriteText(&b); err != nil {
		t.Error(err)
	}
	t.Logf("on this machine:\n%s", b.String())
}
