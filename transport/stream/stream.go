// Package stream is both ends of a connection over a byte stream, without the stream: it tells a driver where received bytes go and which bytes are to be sent,
// and turns them into requests and replies. The networks move the bytes; all else about a connection is here, so that they differ in nothing else.
//
// What is where:
//   - stream.go: how a driver sees an end; inbox.go, outbox.go: the queues of bytes
//   - server.go, client.go: the two ends, of whatever protocol: bytes, slots, states; deadlines.go: when a server's end has failed
//   - protocol.go: what the server's end needs of a protocol (client.go has the client's part); for each batch of bytes and for each request it calls native_*.go
//     or resp_*.go
//   - host.go: what the server's ends on one loop share; serve.go: the endpoints of all loops; dial.go: connecting; info.go: INFO and CLIENT LIST
//
// Sockets are in transport/socket, and who may have how much memory in transport/memory. The two protocols are types of this package, and no packages of their own:
// they work on the connection's slots, queues and account, which a package of their own would have to see in full, and the tests of the connection run it with
// both and look into it. The package may import transport, its socket and memory, and the codecs wire and resp. It imports no network.
package stream

import "golang.org/x/sys/unix"

// Side is one end of a connection, as the driver that moves its bytes sees it. All of it is called
// from the connection's loop.
type Side interface {
	// Window gives the memory that the next received bytes go to, in order, and how many of the two
	// slices count: 0 while reading is paused. It stays valid until Received or Drop.
	Window(w *[2][]byte) int

	// Received parses n bytes that were put into the window, the last of which were at the kernel at stamp, by the loop's
	// clock; 0: it is not known. An error ends the connection.
	Received(n int, stamp int64) error

	// Gather describes the bytes to send next, in order, at most max of them, and returns how
	// many places it filled: 0 when there is nothing. They stay in place until Sent or Drop.
	Gather(v []unix.Iovec, max int) int

	// Sent must be called when n bytes of what Gather described were sent.
	Sent(n int)

	// Finished reports whether all is sent and nothing will follow: the driver shuts its sending half, reads
	// what still comes until the peer closes or the deadline passes, and then drops the connection.
	Finished() bool

	// PeerFinished must be called when the peer has shut its sending half, in good order. false: the
	// connection ends now. true: answers are owed for what the peer has sent before; the driver
	// receives no more, goes on sending, and drops the connection when Finished reports the end.
	PeerFinished() bool

	// Drop ends the connection: no byte moves any more, and no memory given out by Window or Gather
	// is in the kernel's hands. err is the reason.
	Drop(err error)
}

// MessageSide is a Side over messages, which arrive whole and in order, and of which several are sent before the
// first is known to have arrived. A message holds bytes of the same stream, but a header lies in one
// message, whole. Window and Received are for the hello only.
type MessageSide interface {
	Side

	// Take parses a message that was received. Its bytes must stay as they are until Unread is 0, and no
	// other one is taken until then. An error ends the connection.
	Take(b []byte) error

	// Unread is how many bytes of the last message wait for memory.
	Unread() int

	// Next describes the bytes to send after those that it described before: at most max of them, in at most
	// len(v) pieces, and of one frame only. It returns the places it filled, and how many bytes they are.
	// They stay in place until Sent has counted them, or Drop.
	Next(v []unix.Iovec, max int) (pieces, bytes int)

	// Last reports whether what Next described last is the last of all.
	Last() bool
}

// GatherBytes is the most that one send is given, unless its driver has another bound. A send that ends only when all its bytes are out must not last
// so long with a slow reader that the reader looks as if it did not read.
const GatherBytes = 1 << 20

// Driver moves the bytes of one Side.
type Driver interface {
	// Touch is called when there may be something to send, or when reading may go on: the driver looks at
	// this connection when its member is staged next, in this turn or, if that is over, the next.
	Touch()

	// Stamp asks for the kernel's times of what is received from now on, where it has such.
	Stamp()
}
