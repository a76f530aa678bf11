package kv

// Stage is a part of a request's life. All networks have the same stages: a stage that does not exist in one of them
// is 0 there.
type Stage uint8

const (
	StageClientQueue  Stage = iota // from the intended start until a connection begins to send it: the generator's lag, and the wait for a free slot
	StageClientSubmit              // until its first bytes are handed to sendmsg, to the ring or to the queue pair
	StageFabricOut                 // until its last bytes are received by the server's kernel; without kernel timestamps, by the server's loop
	StageNotifyServer              // until the server's loop has them: the wake-up, and the turn's work before it
	StageServerQueue               // until its partition gets it: the parser, and the mailbox if the partition is on another loop
	StageStore                     // the partition's own work
	StageDisk                      // it waits for a page from the disk, or for a slot or key that another request uses
	StageServerSubmit              // until the first bytes of the answer are handed over
	StageFabricBack                // until its last bytes are received by the client's kernel
	StageNotifyClient              // until the generator has the answer
	StageFabric                    // both ways, if they cannot be separated: clocks of two hosts, a one-sided READ
	StageEnd
)

var stageNames = [StageEnd]string{"client_queue", "client_submit", "fabric_out", "notify_server", "server_queue", "store", "disk",
	"server_submit", "fabric_back", "notify_client", "fabric"}

// String returns the stage's name in columns.
func (s Stage) String() string {
	if s < StageEnd {
		return stageNames[s]
	}
	return "unknown"
}

// Stages are a request's times, in ns of the loops' clock. They belong to the request's owner. All time between two
// marks counts for one stage, so the sum of all stages is the time from the start to the last mark.
type Stages struct {
	Ns    [StageEnd]int64
	At    int64      // the last mark
	State StoreState // the partition's
}

// StoreState is the state of a request in a partition.
type StoreState uint8

const (
	StoreRunning StoreState = iota // the partition works on it, or no partition has it
	StoreWaiting                   // it waits in the partition
	StoreDone                      // the partition has finished it
)

// Start clears all stages and sets the start.
func (t *Stages) Start(at int64) { *t = Stages{At: at} }

// Mark ends a stage: the time since the last mark is added to it.
func (t *Stages) Mark(s Stage, now int64) {
	t.Ns[s] += now - t.At
	t.At = now
}

// Total returns the time from the start to the last mark.
func (t *Stages) Total() (ns int64) {
	for _, d := range t.Ns {
		ns += d
	}
	return ns
}
