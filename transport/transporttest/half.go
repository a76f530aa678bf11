package transporttest

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
)

// halfCloseTests are tests of clients that shut their sending half after their last request, and then read the answers.
var halfCloseTests = []test{
	{"HalfClosedClientsGetTheirAnswers", halfCloseAnswers},
	{"HalfClosedRespClientsGetTheirAnswers", halfCloseCommands},
	{"HalfClosedRespClientsGetAnswersThatWaitForMemory", halfCloseMemory},
	{"HalfClosedClientsThatLeaveAreRemoved", halfClosePeerGone},
}

// shutSend shuts the client's sending half.
func (c *raw) shutSend() {
	c.t.Helper()
	var err error
	if s, ok := c.Conn.(*tls.Conn); ok {
		if err = s.Handshake(); err == nil {
			err = s.CloseWrite()
		}
	}
	if err == nil {
		err = c.plain.CloseWrite()
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// runTurns waits until the server's only loop has handled all earlier events of other connections.
func (r *Rig) runTurns() {
	r.t.Helper()
	c := r.raw()
	for range 20 {
		c.sendText(command("PING"))
		c.expect("+PONG\r\n")
	}
	_ = c.Close()
}

// expectAll requires that text, and then the end.
func (c *raw) expectAll(want string) {
	c.t.Helper()
	c.expect(want)
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		c.t.Fatalf("behind the answers: %.100q (%v), want the end", rest, err)
	}
}

// frames returns n puts in the native protocol.
func frames(n int) (b []byte) {
	for i := range n {
		hd := wire.Header{Op: kv.OpPut, KeyBytes: 3, ValueBytes: 5, ID: uint64(i)}
		at := len(b)
		b = append(b, make([]byte, wire.HeaderBytes)...)
		hd.Encode(b[at:])
		b = append(b, fmt.Sprintf("k%02dvalue", i)...)
	}
	return b
}

func halfCloseAnswers(t *testing.T, n Network) {
	const puts = 6
	for _, rest := range [][]byte{nil, frames(1)[:20], frames(1)[:wire.HeaderBytes+4]} { // an incomplete message is ignored
		r := NewRig(t, n, 1, transport.ServerOptions{})
		p := r.Parts[0]
		p.Hold(t)
		c := r.connected(8)
		c.send(append(frames(puts), rest...))
		p.Await(t, puts)
		c.shutSend()
		r.runTurns()
		p.Release(t)
		b, err := io.ReadAll(c)
		if err != nil || len(b) != puts*wire.HeaderBytes {
			t.Fatalf("%d B of answers behind the end of input (%v), want %d", len(b), err, puts*wire.HeaderBytes)
		}
		for i := range puts {
			var hd wire.Header
			if err := hd.Decode(b[i*wire.HeaderBytes:]); err != nil || hd.ID != uint64(i) || hd.Status != kv.StatusOK {
				t.Fatalf("answer %d: %+v (%v)", i, hd, err)
			}
		}
		Until(t, "the end of the connection", func() bool { return r.conns() == 0 })
	}
}

// conns returns the number of the server's connections.
func (r *Rig) conns() (n int) {
	r.t.Helper()
	all, err := r.Server.Stats()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range all {
		n += s.Conns
	}
	return n
}

func halfCloseCommands(t *testing.T, n Network) {
	const many = 1000
	sets, oks := "", ""
	for i := range many {
		sets += command("SET", fmt.Sprintf("k%02d", i%90), fmt.Sprint(i))
		oks += "+OK\r\n"
	}
	for _, s := range []struct{ name, send, want string }{
		{"one", "PING\r\n", "+PONG\r\n"},
		{"nothing", "", ""},
		{"many", sets + command("DBSIZE") + command("SCAN", "0", "COUNT", "1"), oks},
		{"a command that is not whole", sets + command("SET", "half", "value")[:20], oks},
		{"its own end", "PING\r\nQUIT\r\nPING\r\n", "+PONG\r\n+OK\r\n"},
		{"an error", "PING\r\n*x\r\n", "+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"},
	} {
		t.Run(s.name, func(t *testing.T) {
			for _, held := range []bool{false, true} {
				r := NewRig(t, n, 1, transport.ServerOptions{})
				p := r.Parts[0]
				if held && s.name == "many" {
					p.Hold(t)
				}
				c := r.raw()
				c.send([]byte(s.send))
				c.shutSend()
				if held {
					r.runTurns()
					p.Release(t)
				}
				if s.name == "many" { // not the answer to DBSIZE, which the test does not know
					c.expect(s.want)
					if b, err := io.ReadAll(c); err != nil || strings.Count(string(b), "\r\n") < 2 {
						t.Fatalf("behind the answers: %q (%v), want two more", b, err)
					}
					continue
				}
				c.expectAll(s.want)
			}
		})
	}
}

func halfCloseMemory(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{PoolBytes: 5 << 20})
	large := string(Fill(1<<20, 1))
	c := r.raw()
	c.sendText(command("SET", "large", large))
	c.expect("+OK\r\n")
	const many = 24
	c.send([]byte(strings.Repeat(command("GET", "large"), many)))
	c.expect(bulk(large))
	c.shutSend()
	r.runTurns()
	c.expectAll(strings.Repeat(bulk(large), many-1))
}

// The server removes a connection whose peer has shut its sending half and then leaves.
func halfClosePeerGone(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	well := r.bystander()
	well()
	p := r.Parts[0]
	for _, reset := range []bool{false, true} {
		p.Hold(t)
		before := p.seen.Load()
		c := r.raw()
		c.send([]byte(command("SET", "k01", string(Fill(1<<20, 1))) + command("GET", "k01")))
		p.Await(t, before+1)
		c.shutSend()
		r.runTurns()
		if reset {
			c.reset()
		}
		_ = c.Close()
		p.Release(t)
		Until(t, "the end of the connection", func() bool { return r.conns() == 1 })
		well()
	}
}
