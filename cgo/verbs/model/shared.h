// The memory that the processes share. Each process owns one control segment, which its peers map, too. A field has one writer: the owner, or the
// peer of the queue pair; the comment names it where it is the peer. So a process that is killed at any instruction leaves behind nothing that
// another one waits for: what it had not published is never seen.
#ifndef MODEL_SHARED_H
#define MODEL_SHARED_H

#include <stdatomic.h>
#include <stdint.h>

enum {
	INDEX_BITS = 14, // of a queue pair's number; the bits above it are the process's
	QPS = 1 << INDEX_BITS,
	PROCESSES = 1 << (24 - INDEX_BITS),
	MRS = 1 << 15,
	CQS = 1 << 10,
	CQ_WORDS = 64, // of 64 queue pairs each
	LAYOUT = 2,    // version of this file
};

// Registered memory, or a bound memory window. Its key is 0 while it is not valid.
struct mr {
	_Atomic uint32_t key; // index in the table << 8 | a number that changes with each use
	uint32_t access;
	uint32_t pd;
	uint32_t qp_num; // of a window: the only queue pair through which it is valid; else 0
	uint64_t addr, len;
};

// A completion queue. Completions are in the rings of its queue pairs; ready has a bit for each queue pair that may have some. Its queue
// pairs' peers set bits, the owner clears them.
struct cq_shared {
	_Atomic uint32_t armed; // not 0: an event was requested; the number changes with each request
	uint32_t number;        // no other queue of the process has had it
	uint32_t unused[14];
	_Atomic uint64_t ready[CQ_WORDS];
};

// A receive that was posted.
struct receive {
	_Atomic uint64_t claim; // position in the queue << 24 | queue pair that has consumed it, 0: none; or FREE
	uint64_t wr_id, addr;
	uint32_t len, lkey;
};

#define FREE (~0ull)
#define CLAIM_QP 0xFFFFFFull

// A receive queue, of one queue pair or shared. Peers consume: who changes claim from none to its queue pair has the receive, and anybody moves head behind a
// claimed one. A position is never used again. After this struct: receives[size], then ring[size], which has the index of each position's receive.
struct recvq {
	_Alignas(64) _Atomic uint64_t tail;
	uint32_t size; // a power of two
	_Alignas(64) _Atomic uint64_t head; // peers and owner
	_Alignas(64) struct receive receives[];
};

// The completion of a receive, written by the peer.
struct arrival {
	uint64_t due; // CLOCK_MONOTONIC, ns; invisible before
	uint32_t receive, bytes, imm;
	uint16_t status, opcode;
	uint32_t with_imm, unused;
};

// A queue pair. After destruction the entry may be another one's, with another generation.
struct qp_shared {
	_Atomic uint32_t state; // ibv_qp_state; a peer may set it from RTR or RTS to ERR
	_Atomic uint32_t generation;
	uint32_t num, dest, my_psn, peer_psn, access, pd, min_rnr;
	uint32_t reads_max; // that the peer may have in flight
	uint32_t reachable; // the peer's memory is mapped here
	uint32_t recv_cq, cq_place;
	uint32_t arrivals; // room of the ring, a power of two
	uint64_t recvq, ring; // offsets in the segment
	_Alignas(64) _Atomic uint64_t busy; // odd: the owner is using its peer's memory
	_Alignas(64) _Atomic uint64_t tail; // of the ring; the peer
	_Alignas(64) _Atomic uint64_t head;
};

// A control segment: this, then blocks of the heap.
struct segment {
	uint32_t layout;
	_Alignas(64) _Atomic uint64_t sent_until; // when the port will have sent all that was posted; the owner, and peers for the answers to their READs
	_Alignas(64) struct cq_shared cqs[CQS];
	struct qp_shared qps[QPS];
	struct mr mrs[MRS];
};

#define SEGMENT_BYTES (4ull << 30)

static inline _Atomic uint32_t *recvq_ring(struct recvq *q) { return (_Atomic uint32_t *)(q->receives + q->size); }

#endif
