package verbs

// Kinds of asynchronous events, of ibv_event_type. Others are ignored.
const (
	EventCQError     = 0 // the completion queue overflowed, or cannot be reached
	EventQPFatal     = 1
	EventQPRequest   = 2
	EventQPAccess    = 3
	EventDeviceFatal = 8
	EventPortActive  = 9
	EventPortError   = 10
	EventLIDChange   = 11
	EventPKeyChange  = 12
	EventSRQError    = 14
	EventLastWQE     = 16 // of a queue pair in its error state: it has consumed its last receive of the shared queue
	EventReregister  = 17 // the subnet manager has reset its state of the port
	EventGIDChange   = 18
)

// StatusFlushed is the status of work requests that were in the queue when their queue pair failed.
const StatusFlushed = 5
