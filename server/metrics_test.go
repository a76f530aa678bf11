package server

import (
	"reflect"
	"slices"
	"testing"
)

// Nothing that is counted is left out.
func TestAllThatIsCountedIsAMetric(t *testing.T) {
	allOf(t, loopMetrics, "Reads", "ReadRetries", "ReadMisses", "ReadSkips") // a client's, with the verb read
	allOf(t, transportMetrics)
	allOf(t, storeMetrics, "Shard", "Backend", "Slabs", "Engine") // in labels, and as their sums
}

func allOf[T any](t *testing.T, ms []metric[T], but ...string) {
	var counts T
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		for i := range v.NumField() {
			f, name := v.Field(i), v.Type().Field(i).Name
			switch f.Kind() {
			case reflect.Struct:
				walk(f)
				continue
			case reflect.Bool:
				f.SetBool(true)
			case reflect.Int:
				f.SetInt(1)
			case reflect.Uint64:
				f.SetUint(1)
			}
			n := 0
			for _, m := range ms {
				n += int(m.value(&counts))
			}
			f.SetZero()
			if want := !slices.Contains(but, name); want != (n == 1) || n > 1 {
				t.Errorf("%T: %s is in %d metrics", counts, name, n)
			}
		}
	}
	walk(reflect.ValueOf(&counts).Elem())
	for _, m := range ms {
		if m.value(&counts) != 0 {
			t.Errorf("%v of nothing is not 0", m.desc)
		}
	}
}
