package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/export"
	"github.com/kvwire/kvwire/kv"
)

// exportedValue is what a NIC would read of a key; ok is false where it would find nothing of it.
func (g *rig) exportedValue(key string) (value string, ok bool) {
	g.on(func() {
		t := g.p.(interface{ Export() *export.Table }).Export()
		at := t.Place([]byte(key))
		v, err := export.Parse(t.Arena().Bytes()[at:at+t.EntryBytes], []byte(key))
		value, ok = string(v), err == nil
	})
	return value, ok
}

var exportOptions = Options{ExportEntries: 1 << 14, ExportItemBytes: 20 << 10}

// TestChangesAreExported: a store that was just loaded is read by NICs from the first get on.
func TestChangesAreExported(t *testing.T) {
	onEvery(t, exportOptions, kinds, func(t *testing.T, g *rig) {
		values := map[string]string{}
		for i := range 100 {
			k := fmt.Sprint("key", i)
			values[k] = strings.Repeat(fmt.Sprint(i, " "), 1+i*i/4) // up to 10 KiB: some have pages of their own
			g.mustPut(k, values[k])
		}
		g.allExported(values, 2)
		for i := range 50 { // what is changed is exported as it is now
			k := fmt.Sprint("key", i)
			if i%3 == 0 {
				g.mustDelete(k)
				delete(values, k)
				if v, ok := g.exportedValue(k); ok {
					t.Fatalf("%s is deleted, and exported as %q", k, short(v))
				}
				continue
			}
			values[k] += "changed"
			g.mustPut(k, values[k])
		}
		g.allExported(values, 2)
		add := &kv.Request{Op: kv.OpAppend, Key: []byte("key99"), Value: append(make([]byte, 0, 20<<10), "more"...)}
		if g.do(add); add.Status != kv.StatusOK {
			t.Fatal(add.Status)
		}
		values["key99"] += "more"
		g.allExported(values, 2)
	})
}

// allExported finds each value among the exported ones, but for a few that share their place.
func (g *rig) allExported(values map[string]string, few int) {
	g.t.Helper()
	missing := 0
	for k, want := range values {
		switch v, ok := g.exportedValue(k); {
		case !ok:
			missing++
		case v != want:
			g.t.Fatalf("%s is exported as %q, and is %q", k, short(v), short(want))
		}
	}
	if missing > few {
		g.t.Fatalf("%d of %d are not exported", missing, len(values))
	}
}

// TestAPutOfTheSameSlotIsExportedAsItEnds: several changes of a key may go to disk with one write.
func TestAPutOfTheSameSlotIsExportedAsItEnds(t *testing.T) {
	onEvery(t, exportOptions, kinds, func(t *testing.T, g *rig) {
		g.mustPut("key", "first one")
		var rs []*kv.Request
		for i := range 20 {
			rs = append(rs, &kv.Request{Op: kv.OpPut, Key: []byte("key"), Value: fmt.Appendf(nil, "version %02d", i)})
		}
		g.do(rs...)
		if v, ok := g.exportedValue("key"); !ok || v != "version 19" {
			t.Errorf("it is exported as %q, %v", v, ok)
		}
	})
}

// TestAStoreThatIsOpenedIsExported: what fits, and of each key the latest copy or nothing.
func TestAStoreThatIsOpenedIsExported(t *testing.T) {
	onEvery(t, exportOptions, []string{"disk", "fault", "inplace"}, func(t *testing.T, g *rig) {
		values := map[string]string{}
		for i := range 300 {
			k := fmt.Sprint("key", i)
			values[k] = strings.Repeat("value of "+k, 1+i)
			g.mustPut(k, values[k])
		}
		changed := 0
		for i := 0; i < 300; i += 10 {
			k := fmt.Sprint("key", i)
			if changed++; i%20 == 0 {
				g.mustDelete(k)
				delete(values, k)
				continue
			}
			for n := range 5 {
				values[k] = fmt.Sprint("changed to ", n)
				g.mustPut(k, values[k])
			}
		}
		g.close()
		g.open()
		g.allExported(values, changed+10) // of a key with several copies it may be none
		for i := 0; i < 300; i += 20 {
			if v, ok := g.exportedValue(fmt.Sprint("key", i)); ok {
				t.Errorf("key%d is deleted, and exported as %q", i, short(v))
			}
		}
		for k, v := range values { // a get exports the rest
			g.want(k, v)
			if got, ok := g.exportedValue(k); !ok || got != v {
				t.Errorf("%s was read, and is exported as %q, %v", k, short(got), ok)
			}
		}
	})
}
