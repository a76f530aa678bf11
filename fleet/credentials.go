package fleet

import (
	"crypto/tls"
	"os"

	"github.com/kvwire/kvwire/transport/access"
)

// The environment variables in which a run's processes find its credentials; arguments would be visible to all users of the machine. AuthEnv has the secret, as
// a line of --auth-file. TLSEnv has the certificate as PEM: for a server with its key, for clients without.
const (
	AuthEnv = "KVWIRE_AUTH"
	TLSEnv  = "KVWIRE_TLS"
)

// Credentials are what a process of a run needs to let in, or to reach, the run's other processes.
type Credentials struct {
	Secret string `json:"secret,omitempty"` // for AuthEnv
	TLS    string `json:"tls,omitempty"`    // for TLSEnv
}

// Environ is this process's environment with the credentials.
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

// Identity is who a client is, and which server it trusts.
type Identity struct {
	Who     *access.Entry // nil: nobody
	TLS     *tls.Config   // nil: any server, unencrypted
	signers string        // PEM: the certificate that NewServer has made
}

// NewServer makes a secret that a server and its clients share, and with encrypted a certificate. It returns the server's credentials.
func (i *Identity) NewServer(encrypted bool) (c Credentials, err error) {
	who := access.Random("run")
	i.Who = &who
	if encrypted {
		certificate, key, err := access.NewCertificate()
		if err != nil {
			return c, err
		}
		if i.TLS, err = access.ClientTLS(certificate, access.RunName); err != nil {
			return c, err
		}
		i.signers = string(certificate)
		c.TLS = i.signers + string(key)
	}
	c.Secret = who.Text()
	return c, nil
}

// Credentials are those of the run's other clients.
func (i *Identity) Credentials() (c Credentials) {
	if i.Who != nil {
		c.Secret = i.Who.Text()
	}
	c.TLS = i.signers
	return c
}
