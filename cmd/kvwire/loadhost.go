package main

import (
	"context"
	"os"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/lab/cell"
)

// loadhostCommand is a load process behind --client-launch.
func loadhostCommand(ctx context.Context, args []string) error {
	f := newFactors("loadhost", "What --client-launch starts.")
	f.benchFlags()
	if err := f.parse(args, nil); err != nil {
		return err
	}
	if err := f.ReadIdentity(); err != nil {
		return err
	}
	return cell.ServeLoadHost(ctx, f.Settings, fleet.Stdin(), os.Stdout)
}
