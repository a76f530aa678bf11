//go:build race

package testenv

// Race says that the race detector is on, whose own memory counts.
const Race = true
