package experiment

import (
	"slices"
	"strings"
)

// clientless reports whether client and server of a transport are one process.
func clientless(transport string) bool { return transport == "inproc" || transport == "codec" }

// alike returns an error if transports are compared and overrides make them differ in another flag: a ratio of two of them would be
// the effect of both.
func (r *reader) alike(x *Experiment, axes []axis, overrides map[string][]axis) error {
	transports := find(axes, transportFlag)
	if x.Compare != transportFlag || transports == nil || len(transports.values) < 2 {
		return nil
	}
	for _, t := range transports.values {
		for _, a := range overrides[t] {
			if r.flags[a.name].OfTransport {
				continue
			}
			for _, other := range transports.values {
				if other == t || clientless(other) && strings.HasPrefix(a.name, "client-") {
					continue
				}
				has := ""
				of := find(overrides[other], a.name)
				if of == nil {
					of = find(axes, a.name)
				}
				switch {
				case of == nil:
					has = "does not set it"
				case !slices.ContainsFunc(a.values, func(v string) bool { return r.hasValue(of, a.name, v) }):
					has = "has " + strings.Join(of.values, ", ")
				default:
					continue
				}
				return r.errorAt(a.at, "overrides of %s: %s %s, and %s %s: a comparison of transports would differ in %s too "+
					"(give both the same, or sweep it and compare: %s)",
					t, a.name, strings.Join(a.values, ", "), other, has, a.name, a.name)
			}
		}
	}
	return nil
}

// hasValue reports whether an axis has a value, in any spelling.
func (r *reader) hasValue(of *axis, name, value string) bool {
	normal, err := r.flags[name].Parse(value)
	return err == nil && slices.ContainsFunc(of.values, func(v string) bool {
		other, err := r.flags[name].Parse(v)
		return err == nil && other == normal
	})
}
