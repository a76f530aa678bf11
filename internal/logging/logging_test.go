package logging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// Five messages of a kind pass in a second, whatever their attributes; the next one states how many did not. Other kinds are not affected.
func TestLogIsLimitedByKind(t *testing.T) {
	var out strings.Builder
	h := newLimited((&Options{Format: "json"}).handler(&out))
	begin := time.Now()
	say := func(after time.Duration, message string, i int) {
		r := slog.NewRecord(begin.Add(after), slog.LevelWarn, message, 0)
		r.Add("peer", i)
		if err := h.WithAttrs([]slog.Attr{slog.Int("shard", i)}).Handle(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		say(time.Duration(i)*time.Millisecond, "denied", i)
	}
	say(500*time.Millisecond, "closed", 20)
	say(1100*time.Millisecond, "denied", 21)
	say(1200*time.Millisecond, "denied", 22)
	say(900*time.Hour, "denied", 23)
	say(-time.Hour, "denied", 24) // the clock was set
	var got []string
	for line := range strings.Lines(out.String()) {
		var r struct {
			Msg        string
			Peer       int
			Suppressed int
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got = append(got, fmt.Sprint(r.Msg, r.Peer, "/", r.Suppressed))
	}
	if want := "denied0/0 denied1/0 denied2/0 denied3/0 denied4/0 closed20/0 denied21/15 denied22/0 denied23/0 denied24/0"; strings.Join(got, " ") != want {
		t.Errorf("passed were %v, want %s", got, want)
	}
}

// Any number of kinds uses bounded memory, and the count stays exact when many goroutines log at the same time.
func TestLogIsBounded(t *testing.T) {
	k := kinds{of: map[string]*kind{}}
	now := time.Now()
	for i := range 10 * logKinds {
		k.pass(fmt.Sprint(i), now)
	}
	if n := len(k.of); n > logKinds+1 {
		t.Errorf("%d kinds are remembered", n)
	}
	var out strings.Builder
	var mu sync.Mutex
	l := (&Options{Level: slog.LevelWarn}).New(locked{&mu, &out})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				l.Warn("at once")
				l.Info("below the level")
			}
		})
	}
	wg.Wait()
	lines, suppressed := 0, 0
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "kvwire: time=") || !strings.Contains(line, ` level=WARN msg="at once"`) {
			t.Fatalf("the line %q", line)
		}
		lines++
		if _, n, ok := strings.Cut(line, "suppressed="); ok {
			suppressed += must(t, strings.TrimSpace(n))
		}
	}
	if left := l.Handler().(limited).kinds.of["at once"].suppressed; lines+suppressed+left != 800 {
		t.Errorf("of 800 records %d passed, %d were said to be suppressed, %d are to be said", lines, suppressed, left)
	}
}

type locked struct {
	mu *sync.Mutex
	to *strings.Builder
}

func (l locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(b)
}

func must(t *testing.T, text string) (n int) {
	t.Helper()
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTheLogHasNoSecretsOfURLs(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out strings.Builder
		(&Options{Format: format}).New(&out).Info("failed", "error", errors.New("dial redis://bob:s3cret@h:1: refused"))
		if !strings.Contains(out.String(), "redis://…@h:1") || strings.Contains(out.String(), "s3cret") || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("the log as %s: %s", format, &out)
		}
	}
}
