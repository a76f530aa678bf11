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

// crew is the engine of goroutines on Go's net package, as most Go servers have it: for each connection one that reads and one
// that writes, each asleep in Go's netpoller. What they have done they put into their loop's mailbox, and the loop gives them the
// next window and the next bytes. It belongs to its loop; the goroutines touch nothing but the mailbox.
type crew struct {
	l       *loop.Loop
	sockets netsock.Options // with TLS, if its connections are a server's that has it
	touched stream.Touched[*pair]
	running sync.WaitGroup

	some atomic.Bool // there is news
	mu   sync.Mutex
	news []done // mu
	took []done // the list of the last Poll, for the next one
}

// done is one read or write that has ended.
type done struct {
	p     *pair
	sent  bool // else received
	n     int
	calls int   // system calls that are known of
	stamp int64 // the kernel's, by the wall clock, of what was received; 0: it is not known
	err   error
}

var _ movers = (*crew)(nil)

// pair is one connection and its two goroutines.
type pair struct {
	c       *crew
	nc      netsock.NetConn
	tls     *netsock.Session // on nc; nil: none
	side    stream.Side
	ended   func(err error)
	gone    func()
	reads   chan int      // so many places of window are to be read into; closed at the end
	writes  chan struct{} // what is in out is to be sent, or, if there is none, our sending half to be shut; closed at the end
	reading bool          // a read is under way
	writing bool
	listed  bool  // in c.touched
	halved  bool  // our sending half is shut
	eof     bool  // all that the peer has sent was received; its answers are on their way
	closing bool  // nc is closed; gone when nothing is under way
	why     error // of closing
	left    bool  // the goroutines are sent home
	stamps  atomic.Bool

	iov    [gatherMax]unix.Iovec
	pieces [gatherMax][]byte // the writer's while it writes
	out    net.Buffers       // of these
	window [2][]byte         // the reader's while it reads
}

// open is movers'. A descriptor is duplicated into the hands of the net package, which knows no other way, and stays there.
func (c *crew) open(s netsock.Socket, _ uint64, ended func(error), gone func()) (mover, error) {
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
	p := &pair{c: c, nc: nc, tls: tls, ended: ended, gone: gone, reads: make(chan int, 1), writes: make(chan struct{}, 1)}
	p.onSocket(c.sockets.Prepare) // again: the net package has set what it likes
	c.running.Add(2)
	go p.read()
	go p.write()
	return p, nil
}

// adopt puts a descriptor into the hands of the net package, unless it fails.
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
		return nil, fmt.Errorf("tcp: a %T", nc)
	}
	_ = unix.Close(fd)
	return c, nil
}

// join is movers'.
func (c *crew) join(m mover, side stream.Side) {
	p := m.(*pair)
	p.side = side
	p.Touch() // the first read
}

// put is for the goroutines: it hands over what one of them has done.
func (c *crew) put(d done) {
	c.mu.Lock()
	c.news = append(c.news, d)
	c.some.Store(true)
	c.mu.Unlock()
	c.l.Wake()
}

// Poll is loop.Member's.
func (c *crew) Poll() int {
	if !c.some.Load() {
		return 0
	}
	c.mu.Lock()
	c.news, c.took = c.took[:0], c.news
	c.some.Store(false)
	c.mu.Unlock()
	for i := range c.took {
		d := c.took[i]
		c.took[i] = done{}
		d.p.did(&d)
	}
	return len(c.took)
}

// Arm is loop.Armer's.
func (c *crew) Arm() (bool, error) { return c.some.Load(), nil }

// flush gives the goroutines what they are to do next.
func (c *crew) flush() {
	list := c.touched.Take(c.l)
	for i, p := range list {
		list[i] = nil
		p.listed = false
		p.stage()
	}
}

// busy is movers'. A write that is under way keeps its side busy, and a reader that waits sleeps in Go's netpoller.
func (c *crew) busy() string {
	if c.some.Load() {
		return "a goroutine has received or sent something"
	}
	return ""
}

// end waits for the goroutines, which have nothing to do any more.
func (c *crew) end() { c.running.Wait() }

// Touch is stream.Driver's.
func (p *pair) Touch() {
	p.c.touched.Add(p.c.l, p, &p.listed)
}

// Stamp is stream.Driver's. A read that is under way has none. Nor have those of a session: the kernel does not see what is in its records.
// Nor those of a unix socket: see socket.Stamp.
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

// control is mover's. A session's records are not the side's bytes.
func (p *pair) control(f func(fd int)) bool { return p.tls == nil && p.onSocket(f) }

// event is mover's: Go's netpoller hears of what is ready.
func (p *pair) event(uint32) {}

// did takes the news of a goroutine.
func (p *pair) did(d *done) {
	if d.sent {
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
	case d.sent:
		p.side.Sent(d.n)
	default:
		stamp := int64(0)
		if d.stamp != 0 {
			stamp = loop.OfWall(d.stamp)
		}
		if err := p.side.Received(d.n, stamp); err != nil {
			p.ended(err)
		}
	}
}

func (p *pair) stage() {
	switch {
	case p.left:
	case !p.closing:
		p.send()
		p.receive()
	case !p.reading && !p.writing:
		p.leave()
		p.side.Drop(p.why)
		p.gone()
	}
}

// send gives the writer what there is to send. The system calls that its netpoller makes are not counted.
func (p *pair) send() {
	if p.writing {
		return
	}
	k := p.side.Gather(p.iov[:], stream.GatherBytes)
	if k == 0 {
		switch {
		case !p.side.Finished():
		case !p.halved:
			p.halved = true
			p.order(nil)
		case p.eof:
			p.ended(transport.ErrPeerGone)
		}
		return
	}
	for i := range k {
		p.pieces[i] = sys.IovecBytes(&p.iov[i])
	}
	p.order(p.pieces[:k])
	p.c.l.Stats.Sends++
}

// order tells the writer what to send; nil: that this was all.
func (p *pair) order(out net.Buffers) {
	p.writing = true
	p.out = out
	p.writes <- struct{}{}
}

// receive gives the reader the places of the next bytes.
func (p *pair) receive() {
	if p.reading || p.eof || p.closing {
		return
	}
	k := p.side.Window(&p.window)
	if k == 0 {
		return // paused: Touch comes when reading may go on
	}
	p.reading = true
	p.reads <- k
	p.c.l.Stats.Receives++
}

// read is the goroutine that reads.
func (p *pair) read() {
	defer p.c.running.Done()
	m := newMessage(p.nc)
	for k := range p.reads {
		d := done{p: p, calls: 1}
		switch stamps := p.stamps.Load(); {
		case p.tls != nil:
			d.n, d.err = p.tls.Receive(p.window[:k])
			d.calls = p.tls.Calls()
		case k > 1 || stamps:
			d.n, d.stamp, d.err = m.read(p.window[:k], stamps)
		default:
			d.n, d.err = p.nc.Read(p.window[0])
		}
		p.c.put(d)
	}
}

// message is what a read needs that Go's Read cannot do: several places, and the kernel's stamp. It waits in the netpoller as
// that does, and belongs to one goroutine.
type message struct {
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

func newMessage(nc syscall.Conn) *message {
	m := &message{}
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

func (m *message) read(w [][]byte, stamps bool) (n int, stamp int64, err error) {
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
		d := done{p: p, sent: true, calls: 1}
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
		p.c.put(d)
	}
}

// close is mover's.
func (p *pair) close(err error) {
	if p.closing {
		return
	}
	p.closing, p.why = true, err
	_ = p.nc.Close()
	p.c.l.Stats.Syscalls++
	p.Touch()
}

// take is mover's.
func (p *pair) take() netsock.Socket {
	p.leave()
	if p.tls != nil {
		return netsock.Socket{Conn: p.tls}
	}
	return netsock.Socket{Conn: p.nc}
}

// leave sends the goroutines home.
func (p *pair) leave() {
	p.left = true
	close(p.reads)
	close(p.writes)
}
