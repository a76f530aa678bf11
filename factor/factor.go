// Package factor owns the table of factors: what an experiment can vary, each described in one row. From the table come the flags of
// all commands and their help, the keys of experiment.yaml, the factor columns of runs.csv with their descriptions, and the flags that
// a server sends to its clients. The package also owns the values of all factors, and translates them into options of loop, store, tcp,
// uring, rdma and bench.
//
// It imports these, and nothing that stands above them: report imports factor for its columns, so factor must not import report.
package factor

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// A Factor is a row of the table.
type Factor struct {
	Name    string // of the flag and of the key in experiment.yaml
	Group   string // heading in --help
	Help    string // of the flag
	Meaning string // of the column
	Column  string // "": the name with underscores, with _ns for a duration; NoColumn: none

	At      func(v *Values) any // pointer to the value, whose type decides on the kind
	Default string              // as a user would write it
	Words   []string            // the values that a text may have; none: any
	Range   Span                // of numbers, sizes and durations

	// Where a factor applies. When: elsewhere its flag is refused and its column is empty. Effect: elsewhere it has no effect and its
	// column is empty. Sweep: elsewhere the cells of an experiment do not have it.
	When, Effect, Sweep Condition
	OffUnix             bool // a unix socket has nothing that it could set
	ByRun               bool // the run fills in the column, with what came of the factor

	Side   Side
	Hidden bool // --help does not show it
}

// NoColumn is the Column of a factor without one.
const NoColumn = "-"

// Side is who has a factor: a set of bits.
type Side uint8

const (
	Server Side = 1 << iota // kvwire serve; the server sends its value to clients
	Load                    // kvwire load and kvwire bench
	Bench                   // kvwire bench
	Client                  // every process that connects to a server
	Alike                   // Server and Client must have the same value
)

// Has reports whether a factor has all these sides.
func (f *Factor) Has(s Side) bool { return f.Side&s == s }

// HasAny reports whether a factor has one of these sides.
func (f *Factor) HasAny(s Side) bool { return f.Side&s != 0 }

// ColumnName is the name of a factor's column; "": it has none.
func (f *Factor) ColumnName() string {
	switch {
	case f.Column == NoColumn:
		return ""
	case f.Column != "":
		return f.Column
	}
	name := strings.ReplaceAll(f.Name, "-", "_")
	if f.Kind() == "duration" {
		name += "_ns"
	}
	return name
}

// typical is for the types of values: nobody reads or writes it.
var typical Values

// Kind is bool, word, text, int, uint64, duration, size, count, rate, speed or cpus.
func (f *Factor) Kind() string {
	switch p := f.At(&typical).(type) {
	case *bool:
		return "bool"
	case *string:
		if len(f.Words) > 0 {
			return "word"
		}
		return "text"
	case *int:
		return "int"
	case *uint64:
		return "uint64"
	case *time.Duration:
		return "duration"
	case pflag.Value:
		return p.Type()
	}
	panic("factor: the value of " + f.Name + " has a type that no flag has")
}

// Text is a factor's value as a user would write it.
func (f *Factor) Text(v *Values) string {
	switch p := f.At(v).(type) {
	case *bool:
		return strconv.FormatBool(*p)
	case *string:
		return *p
	case *int:
		return strconv.Itoa(*p)
	case *uint64:
		return strconv.FormatUint(*p, 10)
	case *time.Duration:
		return p.String()
	case pflag.Value:
		return p.String()
	}
	panic("factor: the value of " + f.Name + " has a type that no flag has")
}

// Table is a list of factors, in the order of --help.
type Table []Factor

// All is the table. A test may extend it before anything else is done.
var All = Table(slices.Concat(networkRows, loopRows, storeRows, diskRows, tcpRows, uringRows, rdmaRows, loadRows, sourceRows, windowRows))

// Find returns the factor with that name; nil: there is none.
func (t Table) Find(name string) *Factor {
	for i := range t {
		if t[i].Name == name {
			return &t[i]
		}
	}
	return nil
}

// Names are the names of the factors that pass.
func (t Table) Names(pass func(*Factor) bool) (all []string) {
	for i := range t {
		if pass(&t[i]) {
			all = append(all, t[i].Name)
		}
	}
	return all
}

// Of are the names of the factors that have all these sides.
func (t Table) Of(s Side) []string {
	return t.Names(func(f *Factor) bool { return f.Has(s) })
}

// Get returns a function that has the values of all factors in v, as users would write them; "" for a name that is none.
func (t Table) Get(v *Values) func(name string) string {
	return func(name string) string {
		if f := t.Find(name); f != nil {
			return f.Text(v)
		}
		return ""
	}
}

// OfServer is Get for a server, which does not know its clients' network.
func (t Table) OfServer(v *Values) func(name string) string {
	get := t.Get(v)
	return func(name string) string {
		if name == "client-transport" {
			return ""
		}
		return get(name)
	}
}

// Field is a value as it stands in its column, from the text of a user or of a peer: sizes in bytes, durations in ns; "": it is not known.
func (f *Factor) Field(text string) string {
	known := false
	switch f.Kind() {
	case "bool":
		known = text == "true" || text == "false"
	case "int":
		_, err := strconv.Atoi(text)
		known = err == nil
	case "uint64":
		_, err := strconv.ParseUint(text, 10, 64)
		known = err == nil
	case "duration":
		if d, err := time.ParseDuration(text); err == nil {
			return strconv.FormatInt(int64(d), 10)
		}
	case "size", "count", "rate", "speed":
		if n, err := numeric[f.Kind()](text); err == nil {
			return strconv.FormatFloat(n, 'f', -1, 64)
		}
	default:
		known = true
	}
	if known {
		return text
	}
	return ""
}
