package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// RunName is what a certificate calls a server that a run has started, wherever that listens.
const RunName = "server.kvwire.invalid"

// runDays is how long such a certificate is valid, from a day ago on: clocks of hosts differ. Its key is in no file.
const runDays = 30

// session is what both sides have in common. No tickets: a connection is one session. Records are full from the first on, since what is
// measured is not a page's first bytes.
func session() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true}
}

// ServerTLS is what a server needs that has this certificate, with those between it and who signed it behind it, and this key, both PEM.
func ServerTLS(certificate, key []byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	c := session()
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

// ServerTLSFiles is the same from files. Nobody but its owner may read the key's.
func ServerTLSFiles(certificate, key string) (*tls.Config, error) {
	cert, err := read(certificate, false)
	if err != nil {
		return nil, err
	}
	k, err := read(key, true)
	if err != nil {
		return nil, err
	}
	c, err := ServerTLS(cert, k)
	if err != nil {
		return nil, fmt.Errorf("access: %s and %s: %w", certificate, key, err)
	}
	return c, nil
}

// ClientTLS is what a client needs that trusts who has signed with these certificates, PEM, and wants its server to be called that; "": as
// it is dialed.
func ClientTLS(signers []byte, name string) (*tls.Config, error) {
	c := session()
	c.RootCAs, c.ServerName = x509.NewCertPool(), name
	if !c.RootCAs.AppendCertsFromPEM(signers) {
		return nil, errors.New("there is no certificate in it (PEM: -----BEGIN CERTIFICATE-----)")
	}
	return c, nil
}

// ClientTLSFile is the same from a file.
func ClientTLSFile(signers, name string) (*tls.Config, error) {
	b, err := read(signers, false)
	if err != nil {
		return nil, err
	}
	c, err := ClientTLS(b, name)
	if err != nil {
		return nil, fmt.Errorf("access: %s: %w", signers, err)
	}
	return c, nil
}

// NewCertificate makes a certificate for a run's own server, called RunName, that has signed itself, and its key: ECDSA over P-256, PEM.
func NewCertificate() (certificate, key []byte, err error) {
	now := time.Now()
	return Certificate(&x509.Certificate{Subject: pkix.Name{CommonName: RunName}, DNSNames: []string{RunName},
		NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(0, 0, runDays)})
}

// Certificate makes one that says what it is asked to, and has signed itself.
func Certificate(template *x509.Certificate) (certificate, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	c := *template
	c.KeyUsage = x509.KeyUsageDigitalSignature
	if c.ExtKeyUsage == nil {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, &c, k.Public(), k)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), nil
}
