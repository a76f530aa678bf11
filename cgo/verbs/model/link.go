// Package model is a model of an RDMA device, in C: libibverbs' functions for processes of one user on one machine. It is written for any program that uses
// verbs; package verbs uses it instead of libibverbs. It imports nothing of ours.
package model

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Link is the modelled link.
type Link struct {
	RTT           time.Duration // round trip of an empty message, without the time that programs take
	BitsPerSecond uint64        // of each direction; 0: endless
	MTU           int           // bytes of payload of a packet
	WR            time.Duration // time that posting a work request takes, besides what it takes here
	Doorbell      time.Duration // likewise, each call that posts
	Read          time.Duration // time that the peer's device takes for an RDMA READ
	Loss          float64       // probability that a packet is lost, of either direction
	Seed          uint64        // of the losses, which are the same for each run that makes the same queue pairs
}

// Default is a 100 Gb/s network with a round trip of 2 µs.
var Default = Link{RTT: 2 * time.Microsecond, BitsPerSecond: 100e9, MTU: 4096}

// presets are networks whose figures were published: the rate, and as the round trip the median time of a small RDMA READ through one switch, in Kalia, Kaminsky and
// Andersen, "Datacenter RPCs can be General and Fast", NSDI 2019, tables 1 and 2.
var presets = map[string]Link{
	"connectx3-56g": {RTT: 1700 * time.Nanosecond, BitsPerSecond: 56e9, MTU: 4096}, // InfiniBand
	"connectx4-25g": {RTT: 2900 * time.Nanosecond, BitsPerSecond: 25e9, MTU: 4096}, // Ethernet, as the next
	"connectx5-40g": {RTT: 2000 * time.Nanosecond, BitsPerSecond: 40e9, MTU: 4096},
}

// Presets returns the names that Parse accepts.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

// Parse parses a list like "rtt=2us,rate=100Gbps,mtu=4096,wr=50ns,doorbell=100ns,read=300ns,loss=0.001,seed=1". It may begin with a preset's name; what is missing is as in it, or as in Default.
func Parse(text string) (Link, error) {
	l := Default
	for i, part := range strings.Split(text, ",") {
		if p, ok := presets[part]; ok && i == 0 {
			l = p
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		var err error
		switch name {
		case "rtt":
			l.RTT, err = parseTime(name, value)
		case "rate":
			l.BitsPerSecond, err = parseRate(value)
		case "mtu":
			if l.MTU, err = strconv.Atoi(value); err != nil || l.MTU < 256 || l.MTU > 4096 || l.MTU&(l.MTU-1) != 0 {
				err = fmt.Errorf("mtu %q is not 256, 512, 1024, 2048 or 4096", value)
			}
		case "wr":
			l.WR, err = parseTime(name, value)
		case "doorbell":
			l.Doorbell, err = parseTime(name, value)
		case "read":
			l.Read, err = parseTime(name, value)
		case "loss":
			if l.Loss, err = strconv.ParseFloat(value, 64); err != nil || !(l.Loss >= 0 && l.Loss <= lossMost) {
				err = fmt.Errorf("loss %q is not a share from 0 to %v", value, lossMost)
			}
		case "seed":
			if l.Seed, err = strconv.ParseUint(value, 10, 64); err != nil {
				err = fmt.Errorf("seed %q is not a whole number from 0", value)
			}
		default:
			err = fmt.Errorf("%q is none of rtt, rate, mtu, wr, doorbell, read, loss, seed, and no preset (%s)", part, strings.Join(Presets(), ", "))
		}
		if err != nil {
			return l, err
		}
	}
	if l.Loss == 0 {
		l.Seed = 0
	}
	return l, nil
}

// lossMost is the largest part of lost packets: with more, messages would be given up.
const lossMost = 0.1

// longest is the most that a time may be: longer ones would be met by the verbs' own retries.
const longest = 10 * time.Millisecond

func parseTime(name, s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > longest {
		err = fmt.Errorf("%s %q is not a time from 0s to %v, such as 2us", name, s, longest)
	}
	return d, err
}

func parseRate(s string) (uint64, error) {
	number, unit := strings.TrimSuffix(s, "bps"), 1.0
	for suffix, u := range map[string]float64{"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = rest, u
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n != 0 && !(n*unit >= 1e6 && n*unit <= 1e13) {
		return 0, fmt.Errorf("rate %q is not from 1Mbps to 10Tbps, or 0, which is endless", s)
	}
	return uint64(n * unit), nil
}

// String returns the text that Parse parses, with all parameters; loss and seed only if packets are lost.
func (l Link) String() string {
	text := fmt.Sprintf("rtt=%v,rate=%gGbps,mtu=%d,wr=%v,doorbell=%v,read=%v", l.RTT, float64(l.BitsPerSecond)/1e9, l.MTU, l.WR, l.Doorbell, l.Read)
	if l.Loss > 0 {
		text += fmt.Sprintf(",loss=%g,seed=%d", l.Loss, l.Seed)
	}
	return strings.ReplaceAll(text, "µ", "u")
}
