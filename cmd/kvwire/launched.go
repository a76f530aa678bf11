package main

import (
	"context"
	"encoding/json"
	"os"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/interrupt"
)

// launchedCommand is what launchers start: it becomes the command that it reads from standard input.
func launchedCommand(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return exit.Usagef("launched reads its arguments from standard input, and has none on its command line: --server-launch and --client-launch start it")
	}
	if err := json.NewEncoder(os.Stdout).Encode(fleet.HostInfo{Kvwire: version, Machine: fleet.MachineID(), Env: program().OthersEnvironment()}); err != nil {
		return err
	}
	var role fleet.Role
	read := make(chan error, 1)
	go func() {
		var err error
		role, err = fleet.ReadRole(os.Stdin)
		read <- err
	}()
	select {
	case err := <-read:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	if interrupt.Release() {
		return context.Canceled
	}
	return role.Execute()
}
