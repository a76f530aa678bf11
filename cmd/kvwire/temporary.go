package main

import (
	"fmt"
	"os"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/probe"
)

// temporary makes a folder for a store: where TMPDIR says, or else in /tmp or /var/tmp, whichever has a disk
// under it that O_DIRECT reaches. The caller removes it.
func temporary() (string, error) {
	dir, err := os.MkdirTemp(temporaryParent(), fleet.TemporaryPrefix)
	if err == nil {
		exit.OnAbort(func() { _ = os.RemoveAll(dir) })
	} else {
		return "", fmt.Errorf("temporary folder for the store: %w (name another one with --dir, or set TMPDIR)", err)
	}
	return dir, nil
}

func temporaryParent() string {
	parent := os.TempDir()
	if os.Getenv("TMPDIR") == "" && probe.DirectIO(probe.Local(), parent).State != probe.Available &&
		probe.DirectIO(probe.Local(), "/var/tmp").State == probe.Available {
		parent = "/var/tmp"
	}
	return parent
}
