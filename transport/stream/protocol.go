package stream

import "github.com/kvwire/kvwire/wire"

// protocol is what the server's end of a connection needs of the protocol that its client uses: nativeServer or respServer. The connection calls it for each
// batch of received bytes and for each request, and never for a byte. It is part of its connection, belongs to the same loop, and uses the connection's
// slots, memory and queues.
type protocol interface {
	// greet goes on with what comes before the first request, of which some was received. ErrMove: the connection belongs to another loop, Server.MoveTo.
	// adopted: another loop has moved it to this one.
	greet(adopted bool) error

	// parse begins the requests of all whole messages that were received. whole: so is the payload that was received in place.
	parse(whole bool)

	// receiving reports whether a message that is not whole has memory, for which others may wait.
	receiving() bool

	// feed gets the memory for the answer to a request, of r.Need bytes. false: the answer has to wait for memory, or for its peer.
	feed(s *slot) bool

	// retries reports whether a request whose answer had too little room is submitted again with r.Need bytes.
	retries(s *slot) bool

	// complete answers a request that has come back from the handler.
	complete(s *slot)

	// handed is called when the first bytes of an answer are handed to the driver.
	handed(s *slot)

	// refuse ends the connection with a code, counts it, and logs why.
	refuse(code wire.Code, why error)

	// wind ends the connection in good order: what was received is answered first. It is called in each turn while the server closes.
	wind()

	// drop gives back what the protocol holds of a connection that has ended, but for requests under way. It is called again when these have come back.
	drop()

	// client describes the connection for CLIENT LIST.
	client() clientInfo
}

// clientInfo is what a protocol knows of its client.
type clientInfo struct {
	name, command, user string
	version             int // of RESP; 0: it is the native protocol
}

var _, _ protocol = (*nativeServer)(nil), (*respServer)(nil)
