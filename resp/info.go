package resp

import (
	"fmt"
	"time"
)

// Facts are the values for INFO. Unknown ones are left out.
type Facts struct {
	Version string // of kvwire; "": not known
	OS      string // likewise
	PID     int
	Port    int
	Uptime  time.Duration

	Conns, ConnsMax int
	MemoryBytes     uint64 // resident; 0: not known

	Opened, Rejected, Commands, BytesIn, BytesOut uint64

	User, Sys time.Duration
	Items     uint64
}

// sections are the sections of INFO, in their order. A section's number is its index.
var sections = []struct {
	name   string // as in its heading
	append func(b []byte, i *Facts) []byte
}{
	{"Server", func(b []byte, i *Facts) []byte {
		b = fmt.Appendf(b, "redis_version:%s\r\nredis_mode:standalone\r\nserver_name:kvwire\r\n", redisVersion)
		if i.Version != "" {
			b = fmt.Appendf(b, "kvwire_version:%s\r\n", i.Version)
		}
		if i.OS != "" {
			b = fmt.Appendf(b, "os:%s\r\n", i.OS)
		}
		seconds := int64(i.Uptime.Seconds())
		return fmt.Appendf(b, "arch_bits:64\r\nprocess_id:%d\r\ntcp_port:%d\r\nuptime_in_seconds:%d\r\nuptime_in_days:%d\r\n", i.PID, i.Port, seconds, seconds/(24*60*60))
	}},
	{"Clients", func(b []byte, i *Facts) []byte {
		return fmt.Appendf(b, "connected_clients:%d\r\nmaxclients:%d\r\n", i.Conns, i.ConnsMax)
	}},
	{"Memory", func(b []byte, i *Facts) []byte {
		if i.MemoryBytes > 0 {
			b = fmt.Appendf(b, "used_memory:%d\r\nused_memory_human:%s\r\nused_memory_rss:%d\r\n", i.MemoryBytes, human(i.MemoryBytes), i.MemoryBytes)
		}
		return append(b, "maxmemory:0\r\n"...) // no keys are evicted
	}},
	{"Stats", func(b []byte, i *Facts) []byte {
		return fmt.Appendf(b, "total_connections_received:%d\r\ntotal_commands_processed:%d\r\ntotal_net_input_bytes:%d\r\ntotal_net_output_bytes:%d\r\nrejected_connections:%d\r\n",
			i.Opened, i.Commands, i.BytesIn, i.BytesOut, i.Rejected)
	}},
	{"Replication", func(b []byte, i *Facts) []byte {
		return append(b, "role:master\r\nconnected_slaves:0\r\n"...)
	}},
	{"CPU", func(b []byte, i *Facts) []byte {
		return fmt.Appendf(b, "used_cpu_sys:%.6f\r\nused_cpu_user:%.6f\r\n", i.Sys.Seconds(), i.User.Seconds())
	}},
	{"Keyspace", func(b []byte, i *Facts) []byte {
		if i.Items > 0 {
			b = fmt.Appendf(b, "db0:keys=%d,expires=0,avg_ttl=0\r\n", i.Items)
		}
		return b
	}},
}

// human formats a number of bytes as Redis does for *_human.
func human(n uint64) string {
	switch v := float64(n); {
	case n < 1<<10:
		return fmt.Sprintf("%dB", n)
	case n < 1<<20:
		return fmt.Sprintf("%.2fK", v/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.2fM", v/(1<<20))
	default:
		return fmt.Sprintf("%.2fG", v/(1<<30))
	}
}

// ReadInfo appends the numbers of the sections that INFO's arguments name, each once; without arguments, all of them. It ignores names of unknown
// sections.
func ReadInfo(numbers []byte, args [][]byte) []byte {
	for i := range sections {
		named := len(args) == 0
		for _, a := range args {
			named = named || is(a, sections[i].name) || is(a, "default") || is(a, "all") || is(a, "everything")
		}
		if named {
			numbers = append(numbers, byte(i))
		}
	}
	return numbers
}

// Append appends the text of the sections with these numbers.
func (i *Facts) Append(b, numbers []byte) []byte {
	for nth, s := range numbers {
		if nth > 0 {
			b = append(b, "\r\n"...)
		}
		b = fmt.Appendf(b, "# %s\r\n", sections[s].name)
		b = sections[s].append(b, i)
	}
	return b
}
