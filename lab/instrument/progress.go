package instrument

import (
	"fmt"
	"time"

	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/lab"
	"github.com/kvwire/kvwire/report"
)

// progress shows the progress of the command: on a terminal one line that it overwrites, elsewhere a line for each tenth of a part.
type progress struct {
	line       *terminal.Line
	part       string
	done, of   int // generations of the part
	all, total int // of all parts
	begun      time.Time
	rest       time.Duration // what follows the generations
}

var _ lab.Watcher = (*progress)(nil)

func newProgress(line *terminal.Line, total int, rest time.Duration) *progress {
	return &progress{line: line, total: total, begun: time.Now(), rest: rest}
}

func (p *progress) begin(part string, generations int) {
	p.part, p.done, p.of = part, 0, generations
	p.line.Print(p.part + ": begun")
}

// step is called after each generation.
func (p *progress) step() {
	p.done++
	p.all++
	left := p.rest
	if p.all < p.total {
		left += time.Since(p.begun) / time.Duration(p.all) * time.Duration(p.total-p.all)
	}
	text := fmt.Sprintf("%s: generation %d of %d; about %v left", p.part, p.done, p.of, left.Round(time.Second))
	if p.line.OnTerminal() {
		p.line.Show("%s", text)
	} else if p.of > 0 && 10*p.done/p.of > 10*(p.done-1)/p.of {
		p.line.Print(text)
	}
}

// Started implements lab.Watcher.
func (*progress) Started(lab.Position) {}

// Sliced implements lab.Watcher.
func (*progress) Sliced(lab.Position, int, int) {}

// Finished implements lab.Watcher.
func (*progress) Finished(lab.Position, []*report.Row) {}

// Noted implements lab.Watcher.
func (p *progress) Noted(_ lab.Position, line string) { p.line.Print(p.part + ": " + line) }
