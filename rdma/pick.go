//go:build rdma && cgo && linux

package rdma

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/kvwire/kvwire/rdma/device"
)

// picks remembers which device an address has: to look takes a few hundred reads of sysfs.
var picks struct {
	sync.Mutex
	m map[netip.Addr]picked
}

type picked struct {
	c  device.Choice
	at time.Time
}

// pickMax is how long a choice is taken for true. One that is not any more makes connections fail with a reason.
const pickMax = time.Second

// forgetPicks has the next pick look again: what it looks at has changed. Any goroutine.
func forgetPicks() {
	picks.Lock()
	clear(picks.m)
	picks.Unlock()
}

// usable refuses what has no immediate data, by which credits travel.
func usable(c device.Choice) error {
	if c.CMOnly() {
		return fmt.Errorf("rdma: %s is iWARP (%s), whose messages carry no immediate data: use a RoCE or InfiniBand device, or make rdma-setup for soft-RoCE", c.Device, c.Provider)
	}
	return nil
}

// pick is device.Pick, remembered. Any goroutine.
func pick(ip netip.Addr) (device.Choice, error) {
	picks.Lock()
	defer picks.Unlock()
	if p, ok := picks.m[ip]; ok && time.Since(p.at) < pickMax {
		return p.c, nil
	}
	c, err := device.Pick(device.Local(), ip)
	if err == nil {
		err = usable(c)
	}
	if err != nil {
		return c, err
	}
	if picks.m == nil {
		picks.m = map[netip.Addr]picked{}
	}
	picks.m[ip] = picked{c, time.Now()}
	return c, nil
}
