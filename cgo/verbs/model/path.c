//go:build rdma && cgo && linux

// The data path. Whoever posts a work request carries it out: it copies the bytes into the peer's memory, and writes the peer's completion with the
// time from which it is visible. Nothing else moves bytes.
#include "local.h"

#include <errno.h>
#include <string.h>

// occupy sends through a process's port, after all that was sent before, and returns when the last bit leaves. It takes the link from now on, since nobody can keep it
// free for later, but leaves not before start + takes.
static uint64_t occupy(struct segment *s, uint64_t now, uint64_t start, uint64_t takes)
{
	if (!node.link.kib_time)
		return start;
	uint64_t until, old = atomic_load_explicit(&s->sent_until, memory_order_relaxed);
	do
		until = (old > now << 4 ? old : now << 4) + takes;
	while (!atomic_compare_exchange_weak_explicit(&s->sent_until, &old, until, memory_order_relaxed, memory_order_relaxed));
	uint64_t left = (start << 4) + takes;
	return (until > left ? until : left) >> 4;
}

static uint64_t message_time(uint64_t bytes) { return link_time(&node.link, bytes, packets_of(&node.link, bytes)); }

static void spend(uint32_t ns)
{
	if (ns)
		for (uint64_t until = now_ns() + ns; now_ns() < until;)
			;
}

// set_ready sets a queue pair's bit of a completion queue. What it has to show was written before.
static void set_ready(struct cq_shared *c, uint32_t place)
{
	_Atomic uint64_t *word = &c->ready[place / 64];
	uint64_t bit = 1ull << place % 64;
	atomic_thread_fence(memory_order_seq_cst);
	if (!(atomic_load_explicit(word, memory_order_relaxed) & bit))
		atomic_fetch_or(word, bit);
}

// queue_ready is set_ready for a queue of this process; it wakes its owner at due.
void queue_ready(struct cq *c, uint32_t place, uint64_t due)
{
	set_ready(c->sh, place);
	uint32_t armed = atomic_load(&c->sh->armed);
	if (armed && c->ib.channel)
		wake(c->own, armed, due);
}

// Memory.

static struct mr *find(struct segment *s, uint32_t key, uint32_t pd, uint64_t addr, uint64_t len, uint32_t access, uint32_t through)
{
	if (!key || key >> 8 >= MRS)
		return NULL;
	struct mr *m = &s->mrs[key >> 8];
	if (atomic_load(&m->key) != key || m->pd != pd || (m->access & access) != access)
		return NULL;
	if (m->qp_num && m->qp_num != through)
		return NULL;
	if (addr < m->addr || len > m->len || addr - m->addr > m->len - len)
		return NULL;
	return m;
}

// there returns where memory of a peer is mapped here.
static char *there(struct peer *p, uint64_t addr) { return p->memory + (addr - p->memory_base); }

// valid returns whether this side's pieces are registered memory.
static bool valid(const struct qp *q, const struct ibv_sge *sge, unsigned n, uint32_t access)
{
	for (unsigned i = 0; i < n; i++)
		if (sge[i].length && !find(node.segment, sge[i].lkey, q->sh->pd, sge[i].addr, sge[i].length, access, q->sh->num))
			return false;
	return true;
}

static void gather(char *to, const struct ibv_sge *sge, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		memcpy(to, (const char *)(uintptr_t)sge[i].addr, sge[i].length);
		to += sge[i].length;
	}
}

static void scatter(const struct ibv_sge *sge, unsigned n, const char *from)
{
	for (unsigned i = 0; i < n; i++) {
		memcpy((char *)(uintptr_t)sge[i].addr, from, sge[i].length);
		from += sge[i].length;
	}
}

// The peer's queue pair. All use of its memory is between enter and leave, so that its owner can wait until there is none (qp_quiet).

static void enter(struct qp *q) { atomic_fetch_add(&q->sh->busy, 1); }
static void leave(struct qp *q) { atomic_fetch_add_explicit(&q->sh->busy, 1, memory_order_release); }

// answers returns whether the peer's queue pair is connected to this one.
static bool answers(struct qp *q)
{
	struct qp_shared *r = q->remote;
	if (!r || atomic_load(&q->peer->gone))
		return false;
	uint32_t state = atomic_load(&r->state);
	return (state == IBV_QPS_RTR || state == IBV_QPS_RTS) && atomic_load(&r->generation) == q->remote_generation && r->reachable && r->dest == q->sh->num &&
		r->peer_psn == q->sh->my_psn;
}

// qp_quiet returns whether the peer does not use this side's memory now. A peer that has ended does not.
bool qp_quiet(struct qp *q)
{
	return !q->remote || !(atomic_load(&q->remote->busy) & 1) || atomic_load(&q->peer->gone);
}

// qp_settle waits until the peer does not use this side's memory; false: it was stopped in the middle of a transfer.
bool qp_settle(struct qp *q)
{
	uint64_t until = 0;
	for (; !qp_quiet(q); sched_yield()) {
		uint64_t now = now_ns();
		if (!until)
			until = now + STOPPED_MS * 1000000ull;
		if (now > until)
			return false;
	}
	return true;
}

// show_peer makes what was written known to the peer's completion queue. The owner sleeps if q->wake_armed is not 0 then.
static void show_peer(struct qp *q, uint64_t due)
{
	set_ready(q->remote_cq, q->remote->cq_place);
	q->wake_armed = q->waker ? atomic_load(&q->remote_cq->armed) : 0;
	q->wake_at = due;
}

// fail_peer takes the peer's queue pair to its error state; its owner flushes it.
static void fail_peer(struct qp *q, uint64_t due)
{
	uint32_t state = IBV_QPS_RTS;
	if (!atomic_compare_exchange_strong(&q->remote->state, &state, IBV_QPS_ERR) && state == IBV_QPS_RTR)
		atomic_compare_exchange_strong(&q->remote->state, &state, IBV_QPS_ERR);
	show_peer(q, due);
}

// consume takes the next receive of a queue for a queue pair; NULL: there is none.
static struct receive *consume(struct recvq *q, uint32_t qp_num, uint32_t *index)
{
	for (;;) {
		uint64_t h = atomic_load(&q->head);
		if (h >= atomic_load_explicit(&q->tail, memory_order_acquire))
			return NULL;
		uint32_t i = atomic_load_explicit(&recvq_ring(q)[h & (q->size - 1)], memory_order_relaxed);
		if (i >= q->size)
			continue; // head has moved
		struct receive *r = &q->receives[i];
		uint64_t none = h << 24;
		bool mine = atomic_compare_exchange_strong(&r->claim, &none, h << 24 | qp_num);
		uint64_t at = h;
		atomic_compare_exchange_strong(&q->head, &at, h + 1); // also for another that has the receive and was killed
		if (mine) {
			*index = i;
			return r;
		}
	}
}

enum result { DONE, LATER };

static enum result later(struct wqe *w, uint64_t at)
{
	w->retry_at = at;
	return LATER;
}

// transport_timer returns the time until a queue pair sends again what has no answer.
static uint64_t transport_timer(const struct qp *q) { return q->timeout ? 4096ull << q->timeout : 1000000000; } // IBTA 9.7.6.1.3; 0: endless

static enum result no_answer(struct qp *q, struct wqe *w, uint64_t now)
{
	uint64_t wait = transport_timer(q);
	if (q->timeout && q->tries++ >= q->retries + 1u) {
		w->status = IBV_WC_RETRY_EXC_ERR;
		return DONE;
	}
	return later(w, now + wait);
}

// The delays of IBTA table 45, in 10 us.
static const uint32_t rnr_delays[32] = { 65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384,
	24576, 32768, 49152 };

static enum result no_receive(struct qp *q, struct wqe *w, uint64_t now)
{
	atomic_fetch_add_explicit(&node.rnrs, 1, memory_order_relaxed);
	if (q->rnr_retries < 7 && q->rnr_tries++ >= q->rnr_retries) {
		w->status = IBV_WC_RNR_RETRY_EXC_ERR;
		return DONE;
	}
	return later(w, now + node.link.rtt_ns + rnr_delays[q->remote->min_rnr & 31] * 10000ull);
}

// arrive writes the completion of the peer's receive.
static void arrive(struct qp *q, const struct wqe *w, uint32_t receive, uint8_t status, uint64_t due)
{
	struct qp_shared *r = q->remote;
	uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
	if (due < q->last_arrival)
		due = q->last_arrival;
	q->last_arrival = due;
	bool imm = w->opcode != IBV_WR_SEND;
	q->remote_ring[tail & (r->arrivals - 1)] = (struct arrival){ .due = due, .receive = receive, .bytes = w->bytes, .imm = w->imm, .status = status, .with_imm = imm,
		.opcode = w->opcode == IBV_WR_RDMA_WRITE_WITH_IMM ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV };
	atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
	show_peer(q, due);
}

// depart sends bytes of a work request, from its packet from on, through a port at start. It sets left to when the last bit leaves. Of lost packets it is
// LATER, unless one behind them shows the loss; status is set if they were lost too often.
static enum result depart(struct qp *q, struct wqe *w, struct segment *port, uint64_t now, uint64_t start, uint64_t bytes, uint32_t *from, uint64_t *left)
{
	if (!node.link.loss) {
		*left = occupy(port, now, start, message_time(bytes));
		return DONE;
	}
	uint64_t busy = atomic_load_explicit(&port->sent_until, memory_order_relaxed), begin = busy > start << 4 ? busy : start << 4, dropped = 0;
	if (now < q->resent_at) { // it was sent before the peer's report of the loss came, and is sent again
		uint64_t all = message_time(bytes), until = (q->resent_at - now) << 4;
		dropped = all < until ? all : until;
	}
	struct model_passage p;
	model_pass(&node.link, &q->random, q->retries, begin, bytes, *from, &p);
	*left = occupy(port, now, now, p.link + dropped);
	if (*left < p.left >> 4)
		*left = p.left >> 4;
	atomic_fetch_add_explicit(&node.lost, p.lost, memory_order_relaxed);
	if (p.resent) {
		q->resent_at = p.resent >> 4;
		q->free_at = *left;
	}
	*from = p.from;
	if (p.given_up)
		w->status = IBV_WC_RETRY_EXC_ERR;
	if (!p.unseen)
		return DONE;
	w->unseen = true;
	return no_answer(q, w, *left);
}

// shown has a work request behind lost packets show the loss, unless it is lost, too: the peer drops it, and reports which packet it expects.
static void shown(struct qp *q, struct wqe *lost, const struct wqe *behind, uint64_t now)
{
	if (behind->opcode == IBV_WR_BIND_MW)
		return;
	uint64_t bytes = behind->opcode == IBV_WR_RDMA_READ ? 0 : behind->bytes, left = occupy(node.segment, now, now, message_time(bytes));
	if (is_lost(&node.link, &q->random)) {
		atomic_fetch_add_explicit(&node.lost, 1, memory_order_relaxed);
		return;
	}
	lost->unseen = false;
	lost->retry_at = 0;
	q->free_at = q->resent_at = left + node.link.rtt_ns;
}

// acknowledge sets when the poster has the acknowledgement of a work request, which is one for those before it, too. If it is lost, the next one counts, or the transport
// timer: then the peer acknowledges the duplicate.
static void acknowledge(struct qp *q, struct wqe *w, uint64_t due)
{
	if (due < q->last_due)
		due = q->last_due;
	if (node.link.loss && w->opcode != IBV_WR_BIND_MW && w->opcode != IBV_WR_RDMA_READ && !w->status && is_lost(&node.link, &q->random)) {
		atomic_fetch_add_explicit(&node.lost, 1, memory_order_relaxed);
		w->due = due + transport_timer(q);
		return;
	}
	w->due = q->last_due = due;
	for (uint64_t i = q->run; i > q->scan; i--) {
		struct wqe *before = &q->sq[(i - 1) & q->sq_mask];
		if (before->due > due)
			before->due = due;
	}
}

// read_start returns when a READ may start, behind the one that is as many before it as may be in flight; 0: it may not, and status is set.
static uint64_t read_start(struct qp *q, struct wqe *w, uint64_t start)
{
	uint32_t most = q->reads_max, there = q->remote->reads_max;
	if (!most) {
		w->status = IBV_WC_LOC_QP_OP_ERR;
		return 0;
	}
	uint64_t before = q->read_due[q->reads % most];
	if (start < before)
		q->free_at = start = before; // what is posted behind it waits, too
	if (most > there && (!there || q->read_due[(q->reads + most - there) % most] > start)) {
		w->status = IBV_WC_REM_INV_REQ_ERR;
		return 0;
	}
	return start;
}

// transfer carries out a SEND, a WRITE or a READ between enter and leave. It sets the status, and due to when the peer has it (of a READ: when the answer is here); a plain WRITE is due
// already.
static enum result transfer(struct qp *q, struct wqe *w, const struct ibv_sge *sge, uint64_t now, uint64_t *due)
{
	struct peer *p = q->peer;
	struct qp_shared *r = q->remote;
	bool is_send = w->opcode == IBV_WR_SEND || w->opcode == IBV_WR_SEND_WITH_IMM, is_read = w->opcode == IBV_WR_RDMA_READ;
	if (!answers(q))
		return no_answer(q, w, now);
	if (!is_send && w->bytes) {
		uint32_t right = is_read ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_REMOTE_WRITE;
		if (!(r->access & right) || !find(p->segment, w->rkey, r->pd, w->remote, w->bytes, right, r->num)) {
			w->status = IBV_WC_REM_ACCESS_ERR;
			fail_peer(q, now + node.link.rtt_ns / 2);
			return DONE;
		}
	}
	uint64_t start = q->free_at > now ? q->free_at : now;
	if (is_read) {
		if (!(start = read_start(q, w, start))) {
			if (w->status == IBV_WC_REM_INV_REQ_ERR)
				fail_peer(q, now + node.link.rtt_ns / 2);
			return DONE;
		}
		uint64_t asked = 0;
		uint32_t request = 0;
		if (depart(q, w, node.segment, now, start, 0, &request, &asked) == LATER)
			return LATER;
		if (!w->status && depart(q, w, p->segment, now, asked + node.link.rtt_ns / 2 + node.link.read_ns, w->bytes, &w->from, due) == LATER)
			return LATER;
		*due += node.link.rtt_ns / 2;
		if (w->status)
			return DONE;
		q->read_due[q->reads++ % q->reads_max] = *due;
		scatter(sge, w->sges, there(p, w->remote));
		return DONE;
	}
	uint32_t index = 0;
	struct receive *to = NULL;
	if (w->opcode != IBV_WR_RDMA_WRITE) {
		if (depart(q, w, node.segment, now, start, w->bytes, &w->from, due) == LATER)
			return LATER;
		if (w->status)
			return DONE;
		*due += node.link.rtt_ns / 2;
		if (!(to = consume(q->remote_recvq, r->num, &index)))
			return no_receive(q, w, now);
	}
	if (!is_send) {
		if (w->bytes)
			gather(there(p, w->remote), sge, w->sges);
	} else if (w->bytes > to->len) {
		w->status = IBV_WC_REM_INV_REQ_ERR;
		arrive(q, w, index, IBV_WC_LOC_LEN_ERR, *due);
		fail_peer(q, *due);
		return DONE;
	} else if (w->bytes && !find(p->segment, to->lkey, r->pd, to->addr, to->len, IBV_ACCESS_LOCAL_WRITE, r->num)) {
		w->status = IBV_WC_REM_OP_ERR;
		arrive(q, w, index, IBV_WC_LOC_PROT_ERR, *due);
		fail_peer(q, *due);
		return DONE;
	} else if (w->bytes)
		gather(there(p, to->addr), sge, w->sges);
	if (to)
		arrive(q, w, index, IBV_WC_SUCCESS, *due);
	return DONE;
}

// bind binds a memory window of type 2 (IBTA 10.6.7).
static void bind(struct qp *q, struct wqe *w)
{
	const struct ibv_mw_bind_info *b = &w->bind;
	uint32_t key = w->rkey, index = w->mw->handle;
	w->status = IBV_WC_MW_BIND_ERR;
	if (key >> 8 != index || !b->mr || w->mw->pd != q->ib.pd || (b->mw_access_flags & IBV_ACCESS_ZERO_BASED))
		return;
	uint32_t needs = IBV_ACCESS_MW_BIND | (b->mw_access_flags & IBV_ACCESS_REMOTE_WRITE ? IBV_ACCESS_LOCAL_WRITE : 0);
	if (!find(node.segment, b->mr->lkey, q->sh->pd, b->addr, b->length, needs, q->sh->num))
		return;
	struct mr *m = &node.segment->mrs[index];
	atomic_store(&m->key, 0);
	m->access = b->mw_access_flags;
	m->pd = q->sh->pd;
	m->qp_num = q->sh->num;
	m->addr = b->addr;
	m->len = b->length;
	atomic_store(&m->key, key);
	w->mw->rkey = key;
	w->status = IBV_WC_SUCCESS;
}

// execute carries out a work request whose bytes are at sge.
static enum result execute(struct qp *q, struct wqe *w, const struct ibv_sge *sge, uint64_t now)
{
	uint64_t due = now;
	if (w->unseen) { // the transport timer has expired: all that was not acknowledged is sent again
		atomic_fetch_add_explicit(&node.unseen, 1, memory_order_relaxed);
		w->unseen = false;
		w->from = 0;
	}
	if (w->opcode == IBV_WR_BIND_MW)
		bind(q, w);
	else if (!w->is_inline && !valid(q, sge, w->sges, w->opcode == IBV_WR_RDMA_READ ? IBV_ACCESS_LOCAL_WRITE : 0))
		w->status = IBV_WC_LOC_PROT_ERR;
	else if (w->bytes > MESSAGE_MAX)
		w->status = IBV_WC_LOC_LEN_ERR;
	else {
		if (w->opcode == IBV_WR_RDMA_WRITE) { // a peer that polls its memory must not see the bytes before they are due
			if (depart(q, w, node.segment, now, q->free_at > now ? q->free_at : now, w->bytes, &w->from, &due) == LATER)
				return LATER;
			due += node.link.rtt_ns / 2;
			while (!w->status && now_ns() < due)
				;
		}
		q->wake_armed = 0;
		enter(q);
		enum result r = w->status ? DONE : transfer(q, w, sge, now, &due);
		leave(q);
		if (q->wake_armed) // a system call, at whose end a process may be stopped: so not before leave
			wake(q->waker, q->wake_armed, q->wake_at);
		if (r == LATER)
			return r;
		due += w->opcode == IBV_WR_RDMA_READ ? 0 : node.link.rtt_ns / 2;
	}
	q->tries = q->rnr_tries = 0;
	acknowledge(q, w, due);
	if (w->status) {
		w->report = true;
		qp_fail(q);
	}
	return DONE;
}

// qp_fail takes the queue pair to its error state. What was not carried out is flushed by qp_run.
void qp_fail(struct qp *q)
{
	uint64_t now = now_ns();
	atomic_store(&q->sh->state, IBV_QPS_ERR);
	queue_ready(q->send_cq, q->send_place, now);
	queue_ready(q->recv_cq, q->recv_place, now);
}

// qp_run carries out what waits in the send queue, and whose time has come.
void qp_run(struct qp *q, uint64_t now)
{
	for (; q->run < q->tail; q->run++) {
		struct wqe *w = &q->sq[q->run & q->sq_mask];
		if (atomic_load_explicit(&q->sh->state, memory_order_acquire) == IBV_QPS_ERR) {
			w->status = IBV_WC_WR_FLUSH_ERR;
			w->report = true;
			w->due = q->last_due = now > q->last_due ? now : q->last_due;
			continue;
		}
		if (w->retry_at > now)
			return;
		struct ibv_sge inside = { .addr = (uintptr_t)q->inline_bytes + (q->run & q->sq_mask) * q->inline_max, .length = w->bytes };
		if (w->is_inline)
			w->sges = 1;
		while (execute(q, w, w->is_inline ? &inside : w->sge, now) == LATER) {
			for (uint64_t i = q->run + 1; w->unseen && i < q->tail; i++)
				shown(q, w, &q->sq[i & q->sq_mask], now);
			if (w->retry_at > now)
				return;
		}
	}
}

// show makes what the send queue will have for poll known to its completion queue.
static void show(struct qp *q)
{
	while (q->scan < q->run && !q->sq[q->scan & q->sq_mask].report)
		q->scan++;
	struct wqe *w = &q->sq[q->scan & q->sq_mask];
	if (q->scan < q->run)
		queue_ready(q->send_cq, q->send_place, w->due);
	else if (q->run < q->tail)
		queue_ready(q->send_cq, q->send_place, w->retry_at);
}

// check returns 0, or errno for a work request that cannot be posted.
static int check(struct qp *q, const struct ibv_send_wr *wr, uint32_t *bytes)
{
	switch (wr->opcode) {
	case IBV_WR_SEND: case IBV_WR_SEND_WITH_IMM: case IBV_WR_RDMA_WRITE: case IBV_WR_RDMA_WRITE_WITH_IMM: case IBV_WR_RDMA_READ:
		break;
	case IBV_WR_BIND_MW:
		return wr->bind_mw.mw ? q->tail - q->head >= q->sq_max ? ENOMEM : 0 : EINVAL;
	default:
		return EOPNOTSUPP;
	}
	if (q->tail - q->head >= q->sq_max)
		return ENOMEM;
	if (wr->num_sge < 0 || (uint32_t)wr->num_sge > q->sges_max)
		return EINVAL;
	uint64_t sum = 0;
	for (int i = 0; i < wr->num_sge; i++)
		sum += wr->sg_list[i].length;
	if (sum > UINT32_MAX || (wr->send_flags & IBV_SEND_INLINE && (sum > q->inline_max || wr->opcode == IBV_WR_RDMA_READ)))
		return EINVAL;
	*bytes = (uint32_t)sum;
	return 0;
}

// post puts a work request into the send queue, and carries it out if none before it waits.
static void post(struct qp *q, const struct ibv_send_wr *wr, uint32_t bytes, uint64_t now)
{
	struct wqe *w = &q->sq[q->tail & q->sq_mask];
	w->wr_id = wr->wr_id;
	w->opcode = (uint8_t)wr->opcode;
	w->status = 0;
	w->report = q->signal_all || wr->send_flags & IBV_SEND_SIGNALED;
	w->is_inline = wr->send_flags & IBV_SEND_INLINE;
	w->imm = wr->imm_data;
	w->bytes = bytes;
	w->retry_at = 0;
	w->from = 0;
	w->unseen = false;
	w->sges = (uint8_t)wr->num_sge;
	if (w->opcode == IBV_WR_BIND_MW) {
		w->mw = wr->bind_mw.mw;
		w->rkey = wr->bind_mw.rkey;
		w->bind = wr->bind_mw.bind_info;
		w->is_inline = false;
		w->sges = 0;
		w->bytes = 0;
	} else {
		w->remote = wr->wr.rdma.remote_addr;
		w->rkey = wr->wr.rdma.rkey;
	}
	q->tail++;
	spend(node.link.wr_ns);
	if (q->run == q->tail - 1 && atomic_load_explicit(&q->sh->state, memory_order_acquire) == IBV_QPS_RTS && execute(q, w, wr->sg_list, now) == DONE) {
		q->run++;
		return;
	}
	if (w->is_inline) // it waits, and the caller may use the bytes again
		gather(q->inline_bytes + ((q->tail - 1) & q->sq_mask) * q->inline_max, wr->sg_list, w->sges);
	else
		memcpy(w->sge, wr->sg_list, w->sges * sizeof *w->sge);
	struct wqe *first = &q->sq[q->run & q->sq_mask];
	if (first->unseen && first != w)
		shown(q, first, w, now);
}

int path_post_send(struct ibv_qp *ib, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct qp *q = (struct qp *)ib;
	int err = 0;
	spend(node.link.doorbell_ns);
	spin_lock(&q->lock);
	uint32_t state = atomic_load(&q->sh->state);
	uint64_t now = now_ns();
	if (state != IBV_QPS_RTS && state != IBV_QPS_ERR)
		err = EINVAL;
	for (; wr && !err; wr = wr->next) {
		uint32_t bytes = 0;
		err = check(q, wr, &bytes);
		if (err)
			break;
		post(q, wr, bytes, now);
	}
	qp_run(q, now); // flushes, in the error state
	show(q);
	spin_unlock(&q->lock);
	if (err)
		*bad = wr;
	return err;
}

// Receives.

static int post_receives(struct receives *rx, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	int err = 0;
	struct recvq *q = rx->q;
	spin_lock(&rx->lock);
	uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
	for (; wr; wr = wr->next, tail++) {
		err = wr->num_sge < 0 || wr->num_sge > RECV_SGES ? EINVAL : rx->spares ? 0 : ENOMEM;
		if (err) {
			*bad = wr;
			break;
		}
		uint32_t i = rx->spare[--rx->spares];
		struct receive *r = &q->receives[i];
		r->wr_id = wr->wr_id;
		r->addr = wr->num_sge ? wr->sg_list->addr : 0;
		r->len = wr->num_sge ? wr->sg_list->length : 0;
		r->lkey = wr->num_sge ? wr->sg_list->lkey : 0;
		atomic_store_explicit(&r->claim, tail << 24, memory_order_release);
		atomic_store_explicit(&recvq_ring(q)[tail & (q->size - 1)], i, memory_order_relaxed);
	}
	atomic_store(&q->tail, tail);
	spin_unlock(&rx->lock);
	return err;
}

int path_post_recv(struct ibv_qp *ib, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct qp *q = (struct qp *)ib;
	if (q->ib.srq || atomic_load(&q->sh->state) == IBV_QPS_RESET) {
		*bad = wr;
		return EINVAL;
	}
	int err = post_receives(q->rx, wr, bad);
	if (atomic_load(&q->sh->state) == IBV_QPS_ERR) {
		spin_lock(&q->lock);
		q->recv_flushed = false;
		spin_unlock(&q->lock);
		queue_ready(q->recv_cq, q->recv_place, now_ns());
	}
	return err;
}

int path_post_srq_recv(struct ibv_srq *ib, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	return post_receives(&((struct srq *)ib)->rx, wr, bad);
}

// Completions.

static void give_back(struct receives *rx, uint32_t i)
{
	atomic_store_explicit(&rx->q->receives[i].claim, FREE, memory_order_relaxed);
	spin_lock(&rx->lock);
	rx->spare[rx->spares++] = i;
	spin_unlock(&rx->lock);
}

static int poll_sends(struct qp *q, uint64_t now, struct ibv_wc *wc, int n)
{
	static const uint8_t opcodes[] = { [IBV_WR_SEND] = IBV_WC_SEND, [IBV_WR_SEND_WITH_IMM] = IBV_WC_SEND, [IBV_WR_RDMA_WRITE] = IBV_WC_RDMA_WRITE,
		[IBV_WR_RDMA_WRITE_WITH_IMM] = IBV_WC_RDMA_WRITE, [IBV_WR_RDMA_READ] = IBV_WC_RDMA_READ, [IBV_WR_BIND_MW] = IBV_WC_BIND_MW };
	int k = 0;
	if (q->run < q->tail)
		qp_run(q, now);
	for (; k < n; k++) {
		while (q->scan < q->run && !q->sq[q->scan & q->sq_mask].report)
			q->scan++;
		struct wqe *w = &q->sq[q->scan & q->sq_mask];
		if (q->scan == q->run || w->due > now)
			break;
		wc[k] = (struct ibv_wc){ .wr_id = w->wr_id, .status = w->status, .opcode = opcodes[w->opcode], .byte_len = w->bytes, .qp_num = q->sh->num };
		q->head = ++q->scan;
	}
	return k;
}

static struct ibv_wc flushed(struct qp *q, uint32_t receive)
{
	return (struct ibv_wc){ .wr_id = q->rx->q->receives[receive].wr_id, .status = IBV_WC_WR_FLUSH_ERR, .opcode = IBV_WC_RECV, .qp_num = q->sh->num };
}

// claimed returns the next receive from i on that this queue pair has consumed and that has no completion; size: there is none. Its peer was killed before it
// could write one.
static uint32_t claimed(struct qp *q, uint32_t i)
{
	struct recvq *rq = q->rx->q;
	for (; i < rq->size; i++) {
		uint64_t c = atomic_load(&rq->receives[i].claim);
		if (c != FREE && (c & CLAIM_QP) == q->sh->num)
			break;
	}
	return i;
}

// flush completes the receives of a queue pair in the error state: all of its own queue, or what it has consumed of a shared one.
static int flush(struct qp *q, struct ibv_wc *wc, int n)
{
	int k = 0;
	uint32_t i;
	if (q->recv_flushed || !qp_quiet(q))
		return 0;
	while (k < n && (i = claimed(q, 0)) < q->rx->q->size) {
		wc[k++] = flushed(q, i);
		give_back(q->rx, i);
	}
	while (k < n && !q->ib.srq && consume(q->rx->q, q->sh->num, &i)) {
		wc[k++] = flushed(q, i);
		give_back(q->rx, i);
	}
	if (k < n) {
		q->recv_flushed = true;
		if (q->ib.srq)
			context_event((struct context *)q->ib.context, IBV_EVENT_QP_LAST_WQE_REACHED, q);
	}
	return k;
}

static int poll_receives(struct qp *q, uint64_t now, struct ibv_wc *wc, int n)
{
	int k = 0;
	bool failed = atomic_load(&q->sh->state) == IBV_QPS_ERR; // then all is visible at once
	uint64_t head = atomic_load_explicit(&q->sh->head, memory_order_relaxed), tail = atomic_load_explicit(&q->sh->tail, memory_order_acquire);
	for (; k < n && head < tail; k++, head++) {
		struct arrival *a = &q->ring[head & (q->sh->arrivals - 1)];
		if (a->due > now && !failed)
			break;
		wc[k] = (struct ibv_wc){ .wr_id = q->rx->q->receives[a->receive].wr_id, .status = a->status, .opcode = a->opcode, .byte_len = a->bytes, .imm_data = a->imm,
			.wc_flags = a->with_imm ? IBV_WC_WITH_IMM : 0, .qp_num = q->sh->num };
		give_back(q->rx, a->receive);
	}
	atomic_store_explicit(&q->sh->head, head, memory_order_release);
	if (failed && head == tail && k < n) {
		if (q->run < q->tail) { // the peer has failed it
			qp_run(q, now);
			show(q);
		}
		k += flush(q, wc + k, n - k);
	}
	return k;
}

// qp_left returns whether a queue pair has, or will have, something for one of its completion queues.
bool qp_left(const struct qp *q, bool sends)
{
	for (uint64_t i = q->scan; sends && i < q->tail; i++)
		if (i >= q->run || q->sq[i & q->sq_mask].report)
			return true;
	if (q->send_cq != q->recv_cq && sends)
		return false;
	return atomic_load(&q->sh->head) != atomic_load(&q->sh->tail) || (atomic_load(&q->sh->state) == IBV_QPS_ERR && !q->recv_flushed);
}

// reap polls a queue pair, and clears its bit when nothing is left.
static int reap(struct cq *c, uint32_t place, uint64_t now, struct ibv_wc *wc, int n)
{
	struct qp *q = c->qps[place];
	_Atomic uint64_t *word = &c->sh->ready[place / 64];
	uint64_t bit = 1ull << place % 64;
	if (!q) {
		atomic_fetch_and(word, ~bit);
		return 0;
	}
	int k = 0;
	bool sends = c == q->send_cq;
	spin_lock(&q->lock);
	uint64_t run = q->run;
	if (sends)
		k = poll_sends(q, now, wc, n);
	if (c == q->recv_cq && k < n)
		k += poll_receives(q, now, wc + k, n - k);
	if (sends && (q->run != run || q->run < q->tail))
		show(q);
	if (!qp_left(q, sends)) {
		atomic_fetch_and(word, ~bit);
		atomic_thread_fence(memory_order_seq_cst);
		if (qp_left(q, sends)) // it has come in between
			atomic_fetch_or(word, bit);
	}
	spin_unlock(&q->lock);
	return k;
}

int path_poll_cq(struct ibv_cq *ib, int n, struct ibv_wc *wc)
{
	struct cq *c = (struct cq *)ib;
	uint64_t now = 0;
	int k = 0;
	spin_lock(&c->lock);
	uint32_t words = c->words;
	for (uint32_t i = 0; i < words && k < n; i++) {
		uint32_t word = c->next + i < words ? c->next + i : c->next + i - words;
		for (uint64_t ready = atomic_load(&c->sh->ready[word]); ready && k < n; ready &= ready - 1) {
			if (!now)
				now = now_ns();
			k += reap(c, word * 64 + (uint32_t)__builtin_ctzll(ready), now, wc + k, n - k);
		}
	}
	c->next = c->next + 1 < words ? c->next + 1 : 0;
	spin_unlock(&c->lock);
	return k;
}

// first_due returns the earliest time after now at which a queue pair will have a completion; the largest: none that is known.
static uint64_t first_due(struct cq *c, struct qp *q, uint64_t now)
{
	uint64_t first = ~0ull;
	if (c == q->send_cq) {
		for (uint64_t i = q->scan; i < q->run; i++) {
			struct wqe *w = &q->sq[i & q->sq_mask];
			if (w->report && w->due > now) {
				first = w->due;
				break;
			}
		}
		uint64_t retry = q->sq[q->run & q->sq_mask].retry_at;
		if (q->run < q->tail && retry > now && retry < first)
			first = retry;
	}
	if (c == q->recv_cq) {
		uint64_t tail = atomic_load(&q->sh->tail);
		for (uint64_t i = atomic_load(&q->sh->head); i < tail; i++) {
			uint64_t due = q->ring[i & (q->sh->arrivals - 1)].due;
			if (due > now) {
				first = due < first ? due : first;
				break;
			}
		}
		if (atomic_load(&q->sh->state) == IBV_QPS_ERR && !q->recv_flushed && !qp_quiet(q) && now + 1000000 < first)
			first = now + 1000000;
	}
	return first;
}

int path_req_notify_cq(struct ibv_cq *ib, int solicited_only)
{
	struct cq *c = (struct cq *)ib;
	if (solicited_only)
		return EOPNOTSUPP;
	if (!c->ib.channel)
		return 0;
	spin_lock(&c->lock);
	if (!++c->requests)
		c->requests = 1;
	atomic_store(&c->sh->armed, c->requests);
	uint64_t now = now_ns(), first = ~0ull; // what is due by now makes no event: the caller polls
	for (uint32_t word = 0; word < c->words; word++)
		for (uint64_t ready = atomic_load(&c->sh->ready[word]); ready; ready &= ready - 1) {
			struct qp *q = c->qps[word * 64 + (uint32_t)__builtin_ctzll(ready)];
			if (!q)
				continue;
			spin_lock(&q->lock);
			uint64_t due = first_due(c, q, now);
			spin_unlock(&q->lock);
			first = due < first ? due : first;
		}
	if (first != ~0ull)
		wake(c->own, c->requests, first);
	spin_unlock(&c->lock);
	return 0;
}

// qp_release_claims gives back what a queue pair that is being destroyed has consumed of a shared queue.
void qp_release_claims(struct qp *q)
{
	for (uint32_t i = 0; (i = claimed(q, i)) < q->rx->q->size; i++)
		give_back(q->rx, i);
}
