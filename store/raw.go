package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kvwire/kvwire/internal/arena"
	"github.com/kvwire/kvwire/kv"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/store/disk"
	"golang.org/x/sys/unix"
)

// rawPartition measures a disk engine without a store. It executes a get by one read of a page that the key's hash selects, and a put or
// delete by one write. It has no index, cache or checksums, and the bytes read are not the key's value.
type rawPartition struct {
	l         *loop.Loop
	shard     int
	o         Options
	engine    disk.Engine
	io        disk.Transfers
	transfers []rawTransfer // transfers under way, by their place in io
	file      *rawFile
	pages     uint32
	memory    *arena.Arena // a page for each transfer
	free      []uint32     // unused pages of memory

	waiting  kv.Queue // requests that wait for a transfer
	ioErrors uint64

	closing, closed bool

	writeBack writeBack
	done      [64]disk.Completion
}

// rawTransfer is the partition's data about a transfer under way.
type rawTransfer struct {
	q    *kv.Request
	page uint32 // of memory
}

var _ loop.Partition = (*rawPartition)(nil)
var _ loop.Busier = (*rawPartition)(nil)

func openRaw(l *loop.Loop, shard, shards int, o Options) (_ loop.Partition, err error) {
	r := &rawPartition{l: l, shard: shard, o: o}
	if r.engine, err = disk.New(l, o.disk(shard, shards)); err != nil {
		return nil, err
	}
	if r.file, err = openRawFile(&o, shard, shards); err != nil {
		return nil, err
	}
	r.pages = uint32(r.file.bytes / pageBytes)
	if r.memory, err = arena.New(o.DepthMax * pageBytes); err != nil {
		r.file.close()
		return nil, fmt.Errorf("store: buffers for raw pages: %w", err)
	}
	r.io, r.transfers = disk.NewTransfers(r.engine, o.DepthMax, o.DiskBatch), make([]rawTransfer, o.DepthMax)
	for i := range uint32(o.DepthMax) {
		r.free = append(r.free, i)
	}
	if err := disk.Start(l, r.engine, r, []int{r.file.fd}, disk.Registered(r.memory)); err != nil {
		r.release()
		return nil, err
	}
	if !r.file.direct {
		logNoDirect(&o, shard)
	}
	return r, nil
}

// Submit implements kv.Handler.
func (r *rawPartition) Submit(q *kv.Request) {
	if q.Stages != nil {
		q.Stages.Mark(kv.StageServerQueue, loop.Nanos())
		q.Stages.State = kv.StoreWaiting // the disk does all the work
	}
	q.Need, q.More, q.Record = 0, false, kv.WalkEnd
	q.Status = r.o.Limits.Check(q)
	switch {
	case r.closing:
		q.Status = kv.StatusClosed
	case q.Status != kv.StatusOK:
	case q.Op == kv.OpScan, q.Op == kv.OpKeys, q.Op == kv.OpStats:
		q.Value = q.Value[:0]
	case q.Op == kv.OpGet && cap(q.Value) < r.o.NullValueBytes:
		q.Status, q.Need = kv.StatusTooSmall, uint32(r.o.NullValueBytes)
	case q.Op == kv.OpPut && len(q.Value) > pageBytes:
		q.Status = kv.StatusTooLarge
	case !r.io.Room() || !r.waiting.Empty():
		r.waiting.Push(q)
		return
	default:
		r.begin(q)
		return
	}
	finish(r.l, q)
}

func (r *rawPartition) begin(q *kv.Request) {
	n := len(r.free) - 1
	f := r.free[n]
	r.free = r.free[:n]
	off := int(f) * pageBytes
	t := disk.Transfer{Op: disk.Read, Buf: r.memory.Bytes()[off : off+pageBytes : off+pageBytes],
		Off: int64(kv.Hash(q.Key)%r.pages) * pageBytes, Fixed: off >> disk.FixedShift}
	if q.Op != kv.OpGet {
		t.Op = disk.Write
		copy(t.Buf, q.Value)
	}
	r.transfers[r.io.Begin(t)] = rawTransfer{q, f}
}

// Busy implements loop.Busier: see Partition.Busy.
func (r *rawPartition) Busy() string {
	switch {
	case r.closed:
		return ""
	case r.io.Active() > 0, !r.waiting.Empty():
		return "the disk reads or writes"
	case !r.file.direct:
		fd := r.file.fd
		return r.writeBack.busy(r.io.Counts.Writes, func() error { return unix.Fdatasync(fd) }, &r.o)
	}
	return ""
}

// OnEvent implements loop.Member. It is never called: the disk engine handles the disk's events.
func (r *rawPartition) OnEvent(uint64, int32, uint32) {}

// Poll handles the disk's completions.
func (r *rawPartition) Poll() (found int) {
	for !r.closed {
		n := r.engine.Reap(r.done[:])
		for _, c := range r.done[:n] {
			r.complete(c)
		}
		if found += n; n < len(r.done) {
			break
		}
	}
	return found
}

func (r *rawPartition) complete(c disk.Completion) {
	i, errno, ended := r.io.Complete(c)
	if !ended {
		return
	}
	q, page := r.transfers[i].q, r.transfers[i].page
	q.Status = statusOf(errno)
	switch {
	case errno != 0:
		r.ioErrors++
	case q.Op == kv.OpGet:
		q.Value = q.Value[:r.o.NullValueBytes]
		copy(q.Value, r.memory.Bytes()[int(page)*pageBytes:])
		r.l.Stats.Copied += uint64(len(q.Value))
	}
	r.free = append(r.free, page)
	finish(r.l, q)
}

// Stage begins waiting requests, and submits the turn's transfers to the disk.
func (r *rawPartition) Stage() error {
	if r.closed {
		return nil
	}
	for r.io.Room() && !r.waiting.Empty() {
		r.begin(r.waiting.Pop())
	}
	all, err := r.io.Stage()
	if !all {
		r.l.Again()
	}
	return err
}

// Close waits for transfers in flight, and ends waiting requests with StatusClosed.
func (r *rawPartition) Close() bool {
	if r.closed {
		return true
	}
	r.closing = true
	for q := r.waiting.Pop(); q != nil; q = r.waiting.Pop() {
		q.Status = kv.StatusClosed
		finish(r.l, q)
	}
	if r.io.Active() > 0 {
		return false
	}
	r.closed = true
	r.release()
	return true
}

func (r *rawPartition) release() {
	r.writeBack.wait()
	_ = r.memory.Close()
	r.file.close()
}

// Snapshot returns the partition's statistics. Only its loop may call it.
func (r *rawPartition) Snapshot() Stats {
	s := Stats{Backend: r.o.Backend.String(), Shard: r.shard, IOErrors: r.ioErrors, DirectIO: r.file.direct}
	s.addDisk(&r.io.Counts, r.engine)
	s.Disk.Engine = r.o.DiskEngine
	s.FixedBuffers, _ = r.engine.Fixed()
	return s
}

// rawFile is a partition's share of the raw file: a file of its own, raw-NNN-of-NNN, locked while it is open.
type rawFile struct {
	fd     int
	lock   int // a separate descriptor for the lock: a ring may release the registered fd late
	bytes  int64
	direct bool
}

// openRawFile opens the file. If it is missing or has another size, it writes it completely, so that reads reach the device and writes need
// no new space.
func openRawFile(o *Options, shard, shards int) (*rawFile, error) {
	if err := checkFolders(o.Dir, shards); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(folderOf(o.Dir, shard), dirMode); err != nil {
		return nil, fmt.Errorf("store: make %s: %w (choose another folder)", folderOf(o.Dir, shard), cause(err))
	}
	f := &rawFile{lock: -1, bytes: o.rawShare(shards)}
	name := rawPath(o.Dir, shard, shards)
	if toBeWritten(name, f.bytes) {
		if err := writeRawFile(name, f.bytes); err != nil {
			return nil, fmt.Errorf("store: write the raw file %s, %d MiB: %w (choose another folder, or a smaller size)", name, f.bytes>>20, cause(err))
		}
	}
	var err error
	if f.fd, f.direct, err = openDirect(name, unix.O_RDWR); err != nil {
		return nil, fmt.Errorf("store: open %s: %w (%s)", name, err, openRemedy(err))
	}
	f.direct = f.direct && !inMemory(folderOf(o.Dir, shard))
	if err = makeFolderPrivate(folderOf(o.Dir, shard)); err == nil {
		_, err = makePrivate(f.fd)
	}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("store: remove other users' permissions from %s: %w (%s)", name, err, openRemedy(err))
	}
	if f.lock, err = openOwn(name, unix.O_RDONLY); err == nil {
		err = unix.Flock(f.lock, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		f.close()
		return nil, errRawOpen(name)
	}
	return f, nil
}

// toBeWritten reports whether a raw file must be written: it is missing, has another size, or is a block device's node, which the new file replaces. Anything
// else that is no regular file is refused when it is opened.
func toBeWritten(name string, bytes int64) bool {
	st, err := os.Lstat(name)
	return err != nil || st.Mode().Type() == fs.ModeDevice || st.Mode().IsRegular() && st.Size() != bytes
}

func rawPath(dir string, shard, shards int) string {
	return filepath.Join(folderOf(dir, shard), fmt.Sprintf("raw-%03d-of-%03d", shard, shards))
}

// rawShare returns the size of each shard's file, in bytes.
func (o *Options) rawShare(shards int) int64 {
	return o.RawBytes / int64(shards) / pageBytes * pageBytes
}

func errRawOpen(name string) error {
	return fmt.Errorf("store: %s is open already (stop the process that has it: fuser -v %s)", name, name)
}

// rawPieceBytes is the size of one write: a disk reaches its sequential speed with 1 MiB.
const rawPieceBytes = 1 << 20

// writeRawFile makes the file atomically. Its bytes differ from page to page: some devices do not store zeros.
func writeRawFile(name string, bytes int64) (err error) {
	if err := os.Remove(name + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := createOwn(name + ".new")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(name + ".new")
		}
	}()
	fd, _, err := openDirect(name+".new", unix.O_RDWR)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	memory, err := arena.New(rawPieceBytes)
	if err != nil {
		return errors.Join(err, f.Close(), unix.Close(fd))
	}
	word := uint32(1)
	for i := range memory.Bytes() {
		word = word*1664525 + 1013904223 // Numerical Recipes' generator
		memory.Bytes()[i] = byte(word >> 24)
	}
	for off := int64(0); err == nil && off < bytes; {
		b := memory.Bytes()[:min(rawPieceBytes, bytes-off)]
		for i := 0; i < len(b); i += pageBytes {
			binary.LittleEndian.PutUint64(b[i:], uint64(off)+uint64(i))
		}
		var n int
		if n, err = unix.Pwrite(fd, b, off); err == nil && n%pageBytes != 0 {
			err = unix.EIO
		}
		off += int64(n)
	}
	err = errors.Join(err, f.Sync(), f.Close(), unix.Close(fd), memory.Close())
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	return err
}

func (f *rawFile) close() {
	_ = unix.Close(f.fd)
	if f.lock >= 0 {
		_ = unix.Close(f.lock)
	}
}
