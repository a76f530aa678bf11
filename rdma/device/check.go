package device

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/kvwire/kvwire/internal/probe"
)

// openable returns an error if the choice's device file cannot be opened.
func (c *Choice) openable(s *System) error {
	if c.Provider == Model {
		return nil // it has no device file
	}
	if s.Host.Leaving(c.Device) {
		return refuse(aboutFile, c.Device+" is being removed: a process that has it open delays this", probe.LeavingRemedy)
	}
	if c.Verbs == "" {
		f := probe.RDMA(s.Host) // finds whether the module or the container is the cause
		if f.State == probe.Available {
			f = probe.Finding{State: probe.Unavailable, Why: c.Device + " has no /dev/infiniband/uverbs*", Remedy: "as root: modprobe ib_uverbs; in a container: docker run --device /dev/infiniband"}
		}
		f.Name = aboutFile
		return f.Err()
	}
	switch err := s.Host.Access(c.Verbs); {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return refuse(aboutFile, "no permission for "+c.Verbs+" of "+c.Device, probe.DeviceFileRemedy(c.Verbs))
	case errors.Is(err, fs.ErrNotExist):
		return refuse(aboutFile, c.Verbs+" of "+c.Device+" is not there", "in a container: docker run --device "+c.Verbs+"; elsewhere as root: udevadm trigger")
	default:
		return refuse(aboutFile, fmt.Sprintf("%s of %s cannot be opened: %v", c.Verbs, c.Device, err), "see kvwire doctor and dmesg")
	}
}

// The most bytes of headers around the payload of an RDMA packet: those that rxe subtracts from the interface's MTU
// (RXE_MAX_HDR_LENGTH), and those of NICs (iboe_get_mtu in the kernel's ib_addr.h: GRH 40, UDP 8,
// BTH 12, XRC 4, atomic 28, ICRC 4).
const (
	rxeHeaderBytes = 80
	nicHeaderBytes = 96
)

func headerBytes(provider string) int {
	if provider == "rxe" {
		return rxeHeaderBytes
	}
	return nicHeaderBytes
}

// The payloads that RDMA packets can have, in bytes.
const (
	minMTU = 256
	maxMTU = 4096
)

// PathMTU returns the largest payload of an RDMA packet that fits an interface's MTU over Ethernet: 256, 512, 1024, 2048
// or 4096 bytes; 0: none fits. A port's active MTU may be smaller; only verbs can query it.
func PathMTU(netMTU int, provider string) int {
	for mtu := maxMTU; mtu >= minMTU; mtu /= 2 {
		if netMTU-headerBytes(provider) >= mtu {
			return mtu
		}
	}
	return 0
}

// CheckMTU checks whether a choice can have a path MTU, in bytes; 0 is any. c.MTU may have been set to the port's
// active MTU. The error is a *probe.Refusal.
func CheckMTU(c Choice, want int) error {
	if want != 0 && (want < minMTU || want > maxMTU || want&(want-1) != 0) {
		return refuse(aboutMTU, fmt.Sprintf("%d is not a path MTU", want), "256, 512, 1024, 2048 or 4096")
	}
	if c.NetMTU == 0 || c.LinkLayer == InfiniBand && c.MTU == 0 || c.CMOnly() {
		return nil // not known here
	}
	most := PathMTU(c.NetMTU, c.Provider)
	if c.MTU != 0 {
		most = c.MTU
	}
	if most >= max(want, minMTU) {
		return nil
	}
	need := max(want, minMTU) + headerBytes(c.Provider)
	remedy := fmt.Sprintf("on both hosts as root: ip link set %s mtu %d", c.Netdev, need)
	if most >= minMTU {
		remedy += fmt.Sprintf(", or --rdma-mtu %d", most)
	}
	return refuse(aboutMTU, fmt.Sprintf("a path MTU of %d does not fit %s (%s, MTU %d): at most %d", max(want, minMTU), c.Device, c.Netdev, c.NetMTU, most), remedy)
}
