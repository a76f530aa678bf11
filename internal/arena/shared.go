package arena

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// sharedBytes is the address space of shared memory. It needs memory only where it was touched.
const sharedBytes = 64 << 30

// shared is the memory from which NewShared makes arenas after Share.
var shared struct {
	sync.Mutex
	fd    int
	mem   []byte
	spans []span // free ones, by address; no two touch
}

// span is a range of shared memory, in bytes.
type span struct{ at, bytes int }

// Share makes later arenas of NewShared, and so those of pools, parts of one memfd, which other processes can map. It returns the descriptor and its only mapping
// here, which stay for the life of the process. Later calls return the same.
func Share() (fd int, mem []byte, err error) {
	s := &shared
	s.Lock()
	defer s.Unlock()
	if s.mem != nil {
		return s.fd, s.mem, nil
	}
	fd, err = unix.MemfdCreate("arena", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, nil, fmt.Errorf("arena: memfd_create: %w", err)
	}
	if err = unix.Ftruncate(fd, sharedBytes); err == nil {
		mem, err = unix.Mmap(fd, 0, sharedBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, nil, fmt.Errorf("arena: map %d GiB of shared address space: %w (ulimit -v unlimited)", sharedBytes>>30, err)
	}
	if err := unix.Madvise(mem, unix.MADV_DONTFORK); err != nil {
		return -1, nil, fmt.Errorf("arena: MADV_DONTFORK: %w", err)
	}
	_ = unix.Madvise(mem, unix.MADV_DONTDUMP)
	s.fd, s.mem, s.spans = fd, mem, []span{{0, sharedBytes}}
	return fd, mem, nil
}

// NewShared is New for memory that is registered with an RDMA device: after Share, other processes can map it.
func NewShared(size int) (*Arena, error) {
	s := &shared
	s.Lock()
	defer s.Unlock()
	if s.mem == nil {
		return New(size)
	}
	size = (size + PageBytes - 1) &^ (PageBytes - 1)
	if size <= 0 {
		return nil, fmt.Errorf("arena: size %d is not positive", size)
	}
	for i := range s.spans {
		if p := &s.spans[i]; p.bytes >= size {
			at := p.at
			p.at, p.bytes = p.at+size, p.bytes-size
			if p.bytes == 0 {
				s.spans = append(s.spans[:i], s.spans[i+1:]...)
			}
			return &Arena{mem: s.mem[at : at+size : at+size], shared: true, at: at}, nil
		}
	}
	return nil, fmt.Errorf("arena: %d MiB do not fit into the %d GiB of shared memory", size>>20, sharedBytes>>30)
}

// unshare frees a part of shared memory. Who has mapped it sees zeroes.
func unshare(at, bytes int) error {
	s := &shared
	s.Lock()
	defer s.Unlock()
	if err := unix.Fallocate(s.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(at), int64(bytes)); err != nil {
		return fmt.Errorf("arena: free %d MiB of shared memory: %w", bytes>>20, err)
	}
	i := 0
	for i < len(s.spans) && s.spans[i].at < at {
		i++
	}
	s.spans = append(s.spans, span{})
	copy(s.spans[i+1:], s.spans[i:])
	s.spans[i] = span{at, bytes}
	if i+1 < len(s.spans) && at+bytes == s.spans[i+1].at {
		s.spans[i].bytes += s.spans[i+1].bytes
		s.spans = append(s.spans[:i+1], s.spans[i+2:]...)
	}
	if i > 0 && s.spans[i-1].at+s.spans[i-1].bytes == at {
		s.spans[i-1].bytes += s.spans[i].bytes
		s.spans = append(s.spans[:i], s.spans[i+1:]...)
	}
	return nil
}
