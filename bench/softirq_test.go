package bench

import (
	"slices"
	"testing"
	"testing/fstest"
	"time"
)

func TestKsoftirqdIsFoundAndSummed(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	proc := fstest.MapFS{
		"stat":         file("cpu  1 2 3\n"),
		"2/stat":       file("2 (kthreadd) S 0 0 0 0 -1\n"),
		"14/stat":      file("14 (ksoftirqd/0) S 2 0 0 0 -1\n"),
		"14/schedstat": file("15039600040 525492500534 613006\n"),
		"22/stat":      file("22 (ksoftirqd/17) R 2 0 0 0 -1\n"),
		"22/schedstat": file("500 1 1\n"),
		"77/stat":      file("77 (ksoftirqd/0) S 1 77 77 0 -1\n"), // a process that has the name only
		"78/stat":      file("78 (ksoftirqd/x) S 2 0 0 0 -1\n"),
		"79/stat":      file("79 (x (ksoftirqd/1) S 2 0 0 0 -1\n"),
		"80/comm":      file("gone\n"),
		"self/stat":    file("14 (ksoftirqd/0) S 2 0 0 0 -1\n"),
	}
	pids := findKsoftirqd(proc)
	slices.Sort(pids)
	if !slices.Equal(pids, []string{"14", "22"}) {
		t.Fatalf("found %v", pids)
	}
	if cpu, ok := ksoftirqdCPU(proc, pids); !ok || cpu != 15039600540 {
		t.Errorf("%d ns, %v", cpu, ok)
	}
	for name, tree := range map[string]fstest.MapFS{
		"no threads": {"14/stat": file("14 (bash) S 1 0\n")},
		"no proc":    {},
		"cut":        {"14/stat": file("14 (ksoftirqd/0)")},
	} {
		if cpu, ok := ksoftirqdCPU(tree, findKsoftirqd(tree)); ok || cpu != 0 {
			t.Errorf("%s: %v, %v", name, cpu, ok)
		}
	}
	for name, tree := range map[string]fstest.MapFS{
		"one is gone":  {"22/schedstat": file("500 1 1\n")},
		"no number":    {"14/schedstat": file("x 1 1\n"), "22/schedstat": file("500 1 1\n")},
		"negative":     {"14/schedstat": file("-1 1 1\n"), "22/schedstat": file("500 1 1\n")},
		"empty":        {"14/schedstat": file(""), "22/schedstat": file("500 1 1\n")},
		"out of range": {"14/schedstat": file("99999999999999999999 1 1\n"), "22/schedstat": file("500 1 1\n")},
	} {
		if cpu, ok := ksoftirqdCPU(tree, pids); ok || cpu != 0 {
			t.Errorf("%s: %v, %v", name, cpu, ok)
		}
	}
}

func TestProcessCPUCountsWhatThisProcessDoes(t *testing.T) {
	before, deadline := ProcessCPU(), time.Now().Add(time.Minute)
	for ProcessCPU()-before < 2*time.Millisecond {
		if time.Now().After(deadline) {
			t.Fatal("a minute of work takes no CPU time")
		}
	}
	if a, b := ProcessCPU(), ProcessUsage().CPU(); b < before || b-a > time.Minute {
		t.Errorf("the clock is at %v, the usage at %v", a, b)
	}
}
