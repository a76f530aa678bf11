package transporttest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
)

// respTests are the tests of clients with Redis's protocol, for networks with a byte stream.
var respTests = []test{
	{"RespCommandsArriveInAnyPieces", respPieces},
	{"RespAnswersInCommandOrder", respOrder},
	{"RespClientsReadTheirOwnWrites", respOwnChanges},
	{"RespPipelinesOfAnyLength", respPipeline},
	{"RespCommandsLargerThanTheBuffer", respLargeCommands},
	{"RespAnswersWaitForMemory", respMemory},
	{"RespUnreadAnswersStopReading", respUnreadAnswers},
	{"RespEchoesStayWithinTheMemory", respEchoes},
	{"RespProtocolErrorsAreAnsweredAndEndTheConnection", respProtocolErrors},
	{"RespClientsThatNeverReadAreClosed", respNeverReads},
	{"RespIdleClientsMeetTheDeadline", waits(respIdle)},
	{"RespClientsDieWithRequestsInFlight", respDies},
	{"RespClientListNamesAllConnections", respClientList},
	{"RespCountersMatchTheCommands", respCounters},
	{"RespCommandsAreAnsweredAtShutdown", respShutdown},
	{"RespZeroAllocationsPerCommand", respZeroAllocations},
}

// command encodes a command as clients do.
func command(words ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b.String()
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

// sendText sends a text in another goroutine, so that the caller can read meanwhile.
func (c *raw) sendText(text string) {
	go func() { _, _ = io.WriteString(c, text) }() // an error shows in the received bytes
}

// expect requires that the next received bytes are this text.
func (c *raw) expect(text string) {
	c.t.Helper()
	got := make([]byte, len(text))
	n, err := io.ReadFull(c, got)
	if err != nil || string(got) != text {
		at := 0
		for at < n && got[at] == text[at] {
			at++
		}
		c.t.Fatalf("after %d bytes as they should be: %.100q, want %.100q (%v)", at, got[at:n], text[at:], err)
	}
}

var respScript = []struct{ send, want string }{
	{command("PING"), "+PONG\r\n"},
	{command("ping", "hello"), bulk("hello")},
	{"PING\r\n", "+PONG\r\n"},
	{"ECHO 'a b'\n", bulk("a b")},
	{"\r\n*0\r\n", ""},
	{command("GET", "k01"), "$-1\r\n"},
	{command("SET", "k01", "one"), "+OK\r\n"},
	{command("SET", "k02", ""), "+OK\r\n"},
	{command("GET", "k01"), bulk("one")},
	{command("GET", "k02"), bulk("")},
	{command("MGET", "k01", "none", "k02", "k01"), "*4\r\n" + bulk("one") + "$-1\r\n" + bulk("") + bulk("one")},
	{command("MSET", "k03", "3", "k04", "4"), "+OK\r\n"},
	{command("MSET", "k03", "3", "k04", "4", "k05", string(Fill(900_000, 1)), "k06", string(Fill(900_000, 2))) + command("DEL", "k05", "k06"), "+OK\r\n:2\r\n"},
	{command("MSET", "k03", "3", "k04"), "-ERR wrong number of arguments for 'mset' command\r\n"},
	{command("EXISTS", "k01", "k01", "none", "k04"), ":3\r\n"},
	{command("STRLEN", "k01") + command("STRLEN", "none") + command("STRLEN", "k02"), ":3\r\n:0\r\n:0\r\n"},
	{command("SCAN", "0"), "*2\r\n" + bulk("0") + "*4\r\n" + bulk("k01") + bulk("k02") + bulk("k03") + bulk("k04")},
	{command("SCAN", "0", "MATCH", "k*[24]", "COUNT", "100"), "*2\r\n" + bulk("0") + "*2\r\n" + bulk("k02") + bulk("k04")},
	{command("SCAN", "0", "MATCH", "k0"+strings.Repeat("*[a-z]", 1000)), "-ERR the pattern is too long: at most 1024 bytes\r\n"},
	{command("KEYS", "*"), "*4\r\n" + bulk("k01") + bulk("k02") + bulk("k03") + bulk("k04")},
	{command("KEYS", "k*[24]") + command("KEYS", "k01") + command("KEYS", ""), "*2\r\n" + bulk("k02") + bulk("k04") + "*1\r\n" + bulk("k01") + "*0\r\n"},
	{command("KEYS", "k0"+strings.Repeat("*[a-z]", 1000)), "-ERR the pattern is too long: at most 1024 bytes\r\n"},
	{command("CONFIG", "GET", strings.Repeat("[a-z]*", 1000)), "-ERR the pattern is too long: at most 1024 bytes\r\n"},
	{command("SCAN", "0", "COUNT", "2", "TYPE", "hash"), "*2\r\n" + bulk("0") + "*0\r\n"},
	{command("SCAN", "0", "MATCH", ""), "*2\r\n" + bulk("0") + "*0\r\n"},
	{command("SCAN", "1") + command("SCAN", "18446744073709551615"), strings.Repeat("-ERR invalid cursor: it is from another server, or from before a restart: begin again at 0\r\n", 2)},
	{command("SCAN", "-1") + command("SCAN", "x"), strings.Repeat("-ERR invalid cursor\r\n", 2)},
	{command("DEL", "k01", "none", "k02"), ":2\r\n"},
	{command("UNLINK", "k01"), ":0\r\n"},
	{command("GET"), "-ERR wrong number of arguments for 'get' command\r\n"},
	{command("LPUSH", "k", "v"), "-ERR unknown command 'LPUSH', with args beginning with: 'k' 'v' \r\n"},
	{command("SET", "k", "v", "EX", "10"), "-ERR kvwire has no expiry times: leave out EX\r\n"},
	{command("SET", "k", "v", "NX", "XX"), "-ERR syntax error\r\n"},
	{command("SELECT", "0") + command("SELECT", "1"), "+OK\r\n-ERR DB index is out of range\r\n"},
	{command("GET", strings.Repeat("k", 1025)), "-ERR string exceeds maximum allowed size: a key has at most 1024 bytes (--max-key-bytes)\r\n"},
	{command("MGET", "k03", strings.Repeat("k", 1025)), "*2\r\n" + bulk("3") + "-ERR string exceeds maximum allowed size: a key has at most 1024 bytes (--max-key-bytes)\r\n"},
	{command("FLUSHALL"), "+OK\r\n"},
	{command("SCAN", "0"), "*2\r\n" + bulk("0") + "*0\r\n"},
	{command("KEYS", "*") + command("RANDOMKEY"), "*0\r\n$-1\r\n"},
	{command("SET", "k77", "7") + command("RANDOMKEY") + command("KEYS", "*7?") + command("DEL", "k77"), "+OK\r\n" + bulk("k77") + "*1\r\n" + bulk("k77") + ":1\r\n"},
	{command("CLIENT", "LIST", "TYPE", "pubsub") + command("CLIENT", "LIST", "x"), bulk("") + "-ERR syntax error\r\n"},
	{command("HELLO", "4"), "-NOPROTO unsupported protocol version\r\n"},
	{command("HELLO", "3"), "%7\r\n" + bulk("server") + bulk("kvwire") + bulk("version") + bulk("7.0.0") + bulk("proto") + ":3\r\n" + bulk("id") + ":"},
}

func respPieces(t *testing.T, n Network) {
	small, longest := 100, 1<<16 // in small pieces, more are millions of writes
	if n.RESP != nil && Emulated {
		small, longest = 1<<20, 1<<8 // 10 ms for each
	}
	for _, size := range []int{1, 2, 7, 100, 1 << 20} {
		r := NewRig(t, n, 1, transport.ServerOptions{})
		c := r.raw()
		text, want := "", ""
		for _, s := range respScript {
			if size < small && len(s.send) > longest && !Long {
				continue
			}
			text += s.send
			want += s.want
		}
		go func() {
			for b := []byte(text); len(b) > 0; {
				k, err := c.Write(b[:min(size, len(b))])
				if err != nil {
					return
				}
				b = b[k:]
			}
		}()
		c.expect(want)
		// From here on with RESP3.
		rest := bufio.NewReader(c)
		for range 10 {
			if _, err := rest.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.Close()
		k := r.raw()
		k.sendText(command("HELLO", "3") + command("GET", "none") + command("QUIT") + command("PING"))
		b, err := io.ReadAll(k)
		if err != nil || !strings.HasSuffix(string(b), "*0\r\n_\r\n+OK\r\n") {
			t.Fatalf("%q, %v", b, err)
		}
		_ = k.Close()
		r.Stop()
	}
}

// answerAll answers a partition's delayed and new requests in random order, until stop is closed.
func (h *Held) answerAll(rng *rand.Rand, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if err := h.l.Call(func() { h.answerHeld(rng.IntN) }); err != nil {
			return
		}
	}
}

func respOrder(t *testing.T, n Network) {
	r := NewRig(t, n, 2, transport.ServerOptions{})
	for i, p := range r.Parts {
		p.Hold(t)
		stop := make(chan struct{})
		defer close(stop)
		go p.answerAll(rand.New(rand.NewPCG(uint64(i), 1)), stop)
	}
	c := r.raw()
	var send, want strings.Builder
	for i := range 3000 {
		k := fmt.Sprint("key", i)
		switch i % 3 {
		case 0:
			send.WriteString(command("SET", k, k))
			want.WriteString("+OK\r\n")
		case 1:
			send.WriteString(command("MGET", k, "x"+k, "y"+k))
			want.WriteString("*3\r\n$-1\r\n$-1\r\n$-1\r\n")
		default:
			send.WriteString(command("DEL", k, "x"+k) + command("PING", k))
			want.WriteString(":0\r\n" + bulk(k))
		}
	}
	var keys []string // more than there are slots
	for i := range 1000 {
		keys = append(keys, fmt.Sprint("key", 3*i))
	}
	send.WriteString(command(append([]string{"MGET"}, keys...)...))
	want.WriteString("*1000\r\n")
	for _, k := range keys {
		want.WriteString(bulk(k))
	}
	send.WriteString(command(append([]string{"DEL"}, keys...)...))
	want.WriteString(":1000\r\n")
	c.sendText(send.String())
	c.expect(want.String())
}

// The partitions answer in random order, so they may also execute requests in any order.
func respOwnChanges(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	p := r.Parts[0]
	p.Hold(t)
	stop := make(chan struct{})
	defer close(stop)
	go p.answerAll(rand.New(rand.NewPCG(1, 1)), stop)
	c := r.raw()
	rng := rand.New(rand.NewPCG(3, 3))
	model := map[string]string{}
	var send, want strings.Builder
	for i := range 5000 {
		k := fmt.Sprint("k", rng.IntN(6))
		v, there := model[k]
		switch rng.IntN(4) {
		case 0:
			model[k] = fmt.Sprint(i) + strings.Repeat("v", rng.IntN(2)*rng.IntN(3000))
			send.WriteString(command("SET", k, model[k]))
			want.WriteString("+OK\r\n")
		case 1:
			delete(model, k)
			send.WriteString(command("DEL", k))
			if there {
				want.WriteString(":1\r\n")
			} else {
				want.WriteString(":0\r\n")
			}
		default:
			send.WriteString(command("GET", k))
			if there {
				want.WriteString(bulk(v))
			} else {
				want.WriteString("$-1\r\n")
			}
		}
	}
	c.sendText(send.String())
	c.expect(want.String())
}

func respPipeline(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	c := r.raw()
	commands := 200_000
	if Emulated && !Long {
		commands = 20_000
	}
	c.sendText(command("SET", "key", "value") + strings.Repeat(command("GET", "key")+command("PING"), commands/2))
	c.expect("+OK\r\n" + strings.Repeat(bulk("value")+"+PONG\r\n", commands/2))
}

// respZeroAllocations: commands with one key and with several cost no allocation, whether their keys exist or not, with short values and with long ones.
func respZeroAllocations(t *testing.T, n Network) {
	if n.RESPAllocates {
		t.Skip("the test's own connection allocates: see the client's test")
	}
	r := NewRig(t, n, 1, transport.ServerOptions{})
	c := r.raw()
	long := string(Fill(20_000, 1))
	for _, x := range []struct{ name, send, want string }{
		{"GET", command("GET", "k1"), bulk("one")},
		{"SET", command("SET", "k4", "four"), "+OK\r\n"},
		{"SET, long", command("SET", "k3", long), "+OK\r\n"},
		{"MGET", command("MGET", "k1", "k2", "none", "k1"), "*4\r\n" + bulk("one") + bulk("two") + "$-1\r\n" + bulk("one")},
		{"MGET, long", command("MGET", "k3", "k1", "k3"), "*3\r\n" + bulk(long) + bulk("one") + bulk(long)},
		{"EXISTS", command("EXISTS", "k1", "none", "k3"), ":2\r\n"},
		{"MSET", command("MSET", "k4", "4", "k5", "5"), "+OK\r\n"},
		{"DEL", command("DEL", "none", "gone", "none"), ":0\r\n"}, // a key that is there again is an allocation of the test's partition
	} {
		t.Run(x.name, func(t *testing.T) {
			commands := 400
			if Emulated {
				commands = 80
			}
			const pipeline = 20 // few rounds: with Nagle's algorithm each waits for an acknowledgment
			send, want := []byte(strings.Repeat(x.send, pipeline)), []byte(strings.Repeat(x.want, pipeline))
			got := make([]byte, len(want))
			round := func() {
				for range commands / pipeline {
					if _, err := c.Write(send); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
						t.Fatalf("%.200q, %v", got, err)
					}
				}
			}
			c.sendText(command("MSET", "k1", "one", "k2", "two", "k3", long, "k4", "4", "k5", "5"))
			c.expect("+OK\r\n")
			checkAllocations(t, n, x.name, commands, max(len(x.send), len(x.want)), round)
		})
	}
	_ = c.Close()
}

func respLargeCommands(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	c := r.raw()
	largest := string(Fill(1<<20, 1))
	c.sendText(command("SET", "large", largest) + command("GET", "large") + command("PING"))
	c.expect("+OK\r\n" + bulk(largest) + "+PONG\r\n")
	c.sendText(command("SET", "large", largest+"x") + command("STRLEN", "large"))
	c.expect("-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n:1048576\r\n")
	middle := string(Fill(20_000, 2))
	c.sendText(command("MSET", "a", middle, "b", middle+"b", "c", "c") + command("MGET", "c", "b", "a"))
	c.expect("+OK\r\n*3\r\n" + bulk("c") + bulk(middle+"b") + bulk(middle))
	key := strings.Repeat("k", 1024)
	c.sendText(command("SET", key, "v") + command("GET", key) + command("DEL", key))
	c.expect("+OK\r\n" + bulk("v") + ":1\r\n")
}

func respMemory(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{PoolBytes: 8 << 20})
	well := r.bystander()
	value := string(Fill(1<<20, 1))
	c := r.raw()
	c.sendText(command("SET", "large", value))
	c.expect("+OK\r\n")
	all := []*raw{r.raw(), r.raw(), r.raw()}
	times := 20
	if Emulated {
		times = 2
	}
	for _, k := range all {
		k.sendText(strings.Repeat(command("GET", "large")+command("SET", "large", value), times))
	}
	well()
	for _, k := range all {
		for range times {
			k.expect(bulk(value) + "+OK\r\n")
		}
	}
	well()
}

// A client requests many values and reads nothing at first, and later all.
func respUnreadAnswers(t *testing.T, n Network) {
	const gets = 64
	value := string(Fill(1<<20, 1))
	r := NewRig(t, n, 1, transport.ServerOptions{})
	c := r.raw()
	c.sendText(command("SET", "large", value))
	c.expect("+OK\r\n")
	c.sendText(strings.Repeat(command("GET", "large")+command("PING"), gets/2) + command(append([]string{"MGET"}, strings.Fields(strings.Repeat("large ", gets/2))...)...))
	r.checkReadAhead(16) // as many as are under way at once are GETs, and PINGs between them
	for range gets / 2 {
		c.expect(bulk(value) + "+PONG\r\n")
	}
	c.expect(fmt.Sprintf("*%d\r\n", gets/2) + strings.Repeat(bulk(value), gets/2))
}

// Clients send ECHO, read all answers, and stay connected: the server uses no more memory than its pools.
func respEchoes(t *testing.T, n Network) {
	if testenv.Race {
		t.Skip("the race detector takes more memory than the server")
	}
	const memory, beside = 16 << 20, 100 << 20
	s := StartChild(t, n, Plan{Answers: true, Stall: WaitMax, Memory: memory})
	r := &Rig{t: t, n: n, Server: otherAddr{addr: s.Addr}}
	what := string(Fill(1<<20, 1))
	all := []*raw{r.raw(), r.raw(), r.raw(), r.raw()}
	times := 66
	if Emulated {
		times = 8
	}
	for _, c := range all {
		c.sendText(strings.Repeat(command("ECHO", what), times))
	}
	for _, c := range all {
		for range times {
			c.expect(bulk(what))
		}
	}
	if got := s.Resident(); got > 2*memory+beside {
		t.Errorf("the server has %d MiB, and may have %d for what is under way and for connections, beside %d", got>>20, 2*memory>>20, beside>>20)
	}
}

func respProtocolErrors(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	well := r.bystander()
	most := 16 << 20
	if n.RESP != nil { // the messages' memory is pinned, so there is less
		most = 2 << 20
	}
	cases := []struct{ send, want string }{
		{"*1\r\nPING\r\n", "-ERR Protocol error: expected '$', got 'P'\r\n"},
		{"*2147483648\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		{"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n", fmt.Sprintf("-ERR a command of 536870946 bytes or more: at most %d, a sixteenth of the server's --message-memory\r\n", most)},
		{"*3\r\n$3\r\nSET\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
		{strings.Repeat("x", 100_000), "-ERR Protocol error: too big inline request\r\n"},
		{command("SET", "k", "v") + command("GET", "k") + "*x\r\n" + command("GET", "k"), "+OK\r\n" + bulk("v") + "-ERR Protocol error: invalid multibulk length\r\n"},
		{"POST / HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n"},
		{"*2\r\n$4\r\nMGET\r\n$100000000\r\n", fmt.Sprintf("-ERR a command of 100000028 bytes or more: at most %d, a sixteenth of the server's --message-memory\r\n", most)},
	}
	for _, s := range cases {
		c := r.raw()
		c.sendText(s.send)
		b, err := io.ReadAll(c)
		if string(b) != s.want { // a reset may follow, because the server has not read all
			t.Fatalf("%.60q: %q (%v), want %q", s.send, b, err, s.want)
		}
		well()
	}
	r.Logged(len(cases), "")
}

func respIdle(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{IdleMax: Stall})
	c := r.raw()
	c.sendText(command("SET", "k", "v"))
	b, err := io.ReadAll(c)
	if want := fmt.Sprintf("+OK\r\n-ERR no request in %v\r\n", Stall); string(b) != want {
		t.Fatalf("%q (%v), want %q", b, err, want)
	}
	r.Logged(1, "no request in")
}

// respCounters: the server's counters have the commands of the store, the bytes both ways, and the connection until its end.
func respCounters(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{})
	c := r.raw()
	value := string(Fill(10_000, 1))
	sent, answers := 0, 0
	for range 20 {
		for _, x := range [][2]string{{command("SET", "k", value), "+OK\r\n"}, {command("GET", "k"), bulk(value)}, {command("PING"), "+PONG\r\n"}} {
			c.sendText(x[0])
			c.expect(x[1])
			sent, answers = sent+len(x[0]), answers+len(x[1])
		}
	}
	Until(t, "the answers to be counted", func() bool { return r.stats().BytesOut == uint64(answers) }) // TLS has more of them on the wire
	if s := r.stats(); s.Conns != 1 || s.Opened != 1 || s.Requests != 40 || s.Unanswered != 0 || s.BytesIn != uint64(sent) || s.ConnBytes == 0 {
		t.Errorf("after %d B and %d B: %+v", sent, answers, s)
	}
	_ = c.Close()
	Until(t, "the connection to be gone", func() bool { s := r.stats(); return s.Conns == 0 && s.ConnBytes == 0 && s.PoolBytes == 0 })
}

// RespEnters requires that a server which sleeps in its ring enters the kernel most times on average for a command, when one is in flight at a time.
func RespEnters(t *testing.T, n Network, most float64) {
	const commands = 500
	r := NewRig(t, n, 1, transport.ServerOptions{})
	c := r.raw()
	enters := func() uint64 {
		s, err := transport.ReadCounters(r.group.Net()[0])
		if err != nil {
			t.Fatal(err)
		}
		return s.Enters
	}
	exchange := func(send, want string) {
		if _, err := io.WriteString(c, send); err != nil {
			t.Fatal(err)
		}
		c.expect(want)
	}
	exchange(command("SET", "k", "v"), "+OK\r\n")
	before := enters()
	for range commands / 2 {
		exchange(command("SET", "k", "v"), "+OK\r\n")
		exchange(command("GET", "k"), bulk("v"))
	}
	if got := float64(enters()-before) / commands; got > most {
		t.Errorf("%.2f enters for a command, at most %.2f are enough", got, most)
	}
}

func respNeverReads(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{StallMax: 300 * time.Millisecond})
	well := r.bystander()
	c := r.raw()
	c.sendText(command("SET", "large", string(Fill(1<<20, 1))))
	c.expect("+OK\r\n")
	k := r.raw()
	k.sendText(strings.Repeat(command("GET", "large"), 10_000))
	r.Logged(1, "stopped in the middle")
	well()
}

// A connection dies with requests and answers under way: all its memory is freed.
func respDies(t *testing.T, n Network) {
	r := NewRig(t, n, 1, transport.ServerOptions{PoolBytes: 8 << 20})
	well := r.bystander()
	well()
	p := r.Parts[0]
	value := string(Fill(300_000, 1))
	rounds := 30
	if Emulated && !Long {
		rounds = 9
	}
	for i := range rounds {
		p.Hold(t)
		before := p.seen.Load()
		c := r.raw()
		c.sendText(command("SET", fmt.Sprint("k0", i%9), value) + command("GET", "k00") + command("MGET", "k01", "k02", "none") + command("KEYS", "*") + command("RANDOMKEY") + command("CLIENT", "LIST") + command("FLUSHALL") + command("SET", "half", value)[:1000*i])
		p.Await(t, before+1)
		if i%3 > 0 {
			_ = p.l.Call(func() { p.answerHeld(func(left int) int { return left - 1 }) })
		}
		_ = c.Close()
		p.Release(t)
		well()
	}
	// All memory is free.
	c := r.raw()
	largest := string(Fill(1<<20, 1))
	for range 3 {
		c.sendText(command("SET", "large", largest) + command("GET", "large"))
		c.expect("+OK\r\n" + bulk(largest))
	}
}

// reply reads one string.
func (c *raw) reply(from *bufio.Reader) string {
	c.t.Helper()
	line, err := from.ReadString('\n')
	if err != nil || line[0] != '$' {
		c.t.Fatalf("%q (%v), want a string", line, err)
	}
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	b := make([]byte, n+2)
	if _, err := io.ReadFull(from, b); err != nil {
		c.t.Fatal(err)
	}
	return string(b[:n])
}

// CLIENT LIST returns all connections of all loops, once, with their names; CLIENT INFO and CLIENT LIST ID return one.
func respClientList(t *testing.T, n Network) {
	const guests = 7
	r := NewRig(t, n, 2, transport.ServerOptions{})
	well := r.bystander() // a connection without a name
	well()
	line := regexp.MustCompile(`^id=(\d+) addr=[^ ]+:\d+ name=(\w*) age=\d+ idle=\d+ flags=N db=0 cmd=(\w+) user=(\w*)( resp=[23])?$`)
	all := map[string]*raw{}
	readers := map[string]*bufio.Reader{}
	for i := range guests {
		name := fmt.Sprint("guest", i)
		c := r.raw()
		c.sendText(command("CLIENT", "SETNAME", name))
		c.expect("+OK\r\n")
		all[name], readers[name] = c, bufio.NewReader(c)
	}
	for name, c := range all {
		c.sendText(command("CLIENT", "LIST") + command("CLIENT", "INFO") + command("PING"))
		list, own := c.reply(readers[name]), strings.TrimSuffix(c.reply(readers[name]), "\n")
		if pong, err := readers[name].ReadString('\n'); pong != "+PONG\r\n" {
			t.Fatalf("%q (%v)", pong, err)
		}
		ids, names := map[string]bool{}, map[string]bool{}
		for _, text := range strings.Split(strings.TrimSuffix(list, "\n"), "\n") {
			m := line.FindStringSubmatch(text)
			if m == nil || ids[m[1]] {
				t.Fatalf("a line is %q, of a list %q", text, list)
			}
			ids[m[1]], names[m[2]] = true, true
		}
		if len(ids) != guests+1 || len(names) != guests+1 {
			t.Errorf("%d connections with %d names are listed, want %d: %q", len(ids), len(names), guests+1, list)
		}
		m := line.FindStringSubmatch(own)
		if m == nil || m[2] != name || m[3] != "client" || m[4] != "default" || m[5] != " resp=2" {
			t.Fatalf("%s says of itself %q", name, own)
		}
		c.sendText(command("CLIENT", "LIST", "ID", "0", m[1]))
		if one := c.reply(readers[name]); strings.Count(one, "\n") != 1 || !strings.HasPrefix(one, "id="+m[1]+" ") {
			t.Errorf("by its id %s is %q", name, one)
		}
	}
	well()
}

// redisDialer dials a server as if it were a Redis.
type redisDialer struct{ transport.Transport }

func (d redisDialer) Dial(ctx context.Context, l *loop.Loop, addr string, o transport.DialOptions) (transport.Conn, error) {
	o.Redis = true
	return d.Transport.Dial(ctx, l, addr, o)
}

// RunRedis runs the tests for a client with Redis's protocol, with a kvwire server.
func RunRedis(t *testing.T, n Network) {
	n.Transport = redisDialer{n.Transport}
	for _, c := range []test{
		{"ValueSizesUpToTheLimitAndBeyond", valueSizes},
		{"LargeValuesArriveComplete", largeValues},
		{"LargePutsWithoutPause", largePuts},
		{"ExactlyOnceCompletion", exactlyOnce},
		{"TooSmallReturnsTheNeededCapacity", tooSmall},
		{"SubmitAfterClose", submitAfterClose},
		{"ZeroAllocationsPerOperation", zeroAllocations},
		{"ServerDeathInFlight", serverDeath},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(t, n) })
	}
}
