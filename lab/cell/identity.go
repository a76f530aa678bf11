package cell

import (
	"errors"
	"fmt"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/transport/access"
)

// identityFlags are the flags of a client's identity.
type identityFlags struct {
	file, name  string // --auth-file, --auth-name
	ca, tlsName string
}

// BindIdentity adds the flags of the client's identity.
func (f *Settings) BindIdentity() {
	s, a := f.flags, &f.identity
	s.StringVar(&a.file, "auth-file", "", "with --target: a file of lines NAME rw|ro SECRET; the server must have one of them, too")
	s.StringVar(&a.name, "auth-name", "", "the name of the line to use; default: the first line")
	s.StringVar(&a.ca, "tls-ca", "", "with --target: use TLS, and trust a server whose certificate is signed by one in this file (PEM)")
	s.StringVar(&a.tlsName, "tls-name", "", "the server's name in its certificate; default: the host in --target")
	factor.Group(s, "Access to the server of --target", "auth-file", "auth-name", "tls-ca", "tls-name")
}

// ReadIdentity reads the client's name and secret, and which server it trusts.
func (f *Settings) ReadIdentity() (err error) {
	if err := f.readSigners(); err != nil {
		return err
	}
	a := &f.identity
	switch {
	case a.file == "" && a.name != "":
		return exit.Usagef("--auth-name needs --auth-file")
	case a.file != "" && f.Target == "":
		return exit.Usagef("--auth-file needs --target: the run's own server accepts only this run")
	case a.file != "" && f.Identity.Who != nil:
		return exit.Usagef("--target has a user already: leave out --auth-file")
	}
	var list *access.List
	if a.file != "" {
		if list, err = access.ReadFile(a.file); err != nil {
			err = fmt.Errorf("--auth-file: %w", err)
		}
	} else if f.Identity.Who == nil && f.Target != "" && !f.Redis {
		list, err = access.OfRun()
	}
	if err != nil || list == nil {
		return exit.With(exit.Usage, err)
	}
	who, err := list.Entry(a.name)
	if err != nil {
		return exit.Usagef("--auth-name: %v", err)
	}
	f.Identity.Who = &who
	return nil
}

// readSigners reads the certificates that this client trusts, if it uses TLS.
func (f *Settings) readSigners() (err error) {
	a := &f.identity
	switch {
	case a.ca == "" && a.tlsName != "":
		return exit.Usagef("--tls-name needs --tls-ca")
	case a.ca != "" && f.Target == "":
		return exit.Usagef("--tls-ca needs --target: a server of the run's own has a certificate that the run makes (--tls on)")
	case a.ca != "" && f.Given("tls") && f.TCP.TLS != factor.On:
		return exit.Usagef("--tls-ca is for TLS: leave --tls %s out", f.TCP.TLS)
	case a.ca != "":
		f.TCP.TLS = factor.On
		if f.Identity.TLS, err = access.ClientTLSFile(a.ca, a.tlsName); err != nil {
			err = exit.Usagef("--tls-ca: %w", err)
		}
		return err
	case f.TCP.TLS != factor.On || f.Target == "":
		return nil
	}
	if f.Identity.TLS, err = access.ClientTLSOfRun(); err == nil && f.Identity.TLS == nil {
		err = errors.New("--tls on with --target needs --tls-ca, the certificate that has signed the server's")
	}
	return exit.With(exit.Usage, err)
}
