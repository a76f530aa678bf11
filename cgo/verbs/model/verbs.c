//go:build rdma && cgo && linux

// The objects of the verbs: device, protection domains, memory, queues, and the states of queue pairs. What the model does not have is refused with EOPNOTSUPP.
#include "local.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct ibv_device device = { .node_type = IBV_NODE_CA, .transport_type = IBV_TRANSPORT_IB, .name = "model0", .dev_name = "model0" };

static void *fail(int err)
{
	errno = err;
	return NULL;
}

int model_start(const struct model_link *link, int fd, void *base, size_t len)
{
	if (node.self.memory)
		return EBUSY;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return errno;
	node.link = *link;
	node.memory_fd = own;
	node.self.memory = base;
	node.self.memory_base = (uintptr_t)base;
	node.self.memory_bytes = len;
	return 0;
}

void model_count(struct model_objects *out)
{
	*out = (struct model_objects){ .qps = atomic_load(&node.qp_count), .cqs = atomic_load(&node.cq_count), .mrs = atomic_load(&node.mrs), .pds = atomic_load(&node.pds),
		.srqs = atomic_load(&node.srqs), .rnrs = atomic_load(&node.rnrs),
		.lost = atomic_load(&node.lost), .unseen = atomic_load(&node.unseen) };
}

// Device and port.

static struct ibv_device **get_device_list(int *count)
{
	struct ibv_device **list = calloc(2, sizeof *list);
	if (!list)
		return NULL;
	list[0] = &device;
	if (count)
		*count = 1;
	return list;
}

static void free_device_list(struct ibv_device **list) { free(list); }
static const char *get_device_name(struct ibv_device *d) { return d->name; }

static int query_device(struct ibv_context *ctx, struct ibv_device_attr *a)
{
	(void)ctx;
	*a = (struct ibv_device_attr){ .fw_ver = "model", .max_mr_size = node.self.memory_bytes, .page_size_cap = 4096, .max_qp = QPS, .max_qp_wr = WRS_MAX, .max_sge = SEND_SGES,
		.max_cq = CQS, .max_cqe = 1 << 20, .max_mr = MRS, .max_pd = 1 << 16, .max_qp_rd_atom = READS_MAX, .max_qp_init_rd_atom = READS_MAX, .max_mw = MRS, .max_srq = 1 << 10,
		.max_srq_wr = WRS_MAX, .max_srq_sge = RECV_SGES, .phys_port_cnt = 1, .max_pkeys = 1, .device_cap_flags = IBV_DEVICE_MEM_WINDOW_TYPE_2B | IBV_DEVICE_RC_RNR_NAK_GEN };
	return 0;
}

static enum ibv_mtu mtu_code(void)
{
	int code = IBV_MTU_256;
	while (code < IBV_MTU_4096 && 128u << code < node.link.mtu)
		code++;
	return (enum ibv_mtu)code;
}

// address_gid returns the GID of an interface's address; false: it has none.
static bool address_gid(const struct sockaddr *a, union ibv_gid *g)
{
	if (a && a->sa_family == AF_INET) {
		memset(g, 0, sizeof *g);
		g->raw[10] = g->raw[11] = 0xFF;
		memcpy(g->raw + 12, &((const struct sockaddr_in *)a)->sin_addr, 4);
		return true;
	}
	if (a && a->sa_family == AF_INET6) {
		memcpy(g->raw, &((const struct sockaddr_in6 *)a)->sin6_addr, 16);
		return true;
	}
	return false;
}

// The port's GIDs: the addresses of the interfaces that are up.
enum { GIDS = 256 };
static union ibv_gid gid_table[GIDS];
static int gid_count;
static struct spin gid_lock;

// read_gids reads the addresses. Without a free descriptor the table stays as it was.
static void read_gids(void)
{
	struct ifaddrs *all;
	if (getifaddrs(&all))
		return;
	spin_lock(&gid_lock);
	gid_count = 0;
	for (struct ifaddrs *i = all; i && gid_count < GIDS; i = i->ifa_next)
		if (i->ifa_flags & IFF_UP && address_gid(i->ifa_addr, &gid_table[gid_count]))
			gid_count++;
	spin_unlock(&gid_lock);
	freeifaddrs(all);
}

static bool is_gid(const union ibv_gid *g)
{
	bool is = false;
	spin_lock(&gid_lock);
	for (int i = 0; i < gid_count && !is; i++)
		is = !memcmp(g, &gid_table[i], sizeof *g);
	spin_unlock(&gid_lock);
	return is;
}

static int query_port(struct ibv_context *ctx, uint8_t port, struct ibv_port_attr *a)
{
	(void)ctx;
	if (port != 1)
		return EINVAL;
	a->state = IBV_PORT_ACTIVE;
	a->max_mtu = a->active_mtu = mtu_code();
	a->gid_tbl_len = gid_count;
	a->max_msg_sz = MESSAGE_MAX;
	a->pkey_tbl_len = 1;
	a->link_layer = IBV_LINK_LAYER_ETHERNET;
	return 0;
}

static int query_gid(struct ibv_context *ctx, uint8_t port, int index, union ibv_gid *out)
{
	(void)ctx;
	if (port != 1 || index < 0 || index >= gid_count)
		return EINVAL;
	*out = gid_table[index];
	return 0;
}

// Asynchronous events.

void context_event(struct context *c, enum ibv_event_type type, struct qp *q)
{
	spin_lock(&c->lock);
	if (c->count < EVENTS)
		c->events[(c->first + c->count++) % EVENTS] = (struct event){ type, q };
	spin_unlock(&c->lock);
	uint64_t one = 1;
	(void)!write(c->ib.async_fd, &one, sizeof one);
}

// drop_events removes a queue pair's events.
static void drop_events(struct context *c, struct qp *q)
{
	spin_lock(&c->lock);
	unsigned kept = 0;
	for (unsigned i = 0; i < c->count; i++) {
		struct event e = c->events[(c->first + i) % EVENTS];
		if (e.qp != q)
			c->events[(c->first + kept++) % EVENTS] = e;
	}
	c->count = kept;
	spin_unlock(&c->lock);
}

static int get_async_event(struct ibv_context *ctx, struct ibv_async_event *out)
{
	struct context *c = (struct context *)ctx;
	for (;;) {
		struct event e = { 0 };
		spin_lock(&c->lock);
		bool has = c->count > 0;
		if (has) {
			e = c->events[c->first];
			c->first = (c->first + 1) % EVENTS;
			c->count--;
		}
		spin_unlock(&c->lock);
		if (has) {
			*out = (struct ibv_async_event){ .event_type = e.type, .element.qp = &e.qp->ib };
			return 0;
		}
		uint64_t n;
		if (read(ctx->async_fd, &n, sizeof n) < 0)
			return -1;
	}
}

static void ack_async_event(struct ibv_async_event *e) { (void)e; }

// Protection domains and memory.

static struct ibv_pd *alloc_pd(struct ibv_context *ctx)
{
	static _Atomic uint32_t handles;
	struct pd *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->ib = (struct ibv_pd){ .context = ctx, .handle = atomic_fetch_add(&handles, 1) + 1 };
	atomic_fetch_add(&node.pds, 1);
	return &p->ib;
}

static int dealloc_pd(struct ibv_pd *ib)
{
	struct pd *p = (struct pd *)ib;
	if (atomic_load(&p->users))
		return EBUSY;
	free(p);
	atomic_fetch_sub(&node.pds, 1);
	return 0;
}

// Keys: the last number of each index, and whether it is in use. An index is used again as late as possible.
static uint8_t key_number[MRS];
static bool key_used[MRS];
static uint32_t key_next = 1;

static uint32_t new_key(void)
{
	uint32_t key = 0;
	pthread_mutex_lock(&node.objects);
	for (uint32_t tries = 1; tries < MRS && !key; tries++) {
		uint32_t i = key_next;
		key_next = key_next + 1 < MRS ? key_next + 1 : 1;
		if (!key_used[i]) {
			key_used[i] = true;
			key_number[i] += 2; // a window's keys are this and the next
			key = i << 8 | key_number[i];
		}
	}
	pthread_mutex_unlock(&node.objects);
	return key;
}

// revoke_key makes a key invalid. When it returns, no peer uses it any more; but not for a peer that was stopped in the middle of a transfer (EBUSY).
static int revoke_key(uint32_t index)
{
	atomic_store(&node.segment->mrs[index].key, 0);
	int err = 0;
	pthread_mutex_lock(&node.objects);
	for (struct qp *q = node.qps; q && !err; q = q->next)
		if (!q->stuck && !qp_settle(q))
			err = EBUSY;
	pthread_mutex_unlock(&node.objects);
	return err;
}

static void free_key(uint32_t index)
{
	pthread_mutex_lock(&node.objects);
	key_used[index] = false;
	pthread_mutex_unlock(&node.objects);
}

static struct ibv_mr *reg_mr(struct ibv_pd *pd, void *addr, size_t len, int access)
{
	struct peer *self = &node.self;
	uint64_t at = (uintptr_t)addr;
	if (access & ~(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_MW_BIND))
		return fail(EOPNOTSUPP);
	if (access & IBV_ACCESS_REMOTE_WRITE && !(access & IBV_ACCESS_LOCAL_WRITE))
		return fail(EINVAL);
	if (at < self->memory_base || len > self->memory_bytes || at - self->memory_base > self->memory_bytes - len)
		return fail(EFAULT); // it is not shared
	struct ibv_mr *m = calloc(1, sizeof *m);
	uint32_t key = m ? new_key() : 0;
	if (!key) {
		free(m);
		return fail(ENOMEM);
	}
	*m = (struct ibv_mr){ .context = pd->context, .pd = pd, .addr = addr, .length = len, .handle = key >> 8, .lkey = key, .rkey = key };
	struct mr *s = &node.segment->mrs[key >> 8];
	s->access = (uint32_t)access;
	s->pd = pd->handle;
	s->qp_num = 0;
	s->addr = at;
	s->len = len;
	atomic_store(&s->key, key);
	atomic_fetch_add(&((struct pd *)pd)->users, 1);
	atomic_fetch_add(&node.mrs, 1);
	return m;
}

static int dereg_mr(struct ibv_mr *m)
{
	int err = revoke_key(m->handle);
	if (err)
		return err;
	free_key(m->handle);
	atomic_fetch_sub(&((struct pd *)m->pd)->users, 1);
	atomic_fetch_sub(&node.mrs, 1);
	free(m);
	return 0;
}

static struct ibv_mw *alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type)
{
	if (type != IBV_MW_TYPE_2)
		return fail(EOPNOTSUPP);
	struct ibv_mw *w = calloc(1, sizeof *w);
	uint32_t key = w ? new_key() : 0;
	if (!key) {
		free(w);
		return fail(ENOMEM);
	}
	*w = (struct ibv_mw){ .context = pd->context, .pd = pd, .rkey = key, .handle = key >> 8, .type = type };
	atomic_fetch_add(&((struct pd *)pd)->users, 1);
	return w;
}

static int dealloc_mw(struct ibv_mw *w)
{
	int err = revoke_key(w->handle);
	if (err)
		return err;
	free_key(w->handle);
	atomic_fetch_sub(&((struct pd *)w->pd)->users, 1);
	free(w);
	return 0;
}

static int bind_mw(struct ibv_qp *q, struct ibv_mw *w, struct ibv_mw_bind *b) { return (void)q, (void)w, (void)b, EOPNOTSUPP; } // of type 1

// Completion channels and queues.

static struct ibv_comp_channel *create_comp_channel(struct ibv_context *ctx)
{
	struct channel *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->ib = (struct ibv_comp_channel){ .context = ctx, .fd = epoll_create1(EPOLL_CLOEXEC) };
	if (c->ib.fd < 0) {
		int err = errno;
		free(c);
		return fail(err);
	}
	return &c->ib;
}

static int destroy_comp_channel(struct ibv_comp_channel *ib)
{
	if (ib->refcnt)
		return EBUSY;
	close(ib->fd);
	free(ib);
	return 0;
}

// next_fired returns a completion queue with an event that was not read, after it has read the timers; NULL: there is none.
static struct cq *next_fired(struct channel *c)
{
	pthread_mutex_lock(&node.timers);
	if (!c->fired) {
		struct epoll_event e[16];
		int n = epoll_wait(c->ib.fd, e, 16, 0);
		for (int i = 0; i < n; i++) {
			struct timer *t = e[i].data.ptr;
			uint64_t expired;
			if (read(t->fd, &expired, sizeof expired) == sizeof expired && atomic_exchange(&t->cq->sh->armed, 0) && !t->cq->has_fired) {
				t->cq->has_fired = true;
				t->cq->next_fired = c->fired;
				c->fired = t->cq;
			}
		}
	}
	struct cq *q = c->fired;
	if (q) {
		c->fired = q->next_fired;
		q->has_fired = false;
	}
	pthread_mutex_unlock(&node.timers);
	return q;
}

static int get_cq_event(struct ibv_comp_channel *ib, struct ibv_cq **cq, void **cq_context)
{
	struct cq *q;
	while (!(q = next_fired((struct channel *)ib))) {
		if (fcntl(ib->fd, F_GETFL) & O_NONBLOCK) {
			errno = EAGAIN;
			return -1;
		}
		struct pollfd p = { .fd = ib->fd, .events = POLLIN };
		if (poll(&p, 1, -1) < 0)
			return -1;
	}
	*cq = &q->ib;
	*cq_context = q->ib.cq_context;
	return 0;
}

static void ack_cq_events(struct ibv_cq *cq, unsigned int n) { cq->comp_events_completed += n; }

static struct ibv_cq *create_cq(struct ibv_context *ctx, int entries, void *cq_context, struct ibv_comp_channel *channel, int vector)
{
	static uint32_t number, next;
	if (entries < 1 || entries > 1 << 20 || vector < 0 || vector >= ctx->num_comp_vectors)
		return fail(EINVAL);
	struct cq *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->ib = (struct ibv_cq){ .context = ctx, .channel = channel, .cq_context = cq_context, .cqe = entries };
	int err = ENOMEM;
	pthread_mutex_lock(&node.timers);
	for (uint32_t i = 0; i < CQS && err == ENOMEM; i++) {
		uint32_t index = (next + i) % CQS;
		if (node.cqs[index])
			continue;
		next = index + 1;
		c->index = index;
		c->sh = &node.segment->cqs[index];
		memset(c->sh, 0, sizeof *c->sh);
		c->sh->number = ++number;
		err = 0;
		if (channel) {
			int fd = node_timer(c, -1);
			err = fd < 0 ? -fd : (c->own = node_own_waker(index, number, fd)) ? 0 : ENOMEM;
			if (err && fd >= 0)
				node_stop_timers(c);
		}
		if (!err)
			node.cqs[index] = c;
	}
	pthread_mutex_unlock(&node.timers);
	if (err) {
		free(c);
		return fail(err);
	}
	if (channel)
		channel->refcnt++;
	atomic_fetch_add(&node.cq_count, 1);
	return &c->ib;
}

static int destroy_cq(struct ibv_cq *ib)
{
	struct cq *c = (struct cq *)ib;
	if (c->users)
		return EBUSY;
	pthread_mutex_lock(&node.timers);
	if (ib->channel) {
		struct channel *ch = (struct channel *)ib->channel;
		node_stop_timers(c);
		node_free_waker(c->own);
		for (struct cq **p = &ch->fired; *p;)
			if (*p == c)
				*p = c->next_fired;
			else
				p = &(*p)->next_fired;
		ib->channel->refcnt--;
	}
	node.cqs[c->index] = NULL;
	pthread_mutex_unlock(&node.timers);
	free(c);
	atomic_fetch_sub(&node.cq_count, 1);
	return 0;
}

// cq_join gives a queue pair a place in a completion queue, or returns -1.
static int cq_join(struct cq *c, struct qp *q)
{
	int place = -1;
	spin_lock(&c->lock);
	for (uint32_t i = 0; i < CQ_WORDS * 64 && place < 0; i++)
		if (!c->qps[i]) {
			place = (int)i;
			c->qps[i] = q;
			c->users++;
			if (c->words < i / 64 + 1)
				c->words = i / 64 + 1;
		}
	spin_unlock(&c->lock);
	return place;
}

static void cq_leave(struct cq *c, uint32_t place)
{
	spin_lock(&c->lock);
	c->qps[place] = NULL;
	c->users--;
	spin_unlock(&c->lock);
}

// Receive queues.

static uint64_t recvq_bytes(uint32_t size) { return sizeof(struct recvq) + size * (sizeof(struct receive) + sizeof(uint32_t)); }

static uint32_t power_of_two(uint32_t n)
{
	uint32_t p = 1;
	while (p < n)
		p *= 2;
	return p;
}

// receives_make makes a queue for max receives. The caller has node.objects.
static int receives_make(struct receives *rx, uint32_t max, uint64_t *block)
{
	uint32_t size = power_of_two(max ? max : 1);
	*block = node_block(recvq_bytes(size));
	rx->spare = calloc(max + 1, sizeof *rx->spare);
	if (!*block || !rx->spare) {
		if (*block)
			node_free(*block, recvq_bytes(size));
		free(rx->spare);
		return ENOMEM;
	}
	rx->q = (struct recvq *)((char *)node.segment + *block);
	rx->q->size = size;
	rx->max = rx->spares = max;
	for (uint32_t i = 0; i < max; i++)
		rx->spare[i] = max - 1 - i;
	for (uint32_t i = 0; i < size; i++)
		atomic_store(&rx->q->receives[i].claim, FREE);
	return 0;
}

static void receives_free(struct receives *rx)
{
	node_free((uint64_t)((char *)rx->q - (char *)node.segment), recvq_bytes(rx->q->size));
	free(rx->spare);
}

static struct ibv_srq *create_srq(struct ibv_pd *pd, struct ibv_srq_init_attr *a)
{
	if (!a->attr.max_wr || a->attr.max_wr > WRS_MAX || a->attr.max_sge > RECV_SGES)
		return fail(EINVAL);
	struct srq *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->ib = (struct ibv_srq){ .context = pd->context, .srq_context = a->srq_context, .pd = pd };
	uint64_t block;
	pthread_mutex_lock(&node.objects);
	int err = receives_make(&s->rx, a->attr.max_wr, &block);
	pthread_mutex_unlock(&node.objects);
	if (err) {
		free(s);
		return fail(err);
	}
	atomic_fetch_add(&((struct pd *)pd)->users, 1);
	atomic_fetch_add(&node.srqs, 1);
	return &s->ib;
}

static int destroy_srq(struct ibv_srq *ib)
{
	struct srq *s = (struct srq *)ib;
	if (s->users)
		return EBUSY;
	pthread_mutex_lock(&node.objects);
	receives_free(&s->rx);
	pthread_mutex_unlock(&node.objects);
	atomic_fetch_sub(&((struct pd *)ib->pd)->users, 1);
	atomic_fetch_sub(&node.srqs, 1);
	free(s);
	return 0;
}

// Queue pairs.

// qp_share gives a queue pair its entry of the segment, with its number, and its memory there. The caller has node.objects.
static int qp_share(struct qp *q, uint32_t recvs)
{
	static uint32_t next, generation;
	uint64_t block = 0;
	uint32_t index = 0;
	if (!next)
		next = (uint32_t)now_ns() | 1; // numbers of processes that had this one's are not met again soon
	for (uint32_t i = 0; i < QPS; i++) {
		index = (next + i) % QPS;
		if (!node.segment->qps[index].num)
			break;
	}
	struct qp_shared *sh = &node.segment->qps[index];
	if (sh->num)
		return ENOMEM;
	next = index + 1;
	if (q->ib.srq)
		q->rx = &((struct srq *)q->ib.srq)->rx;
	else {
		q->rx = &q->own;
		int err = receives_make(q->rx, recvs, &block);
		if (err)
			return err;
	}
	uint32_t arrivals = q->rx->q->size;
	uint64_t ring = node_block(arrivals * sizeof(struct arrival));
	if (!ring) {
		if (block)
			receives_free(q->rx);
		return ENOMEM;
	}
	q->sh = sh;
	q->ring = (struct arrival *)((char *)node.segment + ring);
	sh->num = q->ib.qp_num = q->ib.handle = node.slot << INDEX_BITS | index;
	sh->dest = sh->my_psn = sh->peer_psn = sh->access = sh->min_rnr = sh->reads_max = sh->reachable = 0;
	sh->pd = q->ib.pd->handle;
	sh->recv_cq = q->recv_cq->index;
	sh->cq_place = q->recv_place;
	sh->arrivals = arrivals;
	sh->recvq = (uint64_t)((char *)q->rx->q - (char *)node.segment);
	sh->ring = ring;
	atomic_store(&sh->tail, 0);
	atomic_store(&sh->head, 0);
	atomic_store(&sh->state, IBV_QPS_RESET);
	atomic_store(&sh->generation, ++generation);
	q->next = node.qps;
	q->before = &node.qps;
	if (q->next)
		q->next->before = &q->next;
	node.qps = q;
	return 0;
}

static void qp_free(struct qp *q)
{
	free(q->sq);
	free(q->inline_bytes);
	free(q);
}

static struct ibv_qp *create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *a)
{
	if (a->qp_type != IBV_QPT_RC)
		return fail(EOPNOTSUPP);
	if (a->cap.max_send_wr > WRS_MAX || a->cap.max_recv_wr > WRS_MAX || a->cap.max_send_sge > SEND_SGES || a->cap.max_recv_sge > RECV_SGES || a->cap.max_inline_data > INLINE_MAX ||
		!a->send_cq || !a->recv_cq)
		return fail(EINVAL);
	struct qp *q = calloc(1, sizeof *q);
	if (!q)
		return NULL;
	uint32_t size = power_of_two(a->cap.max_send_wr ? a->cap.max_send_wr : 1);
	q->ib = (struct ibv_qp){ .context = pd->context, .qp_context = a->qp_context, .pd = pd, .send_cq = a->send_cq, .recv_cq = a->recv_cq, .srq = a->srq,
		.state = IBV_QPS_RESET, .qp_type = a->qp_type };
	q->send_cq = (struct cq *)a->send_cq;
	q->recv_cq = (struct cq *)a->recv_cq;
	q->sq_mask = size - 1;
	q->sq_max = a->cap.max_send_wr;
	q->inline_max = a->cap.max_inline_data;
	q->sges_max = SEND_SGES;
	q->signal_all = a->sq_sig_all;
	q->sq = calloc(size, sizeof *q->sq);
	q->inline_bytes = calloc(size, q->inline_max ? q->inline_max : 1);
	int place = q->sq && q->inline_bytes ? cq_join(q->recv_cq, q) : -1, send_place = place;
	if (place >= 0 && q->send_cq != q->recv_cq)
		send_place = cq_join(q->send_cq, q);
	int err = ENOMEM;
	if (place >= 0 && send_place >= 0) {
		q->recv_place = (uint32_t)place;
		q->send_place = (uint32_t)send_place;
		pthread_mutex_lock(&node.objects);
		err = qp_share(q, a->cap.max_recv_wr);
		pthread_mutex_unlock(&node.objects);
	}
	if (err) {
		if (place >= 0)
			cq_leave(q->recv_cq, (uint32_t)place);
		if (send_place >= 0 && q->send_cq != q->recv_cq)
			cq_leave(q->send_cq, (uint32_t)send_place);
		qp_free(q);
		return fail(err);
	}
	if (a->srq)
		((struct srq *)a->srq)->users++;
	atomic_fetch_add(&((struct pd *)pd)->users, 1);
	atomic_fetch_add(&node.qp_count, 1);
	return &q->ib;
}

// qp_resolve maps the peer's queue pair. If it cannot, what is sent has no answer.
static void qp_resolve(struct qp *q)
{
	struct qp_shared *sh = q->sh;
	pthread_mutex_lock(&node.dial);
	struct peer *p = node_peer(sh->dest >> INDEX_BITS);
	if (p) {
		struct qp_shared *r = &p->segment->qps[sh->dest & (QPS - 1)];
		q->remote_generation = atomic_load(&r->generation);
		if (r->num == sh->dest && r->recv_cq < CQS) {
			q->remote_cq = &p->segment->cqs[r->recv_cq];
			q->waker = node_waker(p, r->recv_cq, q->remote_cq->number);
			q->remote_recvq = (struct recvq *)((char *)p->segment + r->recvq);
			q->remote_ring = (struct arrival *)((char *)p->segment + r->ring);
			q->peer = p;
			q->remote = r;
			// Repeatable: the count of the process's queue pairs, and which end was connected first.
			q->random = node.link.seed ^ (uint64_t)atomic_load(&sh->generation) << 32 ^ (atomic_load(&r->state) == IBV_QPS_INIT ? 1u << 31 : 0);
			sh->reachable = 1;
		} else
			node_leave(p);
	}
	pthread_mutex_unlock(&node.dial);
}

static int to_rtr(struct qp *q, const struct ibv_qp_attr *a)
{
	if (a->path_mtu > mtu_code() || a->path_mtu < IBV_MTU_256 || a->ah_attr.port_num != 1 || !a->ah_attr.is_global || a->max_dest_rd_atomic > READS_MAX)
		return EINVAL;
	const union ibv_gid *to = &a->ah_attr.grh.dgid;
	if (!is_gid(to) && (read_gids(), !is_gid(to)))
		return ENETUNREACH; // the model connects processes of this machine only
	q->sh->dest = a->dest_qp_num & 0xFFFFFF;
	q->sh->peer_psn = a->rq_psn & 0xFFFFFF;
	q->sh->min_rnr = a->min_rnr_timer;
	q->sh->reads_max = a->max_dest_rd_atomic;
	qp_resolve(q);
	return 0;
}

static int modify_qp(struct ibv_qp *ib, struct ibv_qp_attr *a, int mask)
{
	enum { TO_INIT = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS,
		TO_RTR = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER,
		TO_RTS = IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC };
	struct qp *q = (struct qp *)ib;
	uint32_t state = atomic_load(&q->sh->state);
	if (!(mask & IBV_QP_STATE))
		return EOPNOTSUPP;
	switch (a->qp_state) {
	case IBV_QPS_INIT:
		if (state != IBV_QPS_RESET || (mask & TO_INIT) != TO_INIT || a->port_num != 1 || a->pkey_index)
			return EINVAL;
		q->sh->access = a->qp_access_flags;
		break;
	case IBV_QPS_RTR: {
		int err = state != IBV_QPS_INIT || (mask & TO_RTR) != TO_RTR ? EINVAL : to_rtr(q, a);
		if (err)
			return err;
		break;
	}
	case IBV_QPS_RTS:
		if (state != IBV_QPS_RTR || (mask & TO_RTS) != TO_RTS)
			return state == IBV_QPS_ERR ? 0 : EINVAL; // the peer was faster, and has failed it
		if (a->max_rd_atomic > READS_MAX)
			return EINVAL;
		q->sh->my_psn = a->sq_psn & 0xFFFFFF;
		q->reads_max = a->max_rd_atomic;
		q->timeout = a->timeout & 31;
		q->retries = a->retry_cnt & 7;
		q->rnr_retries = a->rnr_retry & 7;
		break;
	case IBV_QPS_ERR:
		spin_lock(&q->lock);
		q->recv_flushed = false;
		qp_fail(q);
		qp_run(q, now_ns());
		spin_unlock(&q->lock);
		ib->state = IBV_QPS_ERR;
		(void)qp_settle(q);
		if (ib->srq) // its receives are visible now: it consumes no more
			context_event((struct context *)ib->context, IBV_EVENT_QP_LAST_WQE_REACHED, q);
		return 0;
	default:
		return EOPNOTSUPP;
	}
	if (!atomic_compare_exchange_strong(&q->sh->state, &state, a->qp_state))
		return 0; // the peer has failed it
	ib->state = a->qp_state;
	return 0;
}

static int query_qp(struct ibv_qp *ib, struct ibv_qp_attr *a, int mask, struct ibv_qp_init_attr *init)
{
	struct qp *q = (struct qp *)ib;
	(void)mask;
	memset(a, 0, sizeof *a);
	a->qp_state = a->cur_qp_state = atomic_load(&q->sh->state);
	a->cap = (struct ibv_qp_cap){ .max_send_wr = q->sq_max, .max_recv_wr = ib->srq ? 0 : q->own.max, .max_send_sge = q->sges_max, .max_recv_sge = RECV_SGES, .max_inline_data = q->inline_max };
	*init = (struct ibv_qp_init_attr){ .qp_context = ib->qp_context, .send_cq = ib->send_cq, .recv_cq = ib->recv_cq, .srq = ib->srq, .cap = a->cap, .qp_type = ib->qp_type,
		.sq_sig_all = q->signal_all };
	return 0;
}

static int destroy_qp(struct ibv_qp *ib)
{
	struct qp *q = (struct qp *)ib;
	atomic_store(&q->sh->state, IBV_QPS_RESET); // the peer sends nothing more
	if (!qp_settle(q)) {
		q->stuck = true;
		return EBUSY;
	}
	cq_leave(q->recv_cq, q->recv_place);
	if (q->send_cq != q->recv_cq)
		cq_leave(q->send_cq, q->send_place);
	drop_events((struct context *)ib->context, q);
	if (ib->srq) {
		qp_release_claims(q);
		((struct srq *)ib->srq)->users--;
	}
	pthread_mutex_lock(&node.objects);
	*q->before = q->next;
	if (q->next)
		q->next->before = q->before;
	node_free(q->sh->ring, q->sh->arrivals * sizeof(struct arrival));
	if (!ib->srq)
		receives_free(&q->own);
	atomic_store(&q->sh->generation, 0);
	q->sh->num = 0;
	pthread_mutex_unlock(&node.objects);
	if (q->peer) {
		pthread_mutex_lock(&node.dial);
		node_leave(q->peer);
		pthread_mutex_unlock(&node.dial);
	}
	atomic_fetch_sub(&((struct pd *)ib->pd)->users, 1);
	atomic_fetch_sub(&node.qp_count, 1);
	qp_free(q);
	return 0;
}

static const char *wc_status_str(enum ibv_wc_status status)
{
	static const char *const texts[] = { "success", "local length error", "local QP operation error", "local EE context operation error", "local protection error",
		"Work Request Flushed Error", "memory management operation error", "bad response error", "local access error", "remote invalid request error",
		"remote access error", "remote operation error", "transport retry counter exceeded", "RNR retry counter exceeded" };
	return status < sizeof texts / sizeof *texts ? texts[status] : "unknown";
}

static struct ibv_context *open_device(struct ibv_device *d)
{
	int err = node_start();
	if (err)
		return fail(err);
	read_gids();
	struct context *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->ib = (struct ibv_context){ .device = d, .cmd_fd = -1, .async_fd = eventfd(0, EFD_CLOEXEC), .num_comp_vectors = 1,
		.ops = { .alloc_mw = alloc_mw, .bind_mw = bind_mw, .dealloc_mw = dealloc_mw, .poll_cq = path_poll_cq, .req_notify_cq = path_req_notify_cq,
			.post_srq_recv = path_post_srq_recv, .post_send = path_post_send, .post_recv = path_post_recv } };
	if (c->ib.async_fd < 0) {
		err = errno;
		free(c);
		return fail(err);
	}
	return &c->ib;
}

static int close_device(struct ibv_context *ctx)
{
	close(ctx->async_fd);
	free(ctx);
	return 0;
}

void *model_symbol(const char *name)
{
	static const struct {
		const char *name;
		void *function;
	} all[] = {
#define SYMBOL(name) { "ibv_" #name, (void *)name }
		SYMBOL(get_device_list), SYMBOL(free_device_list), SYMBOL(get_device_name), SYMBOL(open_device), SYMBOL(close_device),
		SYMBOL(query_device), SYMBOL(query_port), SYMBOL(query_gid), SYMBOL(get_async_event), SYMBOL(ack_async_event),
		SYMBOL(alloc_pd), SYMBOL(dealloc_pd), SYMBOL(reg_mr), SYMBOL(dereg_mr), SYMBOL(create_comp_channel),
		SYMBOL(destroy_comp_channel), SYMBOL(create_cq), SYMBOL(destroy_cq), SYMBOL(get_cq_event), SYMBOL(ack_cq_events),
		SYMBOL(create_srq), SYMBOL(destroy_srq), SYMBOL(create_qp), SYMBOL(modify_qp), SYMBOL(query_qp), SYMBOL(destroy_qp),
		SYMBOL(wc_status_str),
	};
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
		if (!strcmp(all[i].name, name))
			return all[i].function;
	return NULL;
}
