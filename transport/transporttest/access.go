package transporttest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/wire"
)

// accessTests are the tests of authentication by the hello.
var accessTests = []test{
	{"ClientsWithTheSecretConnect", withSecret},
	{"ClientsWithoutTheSecretAreRefused", withoutSecret},
	{"ReadOnlyClientsCannotWrite", readOnlyClients},
}

// helloTests are those in which the test sends parts of the hello itself, by TCP.
var helloTests = []test{
	{"ServersWithoutTheSecretAreRejected", impostors},
	{"NoServerDataBeforeTheProof", noDataBeforeProof},
	{"ReplayedProofsAreRefused", replays},
	{"InvalidProofsAreRefused", badProofs},
	{"UnauthenticatedClientsMeetTheDeadline", waits(unauthenticated)},
}

// respAccessTests are the tests of authentication by Redis's protocol.
var respAccessTests = []test{
	{"RespClientsAuthenticate", respAuth},
	{"RespReadOnlyClientsCannotWrite", respReadOnly},
	{"RespUnauthenticatedClientsMeetTheDeadline", respUnauthenticated},
	{"RespDialAuthenticates", respDialAuth},
}

var (
	ann = access.Entry{Name: "ann", Secret: "the secret of ann"}
	bob = access.Entry{Name: "bob", Secret: "the secret of bob", ReadOnly: true}
	eve = access.Entry{Name: "eve", Secret: "the secret of eve"} // not in the list
)

// newAccessRig is NewRig for a server whose list has ann and bob. Dial connects as ann.
func newAccessRig(t *testing.T, n Network, loops int, o transport.ServerOptions) *Rig {
	t.Helper()
	o.Access = access.NewList(ann, bob)
	r := NewRig(t, n, loops, o)
	r.as = &ann
	return r
}

func withSecret(t *testing.T, n Network) {
	r := newAccessRig(t, n, 2, transport.ServerOptions{})
	for _, who := range []*access.Entry{&ann, &bob} {
		for _, want := range []int{transport.AnyLoop, 0, 1} {
			k := r.Dial(transport.DialOptions{Loop: want, Access: who})
			h := k.Hello()
			if want >= 0 && int(h.Loop) != want || h.Loops != 2 || h.Features&wire.FeatureAccess == 0 {
				t.Errorf("%v asks for loop %d and is granted %+v", who, want, h)
			}
			c := NewCaller(t, r.Loop, k)
			c.Expect(Get("none", 10), kv.StatusNotFound)
		}
	}
	r.bystander()()
	if r.Denied(t) != 0 || len(r.Logs()) > 0 {
		t.Errorf("%d were denied, and the log has %q", r.Denied(t), r.Logs())
	}
}

// Denied returns the server's count of denied connections.
func (r *Rig) Denied(t *testing.T) (n uint64) {
	t.Helper()
	for _, l := range r.group.All() {
		s, err := transport.ReadCounters(l)
		if err != nil {
			t.Fatal(err)
		}
		n += s.Denied
	}
	return n
}

func withoutSecret(t *testing.T, n Network) {
	guarded, open := newAccessRig(t, n, 2, transport.ServerOptions{}), NewRig(t, n, 1, transport.ServerOptions{})
	well := guarded.bystander()
	for name, c := range map[string]struct {
		at   *Rig
		who  *access.Entry
		code wire.Code
	}{
		"another secret":                  {guarded, &access.Entry{Name: "ann", Secret: eve.Secret}, wire.RefusedAccess},
		"another's secret":                {guarded, &access.Entry{Name: "ann", Secret: bob.Secret}, wire.RefusedAccess},
		"a secret but for its end":        {guarded, &access.Entry{Name: "ann", Secret: ann.Secret[:len(ann.Secret)-1]}, wire.RefusedAccess},
		"an unknown name":                 {guarded, &eve, wire.RefusedAccess},
		"no name":                         {guarded, &access.Entry{Secret: ann.Secret}, wire.RefusedAccess},
		"a secret, at a server with none": {open, &ann, wire.RefusedFeature},
	} {
		_, err := c.at.TryDial(transport.DialOptions{Access: c.who})
		var refusal *transport.Refusal
		if !errors.As(err, &refusal) || refusal.Code != c.code || refusal.Reason == "" {
			t.Errorf("%s: %v", name, err)
		}
		well()
	}
	guarded.as = nil
	var refusal *transport.Refusal
	if _, err := guarded.TryDial(transport.DialOptions{}); !errors.As(err, &refusal) || refusal.Code != wire.RefusedAccess {
		t.Errorf("nobody: %v", err)
	}
	if got := guarded.Denied(t); got != 6 {
		t.Errorf("%d were denied, want 6", got)
	}
	guarded.Logged(6, "connection denied")
	for _, l := range guarded.Logs() {
		if strings.Contains(l, "secret of") {
			t.Errorf("a secret is in the log: %s", l)
		}
	}
}

// impostors: a client rejects servers that grant a connection without a valid proof of the secret.
func impostors(t *testing.T, n Network) {
	grant := wire.ServerHello{Version: wire.Version, Depth: 1, MaxKeyBytes: 100, MaxValueBytes: 100, Loops: 1, Shards: []uint16{0}}
	challenge := wire.ServerHello{Version: wire.Version, Code: wire.Challenged, Params: make([]byte, wire.NonceBytes)}
	sealed := grant
	sealed.Features = wire.FeatureAccess
	seal := func(by access.Entry) []byte {
		return sealed.AppendSealed(nil, func(said []byte) wire.Proof { return by.ServerProof(access.Transcript{}, said) })
	}
	r := newAccessRig(t, n, 1, transport.ServerOptions{})
	for name, says := range map[string][][]byte{
		"that grants at once":                   {grant.Append(nil)},
		"that grants after a challenge":         {challenge.Append(nil), grant.Append(nil)},
		"with a proof of nothing":               {challenge.Append(nil), seal(ann)},
		"with another's proof":                  {challenge.Append(nil), seal(bob)},
		"that grants at once, with a proof":     {seal(ann)},
		"that challenges, and challenges again": {challenge.Append(nil), challenge.Append(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			addr := n.listen()
			l, err := net.Listen(goNet(addr))
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(WaitMax))
				if n.ServerTLS != nil {
					c = tls.Server(c, n.ServerTLS)
				}
				for _, b := range says {
					if _, err := readMessage(c); err != nil {
						return
					}
					if _, err := c.Write(b); err != nil {
						return
					}
				}
				_, _ = io.Copy(io.Discard, c)
			}()
			if !n.unix() {
				addr = l.Addr().String() // where port 0 has picked one
			}
			k, err := n.Dial(t.Context(), r.Loop, addr, transport.DialOptions{Access: &ann, Depth: 4, DialMax: WaitMax})
			if err == nil {
				k.Hangup()
				t.Fatal("the client goes on with it")
			}
			var refusal *transport.Refusal
			if !errors.Is(err, transport.ErrImpostor) && !(errors.As(err, &refusal) && refusal.Code == wire.Challenged) {
				t.Fatal(err)
			}
			_ = l.Close()
			<-done
		})
	}
}

// readMessage reads a message of the hello, and no further byte.
func readMessage(c io.Reader) ([]byte, error) {
	var b []byte
	for {
		n, err := wire.HelloBytes(b)
		if err != nil || n > 0 && n == len(b) {
			return b, err
		}
		if n == 0 {
			n = len(b) + 1
		}
		from := len(b)
		b = append(b, make([]byte, n-from)...)
		if _, err := io.ReadFull(c, b[from:]); err != nil {
			return b, err
		}
	}
}

// helloOf returns a client's hello with a name, for a loop.
func helloOf(loop uint16, name string) wire.ClientHello {
	return wire.ClientHello{Version: wire.Version, Required: wire.FeatureAccess, Depth: 4, Loop: loop, Name: name, Nonce: [wire.NonceBytes]byte{1}}
}

// challenge sends a hello, and returns the transcript that the proof must cover.
func (c *raw) challenge(hello wire.ClientHello) access.Transcript {
	c.t.Helper()
	said := hello.Append(nil)
	c.send(said)
	b, err := readMessage(c)
	var h wire.ServerHello
	if err == nil {
		err = h.Decode(b)
	}
	if err != nil || h.Code != wire.Challenged {
		c.t.Fatalf("%v (%q): %v", h.Code, h.Reason, err)
	}
	return access.NewTranscript(said, b)
}

func noDataBeforeProof(t *testing.T, n Network) {
	r := newAccessRig(t, n, 2, transport.ServerOptions{})
	seen := map[string]bool{}
	for _, loop := range []uint16{0, 1, 0, 7, wire.AnyLoop} {
		for _, name := range []string{"ann", "eve"} {
			c := r.raw()
			hello := helloOf(loop, name)
			c.send(hello.Append(nil))
			h := c.hello()
			nonce := h.Params
			h.Params = nil
			if want := (wire.ServerHello{Version: wire.Version, Code: wire.Challenged}); !reflect.DeepEqual(h, want) || seen[string(nonce)] {
				t.Errorf("loop %d, %s: %+v with the nonce %x is told", loop, name, h, nonce)
			}
			seen[string(nonce)] = true
			_ = c.Close()
		}
	}
	// Only an authenticated client learns that a loop does not exist.
	c := r.raw()
	proof := ann.ClientProof(c.challenge(helloOf(7, "ann")))
	c.send(proof.Append(nil))
	if h := c.hello(); h.Code != wire.RefusedLoop {
		t.Errorf("loop 7: %v", h.Code)
	}
	c.expectEnd()
}

func replays(t *testing.T, n Network) {
	r := newAccessRig(t, n, 1, transport.ServerOptions{})
	well := r.bystander()
	c := r.raw()
	proof := ann.ClientProof(c.challenge(helloOf(0, "ann")))
	c.send(proof.Append(nil))
	if h := c.hello(); h.Code == wire.RefusedAccess { // the parameters of the network are not in this hello
		t.Fatalf("the right proof: %v", h.Code)
	}
	_ = c.Close()
	for _, name := range []string{"ann", "bob", "eve"} {
		c := r.raw()
		c.challenge(helloOf(0, name))
		c.send(proof.Append(nil))
		if h := c.hello(); h.Code != wire.RefusedAccess || h.Depth != 0 || h.Loops != 0 || h.Params != nil {
			t.Errorf("%s, with a proof of before: %+v", name, h)
		}
		c.expectEnd()
	}
	well()
}

func badProofs(t *testing.T, n Network) {
	r := newAccessRig(t, n, 1, transport.ServerOptions{})
	well := r.bystander()
	hello := helloOf(0, "ann")
	short := append(bytes.Clone(wire.Magic[:]), 16, 0)
	for name, c := range map[string]struct {
		after func(said access.Transcript) []byte
		code  wire.Code
	}{
		"a truncated one": {func(said access.Transcript) []byte {
			p := ann.ClientProof(said)
			return append(short, p[:16]...)
		}, wire.RefusedGarbage},
		"an empty one":  {func(access.Transcript) []byte { return append(bytes.Clone(wire.Magic[:]), 0, 0) }, wire.RefusedGarbage},
		"another hello": {func(access.Transcript) []byte { return hello.Append(nil) }, wire.RefusedGarbage},
		"a command":     {func(access.Transcript) []byte { return []byte(command("PING")) }, wire.RefusedGarbage},
		"a server's": {func(said access.Transcript) []byte {
			p := ann.ServerProof(said, nil)
			return p.Append(nil)
		}, wire.RefusedAccess},
		"one with something behind it": {func(said access.Transcript) []byte {
			p := ann.ClientProof(said)
			return append(p.Append(nil), 0)
		}, wire.RefusedGarbage},
	} {
		k := r.raw()
		k.send(c.after(k.challenge(hello)))
		if h := k.hello(); h.Code != c.code {
			t.Errorf("%s: %v, want %v", name, h.Code, c.code)
		}
		k.expectEnd()
		well()
	}
	// Before the challenge has come, in one piece with the hello, and in one of its own.
	p := wire.Proof{}
	k := r.raw()
	k.send(append(hello.Append(nil), p.Append(nil)...))
	if h := k.hello(); h.Code != wire.RefusedGarbage {
		t.Errorf("a hello and a proof at once: %v", h.Code)
	}
	k.expectEnd()
	k = r.raw()
	k.send(hello.Append(nil))
	k.send(p.Append(nil))
	for _, want := range []wire.Code{wire.Challenged, wire.RefusedAccess} {
		if h := k.hello(); h.Code != want && h.Code != wire.RefusedGarbage { // or both were received at once
			t.Errorf("a proof that does not wait: %v, want %v", h.Code, want)
		} else if h.Code == wire.RefusedGarbage {
			break
		}
	}
	k.expectEnd()
	well()
}

func unauthenticated(t *testing.T, n Network) {
	r := newAccessRig(t, n, 1, transport.ServerOptions{HelloMax: Stall})
	well := r.bystander()
	silent, half, drips := r.raw(), r.raw(), r.raw()
	silent.challenge(helloOf(0, "ann"))
	half.challenge(helloOf(0, "ann"))
	p := wire.Proof{}
	half.send(p.Append(nil)[:20])
	drips.challenge(helloOf(0, "eve"))
	go func() { // each byte in time, but never all
		tick := time.NewTicker(Stall / 10)
		defer tick.Stop()
		for _, b := range p.Append(nil)[:37] {
			if _, err := drips.Write([]byte{b}); err != nil {
				return
			}
			<-tick.C
		}
	}()
	well()
	silent.expectEnd()
	half.expectEnd()
	drips.expectEnd()
	well()
	r.Logged(3, "no hello within")
}

func readOnlyClients(t *testing.T, n Network) {
	r := newAccessRig(t, n, 2, transport.ServerOptions{})
	well := r.bystander()
	owner := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	owner.Expect(Put("k01", []byte("one")), kv.StatusOK)
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Access: &bob}))
	seen := r.Parts[0].seen.Load() + r.Parts[1].seen.Load()
	for _, value := range [][]byte{nil, []byte("two"), Fill(100_000, 1)} {
		c.Expect(Put("k01", value), kv.StatusReadOnly)
		c.Expect(Put("k02", value), kv.StatusReadOnly)
	}
	c.Expect(&kv.Request{Op: kv.OpDelete, Key: []byte("k01")}, kv.StatusReadOnly)
	if now := r.Parts[0].seen.Load() + r.Parts[1].seen.Load(); now != seen {
		t.Errorf("%d of them came to a partition", now-seen)
	}
	if got := c.Expect(Get("k01", 10), kv.StatusOK); string(got.Value) != "one" {
		t.Errorf("get gives %q", got.Value)
	}
	c.Expect(Get("k02", 10), kv.StatusNotFound)
	scan := c.Expect(&kv.Request{Op: kv.OpScan, Limit: 10, Value: make([]byte, 0, 1000)}, kv.StatusOK)
	if k, _, _, _ := kv.NextItem(scan.Value); string(k) != "k01" {
		t.Errorf("scan gives %q", scan.Value)
	}
	// Many at once, together with reads.
	for range 100 {
		c.Submit(Put("k01", []byte("three")), Get("k01", 10))
	}
	for range 200 {
		switch q := c.Next(); {
		case q.Op == kv.OpPut && q.Status != kv.StatusReadOnly, q.Op == kv.OpGet && (q.Status != kv.StatusOK || string(q.Value) != "one"):
			t.Fatalf("%v: %v %q", q.Op, q.Status, q.Value)
		}
	}
	well()
}

const (
	noAuth    = "-NOAUTH Authentication required.\r\n"
	wrongPass = "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
)

func respAuth(t *testing.T, n Network) {
	r := newAccessRig(t, n, 2, transport.ServerOptions{})
	well := r.bystander()
	all := noAuth + noAuth + noAuth + "+OK\r\n$-1\r\n"
	for name, s := range map[string]struct{ send, want string }{
		"a secret": {command("PING") + command("GET", "k") + command("FLUSHALL") + command("AUTH", ann.Secret) + command("GET", "k"), all},
		"a name and a secret": {"PING\r\n" + command("INFO") + command("CLIENT", "LIST") + command("KEYS", "*") + command("RANDOMKEY") + command("MSET", "a", "1", "b", "2") + command("AUTH", "ann", ann.Secret) + command("GET", "a"),
			noAuth + noAuth + noAuth + all},
		"default's":              {command("AUTH", "default", ann.Secret) + command("PING"), "+OK\r\n+PONG\r\n"},
		"a reader's":             {command("AUTH", "bob", bob.Secret) + command("PING"), "+OK\r\n+PONG\r\n"},
		"another secret":         {command("AUTH", eve.Secret) + command("AUTH", "ann", bob.Secret) + command("PING"), wrongPass + wrongPass + noAuth},
		"an unknown name":        {command("AUTH", "eve", eve.Secret) + command("PING"), wrongPass + noAuth},
		"who is in stays":        {command("AUTH", "ann", ann.Secret) + command("AUTH", "eve", eve.Secret) + command("PING"), "+OK\r\n" + wrongPass + "+PONG\r\n"},
		"RESET is out":           {command("AUTH", ann.Secret) + command("RESET") + command("PING"), "+OK\r\n+RESET\r\n" + noAuth},
		"too many words":         {command("AUTH", "a", "b", "c") + command("PING"), "-ERR syntax error\r\n" + noAuth},
		"HELLO with a secret":    {command("HELLO", "2", "AUTH", "ann", ann.Secret, "SETNAME", "me") + command("QUIT"), "*14\r\n$6\r\nserver\r\n"},
		"HELLO with another one": {command("HELLO", "3", "AUTH", "ann", eve.Secret) + command("PING"), wrongPass + noAuth},
		"HELLO alone":            {command("HELLO", "3") + command("PING"), "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time\r\n" + noAuth},
		"QUIT":                   {command("QUIT"), "+OK\r\n"},
		"no such command":        {command("LPUSH", "k"), "-ERR unknown command 'LPUSH', with args beginning with: 'k' \r\n"},
		"a large command":        {"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n", "-ERR Protocol error: unauthenticated bulk length\r\n"},
	} {
		c := r.raw()
		c.sendText(s.send)
		got := make([]byte, len(s.want))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != s.want {
			t.Errorf("%s: %q (%v), want %q", name, got, err, s.want)
		}
		_ = c.Close()
		well()
	}
	if got := r.Denied(t); got != 6 {
		t.Errorf("%d were denied, want 6", got)
	}
	// Without authentication AUTH returns an error.
	c := NewRig(t, n, 1, transport.ServerOptions{}).raw()
	c.sendText(command("AUTH", ann.Secret))
	c.expect("-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n")
}

func respReadOnly(t *testing.T, n Network) {
	r := newAccessRig(t, n, 1, transport.ServerOptions{})
	c := r.raw()
	c.sendText(command("AUTH", ann.Secret) + command("MSET", "k01", "1", "k02", "2"))
	c.expect("+OK\r\n+OK\r\n")
	k := r.raw()
	k.sendText(command("AUTH", "bob", bob.Secret))
	k.expect("+OK\r\n")
	large := strings.Repeat("x", 100_000)
	for _, words := range [][]string{{"set", "k01", "x"}, {"set", "k01", large}, {"set", "new", "x", "NX"}, {"set", "k01", "x", "GET"}, {"getset", "k01", "x"}, {"mset", "k01", "x", "k02", "x"},
		{"del", "k01", "k02"}, {"unlink", "k01"}, {"append", "k01", "x"}, {"incr", "k01"}, {"decr", "k01"}, {"incrby", "k01", "5"}, {"decrby", "k01", "5"}, {"flushall"}, {"flushdb"}} {
		k.sendText(command(words...))
		k.expect(fmt.Sprintf("-NOPERM User bob has no permissions to run the '%s' command\r\n", words[0]))
	}
	k.sendText(command("CLIENT", "LIST") + command("CLIENT", "LIST", "ID", "1") + command("CLIENT", "GETNAME"))
	k.expect(strings.Repeat("-NOPERM User bob has no permissions to run the 'client|list' command\r\n", 2) + "$-1\r\n")
	k.sendText(command("KEYS", "k?1"))
	k.expect("*1\r\n" + bulk("k01"))
	k.sendText(command("MGET", "k01", "k02", "new") + command("SCAN", "0") + command("EXISTS", "k01"))
	k.expect("*3\r\n" + bulk("1") + bulk("2") + "$-1\r\n*2\r\n" + bulk("0") + "*2\r\n" + bulk("k01") + bulk("k02") + ":1\r\n")
}

// respUnauthenticated: clients that keep sending commands and never authenticate.
func respUnauthenticated(t *testing.T, n Network) {
	r := newAccessRig(t, n, 1, transport.ServerOptions{HelloMax: Stall})
	well := r.bystander()
	asks, half := r.raw(), r.raw()
	half.sendText("*2\r\n$4\r\nAUTH\r\n$20\r\nthe ")
	in := r.raw()
	in.sendText(command("AUTH", ann.Secret))
	in.expect("+OK\r\n")
	go func() {
		for rest := bufio.NewReader(asks); ; {
			if _, err := io.WriteString(asks, command("PING")); err != nil {
				return
			}
			if _, err := rest.ReadString('\n'); err != nil {
				return
			}
		}
	}()
	half.expectEnd()
	r.Logged(2, "no hello within")
	in.sendText(command("PING")) // the authenticated client stays
	in.expect("+PONG\r\n")
	well()
}

// respDialAuth: DialOptions.Redis with a server that requires authentication.
func respDialAuth(t *testing.T, n Network) {
	r := newAccessRig(t, n, 1, transport.ServerOptions{})
	for _, who := range []access.Entry{ann, {Secret: ann.Secret}} {
		c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Redis: true, Access: &who}))
		c.Expect(Put("k", []byte("v")), kv.StatusOK)
		c.Expect(Get("k", 10), kv.StatusOK)
	}
	c := NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Redis: true, Access: &bob}))
	c.Expect(Put("k", []byte("w")), kv.StatusReadOnly)
	c.Expect(Get("k", 10), kv.StatusOK)
	r.as = nil
	for name, who := range map[string]*access.Entry{"WRONGPASS": &eve, "NOAUTH": nil} {
		if _, err := r.TryDial(transport.DialOptions{Redis: true, Access: who}); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "secret of") {
			t.Errorf("%v: %v", who, err)
		}
	}
}
