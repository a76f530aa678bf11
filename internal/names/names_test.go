package names

import "testing"

func TestNearestFindsMisspelledNames(t *testing.T) {
	all := []string{"bench", "depth", "report", "run", "transport"}
	for s, want := range map[string]string{"dept": "depth", "--Depht": "depth", "repotr": "report", "benhc": "bench", "nonsense": "", "": ""} {
		if got := Nearest(s, all); got != want {
			t.Errorf("%q: %q, and not %q", s, got, want)
		}
	}
}
