package cell

import (
	"testing"
	"time"
)

func TestGoalsAreReadAsWritten(t *testing.T) {
	g, err := parseGoal("p99.9 < 5ms")
	if err != nil || g.Percentile != 99.9 || g.Below != 5*time.Millisecond {
		t.Errorf("%+v, %v", g, err)
	}
	if from := searchFrom(g, time.Second); from < 100_000 {
		t.Errorf("p99.9 of a second is not known at %v/s", from)
	}
	for _, s := range []string{"", "p99", "p99<", "99<5ms", "p99>5ms", "p100<5ms", "p0<5ms", "pNaN<5ms", "p99<-5ms", "p99<5"} {
		if _, err := parseGoal(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
