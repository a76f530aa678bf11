package report

import "testing"

func TestQuestionsAreInWords(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "depth=16": "depth 16", "conns=8": "connections 8",
		"backend=null mix=get value-bytes=64": "backend null, mix get, value 64 B",
		"value-bytes=4KiB target-per-s=10k":   "value 4 KiB, target 10k per s",
		"value-bytes=zipfian sqpoll=false":    "value zipfian, sqpoll false",
		"transport=rdma write depth=1":        "transport rdma write, depth 1",
	} {
		if got := questionWords(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
