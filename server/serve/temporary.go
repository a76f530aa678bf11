package serve

import (
	"fmt"
	"os"
	"strings"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/server"
)

// makeTemporary makes a folder for a store in TemporaryParent. The caller removes it.
func makeTemporary() (string, error) {
	parent := TemporaryParent()
	if strings.Contains(parent, ",") { // it would be a list of folders
		return "", fmt.Errorf("temporary folder for the store: %s has a comma in its name (name another one with --dir, or set TMPDIR)", parent)
	}
	dir, err := os.MkdirTemp(parent, server.TemporaryPrefix)
	if err != nil {
		return "", fmt.Errorf("temporary folder for the store: %w (name another one with --dir, or set TMPDIR)", err)
	}
	exit.OnAbort(func() { _ = os.RemoveAll(dir) })
	return dir, nil
}

// TemporaryParent is the folder of temporary folders: TMPDIR, or else /tmp or /var/tmp, whichever is on a disk that O_DIRECT reaches.
func TemporaryParent() string {
	parent := os.TempDir()
	if os.Getenv("TMPDIR") == "" && probe.DirectIO(probe.Local(), parent).State != probe.Available &&
		probe.DirectIO(probe.Local(), "/var/tmp").State == probe.Available {
		parent = "/var/tmp"
	}
	return parent
}
