package serve

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/transport/socket"
	"github.com/spf13/pflag"
)

// Access has the clients that may connect to a server, and its certificate: flags, and the content of the files that they name.
type Access struct {
	file, certificate, key string // --auth-file, --tls-cert, --tls-key
	insecure               bool

	list *access.List // nil: all clients
	tls  *tls.Config  // nil: no encryption
}

// Bind adds the flags of serve.
func (a *Access) Bind(set *pflag.FlagSet) {
	set.StringVar(&a.certificate, "tls-cert", "", "tcp: accept TLS 1.3 only, with the certificate in this file (PEM, followed by intermediate certificates)")
	set.StringVar(&a.key, "tls-key", "", "its key (PEM), in a file that is its owner's alone (chmod 600)")
	set.StringVar(&a.file, "auth-file", "", "the clients that may connect: lines NAME rw|ro SECRET, in a file that is its owner's alone (chmod 600)")
	a.BindInsecure(set, "allow all clients that reach --listen, also from other machines; with --auth-file, this applies to --metrics only")
}

// BindInsecure adds the flag insecure.
func (a *Access) BindInsecure(set *pflag.FlagSet, help string) {
	set.BoolVar(&a.insecure, "insecure", false, help)
}

// Insecure reports whether the user allows all clients.
func (a *Access) Insecure() bool { return a.insecure }

// readCertificate reads the server's certificate. Call it before Plan, since TLS needs another engine.
func (s *Settings) readCertificate() (err error) {
	a := &s.Access
	switch {
	case (a.certificate == "") != (a.key == ""):
		return exit.Usagef("--tls-cert and --tls-key need each other")
	case a.certificate != "" && s.Given("tls") && s.TCP.TLS != factor.On:
		return exit.Usagef("--tls-cert is for TLS: leave --tls %s out", s.TCP.TLS)
	case a.certificate != "":
		s.TCP.TLS = factor.On
		if a.tls, err = access.ServerTLSFiles(a.certificate, a.key); err != nil {
			err = exit.Usagef("--tls-cert and --tls-key: %w", err)
		}
		return err
	case s.TCP.TLS != factor.On:
		return nil
	}
	if a.tls, err = access.ServerTLSOfRun(); err == nil && a.tls == nil {
		err = errors.New("--tls on needs --tls-cert and --tls-key (docs/operations.md has the commands that make them)")
	}
	return exit.With(exit.Usage, err)
}

// readAccess reads the list of clients that may connect. If all may, listen must be on loopback or a unix socket, unless the user gave --insecure. So must the metrics port, which
// has no authentication.
func (s *Settings) readAccess(listen string) (err error) {
	a := &s.Access
	open, err := socket.Reachable(s.Metrics)
	if err != nil {
		return fmt.Errorf("--metrics: %w", err)
	}
	switch {
	case open && !a.insecure:
		return exit.Usagef("--metrics %s can be reached from other machines, and has no authentication: allow all clients (--insecure), or use an address of loopback (ssh -L forwards it)", s.Metrics)
	case a.insecure && a.file != "" && !open:
		return exit.Usagef("--insecure allows all clients, and --auth-file only those in the file: give one of them")
	case a.file != "":
		if a.list, err = access.ReadFile(a.file); err != nil {
			err = fmt.Errorf("--auth-file: %w", err)
		}
	case !a.insecure:
		a.list, err = access.OfRun()
	}
	if err != nil || a.list != nil {
		return exit.With(exit.Usage, err)
	}
	return a.CheckOpen(listen, "name the clients that may connect (--auth-file), or allow all clients (--insecure)")
}

// CheckOpen returns an error, with the remedy, for an address that other machines reach, unless the user gave --insecure.
func (a *Access) CheckOpen(listen, remedy string) error {
	open, err := socket.Reachable(listen)
	if err == nil && open && !a.insecure {
		err = exit.Usagef("--listen %s can be reached from other machines: %s", listen, remedy)
	}
	return err
}
