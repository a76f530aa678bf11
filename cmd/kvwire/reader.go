package main

import (
	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/lab/results"
	"github.com/kvwire/kvwire/report"
)

// inputs are those of the folder that was opened last. Only the main goroutine uses them.
var inputs lab.Inputs

// resultsReader is what folders of results are read with: this program's flags.
func resultsReader() results.Reader {
	return results.Reader{
		Flags: experimentFlags(),
		Experiment: func(path, name string, copies lab.Inputs) (*experiment.Experiment, error) {
			inputs = copies
			return readExperimentAs(path, name)
		},
		Factors: func(c experiment.Cell) (*report.Row, error) {
			f, err := cellFactors(c)
			if err != nil {
				return nil, err
			}
			return f.Row(), nil
		},
		Rate: factor.ParseRate,
	}
}
