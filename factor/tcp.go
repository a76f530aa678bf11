package factor

import (
	"errors"
	"fmt"
	"time"

	"github.com/kvwire/kvwire/tcp"
	"github.com/kvwire/kvwire/transport/socket"
)

// On and Off are the values of --tls.
const On, Off = "on", "off"

const tcpGroup = "TCP sockets (--transport tcp)"

var (
	tcpEngines = []string{tcp.Epoll.String(), tcp.Goroutines.String()}

	onTCP = Where("transport", "tcp")
	// epollOnly holds where both sides use the engine epoll. --tls on excludes it.
	epollOnly = Unless("tcp-engine", tcp.Goroutines.String()).AndNot("tcp-client-engine", tcp.Goroutines.String()).AndNot("tls", On)
)

// tcpOwners are the Owners of TCP's factors.
var tcpOwners = []string{"transport", "client-transport", "tcp-engine", "tls"}

var tcpRows = []Factor{
	{Name: "tcp-engine", Group: tcpGroup, Side: Server, Default: tcp.Epoll.String(), Words: tcpEngines, Owners: tcpOwners, At: func(v *Values) any { return &v.TCP.Engine },
		Help: "what moves the bytes of the server's connections: their loop (epoll), or goroutines on Go's net package (goroutine)",
		When: onTCP, Sweep: Unless("tls", On)},
	{Name: "tcp-client-engine", Group: tcpGroup, Side: Load | Client, Default: tcp.Epoll.String(), Words: tcpEngines, Owners: tcpOwners, At: func(v *Values) any { return &v.TCP.ClientEngine },
		Help: "what moves the bytes of the client's connections: epoll or goroutine, as --tcp-engine",
		When: onTCP.AndNot("client-transport", "uring"), Sweep: Unless("tls", On)},
	{Name: "tls", Common: true, Group: tcpGroup, Side: Server | Client | Alike, Default: Off, Words: []string{On, Off}, Owners: []string{"transport", "client-transport", "tcp-engine"}, At: func(v *Values) any { return &v.TCP.TLS },
		Help:    "TLS 1.3 on each connection: on or off. Both sides then have the engine goroutine. A run makes the certificate of its own server; for other servers see --tls-cert and --tls-ca",
		Meaning: "TLS 1.3 on each connection: on or off",
		When:    onTCP, Sweep: Unless("client-transport", "uring")},
	{Name: "tcp-accept", Group: tcpGroup, Side: Server, Default: "one", Words: []string{"one", "each"}, Owners: tcpOwners, At: func(v *Values) any { return &v.TCP.Accept },
		Help: "one loop accepts all connections, or each does (SO_REUSEPORT)",
		When: onTCP},
	{Name: "tcp-nodelay", Group: tcpGroup, Side: Server | Client | Alike, Default: "true", Owners: tcpOwners, At: func(v *Values) any { return &v.TCP.NoDelay }, OffUnix: true,
		Help: "small segments do not wait until the segments before them are acknowledged (TCP_NODELAY)",
		When: onTCP},
	{Name: "tcp-cork", Group: tcpGroup, Side: Server | Client | Alike, Default: "false", Owners: tcpOwners, At: func(v *Values) any { return &v.TCP.Cork }, OffUnix: true,
		Help: "the last segment of a write waits, if the turn has more bytes to send (MSG_MORE)",
		When: onTCP, Sweep: epollOnly},
	{Name: "tcp-quickack", Group: tcpGroup, Side: Server | Client | Alike, Default: "false", Owners: tcpOwners, At: func(v *Values) any { return &v.TCP.QuickAck }, OffUnix: true,
		Help: "each receive is acknowledged at once (TCP_QUICKACK), which takes one more system call",
		When: onTCP, Sweep: epollOnly},
	{Name: "tcp-send-bytes", Group: tcpGroup, Side: Server | Client | Alike, Default: "0", Range: Span{"0", "1GiB"}, Owners: tcpOwners, At: func(v *Values) any { return &v.TCP.SendBytes },
		Help: "send buffer of a connection; 0: the kernel sizes it",
		When: onTCP},
	{Name: "tcp-receive-bytes", Group: tcpGroup, Side: Server | Client | Alike, Default: "0", Range: Span{"0", "1GiB"}, Owners: tcpOwners, At: func(v *Values) any { return &v.TCP.ReceiveBytes }, OffUnix: true,
		Help: "receive buffer of a connection; 0: the kernel sizes it",
		When: onTCP},
	{Name: "tcp-busy-poll", Group: tcpGroup, Side: Server | Client | Alike, Default: "0s", Range: Span{"0s", "1s"}, Owners: tcpOwners, At: func(v *Values) any { return &v.TCP.BusyPoll }, OffUnix: true,
		Help: "how long a read polls the device's queue (SO_BUSY_POLL; without effect on loopback)",
		When: onTCP},
	{Name: "tcp-zerocopy-bytes", Group: tcpGroup, Side: Server | Client | Alike, Default: "0", Range: Span{"0", "1GiB"}, Hidden: true, Owners: tcpOwners, At: func(v *Values) any { return &v.TCP.ZeroCopyBytes }, OffUnix: true,
		Help: "the smallest write that is not copied (MSG_ZEROCOPY): its memory is held until it is acknowledged; 0: all are copied",
		When: onTCP, Sweep: epollOnly},
}

// Check returns an error for values that contradict each other.
func (v *TCPValues) Check() error {
	switch o := v.Options(); {
	case (o.Engine != tcp.Epoll || o.ClientEngine != tcp.Epoll) && (v.Cork || v.QuickAck || v.ZeroCopyBytes > 0):
		return errors.New("--tcp-cork, --tcp-quickack and --tcp-zerocopy-bytes need --tcp-engine epoll and --tcp-client-engine epoll: Go's net package does not have them")
	case v.BusyPoll%time.Microsecond != 0:
		return fmt.Errorf("--tcp-busy-poll %v: must be whole microseconds", v.BusyPoll)
	}
	return nil
}

// Options returns the options of package tcp, for both sides, without TLS.
func (v *TCPValues) Options() (o tcp.Options) {
	o.Engine, _ = tcp.ParseEngine(v.Engine) // CheckWords has checked it
	o.ClientEngine, _ = tcp.ParseEngine(v.ClientEngine)
	o.Cork, o.QuickAck, o.ZeroCopyBytes = v.Cork, v.QuickAck, int(v.ZeroCopyBytes)
	o.Sockets = socket.Options{Nagle: !v.NoDelay, SendBytes: int(v.SendBytes), ReceiveBytes: int(v.ReceiveBytes), BusyPoll: v.BusyPoll, ReusePort: v.Accept == "each"}
	return o
}

// CheckTLS returns an error for values that TLS does not allow. With TLS it sets both engines to goroutine, because crypto/tls reads and writes on blocking
// connections.
func (v *Values) CheckTLS(given Given) error {
	switch {
	case v.TCP.TLS != On:
		return nil
	case v.Server.Transport != "tcp":
		return fmt.Errorf("TLS needs --transport tcp, not %s: leave out --tls, --tls-cert and --tls-ca", v.Server.Transport)
	case v.Load.ClientTransport != "" && v.Load.ClientTransport != "tcp":
		return fmt.Errorf("TLS needs a client over tcp, not --client-transport %s", v.Load.ClientTransport)
	}
	for _, by := range []struct {
		name   string
		engine *string
	}{{"tcp-engine", &v.TCP.Engine}, {"tcp-client-engine", &v.TCP.ClientEngine}} {
		if given(by.name) && *by.engine != tcp.Goroutines.String() {
			return fmt.Errorf("TLS needs --%s goroutine, not %s: crypto/tls reads and writes on blocking connections", by.name, *by.engine)
		}
		*by.engine = tcp.Goroutines.String()
	}
	return nil
}
