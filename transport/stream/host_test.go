package stream

import "testing"

func TestWhatIsLoggedSeldomIsCounted(t *testing.T) {
	var s seldom
	var silent []int
	for _, now := range []int64{1, 2, 3, 5e8, 1e9 + 2, 1e9 + 3, 5e9} {
		if n, ok := s.due(now); ok {
			silent = append(silent, n)
		}
	}
	if len(silent) != 3 || silent[0] != 0 || silent[1] != 3 || silent[2] != 1 {
		t.Errorf("logged with %v silent ones before, want 0, 3, 1", silent)
	}
}
