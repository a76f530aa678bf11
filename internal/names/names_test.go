package names

import "testing"

func TestNearestFindsMisspelledNames(t *testing.T) {
	all := []string{"bench", "depth", "report", "run", "time", "transport", "value-bytes"}
	for s, want := range map[string]string{"dept": "depth", "--Depht": "depth", "repotr": "report", "benhc": "bench", "nonsense": "", "": "",
		"title": "", "tim": "time", "tiem": "time", "timeout": "", "trnasprot": "transport", "value_byte": "value-bytes", "ru": "run", "xy": ""} {
		if got := Nearest(s, all); got != want {
			t.Errorf("%q: %q, and not %q", s, got, want)
		}
	}
}
