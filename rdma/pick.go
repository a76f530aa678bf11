//go:build rdma && cgo && linux

package rdma

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/kvwire/kvwire/rdma/device"
)

// pickCache caches the device of an address, because the choice reads a few hundred files of sysfs.
var pickCache struct {
	sync.Mutex
	m map[netip.Addr]cachedPick
}

type cachedPick struct {
	c  device.Choice
	at time.Time
}

// pickMax is the lifetime of a cached choice. With an outdated choice, connections fail with an error.
const pickMax = time.Second

// clearPicks empties the cache, because the devices or addresses have changed. Any goroutine may call it.
func clearPicks() {
	pickCache.Lock()
	clear(pickCache.m)
	pickCache.Unlock()
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
	pickCache.Lock()
	defer pickCache.Unlock()
	if p, ok := pickCache.m[ip]; ok && time.Since(p.at) < pickMax {
		return p.c, nil
	}
	c, err := device.Pick(device.Local(), ip)
	if err == nil {
		err = usable(c)
	}
	if err != nil {
		return c, err
	}
	if pickCache.m == nil {
		pickCache.m = map[netip.Addr]cachedPick{}
	}
	pickCache.m[ip] = cachedPick{c, time.Now()}
	return c, nil
}
