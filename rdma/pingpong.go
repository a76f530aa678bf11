//go:build rdma && cgo && linux

package rdma

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/rdma/device"
)

// Bounds of a ping-pong: number of round trips, bytes of a message, and time in all. A message that takes longer than
// pongWait is lost.
const (
	pongTrips = 1000
	pongBytes = 64
	pongMax   = 2 * time.Second
	pongWait  = time.Second
)

// PingPong opens a choice's device twice, connects the two, and sends 64 B back and forth a thousand times, polling. It
// blocks for at most 3 s. Its error names the remedy. Any goroutine may call it.
func PingPong(c device.Choice) (p Pong, err error) {
	if err := usable(c); err != nil {
		return p, err
	}
	var a, b pinger
	defer func() { err = errors.Join(err, a.close(), b.close()) }()
	for _, e := range []*pinger{&a, &b} {
		if err := e.open(c); err != nil {
			return p, err
		}
	}
	if err := errors.Join(a.connect(c, &b), b.connect(c, &a)); err != nil {
		return p, err
	}
	until := time.Now().Add(pongMax)
	trips := make([]time.Duration, 0, pongTrips)
	for range pongTrips {
		begun := time.Now()
		if len(trips) > 0 && begun.After(until) {
			break
		}
		for _, way := range [][2]*pinger{{&a, &b}, {&b, &a}} {
			err := way[0].send()
			if err == nil {
				err = way[1].receive(begun.Add(pongWait))
			}
			if err != nil {
				return p, fmt.Errorf("rdma: ping-pong on %s, after %d of %d round trips: %w", c.Device, len(trips), pongTrips, err)
			}
		}
		trips = append(trips, time.Since(begun))
	}
	slices.Sort(trips)
	return Pong{len(trips), pongBytes, trips[len(trips)/2]}, nil
}

// pinger is one end of a ping-pong, with a device of its own.
type pinger struct {
	dev    *verbs.Device
	port   verbs.Port
	cq     *verbs.CQ
	batch  *verbs.Batch
	mem    *arena.Arena // received bytes, then bytes to send
	region *verbs.Region
	qp     *verbs.QP
	psn    uint32
	calls  uint64
}

func (e *pinger) open(c device.Choice) (err error) {
	const wrs = 16
	if e.dev, err = verbs.Open(c.Device); err != nil {
		return err
	}
	if e.port, err = e.dev.Port(c.Port); err != nil {
		return err
	}
	if !e.port.Active {
		return fmt.Errorf("rdma: port %d of %s is down (ip link set %s up; see kvwire doctor)", c.Port, c.Device, c.Netdev)
	}
	if e.cq, err = e.dev.NewCQ(2*wrs, 0, &e.calls); err != nil {
		return err
	}
	if e.batch, err = verbs.NewBatch(&e.calls); err != nil {
		return err
	}
	if e.mem, err = arena.NewShared(2 * pongBytes); err != nil {
		return err
	}
	if e.region, err = e.dev.Register(e.mem.Bytes(), verbs.Local); err != nil {
		return err
	}
	if e.qp, err = e.dev.NewQP(e.cq, verbs.QPOptions{SendWRs: wrs, RecvWRs: wrs, Port: c.Port, PKeyIndex: c.PKeyIndex}); err != nil {
		return err
	}
	e.psn = rand.Uint32() & (1<<24 - 1)
	return e.post()
}

// post posts the receive of the next message.
func (e *pinger) post() error {
	if err := e.batch.Recv(e.qp, nil, 0, e.mem.Bytes()[:pongBytes], e.region.LKey); err != nil {
		return err
	}
	return e.batch.PostRecvs()
}

func (e *pinger) connect(c device.Choice, to *pinger) error {
	gid := c.GIDIndex
	if e.port.InfiniBand && to.port.LID != 0 {
		gid = -1
	}
	return e.qp.Connect(verbs.Peer{QP: to.qp.Num, PSN: to.psn, GID: c.GID, LID: to.port.LID, MTU: e.port.MTU, Initiates: 1, Responds: 1,
		GIDIndex: gid, Port: c.Port, MyPSN: e.psn})
}

func (e *pinger) send() error {
	op := e.batch.Next(e.qp)
	op.WR, op.Remote, op.RKey, op.Imm = 0, 0, 0, 0
	op.Kind, op.Flags, op.SGEs = verbs.OpSend, verbs.Signaled, 1
	op.SGE[0] = verbs.Piece(e.mem.Bytes()[pongBytes:2*pongBytes], e.region.LKey)
	_, _, err := e.batch.Post(1)
	return err
}

// receive polls until a message has come, and posts the next receive.
func (e *pinger) receive(until time.Time) error {
	for {
		cs, err := e.cq.Spin(1000)
		if err != nil {
			return err
		}
		received := false
		for i := range cs {
			if cs[i].Status != 0 {
				return fmt.Errorf("%s (see dmesg; a firewall must let UDP port 4791 pass)", verbs.StatusText(cs[i].Status))
			}
			received = received || cs[i].Recv != 0
		}
		if received {
			return e.post()
		}
		if time.Now().After(until) {
			return fmt.Errorf("no message within %v (see dmesg; a firewall must let UDP port 4791 pass)", pongWait)
		}
	}
}

// close frees all that open has made, also after an error of open.
func (e *pinger) close() error {
	var errs []error
	if e.qp != nil {
		errs = append(errs, e.qp.Close())
	}
	if e.region != nil {
		errs = append(errs, e.region.Close())
	}
	if e.mem != nil {
		errs = append(errs, e.mem.Close())
	}
	if e.batch != nil {
		errs = append(errs, e.batch.Close())
	}
	if e.cq != nil {
		errs = append(errs, e.cq.Close())
	}
	if e.dev != nil {
		errs = append(errs, e.dev.Close())
	}
	return errors.Join(errs...)
}
