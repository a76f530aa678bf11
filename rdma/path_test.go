//go:build rdma && cgo && linux

package rdma

import (
	"testing"

	"github.com/kvwire/kvwire/cgo/verbs"
)

// A path has the parameters that both ends support and that this end's options allow.
func TestAPathIsWhatBothEndsCanAndWhatWasAskedFor(t *testing.T) {
	l := &link{d: &rdmaEngine{o: Options{SRQ: true, TrafficClass: 104, ServiceLevel: 5}}, pair: pair{own: params{mtu: 4096, initiates: 16, responds: 4}}}
	want := verbs.Peer{MTU: 1024, Initiates: 2, Responds: 4, Shared: true, TrafficClass: 104, ServiceLevel: 5}
	if got := l.path(&params{mtu: 1024, initiates: 8, responds: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
