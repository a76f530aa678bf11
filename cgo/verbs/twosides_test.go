//go:build rdma && cgo && linux

package verbs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/kvwire/kvwire/cgo/verbs/model"
)

// What a program with nothing but verbs needs, between two processes that spin:
//
//	go test -tags giouring,rdma -ldflags=-checklinkname=0 -run '^$' -bench PingPong -benchtime 1x ./cgo/verbs
//	go test -tags giouring,rdma -ldflags=-checklinkname=0 -run '^$' -bench DeviceAsLink -benchtime 1x ./cgo/verbs     # on a device
//
// The second one prints a link for --rdma-model that takes as long as the device does for each part of a message.

// burst is some messages, sent at once, and one answer to all of them.
type burst struct {
	Name                  string
	Messages, Chain       int  // work requests, and most of them per doorbell
	Bytes, Rounds, Answer int  // bytes of a message; rounds; bytes of the answer
	Read                  bool // READs, which have no other answer
}

// took are the medians of a burst's rounds, in ns: until the answer has come, and of the call that posts.
type took struct{ RoundTrip, Post float64 }

const sideEnv = "KVWIRE_TEST_SIDE" // of a process that is one side: ping or pong, and its bursts as JSON
const sideQueue = 32

// hello is what a side needs of the other one.
type hello struct {
	QP, RKey uint32
	Remote   uint64
}

// sides runs bursts between two processes, over a link of the model; over the device, if it is "".
func sides(t testing.TB, link string, bursts []burst) map[string]took {
	t.Helper()
	type side struct {
		cmd *exec.Cmd
		in  io.WriteCloser
		out *bufio.Reader
	}
	plan, err := json.Marshal(bursts)
	if err != nil {
		t.Fatal(err)
	}
	var both [2]side
	for i, name := range []string{"ping", "pong"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestASide$", "-test.timeout", "150s")
		cmd.Env = append(os.Environ(), sideEnv+"="+name, linkEnv+"="+link)
		cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{w}, os.Stderr, os.Stderr
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		both[i] = side{cmd, in, bufio.NewReader(r)}
		if _, err := fmt.Fprintf(in, "%s\n", plan); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // hellos, and then that both are connected
		for i := range both {
			line, err := both[i].out.ReadString('\n')
			if err == nil {
				_, err = io.WriteString(both[1-i].in, line)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	all := map[string]took{}
	if err := json.NewDecoder(both[0].out).Decode(&all); err != nil {
		t.Fatal(err)
	}
	for _, s := range both {
		if err := errors.Join(s.in.Close(), s.cmd.Wait()); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestASide is the program of a process that sides has started.
func TestASide(t *testing.T) {
	name := os.Getenv(sideEnv)
	if name == "" {
		t.Skip("a part of other tests")
	}
	in, out := bufio.NewReader(os.Stdin), os.NewFile(3, "results")
	var plan []burst
	next := func(to any) {
		line, err := in.ReadBytes('\n')
		if err == nil && to != nil {
			err = json.Unmarshal(line, to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	next(&plan)
	d := open(t)
	e := &oneSide{end: newEndOf(t, d, RemoteRead|RemoteWrite, 256<<10, sideQueue)}
	ro, err := d.Register(e.mem, RemoteRead)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { e.must(ro.Close()) }()
	e.must(json.NewEncoder(out).Encode(hello{e.qp.Num, ro.RKey, Address(e.mem)}))
	var peer hello
	next(&peer)
	connectTo(t, e.end, peer.QP)
	e.recvs(sideQueue)
	e.must(json.NewEncoder(out).Encode("connected"))
	next(nil)
	if name == "pong" {
		for _, b := range plan {
			if !b.Read {
				e.answer(b)
			}
		}
		_, _ = io.Copy(io.Discard, in) // until the other side has its results
		return
	}
	all := map[string]took{}
	for _, b := range plan {
		all[b.Name] = e.ask(b, peer)
	}
	e.must(json.NewEncoder(out).Encode(all))
}

// oneSide is an end, with the completions that were not waited for yet.
type oneSide struct {
	*end
	receives, sends int
}

// recvs posts receives in the second half of the memory; what comes is not looked at.
func (s *oneSide) recvs(n int) {
	s.t.Helper()
	for range n {
		s.must(s.batch.Recv(s.qp, nil, 1, s.mem[len(s.mem)/2:], s.key.LKey))
	}
	s.must(s.batch.PostRecvs())
}

// send posts messages, the last one signalled, at most chain with one doorbell.
func (s *oneSide) send(n, chain, bytes int) {
	for i := range n {
		if o := s.op(OpPlain, bytes); i < n-1 {
			o.Flags = 0
		}
	}
	_, _, err := s.batch.Post(chain)
	s.must(err)
}

// await spins until so many receives and sends have completed.
func (s *oneSide) await(receives, sends int) {
	for until := time.Now().Add(patience); s.receives < receives || s.sends < sends; {
		cs, err := s.cq.Spin(10_000)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, c := range cs {
			switch {
			case c.Status != 0:
				s.t.Fatal(StatusText(c.Status))
			case c.Recv != 0:
				s.receives++
			default:
				s.sends++
			}
		}
		if len(cs) == 0 && time.Now().After(until) {
			s.t.Fatalf("%d of %d receives and %d of %d sends have completed", s.receives, receives, s.sends, sends)
		}
	}
	s.receives -= receives
	s.sends -= sends
}

// answer is pong's part of a burst.
func (s *oneSide) answer(b burst) {
	for range b.Rounds {
		s.await(b.Messages, 0)
		if b.Messages > 1 { // all its receives may be used up
			s.recvs(b.Messages)
		}
		s.send(1, 1, b.Answer)
		if b.Messages == 1 {
			s.recvs(1)
		}
		s.await(0, 1)
	}
}

// ask is ping's part.
func (s *oneSide) ask(b burst, peer hello) took {
	trips, posts := make([]float64, b.Rounds), make([]float64, b.Rounds)
	for i := range b.Rounds {
		begun := time.Now()
		if b.Read {
			for i := range b.Messages {
				o := s.op(OpRead, b.Bytes)
				o.Remote, o.RKey = peer.Remote+uint64(i*b.Bytes), peer.RKey
				if i < b.Messages-1 {
					o.Flags = 0
				}
			}
			_, _, err := s.batch.Post(b.Chain)
			s.must(err)
		} else {
			s.send(b.Messages, b.Chain, b.Bytes)
		}
		posted := time.Now()
		if b.Read {
			s.await(0, 1)
		} else {
			s.await(1, 0)
		}
		trips[i], posts[i] = float64(time.Since(begun)), float64(posted.Sub(begun))
		if !b.Read {
			s.recvs(1)
			s.await(0, 1)
		}
	}
	slices.Sort(trips)
	slices.Sort(posts)
	return took{trips[b.Rounds/2], posts[b.Rounds/2]}
}

// TestTwoProcessesExchangeMessages also keeps the benchmarks' code working.
func TestTwoProcessesExchangeMessages(t *testing.T) {
	link := ""
	if modelSymbols != nil {
		link = "rtt=2us,loss=0.001,seed=3"
	}
	if d := open(t); d == nil {
		return
	}
	got := sides(t, link, []burst{{Name: "one", Messages: 1, Chain: 1, Bytes: 64, Answer: 64, Rounds: 300}, {Name: "many", Messages: 16, Chain: 16, Bytes: 64, Answer: 8, Rounds: 50},
		{Name: "read", Read: true, Messages: 8, Chain: 8, Bytes: 4096, Rounds: 100}, {Name: "large", Messages: 1, Chain: 1, Bytes: 100_000, Answer: 100_000, Rounds: 20}})
	if len(got) != 4 {
		t.Error(got)
	}
	for name, took := range got {
		if took.RoundTrip < took.Post || took.Post <= 0 || link != "" && took.RoundTrip < 2000 {
			t.Errorf("%s: %+v", name, took)
		}
	}
	t.Logf("ns: %+v", got)
}

// BenchmarkPingPong compares the round trip of a message of 64 B, answered by another, with the time that the link was set to.
func BenchmarkPingPong(b *testing.B) {
	for _, rtt := range []time.Duration{0, 1000, 2000, 5000, 20_000} {
		b.Run(rtt.String(), func(b *testing.B) {
			link := model.Link{RTT: rtt, BitsPerSecond: 100e9, MTU: 4096}
			random := uint64(0)
			set := rtt + 2*link.Pass(&random, 0, 64).OnLink
			var trip float64
			for b.Loop() {
				trip = sides(b, link.String(), []burst{{Name: "one", Messages: 1, Chain: 1, Bytes: 64, Answer: 64, Rounds: 20_000}})["one"].RoundTrip
			}
			b.ReportMetric(trip, "trip-ns")
			b.ReportMetric(float64(set), "set-ns")
			b.ReportMetric(trip-float64(set), "more-ns")
			b.ReportMetric(trip/float64(set), "trip/set")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkReads reads pieces of 4 KiB, 16 at once, over a link that takes no time.
func BenchmarkReads(b *testing.B) {
	const pieces, bytes = 16, 4096
	for b.Loop() {
		trip := sides(b, "rtt=0s,rate=0", []burst{{Name: "reads", Read: true, Messages: pieces, Chain: pieces, Bytes: bytes, Rounds: 20_000}})["reads"].RoundTrip
		b.ReportMetric(pieces*bytes/trip, "GB/s")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkDeviceAsLink measures what a message costs on this machine's device, and on the model without any times of its own. The difference is the link that has the model take
// as long as the device.
func BenchmarkDeviceAsLink(b *testing.B) {
	d := open(b)
	port, err := d.Port(1)
	if err != nil {
		b.Fatal(err)
	}
	const large = 32 << 10
	rounds := 3000
	if os.Getenv("KVWIRE_ACCEL") == "tcg" {
		rounds = 300
	}
	bursts := []burst{{Name: "one", Messages: 1, Chain: 1, Bytes: 64, Answer: 64, Rounds: rounds}, {Name: "chain", Messages: 16, Chain: 16, Bytes: 64, Answer: 64, Rounds: rounds / 4},
		{Name: "large", Messages: 1, Chain: 1, Bytes: large, Answer: large, Rounds: rounds / 4}, {Name: "read", Read: true, Messages: 1, Chain: 1, Bytes: 64, Rounds: rounds}}
	for b.Loop() {
		is, bare := sides(b, "", bursts), sides(b, model.Link{MTU: port.MTU}.String(), bursts)
		fmt.Printf("# device, ns: %+v\n# model without times, ns: %+v\n", is, bare)
		more := func(of func(map[string]took) float64) time.Duration {
			return max(0, time.Duration(of(is)-of(bare)).Round(10*time.Nanosecond))
		}
		wr := more(func(m map[string]took) float64 { return (m["chain"].Post - m["one"].Post) / 15 })
		link := model.Link{MTU: port.MTU, WR: wr, Doorbell: max(0, more(func(m map[string]took) float64 { return m["one"].Post })-wr)}
		// The model posts, and then delivers. Soft-RoCE delivers before its call returns: what comes behind is in the call, but not in the round trip.
		trip := more(func(m map[string]took) float64 { return m["one"].RoundTrip })
		link.WR = min(link.WR, trip/2)
		link.Doorbell = min(link.Doorbell, trip/2-link.WR)
		posts := link.WR + link.Doorbell
		link.RTT = trip - 2*posts
		link.Read = max(0, more(func(m map[string]took) float64 { return m["read"].RoundTrip })-posts-link.RTT)
		if bytes := more(func(m map[string]took) float64 { return m["large"].RoundTrip - m["one"].RoundTrip }); bytes > 0 {
			link.BitsPerSecond = uint64(2 * large * 8 * 1e9 / float64(bytes))
			link.RTT = max(0, link.RTT-2*link.Pass(new(uint64), 0, 64).OnLink)
		}
		fmt.Printf("--rdma-model %s\n", link)
	}
}
