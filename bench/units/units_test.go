package units

import (
	"reflect"
	"testing"
)

func TestLooksJoinByTheirMedian(t *testing.T) {
	var all []Unit
	for _, ns := range []float64{5, 1, 9, 2} {
		all = Join(all, []Unit{{Name: "a", Ns: ns, What: "x"}, {Name: "b", Ns: 2 * ns}})
	}
	if want := []Unit{{"a", 3.5, "x", []float64{5, 1, 9, 2}}, {"b", 7, "", []float64{10, 2, 18, 4}}}; !reflect.DeepEqual(all, want) {
		t.Errorf("%+v", all)
	}
	if all = Join(all, []Unit{{Name: "b", Ns: 1}, {Name: "c", Ns: 1}}); len(all) != 1 || all[0].Name != "b" || all[0].Ns != 4 {
		t.Errorf("%+v", all)
	}
}

func TestEveryUnitIsMeasured(t *testing.T) {
	calls := 0
	all, err := Measure(func() bool { calls++; return true })
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]float64{}
	for _, u := range all {
		if _, twice := seen[u.Name]; twice || u.What == "" || u.All != nil {
			t.Errorf("%+v", u)
		}
		seen[u.Name] = u.Ns
	}
	for name, most := range map[string]float64{Syscall: 1e6, CopyKiB: 1e6, CgoCall: 1e6, Hop: 1e9} { // on a busy machine a hop waits for its turn
		if seen[name] <= 0 || seen[name] > most {
			t.Errorf("%s costs %v ns", name, seen[name])
		}
	}
	for _, name := range []string{Send, Receive, SocketKiB, Sleep} { // what is left of them may be nothing, on a noisy machine
		if ns, ok := seen[name]; !ok || ns < 0 || ns > 1e7 {
			t.Errorf("%s costs %v ns", name, ns)
		}
	}
	if calls < 2 {
		t.Errorf("%d calls into C", calls)
	}
	if all, err = Measure(func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	for _, u := range all {
		if u.Name == CgoCall {
			t.Error("a call into C was measured where there is none")
		}
	}
}

func TestTimeDividesByWhatWasDone(t *testing.T) {
	most, batches := 0, 0
	Time(func(n int) { most = max(most, n); batches++ })
	if most != 1<<24 || batches != 25+rounds { // doubled until the bound, since nothing takes no time
		t.Errorf("%d batches, of up to %d", batches, most)
	}
}
