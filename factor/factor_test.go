package factor

import (
	"io"
	"slices"
	"strings"
	"testing"
)

func TestEachRowIsComplete(t *testing.T) {
	names, columns := map[string]bool{}, map[string]bool{}
	for i := range All {
		f := &All[i]
		if f.Name == "" || f.Group == "" || f.Help == "" || f.Side == 0 || names[f.Name] {
			t.Errorf("%s: name, group, help or side is missing, or the name is there twice", f.Name)
		}
		names[f.Name] = true
		if c := f.ColumnName(); c != "" {
			if f.Meaning == f.Help || columns[c] {
				t.Errorf("%s: the column %s is there twice, or its meaning repeats the help", f.Name, c)
			}
			columns[c] = true
		}
		if (f.ColumnName() == "") != (f.NoColumn != "") || f.NoColumn != "" && f.Column != "" {
			t.Errorf("%s: it needs a column, or the reason why it has none", f.Name)
		}
		if numeric[f.Kind()] != nil && f.Range == (Span{}) {
			t.Errorf("%s: a number without a range", f.Name)
		}
		if len(f.Words) > 0 && f.Default != "" && !slices.Contains(f.Words, f.Default) {
			t.Errorf("%s: the default %s is none of the words", f.Name, f.Default)
		}
		for _, of := range []Condition{f.When, f.Sweep} {
			for _, clause := range of {
				for _, n := range clause {
					on := All.Find(n.name)
					if on == nil {
						t.Errorf("%s depends on %s, which is no factor", f.Name, n.name)
						continue
					}
					for _, v := range n.values {
						if len(on.Words) > 0 && !slices.Contains(on.Words, v) {
							t.Errorf("%s depends on %s=%s, which is none of its words", f.Name, n.name, v)
						}
					}
				}
			}
		}
	}
}

func TestDefaultsPassTheChecks(t *testing.T) {
	v := NewValues()
	if err := All.CheckWords(&v); err != nil {
		t.Error(err)
	}
	if err := v.CheckServer(func(string) bool { return false }); err != nil {
		t.Error(err)
	}
	for _, f := range All {
		if f.Kind() == "cpus" {
			continue
		}
		if text := f.Text(&v); f.Default != text && f.Field(f.Default) != f.Field(text) {
			t.Errorf("%s: the default %q became %q", f.Name, f.Default, text)
		}
	}
}

func TestWhereAFactorApplies(t *testing.T) {
	for _, c := range []struct {
		name    string
		values  map[string]string
		refused string
		applies bool
		swept   bool
	}{
		{"tcp-cork", map[string]string{"transport": "tcp"}, "", true, true},
		{"tcp-cork", map[string]string{"transport": "uring"}, "--tcp-cork needs --transport tcp, not uring", false, false},
		{"tcp-cork", map[string]string{"transport": "tcp", "tls": "on"}, "", true, false},
		{"uring-buffers", map[string]string{"transport": "tcp", "client-transport": "uring", "uring-receive": "multishot"}, "", true, true},
		{"uring-buffers", map[string]string{"transport": "uring"}, "", true, true},
		{"uring-buffers", map[string]string{"transport": "uring", "uring-receive": "single"}, "--uring-buffers has no effect with --uring-receive single: leave it out", false, false},
		{"uring-buffers", nil, "--uring-buffers needs --transport uring, not tcp", false, false},
		{"disk-depth", map[string]string{"backend": "mem"}, "--disk-depth needs --backend disk or raw, not mem", false, false},
		{"taskrun", map[string]string{"backend": "mem", "transport": "uring"}, "", true, true},
		{"taskrun", map[string]string{"disk-engine": "aio"}, "--taskrun needs --disk-engine uring, not aio", false, false},
		{"update", map[string]string{"backend": "raw"}, "--update needs --backend disk, not raw", false, false},
		{"disk-wait-max", map[string]string{"disk-wait": "1"}, "--disk-wait-max has no effect with --disk-wait 1: leave it out", false, false},
		{"fixed-files", map[string]string{"disk-engine": "pool"}, "--fixed-files needs --disk-engine uring, uring-shared or uring-sq, not pool", false, false},
		{"fixed-files", map[string]string{"disk-engine": "uring-sq"}, "", true, true},
		{"server-threads", map[string]string{"placement": "dispatched"}, "", true, false},
	} {
		v := NewValues()
		set := scratch()
		set.SetOutput(io.Discard)
		All.Bind(set, &v, func(*Factor) bool { return true })
		for name, value := range c.values {
			if err := set.Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
		f, get, refused := All.Find(c.name), All.Get(&v), ""
		if err := f.Refused(get); err != nil {
			refused = err.Error()
		}
		if refused != c.refused || f.Applies(get) != c.applies || f.Swept(get) != c.swept {
			t.Errorf("%s with %v: %q, applies %t, swept %t", c.name, c.values, refused, f.Applies(get), f.Swept(get))
		}
	}
}

func TestConditionsAsText(t *testing.T) {
	for want, c := range map[string]Condition{
		"backend=disk":                 Where("backend", "disk", "raw").And("backend", "disk"),
		"backend=disk/raw and depth=1": Where("backend", "disk", "raw").And("depth", "1"),
		"wait other than spin":         Unless("wait", "spin"),
		"(a=1 or b=2) and c=3":         Where("a", "1").Or("b", "2").And("c", "3"),
	} {
		if got := c.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestFieldsAreInBaseUnits(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"cache-bytes", "64MiB", "67108864"}, {"spin-max", "50µs", "50000"}, {"records", "4M", "4000000"}, {"target-per-s", "0.5", "0.5"}, {"trace-speed", "2x", "2"},
		{"sqpoll", "true", "true"}, {"disk-depth", "16", "16"}, {"wait", "spin", "spin"}, {"server-cpus", "0,2", "0,2"},
		{"value-sizes", "60,360:2", "60,360:2"}, {"cache-bytes", "", ""}, {"sqpoll", "maybe", ""}, {"disk-depth", "0x10", ""}, {"spin-max", "soon", ""},
	} {
		if got := All.Find(c.name).Field(c.text); got != c.want {
			t.Errorf("%s %q: %q, and not %q", c.name, c.text, got, c.want)
		}
	}
}

func TestHelpIsInGroups(t *testing.T) {
	var v Values
	set := scratch()
	set.Bool("json", false, "print JSON")
	All.Bind(set, &v, Any(Server))
	var b strings.Builder
	Usage(&b, set, true)
	at := 0
	for _, part := range []string{"Flags:\n      --json", "\nNetwork:\n      --transport string", "\nStore:\n      --backend string", "\n" + rdmaGroup + ":\n      --rdma-verb string"} {
		i := strings.Index(b.String()[at:], part)
		if i < 0 {
			t.Fatalf("%q is not in its place:\n%s", part, &b)
		}
		at += i
	}
	if strings.Contains(b.String(), "--records") {
		t.Error("a server has no --records")
	}
}
