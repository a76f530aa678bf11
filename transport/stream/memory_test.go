package stream

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
)

// redis is the connection's protocol.
func (p *peer) redis() *respServer { return p.srv.p.(*respServer) }

// accounted reports whether b lies in counted memory: in a pool of the host.
func (p *peer) accounted(b []byte) bool {
	for _, in := range [][]byte{p.h.Pool.Arena().Bytes(), p.h.conns.Arena().Bytes()} {
		from, at := reflect.ValueOf(in).Pointer(), reflect.ValueOf(b).Pointer()
		if at >= from && at+uintptr(len(b)) <= from+uintptr(len(in)) {
			return true
		}
	}
	return len(b) <= len(crlf) // which all answers share
}

// unaccounted is the number of waiting bytes of answers that lie elsewhere.
func (p *peer) unaccounted() (n int) {
	p.turn(func() {
		o := &p.srv.out
		for i := range o.Len() {
			for _, b := range o.At(i).piece {
				if !p.accounted(b) {
					n += len(b)
				}
			}
		}
		for i := range p.redis().parts {
			if b := p.redis().parts[i].tmp; !p.accounted(b) {
				n += len(b)
			}
		}
	})
	return n
}

// text is a command as clients send it.
func text(words ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b.String()
}

// Whatever a client makes the server answer, the answer is in accounted memory until it is sent, and is then freed.
func TestErrorsAndEchoesAreCounted(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	names := append([]string{"COMMAND", "INFO"}, strings.Fields(strings.Repeat("get unknown ", 30))...)
	var items []byte
	for i := range 300 {
		b, _ := kv.AppendItem(make([]byte, 0, 2000), fmt.Appendf(nil, "%0*d", 1+i*3, i), nil)
		items = append(items, b...)
	}
	commands := map[string]string{
		"ECHO of a byte":             text("ECHO", "x"),
		"ECHO of what fits a slot":   text("ECHO", long[:250]),
		"ECHO of what does not":      text("ECHO", long[:300]),
		"ECHO of a receive buffer":   text("ECHO", long[:10_000]),
		"ECHO of more than that":     text("ECHO", long),
		"ECHO of what no value has":  text("ECHO", strings.Repeat("y", 1<<20)),
		"ECHO of nothing":            text("ECHO", ""),
		"ECHO with an odd end":       "*2\r\n$4\r\nECHO\r\n$5\r\nhelloXY",
		"PING":                       text("PING"),
		"PING of much":               text("PING", long),
		"a line":                     "ECHO '" + long[:5000] + "'\r\n",
		"COMMAND":                    text("COMMAND"),
		"COMMAND INFO":               text(names...),
		"COMMAND of another kind":    text("COMMAND", long[:9000]),
		"CONFIG GET":                 text("CONFIG", "GET", "*"),
		"CONFIG of another kind":     text("CONFIG", strings.Repeat("\U0001F600", 3000)),
		"CLIENT INFO":                text("CLIENT", "SETNAME", long[:128]) + text("CLIENT", "INFO"),
		"HELLO":                      text("HELLO", "3", "SETNAME", long[:128]),
		"HELLO with what it has not": text("HELLO", "2", strings.Repeat("\U0001F600", 3000)),
		"an unknown command":         text(long[:9000], long, long),
		"too many arguments":         text(append([]string{"GET"}, strings.Fields(strings.Repeat("k ", 100))...)...),
		"a key that is too long":     text("GET", long),
		"keys that are too long":     text("MGET", long[:9000], long[:9000], "k"),
		"SCAN":                       text("SCAN", "0", "COUNT", "10000"),
		"SCAN for some":              text("SCAN", "0", "COUNT", "300", "MATCH", "*7*"),
		"SCAN behind the end":        text("SCAN", "7"),
		"DBSIZE":                     text("DBSIZE"),
		"INFO":                       text("INFO"),
		"GET":                        text("GET", "k"),
		"MGET":                       text("MGET", "a", "b", "c"),
		"SET and a value":            text("SET", "k", long),
		"SET with what it has not":   text("SET", "k", "v", "EX", "10"),
	}
	for name, command := range commands {
		t.Run(name, func(t *testing.T) {
			p := acceptPeer(t, bytes.Repeat([]byte("v"), 5000), transport.ServerOptions{PoolBytes: 16 << 20, StallMax: time.Hour, HelloMax: time.Hour})
			p.h.O.Limits.MaxValueBytes = 1 << 20
			p.turn(func() {
				p.by.of[kv.OpScan], p.by.of[kv.OpStats], p.by.of[kv.OpPut] = items, []byte("{}"), nil
			})
			times := 200 // more than there are slots
			if len(command) > 50_000 {
				times = 70
			}
			rest := []byte(strings.Repeat(command, times))
			got := 0
			for round := 0; ; round++ {
				before := len(rest)
				rest = p.receiveSome(rest)
				if n := p.unaccounted(); n > 0 {
					t.Fatalf("%d bytes of answers lie in memory that nobody counts", n)
				}
				n := len(p.drain())
				if got += n; n == 0 && len(rest) == before {
					break
				}
			}
			if len(rest) > 0 || got < times {
				t.Errorf("%d bytes of answers; %d bytes of commands are not read", got, len(rest))
			}
			p.turn(func() {
				if n := p.h.Pool.InUse(); n > 0 || p.srv.account.Held() > 0 || len(p.srv.free) != len(p.srv.slots) {
					t.Errorf("when all is sent, %d bytes of the pool are in use, %d of them the connection's, and %d of %d slots", n, p.srv.account.Held(), len(p.srv.slots)-len(p.srv.free), len(p.srv.slots))
				}
				if slices.ContainsFunc(p.redis().parts, func(m part) bool { return m.tmp != nil }) {
					t.Error("a slot that is free keeps an answer")
				}
				if n := cap(p.h.redis.scratch); n > 1<<20 {
					t.Errorf("the loop keeps %d bytes to put answers together", n)
				}
			})
		})
	}
}

// Connections with long answers that read nothing share the pool with others, and continue when these have read.
func TestEchoesWaitForMemory(t *testing.T) {
	p := acceptPeer(t, make([]byte, 1<<20), transport.ServerOptions{PoolBytes: 1, StallMax: time.Hour, HelloMax: time.Hour})
	most := 0
	command := text("ECHO", strings.Repeat("e", 1<<20))
	rest := []byte(strings.Repeat(command, 20))
	got := 0
	for range 100 {
		rest = p.receiveSome(rest)
		p.turn(func() { most = max(most, p.h.Pool.InUse()) })
		got += len(p.drain())
	}
	if want := 20 * len(text(strings.Repeat("e", 1<<20))[len("*1\r\n"):]); got != want || len(rest) > 0 {
		t.Errorf("%d bytes of answers, want %d; %d bytes of commands are not read", got, want, len(rest))
	}
	if size := p.h.Pool.Largest(); most > size || most == 0 {
		t.Errorf("%d bytes of a pool of %d are in use", most, size)
	}
}

// Where a command's arguments lie is noted in memory that is counted, however many they are and whether the command ever becomes whole. Without any, it waits.
func TestArgumentsAreNotedInCountedMemory(t *testing.T) {
	keys := strings.Fields(strings.Repeat("k ", 20_000))
	for name, command := range map[string]string{
		"an array": text(append([]string{"EXISTS"}, keys...)...),
		"a line":   "EXISTS " + strings.Join(keys[:3000], " ") + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := acceptPeer(t, []byte("v"), transport.ServerOptions{PoolBytes: 16 << 20, StallMax: time.Hour, HelloMax: time.Hour})
			p.h.O.Limits.MaxValueBytes = 1 << 20
			p.receive([]byte("PING\r\n"))
			p.drain()
			var taken [][]byte
			p.turn(func() { // there is none
				for size := p.h.Pool.Largest(); size >= 512; size /= 2 {
					for b := p.h.Pool.Alloc(size); b != nil; b = p.h.Pool.Alloc(size) {
						taken = append(taken, b)
					}
				}
			})
			rest := p.receiveSome([]byte(command))
			noted := func() (n, uncounted int) {
				p.turn(func() {
					g := p.redis()
					if n = cap(g.cmd.Args); n > argsMax && cap(g.argsBlock) < n*resp.SpanBytes {
						uncounted = n * resp.SpanBytes
					}
				})
				return n, uncounted
			}
			if n, uncounted := noted(); n > argsMax || uncounted > 0 || !p.srv.account.Paused() {
				t.Errorf("without memory, %d arguments are noted", n)
			}
			p.turn(func() {
				for _, b := range taken {
					p.h.Pool.Free(b)
				}
				p.h.Pool.RetryWaiters()
			})
			got, most := "", 0
			for round := 0; round < 2000 && got == ""; round++ { // as many keys at a time as there are slots
				p.turn(func() { p.h.Resume() })
				rest = p.receiveSome(rest)
				n, uncounted := noted()
				if most = max(most, n); uncounted > 0 {
					t.Fatalf("%d bytes of notes lie in memory that nobody counts", uncounted)
				}
				got += string(p.drain())
			}
			if want := fmt.Sprintf(":%d\r\n", strings.Count(command, "k")); got != want || most <= argsMax {
				t.Errorf("%q, want %q; %d arguments were noted", got, want, most)
			}
			p.turn(func() {
				if n := p.h.Pool.InUse(); n > 0 || cap(p.redis().cmd.Args) != argsMax {
					t.Errorf("%d bytes of the pool are in use, and there is room for %d arguments", n, cap(p.redis().cmd.Args))
				}
			})
		})
	}
}

// Unauthenticated clients get no memory of the pool.
func TestUnauthenticatedClientsHaveFewArguments(t *testing.T) {
	secrets := access.NewList(access.Entry{Name: "ann", Secret: "the secret of ann"})
	for _, command := range []string{text(append([]string{"AUTH"}, strings.Fields(strings.Repeat("k ", 100))...)...), "AUTH " + strings.Repeat("k ", 100) + "\r\n"} {
		p := acceptPeer(t, nil, transport.ServerOptions{Access: secrets})
		p.receiveSome([]byte(command))
		if got := string(p.drain()); got != "-ERR Protocol error: unauthenticated multibulk length\r\n" {
			t.Errorf("%q", got)
		}
		p.turn(func() {
			if n := p.h.Pool.InUse(); n > 0 {
				t.Errorf("%d bytes of the pool are in use", n)
			}
		})
	}
}

// Connections that send commands of many arguments at the same time, for all of which together there is no memory, are all served: the memory of a command
// is known from its beginning, and no command gets a part of it and waits for the rest.
func TestCommandsOfManyArgumentsAreServedInTurn(t *testing.T) {
	for name, key := range map[string]string{"short keys": "a", "long keys": strings.Repeat("k", 40)} {
		t.Run(name, func(t *testing.T) {
			p := acceptPeer(t, []byte("v"), transport.ServerOptions{PoolBytes: 6 << 20, StallMax: time.Hour, HelloMax: time.Hour})
			p.h.O.Limits.MaxValueBytes = 1 << 20
			const keys = 8_000
			command := []byte(text(append([]string{"EXISTS"}, strings.Fields(strings.Repeat(key+" ", keys))...)...))
			want := resp.AppendInt(nil, keys)
			peers := []*peer{p}
			p.receive([]byte("PING\r\n"))
			p.drain()
			for range 39 {
				o := &peer{t: t, l: p.l, h: p.h, by: p.by}
				o.turn(func() { o.srv = o.h.NewServer(o, "other") })
				o.receive([]byte("PING\r\n"))
				o.drain()
				t.Cleanup(func() { o.turn(func() { o.srv.Drop(transport.ErrPeerGone) }) })
				peers = append(peers, o)
			}
			rest, answers := make([][]byte, len(peers)), make([][]byte, len(peers))
			for i := range rest {
				rest[i] = command
			}
			waited, answered := 0, 0
			for idle := 0; answered < len(peers) && idle < 500; { // a complete command needs some hundred rounds: as many keys at a time as there are slots
				moved := false
				for i, o := range peers { // each sends a piece at a time
					piece := rest[i][:min(len(rest[i]), 10_000)]
					left := len(rest[i]) - len(piece) + len(o.receiveSome(piece))
					b := o.drain()
					moved = moved || left < len(rest[i]) || len(b) > 0
					rest[i], answers[i] = rest[i][len(rest[i])-left:], append(answers[i], b...)
					if len(b) > 0 {
						answered++
					}
					if o.srv.account.Paused() {
						waited++
					}
					o.turn(func() { o.h.Resume() })
				}
				if idle++; moved {
					idle = 0
				}
			}
			for i := range peers {
				if !bytes.Equal(answers[i], want) {
					t.Errorf("connection %d: %q, want %q; %d bytes of its command are not read", i, answers[i], want, len(rest[i]))
				}
			}
			if waited == 0 {
				t.Error("none of them had to wait: the test shows nothing")
			}
		})
	}
}
