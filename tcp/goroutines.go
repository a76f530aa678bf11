package tcp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/kvwire/kvwire/internal/sys"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
	netsock "github.com/kvwire/kvwire/transport/socket"
	"github.com/kvwire/kvwire/transport/stream"
	"golang.org/x/sys/unix"
)

// goroutineEngine moves bytes with goroutines on Go's net package, as most Go servers do. Each connection has one goroutine that reads and
// one that writes; both sleep in Go's netpoller. They report each finished read or write to the loop (report), and the loop passes them the next
// window and the next bytes. The engine belongs to its loop; the goroutines use only what is marked mu, and their connection's channels.
type goroutineEngine struct {
	l       *loop.Loop
	count   *transport.Counters // of its loop
	sockets netsock.Options     // with TLS if the connections are a server's with TLS
	pairs   stream.Table[*pair]
	touched stream.Touched[*pair]
	running sync.WaitGroup

	pending atomic.Bool // results is not empty
	mu      sync.Mutex
	results []result // mu
	handled []result // the list of the last Poll, for reuse in the next
}

// result is the result of one read or write.
type result struct {
	p     *pair
	write bool // a write; else a read
	n     int
	calls int   // system calls, as far as they are known
	stamp int64 // the kernel's receive time by the wall clock, in ns; 0: not known
	err   error
}

var _ engine = (*goroutineEngine)(nil)

// pair is one connection and its two goroutines.
type pair struct {
	c        *goroutineEngine
	tag      uint64
	nc       netsock.NetConn
	tls      *netsock.Session // on nc; nil: none
	side     stream.Side
	onEnd    func(stream.ConnIO, error)
	onClosed func()        // called when the connection is closed; may be nil
	reads    chan int      // the number of slices of window to read into; closed at the end
	writes   chan struct{} // the writer must send out, or, if out is empty, shut the sending half; closed at the end
	reading  bool          // a read is under way
	writing  bool
	listed   bool  // in c.touched
	sendShut bool  // our sending half is shut
	eof      bool  // the peer has shut its sending half; answers are still to be sent
	closing  bool  // nc is closed; it is removed when no read or write is under way
	why      error // reason for closing
	stopped  bool  // leave was called
	stamps   atomic.Bool

	iov    [gatherMax]unix.Iovec
	pieces [gatherMax][]byte // used by the writer while it writes
	out    net.Buffers       // the part of pieces to write
	window [2][]byte         // used by the reader while it reads
}

// Open implements stream.Engine. The net package accepts a descriptor only by duplicating it; the connection then keeps the duplicate.
func (c *goroutineEngine) Open(s netsock.Socket, ended func(stream.ConnIO, error), gone func()) (stream.ConnIO, error) {
	tls, known := s.Conn.(*netsock.Session)
	var nc netsock.NetConn
	if known {
		nc = tls.Plain()
	} else if nc, known = s.Conn.(netsock.NetConn); !known {
		var err error
		if nc, err = adopt(s.Fd); err != nil {
			return nil, err
		}
		if c.sockets.TLS != nil {
			tls = netsock.NewSession(nc, c.sockets.TLS)
		}
	}
	tag, row := c.pairs.Put()
	p := &pair{c: c, tag: tag, nc: nc, tls: tls, onEnd: ended, onClosed: gone, reads: make(chan int, 1), writes: make(chan struct{}, 1)}
	*row = p
	p.onSocket(c.sockets.Prepare) // again: the net package has changed options
	c.running.Add(2)
	go p.read()
	go p.write()
	return p, nil
}

// adopt makes a connection of the net package from a descriptor and closes the descriptor, unless it fails.
func adopt(fd int) (netsock.NetConn, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), "socket")
	nc, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return nil, err
	}
	c, ok := nc.(netsock.NetConn)
	if !ok {
		_ = nc.Close()
		return nil, fmt.Errorf("tcp: Go's net package made a %T of the socket, which has no half-close", nc)
	}
	_ = unix.Close(fd)
	return c, nil
}

// Each implements stream.Engine.
func (c *goroutineEngine) Each(f func(stream.ConnIO)) {
	c.pairs.Each(func(_ uint64, p **pair) { f(*p) })
}

// Len implements stream.Engine.
func (c *goroutineEngine) Len() int { return c.pairs.Len() }

// event implements engine. Nothing is watched with epoll, so it does nothing.
func (c *goroutineEngine) event(uint64, uint32) {}

// Join implements stream.ConnIO.
func (p *pair) Join(side stream.Side) {
	p.side = side
	p.Touch() // the first read
}

// Side implements stream.ConnIO.
func (p *pair) Side() stream.Side { return p.side }

// ended is called when the side returns an error, or the connection has failed.
func (p *pair) ended(err error) { p.onEnd(p, err) }

// report passes a result to the loop. The reading and writing goroutines call it.
func (c *goroutineEngine) report(d result) {
	c.mu.Lock()
	c.results = append(c.results, d)
	c.pending.Store(true)
	c.mu.Unlock()
	c.l.Wake()
}

// Poll implements loop.Member.
func (c *goroutineEngine) Poll() int {
	if !c.pending.Load() {
		return 0
	}
	c.mu.Lock()
	c.results, c.handled = c.handled[:0], c.results
	c.pending.Store(false)
	c.mu.Unlock()
	for i := range c.handled {
		d := c.handled[i]
		c.handled[i] = result{}
		d.p.handle(&d)
	}
	return len(c.handled)
}

// Arm implements loop.Armer.
func (c *goroutineEngine) Arm() (bool, error) { return c.pending.Load(), nil }

// Flush implements stream.Engine. It starts the next reads and writes of the touched connections.
func (c *goroutineEngine) Flush() {
	list := c.touched.Detach(c.l)
	for i, p := range list {
		list[i] = nil
		p.listed = false
		p.stage()
	}
}

// Busy implements stream.Engine. A write that is under way keeps its side busy, and a reader that waits sleeps in Go's netpoller.
func (c *goroutineEngine) Busy() string {
	if c.pending.Load() {
		return "a goroutine has received or sent something"
	}
	return ""
}

// End implements stream.Engine. It waits until the goroutines have ended; leave was called for all of them.
func (c *goroutineEngine) End() { c.running.Wait() }

// Touch implements stream.Driver.
func (p *pair) Touch() {
	p.c.touched.Add(p.c.l, p, &p.listed)
}

// Stamp implements stream.Driver. A read that is under way has no stamp. Reads of a TLS session never have one, because the kernel does not see the
// contents of records; nor have those of a unix socket: see socket.Stamp.
func (p *pair) Stamp() {
	if _, local := p.nc.(*net.UnixConn); local || p.tls != nil {
		return
	}
	p.onSocket(func(fd int) { p.stamps.Store(sys.AskStamps(fd)) })
	p.c.l.Stats.Syscalls++
}

// onSocket calls f with the descriptor, and reports whether it did.
func (p *pair) onSocket(f func(fd int)) bool {
	rc, err := p.nc.SyscallConn()
	return err == nil && rc.Control(func(fd uintptr) { f(int(fd)) }) == nil
}

// Control implements netsock.Holder. It refuses for a TLS session, whose records are not the side's bytes.
func (p *pair) Control(f func(fd int)) bool { return p.tls == nil && p.onSocket(f) }

// handle handles the result of a read or write.
func (p *pair) handle(d *result) {
	if d.write {
		p.writing = false
	} else {
		p.reading = false
	}
	p.c.l.Stats.Syscalls += uint64(d.calls)
	p.Touch()
	switch {
	case p.closing:
	case errors.Is(d.err, netsock.ErrNoSession), errors.Is(d.err, transport.ErrProtocol):
		p.ended(d.err)
	case d.err != nil && errors.Is(d.err, io.EOF):
		if p.eof = p.side.PeerFinished(); !p.eof {
			p.ended(transport.ErrPeerGone)
		}
	case d.err != nil:
		p.ended(fmt.Errorf("%w: %w", transport.ErrPeerGone, d.err))
	case d.write:
		p.side.Sent(d.n)
	default:
		stamp := int64(0)
		if d.stamp != 0 {
			stamp = loop.FromWall(d.stamp)
		}
		if err := p.side.Received(d.n, stamp); err != nil {
			p.ended(err)
		}
	}
}

func (p *pair) stage() {
	switch {
	case p.stopped:
	case !p.closing:
		p.send()
		p.receive()
	case !p.reading && !p.writing:
		p.stop()
		p.side.Drop(p.why)
		if p.onClosed != nil {
			p.onClosed()
		}
	}
}

// send gives the writer the next bytes. The netpoller's own system calls are not counted.
func (p *pair) send() {
	if p.writing {
		return
	}
	k := p.side.Gather(p.iov[:], stream.GatherBytes)
	if k == 0 {
		switch {
		case !p.side.Finished():
		case !p.sendShut:
			p.sendShut = true
			p.startWrite(nil)
		case p.eof:
			p.ended(transport.ErrPeerGone)
		}
		return
	}
	for i := range k {
		p.pieces[i] = sys.IovecBytes(&p.iov[i])
	}
	p.startWrite(p.pieces[:k])
	p.c.count.Sends++
}

// startWrite makes the writer send out; nil: it shuts the sending half.
func (p *pair) startWrite(out net.Buffers) {
	p.writing = true
	p.out = out
	p.writes <- struct{}{}
}

// receive gives the reader the memory for the next bytes.
func (p *pair) receive() {
	if p.reading || p.eof || p.closing {
		return
	}
	k := p.side.RecvBuffers(&p.window)
	if k == 0 {
		return // paused: Touch is called when reading may continue
	}
	p.reading = true
	p.reads <- k
	p.c.count.Receives++
}

// read is the goroutine that reads.
func (p *pair) read() {
	defer p.c.running.Done()
	m := newRecvmsg(p.nc)
	for k := range p.reads {
		d := result{p: p, calls: 1}
		switch stamps := p.stamps.Load(); {
		case p.tls != nil:
			d.n, d.err = p.tls.Receive(p.window[:k])
			d.calls = p.tls.Calls()
		case k > 1 || stamps:
			d.n, d.stamp, d.err = m.read(p.window[:k], stamps)
		default:
			d.n, d.err = p.nc.Read(p.window[0])
		}
		p.c.report(d)
	}
}

// recvmsg is the state of a recvmsg, for what Go's Read cannot do: to read into several slices, and to get the kernel's receive time. It waits in
// the netpoller as Read does. It belongs to the reading goroutine.
type recvmsg struct {
	nc      syscall.RawConn
	err     error // of making nc
	iov     [2]unix.Iovec
	hd      unix.Msghdr
	control [sys.StampBytes]byte
	stamps  bool

	try     func(fd uintptr) bool // made once
	n       int
	failure error
}

func newRecvmsg(nc syscall.Conn) *recvmsg {
	m := &recvmsg{}
	m.nc, m.err = nc.SyscallConn()
	m.try = func(fd uintptr) bool {
		m.hd = unix.Msghdr{Iov: &m.iov[0]}
		m.hd.SetIovlen(len(m.iov))
		if m.stamps {
			m.hd.Control = &m.control[0]
			m.hd.SetControllen(len(m.control))
		}
		m.n, m.failure = sys.Recvmsg(int(fd), &m.hd)
		return !errors.Is(m.failure, unix.EAGAIN) && !errors.Is(m.failure, unix.EINTR)
	}
	return m
}

func (m *recvmsg) read(w [][]byte, stamps bool) (n int, stamp int64, err error) {
	if m.err != nil {
		return 0, 0, m.err
	}
	m.iov = [2]unix.Iovec{}
	for i := range w {
		sys.SetIovec(&m.iov[i], w[i])
	}
	m.stamps = stamps
	if err := m.nc.Read(m.try); err != nil {
		return 0, 0, err
	}
	switch {
	case m.failure != nil:
		return 0, 0, m.failure
	case m.n == 0:
		return 0, 0, io.EOF
	}
	return m.n, sys.Stamp(&m.hd), nil
}

// write is the goroutine that writes.
func (p *pair) write() {
	defer p.c.running.Done()
	for range p.writes {
		d := result{p: p, write: true, calls: 1}
		switch {
		case p.tls != nil && p.out != nil:
			d.n, d.err = p.tls.Send(p.out)
			d.calls = p.tls.Calls()
		case p.tls != nil:
			p.tls.Finish()
			d.calls += p.tls.Calls()
		case p.out != nil:
			var n int64
			n, d.err = p.out.WriteTo(p.nc)
			d.n = int(n)
		default:
			_ = p.nc.CloseWrite()
		}
		p.c.report(d)
	}
}

// Close implements stream.ConnIO.
func (p *pair) Close(err error) {
	if p.closing {
		return
	}
	p.closing, p.why = true, err
	_ = p.nc.Close()
	p.c.l.Stats.Syscalls++
	p.Touch()
}

// Detach implements stream.ConnIO.
func (p *pair) Detach() netsock.Socket {
	p.stop()
	if p.tls != nil {
		return netsock.Socket{Conn: p.tls}
	}
	return netsock.Socket{Conn: p.nc}
}

// stop makes the goroutines end.
func (p *pair) stop() {
	p.stopped = true
	p.c.pairs.Drop(p.tag)
	close(p.reads)
	close(p.writes)
}
