package experiment

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kvwire/kvwire/experiments"
	"github.com/kvwire/kvwire/internal/names"
	"github.com/kvwire/kvwire/internal/textfile"
)

const (
	folder   = "experiments"
	fileName = "experiment.yaml"

	// builtIn begins the path of a file that is part of the program, as in built-in:quick/experiment.yaml. Only ReadFile opens such a path.
	builtIn = "built-in:"
)

// Find is the path of the file that arg means: a folder with an experiment.yaml, a YAML file, a name under experiments/ in the working directory,
// or the name of an experiment that is part of the program, in this order. ReadFile opens the path. The error lists the names.
func Find(arg string) (string, error) {
	if arg == "" {
		return "", fmt.Errorf("experiments: no experiment named%s", known(""))
	}
	candidates := []string{arg}
	name := filepath.Clean(arg)
	if filepath.IsLocal(arg) && !strings.HasPrefix(name, folder+string(filepath.Separator)) {
		candidates = append(candidates, filepath.Join(folder, arg))
	}
	folders := ""
	for _, c := range candidates {
		st, err := os.Stat(c)
		if err != nil {
			continue
		}
		if !st.IsDir() {
			return c, nil
		}
		file := filepath.Join(c, fileName)
		if st, err := os.Stat(file); err == nil && !st.IsDir() {
			return file, nil
		}
		folders = c
	}
	if folders != "" {
		return "", fmt.Errorf("experiments: folder %s has no %s%s", folders, fileName, known(arg))
	}
	if name = strings.TrimPrefix(name, folder+string(filepath.Separator)); slices.Contains(BuiltIn(), name) {
		return builtIn + path.Join(name, fileName), nil
	}
	return "", fmt.Errorf("experiments: %s is neither a folder, nor a file, nor a name under %s/%s", arg, folder, known(arg))
}

// BuiltIn has the names of the experiments that are part of the program, in alphabetical order.
func BuiltIn() (names []string) {
	files, _ := fs.Glob(experiments.Files, "*/"+fileName)
	for _, f := range files {
		names = append(names, path.Dir(f))
	}
	return names
}

// IsBuiltIn reports whether a path that Find returned is a file of the program, and of no file system.
func IsBuiltIn(file string) bool { return strings.HasPrefix(file, builtIn) }

// ReadFile reads an experiment's file: a path that Find returned, or the path of its claims. It reads at most one byte more than a file may have.
func ReadFile(file string) ([]byte, error) {
	var data []byte
	var err error
	if name, ok := strings.CutPrefix(file, builtIn); ok {
		data, err = experiments.Files.ReadFile(name)
	} else {
		data, err = textfile.ReadFile(file, MaxFileBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("experiments: %w", err)
	}
	return data, nil
}

// known lists the names under experiments/ and those of the program, the nearest one first.
func known(arg string) string {
	all := BuiltIn()
	files, _ := filepath.Glob(filepath.Join(folder, "*", fileName))
	for _, f := range files {
		all = append(all, filepath.Base(filepath.Dir(f)))
	}
	slices.Sort(all)
	all = slices.Compact(all)
	hint := ""
	if best := names.Nearest(filepath.Base(arg), all); best != "" {
		hint = fmt.Sprintf("; do you mean %q?", best)
	}
	return hint + " (there are: " + strings.Join(all, ", ") + ")"
}
