package verbs

// MTUBytes returns the payload of a packet in bytes, from a code of ibv_mtu; 0 for any other code.
func MTUBytes(code uint8) int {
	if code < 1 || code > 5 {
		return 0
	}
	return 128 << code
}

// mtuCode returns the code of the largest MTU that is at most bytes.
func mtuCode(bytes int) uint8 {
	code := uint8(1)
	for code < 5 && MTUBytes(code+1) <= bytes {
		code++
	}
	return code
}
