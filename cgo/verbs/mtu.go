package verbs

// MTUBytes is the payload of a packet in bytes, from ibv_mtu's code; 0 for what is none.
func MTUBytes(code uint8) int {
	if code < 1 || code > 5 {
		return 0
	}
	return 128 << code
}

// mtuCode is the code of the largest MTU that is not above.
func mtuCode(bytes int) uint8 {
	code := uint8(1)
	for code < 5 && MTUBytes(code+1) <= bytes {
		code++
	}
	return code
}
