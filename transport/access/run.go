package access

import (
	"crypto/tls"
	"fmt"
	"os"
)

// The environment variables in which a run's processes find its credentials; arguments would be visible to all users of the machine. AuthEnv has the secret, as
// a line of --auth-file. TLSEnv has the certificate as PEM: for a server with its key, for clients without.
const (
	AuthEnv = "KVWIRE_AUTH"
	TLSEnv  = "KVWIRE_TLS"
)

// Credentials are what a process of a run needs to accept connections from the run's other processes, or to connect to them.
type Credentials struct {
	Secret string `json:"secret,omitempty"` // for AuthEnv
	TLS    string `json:"tls,omitempty"`    // for TLSEnv
}

// Environ returns this process's environment with the credentials.
func (c Credentials) Environ() []string {
	env := os.Environ()
	if c.Secret != "" {
		env = append(env, AuthEnv+"="+c.Secret)
	}
	if c.TLS != "" {
		env = append(env, TLSEnv+"="+c.TLS)
	}
	return env
}

// OfRun returns the names in AuthEnv, which the run that started this process has set; nil: no run did.
func OfRun() (*List, error) {
	text, ok := os.LookupEnv(AuthEnv)
	if !ok {
		return nil, nil
	}
	list, err := Parse([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", AuthEnv, err)
	}
	return list, nil
}

// ServerTLSOfRun returns the TLS of a server from TLSEnv, which the run that started this process has set; nil: no run did.
func ServerTLSOfRun() (*tls.Config, error) {
	return tlsOfRun(func(text []byte) (*tls.Config, error) { return ServerTLS(text, text) })
}

// ClientTLSOfRun is ServerTLSOfRun for a client.
func ClientTLSOfRun() (*tls.Config, error) {
	return tlsOfRun(func(text []byte) (*tls.Config, error) { return ClientTLS(text, RunName) })
}

func tlsOfRun(parse func(text []byte) (*tls.Config, error)) (*tls.Config, error) {
	text, ok := os.LookupEnv(TLSEnv)
	if !ok {
		return nil, nil
	}
	c, err := parse([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", TLSEnv, err)
	}
	return c, nil
}

// Identity is a client's name and secret, and the server that it trusts.
type Identity struct {
	Who     *Entry      // nil: no authentication
	TLS     *tls.Config // nil: any server, unencrypted
	signers string      // PEM: the certificate from NewServer
}

// NewServer makes a secret that a server and its clients share, and with encrypted a certificate. It returns the server's credentials.
func (i *Identity) NewServer(encrypted bool) (c Credentials, err error) {
	who := Random("run")
	i.Who = &who
	if encrypted {
		certificate, key, err := NewCertificate()
		if err != nil {
			return c, err
		}
		if i.TLS, err = ClientTLS(certificate, RunName); err != nil {
			return c, err
		}
		i.signers = string(certificate)
		c.TLS = i.signers + string(key)
	}
	c.Secret = who.Text()
	return c, nil
}

// Credentials returns the credentials of the run's other clients.
func (i *Identity) Credentials() (c Credentials) {
	if i.Who != nil {
		c.Secret = i.Who.Text()
	}
	c.TLS = i.signers
	return c
}
