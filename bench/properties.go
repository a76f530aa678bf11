package bench

import (
	"fmt"
	"strconv"
	"strings"
)

// property is one entry of a Java properties file.
type property struct {
	key, value string
	line       int // from 1: where it begins
}

const propertySpace = " \t\f"

// parseProperties reads the text of a file as java.util.Properties.load does (its documentation is the grammar): "=", ":" or white space
// after the key, # and ! for comments, a backslash at a line's end to go on, \uXXXX. White space at the end of a value, which
// Java keeps, is left out. An error names file and line. (Messages need the line of each key, which
// github.com/magiconair/properties v1.8.10 keeps for errors of syntax alone.)
func parseProperties(file string, text []byte) (props []property, err error) {
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(text)), "\n")
	for i := 0; i < len(lines); i++ {
		s := strings.TrimLeft(lines[i], propertySpace)
		if s == "" || s[0] == '#' || s[0] == '!' {
			continue
		}
		p := property{line: i + 1}
		var whole strings.Builder
		for continues(s) {
			whole.WriteString(s[:len(s)-1])
			if s = ""; i+1 < len(lines) {
				i++
				s = strings.TrimLeft(lines[i], propertySpace)
			}
		}
		whole.WriteString(s)
		key, value := cutProperty(whole.String())
		if p.key, err = unescape(key); err == nil {
			p.value, err = unescape(value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, p.line, err)
		}
		p.value = strings.TrimSpace(p.value)
		props = append(props, p)
	}
	return props, nil
}

// continues reports whether a line ends with a backslash that is not itself escaped.
func continues(s string) bool {
	return (len(s)-len(strings.TrimRight(s, `\`)))%2 == 1
}

// cutProperty divides an entry at the first "=", ":" or white space that is not escaped.
func cutProperty(s string) (key, value string) {
	end := 0
	for end < len(s) && !strings.ContainsRune("=:"+propertySpace, rune(s[end])) {
		if s[end] == '\\' {
			end++
		}
		end++
	}
	end = min(end, len(s))
	value = strings.TrimLeft(s[end:], propertySpace)
	if value != "" && (value[0] == '=' || value[0] == ':') {
		value = strings.TrimLeft(value[1:], propertySpace)
	}
	return s[:end], value
}

// unescape resolves the backslashes of a key or value.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			code := s[i+1 : min(i+5, len(s))]
			v, err := strconv.ParseUint(code, 16, 16)
			if err != nil || len(code) != 4 {
				return "", fmt.Errorf(`\u%s is not a character of four hexadecimal digits`, strconv.Quote(code))
			}
			b.WriteRune(rune(v))
			i += 4
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}
