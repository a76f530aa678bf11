package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnlyLoopbackIsOpenToAnybody(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("ann rw the-secret-of-ann\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for listen, loopback := range map[string]bool{
		"127.0.0.1:7070": true, "127.8.0.1:0": true, "localhost:0": true, "[::1]:0": true, "[::ffff:127.0.0.1]:0": true,
		"0.0.0.0:0": false, ":7070": false, "[::]:0": false, "10.0.0.1:7070": false, "[fe80::1]:0": false, "[::ffff:10.0.0.1]:0": false, "192.168.1.1:1": false,
	} {
		for _, c := range []struct {
			flags   []string
			ok, any bool // it may listen; anybody may connect then
		}{{nil, loopback, true}, {[]string{"--insecure"}, true, true}, {[]string{"--auth-file=" + file}, true, false}} {
			f := newFactors("serve", "")
			f.guardFlags()
			if err := f.parse(c.flags, nil); err != nil {
				t.Fatal(err)
			}
			err := f.readGuard(listen)
			var exit *exitError
			switch {
			case c.ok && (err != nil || (f.guard.list == nil) != c.any):
				t.Errorf("%s %v: %v, list %v", listen, c.flags, err, f.guard.list)
			case !c.ok && (!errors.As(err, &exit) || exit.code != exitUsage || strings.Contains(err.Error(), "\n")):
				t.Errorf("%s %v: %v", listen, c.flags, err)
			}
		}
	}
}

func TestTargetsOfRedisNameWhoConnects(t *testing.T) {
	for target, want := range map[string]struct{ at, name, secret string }{
		"redis://10.0.0.1:6379":              {"10.0.0.1:6379", "", ""},
		"redis://10.0.0.1:6379/":             {"10.0.0.1:6379", "", ""},
		"redis://ann:s3cret@10.0.0.1:6379":   {"10.0.0.1:6379", "ann", "s3cret"},
		"redis://:s3cret@10.0.0.1:6379":      {"10.0.0.1:6379", "", "s3cret"},
		"redis://ann:a:b%40c%25d@[::1]:6379": {"[::1]:6379", "ann", "a:b@c%d"},
		"redis://ann@10.0.0.1:6379":          {},
		"redis://ann:@10.0.0.1:6379":         {},
		"redis://ann:s3cret%zz@h:1":          {},
		"redis://ann:s3cret@h":               {},
	} {
		f := newFactors("bench", "")
		f.serverFlags()
		f.loadFlags()
		f.benchFlags()
		if err := f.parse([]string{"--transport=tcp", "--target=" + target}, nil); err != nil {
			t.Fatal(err)
		}
		err := f.readTarget()
		if want.at == "" {
			if err == nil || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: %v", target, err)
			}
			continue
		}
		name, secret := "", ""
		if f.as.who != nil {
			name, secret = f.as.who.Name, f.as.who.Secret
		}
		if err != nil || f.target != want.at || name != want.name || secret != want.secret || !f.redis {
			t.Errorf("%s: %q as %q with %q, %v", target, f.target, name, secret, err)
		}
	}
}
