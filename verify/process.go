package verify

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/transport"
)

// order is a message from the parent to a child process. The first one has the role of the child.
type order struct {
	Network string
	Process int
	Serve   *serverConfig // configuration of a server; nil: not a server
	Client  bool          // a client; with Serve both, on the same loops

	Faults *faults // of a server, from now on
	Addr   string  // of the server, for clients
	Work   *work
}

const childEnv = "KVWIRE_VERIFY_CHILD"

// Main is for TestMain. In a child process it executes the parent's orders and does not return.
func Main() {
	if os.Getenv(childEnv) == "" {
		return
	}
	c := child{out: gob.NewEncoder(os.Stdout)}
	in := gob.NewDecoder(os.Stdin)
	for {
		var o order
		err := in.Decode(&o)
		if errors.Is(err, io.EOF) { // the parent has ended, or has closed the pipe to end this process
			os.Exit(0)
		}
		if err == nil {
			err = c.execute(o)
		}
		if err != nil {
			c.emit(event{Kind: failed, Text: err.Error()})
			os.Exit(1)
		}
	}
}

// child is the state of a child process.
type child struct {
	mu     sync.Mutex // of out
	out    *gob.Encoder
	disk   faultyDisk
	addr   string
	client *client
}

// emit writes an event. The parent reads it even if this process is killed afterwards.
func (c *child) emit(e event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.out.Encode(&e); err != nil {
		os.Exit(1) // the parent has ended
	}
}

func (c *child) execute(o order) error {
	if o.Faults != nil {
		c.disk.set(*o.Faults)
	}
	if o.Network != "" {
		n := find(o.Network)
		if err := n.works(); err != nil {
			return err
		}
		var loops []*loop.Loop
		if o.Serve != nil {
			s, _, err := n.serve(*o.Serve, &c.disk, transport.ServerOptions{}) // the server ends with this process
			if err != nil {
				return err
			}
			loops, c.addr = s.Group().Net(), s.Addr()
		}
		if o.Client {
			var err error
			if c.client, err = newClient(n, o.Process, loops, c.emit); err != nil {
				return err
			}
		}
	}
	if o.Addr != "" {
		c.client.setAddr(o.Addr)
	}
	if o.Work != nil {
		go c.client.do(*o.Work)
		return nil
	}
	if c.addr != "" {
		c.emit(event{Kind: ready, Text: c.addr, Counts: c.disk.counts()})
	}
	return nil
}

// process is the parent's handle of a child process. Its events, and then its end, arrive in the channel given to start.
type process struct {
	number int
	cmd    *exec.Cmd
	stdin  io.Closer
	orders *gob.Encoder
}

// message is an event of a process, or with gone its end.
type message struct {
	from *process
	gone bool
	event
}

// start runs exe, or this program, as a child, which ends when the parent does.
func start(exe string, number int, events chan<- message) (*process, error) {
	if exe == "" {
		exe = os.Args[0]
	}
	p := &process{number: number, cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), childEnv+"=1")
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C must reach only the parent
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("verify: start %s: %w", exe, err)
	}
	p.stdin, p.orders = in, gob.NewEncoder(in)
	go func() {
		decoder := gob.NewDecoder(out)
		for {
			t := message{from: p}
			if decoder.Decode(&t.event) != nil {
				break
			}
			events <- t
		}
		_ = p.cmd.Wait()
		events <- message{from: p, gone: true}
	}()
	return p, nil
}

// order sends an order to the process. An error is ignored: if the process has ended, a message reports it.
func (p *process) order(o order) { _ = p.orders.Encode(&o) }

// kill kills the process with SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.stdin.Close()
}
