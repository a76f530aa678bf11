package resp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/kvwire/kvwire/kv"
)

// Kind is the kind of a command.
type Kind uint8

const (
	Answer Kind = iota // the connection itself answers it: Session.Answer
	Quit
	Get
	Strlen
	Exists
	Delete
	Set
	GetSet
	MultiGet
	MultiSet
	Append
	Add
	Scan
	Size
	Flush
	Info
	SetAbsent // SETNX, and MSETNX of one key
	Range
	Patch  // SETRANGE
	GetDel // GETDEL
	Type
	Expiry // TTL and similar commands: they query or remove expiry times, which no key has
	Expire // commands that would set an expiry time
	Keys
	Random // RANDOMKEY
	Client // ReadClient decides whether it needs other connections
)

// Spec is the static description of a command.
type Spec struct {
	Name        string // lower case
	Kind        Kind
	Arity       int // number of arguments with the name; below 0: at least so many
	First, Last int // keys: first and last argument; Last -1: to the end; First 0: none
	Step        int
	flags       string
	beforeAuth  bool  // allowed before authentication
	by          int64 // Add: the increment; 0: an argument has it
	minus       bool  // Add: the argument is subtracted
}

var specs = []Spec{
	{Name: "append", Kind: Append, Arity: 3, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "auth", Arity: -2, flags: "fast", beforeAuth: true},
	{Name: "client", Kind: Client, Arity: -2, flags: "admin"},
	{Name: "command", Arity: -1, flags: "loading"},
	{Name: "config", Arity: -2, flags: "admin"},
	{Name: "dbsize", Kind: Size, Arity: 1, flags: "readonly"},
	{Name: "decr", Kind: Add, Arity: 2, First: 1, Last: 1, Step: 1, flags: "write", by: -1},
	{Name: "decrby", Kind: Add, Arity: 3, First: 1, Last: 1, Step: 1, flags: "write", minus: true},
	{Name: "del", Kind: Delete, Arity: -2, First: 1, Last: -1, Step: 1, flags: "write"},
	{Name: "echo", Arity: 2, flags: "fast"},
	{Name: "exists", Kind: Exists, Arity: -2, First: 1, Last: -1, Step: 1, flags: "readonly"},
	{Name: "expire", Kind: Expire, Arity: -3, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "expireat", Kind: Expire, Arity: -3, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "expiretime", Kind: Expiry, Arity: 2, First: 1, Last: 1, Step: 1, flags: "readonly"},
	{Name: "flushall", Kind: Flush, Arity: -1, flags: "write"},
	{Name: "flushdb", Kind: Flush, Arity: -1, flags: "write"},
	{Name: "get", Kind: Get, Arity: 2, First: 1, Last: 1, Step: 1, flags: "readonly"},
	{Name: "getdel", Kind: GetDel, Arity: 2, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "getex", Kind: Get, Arity: -2, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "getrange", Kind: Range, Arity: 4, First: 1, Last: 1, Step: 1, flags: "readonly"},
	{Name: "getset", Kind: GetSet, Arity: 3, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "hello", Arity: -1, flags: "fast", beforeAuth: true},
	{Name: "incr", Kind: Add, Arity: 2, First: 1, Last: 1, Step: 1, flags: "write", by: 1},
	{Name: "incrby", Kind: Add, Arity: 3, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "info", Kind: Info, Arity: -1, flags: "loading"},
	{Name: "keys", Kind: Keys, Arity: 2, flags: "readonly"},
	{Name: "mget", Kind: MultiGet, Arity: -2, First: 1, Last: -1, Step: 1, flags: "readonly"},
	{Name: "mset", Kind: MultiSet, Arity: -3, First: 1, Last: -1, Step: 2, flags: "write"},
	{Name: "msetnx", Kind: SetAbsent, Arity: -3, First: 1, Last: -1, Step: 2, flags: "write"},
	{Name: "persist", Kind: Expiry, Arity: 2, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "pexpire", Kind: Expire, Arity: -3, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "pexpireat", Kind: Expire, Arity: -3, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "pexpiretime", Kind: Expiry, Arity: 2, First: 1, Last: 1, Step: 1, flags: "readonly"},
	{Name: "ping", Arity: -1, flags: "fast"},
	{Name: "psetex", Kind: Expire, Arity: 4, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "pttl", Kind: Expiry, Arity: 2, First: 1, Last: 1, Step: 1, flags: "readonly"},
	{Name: "quit", Kind: Quit, Arity: -1, flags: "fast", beforeAuth: true},
	{Name: "randomkey", Kind: Random, Arity: 1, flags: "readonly"},
	{Name: "reset", Arity: 1, flags: "fast", beforeAuth: true},
	{Name: "scan", Kind: Scan, Arity: -2, flags: "readonly"},
	{Name: "select", Arity: 2, flags: "fast"},
	{Name: "set", Kind: Set, Arity: -3, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "setex", Kind: Expire, Arity: 4, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "setnx", Kind: SetAbsent, Arity: 3, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "setrange", Kind: Patch, Arity: 4, First: 1, Last: 1, Step: 1, flags: "write"},
	{Name: "strlen", Kind: Strlen, Arity: 2, First: 1, Last: 1, Step: 1, flags: "readonly"},
	{Name: "substr", Kind: Range, Arity: 4, First: 1, Last: 1, Step: 1, flags: "readonly"},
	{Name: "touch", Kind: Exists, Arity: -2, First: 1, Last: -1, Step: 1, flags: "readonly"},
	{Name: "ttl", Kind: Expiry, Arity: 2, First: 1, Last: 1, Step: 1, flags: "readonly"},
	{Name: "type", Kind: Type, Arity: 2, First: 1, Last: 1, Step: 1, flags: "readonly"},
	{Name: "unlink", Kind: Delete, Arity: -2, First: 1, Last: -1, Step: 1, flags: "write"},
}

// subs are the subcommands of commands, with their arity: number of arguments with both names; below 0: at least so many.
var subs = map[string]map[string]int{
	"client":  {"getname": 2, "id": 2, "info": 2, "list": -2, "no-evict": 3, "no-touch": 3, "setinfo": 4, "setname": 3},
	"command": {"count": 2, "docs": -2, "info": -2},
	"config":  {"get": -3, "resetstat": 2, "set": -4},
}

// findSub returns a command's subcommand in lower case, or the text of an error.
func findSub(command string, args [][]byte) (sub, errText string) {
	var lower [16]byte
	name := args[1]
	if len(name) <= len(lower) {
		name = append(lower[:0], name...)
		for i, c := range name {
			if c >= 'A' && c <= 'Z' {
				name[i] = c | 0x20
			}
		}
	}
	arity, ok := subs[command][string(name)]
	switch {
	case !ok:
		return "", fmt.Sprintf("ERR unknown subcommand '%.128s'. Try %s HELP.", args[1], strings.ToUpper(command))
	case arity > 0 && len(args) != arity, len(args) < -arity:
		return "", "ERR wrong number of arguments for '" + command + "|" + string(name) + "' command"
	}
	return string(name), ""
}

// Invalid is the Spec of a command that cannot be executed; its connection has the error text.
var Invalid = &Spec{Name: "wrong"}

// CrossProtocol reports whether a first word is that of an HTTP request, which a browser may send for a malicious page
// (Redis's networking.c, securityWarningCommand). Such a connection is closed.
func CrossProtocol(word []byte) bool { return is(word, "POST") || is(word, "Host:") }

// Error texts of several commands, as in Redis.
const (
	errSyntax  = "ERR syntax error"
	errInteger = "ERR value is not an integer or out of range"
	errSecret  = "WRONGPASS invalid username-password pair or user is disabled."
)

// TooMany is the error for a command with far more arguments than it can have.
const TooMany = "ERR wrong number of arguments"

// Find returns the command with a name and number of arguments, or the text of an error; neither if there is no such command. It checks
// last first, because a connection often repeats a command.
func Find(name []byte, args int, last *Spec) (*Spec, string) {
	s := last
	if s == nil || s == Invalid || !s.is(name) {
		s = nil
		for i := range specs {
			if specs[i].is(name) {
				s = &specs[i]
				break
			}
		}
	}
	if s == nil {
		return nil, ""
	}
	if s.Arity > 0 && args != s.Arity || args < -s.Arity || s.Step == 2 && args%2 == 0 {
		return nil, "ERR wrong number of arguments for '" + s.Name + "' command"
	}
	return s, ""
}

// is reports whether a name is the command's. It ignores case; names have letters only.
func (s *Spec) is(name []byte) bool {
	if len(name) != len(s.Name) {
		return false
	}
	for i, c := range name {
		if c|0x20 != s.Name[i] {
			return false
		}
	}
	return true
}

// GetCommand and SetCommand are GET and SET.
var (
	GetCommand, _ = Find([]byte("get"), 2, nil)
	SetCommand, _ = Find([]byte("set"), 3, nil)
)

// Unknown returns Redis's error text for an unknown command. It contains the first arguments, up to 128 bytes.
func Unknown(args [][]byte) string {
	b := []byte("ERR unknown command '")
	b = append(b, args[0][:min(len(args[0]), 128)]...)
	b = append(b, "', with args beginning with: "...)
	n := len(b)
	for _, a := range args[1:] {
		if len(b)-n >= 128 {
			break
		}
		b = append(b, '\'')
		b = append(b, a[:min(len(a), 128-min(128, len(b)-n))]...)
		b = append(b, "' "...)
	}
	return string(b)
}

// StatusText returns the error text for a failed request.
func StatusText(s kv.Status, key []byte) string {
	switch s {
	case kv.StatusTooLarge:
		return "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
	case kv.StatusBadRequest:
		if len(key) == 0 {
			return "ERR kvwire has no empty keys"
		}
	case kv.StatusNoNumber:
		return errInteger
	case kv.StatusOverflow:
		return "ERR increment or decrement would overflow"
	case kv.StatusNoSpace, kv.StatusBusy:
		return "OOM command not allowed: " + s.String()
	}
	return "ERR kvwire: " + s.String()
}

// Add encodes the increment of an Add command, for kv.OpAdd, or returns an error text.
func (s *Spec) Add(args [][]byte, to *[8]byte) string {
	by := s.by
	if by == 0 {
		n, ok := kv.Int(args[2])
		if !ok {
			return errInteger
		}
		if s.minus {
			if n == math.MinInt64 {
				return "ERR decrement would overflow"
			}
			n = -n
		}
		by = n
	}
	binary.LittleEndian.PutUint64(to[:], uint64(by))
	return ""
}

// SetOptions are the options after SET's value.
type SetOptions struct {
	If  kv.If
	Get bool // the answer is the old value
}

// ReadSet parses the options, or returns an error text.
func ReadSet(args [][]byte) (o SetOptions, errText string) {
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case is(a, "NX") && o.If != kv.IfPresent:
			o.If = kv.IfAbsent
		case is(a, "XX") && o.If != kv.IfAbsent:
			o.If = kv.IfPresent
		case is(a, "GET"):
			o.Get = true
		case is(a, "EX"), is(a, "PX"), is(a, "EXAT"), is(a, "PXAT"), is(a, "KEEPTTL"):
			return o, noExpiry + "leave out " + strings.ToUpper(string(a))
		default:
			return o, errSyntax
		}
	}
	return o, ""
}

// noExpiry is the beginning of errors for commands and options that would set an expiry time (docs/adr/0012).
const noExpiry = "ERR kvwire has no expiry times: "

// NoExpiry returns the error text for a command of kind Expire.
func (s *Spec) NoExpiry() string {
	if strings.HasSuffix(s.Name, "setex") {
		return noExpiry + "SET sets a key without one"
	}
	return noExpiry + "leave out " + strings.ToUpper(s.Name)
}

// Expiry returns the answers to a command of kind Expiry, for a key that exists and for one that does not.
func (s *Spec) Expiry() (there, not int64) {
	if s.Name == "persist" {
		return 0, 0
	}
	return -1, -2
}

// ReadGetEx checks the options after GETEX's key, and returns an error text if they are not supported.
func ReadGetEx(args [][]byte) (errText string) {
	switch {
	case !slices.ContainsFunc(args, func(a []byte) bool { return !is(a, "PERSIST") }):
		return ""
	case len(args) == 2 && (is(args[0], "EX") || is(args[0], "PX") || is(args[0], "EXAT") || is(args[0], "PXAT")):
		return noExpiry + "leave out " + strings.ToUpper(string(args[0]))
	}
	return errSyntax
}

// ReadFlush checks the options of FLUSHALL and FLUSHDB, and returns an error text if they are wrong. Both commands always wait for the end of the flush.
func ReadFlush(args [][]byte) (errText string) {
	if len(args) == 0 || len(args) == 1 && (is(args[0], "ASYNC") || is(args[0], "SYNC")) {
		return ""
	}
	return errSyntax
}

// OneKey is the error for MSETNX with more than one key: the keys may be in different
// partitions, and no operation changes several of these atomically.
const OneKey = "ERR kvwire cannot set several keys atomically: MSETNX takes one key and one value"

// ReadRange parses GETRANGE's first and last offset, or returns an error text.
func ReadRange(args [][]byte) (first, last int64, errText string) {
	first, ok := kv.Int(args[0])
	last, ok2 := kv.Int(args[1])
	if !ok || !ok2 {
		return 0, 0, errInteger
	}
	return first, last, ""
}

// Subrange returns the bytes first to last, both included, of a value, for GETRANGE. Offsets below 0 count from the value's end.
func Subrange(value []byte, first, last int64) []byte {
	n := int64(len(value))
	if first < 0 && last < 0 && first > last {
		return nil
	}
	if first < 0 {
		first = max(first+n, 0)
	}
	if last < 0 {
		last = max(last+n, 0)
	}
	if last = min(last, n-1); first > last {
		return nil
	}
	return value[first : last+1]
}

// ReadOffset parses SETRANGE's offset for n bytes, or returns an error text. most is the largest length of a value.
func ReadOffset(arg []byte, n, most int) (offset uint32, errText string) {
	at, ok := kv.Int(arg)
	switch {
	case !ok:
		return 0, errInteger
	case at < 0:
		return 0, "ERR offset is out of range"
	case at > int64(most) || n > 0 && int(at)+n > most:
		return 0, StatusText(kv.StatusTooLarge, nil)
	}
	return uint32(at), ""
}

// ScanOptions are the arguments of SCAN.
type ScanOptions struct {
	Cursor uint64
	Match  []byte // nil: all
	Count  uint32
	None   bool // TYPE names a type that no item has
}

// CountMax is the most items that one SCAN visits.
const CountMax = 10_000

// ReadScan parses SCAN's arguments, its name first, or returns an error text.
func ReadScan(args [][]byte) (o ScanOptions, errText string) {
	var err error
	if o.Cursor, err = strconv.ParseUint(string(args[1]), 10, 64); err != nil {
		return o, "ERR invalid cursor"
	}
	o.Count = 10
	for i := 2; i < len(args); i += 2 {
		if i+1 == len(args) {
			return o, errSyntax
		}
		switch a, v := args[i], args[i+1]; {
		case is(a, "MATCH"):
			if len(v) > PatternMax {
				return o, ErrPattern
			}
			o.Match = v
		case is(a, "COUNT"):
			n, ok := kv.Int(v)
			if !ok {
				return o, errInteger
			}
			if n < 1 {
				return o, errSyntax
			}
			o.Count = uint32(min(n, CountMax))
		case is(a, "TYPE"):
			o.None = !is(v, "string")
		default:
			return o, errSyntax
		}
	}
	return o, ""
}

// is compares two words and ignores case.
func is(b []byte, word string) bool { return len(b) == len(word) && strings.EqualFold(string(b), word) }

// Session is the state of a connection that commands such as HELLO, AUTH and CLIENT SETNAME change.
type Session struct {
	Proto int // 2 or 3
	ID    int64
	Name  string // CLIENT SETNAME

	MaxValueBytes int

	// Describe appends the connection's line of CLIENT LIST, with its end of line.
	Describe func(b []byte) []byte

	// Authenticate checks a name and a secret, and returns whether the user may only read; nil: no authentication.
	Authenticate  func(name, secret []byte) (readOnly, ok bool)
	authenticated bool // by Authenticate
	user          string
	readOnly      bool
}

// Denies returns the error text for a command that the user, or an unauthenticated client, may not execute; "": it is allowed.
func (s *Session) Denies(spec *Spec) string {
	switch {
	case s.Authenticate == nil:
	case !s.authenticated && !spec.beforeAuth:
		return "NOAUTH Authentication required."
	case s.readOnly && spec.flags == "write":
		return s.notPermitted(spec.Name)
	}
	return ""
}

func (s *Session) notPermitted(command string) string {
	return "NOPERM User " + s.user + " has no permissions to run the '" + command + "' command"
}

// User returns the name of the authenticated user, and default if there is no authentication. "": not authenticated yet.
func (s *Session) User() string {
	switch {
	case s.Authenticate == nil:
		return "default"
	case !s.authenticated:
		return ""
	}
	return s.user
}

// authenticate authenticates a user, or returns an error text. A failure does not end an earlier authentication.
func (s *Session) authenticate(name, secret []byte) (errText string) {
	readOnly, ok := s.Authenticate(name, secret)
	if !ok {
		return errSecret
	}
	if s.authenticated, s.readOnly, s.user = true, readOnly, string(name); s.user == "" {
		s.user = "default"
	}
	return ""
}

// nameMax bounds a connection's name.
const nameMax = 128

// Echoed returns the argument that a command returns as a bulk string. ok is false for other commands, which Session.Answer answers.
func Echoed(spec *Spec, args [][]byte) (arg []byte, ok bool) {
	if spec.Name == "echo" || spec.Name == "ping" && len(args) == 2 {
		return args[1], true
	}
	return nil, false
}

// Answer appends the answer to a command of kind Answer, except those of Echoed. The answer is bounded, because such a command
// has few arguments. A command with an answer of more than a few hundred bytes changes nothing, so it may be executed twice.
func (s *Session) Answer(b []byte, spec *Spec, args [][]byte) []byte {
	switch spec.Name {
	case "ping":
		if len(args) == 1 {
			return AppendStatus(b, "PONG")
		}
		return AppendError(b, "ERR wrong number of arguments for 'ping' command")
	case "select":
		switch n, ok := kv.Int(args[1]); {
		case !ok:
			return AppendError(b, errInteger)
		case n != 0:
			return AppendError(b, "ERR DB index is out of range")
		}
		return AppendStatus(b, "OK")
	case "reset":
		s.Proto, s.Name, s.authenticated = 2, "", false
		return AppendStatus(b, "RESET")
	case "auth":
		return s.auth(b, args)
	case "hello":
		return s.hello(b, args)
	case "client":
		return s.client(b, args)
	case "config":
		return s.config(b, args)
	case "command":
		return s.command(b, args)
	}
	return AppendError(b, Unknown(args))
}

// auth executes AUTH. Without authentication it answers like a Redis without a password, where the default user may use any.
func (s *Session) auth(b []byte, args [][]byte) []byte {
	switch {
	case len(args) <= 3 && s.Authenticate != nil:
		var name []byte
		if len(args) == 3 {
			name = args[1]
		}
		if text := s.authenticate(name, args[len(args)-1]); text != "" {
			return AppendError(b, text)
		}
	case len(args) == 2:
		return AppendError(b, "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
	case len(args) > 3:
		return AppendError(b, errSyntax)
	case !is(args[1], "default"):
		return AppendError(b, errSecret)
	}
	return AppendStatus(b, "OK")
}

func (s *Session) hello(b []byte, args [][]byte) []byte {
	proto, name := s.Proto, s.Name
	var who [][]byte // name and secret
	if len(args) > 1 {
		n, ok := kv.Int(args[1])
		if !ok {
			return AppendError(b, "ERR Protocol version is not an integer or out of range")
		}
		if n != 2 && n != 3 {
			return AppendError(b, "NOPROTO unsupported protocol version")
		}
		proto = int(n)
	}
	for i := 2; i < len(args); {
		switch a := args[i]; {
		case is(a, "AUTH") && i+2 < len(args):
			who = args[i+1 : i+3]
			i += 3
		case is(a, "SETNAME") && i+1 < len(args):
			if !goodName(args[i+1]) {
				return AppendError(b, errName)
			}
			name = string(args[i+1])
			i += 2
		default:
			return AppendError(b, fmt.Sprintf("ERR Syntax error in HELLO option '%.128s'", a))
		}
	}
	switch {
	case who == nil && s.Authenticate != nil && !s.authenticated:
		return AppendError(b, "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
	case who != nil && s.Authenticate == nil && !is(who[0], "default"):
		return AppendError(b, errSecret)
	case who != nil && s.Authenticate != nil:
		if text := s.authenticate(who[0], who[1]); text != "" {
			return AppendError(b, text)
		}
	}
	s.Proto, s.Name = proto, name
	b = AppendMap(b, 7, s.Proto)
	b = AppendBulk(AppendBulk(b, "server"), "kvwire")
	b = AppendBulk(AppendBulk(b, "version"), redisVersion)
	b = AppendInt(AppendBulk(b, "proto"), int64(s.Proto))
	b = AppendInt(AppendBulk(b, "id"), s.ID)
	b = AppendBulk(AppendBulk(b, "mode"), "standalone")
	b = AppendBulk(AppendBulk(b, "role"), "master")
	return AppendArray(AppendBulk(b, "modules"), 0)
}

// redisVersion is the version of Redis whose answers these follow.
const redisVersion = "7.0.0"

const errName = "ERR Client names cannot contain spaces, newlines or special characters."

// goodName reports whether a connection may have this name.
func goodName(b []byte) bool {
	return len(b) <= nameMax && !slices.ContainsFunc(b, func(c byte) bool { return c < '!' || c > '~' })
}

func (s *Session) client(b []byte, args [][]byte) []byte {
	sub, text := findSub("client", args)
	switch sub {
	case "setname":
		if !goodName(args[2]) {
			return AppendError(b, errName)
		}
		s.Name = string(args[2])
	case "getname":
		if s.Name == "" {
			return AppendNull(b, s.Proto)
		}
		return AppendBulk(b, s.Name)
	case "id":
		return AppendInt(b, s.ID)
	case "info":
		return AppendVerbatim(b, s.Describe(nil), s.Proto)
	case "list": // TYPE with a type that no connection has
		return AppendVerbatim(b, nil, s.Proto)
	case "":
		return AppendError(b, text)
	}
	return AppendStatus(b, "OK")
}

// ReadClient parses a CLIENT LIST. lists is true if connections are to be listed, only those with these ids if there are any (8 bytes each, little-endian);
// errText is not empty after an error. Answer answers all other CLIENT commands. All connections are of type normal. A client that may only read may not list
// other connections.
func (s *Session) ReadClient(args [][]byte) (lists bool, ids []byte, errText string) {
	if sub, text := findSub("client", args); text != "" || sub != "list" {
		return false, nil, text
	}
	switch n := len(args); {
	case s.Authenticate != nil && s.readOnly:
		return false, nil, s.notPermitted("client|list")
	case n == 2:
		return true, nil, ""
	case n == 4 && is(args[2], "TYPE"):
		switch t := args[3]; {
		case is(t, "normal"):
			return true, nil, ""
		case is(t, "master"), is(t, "replica"), is(t, "slave"), is(t, "pubsub"):
			return false, nil, ""
		default:
			return false, nil, fmt.Sprintf("ERR Unknown client type '%.128s'", t)
		}
	case n > 3 && is(args[2], "ID"):
		for _, a := range args[3:] {
			id, ok := kv.Int(a)
			if !ok {
				return false, nil, "ERR Invalid client ID"
			}
			ids = binary.LittleEndian.AppendUint64(ids, uint64(id))
		}
		return true, ids, ""
	}
	return false, nil, errSyntax
}

// config answers CONFIG GET for the parameters that clients read when they connect. None can be set: a server's options are flags.
func (s *Session) config(b []byte, args [][]byte) []byte {
	sub, text := findSub("config", args)
	switch sub {
	case "get":
		all := [...][2]string{{"appendonly", "no"}, {"databases", "1"}, {"maxmemory", "0"}, {"proto-max-bulk-len", strconv.Itoa(s.MaxValueBytes)}, {"save", ""}}
		var wanted [len(all)]bool
		var p Pattern
		for _, a := range args[2:] {
			if len(a) > PatternMax {
				return AppendError(b, ErrPattern)
			}
			p.Compile(bytes.ToLower(a))
			for i, v := range all {
				wanted[i] = wanted[i] || p.Match([]byte(v[0]))
			}
		}
		n := 0
		for _, w := range wanted {
			if w {
				n++
			}
		}
		b = AppendMap(b, n, s.Proto)
		for i, v := range all {
			if wanted[i] {
				b = AppendBulk(AppendBulk(b, v[0]), v[1])
			}
		}
		return b
	case "set":
		return AppendError(b, "ERR CONFIG SET failed: kvwire is set up by flags when it starts: kvwire serve --help")
	case "resetstat":
		return AppendStatus(b, "OK")
	}
	return AppendError(b, text)
}

func (s *Session) command(b []byte, args [][]byte) []byte {
	if len(args) == 1 {
		b = AppendArray(b, len(specs))
		for i := range specs {
			b = specs[i].append(b)
		}
		return b
	}
	sub, text := findSub("command", args)
	switch sub {
	case "count":
		return AppendInt(b, int64(len(specs)))
	case "docs":
		return AppendMap(b, 0, s.Proto)
	case "info":
		b = AppendArray(b, len(args)-2)
		for _, name := range args[2:] {
			if i := slices.IndexFunc(specs, func(s Spec) bool { return s.is(name) }); i >= 0 {
				b = specs[i].append(b)
			} else {
				b = AppendNull(b, s.Proto)
			}
		}
		return b
	}
	return AppendError(b, text)
}

// append describes a command: name, arity, flags, first and last key, step.
func (s *Spec) append(b []byte) []byte {
	b = AppendInt(AppendBulk(AppendArray(b, 6), s.Name), int64(s.Arity))
	b = AppendStatus(AppendArray(b, 1), s.flags)
	return AppendInt(AppendInt(AppendInt(b, int64(s.First)), int64(s.Last)), int64(s.Step))
}
