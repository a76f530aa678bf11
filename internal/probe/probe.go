// Package probe finds out what this machine can do: io_uring, direct IO, RDMA, limits. A probe
// returns available, conclusively not (with why and what to do), or don't know; it changes nothing,
// except for a temporary file that it removes. It imports internal packages only: neither a
// transport nor the store.
package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// State is the result of a probe.
type State uint8

const (
	Unknown     State = iota // it could not be found out
	Available                // it works here; if there is a Remedy, it would work better with it
	Unavailable              // conclusively not
)

var stateNames = [...]string{"don't know", "available", "no"}

// String is the state as a person reads it.
func (s State) String() string { return stateNames[s] }

var stateKeys = [...]string{"unknown", "available", "unavailable"}

// MarshalText is the state as it stands in JSON: unknown, available or unavailable.
func (s State) MarshalText() ([]byte, error) { return []byte(stateKeys[s]), nil }

// Finding is what one probe found.
type Finding struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Why    string `json:"why"`              // what was found, on one line
	Remedy string `json:"remedy,omitempty"` // what to do about it, on one line; empty when nothing is to be done
}

// Err is nil for what is available, and else a *Refusal that prints as one line.
func (f Finding) Err() error {
	if f.State == Available {
		return nil
	}
	return &Refusal{f}
}

// Refusal is a finding as an error.
type Refusal struct{ Finding Finding }

// Error is one line: name, why, and the remedy in parentheses.
func (r *Refusal) Error() string {
	s := r.Finding.Name + ": " + r.Finding.Why
	if r.Finding.Remedy != "" {
		s += " (" + r.Finding.Remedy + ")"
	}
	return s
}

// finding converts a transport's own error to a row; nil is available.
func finding(name string, err error) Finding {
	var r *Refusal
	if errors.As(err, &r) {
		f := r.Finding
		f.Name = name
		return f
	}
	return Finding{Name: name, State: Unavailable, Why: err.Error()}
}

// Report is a list of findings in reading order: transports and engines first, then the causes.
type Report []Finding

// WriteText prints a table for people: name, state, why, and below that what to do.
func (r Report) WriteText(w io.Writer) error {
	nameWidth, stateWidth := 0, 0
	for _, f := range r {
		nameWidth = max(nameWidth, utf8.RuneCountInString(f.Name))
		stateWidth = max(stateWidth, utf8.RuneCountInString(f.State.String()))
	}
	var b strings.Builder
	for _, f := range r {
		fmt.Fprintf(&b, "%-*s  %-*s  %s\n", nameWidth, f.Name, stateWidth, f.State, f.Why)
		if f.Remedy != "" {
			fmt.Fprintf(&b, "%-*s  %-*s  -> %s\n", nameWidth, "", stateWidth, "", f.Remedy)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON prints the report as one JSON array of {name, state, why, remedy}.
func (r Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

// Get returns the row with this name.
func (r Report) Get(name string) (Finding, bool) {
	for _, f := range r {
		if f.Name == name {
			return f, true
		}
	}
	return Finding{}, false
}
