package report

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/bench/units"
)

var someUnits = []units.Unit{{Name: units.Syscall, Ns: 100, What: "x"}, {Name: units.Send, Ns: 1000}, {Name: units.CopyKiB, Ns: 50}, {Name: units.Operation, Ns: 200}, {Name: units.Frame, Ns: 400}, {Name: "later", Ns: 7}}

// billed is a row over tcp that did so much.
func billed() Row {
	return Row{Transport: "tcp", OpsPerS: F(1e5), GoodputBytesPerS: F(1024e5), ClientUserNsPerOp: F(1000), ClientSysNsPerOp: F(3000), ServerUserNsPerOp: F(1000), ServerSysNsPerOp: F(2000),
		ClientSyscallsPerOp: F(2), ServerSyscallsPerOp: F(3), SendsPerOp: F(2), ReceivesPerOp: F(2), BytesCopiedPerOp: F(2048), CtxswVolPerOp: F(1), HopsPerOp: F(0), CgoCallsPerOp: F(0)}
}

func TestABillIsCountsTimesUnits(t *testing.T) {
	r := billed()
	b, ok := BillOf(&r, someUnits)
	if !ok || b.MeasuredNs != 7000 || b.SumNs != 5*100+2*1000+2*50+200+400 || b.UnexplainedNs != b.MeasuredNs-b.SumNs || len(b.Items) != 5 {
		t.Errorf("%+v", b)
	}
	call := Row{Transport: "inproc", ClientUserNsPerOp: F(150), ClientSysNsPerOp: F(0), ClientSyscallsPerOp: F(0.5), SendsPerOp: F(0), BytesCopiedPerOp: F(0)}
	if b, ok := BillOf(&call, someUnits); !ok || b.SumNs != 50+200 || b.UnexplainedNs != 150-250 { // more than there is: units are measured, too
		t.Errorf("%+v", b)
	}
	r.SendsPerOp = Float{}
	if _, ok := BillOf(&r, someUnits); ok {
		t.Error("a bill of a row that does not count its sends")
	}
	if _, ok := BillOf(&Row{SkippedReason: "none"}, someUnits); ok {
		t.Error("a bill of a run that did not take place")
	}
}

func TestBillsAreWrittenAndPrinted(t *testing.T) {
	q := PageQuestion{Title: "q", Variants: []PageVariant{{Label: "tcp", Row: billed()}, {Label: "rdma", Row: Row{SkippedReason: "none"}}, {Label: "two", Row: billed()}}}
	var b bytes.Buffer
	if err := WriteBills(&b, []PageQuestion{q}, someUnits); err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(b.String(), "\n"); len(got) != 1+2*(5+3)+1 || got[1] != "q,tcp,syscall,5,100,500" || got[8] != "q,tcp,unexplained,,,3800" {
		t.Errorf("%q", got)
	}
	b.Reset()
	if err := printBill(&b, &q, someUnits); err != nil || strings.Count(b.String(), "5 × 100 = 500") != 2 || strings.Count(b.String(), "2 × 1000 = 2000") != 2 || !strings.Contains(b.String(), "unexplained") {
		t.Errorf("%v\n%s", err, b.String())
	}
	b.Reset()
	if err := printBill(&b, &q, nil); err != nil || b.Len() > 0 {
		t.Errorf("%v %q", err, b.String())
	}
}

func TestUnitsOfAFolder(t *testing.T) {
	dir := t.TempDir()
	if all, err := ReadUnits(dir); err != nil || all != nil {
		t.Errorf("%v %v", all, err)
	}
	if err := WriteUnits(dir, []units.Unit{{Name: "syscall", Ns: 120.5, What: "x", All: []float64{120.5}}}); err != nil {
		t.Fatal(err)
	}
	if all, err := ReadUnits(dir); err != nil || len(all) != 1 || all[0].Ns != 120.5 {
		t.Errorf("%v %v", all, err)
	}
	if err := os.WriteFile(filepath.Join(dir, UnitsFile), []byte(`{`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadUnits(dir); err == nil || !strings.Contains(err.Error(), UnitsFile) {
		t.Errorf("%v", err)
	}
}
