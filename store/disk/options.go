package disk

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// The engines: values of Options.Engine.
const (
	Sync        = "sync"         // pread and pwrite on the loop's own thread, one at a time
	Pool        = "pool"         // pread and pwrite by goroutines
	AIO         = "aio"          // Linux' native asynchronous IO, one io_submit a turn
	UringShared = "uring-shared" // one ring for all partitions: a lock to submit, one thread that reaps
	UringSQ     = "uring-sq"     // a ring for each partition to submit to, one thread that reaps them all
	Uring       = "uring"        // the ring of the partition's own loop, both sides
)

// Names are all engines, from the simplest to the default.
var Names = []string{Sync, Pool, AIO, UringShared, UringSQ, Uring}

// NeedsRing reports whether an engine needs io_uring.
func NeedsRing(engine string) bool { return engine == "" || strings.HasPrefix(engine, Uring) }

// DepthLimit bounds Options.DepthMax.
const DepthLimit = 1 << 15

// Options are the options of an engine. There are no defaults: zero means zero. All partitions of a store have the same options, except Shard.
type Options struct {
	Engine         string        // one of Names
	Shard, Shards  int           // number of the partition, and number of all partitions
	Dir            string        // folder of the files, for error messages and for the probe of IOPoll
	Durable        bool          // every write is durable when it has completed (RWF_DSYNC)
	DepthMax       int           // transfers in flight, 1 to DepthLimit
	Batch          int           // hold transfers back until this many are queued or nothing is in flight; 0: submit at the end of each turn
	Wait           int           // uring: number of completions for which a loop sleeps in its ring, if that many are in flight
	WaitMax        time.Duration // uring: the longest such sleep
	SQPoll         bool          // uring engines: a thread of the kernel submits. uring: the loop's ring must have it (loop.Options.SQPoll)
	IOPoll         bool          // uring: look for completions at the device, which must have poll queues
	NoFixedBuffers bool          // uring engines: do not register memory
	NoFixedFiles   bool          // uring engines: do not register files
	Shared         *Shared       // uring-shared, uring-sq: the same for all partitions of a store; nil is allowed for a single partition
	Log            *slog.Logger  // receives a warning if registration fails; not nil
}

// Check returns an error, on one line, for options that exclude each other.
func (o *Options) Check() error {
	e := o.Engine
	switch {
	case !slices.Contains(Names, e):
		return fmt.Errorf("store: disk engine %q is unknown (%s)", e, strings.Join(Names, ", "))
	case o.Batch < 0 || o.Batch > o.DepthMax:
		return fmt.Errorf("store: a disk batch of %d: choose 0 (what a turn has) to the depth, %d", o.Batch, o.DepthMax)
	case o.Wait < 0 || o.Wait > o.DepthMax:
		return fmt.Errorf("store: waiting for %d completions: choose 0 to the depth, %d", o.Wait, o.DepthMax)
	case o.Wait > 1 && e != Uring:
		return fmt.Errorf("store: waiting for %d completions needs the disk engine uring, not %s", o.Wait, e)
	case o.WaitMax < 0:
		return fmt.Errorf("store: waiting for completions for %v: choose more than 0", o.WaitMax)
	case o.SQPoll && !NeedsRing(e):
		return fmt.Errorf("store: SQPOLL needs one of the uring disk engines, not %s", e)
	case o.IOPoll && e != Uring:
		return fmt.Errorf("store: IOPOLL needs the disk engine uring, not %s", e)
	case o.IOPoll && o.SQPoll:
		return fmt.Errorf("store: IOPOLL has a ring of its own, which has no SQPOLL: choose one of them")
	case o.IOPoll && o.Wait > 1:
		return fmt.Errorf("store: with IOPOLL the loop does not sleep while transfers are in flight: leave out waiting for %d completions", o.Wait)
	}
	return nil
}
