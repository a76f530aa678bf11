package rdma

import (
	"errors"
	"fmt"
	"sync"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/cgo/verbs/model"
	"github.com/kvwire/kvwire/rdma/device"
)

// Link is the link of the modelled device.
type Link = model.Link

// ParseLink parses a link like "rtt=2us,rate=100Gbps".
func ParseLink(text string) (Link, error) { return model.Parse(text) }

// DefaultLink is the text of the default link.
var DefaultLink = model.Default.String()

// LinkPresets returns the names of links that ParseLink knows.
func LinkPresets() []string { return model.Presets() }

var modelled struct {
	sync.Mutex
	link *Link // nil: this process uses the machine's devices
}

// UseModel makes this process use a modelled device, in user space, instead of the machine's: see docs/adr/0047-a-model-of-a-device.md. It must be called before anything else of
// this package that opens a device. Later calls must have the same link.
func UseModel(l Link) error {
	m := &modelled
	m.Lock()
	defer m.Unlock()
	if m.link != nil {
		if *m.link != l {
			return fmt.Errorf("rdma: this process models the link %v already, and can model no other", *m.link)
		}
		return nil
	}
	if err := verbs.UseModel(l); err != nil {
		return err
	}
	device.UseModel()
	m.link = &l
	return nil
}

// UseDevices returns an error if this process uses the modelled device.
func UseDevices() error {
	if Modelled() != nil {
		return errors.New("rdma: this process uses the modelled device already, and so no other")
	}
	return nil
}

// Objects are what this process has made with the modelled device and not freed, by the names of the rdma tool.
func Objects() map[string]int { return verbs.Objects() }

// Modelled returns the link of the modelled device; nil: this process uses the machine's devices.
func Modelled() *Link {
	modelled.Lock()
	defer modelled.Unlock()
	return modelled.link
}
