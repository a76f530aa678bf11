package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// scrape fetches what a server counts, as Prometheus reads it.
func (s *serving) scrape() (map[string]*dto.MetricFamily, []byte) {
	s.t.Helper()
	a, err := http.Get("http://" + s.hello.Metrics + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != http.StatusOK {
		s.t.Fatalf("%s, %v: %.300s", a.Status, err, b)
	}
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(b))
	if err != nil {
		s.t.Fatal(err)
	}
	return families, b
}

// sum adds a metric up over its loops or partitions; below 0: there is none.
func sum(families map[string]*dto.MetricFamily, name string) float64 {
	f := families["kvwire_"+name]
	if f == nil {
		return -1
	}
	n := 0.0
	for _, m := range f.Metric {
		n += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return n
}

// The metrics count the requests, have Prometheus's format, and contain every loop and partition once.
func TestMetricsCountWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte("ann rw the-secret-of-ann\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, "--transport", "tcp", "--dir", t.TempDir(), "--disk-engine", "pool", "--server-threads", "2", "--metrics", "127.0.0.1:0", "--auth-file", users)
	before, text := s.scrape()
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "kvwire_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{"go_goroutines", "process_open_fds"} {
		if before[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	for _, name := range []string{"requests_total", "connections", "connections_opened_total", "denied_total", "store_keys", "disk_writes_total", "disk_errors_total"} {
		if n := sum(before, name); n != 0 {
			t.Errorf("%s is %v before the first request", name, n)
		}
	}
	c := s.dial()
	const puts, gets = 100, 50
	say := "AUTH wrong-secret\r\nAUTH the-secret-of-ann\r\n"
	want := "-WRONGPASS invalid username-password pair or user is disabled.\r\n+OK\r\n"
	for i := range puts {
		say += fmt.Sprintf("SET key%d value%d\r\n", i, i)
	}
	want += strings.Repeat("+OK\r\n", puts)
	for i := range gets {
		say += fmt.Sprintf("GET none%d\r\n", i)
	}
	want += strings.Repeat("$-1\r\n", gets)
	_, _ = io.WriteString(c, say)
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v", got[:n], err)
	}
	after, _ := s.scrape()
	for name, want := range map[string]float64{"requests_total": puts + gets, "connections": 1, "connections_opened_total": 1, "denied_total": 1,
		"store_keys": puts, "received_bytes_total": float64(len(say)), "disk_errors_total": 0, "requests_unanswered_total": 0, "message_memory_bytes": 0} {
		if n := sum(after, name); n != want {
			t.Errorf("%s is %v after %d puts and %d gets, want %v", name, n, puts, gets, want)
		}
	}
	for _, name := range []string{"loop_turns_total", "loop_syscalls_total", "socket_sends_total", "sent_bytes_total", "disk_writes_total", "disk_written_bytes_total", "connection_memory_bytes"} {
		if sum(after, name) <= sum(before, name) {
			t.Errorf("%s went from %v to %v", name, sum(before, name), sum(after, name))
		}
	}
	for name, f := range after {
		if strings.HasPrefix(name, "kvwire_") && name != "kvwire_server_info" && len(f.Metric) != 2 {
			t.Errorf("%s has %d values with 2 loops and partitions", name, len(f.Metric))
		}
	}
	if a, err := http.Get("http://" + s.hello.Metrics + "/"); err != nil || a.StatusCode != http.StatusNotFound {
		t.Errorf("elsewhere there is %+v, %v", a, err)
	}
	s.signal()
	s.end(0)
}

// Clients of the port that send nothing, or do not read their answer, are bounded in number and in time.
func TestMetricsPortIsBounded(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--transport", "tcp", "--backend", "null", "--metrics", "127.0.0.1:0")
	dial := func() net.Conn {
		c, err := net.DialTimeout("tcp", s.hello.Metrics, patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		return c
	}
	silent := make([]net.Conn, 16) // as many as server.Metrics takes
	for i := range silent {
		silent[i] = dial()
		_, _ = io.WriteString(silent[i], "GET /metrics HT")
	}
	if n, err := dial().Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("one connection too many: %v", err)
	}
	for _, c := range silent {
		if b, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a silent connection is still open: %q", b)
		}
	}
	if f, _ := s.scrape(); sum(f, "connections") != 0 {
		t.Errorf("connections of the port are none of the server's")
	}
	c := dial() // in the middle of whose requests the server ends
	_, _ = io.WriteString(c, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 20))
	s.signal()
	s.end(0)
}
