package stream

import (
	"strings"
	"testing"

	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/resp"
	"github.com/kvwire/kvwire/transport"
)

// undeletable is a partition with three keys. Deletes of the second end with a status.
type undeletable struct {
	answers
	status kv.Status
	keys   []string
	tries  int
}

func (u *undeletable) Submit(r *kv.Request) {
	r.Status, r.Need = kv.StatusOK, 0
	switch r.Op {
	case kv.OpKeys:
		r.Value, r.Record = r.Value[:0], kv.WalkEnd
		for i, k := range u.keys {
			if uint32(i) < r.Limit {
				r.Value, _ = kv.AppendItem(r.Value, []byte(k), nil)
			}
		}
	case kv.OpDelete:
		keep := u.keys[:0]
		for _, k := range u.keys {
			switch {
			case k != string(r.Key):
				keep = append(keep, k)
			case k == "b":
				if u.tries++; u.tries < 100 { // or a flush that goes on for ever would not end with this test
					keep, r.Status = append(keep, k), u.status
				}
			}
		}
		u.keys = keep
	}
	u.l.Finish(r)
}

// FLUSHDB with a failed delete ends with that error, and the connection stays open.
func TestAFlushEndsWithTheErrorOfADelete(t *testing.T) {
	for status, text := range map[kv.Status]string{kv.StatusNoSpace: "-OOM", kv.StatusIOError: "-ERR"} {
		t.Run(status.String(), func(t *testing.T) {
			u := &undeletable{status: status, keys: []string{"a", "b", "c"}}
			p := acceptPeerOf(t, func(l *loop.Loop) loop.Partition { u.l = l; return u }, transport.ServerOptions{})
			got := ""
			for _, command := range []string{"FLUSHDB", "PING"} {
				p.receive(resp.AppendBulk(resp.AppendArray(nil, 1), command))
				for range 400 {
					some := p.gather()
					p.send(len(some))
					if got += string(some); len(some) > 0 {
						break
					}
				}
			}
			if !strings.HasPrefix(got, text) || !strings.HasSuffix(got, "\r\n+PONG\r\n") {
				t.Fatalf("answers %q", got)
			}
			if len(u.keys) != 1 || u.tries != 1 {
				t.Fatalf("%d keys are left after %d tries: the others are deleted", len(u.keys), u.tries)
			}
		})
	}
}
