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

// RunName is the name in the certificate of a server that a run has started, independent of its address.
const RunName = "server.kvwire.invalid"

// runDays is the lifetime of such a certificate in days. It begins a day ago, because clocks of hosts differ. Its key is in no file.
const runDays = 30

// session returns the configuration that both sides share. It has no tickets, because each connection is a new session. Records have full size from the
// first on; smaller first records would only help browsers.
func session() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true}
}

// ServerTLS returns the configuration of a server with a certificate, which intermediate certificates may follow, and its key; both are PEM.
func ServerTLS(certificate, key []byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	c := session()
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

// ServerTLSFiles is ServerTLS with files. Only its owner may have the right to read the key's file.
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
		return nil, fmt.Errorf("%s and %s: %w", certificate, key, err)
	}
	return c, nil
}

// ClientTLS returns the configuration of a client that trusts the signers with these certificates, PEM. name is the name that the server's certificate must
// have; "": the name in the dialed address.
func ClientTLS(signers []byte, name string) (*tls.Config, error) {
	c := session()
	c.RootCAs, c.ServerName = x509.NewCertPool(), name
	if !c.RootCAs.AppendCertsFromPEM(signers) {
		return nil, errors.New("no certificate found (PEM: -----BEGIN CERTIFICATE-----)")
	}
	return c, nil
}

// ClientTLSFile is ClientTLS with a file.
func ClientTLSFile(signers, name string) (*tls.Config, error) {
	b, err := read(signers, false)
	if err != nil {
		return nil, err
	}
	c, err := ClientTLS(b, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", signers, err)
	}
	return c, nil
}

// NewCertificate makes a self-signed certificate with the name RunName for a server of a run, and its key: ECDSA over P-256, PEM.
func NewCertificate() (certificate, key []byte, err error) {
	now := time.Now()
	return Certificate(&x509.Certificate{Subject: pkix.Name{CommonName: RunName}, DNSNames: []string{RunName},
		NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(0, 0, runDays)})
}

// Certificate makes a self-signed certificate with the content of template, and its key.
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
