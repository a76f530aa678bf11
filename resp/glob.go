package resp

import "slices"

// PatternMax is the largest size of a pattern in bytes. It equals the size of the longest key.
const PatternMax = 1 << 10

// ErrPattern is the error for a longer pattern.
const ErrPattern = "ERR the pattern is too long: at most 1024 bytes"

// Pattern is a pattern of KEYS and SCAN's MATCH: * and ? and [a-z], [^a], and \ before a literal character (stringmatchlen in
// Redis's util.c). It is a bit-parallel automaton: state n means that the name has matched the first n characters of the pattern. Each state is one
// bit, and each character of the name advances all states at once (Shift-And: Baeza-Yates and Gonnet 1992, with the loops of Wu and Manber). So a name costs as many steps as it
// has bytes, times one word for each 64 characters of the pattern, whatever both are. Its zero value is ready for Compile, and keeps its memory: up
// to 34 KiB.
type Pattern struct {
	last  int      // the state in which the whole pattern has matched
	words int      // number of words of a set of states
	moves []uint64 // for each byte, a set: the states from which the byte leads to the next state
	stays []uint64 // a set: the states of a *, which any byte leaves unchanged
}

// Compile compiles a pattern of at most PatternMax bytes. It needs at most 256 steps for each byte.
func (p *Pattern) Compile(pattern []byte) {
	p.last = 0
	p.words = len(pattern)/64 + 1
	p.moves = zeros(p.moves, 256*p.words)
	p.stays = zeros(p.stays, p.words)
	for i := 0; i < len(pattern); {
		word, bit := p.last/64, uint64(1)<<(p.last%64)
		switch pattern[i] {
		case '*':
			p.stays[word] |= bit
			i++
			continue
		case '?':
			p.move(word, bit, 0, 255)
			i++
		case '[':
			i = p.set(pattern, i+1, word, bit)
		default:
			if pattern[i] == '\\' && i+1 < len(pattern) {
				i++
			}
			p.move(word, bit, pattern[i], pattern[i])
			i++
		}
		p.last++
	}
}

func zeros(s []uint64, n int) []uint64 {
	s = slices.Grow(s[:0], n)[:n]
	clear(s)
	return s
}

// move adds the transition from a state to the next for the bytes from to to.
func (p *Pattern) move(word int, bit uint64, from, to byte) {
	for c := int(from); c <= int(to); c++ {
		p.moves[c*p.words+word] |= bit
	}
}

// set compiles a set in brackets; i is the index after the opening bracket. A set without an end extends to the pattern's end. It returns the index
// after the set.
func (p *Pattern) set(pattern []byte, i, word int, bit uint64) int {
	not := i < len(pattern) && pattern[i] == '^'
	if not {
		i++
	}
	for ; i < len(pattern) && pattern[i] != ']'; i++ {
		from, to := pattern[i], pattern[i]
		switch {
		case from == '\\' && i+1 < len(pattern):
			i++
			from, to = pattern[i], pattern[i]
		case i+2 < len(pattern) && pattern[i+1] == '-':
			i += 2
			from, to = min(from, pattern[i]), max(from, pattern[i])
		}
		p.move(word, bit, from, to)
	}
	if not {
		for c := range 256 {
			p.moves[c*p.words+word] ^= bit
		}
	}
	return min(i+1, len(pattern))
}

// Match reports whether a name matches the pattern.
func (p *Pattern) Match(name []byte) bool {
	ok, _ := p.match(name)
	return ok
}

// match is Match. It also counts the words of states that it reads.
func (p *Pattern) match(name []byte) (ok bool, steps int) {
	var in [PatternMax/64 + 1]uint64 // the set of present states
	states := in[:p.words]
	states[0] = 1
	for i, c := range name {
		moves := p.moves[int(c)*p.words:][:p.words]
		some, carry := uint64(0), uint64(0)
		for w, s := range states {
			m := s & moves[w]
			states[w] = m<<1 | carry | s&p.stays[w]
			carry = m >> 63
			some |= states[w]
		}
		if some == 0 {
			return false, (i + 1) * p.words
		}
	}
	return states[p.last/64]>>(p.last%64)&1 != 0, len(name) * p.words
}
