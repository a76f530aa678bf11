package report

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"

	"github.com/kvwire/kvwire/bench/units"
)

// BillItem is a line of a bill of materials: a count per operation, and its unit cost.
type BillItem struct {
	Unit       string
	PerOp      float64
	UnitNs, Ns float64 // Ns is their product
}

// Bill divides the CPU time of an operation, of client and server together, into its items.
type Bill struct {
	Items                            []BillItem
	MeasuredNs, SumNs, UnexplainedNs float64 // the last is the measured less the sum, and may be below 0
}

// UnitsFile is the file of a folder of results with the unit costs from kvwire calibrate.
const UnitsFile = "calibration.json"

// ReadUnits gives a folder's units; none where it has none.
func ReadUnits(dir string) (all []units.Unit, err error) {
	name := filepath.Join(dir, UnitsFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return all, err
}

// WriteUnits leaves units in a folder.
func WriteUnits(dir string, all []units.Unit) error {
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(dir, UnitsFile), append(b, '\n'))
}

// unitCount returns a row's count of a unit, per operation; NA if the row does not have it.
type unitCount struct {
	unit string
	of   func(r *Row) Float
}

var counts = []unitCount{
	{units.Operation, func(*Row) Float { return F(1) }},
	{units.Frame, func(r *Row) Float {
		if r.Transport == "inproc" {
			return F(0)
		}
		return F(1)
	}},
	{units.Syscall, func(r *Row) Float {
		if r.inProcess() {
			return r.ClientSyscallsPerOp
		}
		return total(r.ClientSyscallsPerOp, r.ServerSyscallsPerOp)
	}},
	{units.Send, func(r *Row) Float { return r.SendsPerOp }},
	{units.Receive, func(r *Row) Float { return r.ReceivesPerOp }},
	{units.SocketKiB, func(r *Row) Float {
		bytes, ok := r.GoodputBytesPerS.Get()
		ops, _ := r.OpsPerS.Get()
		if !ok || ops == 0 || r.Transport != "tcp" && r.Transport != "uring" {
			return F(0)
		}
		return F(bytes / ops / 1024)
	}},
	{units.Entry, func(r *Row) Float {
		client, _ := r.ClientSQEsPerOp.Get()
		server, _ := r.ServerSQEsPerOp.Get()
		return F(client + server)
	}},
	{units.Sleep, func(r *Row) Float { return r.CtxswVolPerOp }},
	{units.Hop, func(r *Row) Float { return r.HopsPerOp }},
	{units.CopyKiB, func(r *Row) Float {
		bytes, ok := r.BytesCopiedPerOp.Get()
		if !ok {
			return Float{}
		}
		return F(bytes / 1024)
	}},
	{units.CgoCall, func(r *Row) Float { return r.CgoCallsPerOp }},
}

// BillOf makes a row's bill. ok is false where its CPU time, or a count, is not known.
func BillOf(r *Row, all []units.Unit) (b Bill, ok bool) {
	cpu, err := FindMetric("cpu_ns_per_op")
	if err != nil {
		return b, false
	}
	if b.MeasuredNs, ok = r.measured(cpu); !ok {
		return b, false
	}
	for _, u := range all {
		for _, c := range counts {
			if c.unit != u.Name {
				continue
			}
			n, known := c.of(r).Get()
			if !known {
				return b, false
			}
			b.Items = append(b.Items, BillItem{u.Name, n, u.Ns, n * u.Ns})
			b.SumNs += n * u.Ns
		}
	}
	b.UnexplainedNs = b.MeasuredNs - b.SumNs
	return b, len(b.Items) > 0
}

// Names of a bill's last lines.
const (
	billSum         = "sum"
	billMeasured    = "measured"
	billUnexplained = "unexplained"
)

// WriteBills writes bill.csv: the bills of all cells, each of its runs together.
func WriteBills(w io.Writer, questions []PageQuestion, all []units.Unit) error {
	c := csv.NewWriter(w)
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
	_ = c.Write(names(billColumns))
	for _, q := range questions {
		for _, v := range q.Variants {
			b, ok := BillOf(&v.Row, all)
			if !ok {
				continue
			}
			for _, i := range b.Items {
				_ = c.Write([]string{q.Title, v.Label, i.Unit, number(i.PerOp), number(i.UnitNs), number(i.Ns)})
			}
			for _, l := range []struct {
				name string
				ns   float64
			}{{billSum, b.SumNs}, {billMeasured, b.MeasuredNs}, {billUnexplained, b.UnexplainedNs}} {
				_ = c.Write([]string{q.Title, v.Label, l.name, "", "", number(l.ns)})
			}
		}
	}
	c.Flush()
	return c.Error()
}

// brief is a number with about three digits.
func brief(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// printBill prints a question's bills side by side: an item a line, a variant a column. It prints nothing where there are none.
func printBill(w io.Writer, q *PageQuestion, all []units.Unit) error {
	var bills []Bill
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := "count × ns\t"
	for _, v := range q.Variants {
		if b, ok := BillOf(&v.Row, all); ok {
			bills = append(bills, b)
			head += v.Label + "\t"
		}
	}
	if len(bills) == 0 {
		return nil
	}
	fmt.Fprintln(t, head)
	for i, item := range bills[0].Items {
		line, some := item.Unit+"\t", false
		for _, b := range bills {
			it := b.Items[i]
			some = some || it.Ns >= 0.5
			line += fmt.Sprintf("%s × %s = %.0f\t", brief(it.PerOp), brief(it.UnitNs), it.Ns)
		}
		if some {
			fmt.Fprintln(t, line)
		}
	}
	for _, l := range []struct {
		name string
		of   func(b *Bill) float64
	}{{billSum, func(b *Bill) float64 { return b.SumNs }}, {billMeasured, func(b *Bill) float64 { return b.MeasuredNs }}, {billUnexplained, func(b *Bill) float64 { return b.UnexplainedNs }}} {
		line := l.name + "\t"
		for i := range bills {
			line += fmt.Sprintf("%.0f\t", l.of(&bills[i]))
		}
		fmt.Fprintln(t, line)
	}
	return t.Flush()
}
