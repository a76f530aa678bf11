package main

import (
	"context"
	"os"

	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/lab/cell"
)

// variantCommand is the process of one variant of a generation, which kvwire run starts.
func variantCommand(ctx context.Context, args []string) error {
	f := newFactors("variant", "What kvwire run starts for each variant of a question.")
	f.benchFlags()
	if err := f.parse(args, nil); err != nil {
		return err
	}
	spec, err := f.Prepare()
	if err != nil {
		return err
	}
	f.warn()
	return cell.ServeVariant(ctx, f.Settings, spec, fleet.Stdin(), os.Stdout)
}
