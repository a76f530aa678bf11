package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/kvwire/kvwire/lab/experiment"
)

const experimentsHelp = `Usage: kvwire experiments [flags]

Examples:
  kvwire experiments
  kvwire experiments --json
  kvwire run ladder --estimate       (how long one of them takes)

The experiments are part of the program, so kvwire run NAME works in any folder. A folder experiments/NAME in the working directory comes first.`

// firstSentence matches up to the first full stop or question mark that a blank follows.
var firstSentence = regexp.MustCompile(`^.*?[.?]( |$)`)

func experimentsCommand(_ context.Context, args []string) error {
	f := newFactors("experiments", experimentsHelp)
	f.set.BoolVar(&f.json, "json", false, "print JSON")
	if err := f.parse(args, nil); err != nil {
		return err
	}
	type line struct {
		Name        string `json:"name"`
		Cells       int    `json:"cells"`
		Description string `json:"description"`
	}
	var all []line
	for _, name := range experiment.BuiltIn() {
		x, err := program().ReadExperiment(name)
		if err != nil {
			return err
		}
		all = append(all, line{name, len(x.Cells), strings.Join(strings.Fields(x.Description), " ")})
	}
	if f.json {
		return json.NewEncoder(stdout).Encode(all)
	}
	for _, l := range all {
		fmt.Fprintf(stdout, "%-26s%s\n", l.Name, firstSentence.FindString(l.Description))
	}
	return nil
}
