package socket

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// CheckHostPort returns an error, without the address, for an address that is not host:port with a port of portMin or above: 0, if the kernel may choose one, or 1.
func CheckHostPort(addr string, portMin uint64) error {
	if _, local := UnixPath(addr); local {
		return errors.New("a unix socket is for serve --listen, and for --target: host:port here, such as 127.0.0.1:7070")
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

// Reachable reports whether other machines reach an address, host:port. They reach neither "" nor a unix socket.
func Reachable(addr string) (bool, error) {
	if _, local := UnixPath(addr); local || addr == "" {
		return false, nil
	}
	at, err := Resolve(addr)
	return err == nil && !at.IsLoopback(), err
}
