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

// order is what the parent tells a child process. The first says what the child is.
type order struct {
	Network string
	Process int
	Serve   *serving // it is a server
	Client  bool     // it is a client; with Serve both, on the same loops

	Faults *faults // of a server, from now on
	Addr   string  // of the server, for clients
	Work   *work
}

const childEnv = "KVWIRE_VERIFY_CHILD"

// Main is for TestMain: in a child process it does what the parent orders and does not return.
func Main() {
	if os.Getenv(childEnv) == "" {
		return
	}
	c := child{out: gob.NewEncoder(os.Stdout)}
	in := gob.NewDecoder(os.Stdin)
	for {
		var o order
		err := in.Decode(&o)
		if errors.Is(err, io.EOF) { // the parent has ended, or wants this end
			os.Exit(0)
		}
		if err == nil {
			err = c.obey(o)
		}
		if err != nil {
			c.tell(event{Kind: failed, Text: err.Error()})
			os.Exit(1)
		}
	}
}

// child is a child process's side.
type child struct {
	mu     sync.Mutex // of out
	out    *gob.Encoder
	disk   faultyDisk
	addr   string
	client *client
}

// tell writes an event. What was written is read also when the process is killed.
func (c *child) tell(e event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.out.Encode(&e); err != nil {
		os.Exit(1) // nobody listens
	}
}

func (c *child) obey(o order) error {
	if o.Faults != nil {
		c.disk.set(*o.Faults)
	}
	if o.Network != "" {
		n := find(o.Network)
		var loops []*loop.Loop
		if o.Serve != nil {
			s, err := n.serve(*o.Serve, &c.disk, transport.ServerOptions{}) // it ends with the process
			if err != nil {
				return err
			}
			loops, c.addr = s.Group().Net(), s.Addr()
		}
		if o.Client {
			var err error
			if c.client, err = newClient(n, o.Process, loops, c.tell); err != nil {
				return err
			}
		}
	}
	if o.Addr != "" {
		c.client.moved(o.Addr)
	}
	if o.Work != nil {
		go c.client.do(*o.Work)
		return nil
	}
	if c.addr != "" {
		c.tell(event{Kind: ready, Text: c.addr, Counts: c.disk.counts()})
	}
	return nil
}

// process is a child process, as the parent has it. Its events, and at last its end, come by the channel that start was given.
type process struct {
	number int
	cmd    *exec.Cmd
	stdin  io.Closer
	orders *gob.Encoder
}

// told is an event of a process, or with gone its end.
type told struct {
	by   *process
	gone bool
	event
}

// start runs exe, or this program, as a child, which ends when the parent does.
func start(exe string, number int, tell chan<- told) (*process, error) {
	if exe == "" {
		exe = os.Args[0]
	}
	p := &process{number: number, cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), childEnv+"=1")
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C is the parent's
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
		events := gob.NewDecoder(out)
		for {
			t := told{by: p}
			if events.Decode(&t.event) != nil {
				break
			}
			tell <- t
		}
		_ = p.cmd.Wait()
		tell <- told{by: p, gone: true}
	}()
	return p, nil
}

// order tells the process what to do. A process that has ended hears nothing; its end is told by itself.
func (p *process) order(o order) { _ = p.orders.Encode(&o) }

// kill ends it without a chance to say goodbye.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.stdin.Close()
}
