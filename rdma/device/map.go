package device

import (
	"path"
	"slices"
	"strings"

	"github.com/Mellanox/rdmamap"
)

// Map is the part of rdmamap that this package uses. It does not use rdmamap's counters (for rxe they are empty
// without an error, "N/A" is 0, and a setting is among them) and its lookup by interface (it refuses lo, and
// compares a port's GUID with the node's). rdmamap has no GIDs.
type Map interface {
	Names() []string                    // rxe0, mlx5_0, …, sorted; none when there is no RDMA class
	CharDevices(device string) []string // absolute paths, among them /dev/infiniband/uverbsN
}

type rdmaMap struct{}

func (rdmaMap) Names() []string {
	names := rdmamap.GetRdmaDeviceList()
	slices.Sort(names)
	return names
}

func (rdmaMap) CharDevices(device string) []string { return rdmamap.GetRdmaCharDevices(device) }

// verbsFile returns the device file of a device, or "".
func (s *System) verbsFile(device string) string {
	for _, p := range s.Map.CharDevices(device) {
		if strings.HasPrefix(path.Base(p), "uverbs") {
			return p
		}
	}
	return ""
}
