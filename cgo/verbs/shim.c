//go:build rdma && cgo

// libibverbs is loaded at run time, so that the same binary starts on machines without it. Posting and
// polling need none of its symbols: they use the context's table of functions.
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#undef ibv_reg_mr
#undef ibv_query_port

static struct {
	struct ibv_device **(*get_device_list)(int *);
	void (*free_device_list)(struct ibv_device **);
	const char *(*get_device_name)(struct ibv_device *);
	struct ibv_context *(*open_device)(struct ibv_device *);
	int (*close_device)(struct ibv_context *);
	int (*query_device)(struct ibv_context *, struct ibv_device_attr *);
	int (*query_port)(struct ibv_context *, uint8_t, struct ibv_port_attr *);
	int (*query_gid)(struct ibv_context *, uint8_t, int, union ibv_gid *);
	int (*get_async_event)(struct ibv_context *, struct ibv_async_event *);
	void (*ack_async_event)(struct ibv_async_event *);
	struct ibv_pd *(*alloc_pd)(struct ibv_context *);
	int (*dealloc_pd)(struct ibv_pd *);
	struct ibv_mr *(*reg_mr)(struct ibv_pd *, void *, size_t, int);
	int (*dereg_mr)(struct ibv_mr *);
	struct ibv_comp_channel *(*create_comp_channel)(struct ibv_context *);
	int (*destroy_comp_channel)(struct ibv_comp_channel *);
	struct ibv_cq *(*create_cq)(struct ibv_context *, int, void *, struct ibv_comp_channel *, int);
	int (*destroy_cq)(struct ibv_cq *);
	int (*get_cq_event)(struct ibv_comp_channel *, struct ibv_cq **, void **);
	void (*ack_cq_events)(struct ibv_cq *, unsigned int);
	struct ibv_srq *(*create_srq)(struct ibv_pd *, struct ibv_srq_init_attr *);
	int (*destroy_srq)(struct ibv_srq *);
	struct ibv_qp *(*create_qp)(struct ibv_pd *, struct ibv_qp_init_attr *);
	int (*modify_qp)(struct ibv_qp *, struct ibv_qp_attr *, int);
	int (*query_qp)(struct ibv_qp *, struct ibv_qp_attr *, int, struct ibv_qp_init_attr *);
	int (*destroy_qp)(struct ibv_qp *);
	const char *(*wc_status_str)(enum ibv_wc_status);
} v;

// A library is found by its name, unless find returns its functions.
int kvw_symbols(const char *library, void *(*find)(const char *), const struct kvw_symbol *symbols, unsigned count, char *err, int n)
{
	void *lib = find ? NULL : dlopen(library, RTLD_NOW | RTLD_GLOBAL);
	if (!lib && !find) {
		snprintf(err, n, "%s", dlerror());
		return -1;
	}
	for (unsigned i = 0; i < count; i++) {
		void *f = find ? find(symbols[i].name) : dlsym(lib, symbols[i].name);
		if (!f) {
			snprintf(err, n, "it has no %s", symbols[i].name);
			return -1;
		}
		memcpy(symbols[i].to, &f, sizeof f);
	}
	return 0;
}

// kvw_load may be called only once. find, unless it is NULL, returns the functions instead of libibverbs.
int kvw_load(void *find, char *err, int n)
{
	const struct kvw_symbol symbols[] = {
#define SYMBOL(name) { "ibv_" #name, &v.name }
		SYMBOL(get_device_list), SYMBOL(free_device_list), SYMBOL(get_device_name), SYMBOL(open_device), SYMBOL(close_device),
		SYMBOL(query_device), SYMBOL(query_port), SYMBOL(query_gid), SYMBOL(get_async_event), SYMBOL(ack_async_event),
		SYMBOL(alloc_pd), SYMBOL(dealloc_pd), SYMBOL(reg_mr), SYMBOL(dereg_mr), SYMBOL(create_comp_channel),
		SYMBOL(destroy_comp_channel), SYMBOL(create_cq), SYMBOL(destroy_cq), SYMBOL(get_cq_event), SYMBOL(ack_cq_events),
		SYMBOL(create_srq), SYMBOL(destroy_srq), SYMBOL(create_qp), SYMBOL(modify_qp), SYMBOL(query_qp), SYMBOL(destroy_qp),
		SYMBOL(wc_status_str),
	};
	return kvw_symbols("libibverbs.so.1", (void *(*)(const char *))find, symbols, sizeof symbols / sizeof *symbols, err, n);
}

// kvw_names writes the devices' names, each ended by a zero byte, and returns their number, or -errno.
int kvw_names(char *out, int n)
{
	int count = 0;
	errno = 0;
	struct ibv_device **list = v.get_device_list(&count);
	if (!list)
		return errno ? -errno : -ENODEV;
	for (int i = 0; i < count; i++) {
		const char *name = v.get_device_name(list[i]);
		int k = (int)strlen(name) + 1;
		if (k > n) {
			count = i;
			break;
		}
		memcpy(out, name, k);
		out += k;
		n -= k;
	}
	v.free_device_list(list);
	return count;
}

static int nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	return flags < 0 ? flags : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void *kvw_open(const char *name, int *async_fd)
{
	struct ibv_context *ctx = NULL;
	errno = 0;
	struct ibv_device **list = v.get_device_list(NULL);
	if (!list)
		return NULL;
	errno = ENODEV;
	for (int i = 0; list[i]; i++)
		if (!strcmp(v.get_device_name(list[i]), name)) {
			errno = 0;
			ctx = v.open_device(list[i]);
			break;
		}
	int saved = errno;
	v.free_device_list(list);
	if (!ctx) {
		errno = saved ? saved : ENODEV;
		return NULL;
	}
	*async_fd = ctx->async_fd;
	nonblocking(ctx->async_fd);
	return ctx;
}

int kvw_close(void *ctx) { return v.close_device(ctx); }

int kvw_device(void *ctx, struct kvw_dev *out)
{
	struct ibv_device_attr a;
	memset(&a, 0, sizeof a);
	int err = v.query_device(ctx, &a);
	if (err)
		return err;
	*out = (struct kvw_dev){
		.max_qp = a.max_qp, .max_qp_wr = a.max_qp_wr, .max_cqe = a.max_cqe, .max_sge = a.max_sge,
		.max_srq = a.max_srq, .max_srq_wr = a.max_srq_wr, .ports = a.phys_port_cnt,
		.max_rd_atomic = a.max_qp_rd_atom, .max_init_rd_atomic = a.max_qp_init_rd_atom,
		.vectors = ((struct ibv_context *)ctx)->num_comp_vectors,
		.windows = a.device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2B ? 1 : 0,
	};
	snprintf(out->fw, sizeof out->fw, "%s", a.fw_ver);
	return 0;
}

int kvw_port(void *ctx, int port, struct kvw_port *out)
{
	struct ibv_port_attr a;
	memset(&a, 0, sizeof a);
	int err = v.query_port(ctx, port, &a);
	if (err)
		return err;
	*out = (struct kvw_port){
		.state = a.state, .mtu = a.active_mtu, .link_layer = a.link_layer, .lid = a.lid, .max_msg = a.max_msg_sz, .gids = a.gid_tbl_len,
	};
	return 0;
}

int kvw_gid(void *ctx, int port, int index, uint8_t *out)
{
	union ibv_gid g;
	int err = v.query_gid(ctx, port, index, &g);
	if (!err)
		memcpy(out, g.raw, 16);
	return err;
}

// kvw_async returns the type of one asynchronous event, or -1 if there is none.
int kvw_async(void *ctx, uint32_t *qp_num)
{
	struct ibv_async_event e;
	*qp_num = 0;
	if (v.get_async_event(ctx, &e))
		return -1;
	int type = e.event_type;
	switch (type) {
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
	case IBV_EVENT_COMM_EST:
	case IBV_EVENT_QP_LAST_WQE_REACHED:
		*qp_num = e.element.qp->qp_num;
	}
	v.ack_async_event(&e);
	return type;
}

void *kvw_pd(void *ctx) { return v.alloc_pd(ctx); }
int kvw_pd_free(void *pd) { return v.dealloc_pd(pd); }

// remote: 0 none, 1 the peer may read, 2 it may write, 4 windows may be bound to it.
void *kvw_mr(void *pd, void *addr, uint64_t len, int remote, uint32_t *lkey, uint32_t *rkey)
{
	int access = remote == 1 ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_LOCAL_WRITE;
	if (remote == 2)
		access |= IBV_ACCESS_REMOTE_WRITE;
	if (remote == 4)
		access |= IBV_ACCESS_MW_BIND;
	struct ibv_mr *mr = v.reg_mr(pd, addr, len, access);
	if (mr) {
		*lkey = mr->lkey;
		*rkey = mr->rkey;
	}
	return mr;
}

int kvw_mr_free(void *mr) { return v.dereg_mr(mr); }

void *kvw_mw(void *pd) { return ibv_alloc_mw(pd, IBV_MW_TYPE_2); }

// kvw_mw_bind posts the work request that allows the peer of qp to write from addr on, and returns the key in *rkey. It makes a completion.
int kvw_mw_bind(void *qp, void *mw, void *mr, uint64_t addr, uint64_t len, uint64_t wr_id, uint32_t *rkey)
{
	struct ibv_mw *w = mw;
	struct ibv_send_wr wr = {
		.wr_id = wr_id,
		.opcode = IBV_WR_BIND_MW,
		.send_flags = IBV_SEND_SIGNALED,
		.bind_mw = {
			.mw = w,
			.rkey = ibv_inc_rkey(w->rkey),
			.bind_info = { .mr = mr, .addr = addr, .length = len, .mw_access_flags = IBV_ACCESS_REMOTE_WRITE },
		},
	}, *bad;
	int err = ibv_post_send(qp, &wr, &bad);
	if (!err)
		*rkey = w->rkey = wr.bind_mw.rkey;
	return err;
}

int kvw_mw_free(void *mw) { return ibv_dealloc_mw(mw); }

void *kvw_channel(void *ctx, int *fd)
{
	struct ibv_comp_channel *ch = v.create_comp_channel(ctx);
	if (ch) {
		*fd = ch->fd;
		nonblocking(ch->fd);
	}
	return ch;
}

int kvw_channel_free(void *ch) { return v.destroy_comp_channel(ch); }

void *kvw_cq(void *ctx, int entries, void *channel, int vector, int *got)
{
	struct ibv_cq *cq = v.create_cq(ctx, entries, NULL, channel, vector);
	if (cq)
		*got = cq->cqe;
	return cq;
}

int kvw_cq_free(void *cq) { return v.destroy_cq(cq); }

void *kvw_srq(void *pd, int entries)
{
	struct ibv_srq_init_attr a = { .attr = { .max_wr = entries, .max_sge = 1 } };
	return v.create_srq(pd, &a);
}

int kvw_srq_free(void *srq) { return v.destroy_srq(srq); }

// kvw_qp makes a queue pair in INIT, so that receives can be posted before it is connected. remote: the peer's rights
// through it, whatever keys it has, as bits: 1 read, 2 write.
void *kvw_qp(void *pd, void *cq, void *srq, int sq, int rq, int inline_bytes, int port, int pkey_index, int remote, uint32_t *num, uint32_t *inline_got)
{
	struct ibv_qp_init_attr a = {
		.send_cq = cq,
		.recv_cq = cq,
		.srq = srq,
		.cap = { .max_send_wr = sq, .max_recv_wr = srq ? 0 : rq, .max_send_sge = KVW_MAX_SGE, .max_recv_sge = 1, .max_inline_data = inline_bytes },
		.qp_type = IBV_QPT_RC,
	};
	struct ibv_qp *qp = v.create_qp(pd, &a);
	if (!qp)
		return NULL;
	struct ibv_qp_attr q = {
		.qp_state = IBV_QPS_INIT,
		.port_num = port,
		.pkey_index = pkey_index,
		.qp_access_flags = (remote & 1 ? IBV_ACCESS_REMOTE_READ : 0) | (remote & 2 ? IBV_ACCESS_REMOTE_WRITE : 0),
	};
	int err = v.modify_qp(qp, &q, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
	struct ibv_qp_init_attr got;
	memset(&got, 0, sizeof got);
	if (!err)
		err = v.query_qp(qp, &q, IBV_QP_CAP, &got);
	if (err) {
		v.destroy_qp(qp);
		errno = err;
		return NULL;
	}
	*num = qp->qp_num;
	*inline_got = got.cap.max_inline_data;
	return qp;
}

// kvw_qp_connect moves the queue pair to RTR and RTS; it returns errno, negative if RTS failed.
int kvw_qp_connect(void *qp, const struct kvw_qp_attr *a)
{
	struct ibv_qp_attr q = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = a->mtu,
		.dest_qp_num = a->qp_num,
		.rq_psn = a->psn,
		.max_dest_rd_atomic = a->responds,
		.min_rnr_timer = KVW_MIN_RNR,
		.ah_attr = { .dlid = a->lid, .port_num = a->port, .is_global = a->global, .sl = a->service_level },
	};
	if (a->global) {
		memcpy(q.ah_attr.grh.dgid.raw, a->gid, 16);
		q.ah_attr.grh.sgid_index = a->gid_index;
		q.ah_attr.grh.hop_limit = 64;
		q.ah_attr.grh.traffic_class = a->traffic_class;
	}
	int err = v.modify_qp(qp, &q, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
		IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
	if (err)
		return err;
	q = (struct ibv_qp_attr){
		.qp_state = IBV_QPS_RTS,
		.sq_psn = a->my_psn,
		.timeout = KVW_TIMEOUT,
		.retry_cnt = KVW_RETRY,
		.rnr_retry = KVW_RNR_RETRY,
		.max_rd_atomic = a->initiates,
	};
	return -v.modify_qp(qp, &q, IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC);
}

// kvw_qp_fail moves the queue pair to its error state: it consumes no more receives, and its queued work requests are flushed.
int kvw_qp_fail(void *qp)
{
	struct ibv_qp_attr q = { .qp_state = IBV_QPS_ERR };
	return v.modify_qp(qp, &q, IBV_QP_STATE);
}

// kvw_qp_kinds returns the kinds of queue pairs that can be made, as bits: 1 RC, 2 UC, 4 UD.
int kvw_qp_kinds(void *pd, void *cq)
{
	static const enum ibv_qp_type types[] = { IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD };
	int kinds = 0;
	for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
		struct ibv_qp_init_attr a = {
			.send_cq = cq, .recv_cq = cq, .qp_type = types[i],
			.cap = { .max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1 },
		};
		struct ibv_qp *qp = v.create_qp(pd, &a);
		if (qp) {
			kinds |= 1 << i;
			v.destroy_qp(qp);
		}
	}
	return kinds;
}

int kvw_modify(void *qp, void *attr, int mask) { return v.modify_qp(qp, attr, mask); }

int kvw_qp_free(void *qp) { return v.destroy_qp(qp); }

enum { CHAIN = 64 };

// kvw_post posts ops in order: those next to each other for one queue pair as one chain, of at most chain
// work requests per doorbell. After an error, done is the number of posted ones.
void kvw_post(struct kvw_post_call *c)
{
	struct ibv_send_wr wr[CHAIN], *bad;
	struct ibv_sge sge[CHAIN][KVW_MAX_SGE];
	int chain = c->chain < 1 || c->chain > CHAIN ? CHAIN : c->chain;
	int n = c->n, done = 0, bells = 0, err = 0;
	while (done < n && !err) {
		int k = 0;
		const struct kvw_op *first = c->ops + done;
		for (; k < chain && done + k < n && first[k].qp == first->qp; k++) {
			const struct kvw_op *o = first + k;
			struct ibv_send_wr *w = wr + k;
			memset(w, 0, sizeof *w);
			w->wr_id = o->wr_id;
			w->sg_list = sge[k];
			w->num_sge = (int)o->sges;
			for (uint32_t i = 0; i < o->sges; i++)
				sge[k][i] = (struct ibv_sge){ .addr = o->sge[i].addr, .length = o->sge[i].len, .lkey = o->sge[i].lkey };
			w->send_flags = (o->flags & KVW_SIGNALED ? IBV_SEND_SIGNALED : 0) | (o->flags & KVW_INLINE ? IBV_SEND_INLINE : 0);
			w->imm_data = __builtin_bswap32(o->imm); // network order; all supported machines are little-endian
			switch (o->opcode) {
			case KVW_SEND: w->opcode = IBV_WR_SEND_WITH_IMM; break;
			case KVW_SEND_PLAIN: w->opcode = IBV_WR_SEND; break;
			case KVW_WRITE: w->opcode = IBV_WR_RDMA_WRITE_WITH_IMM; break;
			case KVW_READ: w->opcode = IBV_WR_RDMA_READ; break;
			case KVW_WRITE_PLAIN: w->opcode = IBV_WR_RDMA_WRITE; break;
			}
			w->wr.rdma.remote_addr = o->remote;
			w->wr.rdma.rkey = o->rkey;
			if (k)
				wr[k - 1].next = w;
		}
		++bells;
		bad = wr;
		err = ibv_post_send((struct ibv_qp *)first->qp, wr, &bad);
		if (!err)
			done += k;
		else if (bad) // rxe's provider sets it to NULL if the kernel refuses the doorbell: none of the chain was posted
			done += (int)(bad - wr);
	}
	c->done = (uint32_t)done;
	c->bells = (uint32_t)bells;
	c->err = err;
}

void kvw_post_recv(struct kvw_recv_call *c)
{
	struct ibv_recv_wr wr[CHAIN], *bad;
	struct ibv_sge sge[CHAIN];
	int n = c->n, err = 0;
	for (int done = 0; done < n && !err;) {
		int k = 0;
		const struct kvw_recv *first = c->recvs + done;
		for (; k < CHAIN && done + k < n && first[k].queue == first->queue; k++) {
			sge[k] = (struct ibv_sge){ .addr = first[k].addr, .length = first[k].len, .lkey = first[k].lkey };
			wr[k] = (struct ibv_recv_wr){ .wr_id = first[k].wr_id, .sg_list = sge + k, .num_sge = first[k].len ? 1 : 0 };
			if (k)
				wr[k - 1].next = wr + k;
		}
		err = c->srq ? ibv_post_srq_recv((struct ibv_srq *)first->queue, wr, &bad) : ibv_post_recv((struct ibv_qp *)first->queue, wr, &bad);
		done += k;
	}
	c->err = err;
}

// poll_cq polls up to n completions and returns their number; below 0: it failed.
static int poll_cq(struct ibv_cq *cq, struct kvw_wc *out, int n)
{
	struct ibv_wc wc[CHAIN];
	int found = 0;
	while (found < n) {
		int want = n - found < CHAIN ? n - found : CHAIN;
		int k = ibv_poll_cq(cq, want, wc);
		if (k < 0)
			return k;
		for (int i = 0; i < k; i++) {
			struct kvw_wc *o = out + found + i;
			// After an error only these are valid.
			*o = (struct kvw_wc){ .wr_id = wc[i].wr_id, .status = wc[i].status, .qp_num = wc[i].qp_num, .vendor = wc[i].vendor_err };
			if (wc[i].status == IBV_WC_SUCCESS) {
				o->recv = wc[i].opcode == IBV_WC_RECV_RDMA_WITH_IMM ? 2 : wc[i].opcode & IBV_WC_RECV ? 1 : 0;
				o->bytes = wc[i].byte_len;
				o->imm = wc[i].wc_flags & IBV_WC_WITH_IMM ? __builtin_bswap32(wc[i].imm_data) : 0;
			}
		}
		found += k;
		if (k < want)
			break;
	}
	return found;
}

void kvw_nothing(void *unused) { (void)unused; }

void kvw_poll(struct kvw_cq_call *c) { c->found = poll_cq(c->cq, c->out, c->n); }

// kvw_spin polls until there is a completion, at most polls times.
void kvw_spin(struct kvw_cq_call *c)
{
	int i = 0;
	do
		c->found = poll_cq(c->cq, c->out, c->n);
	while (!c->found && ++i < c->polls);
}

// kvw_arm requests an event and then polls: a completion that came before the request makes no event.
void kvw_arm(struct kvw_cq_call *c)
{
	int err = ibv_req_notify_cq(c->cq, 0);
	c->found = err ? (err < 0 ? err : -err) : poll_cq(c->cq, c->out, c->n);
}

// kvw_event reads one event of a channel of one CQ, and acknowledges it. It returns 0 if there was none.
int kvw_event(void *channel, void *cq)
{
	struct ibv_cq *of;
	void *context;
	if (v.get_cq_event(channel, &of, &context))
		return 0;
	v.ack_cq_events(cq, 1);
	return 1;
}

const char *kvw_status(int status) { return v.wc_status_str(status); }
