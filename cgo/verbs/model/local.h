// What a process has for itself.
#ifndef MODEL_LOCAL_H
#define MODEL_LOCAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "model.h"
#include "shared.h"

#include <infiniband/verbs.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <time.h>

enum {
	SEND_SGES = 4,
	RECV_SGES = 1,
	INLINE_MAX = 1024,
	WRS_MAX = 16384,
	READS_MAX = 16, // in flight, of a queue pair
	PACKET_BYTES = 82, // of an Ethernet packet besides RDMA payload: preamble and gap 20, Ethernet 18, IPv4 20, UDP 8, BTH 12, ICRC 4
	STOPPED_MS = 200, // how long destruction waits for a peer that was stopped in the middle of a transfer
};

#define MESSAGE_MAX (1u << 30)

// A lock that is held for less than a microsecond.
struct spin { atomic_flag held; };

static inline void spin_lock(struct spin *s)
{
	for (unsigned tries = 1; atomic_flag_test_and_set_explicit(&s->held, memory_order_acquire); tries++)
		if (tries % 256 == 0)
			sched_yield();
}
static inline void spin_unlock(struct spin *s) { atomic_flag_clear_explicit(&s->held, memory_order_release); }

// The right to wake a completion queue: a timer in its channel. Only the process that has it sets it, so that a process that is killed leaves none half set.
struct waker {
	struct waker *next;
	uint32_t cq, number;
	int fd;
	struct spin lock;
	uint32_t armed; // the request for which it was set
	uint64_t at;    // the time for which it was set
};

// A timer that belongs to a completion queue of this process.
struct timer {
	struct timer *next;
	struct cq *cq;
	int fd;
	int by; // the connection of the process that sets it; -1: this process
};

// A process, with its memory as it is mapped here. This process is one, too.
struct peer {
	struct segment *segment;
	char *memory;
	uint64_t memory_base, memory_bytes; // where it is mapped there
	int sock;                           // -1: this process
	unsigned users;                     // queue pairs
	struct waker *wakers;
	_Atomic bool gone; // the process has ended
};

struct channel {
	struct ibv_comp_channel ib;
	struct cq *fired; // their events were not read yet
};

struct cq {
	struct ibv_cq ib;
	struct cq_shared *sh;
	uint32_t index;
	struct spin lock;
	uint32_t requests; // of events
	uint32_t words;    // of sh->ready that are in use
	unsigned next;     // word with which the next poll begins
	struct qp *qps[CQ_WORDS * 64];
	unsigned users;
	struct timer *timers;
	struct waker *own;
	bool has_fired;
	struct cq *next_fired;
};

// A receive queue's receives that are not posted.
struct receives {
	struct recvq *q;
	uint32_t *spare, spares, max;
	struct spin lock;
};

struct srq {
	struct ibv_srq ib;
	struct receives rx;
	unsigned users;
};

// A posted work request.
struct wqe {
	uint64_t wr_id, remote, due, retry_at;
	uint32_t rkey, imm, bytes;
	uint32_t from; // the first packet that has not arrived
	uint8_t opcode, status, sges;
	bool is_inline, report; // report: it makes a completion
	bool unseen;            // packets were lost, and none behind them has shown it yet
	struct ibv_sge sge[SEND_SGES];
	struct ibv_mw *mw; // of a bind, with what it is bound to
	struct ibv_mw_bind_info bind;
};

struct qp {
	struct ibv_qp ib;
	struct qp_shared *sh;
	struct qp *next, **before; // of all queue pairs of the process
	struct cq *send_cq, *recv_cq;
	uint32_t send_place, recv_place; // in each
	struct spin lock;

	// The other end, after RTR.
	struct peer *peer;
	struct qp_shared *remote;
	uint32_t remote_generation;
	struct recvq *remote_recvq;
	struct arrival *remote_ring;
	struct cq_shared *remote_cq;
	struct waker *waker; // NULL: its queue has no channel
	uint32_t wake_armed; // 0: it is awake
	uint64_t wake_at;
	bool stuck;          // it could not be destroyed, since its peer was stopped in the middle of a transfer
	uint8_t timeout, retries, rnr_retries;

	// The send queue: positions from head on; those before run were carried out, and those before scan were looked at by poll.
	struct wqe *sq;
	char *inline_bytes; // of each place, for those that wait
	uint32_t sq_mask, sq_max, inline_max, sges_max;
	bool signal_all;
	uint64_t head, scan, run, tail;
	uint64_t last_due, last_arrival;
	unsigned tries, rnr_tries;

	// Losses and READs.
	uint64_t random;
	uint64_t free_at;             // until then it sends again what was lost, or has too many READs in flight
	uint64_t resent_at;           // what it sent before that time was dropped
	uint64_t read_due[READS_MAX]; // of the last reads_max READs
	uint64_t reads;
	uint32_t reads_max;

	// Receives.
	struct receives own; // if there is no shared queue
	struct receives *rx;
	struct arrival *ring;
	bool recv_flushed; // in the error state: all its receives have completed
};

struct event {
	enum ibv_event_type type;
	struct qp *qp;
};

enum { EVENTS = 4096 };

struct context {
	struct ibv_context ib;
	struct spin lock;
	struct event events[EVENTS];
	unsigned first, count;
	unsigned users;
};

struct pd {
	struct ibv_pd ib;
	_Atomic unsigned users;
};

// This process.
extern struct node {
	struct peer self;
	struct segment *segment;
	int segment_fd, memory_fd, epoll;
	uint32_t slot;
	struct model_link link;

	pthread_mutex_t dial;    // requests to peers, and the table of peers
	pthread_mutex_t objects; // heap, tables and list of queue pairs
	pthread_mutex_t timers;  // of all completion queues, and peers' ends: all that the thread uses
	struct peer *peers[PROCESSES];
	struct qp *qps;
	struct cq *cqs[CQS];

	_Atomic uint32_t pds, mrs, srqs, cq_count, qp_count;
	_Atomic uint64_t rnrs, lost, unseen;
} node;

static inline uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// link_time returns the time that packets take on a link, in 1/16 ns.
static inline uint64_t link_time(const struct model_link *l, uint64_t bytes, uint64_t packets) { return ((bytes + packets * PACKET_BYTES) * l->kib_time) >> 10; }
static inline uint64_t packets_of(const struct model_link *l, uint64_t bytes) { return bytes ? (bytes + l->mtu - 1) / l->mtu : 1; }
bool is_lost(const struct model_link *l, uint64_t *random);

int node_start(void);
uint64_t node_block(uint64_t bytes);
void node_free(uint64_t block, uint64_t bytes);
struct peer *node_peer(uint32_t slot);
void node_leave(struct peer *p);
struct waker *node_waker(struct peer *p, uint32_t cq, uint32_t number);
int node_timer(struct cq *c, int by);
void node_stop_timers(struct cq *c);
struct waker *node_own_waker(uint32_t cq, uint32_t number, int fd);
void node_free_waker(struct waker *k);
bool qp_settle(struct qp *q);

void wake(struct waker *k, uint32_t armed, uint64_t due);
void queue_ready(struct cq *c, uint32_t place, uint64_t due);
bool qp_quiet(struct qp *q);
void qp_run(struct qp *q, uint64_t now);
void qp_fail(struct qp *q);
void qp_release_claims(struct qp *q);
bool qp_left(const struct qp *q, bool sends);
void context_event(struct context *c, enum ibv_event_type type, struct qp *q);

int path_post_send(struct ibv_qp *ib, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
int path_post_recv(struct ibv_qp *ib, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
int path_post_srq_recv(struct ibv_srq *ib, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
int path_poll_cq(struct ibv_cq *ib, int n, struct ibv_wc *wc);
int path_req_notify_cq(struct ibv_cq *ib, int solicited_only);

#endif
