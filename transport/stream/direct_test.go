package stream

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
)

// directAnswers is a partition that is a kv.Direct, too.
type directAnswers struct{ *answers }

var _ kv.Direct = directAnswers{}

func (a directAnswers) Read(keys, values [][]byte) int {
	for i := range keys {
		values[i] = a.v
	}
	return len(keys)
}

func (a directAnswers) Write(keys, _ [][]byte) int { return len(keys) }

// newRedisPeer makes a connection of Redis's protocol to a server all of whose items have that value. direct: GETs and SETs need no requests.
func newRedisPeer(t *testing.T, direct bool, value string, o transport.ServerOptions) *peer {
	t.Helper()
	o.Limits, o.InOrder = kv.Limits{MaxValueBytes: 1 << 20}, true
	p := acceptPeerOf(t, func(l *loop.Loop) loop.Partition {
		a := &answers{l: l, v: []byte(value), of: map[kv.Op][]byte{kv.OpPut: nil}}
		if direct {
			return directAnswers{a}
		}
		return a
	}, o)
	p.receive([]byte("PING\r\n"))
	p.drain()
	return p
}

// A connection that is cut off has as many unanswered requests as commands whose answers were not sent, also if many answers are in one message.
func TestEachUnsentAnswerIsCounted(t *testing.T) {
	const times = 20
	for name, value := range map[string]string{"small values": "v", "values that need more than a slot's memory": strings.Repeat("v", 1000)} {
		for _, direct := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, direct %v", name, direct), func(t *testing.T) {
				p := newRedisPeer(t, direct, value, transport.ServerOptions{})
				for range 3 { // answers that are sent are not counted any more
					p.receive([]byte(strings.Repeat(text("SET", "k", "v"), times)))
					p.receive([]byte(strings.Repeat(text("GET", "k"), times)))
					p.drain()
				}
				p.turn(func() {
					if n := p.srv.unanswered(); n != 0 {
						t.Errorf("when all is sent, %d answers are not", n)
					}
				})
				p.receive([]byte(strings.Repeat(text("SET", "k", "v"), times) + strings.Repeat(text("GET", "k"), times)))
				p.turn(func() {
					p.srv.Drop(transport.ErrCut)
					if n := p.h.count.Unanswered; n != 2*times {
						t.Errorf("%d of %d requests are counted as not answered", n, 2*times)
					}
					if n := p.h.count.Requests; n != 8*times {
						t.Errorf("%d requests are counted, want %d", n, 8*times)
					}
				})
			})
		}
	}
}

// receives returns the number of receives that b needs, when as many bytes as the server has room for arrive at once.
func (p *peer) receives(b string) (n int) {
	p.t.Helper()
	for len(b) > 0 && n < 1000 {
		p.turn(func() {
			var w [2][]byte
			if p.srv.RecvBuffers(&w) == 0 {
				return
			}
			k := copy(w[0], b)
			b = b[k:]
			n++
			if err := p.srv.Received(k, 0); err != nil {
				p.t.Error(err)
			}
		})
		p.turn(func() { p.h.Resume() })
	}
	return n
}

// A connection whose pipelines are longer than its receive buffer gets a larger one, up to a bound, while at most half of the connections' memory is in use. It frees
// it at its end.
func TestAReceiveBufferGrowsWithThePipeline(t *testing.T) {
	pipeline := strings.Repeat(text("SET", "key:000000000012", strings.Repeat("v", 1024)), 16)
	for _, c := range []struct {
		name      string
		connBytes int
		repeated  int // of the pipeline, sent at once
		want      []int
		buffer    int
	}{
		{"the pipeline fits into twice the buffer", 0, 1, []int{2, 1, 1}, 32 << 10},
		{"the pipeline is larger than the bound", 0, 20, []int{7, 6, 6}, recvBytesMax},
		{"little memory", 128 << 10, 1, []int{2, 2, 2}, 16 << 10},
	} {
		for _, direct := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, direct %v", c.name, direct), func(t *testing.T) {
				p := newRedisPeer(t, direct, "v", transport.ServerOptions{ConnBytes: c.connBytes})
				for i, want := range c.want {
					got := p.receives(strings.Repeat(pipeline, c.repeated))
					if answers := string(p.drain()); answers != strings.Repeat("+OK\r\n", 16*c.repeated) {
						t.Fatalf("pipeline %d: %d bytes of answers: %.100q", i, len(answers), answers)
					}
					if got != want {
						t.Errorf("pipeline %d: %d receives, want %d", i, got, want)
					}
				}
				p.turn(func() {
					if n := len(p.srv.in.buf); n != c.buffer {
						t.Errorf("the buffer has %d bytes, want %d", n, c.buffer)
					}
					p.srv.Drop(transport.ErrPeerGone)
					if n := p.h.conns.InUse(); n != 0 {
						t.Errorf("%d bytes are in use after the end", n)
					}
				})
			})
		}
	}
}
