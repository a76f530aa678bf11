package quote

import (
	"regexp"
	"strings"
)

// URL returns text, an address that a user named, without its secrets: the part between the scheme and the last @, which may contain a password, and the query.
// Without a scheme it omits everything before an @. It shows a URL without an @ only if that is plainly a host and a port, since the @ behind user:password may
// be missing, or written as %40.
func URL(text string) string {
	text = urlQuery.ReplaceAllString(urlUser.ReplaceAllString(text, "$1…@"), "$1?…")
	scheme, at, isURL := strings.Cut(text, "://")
	if !isURL {
		if i := strings.LastIndexByte(text, '@'); i >= 0 {
			return "…" + text[i:]
		}
		return text
	}
	if !strings.Contains(at, "@") && !hostAndPort.MatchString(at) {
		return scheme + "://…"
	}
	return text
}

// URLs returns text, such as an error, with each URL in it as from URL. A URL ends at a blank or a quote.
func URLs(text string) string {
	return urlQuery.ReplaceAllString(urlInText.ReplaceAllString(text, "$1…@"), "$1?…")
}

var (
	urlInText   = regexp.MustCompile(`([A-Za-z0-9+.-]*://)[^\s"]*(?:@|%40)`)
	urlUser     = regexp.MustCompile(`([A-Za-z0-9+.-]*://)[^\n]*@`)
	hostAndPort = regexp.MustCompile(`^([A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]*\]?)(:[0-9]*)?(/[^?#]*)?([?]…)?$`)
	urlQuery    = regexp.MustCompile(`([A-Za-z0-9+.-]*://[^\s?#"]*)[?#][^\s"]*`)
)
