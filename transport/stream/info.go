package stream

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport/socket"
	"golang.org/x/sys/unix"
)

// answerInfo answers kv.StatsInfo: it reads the counters of all loops, one loop after the other, and the kernel's figures of the process. Any goroutine except a loop's
// may call it.
func (s *server) answerInfo(t *loop.Router, r *kv.Request) {
	t.Stats(kv.StatsBrief, r)
	if r.Status != kv.StatusOK {
		return
	}
	c, err := readBrief(r.Value)
	if err != nil {
		r.Status = kv.StatusCorrupt
		return
	}
	memory, _ := sys.Resident(0) // an error leaves 0: not known
	f := resp.Facts{PID: os.Getpid(), Uptime: time.Since(s.since), MemoryBytes: memory, User: c.Process.User, Sys: c.Process.Sys, Items: c.items()}
	f.Version, f.OS = version(), system()
	if _, port, err := net.SplitHostPort(s.addr); err == nil {
		f.Port, _ = strconv.Atoi(port)
	}
	if err := loop.TryEach(s.p.loops, func(i int, _ *loop.Loop) error {
		h := s.p.hosts[i]
		f.Conns += len(h.servers)
		f.ConnsMax += h.O.MaxConns
		f.Opened += h.count.Opened
		f.Rejected += h.rejected
		f.Commands += h.commands
		f.BytesIn += h.count.BytesIn
		f.BytesOut += h.count.BytesOut
		return nil
	}); err != nil {
		r.Status = kv.StatusClosed
		return
	}
	r.SetAnswer(f.Append(nil, r.Key))
}

// version returns the version that the program was built from, if it is known.
func version() string {
	b, ok := debug.ReadBuildInfo()
	if !ok || b.Main.Version == "(devel)" {
		return ""
	}
	return b.Main.Version
}

// system describes the kernel: Linux, its release, and the machine.
func system() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
}

// clientList is a CLIENT LIST under way. It writes into the room for the answer.
type clientList struct {
	nth  uint64
	ids  []byte // kv.StatsClients'
	text []byte
	at   int // index among the loop's connections: all from there on have been listed
}

// answerClients answers kv.StatsClients: one loop after the other lists its connections, a part per turn. If the room is too small, the list begins again with twice
// as much. Any goroutine except a loop's may call it.
func (s *server) answerClients(r *kv.Request) {
	s.listing.Lock()
	defer s.listing.Unlock()
	s.lists++
	q := clientList{nth: s.lists, ids: r.Key, text: r.Value[:0]}
	for i, l := range s.p.loops {
		fits := true
		for q.at = math.MaxInt; q.at > 0 && fits; {
			if err := l.Call(func() { fits = s.p.hosts[i].listClients(&q) }); err != nil {
				r.Status = kv.StatusClosed
				return
			}
		}
		if !fits {
			r.Status, r.Need = kv.StatusTooSmall, uint32(2*cap(r.Value))
			return
		}
	}
	r.Status, r.Value = kv.StatusOK, q.text
}

// listPart is the most connections that a loop lists in one turn: some 100 µs.
const listPart = 128

// listClients adds a part of the loop's connections to q, the last ones first. ok is false if there is no room. When a connection ends meanwhile, the last one takes
// its index: that one was listed already, or will be. Server.listed prevents that it is listed twice.
func (h *Host) listClients(q *clientList) (ok bool) {
	q.at = min(q.at, len(h.servers))
	for range min(listPart, q.at) {
		q.at--
		c := h.servers[q.at]
		if c.listed == q.nth || c.state == stateMoving || c.state == stateDead || !q.includes(c.number) {
			continue
		}
		c.listed = q.nth
		if cap(q.text)-len(q.text) < lineMax {
			return false
		}
		q.text = c.describe(q.text)
	}
	return true
}

func (q *clientList) includes(number int64) bool {
	for ids := q.ids; len(ids) >= 8; ids = ids[8:] {
		if binary.LittleEndian.Uint64(ids) == uint64(number) {
			return true
		}
	}
	return len(q.ids) == 0
}

// lineMax bounds a line, in bytes: a connection's name has at most 128 bytes and a user's name at most 255; all else is short.
const lineMax = 1 << 10

// describe appends the connection's line of CLIENT LIST, with those of Redis's fields that apply here.
func (c *Server) describe(b []byte) []byte {
	now := c.h.L.AwakeNow()
	l := c.p.client()
	const second = int64(time.Second)
	b = fmt.Appendf(b, "id=%d addr=%s name=%s age=%d idle=%d flags=N db=0 cmd=%s user=%s", c.number, address(c.name), l.name,
		(now-c.accepted)/second, (now-max(c.inSince, c.accepted))/second, l.command, l.user)
	if l.version > 0 {
		b = fmt.Appendf(b, " resp=%d", l.version)
	}
	return append(b, '\n')
}

// address returns a peer's address for CLIENT LIST, as one word. For a unix socket, which has no address, it is the same as in Redis.
func address(peer string) string {
	if strings.HasPrefix(peer, socket.UnixPeer) {
		return "unix:0"
	}
	return peer
}
