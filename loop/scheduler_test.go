package loop

import (
	"testing"
	"time"
)

// A loop with system calls through the scheduler yields when it has nothing to do, and at the latest before Go's monitor would retake its P.
func TestALoopYieldsBeforeItsPIsTaken(t *testing.T) {
	for name, c := range map[string]struct {
		since       time.Duration
		told, empty bool
		yields      bool
	}{
		"nothing to do, long ago":            {6 * time.Millisecond, true, true, true},
		"nothing to do, a moment ago":        {4 * time.Millisecond, true, true, false},
		"busy, long ago":                     {6 * time.Millisecond, true, false, false},
		"busy, too long ago":                 {9 * time.Millisecond, true, false, true},
		"no system call that could be taken": {time.Second, false, true, false},
	} {
		l := &Loop{now: time.Second.Nanoseconds() * 2}
		if c.told {
			l.Announced()
		}
		l.yielded = l.now - c.since.Nanoseconds()
		l.yield(c.empty)
		if yielded := l.yielded == l.now; yielded != c.yields {
			t.Errorf("%s: yields %v", name, yielded)
		}
	}
}

func TestWaitForMonitorLastsThroughSignals(t *testing.T) {
	begun := time.Now() // the monitor thread interrupts a goroutine that runs for long
	WaitForMonitor()
	if d := time.Since(begun); d < monitorTime {
		t.Errorf("it ended after %v", d)
	}
}
