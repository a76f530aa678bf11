package resp_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/tcp"
	"github.com/kvwire/kvwire/transport"
	"github.com/kvwire/kvwire/transport/access"
)

// requestsOnly is a partition that is no kv.Direct and no kv.Batcher, so that each command is a request.
type requestsOnly struct{ loop.Partition }

// countedServer is a server with one loop and its items in memory.
type countedServer struct {
	t     *testing.T
	addr  string
	net   transport.Server
	group *loop.Group
	part  loop.Partition
}

func serveCounted(t *testing.T, direct bool, who *access.List) *countedServer {
	t.Helper()
	s := &countedServer{t: t}
	n := tcp.Transport{}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	var err error
	s.group, err = loop.NewGroup(loop.Plan{NetLoops: 1, Net: loop.Options{Sleep: n.Sleep()}}, func(l *loop.Loop, shard, shards int) (loop.Partition, error) {
		p, err := store.Open(l, shard, shards, store.Options{Backend: store.Mem, Limits: limits, Log: log})
		if s.part = p; direct || err != nil {
			return p, err
		}
		return requestsOnly{p}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.group.Router(0).OnStats(kv.StatsBrief, func(r *kv.Request) { r.SetAnswer([]byte("{}")) })
	if s.net, err = n.Serve("127.0.0.1:0", s.group, transport.ServerOptions{Limits: limits, InOrder: true, Access: who, Log: log}); err != nil {
		t.Fatal(err)
	}
	s.addr = s.net.Addr()
	t.Cleanup(func() {
		if err := errors.Join(s.net.Close(), s.group.Stop()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *countedServer) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// totals is what a server counts, and what a client gets.
type totals struct {
	answers             string
	requests, commands  int
	bytesIn, bytesOut   uint64
	delivered           uint64 // completions; 0: not compared
	items, used         uint64
	opened, unanswered  uint64
	conns, paused, pool int
	last                string // command of the connection, in CLIENT LIST
}

// read returns one reply, and of an array its head only.
func read(t *testing.T, from *bufio.Reader) string {
	t.Helper()
	line, err := from.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(strings.TrimSpace(line[1:])); line[0] == '$' && err == nil && n >= 0 {
		b := make([]byte, n+2)
		if _, err := io.ReadFull(from, b); err != nil {
			t.Fatal(err)
		}
		line += string(b)
	}
	return line
}

func words(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, w := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b.String()
}

var lastCommand = regexp.MustCompile(`cmd=(get|set|auth|del|ping)`)

// send sends commands in one of three ways, and returns what the server has counted of them.
func (s *countedServer) send(way string, commands []string, list func(c net.Conn, r *bufio.Reader) string, small bool) (m totals) {
	t := s.t
	t.Helper()
	c := s.dial()
	r := bufio.NewReader(c)
	if way == "one at a time" {
		for _, x := range commands {
			if _, err := io.WriteString(c, x); err != nil {
				t.Fatal(err)
			}
			m.answers += read(t, r)
		}
	} else {
		all, piece := strings.Join(commands, ""), 1<<30
		if way == "in pieces" {
			piece = 333
		}
		go func() {
			for b := all; len(b) > 0; b = b[min(piece, len(b)):] {
				if _, err := io.WriteString(c, b[:min(piece, len(b))]); err != nil {
					return // it shows in the answers
				}
			}
		}()
		for range commands {
			m.answers += read(t, r)
		}
	}
	all, err := s.net.Stats()
	if err != nil {
		t.Fatal(err)
	}
	of := all[0]
	m.requests, m.bytesIn, m.bytesOut, m.opened, m.unanswered, m.conns, m.paused = int(of.Requests), of.BytesIn, of.BytesOut, of.Opened, of.Unanswered, of.Conns, of.Paused
	m.pool = of.PoolBytes
	if err := s.group.Net()[0].Call(func() {
		if small {
			m.delivered = s.group.Net()[0].Snapshot().Delivered
		}
		st, _ := store.StatsOf(s.part)
		m.items, m.used = st.Items, st.UsedBytes
	}); err != nil {
		t.Fatal(err)
	}
	other := s.dial()
	from := bufio.NewReader(other)
	text := list(other, from)
	if found := lastCommand.FindStringSubmatch(text); found != nil {
		m.last = found[1]
	}
	if _, err := io.WriteString(other, words("INFO", "stats")); err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(read(t, from), "total_commands_processed:")
	number, _, _ := strings.Cut(after, "\r\n")
	if m.commands, err = strconv.Atoi(number); err != nil {
		t.Fatal(err)
	}
	return m
}

// Commands are counted and answered alike whether they are executed at once or by requests, and however they arrive.
func TestCommandsAreCountedAlikeHoweverTheyArrive(t *testing.T) {
	ann, bob := access.Entry{Name: "ann", Secret: "the secret of ann"}, access.Entry{Name: "bob", Secret: "the secret of bob", ReadOnly: true}
	key := func(i int) string { return fmt.Sprintf("key:%012d", i) }
	var gets, sets, mixed, errs, kibs, large, reader, nobody []string
	for i := range 60 {
		gets = append(gets, words("GET", key(i%7)))
		sets = append(sets, words("SET", key(i%11), strings.Repeat("v", 1+i)))
		kibs = append(kibs, words("SET", key(i), strings.Repeat("v", 1024)))
		mixed = append(mixed, words("SET", key(i%5), fmt.Sprint(i)), words("get", key(i%6)), words("GET", key(i%3)))
	}
	gets = append(sets[:5:5], gets...)
	for i := range 40 {
		kibs = append(kibs, words("GET", key(i)))
	}
	mixed = append(mixed, words("DEL", key(0), key(1)), words("GET", key(0)), words("SET", key(0), "x", "NX"), words("SET", key(0), "y", "NX"), words("GET", key(0)), "get "+key(0)+"\r\n", "set "+key(0)+" z\r\n", words("GET", key(0)))
	errs = []string{words("SET", "k", "v"), words("GET"), words("SET", "k"), words("SET", "k", "v", "EX", "1"), words("SET", "", "v"), words("SET", "empty", ""), words("GET", "empty"),
		words("SET", strings.Repeat("k", 1025), "v"), words("GET", strings.Repeat("k", 1025)), words("GET", ""), words("SET", "k", strings.Repeat("v", 1<<20+1)), words("LPUSH", "k", "v"), words("GET", "k"),
		words("SET", "k", "w"), words("PING"), words("GET", "k")}
	for i, n := range []int{5_000, 16_000, 17_000, 70_000, 1 << 20, 3} {
		large = append(large, words("SET", key(i), strings.Repeat("v", n)))
	}
	for i := range 12 {
		large = append(large, words("GET", key(i%7)))
	}
	for range 3 {
		reader = append(reader, words("GET", "k"), words("SET", "k", "v"), words("GET", "k"))
		nobody = append(nobody, words("SET", "k", "v"), words("GET", "k"))
	}
	auth := func(e access.Entry) string { return words("AUTH", e.Name, e.Secret) }
	reader = append([]string{auth(ann), words("SET", "k", "one"), auth(bob)}, reader...)
	nobody = append(nobody, auth(ann))
	for _, x := range []struct {
		name     string
		commands []string
		requests int
		small    bool // no request is repeated because its answer had too little room
		guarded  bool
	}{
		{"GETs", gets, 65, true, false},
		{"SETs", sets, 60, true, false},
		{"SETs of 1 KiB", kibs, 100, false, false},
		{"SETs and GETs in turn", mixed, 60*3 + 9, true, false},
		{"errors between", errs, 8, true, false},
		{"large values", large, 18, false, false},
		{"a user who may only read", reader, 7, true, true},
		{"without authentication", nobody, 0, true, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			var who *access.List
			if x.guarded {
				who = access.NewList(ann, bob)
			}
			list := func(c net.Conn, r *bufio.Reader) string {
				text := words("CLIENT", "LIST")
				if x.guarded {
					text = auth(ann) + text
				}
				if _, err := io.WriteString(c, text); err != nil {
					t.Fatal(err)
				}
				if x.guarded {
					_ = read(t, r)
				}
				return read(t, r)
			}
			var want totals
			for _, direct := range []bool{false, true} {
				for _, way := range []string{"one at a time", "at once", "in pieces"} {
					if testenv.Short() && !direct && way != "one at a time" {
						continue
					}
					got := serveCounted(t, direct, who).send(way, x.commands, list, x.small)
					if want.answers == "" {
						want = got
						if extra := got.commands - len(x.commands); got.requests != x.requests || extra < 2 || extra > 3 {
							t.Errorf("%d requests, want %d; %d commands, of which %d are the test's own", got.requests, x.requests, got.commands, extra)
						}
						continue
					}
					if got.answers != want.answers {
						t.Errorf("%s, direct %v: the answers are %.300q, want %.300q", way, direct, got.answers, want.answers)
					}
					if got.answers = want.answers; got != want {
						t.Errorf("%s, direct %v: counted\n%+v, want\n%+v", way, direct, got.short(), want.short())
					}
				}
			}
		})
	}
}

// short is m without the answers, for a message.
func (m totals) short() totals {
	m.answers = ""
	return m
}

// A SET for which there is no memory is refused, and all around it are executed, whether by requests or at once.
func TestAPutWithoutMemoryIsRefusedInAPipeline(t *testing.T) {
	const rounds = 500
	o := store.Options{Backend: store.Mem, MemBytes: 4 << 20}
	byRequests := func(_ *loop.Loop, _ int, p loop.Partition) loop.Partition { return requestsOnly{p} }
	var got [2][]string
	for i, addr := range []string{serve(t, o), serveFrom(t, o, nil, byRequests)} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		var b strings.Builder
		for n := range rounds {
			b.WriteString(words("SET", fmt.Sprint("small", n), "v") + words("SET", fmt.Sprint("large", n), strings.Repeat("v", 10_000)) + words("SET", "small", fmt.Sprint(n)) + words("GET", "small"))
		}
		go func() { _, _ = io.WriteString(c, b.String()) }() // an error shows in the answers
		r := bufio.NewReader(c)
		for range 4 * rounds {
			got[i] = append(got[i], read(t, r))
		}
	}
	refused := 0
	for i, a := range got[0] {
		want := "+OK\r\n"
		if i%4 == 3 {
			want = fmt.Sprintf("$%d\r\n%d\r\n", len(fmt.Sprint(i/4)), i/4)
		}
		if i%4 == 1 && a[0] == '-' {
			refused++
		} else if a != want {
			t.Fatalf("answer %d is %q, want %q", i, a, want)
		}
		if a != got[1][i] {
			t.Fatalf("answer %d is %q, and %q by requests", i, a, got[1][i])
		}
	}
	if refused == 0 || refused == rounds {
		t.Errorf("%d of %d large puts are refused", refused, rounds)
	}
}
