package transport

import "github.com/kvwire/kvwire/kv"

// Fan returns one handler for several connections of one loop to the same server. If the hello has a shard map, and
// each loop with keys has a connection, a request goes to the loop that owns its key; else to any
// connection. Request.Slot selects one of several. So a caller that numbers its requests in flight from
// 0 has an equal number of them on each connection. conns must not be empty.
func Fan(conns []Conn) kv.Handler {
	if len(conns) == 1 {
		return conns[0]
	}
	shards := conns[0].Hello().Shards
	f := &fan{all: conns, owners: make([][]Conn, len(shards))}
	for i, l := range shards {
		for _, c := range conns {
			if c.Hello().Loop == l {
				f.owners[i] = append(f.owners[i], c)
			}
		}
		if len(f.owners[i]) == 0 {
			f.owners = nil // a loop has no connection: the server routes
			break
		}
	}
	return f
}

type fan struct {
	all    []Conn
	owners [][]Conn // by shard; empty: the server routes
}

// Err returns the error of the first connection that ended; nil while all are open. Only their loop may call it.
func (f *fan) Err() error {
	for _, c := range f.all {
		if err := c.Err(); err != nil {
			return err
		}
	}
	return nil
}

// Submit implements kv.Handler.
func (f *fan) Submit(r *kv.Request) {
	to := f.all
	if len(f.owners) > 1 && r.Op != kv.OpScan && len(r.Key) > 0 {
		to = f.owners[kv.Shard(r.Key, len(f.owners))]
	}
	to[r.Slot%uint64(len(to))].Submit(r)
}
