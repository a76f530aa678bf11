package device

import "net/netip"

// Env is the section rdma of env.json: the properties of device and port on which results depend. Unknown ones are left out.
type Env struct {
	Device    string `json:"device"`
	Port      int    `json:"port"`
	Provider  string `json:"provider"`
	Software  bool   `json:"software"`
	Firmware  string `json:"firmware,omitempty"`
	Board     string `json:"board,omitempty"`
	NodeGUID  string `json:"node_guid,omitempty"`
	LinkLayer string `json:"link_layer,omitempty"`
	State     string `json:"state,omitempty"`
	Rate      string `json:"rate,omitempty"` // as the driver reports it; without meaning for software devices
	GIDIndex  int    `json:"gid_index"`
	GIDType   string `json:"gid_type"`
	GID       string `json:"gid,omitempty"`
	Address   string `json:"address"`
	Netdev    string `json:"netdev,omitempty"`
	NetMTU    int    `json:"netdev_mtu_bytes,omitempty"`
	PKey      uint16 `json:"pkey,omitempty"`           // of the partition
	MTU       int    `json:"path_mtu_bytes,omitempty"` // the largest that fits; the port's active MTU may be smaller
}

// ReadEnv describes a choice.
func ReadEnv(s *System, c Choice) Env {
	p := Port{Device: c.Device, Number: c.Port}
	read := func(path string) string { text, _ := s.read(path); return text }
	e := Env{Device: c.Device, Port: c.Port, Provider: c.Provider, Software: c.Software, LinkLayer: c.LinkLayer, GIDIndex: c.GIDIndex,
		GIDType: c.GIDType, Address: c.Addr.String(), Netdev: c.Netdev, NetMTU: c.NetMTU, PKey: c.PKey, MTU: c.MTU,
		Firmware: read(classDir(c.Device) + "/fw_ver"), Board: read(classDir(c.Device) + "/board_id"), NodeGUID: read(classDir(c.Device) + "/node_guid"),
		State: read(p.dir() + "/state"), Rate: read(p.dir() + "/rate")}
	if c.GID != [16]byte{} {
		e.GID = netip.AddrFrom16(c.GID).String()
	}
	return e
}
