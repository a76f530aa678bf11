package uring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
	tt "github.com/kvwire/kvwire/transport/transporttest"
	"github.com/kvwire/kvwire/wire"
	"golang.org/x/sys/unix"
)

// watched is the transport with its endpoints in the test's hands.
type watched struct {
	Transport
	ends []*endpoint // of the last server, by loop
}

func (w *watched) Serve(addr string, g *loop.Group, o transport.ServerOptions) (transport.Server, error) {
	w.ends = nil
	own, err := w.Defaults()
	if err != nil {
		return nil, err
	}
	return stream.Serve(addr, g, o, netsock.Options{}, func(h *stream.Host, p *stream.Peers) (stream.Endpoint, error) {
		e, err := newEndpoint(h, p, own)
		if err == nil {
			w.ends = append(w.ends, e.(*endpoint))
		}
		return e, err
	})
}

func watch(o Options) (*watched, tt.Network) {
	w := &watched{Transport: Transport{o}}
	n := network(o)
	n.Transport = w
	return w, n
}

// everyway are the options that decide how memory is given to the kernel.
var everyway = map[string]Options{"waitall": {}, "step": {Large: Step}, "linked": {Large: Linked},
	"multishot": {Receive: Multishot}, "zerocopy": {Large: ZeroCopy, ZeroCopyBytes: 1}}

// inEveryWay has f run at a server of one loop, with each of everyway; what either end frees meanwhile is poisoned.
func inEveryWay(t *testing.T, o transport.ServerOptions, f func(t *testing.T, r *tt.Rig, e *endpoint)) {
	testenv.Uring(t)
	arena.Poison.Store(true)
	defer arena.Poison.Store(false)
	for name, way := range everyway {
		t.Run(name, func(t *testing.T) {
			w, n := watch(way)
			r := tt.NewRig(t, n, 1, o)
			f(t, r, w.ends[0])
		})
	}
}

// rawClient is a TCP connection to a server, after the hellos.
func rawClient(t *testing.T, addr string, depth uint16) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(tt.WaitMax))
	if _, err := c.Write((&wire.ClientHello{Version: wire.Version, Depth: depth, Loop: wire.AnyLoop}).Append(nil)); err != nil {
		t.Fatal(err)
	}
	if h, err := tt.ReadHello(c); err != nil || h.Code != wire.Granted {
		t.Fatalf("hello: %v, %v", h, err)
	}
	return c.(*net.TCPConn)
}

func request(op kv.Op, key string, valueBytes int) []byte {
	b := make([]byte, wire.HeaderBytes)
	(&wire.Header{Op: op, KeyBytes: uint16(len(key)), ValueBytes: uint32(valueBytes)}).Encode(b)
	return append(b, key...)
}

// The server ends a connection whose receive is in flight, and for which bytes have arrived that the kernel has not copied
// yet: their memory must still belong to the connection. Freed memory is overwritten, so a wrong copy would show in the next
// message at that place.
func TestMemoryStaysTheConnectionsUntilItsReceiveCompletes(t *testing.T) {
	inEveryWay(t, transport.ServerOptions{}, func(t *testing.T, r *tt.Rig, e *endpoint) {
		for range tt.Effort(5) {
			c := rawClient(t, r.Server.Addr(), 1)
			if _, err := c.Write(append(request(kv.OpPut, "k", 1<<20), tt.Fill(100_000, 1)...)); err != nil {
				t.Fatal(err)
			}
			on := func(f func()) {
				if err := e.engine.l.Call(f); err != nil {
					t.Fatal(err)
				}
			}
			tt.Until(t, "the body's receive to be under way", func() (ok bool) {
				on(func() {
					e.engine.sockets.Each(func(_ uint64, s **socket) { ok = ok || (*s).in.body >= e.engine.o.BodyBytes && (*s).in.armed })
				})
				return ok
			})
			on(func() {
				if _, err := c.Write(tt.Fill(200_000, 2)); err != nil { // now it is in the socket, and not received
					t.Error(err)
				}
				e.engine.Each(func(s stream.ConnIO) { s.Close(transport.ErrStalled) })
			})
			tt.Until(t, "the connection to be gone", func() (ok bool) {
				on(func() { ok = e.engine.Len() == 0 && e.Host.Pool.InUse() == 0 })
				return ok
			})
			k := tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{})) // in the same memory
			k.Expect(tt.Put("k", tt.Fill(1<<20, 3)), kv.StatusOK)
			k.Expect(tt.Get("k", 1<<20), kv.StatusOK)
			r.Hangup(k)
		}
	})
}

// A peer resets the connection while a chain of sends, or whatever there is instead, is on its way to it.
func TestAResetInTheMiddleOfASendFreesItsMemory(t *testing.T) {
	limits := kv.Limits{MaxKeyBytes: 64, MaxValueBytes: 16 << 20}
	inEveryWay(t, transport.ServerOptions{Limits: limits}, func(t *testing.T, r *tt.Rig, e *endpoint) {
		k := tt.NewCaller(t, r.Loop, r.Dial(transport.DialOptions{}))
		v := tt.Fill(16<<20, 3)
		k.Expect(tt.Put("k", v), kv.StatusOK)
		for range tt.Effort(3) {
			c := rawClient(t, r.Server.Addr(), 1)
			if _, err := c.Write(request(kv.OpGet, "k", 16<<20)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 1_300_000)); err != nil {
				t.Fatal(err)
			}
			_ = c.SetLinger(0)
			_ = c.Close()
			tt.Until(t, "the connection to be gone", func() (ok bool) {
				_ = e.engine.l.Call(func() { ok = e.engine.Len() == 1 && e.Host.Pool.InUse() == 0 })
				return ok
			})
			if g := k.Expect(tt.Get("k", 16<<20), kv.StatusOK); string(g.Value) != string(v) {
				t.Fatal("the value that comes then is another one")
			}
		}
	})
}

// So few buffers that most receives find none, and a completion queue that most completions do not fit into: slower, never wrong.
func TestBuffersAndQueuesThatAreTooSmallForAThousandConnections(t *testing.T) {
	testenv.Uring(t)
	testenv.NotShort(t, "a thousand connections")
	for name, o := range map[string]Options{"multishot": {Receive: Multishot, Buffers: 4, BufferBytes: 1024}, "bundles": {Receive: Multishot, Bundle: true, Buffers: 4, BufferBytes: 1024}} {
		t.Run(name, func(t *testing.T) {
			w, n := watch(o)
			n.Loops.RingEntries = 8
			r := tt.NewRig(t, n, 1, transport.ServerOptions{Depth: 4, MaxConns: 2000})
			tt.ManyConns(t, r, 1000)
			s, err := transport.ReadCounters(w.ends[0].engine.l)
			if err != nil {
				t.Fatal(err)
			}
			if s.NoBuffers == 0 || s.Overflows == 0 {
				t.Errorf("%d receives without a buffer, %d times that completions waited: nothing was too small", s.NoBuffers, s.Overflows)
			}
		})
	}
}

// Ten thousand connections that send nothing, to a server in a process of its own.
func TestTenThousandIdleConnectionsFitInto256MiB(t *testing.T) {
	testenv.NotShort(t, "ten thousand connections")
	testenv.Uring(t)
	if testenv.Race {
		t.Skip("the race detector takes more memory than the server")
	}
	const conns = 10_000
	if !tt.Files(conns + 200) {
		t.Skipf("no %d descriptors here: raise ulimit -n", conns+200)
	}
	for name, o := range map[string]Options{"single": {Receive: Single}, "multishot": {Receive: Multishot}, "fixed files": {FixedFiles: true}} {
		t.Run(name, func(t *testing.T) {
			s := tt.StartChild(t, network(o), tt.Plan{Answers: true})
			before := s.Resident()
			for range conns {
				_ = rawClient(t, s.Addr, 16)
			}
			all := s.Resident()
			t.Logf("%d connections of depth 16: %d MiB in all, %d B for each", conns, all>>20, (all-before)/conns)
			if all > 256<<20 {
				t.Errorf("the server takes %d MiB", all>>20)
			}
		})
	}
}

// … and a thousand more that hardly read.
func TestBearsIdleAndSlowConnections(t *testing.T) {
	testenv.NotShort(t, "ten thousand connections")
	testenv.Uring(t)
	for name, o := range map[string]Options{"single": {Receive: Single}, "multishot": {Receive: Multishot}} {
		if name != "single" && !tt.Long {
			continue
		}
		t.Run(name, func(t *testing.T) { tt.HoldConns(t, network(o), tt.ManyIdleAndSlow) })
	}
}

// With Large=Once a client ends a request with a short transfer as truncated, and the connection continues.
func TestOnceTruncatesWhatDoesNotFitIntoTheSocket(t *testing.T) {
	testenv.Uring(t)
	server := network(Options{})
	r := tt.NewRig(t, server, 1, transport.ServerOptions{Limits: kv.Limits{MaxKeyBytes: 64, MaxValueBytes: 16 << 20}})
	ctx, cancel := context.WithTimeout(context.Background(), tt.WaitMax)
	defer cancel()
	conn, err := Transport{Options{Large: Once}}.Dial(ctx, r.Loop, r.Server.Addr(), transport.DialOptions{Depth: 1})
	if err != nil {
		t.Fatal(err)
	}
	c := tt.NewCaller(t, r.Loop, conn)
	truncated := uint64(0)
	for _, n := range []int{100, 4 << 10, 16 << 20} {
		want := kv.StatusOK
		if n > 8<<20 { // more than sockets hold
			want = kv.StatusTruncated
			truncated += 2
		}
		key := fmt.Sprint(n)
		c.Expect(tt.Put(key, tt.Fill(n, 1)), want)
		g := c.Expect(tt.Get(key, n), want)
		if string(g.Value) != string(tt.Fill(n, 1)) {
			t.Fatalf("%d B: the bytes are not those that were put", n)
		}
	}
	if s, err := transport.ReadCounters(r.Loop); err != nil || s.Shorts < truncated {
		t.Fatalf("%d requests were truncated, and %d short transfers counted (%v)", truncated, s.Shorts, err)
	}
}

// forbidEnv is the environment variable with the error that io_uring_setup returns in a child process.
const forbidEnv = "KVWIRE_URINGTEST_FORBID"

func TestWhereItIsForbiddenTheTransportSaysWhatToDo(t *testing.T) {
	testenv.Uring(t)
	r := tt.NewRig(t, network(Options{}), 1, transport.ServerOptions{})
	for errno, want := range map[unix.Errno]string{unix.EPERM: "kernel.io_uring_disabled=0", unix.ENOSYS: "Linux 5.19"} {
		for side, p := range map[string]tt.Plan{"server": {}, "client": {Dial: r.Server.Addr(), Depth: 1}} {
			cmd := tt.Command(network(Options{}), p)
			cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", forbidEnv, uint32(errno)))
			said, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if line := strings.TrimSuffix(string(said), "\n"); !errors.As(err, &exit) || strings.Contains(line, "\n") || !strings.Contains(line, want) {
				t.Errorf("%s, %v: %v: %s", side, errno, err, line)
			} else {
				t.Logf("%s: %s", side, line)
			}
		}
	}
}
