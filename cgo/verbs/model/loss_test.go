//go:build rdma && cgo && linux

package model

import (
	"math"
	"testing"
	"time"
)

// At 8 Gb/s a byte takes 1 ns: a packet of 1024 B takes 1106 ns, and the last one of 3000 B 1034 ns.
var slow = Link{RTT: 10 * time.Microsecond, BitsPerSecond: 8e9, MTU: 1024}

const packet, last = 1106 * time.Nanosecond, 1034 * time.Nanosecond

func TestWithoutLossesAMessageLeavesPacketByPacket(t *testing.T) {
	random := uint64(1)
	for bytes, want := range map[int]time.Duration{0: 82, 1: 83, 1024: packet, 1025: packet + 83, 3000: 2*packet + last} {
		if p := slow.Pass(&random, 6, bytes); p != (Passage{Left: want, OnLink: want, From: (bytes + 1023) / 1024}) && bytes != 0 || p.Left != want {
			t.Errorf("%d B: %+v, want %v", bytes, p, want)
		}
	}
}

// lossy returns the ways of messages over a link for the seeds, until each of the ways that the test wants was met.
func lossy(l Link, bytes, seeds int) []Passage {
	all := make([]Passage, seeds)
	for i := range all {
		random := uint64(i) << 32
		all[i] = l.Pass(&random, 6, bytes)
	}
	return all
}

// A message of three packets that loses one: its first or second one is reported when the packet behind it has arrived, a round trip later, and all from it on are sent again;
// of its last one nothing is reported.
func TestALossCostsARoundTripAndWhatIsSentAgain(t *testing.T) {
	l := slow
	l.Loss = 0.05
	first := 2*packet + l.RTT + 2*packet + last       // the second one shows it
	second := 2*packet + last + l.RTT + packet + last // the third one
	firstLink := 2*packet + last + 2*packet + last    // all three were sent, and all three again
	secondLink := 2*packet + last + packet + last     //
	met := map[string]int{}
	for seed, p := range lossy(l, 3000, 2000) {
		switch {
		case p.Lost == 0:
			met["none"]++
			if p.Left != 2*packet+last || p.OnLink != p.Left || p.Unseen {
				t.Errorf("seed %d: %+v", seed, p)
			}
		case p.Lost == 1 && p.Unseen:
			met["last"]++
			if p.Left != 2*packet+last || p.OnLink != p.Left || p.From != 2 {
				t.Errorf("seed %d: %+v", seed, p)
			}
		case p.Lost == 1 && p.Left == first:
			met["first"]++
			if p.OnLink != firstLink {
				t.Errorf("seed %d: %+v", seed, p)
			}
		case p.Lost == 1:
			met["second"]++
			if p.Left != second || p.OnLink != secondLink {
				t.Errorf("seed %d: %+v, want %v", seed, p, second)
			}
		}
	}
	for _, way := range []string{"none", "first", "second", "last"} {
		if met[way] < 20 {
			t.Errorf("%s: %d times", way, met[way])
		}
	}
}

// Of a long message only what leaves before the report comes is sent for nothing.
func TestALossCostsTheLinkNoMoreThanARoundTrip(t *testing.T) {
	l := slow
	l.Loss = 0.0005
	const packets = 1000
	met := 0
	for seed, p := range lossy(l, packets*1024, 1000) {
		if p.Lost != 1 || p.Unseen {
			continue
		}
		met++
		report := 2*packet + l.RTT // from the start of the lost packet
		whole := packets * packet
		again := p.OnLink - whole // the packets that leave within that time
		most := (report + packet - 1) / packet * packet
		if tail := p.Left - whole; tail > report || tail < report-packet || again > most || again < 2*packet {
			t.Errorf("seed %d: %+v: %v later, %v sent again, want %v and at most %v", seed, p, tail, again, report, most)
		}
	}
	if met < 100 {
		t.Errorf("%d messages lost one packet", met)
	}
}

func TestLossesAreAsOftenAsAskedForAndTheSameForASeed(t *testing.T) {
	l := slow
	l.Loss = 0.01
	const packets, seeds = 100, 2000
	lost := 0
	again := lossy(l, packets*1024, seeds)
	for i, p := range lossy(l, packets*1024, seeds) {
		if p != again[i] {
			t.Fatalf("seed %d: %+v, and then %+v", i, p, again[i])
		}
		lost += p.Lost
	}
	if got := float64(lost) / (packets * seeds); math.Abs(got-l.Loss) > l.Loss/10 {
		t.Errorf("%.4f of the packets were lost", got)
	}
}

// A packet is sent again as often as the queue pair allows.
func TestAPacketThatIsLostTooOftenIsGivenUp(t *testing.T) {
	l := slow
	l.Loss = 0.1
	given := 0
	for i := range 2000 {
		random := uint64(i) << 32
		if p := l.Pass(&random, 0, 100*1024); p.TooOften {
			given++
		} else if p.Lost > 0 && !p.Unseen {
			t.Errorf("seed %d: %+v, without any retry", i, p)
		}
	}
	if given < 1000 {
		t.Errorf("%d messages were given up", given)
	}
}
