package resp

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/kv"
)

// cut reads all commands of a text that arrives in pieces of n bytes, each command as its words between bars.
func cut(text string, n int) (all []string, err error) {
	var c Command
	begin, end := 0, 0 // of the command, and of what has arrived
	for {
		b := []byte(text[begin:end])
		need, err := c.Read(b)
		switch {
		case err != nil:
			return all, err
		case need < 0:
			continue
		case need > end-begin:
			if end == len(text) {
				return all, nil
			}
			end = min(max(end+n, begin+need), len(text))
			continue
		case need > 0:
			return all, fmt.Errorf("it has %d bytes and asks for %d", end-begin, need)
		}
		var words []string
		for _, a := range c.Args {
			words = append(words, string(a.Of(b)))
		}
		all = append(all, strings.Join(words, "|"))
		begin += c.Bytes
		c.Reset()
	}
}

// A command of very many arguments is read in several goes, none of which holds up a loop for long.
func TestOneReadTakesABoundedNumberOfArguments(t *testing.T) {
	const args = 100_000
	text := []byte(fmt.Sprintf("*%d\r\n", args) + strings.Repeat("$1\r\nk\r\n", args))
	var c Command
	for had := 0; ; had = len(c.Args) {
		need, err := c.Read(text)
		if err != nil || need > 0 || len(c.Args)-had > argsPerRead {
			t.Fatalf("a read takes %d arguments, and asks for %d bytes (%v)", len(c.Args)-had, need, err)
		}
		if need == 0 {
			break
		}
	}
	if len(c.Args) != args || c.Bytes != len(text) {
		t.Errorf("%d arguments, %d bytes", len(c.Args), c.Bytes)
	}
}

func TestCommandsAreCutHoweverTheyArrive(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"one", "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", []string{"GET|k"}},
		{"a pipeline", "*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", []string{"PING", "SET|k|"}},
		{"bytes that mean something", "*2\r\n$3\r\nGET\r\n$8\r\n\r\n*1\r\n$3\r\n", []string{"GET|\r\n*1\r\n$3"}},
		{"a large value", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n" + long + "\r\n*1\r\n$4\r\nPING\r\n", []string{"SET|k|" + long, "PING"}},
		{"nothing", "*0\r\n*-1\r\n\r\n\n*1\r\n$4\r\nPING\r\n", []string{"", "", "", "", "PING"}},
		{"words on a line", "set  k\t'a b' \"c\"\r\nPING\n", []string{"set|k|a b|c", "PING"}},
		{"not whole", "*2\r\n$3\r\nGET\r\n$1\r\n", nil},
		{"not a whole line", "PIN", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, n := range []int{1, 2, 3, 7, 64, 1 << 20} {
				got, err := cut(c.text, n)
				if err != nil || !slices.Equal(got, c.want) {
					t.Fatalf("in pieces of %d: %.80q, %v", n, got, err)
				}
			}
		})
	}
}

// ReadGet finds only what Read finds, too: whole GETs of a key. It leaves other forms to Read.
func TestReadGetIsReadForOneForm(t *testing.T) {
	for text, want := range map[string]string{
		"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n":                  "k",
		"*2\r\n$3\r\ngEt\r\n$12\r\n*2\r\n$3\r\nGET\r\r\n": "*2\r\n$3\r\nGET\r",
		"*2\r\n$3\r\nGET\r\n$0\r\n\r\n":                   "",
		"*2\r\n$3\r\nGET\r\n$-1\r\n":                      "",
		"*2\r\n$3\r\nSET\r\n$1\r\nk\r\n":                  "",
		"*2\r\n$3\r\nGET\r\n$999999999999999999\r\nk\r\n": "",
		"*2\r\n$3\r\nGET\r\n:1\r\nk\r\n":                  "",
		"*3\r\n$3\r\nGET\r\n$1\r\nk\r\n$1\r\nv\r\n":       "",
		"GET k\r\n": "",
	} {
		for n := range len(text) + 1 {
			key, used := ReadGet([]byte(text[:n]))
			if n < len(text) && used != 0 || n == len(text) && (string(key) != want || (used == n) != (want != "")) {
				t.Errorf("%q: %q in %d bytes", text[:n], key, used)
			}
			if used > 0 {
				checkFound(t, []byte(text), used, []byte("get"), key)
			}
		}
	}
}

// ReadPut finds only what Read finds, too: whole SETs of a key and a value. It leaves other forms to Read.
func TestReadPutAgreesWithRead(t *testing.T) {
	for text, found := range map[string]bool{
		"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n":                  true,
		"*3\r\n$3\r\nsEt\r\n$3\r\n\r\n$\r\n$5\r\n$1\r\nv\r\n":        true,
		"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nvXY":                    true, // as in Redis, the two bytes after it are not checked
		"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n":                   false,
		"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$1\r\nv\r\n":                   false,
		"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$-1\r\n":                      false,
		"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n:1\r\nv\r\n":                  false,
		"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n$2\r\nNX\r\n":      false,
		"*3\r\n$3\r\nGET\r\n$1\r\nk\r\n$1\r\nv\r\n":                  false,
		"*3\r\n$3\r\n3ET\r\n$1\r\nk\r\n$1\r\nv\r\n":                  false,
		"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$999999999999999999\r\nv\r\n": false,
		"SET k v\r\n": false,
	} {
		for n := range len(text) + 1 {
			key, value, used := ReadPut([]byte(text[:n]))
			if (used == n) != (found && n == len(text)) && n > 0 || used != 0 && used != n {
				t.Errorf("%q: %q = %q in %d bytes", text[:n], key, value, used)
			}
			if used > 0 {
				checkFound(t, []byte(text), used, []byte("set"), key, value)
			}
		}
	}
}

// checkFound compares what ReadGet or ReadPut has found with Read.
func checkFound(t *testing.T, b []byte, used int, name []byte, args ...[]byte) {
	t.Helper()
	var c Command
	need, err := c.Read(b)
	same := need == 0 && err == nil && c.Bytes == used && len(c.Args) == 1+len(args) && is(c.Args[0].Of(b), string(bytes.ToUpper(name)))
	for i, a := range args {
		same = same && bytes.Equal(c.Args[1+i].Of(b), a)
	}
	if !same {
		t.Errorf("%q: %s %q in %d bytes; Read: %d, %v, %d arguments, %d bytes", b, name, args, used, need, err, len(c.Args), c.Bytes)
	}
}

// The texts are those of redis-server 7.0.
func TestWrongCommandsGiveRedisOwnErrors(t *testing.T) {
	for text, want := range map[string]string{
		"*x\r\n":                                "invalid multibulk length",
		"*1048577\r\n":                          "invalid multibulk length",
		"*99999999999999999999\r\n":             "invalid multibulk length",
		"*2\r\nGET\r\n":                         "expected '$', got 'G'",
		"*1\r\n\x00":                            "expected '$', got '?'",
		"*1\r\n$x\r\n":                          "invalid bulk length",
		"*1\r\n$-1\r\n":                         "invalid bulk length",
		"*1\r\n$536870913\r\n":                  "invalid bulk length",
		"*" + strings.Repeat("1", 70_000):       "too big mbulk count string",
		"*1\r\n$" + strings.Repeat("1", 70_000): "too big bulk count string",
		strings.Repeat("a", 70_000):             "too big inline request",
		"set k 'a\r\n":                          "unbalanced quotes in request",
		"set k 'a'b\r\n":                        "unbalanced quotes in request",
	} {
		for _, n := range []int{1, 1 << 20} {
			if _, err := cut(text, n); err == nil || err.Error() != "Protocol error: "+want {
				t.Errorf("%.30q in pieces of %d: %v, want %q", text, n, err, want)
			}
		}
	}
}

// Read requests as many bytes as the command announces, so a large value is received at once, into its own memory.
func TestALargeValueIsReceivedAsAWhole(t *testing.T) {
	head := "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n"
	var c Command
	need, err := c.Read([]byte(head))
	if err != nil || need != len(head)+1_000_002 {
		t.Fatalf("%d bytes, %v", need, err)
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	text := []byte("*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$3\r\nxxx\r\n")
	var c Command
	read := func() {
		if need, err := c.Read(text); need != 0 || err != nil || c.Bytes != len(text) {
			t.Fatal(need, err)
		}
		if s, text := Find(c.Args[0].Of(text), len(c.Args), nil); s == nil || s.Kind != Set {
			t.Fatal(text)
		}
		c.Reset()
	}
	read()
	if n := testing.AllocsPerRun(1000, read); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Any bytes, in any pieces, are the same commands and the same error, and nothing beyond the bytes is looked at.
func FuzzCommands(f *testing.F) {
	for _, s := range []string{"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n", "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n", "PING\r\nset k 'v w'\n", "*-1\r\n*0\r\n\r\n", "*1\r\n$536870912\r\nx", "*1048576\r\n$0\r\n\r\n", "*1\r\n$-1\r\n", "*\r\n"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, text []byte, n int) {
		n = min(max(n, 1), 1<<20)
		whole, err := cut(string(text), len(text)+1)
		parts, perr := cut(string(text), n)
		if !slices.Equal(whole, parts) || (err == nil) != (perr == nil) || err != nil && err.Error() != perr.Error() {
			t.Fatalf("at once %q, %v; in pieces of %d %q, %v", whole, err, n, parts, perr)
		}
		if key, used := ReadGet(text); used > 0 {
			checkFound(t, text, used, []byte("get"), key)
		}
		if key, value, used := ReadPut(text); used > 0 {
			checkFound(t, text, used, []byte("set"), key, value)
		}
	})
}

// The first line of a reply is the same for any number of received bytes, and never longer than these.
func FuzzReplies(f *testing.F) {
	for _, s := range []string{"+OK\r\n", "-ERR no\r\n", ":12\r\n", "$-1\r\n", "$5\r\nhello\r\n", "_\r\n", "*1\r\n", "$99999999999\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, used, err := ReadReply(b)
		if used > len(b) || err == nil && used > 0 && r.Kind == '$' && !r.Null && (r.N < 0 || r.N > MaxBulkBytes) {
			t.Fatalf("%+v, %d bytes of %d", r, used, len(b))
		}
		for n := range min(used, 64) {
			if _, early, err := ReadReply(b[:n]); early != 0 || err != nil {
				t.Fatalf("%d bytes of %d make a reply of %d (%v)", n, len(b), early, err)
			}
		}
	})
}

// match is Match with a pattern that is new.
func match(pattern, name []byte) bool {
	var p Pattern
	p.Compile(pattern)
	return p.Match(name)
}

func FuzzMatch(f *testing.F) {
	f.Add([]byte("user:*[0-9]?"), []byte("user:a71"))
	f.Add([]byte("[^a-c]\\*[z-a"), []byte("d*b"))
	f.Add([]byte("[]-"), []byte("-"))
	f.Add([]byte(strings.Repeat("[a-c]*", 40)), []byte(strings.Repeat("abc", 30)))
	f.Fuzz(func(t *testing.T, pattern, name []byte) {
		pattern = pattern[:min(len(pattern), PatternMax)]
		if got, want := match(pattern, name), matchBacktracking(pattern, name); got != want {
			t.Fatalf("%q fits %q: %v, want %v", pattern, name, got, want)
		}
	})
}

// matchBacktracking is another way to the same: it follows Redis's stringmatchlen, one character after the other, and goes back to the last *
// where one does not fit.
func matchBacktracking(pattern, name []byte) bool {
	p, n := 0, 0
	star, back := -1, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			p++
			star, back = p, n
			continue
		}
		if next, ok := matchOne(pattern, p, name[n]); ok {
			p, n = next, n+1
			continue
		}
		if star < 0 {
			return false
		}
		back++
		p, n = star, back
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

func matchOne(pattern []byte, p int, c byte) (next int, ok bool) {
	if p >= len(pattern) {
		return p, false
	}
	switch pattern[p] {
	case '?':
		return p + 1, true
	case '[':
		return matchSet(pattern, p+1, c)
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	}
	return p + 1, pattern[p] == c
}

func matchSet(pattern []byte, p int, c byte) (next int, ok bool) {
	not := p < len(pattern) && pattern[p] == '^'
	if not {
		p++
	}
	for ; p < len(pattern) && pattern[p] != ']'; p++ {
		switch {
		case pattern[p] == '\\' && p+1 < len(pattern):
			p++
			ok = ok || pattern[p] == c
		case p+2 < len(pattern) && pattern[p+1] == '-':
			from, to := pattern[p], pattern[p+2]
			if from > to {
				from, to = to, from
			}
			p += 2
			ok = ok || from <= c && c <= to
		default:
			ok = ok || pattern[p] == c
		}
	}
	return min(p+1, len(pattern)), ok != not
}

func TestPatternsFitWhatBacktrackingFits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	const letters = "aabc*?[]^-\\\xff"
	text := func(of string, n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = of[rng.IntN(len(of))]
		}
		return b
	}
	var p Pattern // used again and again, as a server does
	fits := 0
	for range 50_000 {
		pattern := text(letters, rng.IntN(12))
		if rng.IntN(20) == 0 { // of several words
			pattern = bytes.Repeat(pattern, 1+rng.IntN(PatternMax/12))
		}
		p.Compile(pattern)
		for range 3 {
			name := text(letters, rng.IntN(12))
			if rng.IntN(4) == 0 {
				name = text("a", rng.IntN(300))
			}
			got, want := p.Match(name), matchBacktracking(pattern, name)
			if got != want {
				t.Fatalf("%q fits %q: %v, want %v", pattern, name, got, want)
			}
			if got {
				fits++
			}
		}
	}
	if fits < 1000 {
		t.Errorf("only %d fit", fits)
	}
}

// However a pattern is made, a name costs one step for each of its bytes and each 64 bytes of the pattern.
func TestAPatternCostsALineOfSteps(t *testing.T) {
	const keyBytes = 1024
	for name, pattern := range map[string]string{
		"stars":            strings.Repeat("a*", PatternMax/2-1) + "b",
		"a large set":      "*[" + strings.Repeat("b", PatternMax-4) + "]b",
		"many sets":        strings.Repeat("*[a-z]", PatternMax/6) + "b",
		"sets of all":      strings.Repeat("[\x00-\xff]", PatternMax/5),
		"a set without ]":  "*[" + strings.Repeat("x-z", PatternMax/3-1),
		"one star":         "*" + strings.Repeat("a", PatternMax/2) + "b",
		"stars in a row":   strings.Repeat("*", PatternMax-1) + "b",
		"question marks":   strings.Repeat("?*", PatternMax/2),
		"the longest name": strings.Repeat("a", PatternMax),
	} {
		var p Pattern
		p.Compile([]byte(pattern))
		if _, steps := p.match(bytes.Repeat([]byte("a"), keyBytes)); steps > keyBytes*(PatternMax/64+1) {
			t.Errorf("%s: %d steps", name, steps)
		}
	}
	for _, command := range []string{"scan", "config"} {
		longest := bytes.Repeat([]byte("["), PatternMax)
		args := [][]byte{[]byte(command), []byte("0"), []byte("MATCH"), longest}
		answer := func() string {
			if command == "scan" {
				_, text := ReadScan(args)
				return text
			}
			return string((&Session{Proto: 2}).config(nil, [][]byte{nil, []byte("GET"), args[3]}))
		}
		if text := answer(); strings.Contains(text, "ERR") {
			t.Errorf("%s: %s", command, text)
		}
		args[3] = append(longest, '[')
		if text := answer(); !strings.Contains(text, ErrPattern) {
			t.Errorf("%s with a pattern of %d bytes: %q", command, len(args[3]), text)
		}
	}
}

func TestCompiledPatternsKeepTheirMemory(t *testing.T) {
	var p Pattern
	patterns := [][]byte{bytes.Repeat([]byte("[a-z]*"), PatternMax/6), []byte("user:*")}
	p.Compile(patterns[0])
	name := []byte("user:1234")
	if n := testing.AllocsPerRun(100, func() {
		for _, pattern := range patterns {
			p.Compile(pattern)
			p.Match(name)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// As Redis's own tests of stringmatchlen, and keys.tcl, have it.
func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*", "abc", true}, {"", "", true}, {"", "a", false},
		{"foo*", "foo_a", true}, {"foo*", "fo", false}, {"*_a", "foo_a", true}, {"f*_*a", "foo_b_a", true},
		{"h?llo", "hello", true}, {"h?llo", "hllo", false},
		{"h[ae]llo", "hallo", true}, {"h[ae]llo", "hillo", false}, {"h[^e]llo", "hallo", true}, {"h[^e]llo", "hello", false},
		{"h[a-c]llo", "hbllo", true}, {"h[c-a]llo", "hbllo", true}, {"h[a-c]llo", "hdllo", false},
		{`h\*llo`, "h*llo", true}, {`h\*llo`, "hello", false}, {`[\]]`, "]", true},
		{"a*a*a*a*a*a*a*a*a*b", strings.Repeat("a", 200), false},
	} {
		if got := match([]byte(c.pattern), []byte(c.name)); got != c.want {
			t.Errorf("%q fits %q: %v", c.pattern, c.name, got)
		}
	}
}

// A cursor contains its position, whatever other clients request meanwhile. A cursor of another server is an error.
func TestACursorIsItsPosition(t *testing.T) {
	const shards = 256
	c := NewCursors()
	if at, ok := c.Position(0, shards); !ok || at != kv.PositionAt(0, kv.WalkStart) {
		t.Fatalf("cursor 0 is %x, not the beginning", at)
	}
	seen := map[uint64]bool{0: true}
	for _, shard := range []int{0, 1, 77, shards - 1} {
		for _, mark := range []uint32{1, 2, 1 << 31, kv.WalkStart - 1, kv.WalkStart} {
			want := kv.PositionAt(shard, mark)
			cursor := c.Of(want)
			if at, ok := c.Position(cursor, shards); !ok || at != want || seen[cursor] || cursor > math.MaxInt64 {
				t.Errorf("position %x has cursor %d, which is position %x (%v)", want, cursor, at, ok)
			}
			seen[cursor] = true
			if _, ok := c.Position(cursor, shard); ok {
				t.Errorf("a cursor of partition %d is good for a server of %d", shard, shard)
			}
			other := Cursors{c.server ^ 1<<(positionBits+3)}
			if _, ok := other.Position(cursor, shards); ok {
				t.Error("another server's cursor is good")
			}
		}
	}
	for _, cursor := range []uint64{math.MaxUint64, c.Of(kv.PositionAt(1, kv.WalkEnd)), c.Of(kv.PositionAt(shards, 1)), c.server ^ 1<<63 | 1} {
		if at, ok := c.Position(cursor, shards); ok {
			t.Errorf("cursor %d is position %x", cursor, at)
		}
	}
}

// Invalid, the Spec of a rejected command, is not a command: no client can call it by name.
func TestInvalidIsNoCommand(t *testing.T) {
	for _, name := range []string{"wrong", "WRONG", ""} {
		for _, last := range []*Spec{nil, Invalid} {
			if s, text := Find([]byte(name), 1, last); s != nil || text != "" {
				t.Errorf("%q after %v: %+v, %q", name, last, s, text)
			}
		}
	}
}

// A line without room for its next word continues there later: each escape is decoded once.
func TestALineContinuesWhenThereIsRoom(t *testing.T) {
	text := []byte(`ECHO "a\nb\\\\" 'it\'s' "\x5cx41" plain` + "\r\nPING\r\n")
	var c Command
	calls := 0
	c.Room = func() {
		if calls++; calls%3 == 0 {
			args := make([]Span, len(c.Args), cap(c.Args)+1)
			copy(args, c.Args)
			c.Args = args
		}
	}
	for {
		need, err := c.Read(text)
		if errors.Is(err, ErrNoRoom) {
			continue
		}
		if need != 0 || err != nil {
			t.Fatal(need, err)
		}
		break
	}
	var words []string
	for _, a := range c.Args {
		words = append(words, string(a.Of(text)))
	}
	if want := []string{"ECHO", "a\nb\\\\", "it's", `\x41`, "plain"}; !slices.Equal(words, want) || string(text[c.Bytes:]) != "PING\r\n" {
		t.Fatalf("%q, and behind it %q", words, text[c.Bytes:])
	}
}
