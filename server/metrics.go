package server

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvwire/kvwire/store"
	"github.com/kvwire/kvwire/transport"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Bounds of the metrics port, in the order of the constants: open connections, requests at the same time, time to read a request, to compute the reply,
// and to write it, idle time of a connection, and bytes of a request's header.
const (
	metricsConns    = 16
	metricsRequests = 4
	metricsReadMax  = 3 * time.Second
	metricsAskMax   = 5 * time.Second
	metricsWriteMax = 15 * time.Second
	metricsIdleMax  = 2 * time.Minute
	metricsHeadMax  = 8 << 10
)

// metric is one Prometheus metric, whose value is read from a T.
type metric[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*T) uint64
}

// counter makes a metric with a label that never falls; gauge makes one that may fall.
func counter[T any](label, name, help string, value func(*T) uint64) metric[T] {
	return metric[T]{prometheus.NewDesc("kvwire_"+name, help, []string{label}, nil), prometheus.CounterValue, value}
}

func gauge[T any](label, name, help string, value func(*T) uint64) metric[T] {
	return metric[T]{prometheus.NewDesc("kvwire_"+name, help, []string{label}, nil), prometheus.GaugeValue, value}
}

// loopMetrics are the metrics of each loop and of the networks on it.
var loopMetrics = []metric[transport.LoopCounters]{
	counter("loop", "loop_turns_total", "Turns of the loop.", func(s *transport.LoopCounters) uint64 { return s.Turns }),
	counter("loop", "loop_empty_turns_total", "Turns that found nothing.", func(s *transport.LoopCounters) uint64 { return s.EmptyTurns }),
	counter("loop", "loop_sleeps_total", "Times that the loop went to sleep in the kernel.", func(s *transport.LoopCounters) uint64 { return s.Sleeps }),
	counter("loop", "loop_wakes_total", "Wake-ups that the loop sent to other loops.", func(s *transport.LoopCounters) uint64 { return s.Wakes }),
	counter("loop", "loop_syscalls_total", "System calls of the loop and its members.", func(s *transport.LoopCounters) uint64 { return s.Syscalls }),
	counter("loop", "loop_mail_total", "Requests and replies from other loops.", func(s *transport.LoopCounters) uint64 { return s.Mail }),
	counter("loop", "loop_completions_total", "Requests whose completion was delivered.", func(s *transport.LoopCounters) uint64 { return s.Delivered }),
	counter("loop", "loop_copied_bytes_total", "Bytes copied in user space on the data path.", func(s *transport.LoopCounters) uint64 { return s.Copied }),

	counter("loop", "ring_enters_total", "Calls of io_uring_enter.", func(s *transport.LoopCounters) uint64 { return s.Enters }),
	counter("loop", "ring_submissions_total", "Entries that were submitted to io_uring.", func(s *transport.LoopCounters) uint64 { return s.SQEs }),
	counter("loop", "ring_completions_total", "Completions of io_uring.", func(s *transport.LoopCounters) uint64 { return s.CQEs }),
	counter("loop", "ring_overflows_total", "Times that completions waited outside of a full queue.", func(s *transport.LoopCounters) uint64 { return s.Overflows }),

	counter("loop", "socket_sends_total", "Sends to sockets: system calls or entries of io_uring.", func(s *transport.LoopCounters) uint64 { return s.Sends }),
	counter("loop", "socket_receives_total", "Receives from sockets, system calls or ring entries, including those that found nothing.", func(s *transport.LoopCounters) uint64 { return s.Receives }),
	counter("loop", "socket_shorts_total", "Sends and receives that ended short and were continued.", func(s *transport.LoopCounters) uint64 { return s.Shorts }),
	counter("loop", "socket_no_buffers_total", "Receives that found no provided buffer.", func(s *transport.LoopCounters) uint64 { return s.NoBuffers }),
	counter("loop", "socket_zero_copies_total", "Sends without a copy whose memory the kernel has released.", func(s *transport.LoopCounters) uint64 { return s.ZeroCopies }),
	counter("loop", "socket_zero_copies_copied_total", "Those of these sends that the kernel copied nevertheless.", func(s *transport.LoopCounters) uint64 { return s.ZeroCopied }),
	counter("loop", "udp_packets_total", "Datagrams given to the kernel.", func(s *transport.LoopCounters) uint64 { return s.Packets }),
	counter("loop", "udp_retransmissions_total", "Datagrams of requests, and of what asks for replies, that were sent again.", func(s *transport.LoopCounters) uint64 { return s.Retransmits }),
	counter("loop", "udp_timeouts_total", "Requests over datagrams whose time-out passed without progress.", func(s *transport.LoopCounters) uint64 { return s.Timeouts }),
	counter("loop", "udp_stalls_total", "Times that a request had something to send, and its connection no credit.", func(s *transport.LoopCounters) uint64 { return s.Stalls }),
	counter("loop", "udp_round_trips_total", "Round trips of datagrams that were measured.", func(s *transport.LoopCounters) uint64 { return s.RoundTrips }),
	counter("loop", "udp_round_trip_time_total", "Sum of these round trips, in ns, without the server's time.", func(s *transport.LoopCounters) uint64 { return s.RoundTripNs }),
	counter("loop", "udp_garbage_total", "Datagrams received that fit no connection or no state, and were dropped.", func(s *transport.LoopCounters) uint64 { return s.Garbage }),
	counter("loop", "udp_duplicates_total", "Datagrams received with a part of a request that was there already.", func(s *transport.LoopCounters) uint64 { return s.Duplicates }),
	counter("loop", "denied_total", "Attempts to connect that were denied: wrong secrets, passwords or TLS handshakes.", func(s *transport.LoopCounters) uint64 { return s.Denied }),

	counter("loop", "rdma_c_calls_total", "Calls into C.", func(s *transport.LoopCounters) uint64 { return s.CCalls }),
	counter("loop", "rdma_doorbells_total", "Posts to send queues.", func(s *transport.LoopCounters) uint64 { return s.Bells }),
	counter("loop", "rdma_work_requests_total", "Work requests posted to send queues.", func(s *transport.LoopCounters) uint64 { return s.WRs }),
	counter("loop", "rdma_polls_total", "Polls of completion queues.", func(s *transport.LoopCounters) uint64 { return s.Polls }),
	counter("loop", "rdma_empty_polls_total", "Polls that found nothing.", func(s *transport.LoopCounters) uint64 { return s.EmptyPolls }),
	counter("loop", "rdma_completions_total", "Work completions that polls found.", func(s *transport.LoopCounters) uint64 { return s.WCs }),
}

// transportMetrics are the metrics of the connections on each network loop.
var transportMetrics = []metric[transport.Stats]{
	gauge("loop", "connections", "Connections that are open.", func(s *transport.Stats) uint64 { return uint64(s.Conns) }),
	gauge("loop", "connections_paused", "Open connections from which the server reads nothing until memory is free.", func(s *transport.Stats) uint64 { return uint64(s.Paused) }),
	counter("loop", "connections_opened_total", "Connections that were accepted.", func(s *transport.Stats) uint64 { return s.Opened }),
	counter("loop", "connections_refused_total", "Connections that were refused with a code.", func(s *transport.Stats) uint64 { return s.Refused }),
	counter("loop", "requests_total", "Requests received.", func(s *transport.Stats) uint64 { return s.Requests }),
	counter("loop", "requests_unanswered_total", "Requests whose answer was not sent when the server ended their connection.", func(s *transport.Stats) uint64 { return s.Unanswered }),
	counter("loop", "received_bytes_total", "Bytes received from clients.", func(s *transport.Stats) uint64 { return s.BytesIn }),
	counter("loop", "sent_bytes_total", "Bytes sent to clients.", func(s *transport.Stats) uint64 { return s.BytesOut }),
	gauge("loop", "connection_memory_bytes", "Memory that connections hold.", func(s *transport.Stats) uint64 { return uint64(s.ConnBytes) }),
	gauge("loop", "connection_memory_limit_bytes", "Most memory that connections may hold.", func(s *transport.Stats) uint64 { return uint64(s.ConnBytesMax) }),
	gauge("loop", "message_memory_bytes", "Memory of keys and values of requests in flight.", func(s *transport.Stats) uint64 { return uint64(s.PoolBytes) }),
	gauge("loop", "message_memory_limit_bytes", "Most memory for keys and values of requests in flight.", func(s *transport.Stats) uint64 { return uint64(s.PoolBytesMax) }),
}

// storeMetrics are the metrics of each partition.
var storeMetrics = []metric[store.Stats]{
	gauge("partition", "store_keys", "Keys that have an item.", func(s *store.Stats) uint64 { return s.Items }),
	gauge("partition", "store_tombstones", "Deleted keys of which older copies may be on disk.", func(s *store.Stats) uint64 { return s.Tombstones }),
	gauge("partition", "store_used_bytes", "Bytes of the slots that have items.", func(s *store.Stats) uint64 { return s.UsedBytes }),
	gauge("partition", "store_file_bytes", "Bytes of all slots, in files or memory.", func(s *store.Stats) uint64 { return s.FileBytes }),
	gauge("partition", "store_index_bytes", "Memory of the index.", func(s *store.Stats) uint64 { return s.IndexBytes }),
	gauge("partition", "store_buffer_bytes", "Memory for items larger than a page.", func(s *store.Stats) uint64 { return s.BufferBytes }),
	gauge("partition", "store_cache_bytes", "Memory of the page cache.", func(s *store.Stats) uint64 { return s.CacheBytes }),
	counter("partition", "store_cache_hits_total", "Pages that were in the cache.", func(s *store.Stats) uint64 { return s.CacheHits }),
	counter("partition", "store_cache_misses_total", "Pages that were read.", func(s *store.Stats) uint64 { return s.CacheMisses }),
	counter("partition", "store_cache_joins_total", "Requests that found their page being read.", func(s *store.Stats) uint64 { return s.CacheJoins }),
	counter("partition", "store_corrupt_items_total", "Corrupt items found while opening, and requests for a corrupt item.", func(s *store.Stats) uint64 { return s.CorruptItems }),
	gauge("partition", "store_unreadable_slots", "Slots that could not be read while opening.", func(s *store.Stats) uint64 { return s.UnreadableSlots }),
	gauge("partition", "store_lost_pages", "Lost pages found while opening and accepted (--accept-loss).", func(s *store.Stats) uint64 { return s.LostPages }),
	gauge("partition", "store_unfinished_writes", "Writes that a crash had interrupted, found while opening.", func(s *store.Stats) uint64 { return s.UnfinishedWrites }),

	counter("partition", "disk_reads_total", "Reads from the disk.", func(s *store.Stats) uint64 { return s.DiskReads }),
	counter("partition", "disk_read_bytes_total", "Bytes read from the disk.", func(s *store.Stats) uint64 { return s.DiskReadBytes }),
	counter("partition", "disk_writes_total", "Writes to the disk, each flushed with --durability flush.", func(s *store.Stats) uint64 { return s.DiskWrites }),
	counter("partition", "disk_written_bytes_total", "Bytes written to the disk.", func(s *store.Stats) uint64 { return s.DiskWriteBytes }),
	counter("partition", "disk_errors_total", "Reads and writes that failed.", func(s *store.Stats) uint64 { return s.IOErrors }),
	counter("partition", "disk_syscalls_total", "System calls made for reads and writes.", func(s *store.Stats) uint64 { return s.Disk.Syscalls }),
	counter("partition", "disk_batches_total", "Batches of reads and writes submitted to the disk engine.", func(s *store.Stats) uint64 { return s.Disk.Batches }),
	counter("partition", "disk_transfers_total", "Reads and writes in these batches.", func(s *store.Stats) uint64 { return s.Disk.Transfers }),
	counter("partition", "disk_depth_total", "Sum of the reads and writes in flight after each batch; divided by the number of batches: the mean depth.", func(s *store.Stats) uint64 { return s.Disk.DepthSum }),
	gauge("partition", "disk_depth_max", "Most reads and writes that were in flight.", func(s *store.Stats) uint64 { return uint64(s.Disk.DepthMax) }),
	gauge("partition", "disk_direct", "1: files are open with O_DIRECT.", func(s *store.Stats) uint64 { return one(s.DirectIO) }),
	gauge("partition", "disk_fixed_buffers", "1: memory is registered with the ring.", func(s *store.Stats) uint64 { return one(s.FixedBuffers) }),
	gauge("partition", "disk_fixed_files", "1: files are registered with the ring.", func(s *store.Stats) uint64 { return one(s.Disk.FixedFiles) }),
}

func one(is bool) uint64 {
	if is {
		return 1
	}
	return 0
}

var serverInfo = prometheus.NewDesc("kvwire_server_info", "What the server is, in its labels.", []string{"version", "transport", "backend", "engine", "placement"}, nil)

// Labels are the labels of the metric kvwire_server_info.
type Labels struct{ Version, Transport, Backend, Engine, Placement string }

// serverCollector reads a server's counters at each scrape. Counters belong to their loops, so each loop's are read on its own goroutine, between two
// pieces of its work.
type serverCollector struct {
	s  *Server
	of Labels
	mu sync.Mutex // one scrape at a time
}

var _ prometheus.Collector = (*serverCollector)(nil)

// Describe implements prometheus.Collector.
func (c *serverCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- serverInfo
	describe(ch, loopMetrics)
	describe(ch, transportMetrics)
	describe(ch, storeMetrics)
}

func describe[T any](ch chan<- *prometheus.Desc, ms []metric[T]) {
	for _, m := range ms {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector. It blocks until each loop has answered. If the loops are parked, it reports their counters from the moment of
// parking.
func (c *serverCollector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.s
	n, err := s.snapshot()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(serverInfo, fmt.Errorf("a loop has ended: %w", err))
		return
	}
	ch <- prometheus.MustNewConstMetric(serverInfo, prometheus.GaugeValue, 1, c.of.Version, c.of.Transport, c.of.Backend, c.of.Engine, c.of.Placement)
	for i, l := range s.group.All() {
		collect(ch, loopMetrics, l.Name(), &n.loops[i])
	}
	for i, l := range s.group.Net() {
		collect(ch, transportMetrics, l.Name(), &n.conns[i])
	}
	for i := range n.stores {
		collect(ch, storeMetrics, strconv.Itoa(i), &n.stores[i])
	}
}

func collect[T any](ch chan<- prometheus.Metric, ms []metric[T], label string, from *T) {
	for _, m := range ms {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(m.value(from)), label)
	}
}

// Metrics is an HTTP server of /metrics. The zero value has no port.
type Metrics struct {
	l     net.Listener
	srv   *http.Server
	ended chan struct{}
}

// ServeMetrics serves the server's counters on addr, host:port; if addr is "", it returns the zero value. The caller closes m.
func (s *Server) ServeMetrics(addr string, of Labels) (m Metrics, err error) {
	if addr == "" {
		return m, nil
	}
	if m.l, err = net.Listen("tcp", addr); err != nil {
		return m, fmt.Errorf("--metrics: %w", err)
	}
	r := prometheus.NewPedanticRegistry()
	for _, c := range []prometheus.Collector{&serverCollector{s: s, of: of}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := r.Register(c); err != nil {
			_ = m.l.Close()
			return Metrics{}, fmt.Errorf("--metrics: %w", err)
		}
	}
	complaints := slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorLog: complaints, MaxRequestsInFlight: metricsRequests, Timeout: metricsAskMax}))
	var conns atomic.Int32
	m.srv = &http.Server{Handler: mux, ErrorLog: complaints, ReadHeaderTimeout: metricsReadMax, ReadTimeout: metricsReadMax,
		WriteTimeout: metricsWriteMax, IdleTimeout: metricsIdleMax, MaxHeaderBytes: metricsHeadMax, ConnState: func(c net.Conn, to http.ConnState) {
			switch to {
			case http.StateNew:
				if conns.Add(1) > metricsConns {
					_ = c.Close()
				}
			case http.StateClosed:
				conns.Add(-1)
			}
		}}
	m.ended = make(chan struct{})
	go func() {
		_ = m.srv.Serve(m.l) // until Close
		close(m.ended)
	}()
	return m, nil
}

// Addr is the address of the port; "": there is none.
func (m *Metrics) Addr() string {
	if m.l == nil {
		return ""
	}
	return m.l.Addr().String()
}

// Close closes the port and its connections, and waits for the goroutine that serves them. On the zero value it does nothing.
func (m *Metrics) Close() {
	if m.srv != nil {
		_ = m.srv.Close()
		<-m.ended
	}
}
