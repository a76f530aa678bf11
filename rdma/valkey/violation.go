package valkey

import (
	"fmt"

	"github.com/kvwire/kvwire/transport"
)

// Code is the reason why a connection ended whose peer broke a rule of the protocol.
type Code uint8

// The rules that a peer can break.
const (
	BadLength      Code = iota // a control message has another length
	BadOpcode                  // the opcode is unknown, or not for this side
	BadFeature                 // the client uses a feature that the server does not have
	BadMemory                  // a transfer buffer is empty, or exceeds the address space
	TooManyQueries             // too many queries for features are not answered yet
	Overrun                    // the immediate exceeds what is left of the transfer buffer
	EarlyMemory                // a transfer buffer is announced again before it was filled
	NoMemory                   // no transfer buffer was announced, or not again after it was filled
	NoReceives                 // the peer has no receive for a message
)

var codeNames = [...]string{"length", "opcode", "feature", "memory", "queries", "overrun", "early-memory", "no-memory", "no-receives"}

// String returns the code's name in the log.
func (c Code) String() string { return codeNames[c] }

// Violation is the error that ends a connection whose peer broke a rule. It wraps transport.ErrProtocol.
type Violation struct {
	Code Code
	Text string
}

func violation(code Code, format string, args ...any) error {
	return &Violation{code, fmt.Sprintf(format, args...)}
}

// Error implements error.
func (v *Violation) Error() string {
	return fmt.Sprintf("%v of Valkey over RDMA (%v): %s", transport.ErrProtocol, v.Code, v.Text)
}

// Unwrap returns transport.ErrProtocol.
func (v *Violation) Unwrap() error { return transport.ErrProtocol }
