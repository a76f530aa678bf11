package resp_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/store"
)

// redisServer starts a redis-server on a unix socket, and returns its path. Debian's package redis-tools has the program under another name.
func redisServer(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("redis-check-rdb")
	testenv.Need(t, "redis", err)
	dir, err := os.MkdirTemp("", "kvwire") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	server, socket := filepath.Join(dir, "redis-server"), filepath.Join(dir, "s")
	if err := os.Symlink(program, server); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(server, "--port", "0", "--unixsocket", socket, "--databases", "1", "--save", "", "--appendonly", "no", "--dir", dir)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		_ = os.RemoveAll(dir)
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "ready to accept connections at") {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return socket
		}
	}
	t.Fatalf("redis-server ended before it was ready: %v", lines.Err())
	return ""
}

// talk is a connection whose replies are read as they are.
type talk struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, network, addr string) *talk {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	return &talk{c, bufio.NewReader(c)}
}

// reply reads one reply, with all that is in it.
func (c *talk) reply() (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil || line[0] != '$' && line[0] != '*' {
		return line, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	if err != nil || n < 0 {
		return line, err
	}
	if line[0] == '$' {
		b := make([]byte, n+2)
		_, err := io.ReadFull(c.r, b)
		return line + string(b), err
	}
	for range n {
		more, err := c.reply()
		if line += more; err != nil {
			return line, err
		}
	}
	return line, nil
}

func (c *talk) command(t *testing.T, words ...string) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	return c.sendText(t, b.String())
}

func (c *talk) sendText(t *testing.T, text string) string {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	reply, err := c.reply()
	if err != nil {
		t.Fatalf("%.200q: %v", text, err)
	}
	return reply
}

// bothServers are a Redis and a kvwire, which get the same commands.
type bothServers struct{ redis, kvwire *talk }

func newPeers(t *testing.T) bothServers {
	return bothServers{dial(t, "unix", redisServer(t)), dial(t, "tcp", serve(t, store.Options{Backend: store.Mem}))}
}

func (p bothServers) same(t *testing.T, words ...string) {
	t.Helper()
	want := p.redis.command(t, words...)
	if got := p.kvwire.command(t, words...); got != want && !mayDiffer(words, want, got) {
		t.Errorf("%q: %.200q, Redis %.200q", words, got, want)
	}
}

// mayDiffer reports whether answers may differ: docs/adr/0012.
func mayDiffer(words []string, redis, kvwire string) bool {
	return strings.HasPrefix(kvwire, "-ERR kvwire has no expiry times") || // SETEX, EXPIRE …
		strings.HasPrefix(kvwire, "-ERR kvwire has no empty keys") ||
		strings.HasPrefix(kvwire, "-ERR kvwire cannot set several keys atomically") // MSETNX
}

// Commands have the same arguments, and parse them in the same way, as in Redis.
func TestAnswersAreThoseOfARedis(t *testing.T) {
	p := newPeers(t)
	for _, line := range strings.Split(strings.TrimSpace(`
PING|PING a|PING a b|ECHO|ECHO a|ECHO a b|SELECT 0|SELECT 1|SELECT a|SELECT 00|SELECT -0
SET a 1|GET a|GET|GET a b|STRLEN a|STRLEN|APPEND a|APPEND a 2|GET a|SET a 1 NX|SET a 2 XX|SET b 1 XX|SET b 1 NX GET|SET b 2 GET|SET b 3 XX GET
SET c|SET c 1 FOO|SET c 1 NX XX|SET c 1 XX NX|SET c 1 NX NX|SET c 1 GET GET|SET c 1 EX|SET c 1 nx|GETSET c 2|GETSET c|GETSET new 1|GETSET c 1 2
SET n 5|INCR n|INCR n 1|DECR n|INCRBY n 3|INCRBY n -3|INCRBY n -0|INCRBY n 007|INCRBY n +1|INCRBY n 1.5|INCRBY n|INCRBY n 9223372036854775807|INCRBY n 9223372036854775808
SET n -0|INCR n|SET n 007|INCR n|SET n +1|INCR n|SET n 9223372036854775807|INCR n|DECR n|DECRBY n -9223372036854775808|SET n -9223372036854775808|DECR n|INCRBY n 0|DECRBY n 1
SETNX s 1|SETNX s 2|GET s|SETNX s|SETNX s 1 2|MSETNX m 1|MSETNX m 2|GET m|MSETNX m|MSETNX m 1 2
MSET x 1 y 2|MSET x|MSET x 1 y|MGET x y none|MGET|EXISTS x x none|EXISTS|TOUCH x none|DEL x none|DEL|UNLINK y|UNLINK
SET v hello|GETRANGE v 0 1|GETRANGE v -2 -1|GETRANGE v 3 1|GETRANGE v -1 -3|GETRANGE v 0 -100|GETRANGE v -100 100|GETRANGE v 5 5|GETRANGE none 0 1|GETRANGE v 0|GETRANGE v a 1|GETRANGE v 0 1 2|GETRANGE v 0 -0|SUBSTR v 1 2
GETRANGE v -9223372036854775808 9223372036854775807|GETRANGE v 9223372036854775807 -9223372036854775808
SETRANGE v 1 EY|GET v|SETRANGE v 7 x|GET v|SETRANGE v 0|SETRANGE v -1 x|SETRANGE v a x|SETRANGE v 600000000 x|SETRANGE fresh 3 x|GET fresh|SETRANGE v 01 x
GETDEL v|GETDEL v|GETDEL|GETDEL v w|GETEX fresh|GETEX fresh PERSIST|GETEX fresh FOO|GETEX fresh EX|GETEX fresh PERSIST PERSIST|GETEX none|GETEX
TYPE fresh|TYPE none|TYPE|TYPE a b|TTL fresh|TTL none|PTTL fresh|EXPIRETIME fresh|PEXPIRETIME none|PERSIST fresh|PERSIST none|TTL|TTL a b|PERSIST
SETEX fresh 10|SETEX fresh|PSETEX|EXPIRE fresh|DBSIZE a|SCAN|SCAN x|SCAN 0 COUNT|SCAN 0 COUNT 0|SCAN 0 COUNT x|SCAN 0 MATCH|SCAN 0 FOO a|SCAN 0 COUNT 007|SCAN 1x
KEYS|KEYS a b|FLUSHALL|KEYS *|KEYS|RANDOMKEY|RANDOMKEY a|SET abc 1|KEYS *|KEYS a?c|KEYS a\?c|KEYS a[a-c]c|KEYS a[^b]c|KEYS abc|KEYS ABC|KEYS a|KEYS b*|KEYS *c|KEYS [|RANDOMKEY|keys ABC*|DEL abc|KEYS abc|RANDOMKEY
INFO none|INFO none other|INFO keyspace|SET a 1|INFO KEYSPACE|INFO keyspace none keyspace|DEL a|CONFIG|CONFIG GET|CONFIG SET|CONFIG FOO|CLIENT|CLIENT FOO|CLIENT SETNAME|CLIENT SETNAME a b|CLIENT GETNAME|CLIENT SETNAME me|CLIENT GETNAME|CLIENT ID x
CLIENT LIST x|CLIENT LIST TYPE|CLIENT LIST TYPE master|CLIENT LIST TYPE x|CLIENT LIST type PubSub|CLIENT LIST ID|CLIENT LIST ID x|CLIENT LIST ID 1 x|CLIENT LIST ID 987654321|CLIENT LIST FOO 1 2|CLIENT INFO x
COMMAND COUNT x|COMMAND FOO|HELLO x|HELLO 007|HELLO 4|HELLO 2 FOO|HELLO 2 SETNAME|AUTH|AUTH a|AUTH a b|AUTH a b c|FOO|FOO a b|RESET a
DBSIZE|FLUSHALL FOO|FLUSHDB a|FLUSHALL ASYNC SYNC|FLUSHDB ASYNC ASYNC|DBSIZE|FLUSHDB SYNC|DBSIZE|SET a 1|FLUSHALL async|DBSIZE`), "\n") {
		for _, command := range strings.Split(line, "|") {
			p.same(t, strings.Fields(command)...)
		}
	}
}

// fields are those of an INFO, by section.
func fields(text string) (sections []string, of map[string][]string) {
	of = map[string][]string{}
	for line := range strings.SplitSeq(text, "\r\n") {
		if name, ok := strings.CutPrefix(line, "# "); ok {
			sections = append(sections, name)
		} else if name, _, ok := strings.Cut(line, ":"); ok {
			last := sections[len(sections)-1]
			of[last] = append(of[last], name)
		}
	}
	return sections, of
}

// The sections of INFO are in Redis's order, whichever are requested, and all their fields are Redis's except kvwire's own.
func TestInfoHasTheSectionsOfARedis(t *testing.T) {
	p := newPeers(t)
	p.same(t, "SET", "a", "1")
	known := map[string]bool{"kvwire_version": true, "server_name": true}
	for _, command := range []string{"INFO", "INFO default", "INFO all", "INFO everything", "INFO keyspace server", "INFO CPU none memory", "INFO replication", "INFO clients stats"} {
		words := strings.Fields(command)
		all, theirs := fields(p.redis.command(t, words...))
		sections, ours := fields(p.kvwire.command(t, words...))
		var want []string
		for _, s := range all {
			switch s {
			case "Persistence", "Modules", "Errorstats", "Commandstats", "Latencystats", "Cluster": // kvwire has none
			default:
				want = append(want, s)
			}
		}
		if !slices.Equal(sections, want) {
			t.Errorf("%s has %q, Redis's %q", command, sections, want)
		}
		for s, fields := range ours {
			for _, f := range fields {
				if !known[f] && !slices.Contains(theirs[s], f) {
					t.Errorf("%s: Redis's section %s has no %s", command, s, f)
				}
			}
		}
	}
	if text := p.kvwire.command(t, "INFO", "replication"); !strings.Contains(text, "\r\n# Replication\r\nrole:master\r\n") {
		t.Errorf("INFO replication is %q", text)
	}
}

// Any commands, of arguments that are read as numbers, options and keys.
func TestAnyAnswersAreThoseOfARedis(t *testing.T) {
	p := newPeers(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	commands := strings.Fields("append decr decrby del dbsize exists flushdb get getdel getex getrange getset incr incrby mget mset set setnx setrange strlen type unlink ttl pttl persist touch")
	words := []string{"a", "b", "c", "0", "1", "-1", "-0", "007", "+1", "9223372036854775807", "-9223372036854775808", "nx", "XX", "GET", "x y", "\x00\xff", "3", "20", "ASYNC", strings.Repeat("v", 300)}
	for range 5000 {
		command := []string{commands[rng.IntN(len(commands))]}
		for range rng.IntN(5) {
			command = append(command, words[rng.IntN(len(words))])
		}
		if p.same(t, command...); t.Failed() {
			t.Fatalf("after %q", command)
		}
	}
	for _, k := range words {
		p.same(t, "GET", k)
	}
}

// Commands as people type them, and invalid ones, are compared byte for byte. What ends the connection to one server also ends that to the other.
func TestWrittenCommandsAreReadAsARedisReadsThem(t *testing.T) {
	socket, addr := redisServer(t), serve(t, store.Options{Backend: store.Mem})
	for _, text := range []string{
		"PING\n", "PING\r\n", "  PING   a  \r\n", "PING \"a b\"\r\n", "PING 'a b'\r\n", `PING "\x41\x4a\xfF"` + "\r\n", `PING 'it\'s'` + "\r\n", `PING "it's"` + "\r\n",
		`PING "\n\r\t\b\a\\\"\q"` + "\r\n", `PING '\n\x41'` + "\r\n", `PING a"b c"` + "\r\n", `PING "a"b` + "\r\n", `PING "a` + "\r\n", `PING 'a\'` + "\r\n", `PING "\x4"` + "\r\n",
		`PING "\xZZ"` + "\r\n", `PING ""` + "\r\n", `PING ''` + "\r\n", `PING a'b'` + "\r\n", `PING "\` + "\r\n", `PING \x41` + "\r\n", "PING\ta\r\n", `PING "a" 'b'` + "\r\n",
		"*1\r\n$4\r\nPING\r\n", "*01\r\n$4\r\nPING\r\n", "*1\r\n$04\r\nPING\r\n", "*+1\r\n$4\r\nPING\r\n", "*1\r\n$-0\r\nPING\r\n", "*-0\r\nPING\r\n", "*-1\r\nPING\r\n", "*-5\r\nPING\r\n", "*0\r\nPING\r\n", "*00\r\nPING\r\n",
		"*1\r\n$+4\r\nPING\r\n", "*1\r\n$4 \r\nPING\r\n", "* 1\r\n$4\r\nPING\r\n", "*1 \r\n$4\r\nPING\r\n", "*2\r\n$4\r\nPING\r\n$0\r\n\r\n", "*x\r\n", "*\r\n", "*1\r\n$\r\n", "*1\r\nPING\r\n", "*1\r\n$1x\r\n",
	} {
		// QUIT ends both connections, so that the whole answer can be read.
		want, got := dial(t, "unix", socket), dial(t, "tcp", addr)
		text += "QUIT\r\n"
		for _, c := range []*talk{want, got} {
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatal(err)
			}
		}
		a, err := io.ReadAll(want.r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(got.r) // a reset may follow, where not all was read
		if string(a) != string(b) {
			t.Errorf("%q: %q, Redis %q", text, b, a)
		}
	}
}
