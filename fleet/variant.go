package fleet

import (
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/report"
)

// A variant of a question and the kvwire run that started it exchange lines of JSON: commands to the variant, replies from it. The variant starts its server, connects,
// loads its data, warms up, parks, and reports that it is ready. Then it replies to each command.

// VariantCommand is a line to a variant. One field is set.
type VariantCommand struct {
	Slice  *SliceCommand `json:"slice,omitempty"`
	Finish bool          `json:"finish,omitempty"` // report the row of all slices, and end
}

// SliceCommand is one slice of load.
type SliceCommand struct {
	Settle time.Duration `json:"settle_ns"` // not counted
	Window time.Duration `json:"window_ns"`
}

// VariantReply is a line from a variant. One field is set.
type VariantReply struct {
	Progress *bench.Progress `json:"progress,omitempty"` // of loading and warming up
	Ready    bool            `json:"ready,omitempty"`
	Slice    *report.Slice   `json:"slice,omitempty"`
	Row      *report.Row     `json:"row,omitempty"`
}
