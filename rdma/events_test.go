package rdma

import (
	"errors"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/cgo/verbs"
	"github.com/kvwire/kvwire/transport"
)

func TestWhatFollowsFromAnEvent(t *testing.T) {
	want := map[int]reaction{
		verbs.EventCQError: reactDevice, verbs.EventSRQError: reactDevice, verbs.EventDeviceFatal: reactDevice,
		verbs.EventQPFatal: reactPair, verbs.EventQPRequest: reactPair, verbs.EventQPAccess: reactPair,
		verbs.EventPortError: reactRepick, verbs.EventPortActive: reactRepick, verbs.EventGIDChange: reactRepick, verbs.EventLIDChange: reactRepick,
		verbs.EventPKeyChange: reactRepick, verbs.EventReregister: reactRepick,
	}
	for kind := range 25 {
		if got := reactionTo(kind); got != want[kind] {
			t.Errorf("event %d: %d, want %d", kind, got, want[kind])
		}
		if s := eventText(kind); s == "" || strings.Contains(s, "\n") {
			t.Errorf("event %d: %q", kind, s)
		}
	}
}

func TestALostConnectionSaysWhatWasLost(t *testing.T) {
	const down = "port 1 of rxe0 is down (ip link set eth0 up)"
	for _, c := range []struct {
		status uint32
		down   string
		has    string
		closed bool // probably by the peer
	}{
		{statusRetries, "", "the peer did not acknowledge a message after all retries", false},
		{statusNoReceives, "", "the peer posted no receive for too long", false},
		{statusRetries, down, "port 1 of rxe0 is down (ip link set eth0 up); so the connection failed (text, vendor's code 0x81)", false},
		{verbs.StatusFlushed, down, "port 1 of rxe0 is down", false},
		{verbs.StatusFlushed, "", "the peer closed the connection: text", true},
		{1, "", "the peer closed the connection: text, vendor's code 0x81", true},
		{statusLocal, "", "the device could not send: this side's address may have been removed (text, vendor's code 0x81)", false},
		{9, "", "the peer's device rejected a request", false},
		{11, "", "the peer's device rejected a request", false},
	} {
		err := failureReason(c.status, "text", 0x81, c.down)
		if !errors.Is(err, transport.ErrPeerGone) || !strings.Contains(err.Error(), c.has) || strings.Contains(err.Error(), "the peer closed") != c.closed {
			t.Errorf("status %d, port %q: %v", c.status, c.down, err)
		}
	}
}

func TestReadsInFlightAreWhatBothEndsCan(t *testing.T) {
	for _, c := range []struct {
		mine, peer           params
		initiates, respondes int
	}{
		{params{initiates: 16, responds: 16}, params{initiates: 16, responds: 16}, 16, 16},
		{params{initiates: 16, responds: 1}, params{initiates: 4, responds: 8}, 8, 1}, // a device that answers few READs, and begins many
		{params{initiates: 2, responds: 16}, params{initiates: 8, responds: 16}, 2, 8},
	} {
		if i, r := c.mine.reads(&c.peer); i != c.initiates || r != c.respondes {
			t.Errorf("%+v to %+v: %d and %d", c.mine, c.peer, i, r)
		}
		if i, r := c.peer.reads(&c.mine); i != c.respondes || r != c.initiates {
			t.Errorf("the other end: %d and %d", i, r)
		}
	}
	old := (&params{verb: Send, mtu: 1024, responds: 7, slots: 16, slotBytes: 4096}).encode() // of a version with one number for both
	var p params
	if err := p.decode(old); err != nil || p.initiates != 7 || p.responds != 7 {
		t.Errorf("%+v, %v", p, err)
	}
}
