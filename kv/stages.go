package kv

// Stage is a part of a request's life. There is one vocabulary for all networks: a stage that one of them does
// not have is 0 there.
type Stage uint8

const (
	StageClientQueue  Stage = iota // from the intended start until a connection takes it: the generator's lag, and the wait for a free place
	StageClientSubmit              // until its first bytes are handed to sendmsg, to the ring or to the queue pair
	StageFabricOut                 // until its last bytes are at the server's kernel; where the kernel does not stamp them, in the server's hands
	StageNotifyServer              // until the server's loop has them: the wake-up, and the turn's work before it
	StageServerQueue               // until its partition takes it: the parser, and the mailbox where that is on another loop
	StageStore                     // the partition's own work
	StageDisk                      // put aside: a page on its way, or a place or a key that another request has
	StageServerSubmit              // until the first bytes of the answer are handed over
	StageFabricBack                // until its last bytes are at the client's kernel
	StageNotifyClient              // until the generator has the answer
	StageFabric                    // both ways, where they cannot be told apart: clocks of two hosts, a one-sided READ
	StageEnd
)

var stageNames = [StageEnd]string{"client_queue", "client_submit", "fabric_out", "notify_server", "server_queue", "store", "disk",
	"server_submit", "fabric_back", "notify_client", "fabric"}

// String is the stage as it stands in a column.
func (s Stage) String() string {
	if s < StageEnd {
		return stageNames[s]
	}
	return "unknown"
}

// Stages are a request's times, in ns of the loops' clock. They belong to whoever owns the request. What is between two
// marks counts for one stage, so that all stages together are what has passed from the start to the last mark.
type Stages struct {
	Ns   [StageEnd]int64
	At   int64 // the last mark
	Hand Hand  // the partition's
}

// Hand says where a request is while a partition has it.
type Hand uint8

const (
	AtWork Hand = iota // the partition works on it, or it is not with a partition
	Aside              // it waits
	Done               // it was finished
)

// Start begins anew.
func (t *Stages) Start(at int64) { *t = Stages{At: at} }

// Mark ends a stage, which may have been begun more than once.
func (t *Stages) Mark(s Stage, now int64) {
	t.Ns[s] += now - t.At
	t.At = now
}

// Total is what has passed from the start to the last mark.
func (t *Stages) Total() (ns int64) {
	for _, d := range t.Ns {
		ns += d
	}
	return ns
}
