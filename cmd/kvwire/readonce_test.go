package main

import (
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/transport/access"
)

// A value that is larger than the one before it, for which there is too little room at first, is read from the disk once all the same: over every
// network and in both protocols, as by a call. The values are large ones, which no cache keeps.
func TestAGetReadsTheDiskOnceWhateverTheNetwork(t *testing.T) {
	testenv.NotShort(t, "a run for each network")
	sizes := []string{"--records", "100", "--value-dist", "uniform", "--value-min-bytes", "8KiB", "--value-bytes", "60KiB"}
	for _, c := range []struct {
		name  string
		serve []string
	}{
		{"tcp", []string{"--transport", "tcp"}},
		{"goroutines", []string{"--transport", "tcp", "--tcp-engine", "goroutine"}},
		{"tls", []string{"--transport", "tcp"}},
		{"uring", []string{"--transport", "uring"}},
		{"dispatched", []string{"--transport", "tcp", "--placement", "dispatched"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "uring" {
				testenv.Uring(t)
			}
			args := append([]string{"--dir", t.TempDir(), "--metrics", "127.0.0.1:0"}, c.serve...)
			sizes := append([]string{"--transport", "tcp"}, sizes...)
			if c.name == "tls" {
				pem, key := makeCertificate(t)
				args = append(args, "--tls-cert", pem, "--tls-key", key)
				sizes = append(sizes, "--tls-ca", pem)
			}
			s := startServer(t, args...)
			if err := runKvwire(t.Context(), append([]string{"load", "--target", s.hello.Listening}, sizes...)); err != nil {
				t.Fatal(err)
			}
			for _, protocol := range []string{"", "redis://"} {
				before, _ := s.scrape()
				if err := runKvwire(t.Context(), append([]string{"bench", "--target", protocol + s.hello.Listening, "--mix", "c",
					"--warmup", "0s", "--operations", "100"}, sizes...)); err != nil {
					t.Fatal(err)
				}
				after, _ := s.scrape()
				gets := sum(after, "requests_total") - sum(before, "requests_total") // and a few requests for the server's counters
				reads := sum(after, "disk_reads_total") - sum(before, "disk_reads_total")
				if gets < 30 || reads > gets || reads < gets-10 {
					t.Errorf("protocol %q: %.0f reads from the disk for %.0f requests", protocol, reads, gets)
				}
			}
			s.signal()
			s.end(0)
		})
	}
}

// makeCertificate writes the certificate and the key of a server on this machine.
func makeCertificate(t *testing.T) (pem, key string) {
	t.Helper()
	now := time.Now()
	c, k, err := access.Certificate(&x509.Certificate{DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pem, key = filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	for name, b := range map[string][]byte{pem: c, key: k} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return pem, key
}
