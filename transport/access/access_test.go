package access

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/wire"
)

const secret = "0123456789abcdef"

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		names string // of the entries; those that only read in parentheses
		err   string
	}{
		"lines, comments, blanks": {"# who\n\nann rw " + secret + "\n  bob\tro  " + secret + "x \r\n", "ann (bob)", ""},
		"no end of line":          {"ann rw " + secret, "ann", ""},
		"nothing":                 {"# nobody\n", "", "no line NAME"},
		"two words":               {"ann " + secret, "", "line 1: 2 words"},
		"four words":              {"\nann rw " + secret + " x", "", "line 2: 4 words"},
		"another right":           {"ann wo " + secret, "", "line 1: the second word"},
		"a short secret":          {"ann rw 0123456789abcde", "", "15 bytes: 16 to 64"},
		"a long secret":           {"ann rw " + strings.Repeat("x", 65), "", "65 bytes"},
		"a name with a colon":     {"a:b rw " + secret, "", "line 1: the name must be"},
		"a name of 65 bytes":      {strings.Repeat("n", 65) + " rw " + secret, "", "line 1: the name must be"},
		"a name twice":            {"ann rw " + secret + "\n#\nann ro " + secret, "", "line 3: line 1 has the same name"},
		"too much":                {strings.Repeat("#", FileBytesMax+1), "", "more than 64 KiB"},
		"too many": {func() (s string) {
			for i := range EntriesMax + 1 {
				s += fmt.Sprintf("n%d rw %s\n", i, secret)
			}
			return s
		}(), "", "line 257: more than 256 names"},
	} {
		l, err := Parse([]byte(c.text))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v, want %q, and no secret", name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var names []string
		for _, e := range l.entries {
			if e.ReadOnly {
				e.Name = "(" + e.Name + ")"
			}
			names = append(names, e.Name)
		}
		if got := strings.Join(names, " "); got != c.names {
			t.Errorf("%s: %q, want %q", name, got, c.names)
		}
	}
}

func TestReadFileRefusesAFileThatOthersCanRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(file, []byte("ann ro "+secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o604: false, 0o620: false} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadFile(file)
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "chmod 600 "+file) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	if _, err := ReadFile(file + "s"); err == nil {
		t.Error("a file that is not there")
	}
}

func TestProofs(t *testing.T) {
	ann, bob := Entry{Name: "ann", Secret: secret}, Entry{Name: "bob", ReadOnly: true, Secret: secret + "b"}
	l := NewList(ann, bob)
	said := NewTranscript([]byte("hello"), []byte("challenge"))
	other := NewTranscript([]byte("hello"), []byte("another challenge"))
	for name, c := range map[string]struct {
		by    string
		proof wire.Proof
		who   string
	}{
		"the right one":          {"ann", ann.ClientProof(said), "ann"},
		"another right one":      {"bob", bob.ClientProof(said), "bob"},
		"another's secret":       {"ann", bob.ClientProof(said), ""},
		"an unknown name":        {"eve", ann.ClientProof(said), ""},
		"no name":                {"", ann.ClientProof(said), ""},
		"the decoy":              {"", l.decoy.ClientProof(said), ""},
		"of another challenge":   {"ann", ann.ClientProof(other), ""},
		"the server's own":       {"ann", ann.ServerProof(said, nil), ""},
		"nothing but zero bytes": {"ann", wire.Proof{}, ""},
	} {
		who := ""
		if e := l.CheckProof(c.by, said, c.proof); e != nil {
			who = e.Name
		}
		if who != c.who {
			t.Errorf("%s: %q, want %q", name, who, c.who)
		}
	}
	if ann.ServerProof(said, []byte("a")) == ann.ServerProof(said, []byte("b")) {
		t.Error("a grant may be changed")
	}
}

func TestPasswords(t *testing.T) {
	ann, bob := Entry{Name: "ann", Secret: secret}, Entry{Name: "bob", Secret: secret + "b"}
	l := NewList(ann, bob)
	for _, c := range []struct{ name, secret, who string }{
		{"", secret, "ann"}, {"default", secret, "ann"}, {"ann", secret, "ann"}, {"bob", secret + "b", "bob"},
		{"", secret + "b", ""}, {"bob", secret, ""}, {"eve", secret, ""}, {"ann", "", ""}, {"eve", l.decoy.Secret, ""},
	} {
		who := ""
		if e := l.CheckPassword([]byte(c.name), []byte(c.secret)); e != nil {
			who = e.Name
		}
		if who != c.who {
			t.Errorf("%q with %q: %q, want %q", c.name, c.secret, who, c.who)
		}
	}
	if e := NewList(ann, Entry{Name: "default", Secret: secret + "d"}).CheckPassword([]byte("default"), []byte(secret)); e != nil {
		t.Errorf("%v comes in for default, which has a line of its own", e)
	}
}

func TestASecretIsNotPrinted(t *testing.T) {
	e := Entry{Name: "ann", Secret: secret}
	for _, verb := range []string{"%v", "%+v", "%s"} {
		if s := fmt.Sprintf(verb, e) + fmt.Sprintf(verb, &e); strings.Contains(s, secret) {
			t.Errorf("%s: %s", verb, s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("# who\n\nann rw " + secret + "\nbob ro " + secret + "\n"))
	f.Add([]byte("ann wo x\r\n"))
	f.Add([]byte("ann rw " + secret + "\nann rw " + secret))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := Parse(text)
		if err != nil {
			return
		}
		again := ""
		for _, e := range l.entries {
			again += e.Text()
		}
		m, err := Parse([]byte(again))
		if err != nil || len(m.entries) != len(l.entries) {
			t.Fatalf("%q came back as %q: %v", text, again, err)
		}
		for i := range l.entries {
			if m.entries[i] != l.entries[i] {
				t.Fatalf("%q came back as %q", text, again)
			}
		}
	})
}

func TestCertificatesOfRuns(t *testing.T) {
	certificate, key, err := NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ certificate, key []byte }{
		"no key":         {certificate, certificate},
		"no certificate": {key, key},
		"nothing":        {},
	} {
		if _, err := ServerTLS(c.certificate, c.key); err == nil {
			t.Errorf("%s: a server takes it", name)
		}
	}
	if _, err := ClientTLS(key, RunName); err == nil {
		t.Error("a client takes a key for a certificate")
	}
	server, err := ServerTLS(append(bytes.Clone(certificate), key...), append(bytes.Clone(certificate), key...)) // as a run tells it
	if err != nil {
		t.Fatal(err)
	}
	client, err := ClientTLS(certificate, RunName)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*tls.Config{server, client} {
		if c.MinVersion != tls.VersionTLS13 || c.InsecureSkipVerify {
			t.Errorf("%+v", c)
		}
	}
	// Certificates of a run on hosts whose clocks differ by hours.
	for _, at := range []time.Duration{-20 * time.Hour, 0, 29 * 24 * time.Hour} {
		if _, err := server.Certificates[0].Leaf.Verify(x509.VerifyOptions{Roots: client.RootCAs, DNSName: RunName, CurrentTime: time.Now().Add(at)}); err != nil {
			t.Errorf("%v from now: %v", at, err)
		}
	}
	large := filepath.Join(t.TempDir(), "large.pem")
	if err := os.WriteFile(large, append(certificate, make([]byte, FileBytesMax)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ClientTLSFile(large, ""); err == nil || !strings.Contains(err.Error(), "more than 64 KiB") {
		t.Errorf("a file of more than 64 KiB: %v", err)
	}
}
