// Package experiments holds the files of the experiments that are part of kvwire, so that kvwire run NAME works
// without a checkout. It embeds them and has no other code.
package experiments

import "embed"

// Files has NAME/experiment.yaml for each experiment, and NAME/claims.yaml where others have claimed something.
//
//go:embed */experiment.yaml */claims.yaml
var Files embed.FS
