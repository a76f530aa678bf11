//go:build rdma && cgo && linux

package verbs

import (
	"testing"
	"time"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/internal/testenv"
)

func open(t testing.TB) *Device {
	t.Helper()
	names, err := Names()
	if err == nil && len(names) == 0 {
		err = Unavailable()
	}
	testenv.Need(t, "rdma", err)
	d, err := Open(names[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func BenchmarkRegister(b *testing.B) {
	d := open(b)
	for range b.N {
		at := time.Now()
		a, err := arena.New(16 << 20)
		if err != nil {
			b.Fatal(err)
		}
		r, err := d.Register(a.Bytes(), Local)
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("register 16 MiB: %v", time.Since(at))
		at = time.Now()
		_ = r.Close()
		_ = a.Close()
		b.Logf("free: %v", time.Since(at))
	}
}
