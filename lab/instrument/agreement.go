package instrument

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/lab/stats"
	"github.com/kvwire/kvwire/report"
)

// The agreement with redis-benchmark: one kvwire server, with backend mem, speaks Redis's protocol. Both clients load it alternately, with as
// many connections and requests in flight, on the same CPUs.

// agreementLoads are the loads: connections, and requests in flight on each.
var agreementLoads = []struct{ conns, depth int }{{1, 1}, {4, 16}, {50, 1}}

const (
	agreementRecords = 1000
	agreementBytes   = 64
	agreementWindow  = time.Second // of a run, about
	agreementWarmup  = 100 * time.Millisecond
	agreementExtra   = 500 * time.Millisecond // duration of a run besides its window
	redisProbe       = 20_000                 // requests of redis-benchmark, to estimate how many requests take agreementWindow
	redisTimeout     = 60 * time.Second
)

// agreementResult holds the results of both clients.
type agreementResult struct {
	Skipped string          `json:"skipped,omitempty"` // why it was not measured
	Loads   []agreementLoad `json:"loads,omitempty"`
}

// agreementLoad is one load by both clients: rates in operations per second, and the client's CPU time in ns per operation.
type agreementLoad struct {
	Conns     int       `json:"conns"`
	Depth     int       `json:"depth"`
	Redis     []float64 `json:"redis_benchmark_ops_per_s"`
	Kvwire    []float64 `json:"kvwire_ops_per_s"`
	RedisCPU  []float64 `json:"redis_benchmark_cpu_ns_per_op"`
	KvwireCPU []float64 `json:"kvwire_client_cpu_ns_per_op"`
	Ratio     float64   `json:"ratio"` // of kvwire's rate to redis-benchmark's, by Hodges and Lehmann; 0: no pairs
	Low       float64   `json:"low"`
	High      float64   `json:"high"`
	Level     float64   `json:"level"` // that the interval covers
}

// agreementTime estimates the duration of the agreement.
func (i *test) agreementTime() time.Duration {
	return time.Duration(i.Pairs*len(agreementLoads)*2) * (agreementWindow + agreementExtra)
}

// agreementMissing is why the agreement cannot be measured here; "": it can.
func (i *test) agreementMissing() string {
	if i.Pairs == 0 {
		return "it was not asked for"
	}
	for _, name := range []string{"redis-benchmark", "taskset"} {
		if _, err := exec.LookPath(name); err != nil {
			return name + " is not installed"
		}
	}
	return ""
}

// agreement measures the agreement. The end of ctx is no error: the complete pairs count.
func (i *test) agreement(ctx context.Context) (*agreementResult, error) {
	if why := i.agreementMissing(); why != "" {
		return &agreementResult{Skipped: why}, nil
	}
	addr, cpus, stop, err := i.Serve(ctx)
	if err != nil {
		return nil, err
	}
	r, err := i.agree(ctx, &peer{addr: addr, cpus: cpus, run: i.Run})
	if ctx.Err() != nil {
		err = nil
	}
	return r, errors.Join(err, stop())
}

// agree loads the records of both clients, and makes the pairs of runs, each in a random order.
func (i *test) agree(ctx context.Context, p *peer) (*agreementResult, error) {
	r := &agreementResult{}
	if _, err := p.redis(ctx, 4, 16, redisProbe, "set"); err != nil { // 20 times as many sets as there are keys: e^-20 of them have none
		return r, err
	}
	if _, err := p.run(ctx, "load", p.kvwireArgs("load")); err != nil {
		return r, fmt.Errorf("kvwire load: %w", err)
	}
	for _, load := range agreementLoads {
		probe, err := p.redis(ctx, load.conns, load.depth, redisProbe, "get")
		if err != nil {
			return r, err
		}
		requests := max(redisProbe, int(probe.rate*agreementWindow.Seconds()))
		l := agreementLoad{Conns: load.conns, Depth: load.depth}
		for n := range i.Pairs {
			i.show.line.Show("%s: %d x %d, pair %d of %d", i.show.part, l.Conns, l.Depth, n+1, i.Pairs)
			theirs, ours, err := p.pair(ctx, load.conns, load.depth, requests)
			if err != nil {
				r.Loads = append(r.Loads, l)
				return r, err
			}
			l.Redis, l.Kvwire = append(l.Redis, theirs.rate), append(l.Kvwire, ours.rate)
			l.RedisCPU, l.KvwireCPU = append(l.RedisCPU, theirs.cpu), append(l.KvwireCPU, ours.cpu)
			if err := l.compare(); err != nil {
				return r, err
			}
		}
		r.Loads = append(r.Loads, l)
	}
	return r, nil
}

// compare computes the ratio from the complete pairs.
func (l *agreementLoad) compare() error {
	var d []float64
	for i := range l.Redis {
		d = append(d, math.Log(l.Kvwire[i]/l.Redis[i]))
	}
	e, err := stats.Paired(d, 0.95)
	if err != nil {
		return err
	}
	l.Ratio, l.Low, l.High, l.Level = math.Exp(e.Estimate), math.Exp(e.Low), math.Exp(e.High), e.Level
	return nil
}

// peer describes the server for both clients.
type peer struct {
	addr string // host:port
	cpus string // of the clients
	run  func(ctx context.Context, name string, args []string) ([]byte, error)
}

// clientRun is the result of one run of a client.
type clientRun struct {
	rate float64 // operations per second
	cpu  float64 // its CPU time, ns per operation
}

// pair is a run of each client, in a random order.
func (p *peer) pair(ctx context.Context, conns, depth, requests int) (theirs, ours clientRun, err error) {
	runs := []func() error{
		func() (err error) { theirs, err = p.redis(ctx, conns, depth, requests, "get"); return err },
		func() (err error) { ours, err = p.kvwire(ctx, conns, depth); return err },
	}
	if rand.IntN(2) == 1 {
		slices.Reverse(runs)
	}
	return theirs, ours, errors.Join(runs[0](), runs[1]())
}

// redis runs redis-benchmark. Its CPU time includes its start.
func (p *peer) redis(ctx context.Context, conns, depth, requests int, op string) (r clientRun, err error) {
	host, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "taskset", "-c", p.cpus, "redis-benchmark", "-h", host, "-p", port, "-c", strconv.Itoa(conns), "-P", strconv.Itoa(depth),
		"-d", strconv.Itoa(agreementBytes), "-r", strconv.Itoa(agreementRecords), "-n", strconv.Itoa(requests), "-t", op, "--csv")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // ^C must reach only this process
	out, err := cmd.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) && len(exit.Stderr) > 0 {
		err = fmt.Errorf("%w: %s", err, quote.Line(string(exit.Stderr)))
	}
	if err != nil {
		return r, fmt.Errorf("redis-benchmark, %d x %d: %w", conns, depth, err)
	}
	r.cpu = float64(cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()) / float64(requests)
	r.rate, err = redisRate(string(out))
	return r, err
}

// redisRate is the rate in the last line of redis-benchmark's CSV: "GET","325203.25",…
func redisRate(csv string) (float64, error) {
	lines := strings.Split(strings.TrimSpace(csv), "\n")
	last := lines[len(lines)-1]
	if fields := strings.Split(last, ","); len(fields) > 1 {
		if rate, err := strconv.ParseFloat(strings.Trim(fields[1], `"`), 64); err == nil && rate > 0 {
			return rate, nil
		}
	}
	return 0, fmt.Errorf("redis-benchmark printed %.100q, which has no rate", last)
}

// kvwireArgs are the arguments of both of kvwire's commands.
func (p *peer) kvwireArgs(more ...string) []string {
	return append(more, "--target=redis://"+p.addr, "--transport=tcp", fmt.Sprintf("--records=%d", agreementRecords), fmt.Sprintf("--value-bytes=%d", agreementBytes), "--client-cpus="+p.cpus)
}

// kvwire runs kvwire bench.
func (p *peer) kvwire(ctx context.Context, conns, depth int) (r clientRun, err error) {
	out, err := p.run(ctx, "bench", append(p.kvwireArgs("bench"), fmt.Sprintf("--conns=%d", conns), fmt.Sprintf("--depth=%d", depth), "--mix=get", "--key-dist=uniform",
		"--duration="+agreementWindow.String(), "--warmup="+agreementWarmup.String(), "--json"))
	if err != nil {
		return r, fmt.Errorf("kvwire bench, %d x %d: %w", conns, depth, err)
	}
	if err := ctx.Err(); err != nil {
		return r, err
	}
	var row report.Row
	if err := json.Unmarshal(out, &row); err != nil {
		return r, fmt.Errorf("kvwire bench: %w", err)
	}
	rate, ok := row.OpsPerS.Get()
	user, _ := row.ClientUserNsPerOp.Get()
	sys, _ := row.ClientSysNsPerOp.Get()
	if !ok || rate <= 0 {
		return r, errors.New("kvwire bench completed no operation")
	}
	return clientRun{rate, user + sys}, nil
}
