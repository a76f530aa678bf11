//go:build rdma && cgo && linux

package verbs

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestReadsInFlightAreBounded posts READs at once, within the round trip of the first one. It is for the model: soft-RoCE, for one, waits without end if a queue pair may have none.
func TestReadsInFlightAreBounded(t *testing.T) {
	if modelSymbols == nil {
		t.Skip("for the model only")
	}
	for _, c := range []struct {
		initiates, responds, reads int
		good                       int // that many succeed, and the next one fails
		status                     string
	}{
		{1, 1, 8, 8, ""},
		{2, 4, 8, 8, ""}, // the others wait
		{4, 2, 8, 2, "remote invalid request error"},
		{4, 0, 1, 0, "remote invalid request error"},
		{0, 4, 1, 0, "local QP operation error"},
	} {
		d := open(t)
		a, b := newEnd(t, d, RemoteRead), newEnd(t, d, RemoteRead)
		connectWith(t, a, b.qp.Num, c.initiates, 4)
		connectWith(t, b, a.qp.Num, 4, c.responds)
		ro, err := b.dev.Register(b.mem, RemoteRead)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.must(ro.Close()) })
		copy(b.mem, "01234567")
		clear(a.mem)
		for i := range c.reads {
			o := a.op(OpRead, 1)
			o.SGE[0] = Piece(a.mem[i:i+1], a.key.LKey)
			o.Remote, o.RKey = Address(b.mem[i:]), ro.RKey
		}
		a.post()
		var texts []string
		for until := time.Now().Add(patience); len(texts) < c.reads && time.Now().Before(until); {
			cs, err := a.cq.Poll()
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cs {
				texts = append(texts, StatusText(c.Status))
			}
		}
		want := slices.Repeat([]string{"success"}, c.good)
		if c.status != "" {
			want = append(want, c.status)
		}
		for len(want) < c.reads {
			want = append(want, StatusText(StatusFlushed))
		}
		if got, read := strings.Join(texts, ", "), strings.TrimRight(string(a.mem[:8]), "\x00"); got != strings.Join(want, ", ") || read != "01234567"[:c.good] {
			t.Errorf("%d in flight, of a peer that allows %d: %s; read %q", c.initiates, c.responds, got, read)
		}
	}
}

// TestLossesChangeNoCompletion runs TestDevicesAgree in a process whose link loses packets: what comes of the work requests is the same.
func TestLossesChangeNoCompletion(t *testing.T) {
	if modelSymbols == nil || os.Getenv(linkEnv) != "" {
		t.Skip("for the model only")
	}
	links := []string{"loss=0.02,seed=1", "loss=0.05,seed=2,mtu=256,rate=10Gbps"}
	if testing.Short() {
		links = links[:1]
	}
	for _, link := range links {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestDevicesAgree$", "-test.v")
		cmd.Env = append(os.Environ(), linkEnv+"="+link, "KVWIRE_UPDATE=")
		out, err := cmd.CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err != nil {
			t.Fatalf("%s: %v\n%s", link, err, strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
		for _, l := range lines {
			if strings.Contains(l, "packets lost") {
				t.Logf("%s: %s", link, strings.TrimSpace(l))
			}
		}
	}
}
