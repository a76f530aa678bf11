//go:build rdma && cgo && linux

package rdma

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma/valkey"
	"github.com/kvwire/kvwire/transport"
	tt "github.com/kvwire/kvwire/transport/transporttest"
)

// textConn is a connection with Valkey's protocol on which a test sends any commands.
type textConn struct{ *blocking }

// CloseWrite is for transporttest. A queue pair has no sending half that could be shut.
func (textConn) CloseWrite() error { return transport.ErrClosed }

// dialText connects to a server. If l is nil, it makes a loop.
func dialText(o Options) func(testing.TB, *loop.Loop, string) net.Conn {
	return func(t testing.TB, l *loop.Loop, addr string) net.Conn {
		t.Helper()
		if l == nil {
			var err error
			if l, err = loop.Start(loop.Options{Sleep: loop.SleepEpoll}, nil); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Stop() })
		}
		opts, err := o.Defaults()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), tt.WaitMax)
		defer cancel()
		b, err := connectRESP(ctx, l, addr, opts)
		if err != nil {
			t.Fatal(err)
		}
		return textConn{b}
	}
}

// needRESP is need, for connections with Valkey's protocol.
func needRESP(t testing.TB, o Options) tt.Network {
	o.Connect = ByCM
	n := need(t, o)
	n.RESP, n.RESPAllocates = dialText(o), true
	return n
}

// TestRESPServer runs the conformance tests of Redis's protocol over Valkey's.
func TestRESPServer(t *testing.T) { tt.RunRESP(t, needRESP(t, Options{})) }

// TestRESPClient runs those of a client with Redis's protocol.
func TestRESPClient(t *testing.T) { tt.RunRedis(t, needRESP(t, Options{})) }

// TestRESPWithEachVerb: the server's verb is for its own clients, and a shared receive queue, too.
func TestRESPWithEachVerb(t *testing.T) {
	for name, o := range map[string]Options{"write": {Verb: Write}, "read": {Verb: Read}, "write-poll": {Verb: WritePoll}, "shared receive queue": {SRQ: true}} {
		t.Run(name, func(t *testing.T) {
			n := needRESP(t, o)
			if o.Verb == WritePoll {
				if tt.Emulated && !tt.Long {
					t.Skip("loops that spin leave an emulated CPU little time: make test-long runs it")
				}
				n.Wait = loop.WaitSpin
			}
			r := tt.NewRig(t, n, 2, transport.ServerOptions{})
			own := tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
			for range 3 {
				c := tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Redis: true}))
				value := tt.Fill(300_000, 1)
				c.Expect(tt.Put("k", value), kv.StatusOK)
				if got := own.Expect(tt.Get("k", len(value)), kv.StatusOK); !bytes.Equal(got.Value, value) {
					t.Error("another value came")
				}
			}
		})
	}
}

// TestRESPViolationsEndTheConnectionAlone: peers break rules that the device cannot enforce.
func TestRESPViolationsEndTheConnectionAlone(t *testing.T) {
	n := needRESP(t, Options{})
	for _, c := range []struct {
		code string
		f    func(b *blocking)
	}{
		{"overrun", func(b *blocking) {
			b.k.resp.PostWrite(0, b.k.mem.arena.Bytes()[b.k.mem.staged:][:0], 0, 0, 2<<20, true)
		}},
		{"opcode", func(b *blocking) { sendControl(b, valkey.Control{Opcode: 9}) }},
		{"length", func(b *blocking) {
			b.k.resp.PostSend(0, sendControl(nil, valkey.Control{Opcode: valkey.Keepalive})[:3], true)
		}},
		{"feature", func(b *blocking) { sendControl(b, valkey.Control{Opcode: valkey.SetClientFeature, Features: 1}) }},
		{"memory", func(b *blocking) { sendControl(b, valkey.Control{Opcode: valkey.RegisterXferMemory}) }},
		{"early-memory", func(b *blocking) {
			sendControl(b, valkey.Control{Opcode: valkey.RegisterXferMemory, Memory: valkey.Memory{Addr: 1 << 20, Length: 100}})
		}},
	} {
		t.Run(c.code, func(t *testing.T) {
			r := tt.NewRig(t, n, 1, transport.ServerOptions{})
			well := bystander(t, r)
			other := tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{Redis: true}))
			k := n.RESP(t, r.Loop, r.Server.Addr()).(textConn)
			_ = k.SetDeadline(time.Now().Add(tt.WaitMax))
			if _, err := io.WriteString(k, "PING\r\n"); err != nil {
				t.Fatal(err)
			}
			pong := make([]byte, 7)
			if _, err := io.ReadFull(k, pong); err != nil || string(pong) != "+PONG\r\n" {
				t.Fatalf("%q (%v)", pong, err)
			}
			_ = k.l.Try(func() error {
				c.f(k.blocking)
				k.k.d.post()
				return nil
			})
			if b, err := io.ReadAll(k); err != nil || len(b) > 0 {
				t.Errorf("%q (%v)", b, err)
			}
			r.Logged(1, "("+c.code+")")
			well()
			other.Expect(tt.Get("none", 10), kv.StatusNotFound)
		})
	}
}

// TestRESPPeersThatNeverReadHaveACode: a peer that does not announce its full transfer buffer again loses its connection at the stall deadline, alone.
func TestRESPPeersThatNeverReadHaveACode(t *testing.T) {
	n := needRESP(t, Options{})
	// Long enough for an emulated guest on a busy machine: a client that is not run for this time in the middle of a command is closed for that.
	r := tt.NewRig(t, n, 1, transport.ServerOptions{StallMax: 3 * time.Second})
	well := bystander(t, r)
	k := n.RESP(t, r.Loop, r.Server.Addr())
	_ = k.SetDeadline(time.Now().Add(tt.WaitMax))
	echo := "*2\r\n$4\r\nECHO\r\n$10000\r\n" + strings.Repeat("x", 10_000) + "\r\n"
	if _, err := io.WriteString(k, strings.Repeat(echo, 1000)); err == nil { // ten times the transfer buffer
		t.Error("the server read all commands, whose answers nobody reads")
	}
	r.Logged(1, "(no-memory)")
	well()
}

// sendControl returns the bytes of a control message; b sends it, unless it is nil.
func sendControl(b *blocking, m valkey.Control) []byte {
	if b == nil {
		out := make([]byte, valkey.ControlBytes)
		m.Encode(out)
		return out
	}
	out := b.k.mem.arena.Bytes()[b.k.mem.staged:][:valkey.ControlBytes]
	m.Encode(out)
	b.k.resp.PostSend(0, out, true)
	return out
}

// TestRESPKeepalive: a server sends keep-alive messages, and a connection without requests lives on.
func TestRESPKeepalive(t *testing.T) {
	r := tt.NewRig(t, needRESP(t, Options{}), 1, transport.ServerOptions{StallMax: 2 * time.Second})
	conn := r.Dial(transport.DialOptions{Redis: true})
	c := tt.NewCaller(t, r.Loop, conn)
	c.Expect(tt.Put("k", []byte("v")), kv.StatusOK)
	d := linkOf(conn).d
	came := func() (n uint64) {
		_ = r.Loop.Call(func() { n = d.count.WCs })
		return n
	}
	before := came()
	tt.Until(t, "two keep-alive messages", func() bool { return came() >= before+2 })
	c.Expect(tt.Get("k", 10), kv.StatusOK)
}

// TestRESPServerNotThere: the error names what was tried.
func TestRESPServerNotThere(t *testing.T) {
	n := need(t, Options{Connect: ByTCP}) // which does not listen by rdma_cm
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	want := "rdma_cm: connect to"
	if Modelled() != nil {
		want = "leave out --rdma-device model"
	}
	if _, err := r.TryDial(transport.DialOptions{Redis: true}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v; want %s", err, want)
	}
}

// TestRESPTooManyConnectionsAreRejected: connections of both protocols count. The others work, and a place that becomes free is used again.
func TestRESPTooManyConnectionsAreRejected(t *testing.T) {
	r := tt.NewRig(t, needRESP(t, Options{}), 1, transport.ServerOptions{MaxConns: 3})
	redis := transport.DialOptions{Redis: true}
	own := tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	first := r.Dial(redis)
	second := tt.NewCaller(t, r.Loop, r.Dial(redis))
	if _, err := r.TryDial(redis); err == nil || !strings.Contains(err.Error(), "REJECTED") {
		t.Fatalf("the fourth of three connections: %v", err)
	}
	r.Logged(1, "3 connections are open")
	own.Expect(tt.Put("k", []byte("v")), kv.StatusOK)
	second.Expect(tt.Get("k", 1), kv.StatusOK)
	first.Hangup()
	tt.Until(t, "a place to become free", func() bool {
		c, err := r.TryDial(redis)
		if err == nil {
			c.Hangup()
		}
		return err == nil
	})
}

// TestRESPConnectionsLeaveNoResource: see noResource.
func TestRESPConnectionsLeaveNoResource(t *testing.T) { noResourceOf(t, needRESP(t, Options{}), true) }

// TestRESPShutdownOfASilentConnection: a server that ends waits for no client that has sent nothing.
func TestRESPShutdownOfASilentConnection(t *testing.T) {
	n := needRESP(t, Options{})
	r := tt.NewRig(t, n, 2, transport.ServerOptions{HelloMax: tt.WaitMax})
	k := n.RESP(t, r.Loop, r.Server.Addr())
	_ = k.SetDeadline(time.Now().Add(tt.WaitMax))
	began := time.Now()
	_ = r.Server.Close()
	if b, err := io.ReadAll(k); string(b) != "-ERR kvwire is shutting down\r\n" {
		t.Errorf("%q (%v)", b, err)
	}
	if d := time.Since(began); d > tt.WaitMax/2 {
		t.Errorf("it took %v", d)
	}
}
