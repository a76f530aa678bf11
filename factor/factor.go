// Package factor owns the table of factors. A factor is a setting that an experiment can vary, described in one row.
// The table is the source of the flags of all commands and their help, the keys of experiment.yaml, the factor
// columns of runs.csv with their descriptions, and the flags that a server sends to its clients. The package also
// owns the values of all factors, and translates them into options of loop, store, tcp, uring, rdma, udp and bench.
//
// It imports those packages, transport/datagram and transport/socket, and no package that imports them. report imports factor for its
// columns, so factor must not import report.
package factor

import (
	"cmp"
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
	Help    string // of the flag, for --help
	Meaning string // of the column, for docs/columns.md and datapackage.json; "": as Help
	Column  string // "": the name with underscores, with _ns for a duration

	NoColumn string // why it has no column, with the columns of runs.csv that have its effect in backquotes; "": it has one

	At      func(v *Values) any // returns a pointer to the value; its type determines Kind
	Default string              // as a user would write it
	Words   []string            // the allowed values of a text; none: any text
	Range   Span                // the allowed values of a number, size or duration

	// Conditions on the other factors' values. If When does not hold, the flag is refused and the column is empty. If When or Sweep does not
	// hold, cells of an experiment do not have the factor; a key that no cell has is refused.
	When, Sweep Condition
	Scope       string   // where it applies, in words, if conditions cannot express it
	Owners      []string // factors to whose values it belongs: where one of them is compared, cells may differ in this factor, too
	OffUnix     bool     // without effect on unix sockets
	ByRun       bool     // the run fills in the column, with the value that it really used

	Side   Side
	Common bool // --help shows it; --help-all shows the others, too
	Hidden bool // neither shows it
}

// Side is the set of commands and processes that have a factor: a bit mask.
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

// BelongsTo reports whether a factor belongs to the values of the factor owner.
func (f *Factor) BelongsTo(owner string) bool { return slices.Contains(f.Owners, owner) }

// Description describes the factor's column.
func (f *Factor) Description() string { return cmp.Or(f.Meaning, f.Help) }

// ColumnName is the name of a factor's column; "": it has none.
func (f *Factor) ColumnName() string {
	switch {
	case f.NoColumn != "":
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

// typical gives Kind the types of the values. Its content is never used.
var typical Values

// Kind is the kind of the factor's value: bool, word, text, int, uint64, duration, size, sizes, count, rate, speed, share, checks or cpus.
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

// Text formats the factor's value in v as a user would write it.
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
var All = Table(slices.Concat(networkRows, loopRows, storeRows, diskRows, tcpRows, uringRows, rdmaRows, udpRows, loadRows, sourceRows, windowRows))

// Find returns the factor with that name; nil: there is none.
func (t Table) Find(name string) *Factor {
	for i := range t {
		if t[i].Name == name {
			return &t[i]
		}
	}
	return nil
}

// ByColumn returns the factor with that column; nil: there is none.
func (t Table) ByColumn(column string) *Factor {
	for i := range t {
		if t[i].ColumnName() == column {
			return &t[i]
		}
	}
	return nil
}

// Names returns the names of the factors for which pass is true.
func (t Table) Names(pass func(*Factor) bool) (all []string) {
	for i := range t {
		if pass(&t[i]) {
			all = append(all, t[i].Name)
		}
	}
	return all
}

// Of returns the names of the factors that have all these sides.
func (t Table) Of(s Side) []string {
	return t.Names(func(f *Factor) bool { return f.Has(s) })
}

// Get returns a function that formats a factor's value in v as a user would write it; "" for an unknown name.
func (t Table) Get(v *Values) func(name string) string {
	return func(name string) string {
		if f := t.Find(name); f != nil {
			return f.Text(v)
		}
		return ""
	}
}

// OfServer is Get for a server: client-transport is "", because a server does not know its clients' network.
func (t Table) OfServer(v *Values) func(name string) string {
	get := t.Get(v)
	return func(name string) string {
		if name == "client-transport" {
			return ""
		}
		return get(name)
	}
}

// Field converts text from a user or a peer to the form of the factor's column: sizes in bytes, durations in ns; "" if text is not a valid value.
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
	case "size", "count", "rate", "speed", "share":
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
