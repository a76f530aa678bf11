// Package testenv decides whether a test can run here. A test that cannot skips with the reason; where KVWIRE_REQUIRE
// (a comma-separated list of features) requires it to run, it fails. Only tests may import it.
package testenv

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/ring"
	"github.com/kvwire/kvwire/internal/sys"
)

// Uring is for tests that need io_uring.
func Uring(t testing.TB) {
	t.Helper()
	r, err := ring.Open(ring.Options{Entries: 8})
	if err == nil {
		err = r.Close()
	}
	Need(t, "uring", err)
}

// AIO is for tests that need Linux' native asynchronous IO.
func AIO(t testing.TB) {
	t.Helper()
	a, err := sys.OpenAIO(8)
	if err == nil {
		err = a.Close()
	}
	Need(t, "aio", err)
}

// NotShort is for tests that take long: short runs leave them out, except those of the race detector, which make test has.
func NotShort(t testing.TB, why string) {
	t.Helper()
	if Short() {
		t.Skip(why + ": make test runs it")
	}
}

// NotRaced is for tests whose goroutines are those of other tests: short runs of the race detector, which make test has beside a run without it, leave them out.
func NotRaced(t testing.TB) {
	t.Helper()
	if testing.Short() && Race {
		t.Skip("the same goroutines as in other tests: make test runs it without the race detector")
	}
}

// Short reports whether this is a short run without the race detector, as in make check.
func Short() bool { return testing.Short() && !Race }

// Required reports whether KVWIRE_REQUIRE names a feature: what needs it must run.
func Required(feature string) bool {
	return slices.Contains(strings.Split(os.Getenv("KVWIRE_REQUIRE"), ","), feature)
}

// Need is for tests that need a feature which is not there when err is not nil.
func Need(t testing.TB, feature string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case Required(feature):
		t.Fatalf("KVWIRE_REQUIRE names %s: %v", feature, err)
	default:
		t.Skipf("no %s here: %v", feature, err)
	}
}
