package manual

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/kvwire/kvwire/factor"
)

func commands() []Command {
	v := factor.NewValues()
	bench := pflag.NewFlagSet("kvwire bench", pflag.ContinueOnError)
	factor.All.Bind(bench, &v, factor.Any(factor.Bench|factor.Load|factor.Server))
	bench.Bool("json", false, "print JSON")
	return []Command{
		{Name: "bench", Short: "one run", Help: "Usage: kvwire bench [flags]\n       kvwire bench --x\n\nExamples:\n  kvwire bench\n.dotted\\", Flags: bench, Arguments: []string{"quick", "ladder"}},
		{Name: "serve", Short: "serve a store", Flags: pflag.NewFlagSet("kvwire serve", pflag.ContinueOnError)},
	}
}

func TestCompletionOf(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  []string // without descriptions
	}{
		{nil, []string{"bench", "serve"}},
		{[]string{"s"}, []string{"serve"}},
		{[]string{"bench", "--transport", ""}, factor.All.Find("transport").Words},
		{[]string{"bench", "--transport", "ur"}, []string{"uring"}},
		{[]string{"bench", "--rdma-ver"}, []string{"--rdma-verb"}},
		{[]string{"bench", "--json", "--js"}, []string{"--json"}}, // a switch has no value
		{[]string{"bench", "--dir", ""}, nil},                     // a file name
		{[]string{"bench", ""}, []string{"quick", "ladder"}},
		{[]string{"bench", "q"}, []string{"quick"}},
		{[]string{"serve", ""}, nil},
		{[]string{"bench", "--transport=ur"}, []string{"--transport=uring"}},
		{[]string{"bench", "--transport", "=", "ur"}, []string{"uring"}}, // bash divides words at =
		{[]string{"bench", "--transport", "="}, factor.All.Find("transport").Words},
		{[]string{"nonsense", "--"}, nil},
	} {
		var got []string
		for _, f := range Complete(commands(), c.words) {
			word, _, _ := strings.Cut(f, "\t")
			got = append(got, word)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, and not %q", c.words, got, c.want)
		}
	}
}

func TestPagesAreTroff(t *testing.T) {
	pages := Pages(commands(), "1.2-3")
	if len(pages) != 3 {
		t.Fatalf("%d pages", len(pages))
	}
	for _, want := range []string{`.TH KVWIRE\-BENCH 1 "" "kvwire 1.2\-3"`, "\n\\&.dotted\\e\n", ".SH SYNOPSIS\n.B kvwire bench\n[flags]\n.br\n.B kvwire bench\n\\-\\-x\n", `\-\-rdma\-verb`, `\-\-json`} {
		if !strings.Contains(pages["kvwire-bench.1"], want) {
			t.Errorf("the page lacks %q:\n%s", want, pages["kvwire-bench.1"])
		}
	}
	if !strings.Contains(pages["kvwire.1"], ".B serve\nserve a store\n") {
		t.Errorf("the list lacks serve:\n%s", pages["kvwire.1"])
	}
}
