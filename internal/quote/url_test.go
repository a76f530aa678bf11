package quote

import "testing"

func TestURLsInATextHaveNoSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"dial redis://bob:s3cret@h:1: refused":            "dial redis://…@h:1: refused",
		"dial REDISS://bob:s3:c@ret@h:1/0 and a@b":        "dial REDISS://…@h:1/0 and a@b",
		`get "http://h/x?password=s3cret&b=1": no`:        `get "http://h/x?…": no`,
		"redis://bob:s3cret%40h:1 is no folder":           "redis://…@h:1 is no folder",
		"redis://:s3cret@a:1, redis://:s3cret@b:2":        "redis://…@a:1, redis://…@b:2",
		"ann@h.example: nothing of a URL, 1://2 and p@ss": "ann@h.example: nothing of a URL, 1://2 and p@ss",
	} {
		if got := URLs(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestAURLThatAUserNamedHasNoSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"redis://h:6379":                "redis://h:6379",
		"redis://[::1]:6379/0":          "redis://[::1]:6379/0",
		"redis://bob:s3cret@h:1/0?a=b":  "redis://…@h:1/0?…",
		"redis://bob:s3c ret@x@h:1":     "redis://…@h:1",
		"redis://bob:s3cret":            "redis://…", // the @ is missing
		"redis://bob:s3cret%40h:1":      "redis://…",
		"bob:s3cret@h:1":                "…@h:1",
		"h:6379":                        "h:6379",
		"http://h/x?password=s3cret":    "http://h/x?…",
		"http://h/x#token=s3cret":       "http://h/x?…",
		"valkey-rdma://:s3cret@h.e.x:1": "valkey-rdma://…@h.e.x:1",
	} {
		if got := URL(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
