package lab

import (
	"context"
	"errors"
	"time"

	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// Exec starts the processes for a Runner. The implementation in fleet runs kvwire itself, here and behind launchers.
// Tests have one without processes. One goroutine calls its methods, except Start, which is called for all variants of a generation at once.
type Exec interface {
	// Facts describes a cell. It starts nothing.
	Facts(cell int) (Facts, error)

	// Start starts a variant of a generation: a server and a client of its own, connected, with its data loaded, warmed up, and parked. The caller
	// ends the process, with Finish or Kill. A *NotHere error means that the cell cannot be run here.
	Start(ctx context.Context, v Variant) (Process, error)

	// Run measures a cell in one whole run. A *NotHere error means that the cell cannot be run here; with other errors there is a row if the
	// run measured something.
	Run(ctx context.Context, run experiment.Run, id string) (*report.Row, error)

	// Calibrate measures the unit costs of the bill of materials once more.
	Calibrate(ctx context.Context) error
}

// Facts describes a cell to a Runner.
type Facts struct {
	Row   *report.Row // its factors
	Whole string      // why it cannot be measured in slices; "": it can
	Disk  bool        // its data set is copied for each generation
	Here  bool        // it can be run on this machine, as far as that is known without starting it
	Data  Data
}

// Variant is one of the processes of a generation: a cell of a question, or its baseline once more (A/A).
type Variant struct {
	Cell       int // index of the experiment's Cells
	Again      bool
	Generation int    // from 1
	Place      int    // index among the variants of the generation; variants that live at the same time have different places
	RunID      string // of its row
	Label      string // for people: tcp, tcp again, rdma write
}

// Process is a variant that lives and is parked. One goroutine calls its methods.
type Process interface {
	// Slice resumes the variant, puts it under load for settle (not counted) and window (counted), and parks it again. The caller fills in the
	// slice's identity: run, question, round and so on. After an error only Kill may be called.
	Slice(ctx context.Context, settle, window time.Duration) (report.Slice, error)

	// Finish ends the process in good order, records its latencies, and returns one row for all its slices.
	Finish(ctx context.Context) (*report.Row, error)

	// Kill ends the process at once. It may be called at any time, and more than once.
	Kill()
}

// NotHere is the error of a cell that cannot be run on this machine.
type NotHere struct{ Reason string }

// Error is the reason.
func (e *NotHere) Error() string { return e.Reason }

// Keeper stores rows and slices. One goroutine calls its methods.
type Keeper interface {
	// Has reports whether a run's row is kept and final; such a run is not measured again.
	Has(id string) bool

	// RecordID is the name under which processes record a run. It is another one than id while id has an older row, which Keep will replace.
	RecordID(id string) string

	// Kept reports whether the generation of the runs ids is kept, and lacks only runs of absent, which cannot be run here.
	Kept(ids, absent []string) bool

	// Keep adds the rows and slices of a generation of a question, or the row of a whole run. It replaces older rows and
	// slices of these runs, or returns ErrOlderStays. After an error or a crash a part of it may be stored, which Forget removes.
	Keep(rows []*report.Row, slices []report.Slice) error

	// Forget removes what processes have recorded of runs that are not kept.
	Forget(ids []string) error

	// Narrow reports whether the intervals of a question, over the first generations only, have half-widths of at most until (0.03: 3 %), at the level of a look.
	Narrow(question, generations int, until float64) (bool, error)
}

// ErrOlderStays is the error of Keep when a run failed that an older generation has complete: then the older rows stay.
var ErrOlderStays = errors.New("a variant failed that has a row in the earlier measurement of this generation: the earlier rows stay")

// Watcher shows the progress of a Runner. One goroutine calls its methods.
type Watcher interface {
	// Started is called before a generation of a question (or a whole run) is measured.
	Started(s Position)
	// Sliced is called after each round of slices.
	Sliced(s Position, rounds, of int)
	// Finished is called when the rows of the position are kept.
	Finished(s Position, rows []*report.Row)
	// Noted is called with one line about an error after which the Runner continues.
	Noted(s Position, line string)
}

// Position is the position of a Runner in its plan.
type Position struct {
	Question    int // index of the experiment's questions; -1: none (a stages run)
	Generation  int // from 1
	Generations int
	Whole       *experiment.Run // nil: slices
	Done, Of    int             // steps done and planned
	Left        time.Duration   // estimated time for this step and all that follow
}
