package kv

import "strconv"

// Int parses an int64 as Redis does (string2ll in its util.c): decimal, with no sign but a minus, no leading zeros and no spaces.
func Int(b []byte) (n int64, ok bool) {
	digits := b
	if len(b) > 0 && b[0] == '-' {
		digits = b[1:]
	}
	if len(digits) == 0 || len(b) > AddBytes || digits[0] < '0' || digits[0] > '9' || digits[0] == '0' && len(b) > 1 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil
}
