package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A store may lie in several folders, for example one on each disk: Options.Dir lists them, with commas between. Partition i lies in folder i, and where there are fewer
// folders than partitions, they take turns. The first folder has the manifest, with the number of folders.

// folders are the folders that dir lists. A folder that is there and has commas in its name is one.
func folders(dir string) []string {
	if _, err := os.Stat(dir); err == nil || !strings.Contains(dir, ",") {
		return []string{dir}
	}
	return strings.Split(dir, ",")
}

// Home is the folder with the manifest of a store whose folders dir lists.
func Home(dir string) string { return folders(dir)[0] }

// folderOf is the folder of a shard.
func folderOf(dir string, shard int) string {
	all := folders(dir)
	return all[shard%len(all)]
}

// checkFolders returns an error for a list of folders that a store with that many partitions cannot have.
func checkFolders(dir string, shards int) error {
	all := folders(dir)
	if len(all) > shards {
		return fmt.Errorf("store: %d folders for %d partitions: leave some out, or use more store loops", len(all), shards)
	}
	seen := map[string]bool{}
	for _, d := range all {
		if d = filepath.Clean(d); d == "." && len(all) > 1 || seen[d] {
			return fmt.Errorf("store: the folders %q: each has a name of its own", dir)
		}
		seen[d] = true
	}
	return nil
}
