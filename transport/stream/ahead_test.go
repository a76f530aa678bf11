package stream

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/wire"
)

// Unread answers stop the reading of values: a peer that requests much and reads nothing has two large answers begun, and not as many as it may have
// requests under way. A peer that reads gets all.
func TestUnsentAnswersAreBounded(t *testing.T) {
	const times, bytesEach = 100, 1 << 20
	value := bytes.Repeat([]byte("v"), bytesEach)
	gets := func(p *peer) (rest []byte) {
		p.exchangeHellos(times)
		for id := range uint64(times) {
			p.get(id)
		}
		return nil
	}
	say := func(what string) func(p *peer) []byte {
		return func(p *peer) []byte { return p.receiveSome([]byte(what)) }
	}
	pairs := make([]string, times)
	for i := range pairs {
		pairs[i] = fmt.Sprint("k", i)
	}
	one := len(value) + len("$1048576\r\n\r\n")
	for _, c := range []struct {
		name string
		do   func(p *peer) (rest []byte)
		want int // bytes of all answers
		copy int // answers that are copies of what was received: nothing is read for them
	}{
		{"gets", gets, times * (len(value) + wire.HeaderBytes), 0},
		{"GET", say(strings.Repeat("GET k\r\n", times)), times * one, 0},
		{"GET, and what is small between", say(strings.Repeat("GET k\r\nPING\r\n", times)), times * (one + len("+PONG\r\n")), 0},
		{"MGET", say(text(append([]string{"MGET"}, pairs...)...)), times*one + len("*100\r\n"), 0},
		{"ECHO", say(strings.Repeat(text("ECHO", string(value)), times)), times * one, times},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := acceptPeer(t, value, transport.ServerOptions{StallMax: time.Hour, HelloMax: time.Hour})
			rest := c.do(p)
			look := func() { p.look(func(_ *Server, err error) { t.Error(err) }) }
			for range 5 { // time alone changes nothing
				look()
			}
			var held int
			p.turn(func() { held = p.srv.account.Held() })
			if most := p.h.Pool.UnsentMax() + 2*bytesEach; p.by.begun > most || held > most+2*bytesEach {
				t.Fatalf("%d bytes are read for a peer that takes nothing, and %d held; %d are enough", p.by.begun, held, most)
			}
			got, most := 0, 0
			for round := 0; round < 20*times && got < c.want; round++ {
				rest = p.receiveSome(rest)
				b := p.gather()
				p.send(len(b) / 2) // it is slow
				got += len(b) / 2
				if len(b) == 1 {
					p.send(1)
					got++
				}
				look()
				most = max(most, p.by.begun-got)
			}
			if got != c.want || len(rest) > 0 {
				t.Errorf("%d bytes of answers, want %d; %d bytes are not read", got, c.want, len(rest))
			}
			if c.copy == 0 && p.by.begun < times*bytesEach {
				t.Errorf("%d bytes are read of %d", p.by.begun, times*bytesEach)
			}
			if most > p.h.Pool.UnsentMax()+2*bytesEach {
				t.Errorf("%d bytes were read that the peer had not taken", most)
			}
			p.turn(func() {
				if p.srv.account.UnsentBytes() != 0 || p.srv.account.Held() != 0 {
					t.Errorf("when all is taken, %d bytes are owed, and %d held", p.srv.account.UnsentBytes(), p.srv.account.Held())
				}
			})
		})
	}
}

// Answers that are small, or that were wrongly guessed to be large, do not wait.
func TestSmallAnswersDoNotWaitForTheirReader(t *testing.T) {
	p := acceptPeer(t, []byte("small"), transport.ServerOptions{StallMax: time.Hour, HelloMax: time.Hour})
	p.h.O.Limits.MaxValueBytes = 1 << 20
	p.exchangeHellos(100)
	p.turn(func() { p.srv.p.(*nativeServer).hint = 1 << 20 })
	for id := range uint64(100) {
		p.get(id)
	}
	p.turn(func() {
		if n := p.srv.out.Len(); n != 100 || p.waiting() != 0 {
			t.Errorf("%d answers of 100, %d wait", n, p.waiting())
		}
		if p.srv.account.UnsentBytes() > p.h.Pool.UnsentMax() {
			t.Errorf("%d bytes are owed", p.srv.account.UnsentBytes())
		}
	})
}

// A command's parts are answered in order. The length of a large part may become known after later parts have used all of the bound on unsent answers.
func TestTheNextAnswerDoesNotWaitForLaterOnes(t *testing.T) {
	p := acceptPeer(t, bytes.Repeat([]byte("v"), 1<<20), transport.ServerOptions{StallMax: time.Hour, HelloMax: time.Hour})
	p.receive([]byte("GET warm\r\n"))
	p.drain()
	p.turn(func() { p.redis().hint, p.by.last = 0, true })
	p.receive([]byte(strings.Repeat("GET k\r\n", 8))) // all are submitted without room for the value
	p.turn(func() {                                   // and those behind the first get theirs
		if p.waiting() < 2 {
			t.Errorf("only %d answers wait", p.waiting())
		}
	})
	got := 0
	for range 40 {
		got += len(p.drain())
		p.look(func(_ *Server, err error) { t.Error(err) })
	}
	if want := 8 * (1<<20 + len("$1048576\r\n\r\n")); got != want {
		t.Errorf("%d bytes of answers, want %d", got, want)
	}
}

// A client may send a whole pipeline before it reads: commands with values are received while earlier answers wait for the client. If memory is short they are not,
// because clients that read nothing would hold it.
func TestCommandsAreReceivedWhileAnswersWaitForThePeer(t *testing.T) {
	value := strings.Repeat("v", 1<<20)
	pipeline := strings.Repeat("GET k\r\n", 10) + strings.Repeat(text("SET", "another", value), 10)
	for _, c := range []struct {
		name string
		pool int
		all  bool
		most int // bytes held
	}{
		{"much memory", 256 << 20, true, 4<<20 + 2<<20},
		{"little memory", 1, false, 2 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := acceptPeer(t, []byte(value), transport.ServerOptions{PoolBytes: c.pool, StallMax: time.Hour, HelloMax: time.Hour})
			p.turn(func() { p.by.of[kv.OpPut] = nil })
			p.receive([]byte("GET warm\r\n"))
			p.drain()
			rest := []byte(pipeline)
			for range 20 {
				rest = p.receiveSome(rest)
				p.turn(func() { p.h.Resume() })
			}
			p.turn(func() {
				if p.srv.account.Held() > c.most {
					t.Errorf("a client that reads nothing has %d bytes, at most %d are enough", p.srv.account.Held(), c.most)
				}
			})
			if (len(rest) == 0) != c.all {
				t.Errorf("%d bytes of commands are not read", len(rest))
			}
			got := 0
			for range 100 {
				rest = p.receiveSome(rest)
				got += len(p.drain())
			}
			if want := 10*(1<<20+len("$1048576\r\n\r\n")) + 10*len("+OK\r\n"); got != want || len(rest) > 0 {
				t.Errorf("%d bytes of answers, want %d; %d bytes of commands are not read", got, want, len(rest))
			}
		})
	}
}
