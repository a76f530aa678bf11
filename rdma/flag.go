package rdma

// A slot flag announces a message of the verb write-poll. The sender writes the message into a slot of the receiver, and then, by a second WRITE on the
// same queue pair, the slot's flag. The receiver polls the flag, and reads the slot when the flag is there.
//
// The flag has 8 bytes. In each, the low 7 bits are a part of the content: the number of the message's bytes in the low 21 bits, and the sender's
// count of receives (see credits) above them. The highest bit is the lap's: 1 when the sender goes through its slots for the first time, then 0, then 1,
// and so on. A flag is there when all 8 bytes have the lap's bit. So its bytes may become visible one by one, and in any order.
//
// A message may be read when its flag is there only if the device makes the bytes of a WRITE visible before those of a later WRITE on the same queue
// pair. docs/adr/0046-messages-found-by-polling.md has what the specifications state about that.
const flagBytes = 8

const (
	flagLaps       = 0x8080808080808080 // the bits of the lap
	flagLengthBits = 21                 // for up to 1 MiB, the largest slot
)

// lapBits returns the flag's lap bits for the message of number n.
func lapBits(n uint32, slots int) uint64 {
	if n/uint32(slots)&1 == 0 {
		return flagLaps
	}
	return 0
}

// encodeFlag returns the flag of a message.
func encodeFlag(bytes, count uint32, lap uint64) uint64 {
	v := uint64(count)<<flagLengthBits | uint64(bytes)
	v = v&0x000000000FFFFFFF | v&0x00FFFFFFF0000000<<4 // 28 bits in each half, then 14 in each quarter, then 7 in each byte
	v = v&0x00003FFF00003FFF | v&0x0FFFC0000FFFC000<<2
	v = v&0x007F007F007F007F | v&0x3F803F803F803F80<<1
	return v | lap
}

// decodeFlag decodes a flag. ok is false if it is not there, or not all of it.
func decodeFlag(v, lap uint64) (bytes, count uint32, ok bool) {
	if v&flagLaps != lap {
		return 0, 0, false
	}
	v = v&0x007F007F007F007F | v&0x7F007F007F007F00>>1
	v = v&0x00003FFF00003FFF | v&0x3FFF00003FFF0000>>2
	v = v&0x000000000FFFFFFF | v&0x0FFFFFFF00000000>>4
	return uint32(v & (1<<flagLengthBits - 1)), uint32(v >> flagLengthBits), true
}
