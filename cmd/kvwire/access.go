package main

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/transport/socket"
)

// identity are the flags of a client's identity.
type identity struct {
	file, name  string
	ca, tlsName string
}

func (f *factors) identityFlags() {
	f.set.StringVar(&f.as.file, "auth-file", "", "with --target: a file of lines NAME rw|ro SECRET, one of which the server has, too")
	f.set.StringVar(&f.as.name, "auth-name", "", "which of its lines; default: the first")
	f.set.StringVar(&f.as.ca, "tls-ca", "", "with --target: speak TLS, and trust a server whose certificate is signed with one in this file (PEM)")
	f.set.StringVar(&f.as.tlsName, "tls-name", "", "what that certificate calls the server; default: the host in --target")
	factor.Group(f.set, "Access to the server of --target", "auth-file", "auth-name", "tls-ca", "tls-name")
}

// readIdentity finds out who this client is, and whom it trusts.
func (f *factors) readIdentity() (err error) {
	if err := f.readSigners(); err != nil {
		return err
	}
	a := &f.as
	switch {
	case a.file == "" && a.name != "":
		return usagef("--auth-name needs --auth-file")
	case a.file != "" && f.Target == "":
		return usagef("--auth-file needs --target: a server of the run's own lets in nobody else")
	case a.file != "" && f.Identity.Who != nil:
		return usagef("--target names somebody: leave --auth-file out")
	}
	var list *access.List
	if a.file != "" {
		list, err = access.ReadFile(a.file)
	} else if f.Identity.Who == nil && f.Target != "" && !f.Redis {
		list, err = access.OfRun()
		err = asUsage(err)
	}
	if err != nil || list == nil {
		return err
	}
	who, err := list.Entry(a.name)
	if err != nil {
		return usagef("--auth-name: %v", err)
	}
	f.Identity.Who = &who
	return nil
}

// readSigners finds out whether this client speaks TLS, and whom it takes for its server then.
func (f *factors) readSigners() (err error) {
	a := &f.as
	switch {
	case a.ca == "" && a.tlsName != "":
		return usagef("--tls-name needs --tls-ca")
	case a.ca != "" && f.Target == "":
		return usagef("--tls-ca needs --target: a server of the run's own has a certificate that the run makes (--tls on)")
	case a.ca != "" && f.sets("tls") && f.TCP.TLS != factor.On:
		return usagef("--tls-ca is for TLS: leave --tls %s out", f.TCP.TLS)
	case a.ca != "":
		f.TCP.TLS = factor.On
		f.Identity.TLS, err = access.ClientTLSFile(a.ca, a.tlsName)
		return err
	case f.TCP.TLS != factor.On || f.Target == "":
		return nil
	}
	if f.Identity.TLS, err = access.ClientTLSOfRun(); err == nil && f.Identity.TLS == nil {
		err = errors.New("--tls on needs --tls-ca beside --target: who has signed that server's certificate")
	}
	return asUsage(err)
}

// guard is who a server lets in, and what it shows to them.
type guard struct {
	file             string
	insecure         bool
	list             *access.List // nil: anybody
	certificate, key string
	tls              *tls.Config // nil: nothing, and all is said in the clear
}

func (f *factors) guardFlags() {
	f.set.StringVar(&f.guard.certificate, "tls-cert", "", "tcp: accept TLS 1.3 only, with the certificate in this file (PEM, and behind it those between it and who signed it)")
	f.set.StringVar(&f.guard.key, "tls-key", "", "its key (PEM), in a file that is its owner's alone (chmod 600)")
	f.set.StringVar(&f.guard.file, "auth-file", "", "who may connect: lines NAME rw|ro SECRET, in a file that is its owner's alone (chmod 600)")
	f.insecureFlag("let anybody connect who reaches --listen, from other machines, too; with --auth-file, let anybody read --metrics alone")
}

func (f *factors) insecureFlag(what string) {
	f.set.BoolVar(&f.guard.insecure, "insecure", false, what)
}

// readCertificate reads what the server shows. It comes before plan, since TLS needs an engine.
func (f *factors) readCertificate() (err error) {
	g := &f.guard
	switch {
	case (g.certificate == "") != (g.key == ""):
		return usagef("--tls-cert and --tls-key need each other")
	case g.certificate != "" && f.sets("tls") && f.TCP.TLS != factor.On:
		return usagef("--tls-cert is for TLS: leave --tls %s out", f.TCP.TLS)
	case g.certificate != "":
		f.TCP.TLS = factor.On
		g.tls, err = access.ServerTLSFiles(g.certificate, g.key)
		return err
	case f.TCP.TLS != factor.On:
		return nil
	}
	if g.tls, err = access.ServerTLSOfRun(); err == nil && g.tls == nil {
		err = errors.New("--tls on needs --tls-cert and --tls-key (SECURITY.md says how to make them)")
	}
	return asUsage(err)
}

// readGuard reads who may connect. Where that is anybody, listen has to be on loopback or a unix socket, or --insecure given; so has --metrics, where nobody is asked.
func (f *factors) readGuard(listen string) (err error) {
	g := &f.guard
	open, err := reached(f.metrics)
	if err != nil {
		return fmt.Errorf("--metrics: %w", err)
	}
	switch {
	case open && !g.insecure:
		return usagef("--metrics %s is reached from other machines, and nobody is asked there who they are: let in anybody, with --insecure, or keep it on loopback (ssh -L brings it elsewhere)", f.metrics)
	case g.insecure && g.file != "" && !open:
		return usagef("--insecure lets anybody connect, and --auth-file does not: give one of them")
	case g.file != "":
		g.list, err = access.ReadFile(g.file)
	case !g.insecure:
		g.list, err = access.OfRun()
		err = asUsage(err)
	}
	if err != nil || g.list != nil {
		return err
	}
	return f.checkOpen(listen, "name who may connect, with --auth-file, or let in anybody, with --insecure")
}

// checkOpen refuses an address that other machines reach, where anybody may connect and nobody said so.
func (f *factors) checkOpen(listen, remedy string) error {
	open, err := reached(listen)
	if err == nil && open && !f.guard.insecure {
		err = usagef("--listen %s is reached from other machines: %s", listen, remedy)
	}
	return err
}

// reached says whether other machines reach an address, host:port; none is not reached, nor is a unix socket.
func reached(addr string) (bool, error) {
	if _, local := socket.UnixPath(addr); local || addr == "" {
		return false, nil
	}
	at, err := socket.Resolve(addr)
	return err == nil && !at.IsLoopback(), err
}
