// Package plural writes a number of things: one loop, but two loops. It imports nothing of kvwire.
package plural

import "fmt"

// Of is a number of things: "1 generation", "6 generations".
func Of[T int | int64 | uint64](n T, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Are is Of with its verb: "1 page is", "2 pages are".
func Are[T int | int64 | uint64](n T, thing string) string {
	if n == 1 {
		return "1 " + thing + " is"
	}
	return Of(n, thing) + " are"
}
