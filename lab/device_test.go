package lab

import (
	"strings"
	"testing"

	"github.com/kvwire/kvwire/lab/experiment"
)

func readTwo(t *testing.T, text string) *experiment.Experiment {
	t.Helper()
	any := func(v string) (string, error) { return v, nil }
	x, err := experiment.Read("x.yaml", []byte(text), experiment.Flags{"transport": {Parse: any}, "mix": {Parse: any}, "rdma-device": {Parse: any, OfTransport: true},
		"rdma-model": {Parse: any, OfTransport: true}})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestADeviceReplacesThatOfTheCellsOverRDMA(t *testing.T) {
	x := readTwo(t, "transport: [tcp, rdma]\nmix: [get, put]\noverrides: {rdma: {rdma-device: auto}}\n")
	if err := (Device{"rdma-device": "model", "rdma-model": "rtt=5us"}).Replace(x); err != nil {
		t.Fatal(err)
	}
	x.Reduce(x.Cells) // as the reader of experiments does
	for i, want := range []string{"tcp get", "tcp put", "rdma (model) get", "rdma (model) put"} {
		if got := CellName(x, i); got != want {
			t.Errorf("cell %d is %q, want %q", i, got, want)
		}
		network, _ := x.Cells[i].Get("transport")
		device, _ := x.Cells[i].Get("rdma-device")
		link, _ := x.Cells[i].Get("rdma-model")
		if rdma := network == "rdma"; Modelled(x.Cells[i]) != rdma || device+link != map[bool]string{true: "modelrtt=5us"}[rdma] {
			t.Errorf("cell %d: %v", i, x.Cells[i])
		}
	}
	if n := len(x.Questions()); n != 2 {
		t.Errorf("%d questions, want get and put", n)
	}
}

// A flag that would have no effect, or would hide what the experiment compares, is an error.
func TestADeviceIsRefusedWhereItChangesTheQuestion(t *testing.T) {
	for _, c := range []struct {
		text string
		d    Device
		want string // "": it is accepted
	}{
		{"transport: [tcp, rdma]\n", nil, ""},
		{"transport: [tcp, rdma]\n", Device{"rdma-device": "auto"}, ""},
		{"transport: [tcp, rdma]\noverrides: {rdma: {rdma-device: model}}\n", Device{"rdma-model": "rtt=1us"}, ""},
		{"transport: [inproc, tcp]\n", Device{"rdma-device": "model"}, "no cell over rdma"},
		{"transport: [tcp, rdma]\n", Device{"rdma-model": "rtt=1us"}, "--rdma-model needs --rdma-device model"},
		{"transport: [tcp, rdma]\noverrides: {rdma: {rdma-device: [auto, model]}}\n", Device{"rdma-device": "model"}, "several values of rdma-device"},
		{"transport: rdma\nrdma-device: model\nrdma-model: [rtt=1us, rtt=2us]\n", Device{"rdma-model": "rtt=1us"}, "several values of rdma-model"},
	} {
		err := c.d.Replace(readTwo(t, c.text))
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v for %q: %v, want %q", c.d, c.text, err, c.want)
		}
	}
}
