// Package access says who may connect to a server: names, rights and secrets, from a file, and the proofs by which both sides of a
// hello show that they know a secret without telling it (docs/adr/0016). It may import wire, which has the lengths of what is sent, and internal/textfile.
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

// Bounds of the file and of what is in it. A secret is at most a block of SHA-256, so that one takes as long as another.
const (
	FileBytesMax  = 64 << 10
	EntriesMax    = 256
	NameBytesMax  = wire.MaxNameBytes
	SecretMin     = 16
	SecretMax     = 64
	clientPurpose = "kvwire client v1"
	serverPurpose = "kvwire server v1"
)

// Entry is one who may connect.
type Entry struct {
	Name     string
	ReadOnly bool
	Secret   string
}

// String is the name: a secret is in no error and no log.
func (e Entry) String() string { return e.Name }

// Text is the entry as a line of the file.
func (e Entry) Text() string {
	right := "rw"
	if e.ReadOnly {
		right = "ro"
	}
	return e.Name + " " + right + " " + e.Secret + "\n"
}

// Random makes an entry that nobody knows.
func Random(name string) Entry { return Entry{Name: name, Secret: rand.Text() + rand.Text()} }

// List are those who may connect. It does not change, and is for any goroutine.
type List struct {
	entries []Entry // in the file's order, at least one
	decoy   Entry   // for unknown names, so that these take as long as others
}

// NewList makes a list of entries that are known to be good: at least one.
func NewList(entries ...Entry) *List { return &List{entries, Random("")} }

// ReadFile reads a file of lines NAME rw|ro SECRET, which nobody but its owner may read.
func ReadFile(file string) (*List, error) {
	text, err := read(file, true)
	if err != nil {
		return nil, err
	}
	l, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("access: %s: %w", file, err)
	}
	return l, nil
}

// read reads a small file: one that nobody but its owner may read, if it is secret.
func read(file string, secret bool) ([]byte, error) {
	f, err := textfile.Open(file)
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	if m := st.Mode().Perm(); secret && m&0o077 != 0 {
		return nil, fmt.Errorf("access: %s has mode %04o, and secrets are nobody else's affair: chmod 600 %s", file, m, file)
	}
	text, err := io.ReadAll(io.LimitReader(f, FileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	if len(text) > FileBytesMax {
		return nil, fmt.Errorf("access: %s: more than %d KiB", file, FileBytesMax>>10)
	}
	if text, err = textfile.Text(text); err != nil {
		return nil, fmt.Errorf("access: %s: %w", file, err)
	}
	return text, nil
}

// Parse reads the text of a file: lines NAME rw|ro SECRET, empty ones, and comments that begin with #. Errors name a line, and never
// what is in it.
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
			return nil, fmt.Errorf("line %d: the name of line %d once more", n, lines[e.Name])
		case len(entries) == EntriesMax:
			return nil, fmt.Errorf("line %d: more than %d names", n, EntriesMax)
		}
		lines[e.Name] = n
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("there is no line NAME rw|ro SECRET in it")
	}
	return NewList(entries...), nil
}

func parseLine(line string) (e Entry, err error) {
	words := strings.Fields(line)
	if len(words) != 3 {
		return e, fmt.Errorf("%d words: NAME rw|ro SECRET", len(words))
	}
	e = Entry{Name: words[0], ReadOnly: words[1] == "ro", Secret: words[2]}
	switch {
	case len(e.Name) > NameBytesMax || strings.ContainsFunc(e.Name, func(c rune) bool { return c <= ' ' || c > '~' || c == ':' || c == '@' }):
		return e, fmt.Errorf("a name is 1 to %d ASCII letters, digits and signs, without : and @", NameBytesMax)
	case !e.ReadOnly && words[1] != "rw":
		return e, fmt.Errorf("the second word is rw (may change what is stored) or ro (may read it)")
	case len(e.Secret) < SecretMin || len(e.Secret) > SecretMax:
		return e, fmt.Errorf("a secret of %d bytes: %d to %d (openssl rand -hex 16)", len(e.Secret), SecretMin, SecretMax)
	}
	return e, nil
}

// Entry gives a client its entry: the first one where name is empty.
func (l *List) Entry(name string) (Entry, error) {
	if name == "" {
		return l.entries[0], nil
	}
	e, known := l.find(name)
	if !known {
		return Entry{}, fmt.Errorf("access: no line has the name %q", name)
	}
	return *e, nil
}

// find gives an unknown name the decoy. It compares with all names, so that its time tells nothing of them.
func (l *List) find(name string) (e *Entry, known bool) {
	e = &l.decoy
	for i := range l.entries {
		if subtle.ConstantTimeCompare([]byte(name), []byte(l.entries[i].Name)) == 1 {
			e, known = &l.entries[i], true
		}
	}
	return e, known
}

// Transcript is what both sides have said before a proof: SHA-256 of the client's hello and the server's challenge, as they were sent. The
// nonces are in it, and all else that somebody between might change.
type Transcript [sha256.Size]byte

// NewTranscript makes it.
func NewTranscript(hello, challenge []byte) (t Transcript) {
	h := sha256.New()
	h.Write(hello)
	h.Write(challenge)
	h.Sum(t[:0])
	return t
}

// ClientProof is what a client answers to a challenge: HMAC-SHA-256 over the transcript.
func (e *Entry) ClientProof(t Transcript) wire.Proof { return e.prove(clientPurpose, t, nil) }

// ServerProof is what a server puts behind its grant: the same over the transcript and the grant, for another purpose, so that a proof
// that was sent one way is none when it is sent back.
func (e *Entry) ServerProof(t Transcript, grant []byte) wire.Proof {
	return e.prove(serverPurpose, t, grant)
}

func (e *Entry) prove(purpose string, t Transcript, more []byte) (p wire.Proof) {
	h := hmac.New(sha256.New, []byte(e.Secret))
	h.Write([]byte(purpose)) // of one length
	h.Write(t[:])
	h.Write(more)
	h.Sum(p[:0])
	return p
}

// CheckProof gives whose proof that is; nil: nobody's. Its time does not tell a wrong name from a wrong secret.
func (l *List) CheckProof(name string, t Transcript, proof wire.Proof) *Entry {
	e, known := l.find(name)
	want := e.ClientProof(t)
	if !hmac.Equal(want[:], proof[:]) || !known {
		return nil
	}
	return e
}

// CheckPassword gives whose secret that is, told in plain as Redis's clients do; nil: nobody's. Without a name, or by the name default, which
// clients of Redis have by themselves, it is the first entry's, unless there is one of that name.
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
