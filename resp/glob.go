package resp

// Match says whether a name fits a pattern as SCAN's MATCH has it: * and ? and [a-z], [^a], and \ before a character that is meant
// itself (stringmatchlen in Redis's util.c). It takes at most len(pattern) · len(name) steps, where Redis's recursion takes
// exponentially many for patterns of many stars.
func Match(pattern, name []byte) bool {
	p, n := 0, 0
	star, back := -1, 0 // behind the last *, and where the name goes on if what follows does not fit
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			p++
			star, back = p, n
			continue
		}
		if next, ok := matchOne(pattern, p, name[n]); ok {
			p, n = next, n+1
			continue
		}
		if star < 0 {
			return false
		}
		back++
		p, n = star, back
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne compares one character with what stands at p, and says where the pattern goes on.
func matchOne(pattern []byte, p int, c byte) (next int, ok bool) {
	if p >= len(pattern) {
		return p, false
	}
	switch pattern[p] {
	case '?':
		return p + 1, true
	case '[':
		return matchSet(pattern, p+1, c)
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	}
	return p + 1, pattern[p] == c
}

// matchSet is for what stands between brackets; p is behind the first one. A set that does not end goes on to the pattern's end.
func matchSet(pattern []byte, p int, c byte) (next int, ok bool) {
	not := p < len(pattern) && pattern[p] == '^'
	if not {
		p++
	}
	for ; p < len(pattern) && pattern[p] != ']'; p++ {
		switch {
		case pattern[p] == '\\' && p+1 < len(pattern):
			p++
			ok = ok || pattern[p] == c
		case p+2 < len(pattern) && pattern[p+1] == '-':
			from, to := pattern[p], pattern[p+2]
			if from > to {
				from, to = to, from
			}
			p += 2
			ok = ok || from <= c && c <= to
		default:
			ok = ok || pattern[p] == c
		}
	}
	return min(p+1, len(pattern)), ok != not
}
