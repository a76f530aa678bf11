package experiment

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

const measured = `
name: measured
transport: [tcp, uring]
depth: [1, 4, 16]
mix: [get, put]
value-bytes: 64
generations: 12
time: 60s
slice: 50ms
until: 3%
matters: 2.5%
interaction: [depth, transport]
`

func TestHowAnExperimentIsMeasured(t *testing.T) {
	x := read(t, measured)
	if x.Generations != 12 || x.Time != time.Minute || x.Slice != 50*time.Millisecond || x.Until != 0.03 || x.Matters != 0.025 || !slices.Equal(x.Interaction, []string{"depth", "transport"}) {
		t.Errorf("%+v", x)
	}
	if len(x.Axes) != 3 || len(x.Cells) != 12 {
		t.Errorf("axes %v, %d cells: what says how it is measured is no flag", x.Axes, len(x.Cells))
	}
	x = read(t, "transport: tcp\nblocks: 3\n")
	if x.Generations != 3 || x.Time != 0 || x.Slice != 0 || x.Until != 0 || x.Matters != 0 || x.Interaction != nil {
		t.Errorf("%+v", x)
	}
	for _, whole := range []string{"whole", "0", "0s"} {
		if x := read(t, "transport: tcp\nslice: "+whole+"\n"); x.Slice != SliceWhole {
			t.Errorf("slice: %s is %v", whole, x.Slice)
		}
	}
}

func TestMeasuringOutOfBoundsIsShownWithItsPlace(t *testing.T) {
	for text, want := range map[string]string{
		"generations: 0":                      `x.yaml:1:14: generations "0": choose 1 to 100`,
		"generations: many":                   `choose 1 to 100`,
		"blocks: 101":                         `blocks "101": choose 1 to 100`,
		"blocks: 3\ngenerations: 3":           `x.yaml:2:1: generations and blocks are the same`,
		"time: 60":                            `x.yaml:1:7: time "60": choose 1s to 24h0m0s, how long a question is measured`,
		"time: 500ms":                         `time "500ms"`,
		"time: 25h":                           `time "25h"`,
		"slice: 1ms":                          `slice "1ms": choose 5ms to 10s, or whole`,
		"slice: 11s":                          `slice "11s"`,
		"slice: -1ns":                         `slice "-1ns"`,
		"slice: whole\ntime: 10s":             `x.yaml:2:1: time is for slices`,
		"time: 10s\nslice: 0":                 `x.yaml:2:1: time is for slices`,
		"slice: half":                         `slice "half"`,
		"until: 3":                            `until "3": choose 0.1% to 50%, measuring stops`,
		"until: 0%":                           `until "0%"`,
		"until: NaN%":                         `until "NaN%"`,
		"matters: 51%":                        `matters "51%": choose 0.1% to 50%, the least difference that counts`,
		"matters: [1%, 2%]":                   `matters must be a value`,
		"interaction: depth":                  `interaction must be a list of two flags`,
		"interaction: [depth]":                `interaction must be a list of two flags`,
		"interaction: [depth, depth]":         `interaction has "depth" twice`,
		"interaction: [depth, mix]":           `interaction: one of the two must be the compared flag, transport`,
		"interaction: [wait, transport]":      `x.yaml:1:15: interaction: "wait" is not one of the flags that sweep (transport, depth, mix`,
		"interaction: [rdma-verb, transport]": `rdma-verb belongs to some values of transport only`,
		"interactions: [depth, transport]":    `do you mean "interaction"?`,
		"title: a depth":                      `"title" is not a flag that an experiment can set`,
		"stages: {one-im: 16}":                `do you mean "one-in"?`,
		"stages: {tiem: 16}":                  `"tiem" is not a flag that an experiment can set`,
		"generation: 5":                       `do you mean "generations"?`,
	} {
		_, err := Read("x.yaml", []byte(text+"\ntransport: [tcp, rdma]\ndepth: [1, 2]\nmix: [get, put]\noverrides: {rdma: {rdma-verb: [send, write]}}\n"), testFlags())
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestInteractionsPairQuestionsWithTheFirstValue(t *testing.T) {
	factor, all := read(t, measured).Interactions()
	var got []string
	for _, p := range all {
		if len(p.AtFrom.Cells) != 2 || len(p.AtTo.Cells) != 2 {
			t.Errorf("%+v", p)
		}
		got = append(got, p.Common.String()+" | "+p.From+" to "+p.To)
	}
	want := []string{"--mix=get --value-bytes=64 | 1 to 4", "--mix=put --value-bytes=64 | 1 to 4", "--mix=get --value-bytes=64 | 1 to 16", "--mix=put --value-bytes=64 | 1 to 16"}
	if factor != "depth" || !slices.Equal(got, want) {
		t.Errorf("%s: %q", factor, got)
	}
	if factor, all := read(t, "transport: [tcp, uring]\ndepth: [1, 2]\n").Interactions(); factor != "" || all != nil {
		t.Errorf("%s: %+v", factor, all)
	}
}

func TestTransportsThatWouldDifferInMoreAreRefused(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"one has more connections", "transport: [tcp, uring]\nconns: 4\noverrides:\n  tcp: {conns: 8}\n",
			`x.yaml:4:9: overrides of tcp: conns 8, and uring has 4: a comparison of transports would differ in conns too (give both the same, or sweep it and compare: conns)`},
		{"both have their own", "transport: [tcp, uring]\noverrides: {tcp: {conns: 8}, uring: {conns: 4}}\n", `overrides of tcp: conns 8, and uring has 4`},
		{"the other has what nobody says", "transport: [tcp, uring]\nmix: [get, put]\noverrides: {tcp: {conns: 8}}\n", `overrides of tcp: conns 8, and uring does not set it`},
		{"the third differs", "transport: [tcp, uring, rdma]\noverrides: {tcp: {conns: 8}, uring: {conns: 8}}\n", `overrides of tcp: conns 8, and rdma does not set it`},
		{"a list of others", "transport: [tcp, uring]\nwait: block\noverrides: {tcp: {wait: [spin, hybrid]}}\n", `overrides of tcp: wait spin, hybrid, and uring has block`},
		{"with claims", "transport: [tcp, uring]\noverrides: {tcp: {depth: 8}}\nprimary: {metrics: ops_per_s}\n", `overrides of tcp: depth 8`},
		{"all the same", "transport: [tcp, uring]\noverrides: {tcp: {conns: 8}, uring: {conns: 8}}\n", ""},
		{"the same in another spelling", "transport: [tcp, uring]\nconns: 8\noverrides: {tcp: {conns: 08}}\n", ""},
		{"a transport's own", "transport: [tcp, rdma]\noverrides: {rdma: {rdma-verb: [send, write]}}\n", ""},
		{"one that has no client", "transport: [inproc, tcp]\noverrides: {tcp: {client-threads: 2}}\n", ""},
		{"fewer of the same", "transport: [tcp, uring]\nconns: [1, 8]\noverrides: {uring: {conns: 8}}\n", ""},
		{"another axis is compared", "transport: [tcp, uring]\nconns: 4\ndepth: [1, 2]\ncompare: depth\noverrides: {tcp: {conns: 8}}\n", ""},
		{"one transport", "transport: tcp\nconns: 4\noverrides: {tcp: {conns: 8}}\n", ""},
	} {
		_, err := Read("x.yaml", []byte(c.text), testFlags())
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

// What only some transports have and is their own makes variants; what all of them have is part of the question.
func TestComparedAreTheFlagsOfTheVariants(t *testing.T) {
	x := read(t, "transport: [tcp, rdma]\ndepth: [1, 2]\noverrides: {rdma: {rdma-verb: [send, write]}}\n")
	if got := x.Compared(); !slices.Equal(got, []string{"transport", "rdma-verb"}) {
		t.Errorf("%q", got)
	}
	x = read(t, "transport: [tcp, rdma]\noverrides: {tcp: {conns: 8}, rdma: {conns: 8}}\n")
	if q := x.Questions(); len(q) != 1 || q[0].Flags.String() != "--conns=8" {
		t.Errorf("%+v", q)
	}
	if got := read(t, "transport: tcp\n").Compared(); got != nil {
		t.Errorf("%q", got)
	}
}
