package factor

import (
	"fmt"

	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/uring"
)

// CheckHostPort returns an error for a flag whose address is not host:port: see socket.CheckHostPort.
func CheckHostPort(flag, addr string, portMin uint64) error {
	if err := socket.CheckHostPort(addr, portMin); err != nil {
		return fmt.Errorf("--%s %s: %w", flag, quote.URL(addr), err)
	}
	return nil
}

// CheckAddress is CheckHostPort for a flag whose address may also be a unix socket: see CheckUnix.
func (v *Values) CheckAddress(given Given, flag, addr string, portMin uint64, encrypted bool) error {
	if _, local := socket.UnixPath(addr); local {
		return v.CheckUnix(given, flag, addr, encrypted)
	}
	return CheckHostPort(flag, addr, portMin)
}

// CheckUnix returns an error if a flag's address is a unix socket, unix:PATH, that the values exclude. encrypted: another flag needs TLS.
func (v *Values) CheckUnix(given Given, flag, addr string, encrypted bool) error {
	path, local := socket.UnixPath(addr)
	if !local {
		return nil
	}
	if err := socket.CheckUnixPath(path); err != nil {
		return fmt.Errorf("--%s %.300q: %w", flag, addr, err)
	}
	switch {
	case v.Server.Transport != "tcp" && v.Server.Transport != "uring":
		return fmt.Errorf("--%s %s: a unix socket needs --transport tcp or uring, not %s", flag, addr, v.Server.Transport)
	case v.TCP.TLS == On || encrypted:
		return fmt.Errorf("--%s %s: a unix socket has no TLS: its bytes never leave the machine, and a certificate could prove no host's name (the mode of its file and --auth-file determine who may connect)", flag, addr)
	case v.TCP.Accept == "each":
		return fmt.Errorf("--%s %s: a unix socket has one listener: leave --tcp-accept each out", flag, addr)
	case v.Uring.Large == uring.ZeroCopy.String():
		return fmt.Errorf("--%s %s: the kernel has no sends without copy on a unix socket: leave --uring-large zerocopy out", flag, addr)
	}
	for _, name := range All.Names(func(x *Factor) bool { return x.OffUnix }) {
		if given(name) {
			return fmt.Errorf("--%s %s: a unix socket has nothing that --%s could set: leave it out", flag, addr, name)
		}
	}
	return nil
}
