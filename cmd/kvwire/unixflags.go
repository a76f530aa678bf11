package main

import (
	"errors"
	"slices"

	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/uring"
)

// onUnix is the value of the device column for a unix socket.
const onUnix = "unix"

// notOnUnix are the flags that set what a unix socket does not have: what TCP does with segments and acknowledgements, and queues of a device.
var notOnUnix = []string{"tcp-nodelay", "tcp-cork", "tcp-quickack", "tcp-receive-bytes", "tcp-busy-poll", "tcp-zerocopy-bytes", "uring-zerocopy-bytes", "uring-napi"}

// checkUnix checks --listen or --target where it is a unix socket, unix:PATH; any other address passes.
func (f *factors) checkUnix(flag, addr string) error {
	path, local := socket.UnixPath(addr)
	if !local {
		return nil
	}
	if err := socket.CheckUnixPath(path); err != nil {
		return usagef("--%s %.300q: %v", flag, addr, err)
	}
	switch {
	case f.transport != "tcp" && f.transport != "uring":
		return usagef("--%s %s: a unix socket needs --transport tcp or uring, not %s", flag, addr, f.transport)
	case f.tcp.tls == on || f.guard.certificate != "" || f.as.ca != "":
		return usagef("--%s %s: TLS is not for a unix socket: its bytes never leave the machine, and it has no host's name that a certificate could prove (the mode of its file says who may connect, and --auth-file)", flag, addr)
	case f.tcp.accept == "each":
		return usagef("--%s %s: a unix socket has one listener: leave --tcp-accept each out", flag, addr)
	case f.uring.large == uring.ZeroCopy.String():
		return usagef("--%s %s: the kernel has no sends without copy on a unix socket: leave --uring-large zerocopy out", flag, addr)
	}
	if i := slices.IndexFunc(notOnUnix, f.sets); i >= 0 {
		return usagef("--%s %s: a unix socket has nothing that --%s could set: leave it out", flag, addr, notOnUnix[i])
	}
	return nil
}

// checkReach refuses a flag that is neither host:port nor unix:PATH; of host:port, see checkAddress.
func (f *factors) checkReach(flag, addr string, least uint64) error {
	if _, local := socket.UnixPath(addr); local {
		return f.checkUnix(flag, addr)
	}
	return checkAddress(flag, addr, least)
}

var errUnixHere = errors.New("a unix socket is for serve --listen, and for --target: host:port here, such as 127.0.0.1:7070")

// carriedBy is the device column of a socket to that address on this host.
func carriedBy(target string) string {
	if _, local := socket.UnixPath(target); local {
		return onUnix
	}
	return "loopback" // the kernel's way to any address of its own
}

// unixFactors leaves out of a row what a unix socket does not have.
func unixFactors(r *report.Row) {
	if r.Device != onUnix {
		return
	}
	r.TCPNoDelay, r.TCPCork, r.TCPQuickAck = report.Bool{}, report.Bool{}, report.Bool{}
	r.TCPReceiveBytes, r.TCPZeroCopyBytes, r.TCPBusyPollNs, r.UringNAPINs = report.Int{}, report.Int{}, report.Int{}, report.Int{}
}
