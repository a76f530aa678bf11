package experiment

import (
	"slices"
	"testing"
)

const designed = `
name: designed
transport: [inproc, tcp, rdma]
backend: [null, disk]
value-bytes: 64
overrides:
  rdma: {rdma-verb: [send, write]}
primary:
  metrics: [ops_per_s, lat_p50_ns]
  backend: disk
`

func TestQuestionsAreWhatVariantsHaveInCommon(t *testing.T) {
	x := read(t, designed)
	if x.Compare != "transport" {
		t.Fatalf("compares %q", x.Compare)
	}
	var got []string
	for _, q := range x.Questions() {
		for _, c := range q.Cells {
			_, v := x.Split(x.Cells[c])
			got = append(got, q.Flags.String()+" | "+v.String())
		}
	}
	want := []string{
		"--backend=null --value-bytes=64 | --transport=inproc",
		"--backend=null --value-bytes=64 | --transport=tcp",
		"--backend=null --value-bytes=64 | --transport=rdma --rdma-verb=send",
		"--backend=null --value-bytes=64 | --transport=rdma --rdma-verb=write",
		"--backend=disk --value-bytes=64 | --transport=inproc",
		"--backend=disk --value-bytes=64 | --transport=tcp",
		"--backend=disk --value-bytes=64 | --transport=rdma --rdma-verb=send",
		"--backend=disk --value-bytes=64 | --transport=rdma --rdma-verb=write",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if q := x.Questions(); x.Primary.Has(q[0].Flags) || !x.Primary.Has(q[1].Flags) {
		t.Error("the primary question is that of the disk alone")
	}
	if (*Primary)(nil).Has(nil) {
		t.Error("no claims are no claims")
	}
}

func TestAnotherAxisIsComparedWhereTheFileSaysSo(t *testing.T) {
	x := read(t, "name: x\ntransport: [inproc, tcp]\nbackend: [null, disk]\ncompare: backend\n")
	q := x.Questions()
	if len(q) != 2 || q[1].Flags.String() != "--transport=tcp" || !slices.Equal(q[1].Cells, []int{2, 3}) {
		t.Errorf("%+v", q)
	}
	if x := read(t, "name: x\ntransport: tcp\nbackend: [null, disk]\n"); x.Compare != "backend" {
		t.Errorf("compares %q", x.Compare)
	}
	if x := read(t, "name: x\ntransport: tcp\n"); x.Compare != "" || len(x.Questions()) != 1 {
		t.Errorf("compares %q", x.Compare)
	}
}

func TestOnlyPrimaryLeavesTheQuestionsOfTheClaims(t *testing.T) {
	x := read(t, "transport: [inproc, tcp]\nbackend: [null, mem]\nvalue-bytes: [64, 128]\nprimary:\n  metrics: ops_per_s\n  backend: null\n")
	if !x.OnlyPrimary() {
		t.Fatal("there are claims")
	}
	qs := x.Questions()
	for _, q := range qs {
		for _, c := range q.Cells {
			if backend, _ := x.Cells[c].Get("backend"); backend != "null" {
				t.Errorf("the question %s has the cell %s", q.Flags, x.Cells[c])
			}
		}
	}
	if len(qs) != 2 {
		t.Errorf("%d questions", len(qs))
	}
	if x := read(t, "transport: [inproc, tcp]\n"); x.OnlyPrimary() || len(x.Questions()) != 1 {
		t.Errorf("without claims: %q", cells(x))
	}
}

// A flag of one transport only belongs to the compared values; a flag of some values of another axis does not.
func TestReduceFindsFlagsOfSomeComparedValues(t *testing.T) {
	x := read(t, "name: x\ntransport: [inproc, tcp]\nwait: [block, spin]\nmix: [get, put]\ndepth: [1, 16]\n")
	var left []Cell
	seen := map[string]bool{}
	for _, c := range x.Cells {
		c = slices.DeleteFunc(slices.Clone(c), func(f Flag) bool {
			transport, _ := c.Get("transport")
			mix, _ := c.Get("mix")
			return f.Name == "wait" && transport == "inproc" || f.Name == "depth" && mix == "put"
		})
		if !seen[c.String()] {
			left = append(left, c)
		}
		seen[c.String()] = true
	}
	x.Reduce(left)
	var got []string
	for _, q := range x.Questions() {
		got = append(got, q.Flags.String())
		for _, i := range q.Cells {
			_, v := x.Split(x.Cells[i])
			got = append(got, v.String())
		}
	}
	variants := []string{"--transport=inproc", "--transport=tcp --wait=block", "--transport=tcp --wait=spin"}
	want := slices.Concat([]string{"--mix=get --depth=1"}, variants, []string{"--mix=get --depth=16"}, variants, []string{"--mix=put"}, variants)
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
