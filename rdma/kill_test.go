//go:build rdma && cgo && linux

package rdma

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/transport"
	tt "github.com/kvwire/kvwire/transport/transporttest"
)

// Values that travel as several messages: an answer of one, and one of many.
const killedValueBytes = 30_000

// TestKillsAtRandomNeitherHangNorCorrupt kills, under load, processes that write into this process's memory. Their requests end, what has arrived is what was sent,
// other connections go on, and nothing is left behind.
func TestKillsAtRandomNeitherHangNorCorrupt(t *testing.T) {
	need(t, Options{})
	if Modelled() == nil {
		t.Skip("of a device, the kernel frees what a killed process had: TestFailures kills a few")
	}
	testenv.NotShort(t, "kills many processes")
	testenv.NotRaced(t)
	kills := 90
	if tt.Long {
		kills = 1000
	}
	for name, o := range map[string]Options{"send": {}, "write": {Verb: Write}, "shared receive queue": {SRQ: true}} {
		n := need(t, o)
		t.Run(name+"/Server", func(t *testing.T) { killServers(t, n, kills/6) })
		t.Run(name+"/Client", func(t *testing.T) { killClients(t, n, kills/6) })
	}
}

// killServers kills servers that answer gets.
func killServers(t *testing.T, n tt.Network, kills int) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	well := bystander(t, r)
	well()
	before := resources(t)
	want := tt.Fill(killedValueBytes, 1)
	ended := map[kv.Status]int{}
	for range kills {
		child := tt.StartChild(t, n, tt.Plan{Answers: true})
		conn := dial(t, n, r.Loop, child.Addr, transport.DialOptions{Depth: 32})
		c := tt.NewCaller(t, r.Loop, conn)
		c.Expect(tt.Put("k", want), kv.StatusOK)
		var all []*kv.Request
		for range 32 {
			all = append(all, tt.Get("k", killedValueBytes), tt.Put("k", want))
		}
		c.Submit(all...)
		inFlight := len(all)
		for range rand.IntN(300) {
			q := c.Next()
			if q.Status != kv.StatusOK || q.Op == kv.OpGet && !bytes.Equal(q.Value, want) {
				t.Fatalf("%v: %v, %d B", q.Op, q.Status, len(q.Value))
			}
			c.Submit(q)
		}
		gone := make(chan struct{})
		go func() { child.Kill(); close(gone) }()
		for inFlight > 0 {
			q := c.Next()
			ended[q.Status]++
			switch {
			case q.Status != kv.StatusOK:
				inFlight--
			case q.Op == kv.OpGet && !bytes.Equal(q.Value, want):
				t.Fatal("another value")
			default:
				c.Submit(q)
			}
		}
		<-gone
		conn.Hangup()
		well()
	}
	t.Logf("requests after the kills: %v", ended)
	untilResources(t, before)
}

// killClients kills clients that write requests to this process's server.
func killClients(t *testing.T, n tt.Network, kills int) {
	r := tt.NewRig(t, n, 1, transport.ServerOptions{})
	well := bystander(t, r)
	owner := tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
	want := tt.Fill(killedValueBytes, 2)
	owner.Expect(tt.Put("large", want), kv.StatusOK)
	before := resources(t)
	for i := range kills {
		var children []*tt.Child
		for range 2 {
			children = append(children, tt.StartChild(t, n, tt.Plan{Dial: r.Server.Addr(), Depth: 16, Room: killedValueBytes}))
		}
		gone := make(chan struct{})
		kill := rand.IntN(100)
		for j := range 100 {
			if j == kill {
				go func() {
					for _, c := range children {
						c.Kill()
					}
					close(gone)
				}()
			}
			if q := owner.Expect(tt.Get("large", killedValueBytes), kv.StatusOK); !bytes.Equal(q.Value, want) {
				t.Fatal(fmt.Sprint("another value, at kill ", i))
			}
		}
		<-gone
		well()
	}
	untilResources(t, before)
}
