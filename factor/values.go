package factor

import (
	"sync"
	"time"
)

// Values are the values of all factors. A text is as the user wrote it; after CheckWords it is among the Words of its factor.
type Values struct {
	Server ServerValues
	Store  StoreValues
	TCP    TCPValues
	Uring  UringValues
	RDMA   RDMAValues
	UDP    UDPValues
	Load   LoadValues
}

// NewValues returns the defaults of all factors.
func NewValues() Values { return *defaults() }

var defaults = sync.OnceValue(func() *Values {
	v := new(Values)
	All.Bind(scratch(), v, func(*Factor) bool { return true })
	return v
})

// ServerValues are the network of a run, and the placement and wait policy of the server's loops. The client's loops have the same Wait and SpinMax.
type ServerValues struct {
	Transport  string
	Placement  string
	Threads    int
	NetLoops   int
	StoreLoops int
	Wait       string
	SpinMax    time.Duration
	CPUs       CPUs
}

// StoreValues are the backend and its disk engine. Taskrun and SQPoll also apply to rings with sockets.
type StoreValues struct {
	Backend    string
	Dir        string
	CacheBytes Bytes
	ReadsMax   int
	Durability string
	Update     string
	RawBytes   Bytes
	NullBusy   time.Duration
	NullDelay  time.Duration

	Engine       string
	Depth        int
	Batch        int
	Wait         int
	WaitMax      time.Duration
	Taskrun      string
	SQPoll       bool
	IOPoll       bool
	FixedBuffers bool
	FixedFiles   bool
}

// TCPValues are the flags of the sides that use tcp. Engine and Accept apply to the server, ClientEngine to the client, the others to both.
type TCPValues struct {
	Engine        string
	ClientEngine  string
	Accept        string
	TLS           string
	NoDelay       bool
	Cork          bool
	QuickAck      bool
	SendBytes     Bytes
	ReceiveBytes  Bytes
	BusyPoll      time.Duration
	ZeroCopyBytes Bytes
}

// UringValues are the flags of the sides that use uring. If both do, they have the same values. Ring applies to the server only.
type UringValues struct {
	Ring          string
	Receive       string
	Buffers       int
	BufferBytes   Bytes
	BodyBytes     Bytes
	ChunkBytes    Bytes
	SendBytes     Bytes
	ReceiveBytes  Bytes
	Bundle        bool
	FixedFiles    bool
	Large         string
	ZeroCopyBytes Bytes
	NAPI          time.Duration
}

// RDMAValues are the flags of rdma. Both sides have the same values; ExportBytes applies to the server only.
type RDMAValues struct {
	Verb         string
	Device       string
	Model        string
	Connect      string
	InlineBytes  Bytes
	SignalEvery  int
	PostBatch    int
	SlotBytes    Bytes
	SRQ          bool
	MTU          int
	HugePages    bool
	ExportBytes  Bytes
	TrafficClass int
	ServiceLevel int
}

// UDPValues are the flags of udp. Both sides have the same values; Congestion applies to the client only.
type UDPValues struct {
	Engine        string
	DatagramBytes Bytes
	Credits       int
	Congestion    string
	Segments      bool
	Loss          Share
}

// LoadValues are the load and the duration of its measurement.
type LoadValues struct {
	ClientTransport string
	Mix             string
	KeyDist         string
	KeyBytes        Bytes
	ValueBytes      Bytes
	ValueDist       string
	ValueMinBytes   Bytes
	ValueSizes      Sizes
	Records         Count
	ScanItems       int
	VerifyValues    Checks
	Seed            uint64

	Loop       string
	Arrival    string
	TargetPerS Rate
	Search     string
	Conns      int
	Depth      int
	Threads    int
	CPUs       CPUs
	LinkRate   Rate // bits per second; 0: no link of the run's own
	LinkLoss   Share
	LinkFrames bool

	Duration   time.Duration
	Operations Count // number of operations that end the window; 0: Duration ends it
	Warmup     time.Duration
	Stages     int

	Workload    string // a YCSB property file
	Trace       string // path of a trace
	TraceUnit   string
	TraceFormat string
	TraceTTL    string
	TraceSpeed  Speed
	TraceRepeat bool
}
