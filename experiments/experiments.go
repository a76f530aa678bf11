// Package experiments holds the files of the experiments that are part of kvwire, so that a program without a checkout has them, too. It owns no code and
// imports nothing of ours.
package experiments

import "embed"

// Files has NAME/experiment.yaml for each experiment, and NAME/claims.yaml where others have claimed something.
//
//go:embed */experiment.yaml */claims.yaml
var Files embed.FS
