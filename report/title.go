package report

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// questionWords is a question's name in words, with units: "backend=null value-bytes=64" is "backend null, value 64 B". The files have the name itself.
func questionWords(question string) string {
	var words []string
	for _, field := range strings.Fields(question) {
		name, value, is := strings.Cut(field, "=")
		if !is { // more of the value before it
			words = append(words, field)
			continue
		}
		if of, bytes := strings.CutSuffix(name, "-bytes"); bytes {
			name, value = of, bytesWords(value)
		}
		if of, rate := strings.CutSuffix(name, "-per-s"); rate {
			name, value = of, value+" per s"
		}
		if len(words) > 0 {
			words[len(words)-1] += ","
		}
		words = append(words, partWords(name), value)
	}
	return strings.Join(words, " ")
}

// bytesWords is a size with its unit: "64 B", "4 KiB".
func bytesWords(size string) string {
	at := strings.IndexFunc(size, func(r rune) bool { return !unicode.IsDigit(r) && r != '.' })
	if first, _ := utf8.DecodeRuneInString(size); !unicode.IsDigit(first) {
		return size
	}
	if at < 0 {
		return size + " B"
	}
	return size[:at] + " " + size[at:]
}

// partWords is the name of a factor, a stage or a unit cost in words: "server queue", "copy KiB".
func partWords(name string) string {
	return strings.NewReplacer("_kib", " KiB", "_", " ", "-", " ", "conns", "connections").Replace(name)
}
