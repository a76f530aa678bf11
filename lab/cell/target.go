package cell

import (
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/transport/socket"
)

const redisPort = "6379"

// ReadTarget parses Target, and reads the client's identity. Target is host:port or unix:PATH of a kvwire server, or the URL of a server with Redis's protocol:
// redis://[user:password@]host[:port][/0], redis+unix://[user:password@]/path, or, by Valkey's protocol over RDMA, valkey-rdma://[user:password@]host[:port][/0].
func (f *Settings) ReadTarget() error {
	if err := f.parseTarget(); err != nil {
		return err
	}
	return f.ReadIdentity()
}

func (f *Settings) parseTarget() error {
	scheme, _, isURL := strings.Cut(f.Target, "://")
	if !isURL {
		if f.Target == "" {
			return nil
		}
		return exit.With(exit.Usage, f.CheckAddress(f.Given, "target", f.Target, 1, f.identity.ca != ""))
	}
	parse, form := parseRedisURL, "redis://host:port, or redis://user:password@host:port"
	switch strings.ToLower(scheme) {
	case "redis":
	case "valkey-rdma":
		form = strings.ReplaceAll(form, "redis://", "valkey-rdma://")
	case "redis+unix":
		parse, form = parseRedisUnixURL, "redis+unix:///path/of/the/socket, or redis+unix://user:password@/path/of/the/socket"
	case "unix":
		return exit.Usagef("--target %s: use unix:/path for a kvwire server, or redis+unix:///path for a Redis", quote.URL(f.Target))
	case "rediss":
		return exit.Usagef("--target %s: %q (Redis over TLS) is not supported: use redis://host:port, or host:port of a kvwire server", quote.URL(f.Target), scheme)
	default:
		return exit.Usagef("--target %s: %q is not supported: use redis://host:port, or host:port of a kvwire server", quote.URL(f.Target), scheme)
	}
	at, who, err := parse(f.Target)
	if err != nil {
		return exit.Usagef("--target %s: %v (%s)", quote.URL(f.Target), err, form)
	}
	f.Target, f.Redis = at, true
	if who != nil {
		f.Identity.Who = who
	}
	switch overRDMA := strings.EqualFold(scheme, "valkey-rdma"); {
	case overRDMA && f.Server.Transport != "rdma":
		return exit.Usagef("--target valkey-rdma://%s needs --transport rdma, not %s", at, f.Server.Transport)
	case !overRDMA && f.Server.Transport != "tcp" && f.Server.Transport != "uring":
		return exit.Usagef("--target %s://%s needs --transport tcp or uring, not %s", strings.ToLower(scheme), strings.TrimPrefix(at, "unix:"), f.Server.Transport)
	}
	if err := f.CheckUnix(f.Given, "target", at, f.identity.ca != ""); err != nil {
		return exit.With(exit.Usage, err)
	}
	if m, err := bench.ParseMix(f.Load.Mix); err == nil && m.Share[bench.Scan] > 0 {
		return exit.Usagef("--mix %s has scans, and a Redis has no scan in key order: choose another mix", f.Load.Mix)
	}
	return nil
}

// parseRedisURL parses redis://[user:password@]host[:port][/0]; who is nil if it names no user. Its errors have neither user nor password.
func parseRedisURL(text string) (at string, who *access.Entry, err error) {
	_, at, _ = strings.Cut(text, "://")
	if i := strings.LastIndexByte(at, '@'); i >= 0 {
		if who, err = parseUser(at[:i]); err != nil {
			return "", nil, err
		}
		at = at[i+1:]
	}
	at, db, _ := strings.Cut(at, "/")
	switch {
	case db != "" && db != "0":
		return "", nil, errors.New("nothing may follow the address but the database 0")
	case at == "" || at[0] == ':':
		return "", nil, errors.New("the host is missing")
	case strings.ContainsAny(at, "?#"):
		return "", nil, errors.New("only /0 may follow the address")
	}
	if _, _, err := net.SplitHostPort(at); err != nil && !strings.HasSuffix(at, ":") && (!strings.Contains(at, ":") || strings.HasSuffix(at, "]")) {
		at = net.JoinHostPort(strings.Trim(at, "[]"), redisPort)
	}
	return at, who, socket.CheckHostPort(at, 1)
}

// parseRedisUnixURL is parseRedisURL for redis+unix://[user:password@]/path; at is unix:/path.
func parseRedisUnixURL(text string) (at string, who *access.Entry, err error) {
	_, at, _ = strings.Cut(text, "://")
	if i := strings.LastIndex(at, "@/"); i >= 0 && at[0] != '/' {
		if who, err = parseUser(at[:i]); err != nil {
			return "", nil, err
		}
		at = at[i+1:]
	}
	path, err := url.PathUnescape(at)
	switch {
	case err != nil:
		return "", nil, errors.New("the path must be in percent-encoding (%25 for %)")
	case path == "" || path[0] != '/':
		return "", nil, errors.New("an absolute path must follow redis+unix://, and no host")
	case strings.ContainsAny(at, "?#"):
		return "", nil, errors.New("nothing may follow the path: the only database is 0 (%3F for a ? in the path)")
	}
	return "unix:" + path, who, nil
}

// parseUser parses the part of a URL before the @.
func parseUser(text string) (*access.Entry, error) {
	user, password, ok := strings.Cut(text, ":")
	name, err := url.PathUnescape(user)
	secret, serr := url.PathUnescape(password)
	if err != nil || serr != nil || !ok || secret == "" {
		return nil, errors.New("the part before the last @ must be user:password or :password, in percent-encoding (%40 for @)")
	}
	return &access.Entry{Name: name, Secret: secret}, nil
}
