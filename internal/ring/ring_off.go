//go:build !giouring

package ring

import "time"

// Built reports whether this binary has io_uring support compiled in.
const Built = false

// Ring is the stub twin: Open never makes one.
type Ring struct{ Counters }

// Open returns an error that names the build tag.
func Open(Options) (*Ring, error) { return nil, ErrNotBuilt }

const never = "ring: a method of a ring that cannot exist in this build"

func (*Ring) Fd() int                        { panic(never) }
func (*Ring) Next(uint64) *SQE               { panic(never) }
func (*Ring) NextOrWait(uint64) *SQE         { panic(never) }
func (*Ring) Pending() int                   { panic(never) }
func (*Ring) Ready() bool                    { panic(never) }
func (*Ring) NeedsEnter() bool               { panic(never) }
func (*Ring) Enter(int, int64) error         { panic(never) }
func (*Ring) Submit() error                  { panic(never) }
func (*Ring) Wait(int, int64) error          { panic(never) }
func (*Ring) SQPoll() bool                   { panic(never) }
func (*Ring) Idle() bool                     { panic(never) }
func (*Ring) Reap([]CQE) int                 { panic(never) }
func (*Ring) RegisterBuffers([][]byte) error { panic(never) }
func (*Ring) RegisterFiles([]int) error      { panic(never) }
func (*Ring) Unregister()                    { panic(never) }
func (*Ring) Reserve(int, int) error         { panic(never) }
func (*Ring) SetBuffers(int, [][]byte) error { panic(never) }
func (*Ring) SetFiles(int, []int) error      { panic(never) }
func (*Ring) Supports(uint8) bool            { panic(never) }
func (*Ring) Room(int) bool                  { panic(never) }
func (*Ring) AddFile(int) (int, error)       { panic(never) }
func (*Ring) DropFile(int)                   { panic(never) }
func (*Ring) NAPI(time.Duration) error       { panic(never) }
func (*Ring) Multishot() bool                { panic(never) }
func (*Ring) Bundles() bool                  { panic(never) }
func (*Ring) SkipsSuccess() bool             { panic(never) }
func (*Ring) Settled(uint32) bool            { panic(never) }
func (*Ring) Mark() uint32                   { panic(never) }
func (*Ring) Close() error                   { panic(never) }

func (*Ring) registerGroup(*bufReg) (uint16, error) { panic(never) }
func (*Ring) unregisterGroup(uint16)                { panic(never) }
