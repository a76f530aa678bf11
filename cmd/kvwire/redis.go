package main

import (
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/store"
)

const redisScheme = "redis://"

// readTarget takes --target apart: host:port, of a kvwire server, or redis://[user:password@]host:port, of any that speaks Redis's
// protocol. It finds out who the client is.
func (f *factors) readTarget() error {
	if err := f.readRedis(); err != nil {
		return err
	}
	return f.readIdentity()
}

func (f *factors) readRedis() error {
	at, redis := strings.CutPrefix(f.target, redisScheme)
	if !redis {
		return nil
	}
	at, err := f.cutUser(strings.TrimSuffix(at, "/"))
	if err != nil {
		return err
	}
	f.target, f.redis = at, true
	if _, _, err := net.SplitHostPort(f.target); err != nil {
		return usagef("--target %s%s: %v (redis://127.0.0.1:6379, redis://user:password@127.0.0.1:6379; there is no database but 0)", redisScheme, at, err)
	}
	if f.transport != "tcp" && f.transport != "uring" {
		return usagef("--target %s%s needs --transport tcp or uring, not %s", redisScheme, at, f.transport)
	}
	if m, err := bench.ParseMix(f.mix); err == nil && m.Share[bench.Scan] > 0 {
		return usagef("--mix %s scans, and a Redis has no scan by key", f.mix)
	}
	return nil
}

// redisCounters are what INFO tells of a server that a row wants to know: its CPU time, and its items.
func redisCounters(info string) (c counters, err error) {
	c.Flags = map[string]string{"transport": "redis", "backend": store.Mem.String(), "wait": "block"}
	seconds := func(text string) (time.Duration, error) {
		s, err := strconv.ParseFloat(text, 64)
		if err != nil || !(s >= 0 && s < math.MaxInt64/1e9) {
			return 0, fmt.Errorf("INFO: a CPU time of %.40q s", text)
		}
		return time.Duration(s * 1e9), nil
	}
	items := uint64(0)
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "used_cpu_user":
			c.Process.User, err = seconds(value)
		case "used_cpu_sys":
			c.Process.Sys, err = seconds(value)
		case "db0":
			keys, _, _ := strings.Cut(strings.TrimPrefix(value, "keys="), ",")
			items, err = strconv.ParseUint(keys, 10, 64)
		}
		if err != nil {
			return c, fmt.Errorf("the server's INFO: %.100q: %w", line, err)
		}
	}
	c.Stores = []store.Stats{{Items: items}}
	return c, nil
}
