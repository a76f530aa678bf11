package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/report"
)

// inputCopies are the copies of an experiment's input files (YCSB property files and traces), by the name of each file in the experiment.
type inputCopies map[string]inputCopy

// inputCopy is the copy of one file in a folder of results.
type inputCopy struct {
	File   string `json:"file"` // in the folder
	SHA256 string `json:"sha256"`
}

// inputsFolder is the folder of the copies. Each copy is in a subfolder named by the first digits of its hash, and keeps its own name, which rows show.
const inputsFolder = "inputs"

// inputFlags are the flags whose values name files.
var inputFlags = []string{"workload", "trace"}

// opened is a folder of results whose copies replace the files that its experiment names.
type opened struct {
	dir    string
	copies inputCopies
}

// inputs belongs to the folder that was opened last. Only the main goroutine uses it.
var inputs opened

// find returns the path to read for a file that a flag names.
func (o opened) find(path string) string {
	if c, ok := o.copies[path]; ok {
		return filepath.Join(o.dir, filepath.FromSlash(c.File))
	}
	return path
}

// args returns the arguments of a cell, with the copies in place of its files.
func (o opened) args(c experiments.Cell) []string {
	c = slices.Clone(c)
	for i, f := range c {
		if slices.Contains(inputFlags, f.Name) {
			c[i].Value = o.find(f.Value)
		}
	}
	return c.Args()
}

// copyInputs copies the files that an experiment's cells name into a folder of results.
func copyInputs(x *experiments.Experiment, dir string) (inputCopies, error) {
	var copies inputCopies
	for _, cell := range x.Cells {
		for _, f := range cell {
			if _, done := copies[f.Value]; done || !slices.Contains(inputFlags, f.Name) {
				continue
			}
			b, err := os.ReadFile(f.Value)
			if err != nil {
				return nil, fmt.Errorf("copy the experiment's input: %w", err)
			}
			sum := fmt.Sprintf("%x", sha256.Sum256(b))
			c := inputCopy{File: inputsFolder + "/" + sum[:12] + "/" + filepath.Base(f.Value), SHA256: sum}
			name := filepath.Join(dir, filepath.FromSlash(c.File))
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return nil, fmt.Errorf("copy the experiment's input: %w", err)
			}
			if err := report.WriteFile(name, b); err != nil {
				return nil, fmt.Errorf("copy the experiment's input: %w", err)
			}
			if copies == nil {
				copies = inputCopies{}
			}
			copies[f.Value] = c
		}
	}
	return copies, nil
}

// check verifies that the copies are in the folder and unchanged.
func (c inputCopies) check(dir string) error {
	for name, of := range c {
		if !filepath.IsLocal(filepath.FromSlash(of.File)) {
			return fmt.Errorf("%s: the input %q is not in the folder", filepath.Join(dir, planFile), of.File)
		}
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(of.File)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s: the copy of the experiment's input %s is missing: %w", dir, name, err)
		case err != nil:
			return err
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256(b)); sum != of.SHA256 {
			return fmt.Errorf("%s: the input %s has changed since the measurement: its SHA-256 is %s, and was %s", dir, of.File, sum, of.SHA256)
		}
	}
	return nil
}

// differ returns the files that have the same name but different content in two folders.
func (c inputCopies) differ(o inputCopies) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if there, both := o[name]; both && there.SHA256 != c[name].SHA256 {
			names = append(names, name)
		}
	}
	return names
}
