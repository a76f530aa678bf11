package lab

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/kvwire/kvwire/lab/experiment"
	"github.com/kvwire/kvwire/report"
)

// Copies are the copies of an experiment's input files (YCSB property files and traces), by the name of each file in the experiment.
type Copies map[string]Copy

// Copy is the copy of one file in a folder of results.
type Copy struct {
	File   string `json:"file"` // in the folder
	SHA256 string `json:"sha256"`
}

// inputsFolder is the folder of the copies. Each copy is in a subfolder named by the first digits of its hash, and keeps its own name, which rows show.
const inputsFolder = "inputs"

// InputFlags are the flags whose values name input files.
var InputFlags = []string{"workload", "trace"}

// Inputs are an experiment's input files, whose copies are in a folder of results. The zero value: there are no copies.
type Inputs struct {
	Dir    string
	Copies Copies
}

// Path returns the path of the copy of a file that a flag names, or the name itself if there is no copy.
func (in Inputs) Path(name string) string {
	if c, ok := in.Copies[name]; ok {
		return filepath.Join(in.Dir, filepath.FromSlash(c.File))
	}
	return name
}

// Args returns the arguments of a cell, with its input files replaced by their copies.
func (in Inputs) Args(c experiment.Cell) []string {
	c = slices.Clone(c)
	for i, f := range c {
		if slices.Contains(InputFlags, f.Name) {
			c[i].Value = in.Path(f.Value)
		}
	}
	return c.Args()
}

// CopyInputs copies the files that an experiment's cells name into a folder of results.
func CopyInputs(x *experiment.Experiment, dir string) (Copies, error) {
	var copies Copies
	for _, cell := range x.Cells {
		for _, f := range cell {
			if _, done := copies[f.Value]; done || !slices.Contains(InputFlags, f.Name) {
				continue
			}
			b, err := os.ReadFile(f.Value)
			if err != nil {
				return nil, fmt.Errorf("copy the experiment's input: %w", err)
			}
			sum := fmt.Sprintf("%x", sha256.Sum256(b))
			c := Copy{File: inputsFolder + "/" + sum[:12] + "/" + filepath.Base(f.Value), SHA256: sum}
			name := filepath.Join(dir, filepath.FromSlash(c.File))
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return nil, fmt.Errorf("copy the experiment's input: %w", err)
			}
			if err := report.WriteFile(name, b); err != nil {
				return nil, fmt.Errorf("copy the experiment's input: %w", err)
			}
			if copies == nil {
				copies = Copies{}
			}
			copies[f.Value] = c
		}
	}
	return copies, nil
}

// CopyClaims copies the claims.yaml of the experiment in file, if there is one, into the folder of its results.
func CopyClaims(file, dir string) error {
	path := experiment.ClaimsPath(file)
	if path == "" {
		return nil
	}
	text, err := experiment.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, report.WriteFile(filepath.Join(dir, experiment.ClaimsFile), text))
}

// Check returns an error if a copy is missing from the folder, or was changed.
func (c Copies) Check(dir string) error {
	for name, of := range c {
		if !filepath.IsLocal(filepath.FromSlash(of.File)) {
			return fmt.Errorf("%s: the input %q is outside the folder", filepath.Join(dir, PlanFile), of.File)
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

// Differ returns the names of files that have different content in two folders.
func (c Copies) Differ(o Copies) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if there, both := o[name]; both && there.SHA256 != c[name].SHA256 {
			names = append(names, name)
		}
	}
	return names
}
