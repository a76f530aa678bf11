package report

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"
)

// SlicesFile is the name of the file of slices in a folder of results.
const SlicesFile = "slices.csv"

// Slice is one slice of one variant: a line of slices.csv, with the columns in their order. Times and counters are of this slice alone.
// Empty means NA: does not apply, or is not known.
type Slice struct {
	// Identity.
	RunID      string `csv:"run_id"` // the row of runs.csv that combines all slices of its generation and variant
	Question   string `csv:"question"`
	Cell       Int    `csv:"cell"`
	Variant    string `csv:"variant"`
	Generation Int    `csv:"generation"`
	Slice      Int    `csv:"slice"` // number within the generation and variant, from 1
	Round      Int    `csv:"round"` // number in the generation, from 1; a round has one slice of each variant
	Place      Int    `csv:"place"` // in the round, from 1
	After      string `csv:"after"` // the variant whose slice came before; "" for the first
	StartedAt  string `csv:"started_at"`

	// Outcome, of the window.
	SettleNs Int   `csv:"settle_ns"` // under load, before the window
	WindowNs Int   `csv:"window_ns"`
	DrainNs  Int   `csv:"drain_ns"` // from the end of the window until nothing was in flight
	Ops      Uint  `csv:"ops"`
	SliceOps Uint  `csv:"slice_ops"` // from resume to park, to which the costs refer
	Errors   Uint  `csv:"errors"`
	OpsPerS  Float `csv:"ops_per_s"`
	LatP50Ns Int   `csv:"lat_p50_ns"`
	LatP90Ns Int   `csv:"lat_p90_ns"`
	LatP99Ns Int   `csv:"lat_p99_ns"`

	// CPU time, from resume to park, by the clock of each process.
	ClientCPUNs       Int   `csv:"client_cpu_ns"`
	ServerCPUNs       Int   `csv:"server_cpu_ns"`
	CPUNsPerOp        Float `csv:"cpu_ns_per_op"` // of both processes, divided by slice_ops
	ParkedNs          Int   `csv:"parked_ns"`     // time parked before this slice
	ClientParkedCPUNs Int   `csv:"client_parked_cpu_ns"`
	ServerParkedCPUNs Int   `csv:"server_parked_cpu_ns"`
	HostSoftirqNs     Int   `csv:"host_softirq_ns"`
	KsoftirqdNs       Int   `csv:"ksoftirqd_ns"`
	StealRatio        Float `csv:"steal_ratio"`
	ForeignCPURatio   Float `csv:"foreign_cpu_ratio"`

	// Counters, from resume to park.
	ClientSyscalls Uint `csv:"client_syscalls"`
	ServerSyscalls Uint `csv:"server_syscalls"`
	ClientEnters   Uint `csv:"client_enters"`
	ServerEnters   Uint `csv:"server_enters"`
	ClientSQEs     Uint `csv:"client_sqes"`
	ServerSQEs     Uint `csv:"server_sqes"`
	ClientCQEs     Uint `csv:"client_cqes"`
	ServerCQEs     Uint `csv:"server_cqes"`
	Sends          Uint `csv:"sends"`
	Receives       Uint `csv:"receives"`
	RDMAPosts      Uint `csv:"rdma_posts"`
	RDMAWRs        Uint `csv:"rdma_wrs"`
	RDMAPolls      Uint `csv:"rdma_polls"`
	CtxswVol       Uint `csv:"ctxsw_vol"`
	CtxswInvol     Uint `csv:"ctxsw_invol"`
	BytesCopied    Uint `csv:"bytes_copied"`
	DiskReads      Uint `csv:"disk_reads"`
	DiskWrites     Uint `csv:"disk_writes"`

	// Generator and wire.
	MaxInflight   Int   `csv:"max_inflight"`
	AchievedRatio Float `csv:"achieved_ratio"`
	MissedSends   Uint  `csv:"missed_sends"`
	TCPCwnd       Int   `csv:"tcp_cwnd"`
}

var sliceSchema = schemaOf[Slice](nil, sliceMeanings, nil)

// SliceColumns are the names of the columns of slices.csv, in order.
func SliceColumns() []string { return sliceSchema.names() }

// Fields are the slice's values as text, in the order of the columns.
func (s *Slice) Fields() []string { return sliceSchema.fields(reflect.ValueOf(s).Elem()) }

// Set sets a column from its text in slices.csv.
func (s *Slice) Set(name, value string) error {
	return sliceSchema.set(reflect.ValueOf(s).Elem(), name, value)
}

// MarshalJSON encodes the slice with the columns' names, in their order, without columns that are NA.
func (s Slice) MarshalJSON() ([]byte, error) { return sliceSchema.marshal(reflect.ValueOf(&s).Elem()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Slice) UnmarshalJSON(b []byte) error {
	*s = Slice{}
	return sliceSchema.unmarshal(reflect.ValueOf(s).Elem(), b)
}

// calm reports whether the hypervisor took no CPU time in the slice, as far as is known.
func (s *Slice) calm() bool {
	steal, _ := s.StealRatio.Get()
	return steal == 0
}

// stalled reports whether no operation was completed in the window.
func (s *Slice) stalled() bool {
	ops, ok := s.Ops.Get()
	return ok && ops == 0
}

// SliceWriter appends to slices.csv. It belongs to one goroutine.
type SliceWriter struct {
	f *os.File
	w *csv.Writer
}

// OpenSlices opens a file of slices for appending. A new file gets the header. From an existing file an incomplete last line is
// removed; its header must be this program's, else OpenSlices returns an error.
func OpenSlices(name string) (*SliceWriter, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	s := &SliceWriter{f, csv.NewWriter(f)}
	if err := s.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("report: %s: %w", name, err), f.Close())
	}
	return s, nil
}

// begin finds the end of the last complete line, and writes the header into an empty file.
func (s *SliceWriter) begin() error {
	b, err := io.ReadAll(io.LimitReader(s.f, maxCSVBytes+1))
	switch {
	case err != nil:
		return err
	case len(b) > maxCSVBytes:
		return errTooLong
	}
	whole := b[:bytes.LastIndexByte(b, '\n')+1]
	if err := s.f.Truncate(int64(len(whole))); err != nil {
		return err
	}
	if _, err := s.f.Seek(int64(len(whole)), io.SeekStart); err != nil {
		return err
	}
	if len(whole) == 0 {
		return writeLine(s.w, SliceColumns())
	}
	if header, _, _ := bytes.Cut(whole, []byte("\n")); string(header) != strings.Join(SliceColumns(), ",") {
		return errors.New("its columns are those of another version: continue with the program that began it, or run the experiment again")
	}
	return nil
}

// Append writes slices to the file, without buffering.
func (s *SliceWriter) Append(all ...Slice) error {
	for i := range all {
		x := all[i]
		for _, t := range []*string{&x.Question, &x.Variant, &x.After} {
			*t = strings.Join(strings.Fields(*t), " ") // no line breaks: an incomplete line is recognized by its missing end
		}
		if err := s.w.Write(x.Fields()); err != nil {
			return fmt.Errorf("report: write slice: %w", err)
		}
	}
	s.w.Flush()
	if err := s.w.Error(); err != nil {
		return fmt.Errorf("report: write slice: %w", err)
	}
	return nil
}

// Close closes the file.
func (s *SliceWriter) Close() error { return s.f.Close() }

// ReadSlices returns the slices of a file in their order; none if there is no such file. An incomplete last line is left out. With
// an error, which names line and column, it returns the slices before it.
func ReadSlices(name string) (all []Slice, err error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCSVBytes+1))
	if err != nil {
		return nil, fmt.Errorf("report: %s: %w", name, err)
	}
	if len(b) <= maxCSVBytes { // else the reader refuses it
		b = b[:bytes.LastIndexByte(b, '\n')+1]
	}
	if len(b) == 0 { // its header is incomplete
		return nil, nil
	}
	err = readTable(bytes.NewReader(b), name, sliceSchema, func() reflect.Value {
		all = append(all, Slice{})
		return reflect.ValueOf(&all[len(all)-1]).Elem()
	})
	if len(all) > 0 && errors.Is(err, errRow) {
		all = all[:len(all)-1]
	}
	return all, err
}

// LineOf is the line, from 1, where a record of a CSV file begins; records count from 0 without the header. 0: there is no such record.
func LineOf(name string, record int) int {
	f, err := os.Open(name)
	if err != nil {
		return 0
	}
	defer f.Close()
	c := csv.NewReader(io.LimitReader(f, maxCSVBytes))
	c.ReuseRecord = true
	for range record + 2 { // with the header
		if _, err := c.Read(); err != nil {
			return 0
		}
	}
	line, _ := c.FieldPos(0)
	return line
}
