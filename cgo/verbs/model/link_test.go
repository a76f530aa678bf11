package model

import (
	"strings"
	"testing"
	"time"
)

func TestALinkIsParsedAsItIsPrinted(t *testing.T) {
	for text, want := range map[string]Link{
		"rtt=5us":                  {RTT: 5 * time.Microsecond, BitsPerSecond: 100e9, MTU: 4096},
		"rate=25Gbps,mtu=1024":     {RTT: 2 * time.Microsecond, BitsPerSecond: 25e9, MTU: 1024},
		"rtt=0s,rate=0":            {MTU: 4096},
		"connectx4-25g,read=300ns": {RTT: 2900, BitsPerSecond: 25e9, MTU: 4096, Read: 300},
		"wr=50ns,doorbell=0.1us":   {RTT: 2000, BitsPerSecond: 100e9, MTU: 4096, WR: 50, Doorbell: 100},
		"loss=0.001,seed=7":        {RTT: 2000, BitsPerSecond: 100e9, MTU: 4096, Loss: 0.001, Seed: 7},
		"seed=7,loss=0":            {RTT: 2000, BitsPerSecond: 100e9, MTU: 4096},
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%s: printed as %s, which is %+v, %v", text, got, again, err)
		}
	}
	for _, name := range Presets() {
		if l, err := Parse(name); err != nil || l.RTT == 0 {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
}

func TestALinkThatCannotBe(t *testing.T) {
	for _, text := range []string{"", "rtt", "rtt=2", "rtt=-1us", "rtt=1s", "rate=1", "rate=100 Gbps", "rate=NaN", "mtu=1500", "speed=3", "loss=0.2", "loss=-0.1", "loss=NaN", "seed=-1", "rtt=1us,connectx4-25g", "rtt=1us,"} {
		if l, err := Parse(text); err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "strconv") || strings.Contains(err.Error(), "time: ") {
			t.Errorf("%q: %+v, %v", text, l, err)
		}
	}
}
