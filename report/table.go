package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Duration is ns as people read it, with three digits: 950 ns, 12.3 µs, 1.23 ms, 4.00 s.
func Duration(ns int64) string {
	if ns < 0 {
		return "-" + Duration(-ns)
	}
	for _, u := range []struct {
		ns   float64
		name string
	}{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}} {
		if float64(ns) >= 0.9995*u.ns {
			return three(float64(ns)/u.ns) + " " + u.name
		}
	}
	return strconv.FormatInt(ns, 10) + " ns"
}

// Rate is a number per second as people read it: 950, 12.3k, 123k, 1.23M.
func Rate(v float64) string {
	switch {
	case v >= 999_500:
		return three(v/1e6) + "M"
	case v >= 9_995:
		return three(v/1e3) + "k"
	case v >= 100 || v == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return three(v)
}

// Size is bytes as people read them: 64 B, 1 KiB, 1.5 MiB.
func Size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, u := float64(n), 0
	for v >= 1024 && u < len(units)-1 {
		v /= 1024
		u++
	}
	return strconv.FormatFloat(float64(int64(v*100+0.5))/100, 'f', -1, 64) + " " + units[u]
}

// three is v with three digits.
func three(v float64) string {
	switch {
	case v >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

const na = "–"

// tableColumn is one column of the table.
type tableColumn struct {
	head  string
	left  bool // left-aligned: text
	value func(*Row) string
	vary  bool // shown only where the rows differ in it
}

var tableColumns = []tableColumn{
	{head: "transport", left: true, value: Network},
	{head: "op", left: true, value: func(r *Row) string { return r.Mix }},
	{head: "value", value: func(r *Row) string { return show(r.ValueBytes, Size) }},
	{head: "backend", left: true, vary: true, value: func(r *Row) string { return r.Backend }},
	{head: "disk", left: true, vary: true, value: func(r *Row) string { return r.DiskEngine }},
	{head: "disk depth", vary: true, value: func(r *Row) string { return r.DiskDepth.String() }},
	{head: "disk batch", vary: true, value: func(r *Row) string { return r.DiskBatch.String() }},
	{head: "disk wait", vary: true, value: func(r *Row) string { return r.DiskWait.String() }},
	{head: "wait max", vary: true, value: func(r *Row) string { return show(r.DiskWaitMaxNs, Duration) }},
	{head: "taskrun", left: true, vary: true, value: func(r *Row) string { return r.Taskrun }},
	{head: "sqpoll", left: true, vary: true, value: func(r *Row) string { return r.SQPoll.String() }},
	{head: "iopoll", left: true, vary: true, value: func(r *Row) string { return r.IOPoll.String() }},
	{head: "wait", left: true, vary: true, value: func(r *Row) string { return r.Wait }},
	{head: "placement", left: true, vary: true, value: func(r *Row) string { return r.Placement }},
	{head: "ring", left: true, vary: true, value: func(r *Row) string { return r.Ring }},
	{head: "client", left: true, vary: true, value: func(r *Row) string {
		if r.ClientTransport == r.Transport {
			return ""
		}
		return r.ClientTransport
	}},
	{head: "engine", left: true, vary: true, value: func(r *Row) string { return r.TCPEngine }},
	{head: "client engine", left: true, vary: true, value: func(r *Row) string { return r.TCPClientEngine }},
	{head: "TLS", left: true, vary: true, value: func(r *Row) string { return r.TLS }},
	{head: "receive", left: true, vary: true, value: own("uring_receive")},
	{head: "bundle", left: true, vary: true, value: own("uring_bundle")},
	{head: "fixed", left: true, vary: true, value: own("uring_fixed_files")},
	{head: "large", left: true, vary: true, value: own("uring_large")},
	{head: "connect", left: true, vary: true, value: func(r *Row) string { return r.RDMAConnect }},
	{head: "slot", vary: true, value: func(r *Row) string { return show(r.RDMASlotBytes, Size) }},
	{head: "inline", vary: true, value: func(r *Row) string { return show(r.RDMAInlineBytes, Size) }},
	{head: "signal", vary: true, value: func(r *Row) string { return r.RDMASignalEvery.String() }},
	{head: "batch", vary: true, value: func(r *Row) string { return r.RDMAPostBatch.String() }},
	{head: "path MTU", vary: true, value: func(r *Row) string { return r.RDMAMTU.String() }},
	{head: "model", left: true, vary: true, value: func(r *Row) string { return r.RDMAModel }},
	{head: "class", vary: true, value: func(r *Row) string { return r.RDMATrafficClass.String() }},
	{head: "level", vary: true, value: func(r *Row) string { return r.RDMAServiceLevel.String() }},
	{head: "huge", left: true, vary: true, value: func(r *Row) string { return r.HugePages.String() }},
	{head: "keys", left: true, vary: true, value: func(r *Row) string { return r.KeyDist }},
	{head: "conns", vary: true, value: func(r *Row) string { return r.Conns.String() }},
	{head: "depth", vary: true, value: func(r *Row) string { return r.Depth.String() }},
	{head: "threads", vary: true, value: func(r *Row) string { return r.ClientThreads.String() }},
	{head: "loop", left: true, vary: true, value: func(r *Row) string { return r.Loop }},
	{head: "target/s", vary: true, value: func(r *Row) string { return show(r.TargetPerS, Rate) }},
	{head: "ops/s", value: func(r *Row) string { return show(r.OpsPerS, Rate) }},
	{head: "p50", value: func(r *Row) string { return show(r.LatP50Ns, Duration) }},
	{head: "p99", value: func(r *Row) string { return show(r.LatP99Ns, Duration) }},
	{head: "CPU µs/op", value: func(r *Row) string {
		return pair(total(r.ClientUserNsPerOp, r.ClientSysNsPerOp), total(r.ServerUserNsPerOp, r.ServerSysNsPerOp), "+",
			func(ns float64) string { return three(ns / 1e3) })
	}},
	{head: "syscalls/op", value: func(r *Row) string {
		return pair(r.ClientSyscallsPerOp, r.ServerSyscallsPerOp, "/", three)
	}},
	{head: "note", left: true, value: note},
}

// own is for the column of a factor without a field.
func own(column string) func(*Row) string {
	return func(r *Row) string { return r.Factors[column] }
}

// Network is the transport, with RDMA's verb: "rdma write". Over the model of a device it ends with ModelSuffix.
func Network(r *Row) string {
	name := strings.TrimSpace(r.Transport + " " + r.RDMAVerb)
	if r.Modelled() {
		name += " " + ModelSuffix
	}
	return name
}

func show[T int64 | uint64 | float64 | bool](o Opt[T], f func(T) string) string {
	if v, ok := o.Get(); ok {
		return f(v)
	}
	return ""
}

// pair is the client's number and the server's.
func pair(client, server Float, sep string, f func(float64) string) string {
	c, s := show(client, f), show(server, f)
	switch {
	case c == "" && s == "":
		return ""
	case s == "":
		return c
	case c == "":
		c = na
	}
	return c + sep + s
}

func total(a, b Float) Float {
	x, ok1 := a.Get()
	y, ok2 := b.Get()
	if !ok1 || !ok2 {
		return Float{}
	}
	return F(x + y)
}

func note(r *Row) string {
	if r.SkippedReason != "" {
		return "skipped: " + r.SkippedReason
	}
	var notes []string
	if r.Marks != "" {
		notes = append(notes, marked)
	}
	if r.Note != "" {
		notes = append(notes, r.Note)
	}
	if v, ok := r.Valid.Get(); ok && !v {
		notes = append(notes, "invalid: "+r.InvalidReason)
	}
	if r.LimitedBy != "" {
		notes = append(notes, "limited by the "+strings.ReplaceAll(r.LimitedBy, "+", " and the "))
	}
	return strings.Join(notes, "; ")
}

// marked is in the note of each row that has marks. One line below the table explains it.
const (
	marked    = "!"
	marksNote = "! The machine was disturbed, or the rate drifted (column marks). The run counts.\n"
)

// values are the column's cells, whether rows that ran differ in them, and whether any is known.
func (c tableColumn) values(rows []Row) (values []string, differ, any bool) {
	values = make([]string, len(rows))
	first := -1
	for i := range rows {
		v := strings.Join(strings.Fields(text(c.value(&rows[i]))), " ") // one line, whatever a reason says
		values[i] = v
		any = any || v != ""
		if rows[i].SkippedReason == "" && v != "" { // a factor that does not apply to a row is no difference
			if first < 0 {
				first = i
			}
			differ = differ || v != values[first]
		}
	}
	for i, v := range values {
		if v == "" && c.head != "note" {
			values[i] = na
		}
	}
	return values, differ, any
}

// noteMax is the longest note, in characters, in the table; longer notes are printed below it.
const noteMax = 64

// footnotes replaces long notes by numbers, and returns these notes in the order of the numbers.
func footnotes(notes []string) (below []string) {
	number := map[string]int{}
	for i, n := range notes {
		if utf8.RuneCountInString(n) <= noteMax {
			continue
		}
		if number[n] == 0 {
			below = append(below, n)
			number[n] = len(below)
		}
		kind, _, _ := strings.Cut(n, ":") // skipped, invalid
		notes[i] = fmt.Sprintf("%s [%d]", kind, number[n])
	}
	return below
}

const legend = `p50, p99: round trips. CPU: client+server (inproc: one process). System calls (of the loops): client/server.
`

// PrintTable prints rows for people: the measured rates and latencies, and their cost to client and server.
// Factors in which the rows differ have a column. Long notes are printed once, below the table.
func PrintTable(w io.Writer, rows []Row) error {
	var shown []tableColumn
	var cells [][]string // by column
	var width []int
	var below []string
	for _, c := range tableColumns {
		values, differ, any := c.values(rows)
		if c.vary && !differ || c.head == "note" && !any {
			continue
		}
		if c.head == "note" {
			below = footnotes(values)
		}
		wide := utf8.RuneCountInString(c.head)
		for _, v := range values {
			wide = max(wide, utf8.RuneCountInString(v))
		}
		shown, cells, width = append(shown, c), append(cells, values), append(width, wide)
	}
	var b strings.Builder
	line := func(cell func(i int) string) {
		var l strings.Builder
		for i, c := range shown {
			if i > 0 {
				l.WriteString("  ")
			}
			v := cell(i)
			fill := strings.Repeat(" ", width[i]-utf8.RuneCountInString(v))
			if c.left {
				l.WriteString(v + fill)
			} else {
				l.WriteString(fill + v)
			}
		}
		b.WriteString(strings.TrimRight(l.String(), " "))
		b.WriteByte('\n')
	}
	line(func(i int) string { return shown[i].head })
	for r := range rows {
		line(func(i int) string { return cells[i][r] })
	}
	b.WriteString(legend)
	if slices.ContainsFunc(rows, func(r Row) bool { return r.Marks != "" && r.SkippedReason == "" }) {
		b.WriteString(marksNote)
	}
	if slices.ContainsFunc(rows, func(r Row) bool { return r.Modelled() }) {
		wrap(&b, "", ModelNote)
	}
	for i, n := range below {
		fmt.Fprintf(&b, "[%d] %s\n", i+1, n)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("report: table: %w", err)
	}
	return nil
}
