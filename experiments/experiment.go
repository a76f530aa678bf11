// Package experiments reads experiment files: NAME/experiment.yaml says which flags a set of runs
// takes, and which of them sweep. It knows no flag itself: the caller gives their names and how their
// values are checked. Only cmd may import it, and it imports nothing of ours.
package experiments

import "strings"

// Experiment is one file, checked and unfolded.
type Experiment struct {
	Name        string   // lower case, digits and dashes; the folder's name when the file says none
	Description string   // free text; "" when the file has none
	Require     []string // transports without which nothing is to be run; each one is among the cells'
	Axes        []string // the flags that sweep, transport first, then as they stand in the file
	Cells       []Cell   // 1 … MaxCells, baseline first: the first value of each list; the last axis changes fastest
}

// Cell is the flags of one run: transport first, then as they stand in the file.
type Cell []Flag

// Flag is one flag and its value, both as the file has them: "value-bytes", "64KiB".
type Flag struct{ Name, Value string }

// Get is a flag's value, and whether the cell sets it.
func (c Cell) Get(name string) (string, bool) {
	for _, f := range c {
		if f.Name == name {
			return f.Value, true
		}
	}
	return "", false
}

// Args is the cell as command line arguments: --name=value.
func (c Cell) Args() []string {
	args := make([]string, len(c))
	for i, f := range c {
		args[i] = "--" + f.Name + "=" + f.Value
	}
	return args
}

// String is the cell as a person would type it.
func (c Cell) String() string { return strings.Join(c.Args(), " ") }

// Flags are the flags that an experiment may set, by name without dashes in front, each with what
// is wrong with a value (nil: nothing).
type Flags map[string]func(value string) error

// transportFlag is the flag by which overrides and require go.
const transportFlag = "transport"
