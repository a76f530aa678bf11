//go:build rdma && cgo && linux

package rdma

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/kvwire/kvwire/rdma/device"
)

// picks caches the device of an address, because the choice reads a few hundred files of sysfs.
var picks struct {
	sync.Mutex
	m map[netip.Addr]picked
}

type picked struct {
	c  device.Choice
	at time.Time
}

// pickMax is the lifetime of a cached choice. With an outdated choice, connections fail with an error.
const pickMax = time.Second

// clearPicks empties the cache, because the devices or addresses have changed. Any goroutine may call it.
func clearPicks() {
	picks.Lock()
	clear(picks.m)
	picks.Unlock()
}

// usable returns an error for a device without immediate data, which messages need for the credits.
func usable(c device.Choice) error {
	if c.CMOnly() {
		return fmt.Errorf("rdma: %s is iWARP (%s), whose messages carry no immediate data: use a RoCE or InfiniBand device, or make rdma-setup for soft-RoCE", c.Device, c.Provider)
	}
	return nil
}

// pick is device.Pick with a cache. Any goroutine may call it.
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
