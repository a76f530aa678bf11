package rdma

import (
	"cmp"
	"encoding/binary"
	"fmt"

	"github.com/kvwire/kvwire/transport"
)

// params are the parameters of each side's queue pair in its hello. On the wire, little-endian:
//
//	 0 format u8 | 1 verb u8 | 2 path MTU / 256 u8 | 3 READs of the peer in flight u8
//	 4 queue pair u32 | 8 first packet's sequence number u32 | 12 LID u16 | 14 slots u16
//	16 GID | 32 slot bytes u32 | 36 way of connecting u8 | 37 READs of this side in flight u8, 0: as many | 38 rdma_cm port u16 | 40 token [16]
//
// With rdma_cm, the server sets the port and the client the token. With the verbs write and write-poll, the keys for the slots follow through the queue pair.
type params struct {
	verb      Verb
	mtu       int
	responds  int // READs in flight: the peer's, which this side answers
	initiates int // and those of this side
	qp, psn   uint32
	lid       uint16
	slots     int
	gid       [16]byte
	slotBytes int
	connect   Connect
	port      uint16
	token     [16]byte
}

// reads returns the READs in flight that both ends support: of this side, and of the peer.
func (p *params) reads(peer *params) (initiates, responds int) {
	return min(p.initiates, peer.responds), min(p.responds, peer.initiates)
}

const (
	paramsFormat = 2
	paramsBytes  = 56
)

func (p *params) encode() []byte {
	b := make([]byte, 0, paramsBytes)
	b = append(b, paramsFormat, byte(p.verb), byte(p.mtu/256), byte(p.responds))
	b = binary.LittleEndian.AppendUint32(b, p.qp)
	b = binary.LittleEndian.AppendUint32(b, p.psn)
	b = binary.LittleEndian.AppendUint16(b, p.lid)
	b = binary.LittleEndian.AppendUint16(b, uint16(p.slots))
	b = append(b, p.gid[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(p.slotBytes))
	b = append(b, byte(p.connect), byte(p.initiates))
	b = binary.LittleEndian.AppendUint16(b, p.port)
	return append(b, p.token[:]...)
}

// violation is an error about what a peer sent.
func violation(format string, args ...any) error {
	return fmt.Errorf("%w: parameters of the peer's queue pair: %s (both sides must be kvwire, of the same version)", transport.ErrProtocol, fmt.Sprintf(format, args...))
}

// decode reads what a peer sent. Later versions may send more.
func (p *params) decode(b []byte) error {
	switch {
	case len(b) == 0:
		return fmt.Errorf("%w: the peer's transport is not rdma (give both sides the same --transport)", transport.ErrProtocol)
	case len(b) < paramsBytes || b[0] != paramsFormat:
		return violation("%d bytes of format %d", len(b), b[0])
	}
	*p = params{verb: Verb(b[1]), mtu: 256 * int(b[2]), responds: int(b[3]), initiates: int(cmp.Or(b[37], b[3])),
		qp: binary.LittleEndian.Uint32(b[4:]), psn: binary.LittleEndian.Uint32(b[8:]),
		lid: binary.LittleEndian.Uint16(b[12:]), slots: int(binary.LittleEndian.Uint16(b[14:])),
		gid: [16]byte(b[16:32]), slotBytes: int(binary.LittleEndian.Uint32(b[32:])),
		connect: Connect(b[36]), port: binary.LittleEndian.Uint16(b[38:]), token: [16]byte(b[40:56])}
	switch {
	case int(p.verb) >= len(verbNames):
		return violation("verb %d is unknown", p.verb)
	case int(p.connect) >= len(connectNames):
		return violation("way of connecting %d is unknown", p.connect)
	case p.mtu < 256 || p.mtu > 4096 || p.mtu&(p.mtu-1) != 0:
		return violation("path MTU %d: must be 256, 512, 1024, 2048 or 4096", p.mtu)
	case p.qp >= 1<<24 || p.psn >= 1<<24:
		return violation("queue pair %#x, sequence number %#x: must have at most 24 bits", p.qp, p.psn)
	case p.slots < 4 || p.slots > 4096 || p.slots&(p.slots-1) != 0 || p.slotBytes < 256 || p.slotBytes > 1<<20:
		return violation("%d slots of %d B: must be 4 to 4096, a power of two, of 256 B to 1 MiB", p.slots, p.slotBytes)
	}
	return nil
}
