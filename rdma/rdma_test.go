package rdma

import (
	"errors"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/loop"
)

func TestUnavailableSaysWhatToDo(t *testing.T) {
	err := Unavailable()
	var refusal *probe.Refusal
	if err != nil && !errors.As(err, &refusal) {
		t.Fatalf("%T is no refusal: %v", err, err)
	}
	t.Log(err)
}

func TestParamsRoundTrip(t *testing.T) {
	p := params{verb: Write, mtu: 1024, responds: 16, initiates: 8, qp: 0x123456, psn: 0xABCDEF, lid: 7, slots: 32, gid: [16]byte{10: 0xFF, 11: 0xFF, 12: 10}, slotBytes: 8192, connect: ByCM, port: 99, token: [16]byte{1, 15: 16}}
	b := p.encode()
	var got params
	if err := got.decode(append(b, 1, 2, 3)); err != nil || got != p {
		t.Errorf("%+v came back as %+v (%v)", p, got, err)
	}
	for i := range b {
		if got.decode(b[:i]) == nil {
			t.Errorf("parameters cut at %d of %d bytes pass", i, len(b))
		}
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for _, o := range []Options{{Verb: WritePoll, SRQ: true}, {SlotBytes: 100}, {SlotBytes: 1000}, {SlotBytes: 2 << 20}, {InlineBytes: 5000}, {SignalEvery: 100}, {SignalEvery: -1}, {PostBatch: 65}, {MTU: 1500}, {TrafficClass: 256}, {TrafficClass: -1}, {ServiceLevel: 16}, {ServiceLevel: -1}} {
		if _, err := o.Defaults(); err == nil {
			t.Errorf("%+v passes", o)
		}
	}
	if o, err := (Options{}).Defaults(); err != nil || o.SlotBytes == 0 || o.PostBatch == 0 {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestWritePollNeedsLoopsThatSpin(t *testing.T) {
	for _, w := range []loop.Wait{loop.WaitBlock, loop.WaitSpin, loop.WaitHybrid} {
		if err := WritePoll.CheckWait(w); (err == nil) != (w == loop.WaitSpin) || err != nil && !strings.Contains(err.Error(), "--wait spin") {
			t.Errorf("%v: %v", w, err)
		}
		if err := Write.CheckWait(w); err != nil {
			t.Errorf("%v: %v", w, err)
		}
	}
}

func FuzzParams(f *testing.F) {
	f.Add((&params{verb: Send, mtu: 1024, slots: 16, slotBytes: 4096}).encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		var p, again params
		if p.decode(in) != nil {
			return
		}
		if err := again.decode(p.encode()); err != nil || again != p {
			t.Fatalf("%+v came back as %+v (%v)", p, again, err)
		}
	})
}
