// Package stream implements both ends of a connection over a byte stream, without IO: it gives a driver the memory for received bytes and the bytes to send, and
// converts between bytes and requests or replies. The networks only move the bytes. All else about a connection is here, so that networks differ in nothing else.
//
// What is where:
//   - stream.go: the interface between a driver and an end; inbox.go, outbox.go: the queues of bytes
//   - server.go, client.go: the two ends, for both protocols: bytes, slots, states; deadlines.go: the deadlines of a server's end
//   - protocol.go: the interface between the server's end and its protocol (client.go has the client's); native_*.go and resp_*.go implement it
//   - host.go: what the server's ends on one loop share; ends.go: what the endpoints and the clients' hubs of all networks share
//   - serve.go: the endpoints of all loops; dial.go: connecting; info.go: INFO and CLIENT LIST
//
// Sockets are in transport/socket; the shares of memory are in transport/memory. The two protocols are types of this package, not packages: they use the
// connection's slots, queues and account, which separate packages could reach only if all of it were exported, and the connection's internal tests run with both.
// The package may import transport, its socket and memory, and the codecs wire and resp. It imports no network.
package stream

import "golang.org/x/sys/unix"

// Side is one end of a connection, as the driver that moves its bytes calls it. All calls come
// from the connection's loop.
type Side interface {
	// RecvBuffers sets w to the memory for the next received bytes, in order, and returns how many of the two
	// slices are valid: 0 while reading is paused. The memory stays valid until Received or Drop.
	RecvBuffers(w *[2][]byte) int

	// Received parses n bytes that were written to these buffers. stamp is the kernel's receive time of the last ones, in ns by the
	// loop's clock; 0: not known. An error ends the connection.
	Received(n int, stamp int64) error

	// Gather describes the next bytes to send, in order, at most max bytes, and returns the number of
	// elements of v that it filled: 0 if there is nothing to send. The bytes stay in place until Sent or Drop.
	Gather(v []unix.Iovec, max int) int

	// Sent must be called when n of the described bytes were sent.
	Sent(n int)

	// Finished reports whether all is sent and nothing will follow. The driver then shuts its sending half, reads
	// until the peer closes or the deadline passes, and drops the connection.
	Finished() bool

	// PeerFinished must be called when the peer has shut its sending half in order. false: the
	// connection ends now. true: requests that the peer sent before are not answered yet; the driver
	// receives no more, continues to send, and drops the connection when Finished reports true.
	PeerFinished() bool

	// Drop ends the connection, for the reason err. When the driver calls it, no byte moves any more, and the kernel
	// uses no memory from RecvBuffers or Gather.
	Drop(err error)
}

// MessageSide is a Side over messages, which arrive whole and in order, and of which several are sent before the
// first is known to have arrived. A message holds bytes of the same stream, but a header lies in one
// message, whole. RecvBuffers and Received are for the hello only.
type MessageSide interface {
	Side

	// ReceivedMessage parses a received message. Its bytes must not change until Unread is 0, and the driver must not
	// call it again before that. An error ends the connection.
	ReceivedMessage(b []byte) error

	// Unread returns the number of bytes of the last message that wait for memory.
	Unread() int

	// Next describes the bytes to send after those that it described before: at most max bytes, in at most
	// len(v) pieces, and of one frame only. It returns the number of pieces and of bytes, and whether further bytes follow.
	// They stay in place until Sent has counted them, or Drop.
	Next(v []unix.Iovec, max int) (pieces, bytes int, more bool)

	// NextCopied returns the bytes of the next message and counts them as sent, if they are one piece of at most max bytes, and all bytes before them are sent; else nil:
	// Next describes them. The driver copies them before the stage step ends, or the connection does. more is as of Next.
	NextCopied(max int) (b []byte, more bool)

	// Last reports whether nothing will follow the bytes that Next described or NextCopied returned last.
	Last() bool
}

// GatherBytes is the most bytes of one send, unless the driver has another bound. A send may complete only when all its bytes are sent. With a slow reader
// that must not take so long that the reader seems to be stalled.
const GatherBytes = 1 << 20

// Driver moves the bytes of one Side.
type Driver interface {
	// Touch is called when there may be something to send, or when reading may continue. The driver then
	// serves this connection in its member's next stage step, in this turn or the next.
	Touch()

	// Stamp enables the kernel's receive times for bytes received from now on, where the kernel has them.
	Stamp()
}
