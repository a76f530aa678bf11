// Package resp is Redis's protocol (RESP2 and RESP3) without connections: it splits received bytes into commands, interprets
// their arguments, and encodes replies. It parses bytes from a peer, lengths first. It may import kv.
//
// The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/. Error texts are those of redis 7.0's networking.c,
// because clients check them.
package resp

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kvwire/kvwire/kv"
)

const (
	// MaxArgs bounds the arguments of a command, as Redis does.
	MaxArgs = 1 << 20
	// MaxBulkBytes bounds the announced length of an argument, as Redis does (proto-max-bulk-len).
	MaxBulkBytes = 512 << 20
	// argsPerRead bounds the arguments that one call of Read parses: some 50 µs.
	argsPerRead = 4096
	// maxLineBytes bounds a line. It is less than Redis's 64 KiB, because a line must fit into a receive buffer.
	maxLineBytes = 8 << 10
)

// ProtocolError is an error that ends a connection after it was sent to the client.
type ProtocolError string

// Error returns Redis's text.
func (e ProtocolError) Error() string { return "Protocol error: " + string(e) }

// Span is the place of an argument: the bytes Off to Off+Len of the command.
type Span struct{ Off, Len uint32 }

// SpanBytes is the size of a Span.
const SpanBytes = 8

// IsFirstByte reports whether b can be the first byte that a client of this protocol sends: that of an array, or of a line of text. A TLS handshake begins
// with another byte, 0x16.
func IsFirstByte(b byte) bool { return b == '*' || b >= '\t' && b <= '~' && b != 0x16 }

// Of returns the argument; b are the command's bytes.
func (s Span) Of(b []byte) []byte { return b[s.Off : s.Off+s.Len : s.Off+s.Len] }

// Command is the parser of one command. Its zero value is ready. It keeps its position, so that the bytes of a long
// command are parsed once, however they arrive. Positions count from the command's first byte, so its bytes may be moved between calls.
type Command struct {
	Args  []Span // of a complete command, its name first; empty: there is nothing to do
	Bytes int    // length of a complete command

	// Room is called if Args is full; it makes room for more of them, or leaves them unchanged if there is no memory now. nil: append makes room.
	Room func()

	pos    int // number of parsed bytes
	left   int // arguments that follow; for a line: its bytes, 0: its end was not received
	bulk   int // announced bytes of the next argument; -1: not announced yet
	begun  bool
	inline bool // it is a line of text
}

// Reset begins the next command.
func (c *Command) Reset() { *c = Command{Args: c.Args[:0], Room: c.Room, bulk: -1} }

// argBytesMin is the length of the shortest argument of an array: "$0\r\n\r\n".
const argBytesMin = 6

// Announced returns the number of arguments that an array has announced, and the bytes of the whole command: at least, and about, if the arguments to come are
// as long as those so far. All are 0 for a line, and before the number is received.
func (c *Command) Announced() (args, least, about int) {
	if !c.begun || c.inline {
		return 0, 0, 0
	}
	args = len(c.Args) + c.left
	least = c.pos + c.left*argBytesMin
	if about = least; len(c.Args) > 0 {
		about = max(least, c.pos+c.left*(c.pos/len(c.Args)))
	}
	return args, least, about
}

// ensureRoom reports whether there is room for one more argument.
func (c *Command) ensureRoom() bool {
	if len(c.Args) == cap(c.Args) && c.Room != nil {
		c.Room()
		return len(c.Args) < cap(c.Args)
	}
	return true
}

// ErrNoRoom means that there is no room for the arguments now: Read continues when it is called again.
var ErrNoRoom = errors.New("no room for the arguments")

// Read continues to parse b, the received bytes from the command's first one on. need is 0 if the command is complete; above 0, the least number of bytes that b
// must have at the next call; below 0, if one call may parse no more arguments, and Read must be called again later. An error,
// a ProtocolError, ends the connection, except ErrNoRoom.
func (c *Command) Read(b []byte) (need int, err error) {
	if !c.begun {
		if len(b) == 0 {
			return 1, nil
		}
		c.Reset()
		c.begun = true
		if b[0] != '*' {
			c.inline = true
		} else {
			n, used, err := number(b[1:], "mbulk count", "multibulk length")
			if used == 0 || err != nil {
				c.begun = false
				return len(b) + 1, err
			}
			if n > MaxArgs {
				return 0, ProtocolError("invalid multibulk length")
			}
			c.pos, c.left = 1+used, max(n, 0)
		}
	}
	if c.inline {
		return c.readInline(b)
	}
	for n := 0; c.left > 0; n++ {
		if n == argsPerRead {
			return -1, nil
		}
		if c.bulk < 0 {
			if len(b) == c.pos {
				return len(b) + 1, nil
			}
			if b[c.pos] != '$' {
				return 0, ProtocolError(fmt.Sprintf("expected '$', got '%c'", printable(b[c.pos])))
			}
			n, used, err := number(b[c.pos+1:], "bulk count", "bulk length")
			if err != nil {
				return 0, err
			}
			if used == 0 {
				return len(b) + 1, nil
			}
			if n < 0 || n > MaxBulkBytes {
				return 0, ProtocolError("invalid bulk length")
			}
			c.pos += 1 + used
			c.bulk = n
		}
		end := c.pos + c.bulk + 2
		if len(b) < end {
			return end, nil
		}
		if !c.ensureRoom() {
			return 0, ErrNoRoom
		}
		c.Args = append(c.Args, Span{uint32(c.pos), uint32(c.bulk)}) // as in Redis, the two bytes after it are not checked
		c.pos, c.bulk = end, -1
		c.left--
	}
	c.Bytes, c.begun = c.pos, false
	return 0, nil
}

// ReadGet parses a GET in the form in which programs send it. used is its length; 0: b does not begin with a whole one in this form, and Command.Read must parse it.
func ReadGet(b []byte) (key []byte, used int) {
	const head = "*2\r\n$3\r\nGET\r\n"
	if !isHead(b, head) {
		return nil, 0
	}
	return readBulk(b, len(head))
}

// ReadPut is ReadGet for a SET without options.
func ReadPut(b []byte) (key, value []byte, used int) {
	const head = "*3\r\n$3\r\nSET\r\n"
	if !isHead(b, head) {
		return nil, nil, 0
	}
	key, at := readBulk(b, len(head))
	if at == 0 {
		return nil, nil, 0
	}
	value, used = readBulk(b, at)
	return key, value, used
}

// isHead reports whether b begins with head, the beginning of an array with a name of three letters, in any case.
func isHead(b []byte, head string) bool {
	const name = len("*2\r\n$3\r\n")
	return len(b) >= len(head) && string(b[:name]) == head[:name] && b[name]&^0x20 == head[name] && b[name+1]&^0x20 == head[name+1] && b[name+2]&^0x20 == head[name+2] &&
		string(b[name+3:len(head)]) == head[name+3:]
}

// readBulk parses an argument that begins at b[at]. end is the index after it; 0: b does not have a whole one of at least a byte there.
func readBulk(b []byte, at int) (arg []byte, end int) {
	if at == len(b) || b[at] != '$' {
		return nil, 0
	}
	n, used, err := number(b[at+1:], "bulk count", "bulk length")
	if err != nil || used == 0 || n < 1 || n > len(b) {
		return nil, 0
	}
	begin := at + 1 + used
	if end = begin + n + 2; end > len(b) {
		return nil, 0
	}
	return b[begin : begin+n : begin+n], end
}

// printable returns a byte as a character for a reply.
func printable(b byte) rune {
	if b < ' ' || b > '~' {
		return '?'
	}
	return rune(b)
}

// number parses a line that is a number. used is its length with its end; 0: it is incomplete.
func number(b []byte, what, wrong string) (n, used int, err error) {
	end := 0
	for end < len(b) && b[end]-'0' <= 9 && end < 18 { // the usual case
		n = 10*n + int(b[end]-'0')
		end++
	}
	if end > 0 && end+1 < len(b) && b[end] == '\r' && (b[0] != '0' || end == 1) {
		return n, end + 2, nil
	}
	end = bytes.IndexByte(b[:min(len(b), maxLineBytes)], '\r')
	if end < 0 || end+1 == len(b) {
		if len(b) > maxLineBytes {
			return 0, 0, ProtocolError("too big " + what + " string")
		}
		return 0, 0, nil
	}
	number, ok := kv.Int(b[:end])
	if !ok {
		return 0, 0, ProtocolError("invalid " + wrong)
	}
	return int(number), end + 2, nil
}

// readInline parses a line of words, as a person types it, with Redis's quotes (sdssplitargs in its sds.c): "…" has the escapes \n \r \t \b \a
// and \xHH, '…' only \'. It unescapes words in place, which changes their bytes in b.
func (c *Command) readInline(b []byte) (need int, err error) {
	if c.left == 0 { // else its end was found before: unescaped words may contain more of them
		c.left = 1 + bytes.IndexByte(b[:min(len(b), maxLineBytes)], '\n')
	}
	if c.left == 0 {
		if len(b) >= maxLineBytes {
			return 0, ProtocolError("too big inline request")
		}
		return len(b) + 1, nil
	}
	line := bytes.TrimSuffix(b[:c.left-1], []byte("\r"))
	for i := c.pos; i < len(line); {
		if space(line[i]) {
			i++
			continue
		}
		if !c.ensureRoom() { // before the word is unescaped, which must be done once
			return 0, ErrNoRoom
		}
		from, to, next := word(line, i)
		if next < 0 {
			return 0, ProtocolError("unbalanced quotes in request")
		}
		c.Args = append(c.Args, Span{uint32(from), uint32(to - from)})
		i, c.pos = next, next
	}
	c.Bytes, c.begun = c.left, false
	return 0, nil
}

// word unescapes the word that begins at line[i], in place: it is then at line[from:to], and next is the index after it. next is -1 if a
// quote does not end, or does not end with the word.
func word(line []byte, i int) (from, to, next int) {
	from, to = i, i
	quote := byte(0)
	for ; i < len(line); i++ {
		ch := line[i]
		switch {
		case quote == 0 && space(ch):
			return from, to, i
		case quote == 0 && (ch == '"' || ch == '\''):
			quote = ch
			continue
		case quote == 0:
		case ch == quote:
			if i+1 < len(line) && !space(line[i+1]) {
				return 0, 0, -1
			}
			return from, to, i + 1
		case ch != '\\' || i+1 == len(line):
		case quote == '\'':
			if line[i+1] == '\'' {
				i++
				ch = '\''
			}
		default:
			if i+3 < len(line) && line[i+1] == 'x' {
				if n, err := strconv.ParseUint(string(line[i+2:i+4]), 16, 8); err == nil {
					ch = byte(n)
					i += 3
					break
				}
			}
			i++
			ch = line[i]
			if k := strings.IndexByte("nrtba", ch); k >= 0 {
				ch = "\n\r\t\b\a"[k]
			}
		}
		line[to] = ch
		to++
	}
	if quote != 0 {
		return 0, 0, -1
	}
	return from, to, i
}

func space(b byte) bool {
	return b == ' ' || b == '\t' || b == '\r' || b == '\v' || b == '\f' || b == 0
}

// Reply is the first line of a reply. Of a bulk string, kind $, N bytes and an end of line follow.
type Reply struct {
	Kind byte // + - : $ or _
	N    int  // of : and $
	Null bool
	Text []byte // of + and -; a part of the parsed bytes
}

// ReadReply parses the first line of a reply. used is its length with its end; 0: it is incomplete. Kinds that no supported command returns are an error.
func ReadReply(b []byte) (r Reply, used int, err error) {
	if len(b) == 0 {
		return r, 0, nil
	}
	switch r.Kind = b[0]; r.Kind {
	case ':', '$':
		n, used, err := number(b[1:], "reply", "number")
		if used == 0 || err != nil {
			return r, 0, err
		}
		if r.Kind == '$' && (n < -1 || n > MaxBulkBytes) {
			return r, 0, ProtocolError("invalid bulk length")
		}
		r.N, r.Null = n, r.Kind == '$' && n < 0
		return r, 1 + used, nil
	case '+', '-', '_':
		end := bytes.IndexByte(b[:min(len(b), maxLineBytes)], '\r')
		if end < 0 || end+1 == len(b) {
			if len(b) >= maxLineBytes {
				return r, 0, ProtocolError("too long a line")
			}
			return r, 0, nil
		}
		r.Null, r.Text = r.Kind == '_', b[1:end]
		return r, end + 2, nil
	}
	return r, 0, ProtocolError(fmt.Sprintf("a reply that begins with '%c'", printable(b[0])))
}
