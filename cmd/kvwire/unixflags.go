package main

import (
	"errors"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/uring"
)

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
	case f.Server.Transport != "tcp" && f.Server.Transport != "uring":
		return usagef("--%s %s: a unix socket needs --transport tcp or uring, not %s", flag, addr, f.Server.Transport)
	case f.TCP.TLS == factor.On || f.guard.certificate != "" || f.as.ca != "":
		return usagef("--%s %s: TLS is not for a unix socket: its bytes never leave the machine, and it has no host's name that a certificate could prove (the mode of its file says who may connect, and --auth-file)", flag, addr)
	case f.TCP.Accept == "each":
		return usagef("--%s %s: a unix socket has one listener: leave --tcp-accept each out", flag, addr)
	case f.Uring.Large == uring.ZeroCopy.String():
		return usagef("--%s %s: the kernel has no sends without copy on a unix socket: leave --uring-large zerocopy out", flag, addr)
	}
	for _, name := range factor.All.Names(func(x *factor.Factor) bool { return x.OffUnix }) {
		if f.sets(name) {
			return usagef("--%s %s: a unix socket has nothing that --%s could set: leave it out", flag, addr, name)
		}
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
