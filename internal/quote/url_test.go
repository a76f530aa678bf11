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
