package factor

import (
	"fmt"

	"github.com/kvwire/kvwire/transport/datagram"
	"github.com/kvwire/kvwire/udp"
)

const udpGroup = "Datagrams (--transport udp)"

var onUDP = Where("transport", "udp")

var udpRows = []Factor{
	{Name: "udp-engine", Group: udpGroup, Side: Server | Client | Alike, Default: udp.Epoll.String(), Words: []string{udp.Epoll.String(), udp.Uring.String()}, Owners: networks, At: func(v *Values) any { return &v.UDP.Engine },
		Help: "how sockets are used: system calls for many packets, and epoll (epoll), or entries of a ring (uring)",
		When: onUDP},
	{Name: "udp-datagram-bytes", Group: udpGroup, Side: Server | Client | Alike, Default: fmt.Sprint(udp.DatagramBytes), Range: Span{fmt.Sprint(datagram.MinDatagramBytes), fmt.Sprint(datagram.MaxDatagramBytes)}, Owners: networks, At: func(v *Values) any { return &v.UDP.DatagramBytes },
		Help:    "largest datagram, without the headers of IP and UDP: up to 8972 for jumbo frames, up to 65507 on loopback",
		Meaning: "largest datagram, without the headers of IP and UDP",
		When:    onUDP},
	{Name: "udp-credits", Group: udpGroup, Side: Server | Client | Alike, Default: fmt.Sprint(udp.Credits), Range: Span{"1", fmt.Sprint(datagram.MaxCredits)}, Hidden: true, Owners: networks, At: func(v *Values) any { return &v.UDP.Credits },
		Help: "packets of a connection that are on the way to the server; a connection has one for each request in flight at least",
		When: onUDP},
	{Name: "udp-segments", Group: udpGroup, Side: Server | Client | Alike, Default: "true", Owners: networks, At: func(v *Values) any { return &v.UDP.Segments },
		Help: "one message for several datagrams of one size to one address, split and joined by the kernel (UDP_SEGMENT, UDP_GRO), if it can",
		When: onUDP},
	{Name: "congestion", Group: udpGroup, Side: Load | Client, Default: datagram.CongestionNone.String(), Words: datagram.Congestions(), Owners: networks, At: func(v *Values) any { return &v.UDP.Congestion },
		Help: "what limits the rate of a connection of the client: the credits alone (none), or also the round trips that it measures (timely)",
		When: onUDP},
	{Name: "net-loss", Group: udpGroup, Side: Server | Client | Alike, Default: "0%", Range: Span{"0%", "50%"}, Owners: networks, At: func(v *Values) any { return &v.UDP.Loss },
		Help:    "share of the datagrams that kvwire itself drops on arrival, on each side, from a fixed seed; for tests, and for machines without netem",
		Meaning: "share of the datagrams that each side dropped on arrival, on purpose",
		When:    onUDP},
}

// Options returns the options of package udp, for both sides.
func (v *UDPValues) Options() udp.Options {
	c, _ := datagram.ParseCongestion(v.Congestion) // CheckWords has checked it
	e, _ := udp.ParseEngine(v.Engine)
	return udp.Options{Engine: e, DatagramBytes: int(v.DatagramBytes), Credits: v.Credits, Congestion: c, Segments: v.Segments, Loss: float64(v.Loss)}
}
