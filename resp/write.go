package resp

import "strconv"

// Writers append a reply, or the head of one, to b.

// AppendError appends an error: its text begins with Redis's code ("ERR …", "WRONGTYPE …"), and has no line end.
func AppendError(b []byte, text string) []byte {
	b = append(b, '-')
	for i := 0; i < len(text); i++ {
		if c := text[i]; c == '\r' || c == '\n' {
			b = append(b, ' ')
		} else {
			b = append(b, c)
		}
	}
	return append(b, "\r\n"...)
}

// AppendStatus appends a simple string: OK, PONG.
func AppendStatus(b []byte, s string) []byte { return append(append(append(b, '+'), s...), "\r\n"...) }

// AppendInt appends an integer.
func AppendInt(b []byte, n int64) []byte { return appendHead(b, ':', n) }

// AppendArray appends the head of an array; n values must follow.
func AppendArray(b []byte, n int) []byte { return appendHead(b, '*', int64(n)) }

// AppendMap appends the head of n pairs: with RESP2 an array of twice as many values.
func AppendMap(b []byte, n int, proto int) []byte {
	if proto == 3 {
		return appendHead(b, '%', int64(n))
	}
	return appendHead(b, '*', int64(2*n))
}

// AppendBulk appends a string of any bytes.
func AppendBulk[S string | []byte](b []byte, s S) []byte {
	return append(append(AppendBulkHead(b, len(s)), s...), "\r\n"...)
}

// AppendBulkHead appends the head of a string; n bytes and an end of line must follow.
func AppendBulkHead(b []byte, n int) []byte { return appendHead(b, '$', int64(n)) }

// AppendVerbatim appends a text: with RESP2 a string.
func AppendVerbatim(b, text []byte, proto int) []byte {
	return append(append(AppendVerbatimHead(b, len(text), proto), text...), "\r\n"...)
}

// AppendVerbatimHead appends the head of a text; n bytes and an end of line must follow.
func AppendVerbatimHead(b []byte, n int, proto int) []byte {
	if proto == 3 {
		return append(appendHead(b, '=', int64(n)+4), "txt:"...)
	}
	return AppendBulkHead(b, n)
}

// AppendNull appends the null value.
func AppendNull(b []byte, proto int) []byte {
	if proto == 3 {
		return append(b, "_\r\n"...)
	}
	return append(b, "$-1\r\n"...)
}

func appendHead(b []byte, kind byte, n int64) []byte {
	return append(strconv.AppendInt(append(b, kind), n, 10), "\r\n"...)
}
