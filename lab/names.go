package lab

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/kvwire/kvwire/lab/experiment"
)

// VariantName is the name of a cell within its question: the values of its variant's swept flags ("rdma write"). A switch that is on
// contributes its name. If that leaves nothing, it is other. Over the model of an RDMA device the name ends with report.ModelSuffix.
func VariantName(x *experiment.Experiment, c experiment.Cell, other string) string {
	_, variant := x.Split(c)
	var words []string
	for _, f := range variant {
		switch {
		case f.Name == x.Compare:
			words = append(words, f.Value)
		case !x.Sweeps(f.Name), f.Value == "false":
		case f.Value == "true":
			words = append(words, f.Name)
		default:
			words = append(words, f.Value)
		}
	}
	if len(words) == 0 {
		words = []string{other}
	}
	return WithDevice(strings.Join(words, " "), c)
}

// QuestionName is the name of a question within its experiment: its swept flags with their values ("backend=disk depth=4").
func QuestionName(x *experiment.Experiment, question experiment.Cell) string {
	var words []string
	for _, f := range question {
		if x.Sweeps(f.Name) {
			words = append(words, f.Name+"="+f.Value)
		}
	}
	return strings.Join(words, " ")
}

// CellName is the name of a cell within its experiment: the values of its swept flags, the compared factor first ("tcp disk a 4KiB").
func CellName(x *experiment.Experiment, cell int) string {
	question, _ := x.Split(x.Cells[cell])
	words := []string{VariantName(x, x.Cells[cell], "")}
	for _, f := range question {
		switch {
		case !x.Sweeps(f.Name):
		case f.Value == "true" || f.Value == "false":
			words = append(words, f.Name+"="+f.Value)
		default:
			words = append(words, f.Value)
		}
	}
	return strings.TrimSpace(strings.Join(words, " "))
}

// NewRunID returns a name for a run without an experiment that no other run has, here or elsewhere: its time, and 32 random bits.
func NewRunID(started time.Time) string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // it cannot fail
	return fmt.Sprintf("%s-%x", started.UTC().Format("20060102-150405.000"), random)
}
