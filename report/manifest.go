package report

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ManifestFile has the sums of a folder's files, as `sha256sum -c` reads them.
const ManifestFile = "MANIFEST.sha256"

// written are the files that a report writes, besides charts/. All other files are its inputs.
var written = []string{"report.html", PictureFile, "compare.csv", CarryFile, "steps.csv", "bill.csv", "bench.txt", histName, "datapackage.json"}

func isInput(name string) bool {
	return !slices.Contains(written, name) && !strings.HasPrefix(name, "charts/")
}

// WriteManifest writes the sums of all files in a folder of results. With keepInputs the inputs of the report keep the sums that the
// manifest has already, also those that are missing or changed, so that the damage stays visible.
func WriteManifest(dir string, keepInputs bool) error {
	sums := map[string]string{}
	if keepInputs {
		var err error
		if sums, err = readManifest(dir); err != nil {
			return err
		}
		maps.DeleteFunc(sums, func(name, _ string) bool { return !isInput(name) })
	}
	root, err := filepath.EvalSymlinks(dir) // WalkDir does not follow a link such as results/latest
	if err != nil {
		return err
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == ManifestFile || d.Name() == lockName {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err == nil && sums[name] == "" {
			sums[name], err = sumOf(path)
		}
		return err
	})
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&text, "%s  %s\n", sums[name], name)
	}
	return WriteFile(filepath.Join(dir, ManifestFile), []byte(text.String()))
}

// CheckInputs returns the inputs of the report that the folder's manifest has and the folder lacks, and those with another sum. Without a
// manifest there are none.
func CheckInputs(dir string) (missing, changed []string, err error) {
	sums, err := readManifest(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		if !isInput(name) {
			continue
		}
		sum, err := sumOf(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, name)
		case err != nil:
			return nil, nil, err
		case sum != sums[name]:
			changed = append(changed, name)
		}
	}
	return missing, changed, nil
}

// ForgetManifest removes the manifest of a folder whose files are about to change.
func ForgetManifest(dir string) error {
	err := os.Remove(filepath.Join(dir, ManifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// readManifest returns the sums by file; no manifest: none.
func readManifest(dir string) (map[string]string, error) {
	b, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  "); ok && filepath.IsLocal(name) {
			sums[name] = sum
		}
	}
	return sums, nil
}

// sumOf is the SHA-256 sum of a file, in hexadecimal digits.
func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}
