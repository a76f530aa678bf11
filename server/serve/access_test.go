package serve

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/exit"
)

func TestOnlyLoopbackIsOpenToAnybody(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("ann rw the-secret-of-ann\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for listen, loopback := range map[string]bool{
		"127.0.0.1:7070": true, "127.8.0.1:0": true, "localhost:0": true, "unix:/run/kvwire": true, "unix:kvwire:7070": true, "[::1]:0": true, "[::ffff:127.0.0.1]:0": true,
		"0.0.0.0:0": false, ":7070": false, "[::]:0": false, "10.0.0.1:7070": false, "[fe80::1]:0": false, "[::ffff:10.0.0.1]:0": false, "192.168.1.1:1": false,
	} {
		for _, c := range []struct {
			flags   []string
			ok, any bool // it may listen; anybody may connect then
		}{{nil, loopback, true}, {[]string{"--insecure"}, true, true}, {[]string{"--auth-file=" + file}, true, false}} {
			s, set := newSettings()
			s.Access.Bind(set)
			if err := set.Parse(c.flags); err != nil {
				t.Fatal(err)
			}
			err := s.readAccess(listen)
			switch {
			case c.ok && (err != nil || (s.Access.list == nil) != c.any):
				t.Errorf("%s %v: %v, list %v", listen, c.flags, err, s.Access.list)
			case !c.ok && (exit.Code(err) != exit.Usage || strings.Contains(err.Error(), "\n")):
				t.Errorf("%s %v: %v", listen, c.flags, err)
			}
		}
	}
}
