package server

// CheckUnix returns an error if a flag's address is a unix socket, unix:PATH, that these settings exclude. encrypted: another flag needs TLS.
func (s *Settings) CheckUnix(flag, addr string, encrypted bool) error {
	path, local := socket.UnixPath(addr)
	if !local {
		return nil
	}
	if err := socket.CheckUnixPath(path); err != nil {
		return exit.Usagef("--%s %.300q: %v", flag, addr, err)
	}
	switch {
	case s.Server.Transport != "tcp" && s.Server.Transport != "uring":
		return exit.Usagef("--%s %s: a unix socket needs --transport tcp or uring, not %s", flag, addr, s.Server.Transport)
	case s.TCP.TLS == factor.On || encrypted:
		return exit.Usagef("--%s %s: TLS is not for a unix socket: its bytes never leave the machine, and it has no host's name that a certificate could prove (the mode of its file says who may connect, and --auth-file)", flag, addr)
	case s.TCP.Accept == "each":
		return exit.Usagef("--%s %s: a unix socket has one listener: leave --tcp-accept each out", flag, addr)
	case s.Uring.Large == uring.ZeroCopy.String():
		return exit.Usagef("--%s %s: the kernel has no sends without copy on a unix socket: leave --uring-large zerocopy out", flag, addr)
	}
	for _, name := range factor.All.Names(func(x *factor.Factor) bool { return x.OffUnix }) {
		if s.Given(name) {
			return exit.Usagef("--%s %s: a unix socket has nothing that --%s could set: leave it out", flag, addr, name)
		}
	}
	return nil
}

// CheckAddress is CheckHostPort for a flag whose address may also be a unix socket: see CheckUnix.
func (s *Settings) CheckAddress(flag, addr string, portMin uint64, encrypted bool) error {
	if _, local := socket.UnixPath(addr); local {
		return s.CheckUnix(flag, addr, encrypted)
	}
	return CheckHostPort(flag, addr, portMin)
}

var errUnixHere = errors.New("a unix socket is for serve --listen, and for --target: host:port here, such as 127.0.0.1:7070")

// CheckHostPort returns an error for a flag whose address is not host:port with a port of portMin or above: 0, if the kernel may choose one, or 1.
func CheckHostPort(flag, addr string, portMin uint64) error {
	if err := HostPortError(addr, portMin); err != nil {
		return exit.Usagef("--%s %s: %v", flag, quote.URL(addr), err)
	}
	return nil
}

// HostPortError is CheckHostPort without the flag and the address in its error.
func HostPortError(addr string, portMin uint64) error {
	if _, local := socket.UnixPath(addr); local {
		return errUnixHere
	}
	host, port, err := net.SplitHostPort(addr)
	n, perr := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil:
		return errors.New("must be host:port, such as 127.0.0.1:7070 or [::1]:7070")
	case strings.ContainsAny(host, "@/ "):
		return errors.New("the host must be a name or an address, with nothing before it")
	case perr != nil || n < portMin:
		return fmt.Errorf("the port must be a number from %d to 65535", portMin)
	}
	return nil
}
