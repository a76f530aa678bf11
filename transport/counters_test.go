package transport

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/kvwire/kvwire/loop"
)

// ones has 1 in each counter.
func ones(t *testing.T) (c LoopCounters) {
	t.Helper()
	for _, part := range []any{&c.Stats, &c.Counters} {
		v := reflect.ValueOf(part).Elem()
		for i := range v.NumField() {
			v.Field(i).SetUint(1)
		}
	}
	return c
}

func TestAllCountersAreAddedAndSubtracted(t *testing.T) {
	one := ones(t)
	two := one
	two.Add(one)
	if two == one || two.Sub(one) != one || one.Sub(one) != (LoopCounters{}) {
		t.Errorf("1 and 1 are %+v; less 1 they are %+v", two, two.Sub(one))
	}
	for _, part := range []any{two.Stats, two.Counters} {
		v := reflect.ValueOf(part)
		for i := range v.NumField() {
			if n := v.Field(i).Uint(); n != 2 {
				t.Errorf("%s: 1 and 1 are %d", v.Type().Field(i).Name, n)
			}
		}
	}
}

// Servers and clients of other builds read the fields where they have always been.
func TestLoopCountersAreOneJSONObject(t *testing.T) {
	b, err := json.Marshal(ones(t))
	if err != nil {
		t.Fatal(err)
	}
	var flat map[string]uint64
	if err := json.Unmarshal(b, &flat); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	for _, name := range []string{"Turns", "Copied", "Overflows", "Sends", "Denied", "WRs", "ReadSkips"} {
		if flat[name] != 1 {
			t.Errorf("%s is %d in %s", name, flat[name], b)
		}
	}
	var back LoopCounters
	if err := json.Unmarshal(b, &back); err != nil || back != ones(t) {
		t.Errorf("read back: %+v, %v", back, err)
	}
}

func TestCountersLiveAsLongAsTheirLoop(t *testing.T) {
	var count *Counters
	l, err := loop.Start(loop.Options{Sleep: loop.SleepEpoll}, func(l *loop.Loop) error {
		count = CountersOf(l)
		count.Sends = 7
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Stop(); err != nil {
			t.Error(err)
		}
	}()
	got, err := ReadCounters(l)
	if err != nil || got.Sends != 7 || got.Turns == 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := l.Call(func() {
		if CountersOf(l) != count {
			t.Error("another part of the loop counts elsewhere")
		}
	}); err != nil {
		t.Error(err)
	}
}
