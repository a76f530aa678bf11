package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// The flags of RDMA's device, and the value of the first for the model of one.
const (
	deviceFlag  = "rdma-device"
	linkFlag    = "rdma-model"
	modelDevice = "model"
)

// DeviceFlags are the flags that a Device may have.
var DeviceFlags = []string{deviceFlag, linkFlag}

// Device has flags of kvwire run that replace those of all cells over rdma. Its keys are among DeviceFlags. Empty: all cells have what the experiment gives them.
type Device map[string]string

// Replace replaces the flags in all cells of an experiment over rdma. It returns an error for a flag of which the experiment has several values, and for flags that
// would have no effect.
func (d Device) Replace(x *experiment.Experiment) error {
	if len(d) == 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(d)) {
		if x.Sweeps(name) {
			return fmt.Errorf("--%s: %s has several values of %s, and compares them: leave it out", name, x.Name, name)
		}
	}
	rdma, modelled := false, false
	for i, c := range x.Cells {
		if network, _ := c.Get("transport"); network != "rdma" {
			continue
		}
		rdma = true
		c = slices.DeleteFunc(slices.Clone(c), func(f experiment.Flag) bool { _, replaced := d[f.Name]; return replaced })
		for _, name := range slices.Sorted(maps.Keys(d)) {
			c = append(c, experiment.Flag{Name: name, Value: d[name]})
		}
		x.Cells[i] = c
		modelled = modelled || Modelled(c)
	}
	switch _, link := d[linkFlag]; {
	case !rdma:
		return fmt.Errorf("--%s: %s has no cell over rdma: leave it out", slices.Min(slices.Collect(maps.Keys(d))), x.Name)
	case link && !modelled:
		return fmt.Errorf("--%s needs --%s %s", linkFlag, deviceFlag, modelDevice)
	}
	return nil
}

// Modelled reports whether the RDMA device of a cell is a model.
func Modelled(c experiment.Cell) bool {
	v, _ := c.Get(deviceFlag)
	return v == modelDevice
}

// WithDevice adds report.ModelSuffix to the name of a cell whose RDMA device is a model.
func WithDevice(name string, c experiment.Cell) string {
	if Modelled(c) {
		name = strings.TrimSpace(name + " " + report.ModelSuffix)
	}
	return name
}
