// Package access has the list of clients that may connect to a server: names, rights and secrets, from a file. It makes and checks the proofs by which
// both sides of a hello prove that they have the same secret without sending it (docs/adr/0016), and the configurations of TLS (docs/adr/0017). It may import
// wire, which has the lengths of names, nonces and proofs, and internal/textfile.
package access

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"strings"

	"github.com/kvwire/kvwire/internal/textfile"
	"github.com/kvwire/kvwire/wire"
)

// Bounds of the file and its entries. A secret is at most a block of SHA-256, so that all secrets take the same time.
const (
	FileBytesMax  = 64 << 10
	EntriesMax    = 256
	NameBytesMax  = wire.MaxNameBytes
	SecretMin     = 16
	SecretMax     = 64
	clientPurpose = "kvwire client v1"
	serverPurpose = "kvwire server v1"
)

// Entry is a client that may connect.
type Entry struct {
	Name     string
	ReadOnly bool
	Secret   string
}

// String returns the name, so that no error or log message contains a secret.
func (e Entry) String() string { return e.Name }

// Text returns the entry as a line of the file.
func (e Entry) Text() string {
	right := "rw"
	if e.ReadOnly {
		right = "ro"
	}
	return e.Name + " " + right + " " + e.Secret + "\n"
}

// Random makes an entry with a random secret.
func Random(name string) Entry { return Entry{Name: name, Secret: rand.Text() + rand.Text()} }

// List is the list of clients that may connect. It does not change, so any goroutine may use it.
type List struct {
	entries []Entry // in the file's order, at least one
	decoy   Entry   // for unknown names, so that their check takes the same time
}

// NewList makes a list of valid entries, at least one.
func NewList(entries ...Entry) *List { return &List{entries, Random("")} }

// ReadFile reads a file of lines NAME rw|ro SECRET. Only its owner may have the right to read it.
func ReadFile(file string) (*List, error) {
	text, err := read(file, true)
	if err != nil {
		return nil, err
	}
	l, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return l, nil
}

// read reads a small file. secret: only its owner may have the right to read it.
func read(file string, secret bool) ([]byte, error) {
	f, err := textfile.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if m := st.Mode().Perm(); secret && m&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, so other users can read its secrets: chmod 600 %s", file, m, file)
	}
	text, err := io.ReadAll(io.LimitReader(f, FileBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(text) > FileBytesMax {
		return nil, fmt.Errorf("%s: more than %d KiB", file, FileBytesMax>>10)
	}
	if text, err = textfile.Text(text); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return text, nil
}

// Parse parses the text of a file: lines NAME rw|ro SECRET, empty lines, and comments that begin with #. Errors contain the number of a line, never
// its text.
func Parse(text []byte) (*List, error) {
	if len(text) > FileBytesMax {
		return nil, fmt.Errorf("more than %d KiB", FileBytesMax>>10)
	}
	var entries []Entry
	lines := map[string]int{} // of names
	for i, line := range bytes.Split(text, []byte("\n")) {
		line, n := strings.TrimSpace(string(line)), i+1
		if line == "" || line[0] == '#' {
			continue
		}
		e, err := parseLine(line)
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", n, err)
		case lines[e.Name] > 0:
			return nil, fmt.Errorf("line %d: line %d has the same name", n, lines[e.Name])
		case len(entries) == EntriesMax:
			return nil, fmt.Errorf("line %d: more than %d names", n, EntriesMax)
		}
		lines[e.Name] = n
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("the file has no line NAME rw|ro SECRET")
	}
	return NewList(entries...), nil
}

func parseLine(line string) (e Entry, err error) {
	words := strings.Fields(line)
	if len(words) != 3 {
		return e, fmt.Errorf("%d words: it must be NAME rw|ro SECRET", len(words))
	}
	e = Entry{Name: words[0], ReadOnly: words[1] == "ro", Secret: words[2]}
	switch {
	case len(e.Name) > NameBytesMax || strings.ContainsFunc(e.Name, func(c rune) bool { return c <= ' ' || c > '~' || c == ':' || c == '@' }):
		return e, fmt.Errorf("the name must be 1 to %d ASCII letters, digits and signs, without : and @", NameBytesMax)
	case !e.ReadOnly && words[1] != "rw":
		return e, fmt.Errorf("the second word must be rw (the client may change data) or ro (it may only read)")
	case len(e.Secret) < SecretMin || len(e.Secret) > SecretMax:
		return e, fmt.Errorf("a secret of %d bytes: %d to %d (openssl rand -hex 16)", len(e.Secret), SecretMin, SecretMax)
	}
	return e, nil
}

// Entry returns a client's entry; if name is empty, the first one.
func (l *List) Entry(name string) (Entry, error) {
	if name == "" {
		return l.entries[0], nil
	}
	e, known := l.find(name)
	if !known {
		return Entry{}, fmt.Errorf("no line has the name %q", name)
	}
	return *e, nil
}

// find returns the entry of a name, or the decoy for an unknown name. It compares with all names, so that its time does not depend on them.
func (l *List) find(name string) (e *Entry, known bool) {
	e = &l.decoy
	for i := range l.entries {
		if subtle.ConstantTimeCompare([]byte(name), []byte(l.entries[i].Name)) == 1 {
			e, known = &l.entries[i], true
		}
	}
	return e, known
}

// Transcript is the SHA-256 of the messages before a proof, as they were sent: the client's hello and the server's challenge. It covers the
// nonces and all else that a man in the middle could change.
type Transcript [sha256.Size]byte

// NewTranscript computes the transcript of a hello and a challenge.
func NewTranscript(hello, challenge []byte) (t Transcript) {
	h := sha256.New()
	h.Write(hello)
	h.Write(challenge)
	h.Sum(t[:0])
	return t
}

// ClientProof returns a client's answer to a challenge: HMAC-SHA-256 over the transcript.
func (e *Entry) ClientProof(t Transcript) wire.Proof { return e.prove(clientPurpose, t, nil) }

// ServerProof returns the proof that follows a server's grant: HMAC-SHA-256 over the transcript and the grant, for another purpose. So a client's
// proof that is sent back is not a valid proof of the server.
func (e *Entry) ServerProof(t Transcript, grant []byte) wire.Proof {
	return e.prove(serverPurpose, t, grant)
}

func (e *Entry) prove(purpose string, t Transcript, more []byte) (p wire.Proof) {
	h := hmac.New(sha256.New, []byte(e.Secret))
	h.Write([]byte(purpose)) // both have the same length
	h.Write(t[:])
	h.Write(more)
	h.Sum(p[:0])
	return p
}

// CheckProof returns the entry of a name whose proof is valid; else nil. It takes the same time for a wrong name as for a wrong secret.
func (l *List) CheckProof(name string, t Transcript, proof wire.Proof) *Entry {
	e, known := l.find(name)
	want := e.ClientProof(t)
	if !hmac.Equal(want[:], proof[:]) || !known {
		return nil
	}
	return e
}

// CheckPassword returns the entry of a name with that secret, in plain text as Redis clients send it; else nil. An empty name, or the name default, which
// Redis clients use if none is set, means the first entry, unless there is an entry of that name.
func (l *List) CheckPassword(name, secret []byte) *Entry {
	e, known := l.find(string(name))
	if !known && (len(name) == 0 || string(name) == "default") {
		e, known = &l.entries[0], true
	}
	want, got := sha256.Sum256([]byte(e.Secret)), sha256.Sum256(secret)
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || !known {
		return nil
	}
	return e
}
