package stream

import "github.com/kvwire/kvwire/wire"

// protocol is the part of the server's end that depends on the client's protocol: nativeServer or respServer. Server calls it once for each batch of received
// bytes and once for each request, never for each byte. It is part of its connection, belongs to the same loop, and uses the connection's slots, memory and
// queues.
type protocol interface {
	// handshake handles received bytes of the exchange before the first request. It returns ErrMove if the connection belongs to another loop, Server.MoveTo.
	// adopted: another loop has moved the connection to this one.
	handshake(adopted bool) error

	// parse begins the requests of all completely received messages. whole: the payload that was received in place is complete, too.
	parse(whole bool)

	// receiving reports whether an incomplete message holds memory that other connections may wait for.
	receiving() bool

	// allocAnswer allocates the memory for the answer to a request, r.Need bytes. false: the answer has to wait for memory or for its peer.
	allocAnswer(s *slot) bool

	// retries reports whether a request whose answer had too little room shall be submitted again with r.Need bytes.
	retries(s *slot) bool

	// complete answers a request that the handler has returned.
	complete(s *slot)

	// handed is called when the first bytes of an answer are given to the driver.
	handed(s *slot)

	// refuse ends the connection with a code, counts it, and logs why.
	refuse(code wire.Code, why error)

	// shutdown ends the connection in order: received requests are answered first. It is called in each turn while the server closes.
	shutdown()

	// drop frees what the protocol holds for a connection that has ended, except for requests under way. It is called again when these have returned.
	drop()

	// client describes the connection for CLIENT LIST.
	client() clientInfo
}

// clientInfo is the part of a client's description that depends on the protocol.
type clientInfo struct {
	name, command, user string
	version             int // of RESP; 0: native protocol
}

var _, _ protocol = (*nativeServer)(nil), (*respServer)(nil)
