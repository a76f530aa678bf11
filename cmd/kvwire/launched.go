package main

import (
	"context"
	"encoding/json"
	"os"

	"github.com/kvwire/kvwire/fleet"
)

// launchedCommand is what launchers start: it becomes the command that it reads from standard input.
func launchedCommand(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return usagef("launched takes its arguments from standard input: it is what --server-launch and --client-launch start")
	}
	env := environment()
	env.GOMAXPROCS = 0 // of this command
	if err := json.NewEncoder(os.Stdout).Encode(fleet.HostInfo{Kvwire: version, Machine: fleet.MachineID(), Env: env}); err != nil {
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
	if stopSignals != nil && stopSignals() {
		return context.Canceled
	}
	return role.Execute()
}
