// Package terminaltest shows tests what a terminal would show. It may import nothing of ours.
package terminaltest

import (
	"strings"
	"unicode/utf8"
)

// Screen is what a terminal shows of what was written to it: all lines, without the spaces at their ends.
func Screen(written string) (lines []string) {
	line, col := []rune{}, 0
	for len(written) > 0 {
		if rest, ok := strings.CutPrefix(written, "\033[K"); ok {
			line, written = line[:min(col, len(line))], rest
			continue
		}
		r, n := utf8.DecodeRuneInString(written)
		written = written[n:]
		switch r {
		case '\r':
			col = 0
		case '\n':
			lines, line, col = append(lines, strings.TrimRight(string(line), " ")), nil, 0
		default:
			for len(line) <= col {
				line = append(line, ' ')
			}
			line[col] = r
			col++
		}
	}
	return append(lines, strings.TrimRight(string(line), " "))
}
