package lab

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kvwire/kvwire/lab/experiment"
)

func TestAChoiceBeatsTheFileWhichBeatsTheDefault(t *testing.T) {
	file := experiment.Experiment{Generations: 6, Time: 30 * time.Second, Slice: 20 * time.Millisecond, Until: 0.05}
	for name, c := range map[string]struct {
		file    experiment.Experiment
		choice  Choice
		changed []string
		want    Settings
		err     string
	}{
		"default":                          {want: Settings{Generations: DefaultGenerations, Slice: DefaultSlice}},
		"file":                             {file: file, want: Settings{Generations: 6, Time: 30 * time.Second, Slice: 20 * time.Millisecond, Until: 0.05}},
		"whole in the file":                {file: experiment.Experiment{Slice: experiment.SliceWhole}, want: Settings{Generations: DefaultGenerations}},
		"until has more generations":       {choice: Choice{Until: 0.03}, changed: []string{"until"}, want: Settings{Generations: UntilGenerations, Slice: DefaultSlice, Until: 0.03}},
		"the file's time is in proportion": {file: file, choice: Choice{Quick: true}, want: Settings{Generations: QuickGenerations, Time: 15 * time.Second, Slice: 20 * time.Millisecond, Until: 0.05}},
		"the user's time is as it is": {file: file, choice: Choice{Paper: true, Time: time.Minute, Slice: 5 * time.Millisecond}, changed: []string{"time", "slice"},
			want: Settings{Generations: PaperGenerations, Time: time.Minute, Slice: 5 * time.Millisecond, Until: 0.05}},
		"old name":            {choice: Choice{Blocks: 4, Retry: 2}, want: Settings{Generations: 4, Slice: DefaultSlice, Retry: 2}},
		"two numbers":         {choice: Choice{Quick: true, Generations: 4}, err: "choose one of --quick, --paper and --generations"},
		"too many":            {choice: Choice{Generations: 101}, err: "(1 to 100)"},
		"short slice":         {choice: Choice{Slice: time.Millisecond}, changed: []string{"slice"}, err: "--slice 1ms: 5ms at least"},
		"until of whole runs": {file: file, choice: Choice{Slice: 0}, changed: []string{"slice"}, err: "--until needs slices"},
	} {
		c.choice.Changed = func(flag string) bool { return slices.Contains(c.changed, flag) }
		got, err := c.choice.Settings(&c.file)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil || got != c.want:
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}
