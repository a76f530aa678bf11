package experiments

import (
	"reflect"
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

func TestBlocksAreCompleteAndInAnOrderOfTheirOwn(t *testing.T) {
	x := read(t, designed)
	const blocks = 5
	runs := x.Design(blocks, 7)
	if len(runs) != blocks*(8+2) {
		t.Fatalf("%d runs", len(runs))
	}
	orders := map[string]bool{}
	for b := range blocks {
		block := runs[b*10:][:10]
		cells, again, order := map[int]int{}, map[int]int{}, ""
		for i, r := range block {
			if r.Block != b+1 || r.Order != i+1 {
				t.Fatalf("%+v in block %d at %d", r, b+1, i+1)
			}
			if order += string(rune('a' + r.Cell)); r.AA {
				again[r.Cell]++
			} else {
				cells[r.Cell]++
			}
		}
		if len(cells) != 8 || !reflect.DeepEqual(again, map[int]int{0: 1, 1: 1}) {
			t.Fatalf("block %d: %v, and again %v", b+1, cells, again)
		}
		orders[order] = true
	}
	if len(orders) != blocks {
		t.Errorf("%d orders in %d blocks", len(orders), blocks)
	}
	if !slices.Equal(runs, x.Design(blocks, 7)) || slices.Equal(runs, x.Design(blocks, 8)) {
		t.Error("the order follows from the seed")
	}
	for i, r := range x.Design(1, 7) {
		if r.Cell != i || r.AA {
			t.Fatalf("one block has the cells as they are: %+v at %d", r, i)
		}
	}
}

func TestStagesAddARunToEachBlock(t *testing.T) {
	x := read(t, "name: x\ntransport: [inproc, tcp]\nbackend: [null, disk]\nstages: {one-in: 8, backend: disk}\n")
	if x.Stages.OneIn != 8 {
		t.Fatalf("%+v", x.Stages)
	}
	for blocks, want := range map[int]int{1: 6, 2: 2 * (4 + 2 + 2)} {
		var cells []int
		runs := x.Design(blocks, 1)
		for _, r := range runs {
			if r.Stages {
				cells = append(cells, r.Cell)
			}
		}
		slices.Sort(cells)
		if len(runs) != want || !slices.Equal(slices.Compact(cells), []int{1, 3}) {
			t.Errorf("%d blocks: %+v", blocks, runs)
		}
	}
}

func TestOnlyPrimaryLeavesTheQuestionsOfTheClaims(t *testing.T) {
	x := read(t, "transport: [inproc, tcp]\nbackend: [null, mem]\nvalue-bytes: [64, 128]\nprimary:\n  metrics: ops_per_s\n  backend: null\n")
	if !x.OnlyPrimary() {
		t.Fatal("there are claims")
	}
	for blocks, runs := range map[int]int{1: 4, 2: 2 * (4 + 2)} {
		design := x.Design(blocks, 1)
		for _, r := range design {
			if backend, _ := x.Cells[r.Cell].Get("backend"); backend != "null" {
				t.Errorf("%d blocks run %s", blocks, x.Cells[r.Cell])
			}
		}
		if len(design) != runs || len(x.Questions()) != 2 {
			t.Errorf("%d blocks: %d runs for %d questions", blocks, len(design), len(x.Questions()))
		}
	}
	if x := read(t, "transport: [inproc, tcp]\n"); x.OnlyPrimary() || len(x.Design(1, 1)) != 2 {
		t.Errorf("without claims: %q", cells(x))
	}
}

// A flag that is left to one transport alone belongs to what is compared; one that is left to some values of another axis does not.
func TestReduceTellsWhatBelongsToWhatIsCompared(t *testing.T) {
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
