package experiment

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	folder   = "experiments"
	fileName = "experiment.yaml"
)

// Find is the path of the file that arg means: a folder with an experiment.yaml, a YAML file, or a
// name under experiments/ in the working directory. Its error lists the names.
func Find(arg string) (string, error) {
	if arg == "" {
		return "", fmt.Errorf("experiments: no experiment named%s", known(""))
	}
	candidates := []string{arg}
	if filepath.IsLocal(arg) && !strings.HasPrefix(filepath.Clean(arg), folder+string(filepath.Separator)) {
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
	return "", fmt.Errorf("experiments: %s is neither a folder, nor a file, nor a name under %s/%s", arg, folder, known(arg))
}

// known lists the names under experiments/, the nearest one first.
func known(arg string) string {
	files, _ := filepath.Glob(filepath.Join(folder, "*", fileName))
	if len(files) == 0 {
		return ""
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = filepath.Base(filepath.Dir(f))
	}
	hint := ""
	if best := nearest(filepath.Base(arg), names); best != "" {
		hint = fmt.Sprintf("; do you mean %q?", best)
	}
	return hint + " (there are: " + strings.Join(names, ", ") + ")"
}
