package plural

import "testing"

func TestNounsHaveTheNumberOfTheirCount(t *testing.T) {
	for got, want := range map[string]string{Of(1, "loop"): "1 loop", Of(0, "loop"): "0 loops", Of(uint64(2), "page"): "2 pages",
		Are(uint64(1), "page"): "1 page is", Are(3, "page"): "3 pages are"} {
		if got != want {
			t.Errorf("%q, and not %q", got, want)
		}
	}
}
