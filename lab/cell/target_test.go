package cell

import (
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/exit"
)

func TestTargetsOfRedisNameTheUser(t *testing.T) {
	for target, want := range map[string]struct{ at, name, secret string }{
		"redis://10.0.0.1:6379":              {"10.0.0.1:6379", "", ""},
		"redis://10.0.0.1:6379/":             {"10.0.0.1:6379", "", ""},
		"redis://ann:s3cret@10.0.0.1:6379":   {"10.0.0.1:6379", "ann", "s3cret"},
		"redis://:s3cret@10.0.0.1:6379":      {"10.0.0.1:6379", "", "s3cret"},
		"redis://ann:a:b%40c%25d@[::1]:6379": {"[::1]:6379", "ann", "a:b@c%d"},
		"redis://ann@10.0.0.1:6379":          {},
		"redis://ann:@10.0.0.1:6379":         {},
		"redis://ann:s3cret%zz@h:1":          {},
		"redis://ann:s3cret@h":               {"h:6379", "ann", "s3cret"},
		"redis://ann:s3cret@h/0":             {"h:6379", "ann", "s3cret"},
		"redis+unix:///run/r.sock":           {"unix:/run/r.sock", "", ""},
		"redis+unix://ann:s3/c@/run/a@b/s":   {"unix:/run/a@b/s", "ann", "s3/c"},
		"redis+unix://ann:s3/c@/run/r.sock":  {"unix:/run/r.sock", "ann", "s3/c"},
		"redis+unix://:s3cret@/run/a%20b":    {"unix:/run/a b", "", "s3cret"},
		"redis+unix:///run/a@/s":             {"unix:/run/a@/s", "", ""},
		"redis+unix://h/run/r.sock":          {},
		"redis+unix:///run/r.sock?db=1":      {},
		"redis+unix://ann@/run/r.sock":       {},
		"redis+unix://ann:s3cret@":           {},
		"unix:///run/r.sock":                 {},
		"redis://[::1]":                      {"[::1]:6379", "", ""},
		"redis://h":                          {"h:6379", "", ""},
		"REDIS://ann:s3cret@h:1":             {"h:1", "ann", "s3cret"},
		"redis://ann:s3cret/x@h:1":           {"h:1", "ann", "s3cret/x"},
		"redis://ann:s3cret@h:1/1":           {},
		"redis://ann:s3cret@h:1/x":           {},
		"redis://h:1/?password=s3cret":       {},
		"redis://h?password=s3cret":          {},
		"redis://h:1#s3cret":                 {},
		"redis://ann:s3cret@h:99999":         {},
		"redis://ann:s3cret@h:0":             {},
		"redis://ann:s3cret@::1":             {},
		"redis://ann:s3cret@h:":              {},
		"redis://ann:s3cret@":                {},
		"redis://ann:my s3cret@":             {},
		"rediss://ann:s3cret@h:1":            {},
		"REDISS://ann:s3cret@h:1":            {},
		"http://ann:s3cret@h:1":              {},
		"://ann:s3cret@h:1":                  {},
		"ann:s3cret@h:1":                     {},
		"redis://ann:s3cret%40h:1":           {},
		"redis://ann:s3cret":                 {},
		"redis://ann:s3cret:h:1":             {},
		"redis://ann:s3cret/h:1":             {},
		"rediss://ann:s3cret":                {},
		"ann:s3cret@h":                       {},
		"h":                                  {},
		"h:http":                             {},
	} {
		f := (&Program{}).newCell()
		f.Target = target
		err := f.ReadTarget()
		if want.at == "" {
			if exit.Code(err) != exit.Usage || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v, want a usage error without the secret", target, err)
			}
			continue
		}
		name, secret := "", ""
		if f.Identity.Who != nil {
			name, secret = f.Identity.Who.Name, f.Identity.Who.Secret
		}
		if err != nil || f.Target != want.at || name != want.name || secret != want.secret || !f.Redis {
			t.Errorf("%s: %q as %q with %q, %v", target, f.Target, name, secret, err)
		}
	}
}

func TestTargetsOfValkeyOverRDMANeedRDMA(t *testing.T) {
	for _, c := range []struct {
		target, transport, at string
	}{
		{"valkey-rdma://10.0.0.1:6379", "rdma", "10.0.0.1:6379"},
		{"valkey-rdma://ann:s3cret@h", "rdma", "h:6379"},
		{"valkey-rdma://10.0.0.1:6379", "tcp", ""},
		{"redis://10.0.0.1:6379", "rdma", ""},
		{"valkey-rdma://10.0.0.1:6379/1", "rdma", ""},
	} {
		f := (&Program{}).newCell()
		f.Target, f.Server.Transport = c.target, c.transport
		if err := f.ReadTarget(); c.at == "" && exit.Code(err) != exit.Usage || c.at != "" && (err != nil || f.Target != c.at || !f.Redis) {
			t.Errorf("%s with %s: %q, %v", c.target, c.transport, f.Target, err)
		}
	}
}
