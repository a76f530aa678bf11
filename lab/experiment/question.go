package experiment

import "slices"

// MaxGenerations bounds how often an experiment's cells are run.
const MaxGenerations = 100

// Run is one run of an experiment: a cell, in a generation.
type Run struct {
	Generation, Order int  // and the place in the generation, both from 1
	Cell              int  // index of the experiment's Cells
	AA                bool // the baseline of its question once more, to be compared with itself
	Stages            bool // the cell once more, for its stages: they cost time, so it is compared with nothing
}

// Question is a group of cells that differ in the compared factor only.
type Question struct {
	Flags Cell
	Cells []int // indexes of the experiment's Cells, the baseline first
}

// Questions are the experiment's questions, in the order of their first cells.
func (x *Experiment) Questions() []Question {
	var all []Question
	at := map[string]int{}
	for i, c := range x.Cells {
		q, _ := x.Split(c)
		if x.onlyPrimary && !x.Primary.Has(q) {
			continue
		}
		k, known := at[q.String()]
		if !known {
			k = len(all)
			at[q.String()] = k
			all = append(all, Question{Flags: q})
		}
		all[k].Cells = append(all[k].Cells, i)
	}
	return all
}

// Reduce replaces the cells by these, from which the caller has removed the flags without effect. A flag that only some of
// the values of Compare have left belongs to what is compared, as if the file had given it to them alone.
func (x *Experiment) Reduce(cells []Cell) {
	x.Cells = cells
	for _, name := range x.peculiar() {
		if !slices.Contains(x.variants, name) {
			x.variants = append(x.variants, name)
		}
	}
}

// peculiar are the flags that belong to some values of Compare only: no cell of another value has them.
func (x *Experiment) peculiar() (names []string) {
	has := map[string]map[string]bool{} // by value of Compare
	for _, c := range x.Cells {
		v, _ := c.Get(x.Compare)
		if has[v] == nil {
			has[v] = map[string]bool{}
		}
		for _, f := range c {
			has[v][f.Name] = true
			if !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		for _, of := range has {
			if !of[name] {
				return name == x.Compare
			}
		}
		return true
	})
}

// Split divides the flags of a cell: those of its question, and those of its variant.
func (x *Experiment) Split(c Cell) (question, variant Cell) {
	for _, f := range c {
		if slices.Contains(x.variants, f.Name) {
			variant = append(variant, f)
		} else {
			question = append(question, f)
		}
	}
	return question, variant
}

// Compared are the flags in which the variants of a question may differ: Compare, and those that belong to its values.
func (x *Experiment) Compared() []string {
	if x.Compare == "" {
		return nil
	}
	return slices.Clone(x.variants)
}

// OnlyPrimary removes all questions but the primary ones; their cells stay, without runs. It returns false if the file has no primary claims.
func (x *Experiment) OnlyPrimary() bool {
	x.onlyPrimary = x.Primary != nil
	return x.onlyPrimary
}
