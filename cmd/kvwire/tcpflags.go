package main

import (
	"slices"
	"strings"
	"time"

	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/tcp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/socket"
)

// tcpValues are the flags that need --transport tcp. All but the first three are both sides'.
type tcpValues struct {
	engine        string
	clientEngine  string
	accept        string
	tls           string
	noDelay       bool
	cork          bool
	quickAck      bool
	sendBytes     bytesFlag
	receiveBytes  bytesFlag
	busyPoll      time.Duration
	zeroCopyBytes bytesFlag
	options       tcp.Options // what they say: plan fills it in
}

// on and off are the values of --tls.
const on, off = "on", "off"

// tcpBoth are the names of those that both sides have.
var tcpBoth = []string{"tls", "tcp-nodelay", "tcp-cork", "tcp-quickack", "tcp-send-bytes", "tcp-receive-bytes", "tcp-busy-poll", "tcp-zerocopy-bytes"}

var tcpFlags = append([]string{"tcp-engine", "tcp-accept"}, tcpBoth...)

// tcpClient are those of the client alone.
var tcpClient = []string{"tcp-client-engine"}

func (f *factors) tcpFlags() {
	s, v := f.set, &f.tcp
	s.StringVar(&v.engine, "tcp-engine", tcp.Epoll.String(), "tcp, this and what follows: what moves the bytes of the server's connections: their loop (epoll), or goroutines on Go's net package (goroutine)")
	s.StringVar(&v.tls, "tls", off, "TLS 1.3 on each connection, between engines goroutine on both sides: on or off; a run's own server gets a certificate by itself, for others see --tls-cert and --tls-ca")
	s.StringVar(&v.accept, "tcp-accept", "one", "one loop accepts all connections, or each does (SO_REUSEPORT)")
	s.BoolVar(&v.noDelay, "tcp-nodelay", true, "small segments do not wait for the answer to those before them")
	s.BoolVar(&v.cork, "tcp-cork", false, "the last segment of a write waits, where more of the turn's bytes follow (MSG_MORE)")
	s.BoolVar(&v.quickAck, "tcp-quickack", false, "each receive is acknowledged at once, which takes a system call")
	s.Var(&v.sendBytes, "tcp-send-bytes", "send buffer of a connection; 0: the kernel sizes it")
	s.Var(&v.receiveBytes, "tcp-receive-bytes", "receive buffer of a connection; 0: the kernel sizes it")
	s.DurationVar(&v.busyPoll, "tcp-busy-poll", 0, "how long a read looks at the device's queue (SO_BUSY_POLL; not on loopback)")
	s.Var(&v.zeroCopyBytes, "tcp-zerocopy-bytes", "writes from that size on are not copied (MSG_ZEROCOPY), and their memory is held until they are acknowledged; 0: none")
}

func (f *factors) tcpClientFlags() {
	f.set.StringVar(&f.tcp.clientEngine, "tcp-client-engine", tcp.Epoll.String(), "tcp: what moves the bytes of the client's connections: epoll or goroutine, as --tcp-engine")
}

// tcpOptions are what the flags say, checked.
func (f *factors) tcpOptions() (o tcp.Options, err error) {
	v := &f.tcp
	if o.Engine, err = tcp.ParseEngine(v.engine); err != nil {
		return o, usagef("--tcp-engine %v", err)
	}
	if v.clientEngine != "" { // it is a client
		if o.ClientEngine, err = tcp.ParseEngine(v.clientEngine); err != nil {
			return o, usagef("--tcp-client-engine %v", err)
		}
	}
	switch {
	case v.tls != on && v.tls != off:
		return o, usagef("--tls %q is unknown (on or off)", v.tls)
	case v.accept != "one" && v.accept != "each":
		return o, usagef("--tcp-accept %q is unknown (one or each)", v.accept)
	case (o.Engine != tcp.Epoll || o.ClientEngine != tcp.Epoll) && (v.cork || v.quickAck || v.zeroCopyBytes > 0):
		return o, usagef("--tcp-cork, --tcp-quickack and --tcp-zerocopy-bytes need --tcp-engine epoll, and the client's, too: Go's net package cannot do that")
	case v.busyPoll%time.Microsecond != 0:
		return o, usagef("--tcp-busy-poll %v: whole microseconds", v.busyPoll)
	}
	o.Cork, o.QuickAck, o.ZeroCopyBytes = v.cork, v.quickAck, int(v.zeroCopyBytes)
	o.Sockets = socket.Options{Nagle: !v.noDelay, SendBytes: int(v.sendBytes), ReceiveBytes: int(v.receiveBytes),
		BusyPoll: v.busyPoll, ReusePort: v.accept == "each"}
	return o, nil
}

// planTLS checks what TLS needs, and chooses the engines where the user did not: a session reads and writes on a blocking connection.
func (f *factors) planTLS() error {
	v := &f.tcp
	switch {
	case v.tls != on:
		return nil
	case f.transport != "tcp":
		return usagef("TLS needs --transport tcp, not %s: leave --tls, --tls-cert and --tls-ca out", f.transport)
	case f.clientTransport != "" && f.clientTransport != "tcp":
		return usagef("TLS needs a client over tcp, not --client-transport %s", f.clientTransport)
	case f.serverAt != "":
		return usagef("--tls on: a kvwire host has no certificate for the servers that it starts: start them by --server-launch")
	}
	for _, by := range []struct {
		name   string
		engine *string
	}{{"tcp-engine", &v.engine}, {"tcp-client-engine", &v.clientEngine}} {
		if f.sets(by.name) && *by.engine != tcp.Goroutines.String() {
			return usagef("TLS needs --%s goroutine, not %s: crypto/tls reads and writes on blocking connections", by.name, *by.engine)
		}
		*by.engine = tcp.Goroutines.String()
	}
	return nil
}

// overTCP is tcp with what this process shows and trusts.
func (f *factors) overTCP() transport.Transport {
	o := f.tcp.options
	o.ServerTLS, o.ClientTLS = f.guard.tls, f.as.tls
	return tcp.Transport{Options: o}
}

// planTCP checks the flags of tcp, and keeps what they say.
func (f *factors) planTCP() (err error) {
	if err := f.planTLS(); err != nil {
		return err
	}
	for _, name := range slices.Concat(tcpFlags, tcpClient) {
		if f.sets(name) && f.transport != "tcp" {
			return usagef("--%s needs --transport tcp, not %s", name, f.transport)
		}
	}
	if f.sets("tcp-client-engine") && f.clientTransport != "" && f.clientTransport != "tcp" {
		return usagef("--tcp-client-engine needs a client over tcp, not --client-transport %s", f.clientTransport)
	}
	f.tcp.options, err = f.tcpOptions()
	return err
}

// tcpFactors are what was asked for.
func tcpFactors(r *report.Row, flags map[string]string) {
	size := func(name string) report.Int { return sizeOf(flags[name]) }
	r.TCPEngine, r.TCPAccept, r.TLS = flags["tcp-engine"], flags["tcp-accept"], flags["tls"]
	r.TCPNoDelay, r.TCPCork, r.TCPQuickAck = report.B(flags["tcp-nodelay"] == "true"), report.B(flags["tcp-cork"] == "true"), report.B(flags["tcp-quickack"] == "true")
	r.TCPSendBytes, r.TCPReceiveBytes, r.TCPZeroCopyBytes = size("tcp-send-bytes"), size("tcp-receive-bytes"), size("tcp-zerocopy-bytes")
	if d, err := time.ParseDuration(flags["tcp-busy-poll"]); err == nil {
		r.TCPBusyPollNs = report.I(int64(d))
	}
}

// tcpApplies says whether a flag of tcp has a meaning in a cell.
func tcpApplies(name string, is func(flag, value string) bool) bool {
	switch name {
	case "tcp-cork", "tcp-quickack", "tcp-zerocopy-bytes":
		return is("transport", "tcp") && !is("tcp-engine", tcp.Goroutines.String()) && !is("tcp-client-engine", tcp.Goroutines.String()) && !is("tls", on)
	case "tcp-engine":
		return is("transport", "tcp") && !is("tls", on)
	case "tcp-client-engine":
		return is("transport", "tcp") && !is("client-transport", "uring") && !is("tls", on)
	case "tls":
		return is("transport", "tcp") && !is("client-transport", "uring")
	}
	return is("transport", "tcp") || !strings.HasPrefix(name, "tcp-")
}
