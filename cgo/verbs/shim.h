// The interface between Go and libibverbs: flat records in C memory, and functions that process many
// of them in one call. No function keeps a Go pointer.
#ifndef KVW_SHIM_H
#define KVW_SHIM_H

#include <stdint.h>

// kvw_nothing does nothing, to measure the cost of a call into C.
void kvw_nothing(void *);

struct kvw_sge {
	uint64_t addr;
	uint32_t len, lkey;
};

enum { KVW_MAX_SGE = 4 };

// A work request for a send queue; Op in verbs.go has the same layout.
struct kvw_op {
	uint64_t qp; // struct ibv_qp *
	uint64_t wr_id;
	uint64_t remote;
	uint32_t rkey, imm;
	uint32_t opcode; // KVW_SEND…
	uint32_t flags;  // KVW_SIGNALED…
	uint32_t sges, pad;
	struct kvw_sge sge[KVW_MAX_SGE];
};

enum { KVW_SEND, KVW_WRITE, KVW_READ, KVW_SEND_PLAIN, KVW_WRITE_PLAIN };
enum { KVW_SIGNALED = 1, KVW_INLINE = 2 };

// A receive; Recv in verbs.go.
struct kvw_recv {
	uint64_t queue; // struct ibv_qp *, or struct ibv_srq *
	uint64_t wr_id, addr;
	uint32_t len, lkey;
};

// A completion; Completion in verbs.go.
struct kvw_wc {
	uint64_t wr_id;
	uint32_t status, bytes, imm, qp_num;
	uint32_t recv, vendor;
};

struct kvw_port {
	uint32_t state, mtu, link_layer, lid, max_msg, gids;
};

struct kvw_dev {
	uint32_t max_qp, max_qp_wr, max_cqe, max_sge, max_srq, max_srq_wr, ports, windows, vectors;
	uint32_t max_rd_atomic, max_init_rd_atomic; // of a queue pair: READs of its peer, and of its own
	char fw[64];
};

struct kvw_qp_attr { // parameters of connect
	uint32_t qp_num, psn, mtu, lid, global, gid_index, port;
	uint32_t initiates, responds; // READs in flight: of this side, and of the peer
	uint8_t gid[16];
	uint32_t my_psn;
	uint8_t traffic_class, service_level; // 0: none requested
	uint8_t rnr_retry; // with rdma_cm; 0: KVW_RNR_RETRY, and KVW_TIMEOUT
};

// Timers of every queue pair: 0.64 ms before a retry after a missing receive; 67 ms before a packet is sent again, 6 times, because for rxe 7 means endless; and as
// many retries after a missing receive, for which 7 means endless everywhere.
enum { KVW_MIN_RNR = 12, KVW_TIMEOUT = 14, KVW_RETRY = 6, KVW_RNR_RETRY = 6 };

// A function of a library that is found at run time, and the pointer to it.
struct kvw_symbol {
	const char *name;
	void *to;
};
int kvw_symbols(const char *library, void *(*find)(const char *), const struct kvw_symbol *symbols, unsigned count, char *err, int n);
int kvw_load(void *find, char *err, int n);
int kvw_names(char *out, int n);
void *kvw_open(const char *name, int *async_fd);
int kvw_close(void *ctx);
int kvw_device(void *ctx, struct kvw_dev *out);
int kvw_port(void *ctx, int port, struct kvw_port *out);
int kvw_gid(void *ctx, int port, int index, uint8_t *out);
int kvw_async(void *ctx, uint32_t *qp_num);
void *kvw_pd(void *ctx);
int kvw_pd_free(void *pd);
void *kvw_mr(void *pd, void *addr, uint64_t len, int remote, uint32_t *lkey, uint32_t *rkey);
int kvw_mr_free(void *mr);
void *kvw_mw(void *pd);
int kvw_mw_bind(void *qp, void *mw, void *mr, uint64_t addr, uint64_t len, uint64_t wr_id, uint32_t *rkey);
int kvw_mw_free(void *mw);
void *kvw_channel(void *ctx, int *fd);
int kvw_channel_free(void *ch);
void *kvw_cq(void *ctx, int entries, void *channel, int vector, int *got);
int kvw_cq_free(void *cq);
void *kvw_srq(void *pd, int entries);
int kvw_srq_free(void *srq);
void *kvw_qp(void *pd, void *cq, void *srq, int sq, int rq, int inline_bytes, int port, int pkey_index, int remote, uint32_t *num, uint32_t *inline_got);
int kvw_qp_connect(void *qp, const struct kvw_qp_attr *a);
int kvw_qp_fail(void *qp);
int kvw_qp_kinds(void *pd, void *cq);
int kvw_modify(void *qp, void *attr, int mask);
int kvw_qp_free(void *qp);

// The data path: arguments and results are in one block of memory outside the Go heap; see callC in verbs_on.go.
struct kvw_post_call {
	const struct kvw_op *ops;
	int32_t n, chain; // number of work requests; most of them per doorbell
	int32_t err;           // errno
	uint32_t done, bells;  // of n, doorbells
};
struct kvw_recv_call {
	const struct kvw_recv *recvs;
	int32_t n, srq;
	int32_t err;
};
struct kvw_cq_call {
	void *cq;
	struct kvw_wc *out;
	int32_t n;     // room in out
	int32_t polls; // most polls of kvw_spin
	int32_t found; // or below 0: errno
};
void kvw_post(struct kvw_post_call *c);
void kvw_post_recv(struct kvw_recv_call *c);
void kvw_poll(struct kvw_cq_call *c);
void kvw_spin(struct kvw_cq_call *c);
void kvw_arm(struct kvw_cq_call *c);
int kvw_event(void *channel, void *cq);
const char *kvw_status(int status);

#endif
