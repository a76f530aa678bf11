//go:build rdma && cgo

// rdma_cm, found at run time as libibverbs is. It connects queue pairs that were made without it.
#include "cm.h"
#include "shim.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <rdma/rdma_cma.h>
#include <string.h>

static struct {
	struct rdma_event_channel *(*create_event_channel)(void);
	void (*destroy_event_channel)(struct rdma_event_channel *);
	int (*create_id)(struct rdma_event_channel *, struct rdma_cm_id **, void *, enum rdma_port_space);
	int (*destroy_id)(struct rdma_cm_id *);
	int (*bind_addr)(struct rdma_cm_id *, struct sockaddr *);
	int (*resolve_addr)(struct rdma_cm_id *, struct sockaddr *, struct sockaddr *, int);
	int (*resolve_route)(struct rdma_cm_id *, int);
	int (*connect)(struct rdma_cm_id *, struct rdma_conn_param *);
	int (*establish)(struct rdma_cm_id *);
	int (*listen)(struct rdma_cm_id *, int);
	int (*accept)(struct rdma_cm_id *, struct rdma_conn_param *);
	int (*reject)(struct rdma_cm_id *, const void *, uint8_t);
	int (*get_cm_event)(struct rdma_event_channel *, struct rdma_cm_event **);
	int (*ack_cm_event)(struct rdma_cm_event *);
	__be16 (*get_src_port)(struct rdma_cm_id *);
	const char *(*event_str)(enum rdma_cm_event_type);
	int (*set_option)(struct rdma_cm_id *, int, int, void *, size_t);
	int (*init_qp_attr)(struct rdma_cm_id *, struct ibv_qp_attr *, int *);
} cm;

int kvw_cm_load(char *err, int n)
{
	const struct kvw_symbol symbols[] = {
#define SYMBOL(name) { "rdma_" #name, &cm.name }
		SYMBOL(create_event_channel), SYMBOL(destroy_event_channel), SYMBOL(create_id), SYMBOL(destroy_id), SYMBOL(bind_addr),
		SYMBOL(resolve_addr), SYMBOL(resolve_route), SYMBOL(connect), SYMBOL(establish), SYMBOL(listen), SYMBOL(accept),
		SYMBOL(reject), SYMBOL(get_cm_event), SYMBOL(ack_cm_event), SYMBOL(get_src_port), SYMBOL(event_str), SYMBOL(init_qp_attr), SYMBOL(set_option),
	};
	return kvw_symbols("librdmacm.so.1", NULL, symbols, sizeof symbols / sizeof *symbols, err, n);
}

static int address(struct sockaddr_storage *out, const char *ip, uint16_t port)
{
	memset(out, 0, sizeof *out);
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
	if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return 0;
	}
	if (inet_pton(AF_INET6, ip, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return 0;
	}
	return EINVAL;
}

static int result(int n) { return n ? errno : 0; }

void *kvw_cm_channel(int *fd)
{
	struct rdma_event_channel *ch = cm.create_event_channel();
	if (ch) {
		*fd = ch->fd;
		int flags = fcntl(ch->fd, F_GETFL);
		if (flags >= 0)
			fcntl(ch->fd, F_SETFL, flags | O_NONBLOCK);
	}
	return ch;
}

void kvw_cm_channel_free(void *ch) { cm.destroy_event_channel(ch); }

void *kvw_cm_id(void *ch)
{
	struct rdma_cm_id *id;
	return cm.create_id(ch, &id, NULL, RDMA_PS_TCP) ? NULL : id;
}

int kvw_cm_id_free(void *id) { return result(cm.destroy_id(id)); }

int kvw_cm_listen(void *id, const char *ip, uint16_t *port)
{
	struct sockaddr_storage a;
	int err = address(&a, ip, *port);
	if (!err)
		err = result(cm.bind_addr(id, (struct sockaddr *)&a));
	if (!err)
		err = result(cm.listen(id, 128));
	if (!err)
		*port = ntohs(cm.get_src_port(id));
	return err;
}

int kvw_cm_resolve_addr(void *id, const char *from, const char *ip, uint16_t port, int timeout_ms)
{
	struct sockaddr_storage a, src;
	int err = address(&a, ip, port);
	if (!err)
		err = address(&src, from, 0);
	return err ? err : result(cm.resolve_addr(id, (struct sockaddr *)&src, (struct sockaddr *)&a, timeout_ms));
}

int kvw_cm_resolve_route(void *id, int timeout_ms) { return result(cm.resolve_route(id, timeout_ms)); }

// kvw_cm_event returns one event in *e: 0, or errno; EAGAIN if there is none now.
int kvw_cm_event(void *ch, struct kvw_cm_event *out)
{
	struct rdma_cm_event *e;
	if (cm.get_cm_event(ch, &e))
		return errno;
	memset(out, 0, sizeof *out);
	out->id = e->id;
	out->type = e->event;
	out->status = e->status;
	out->number = (uintptr_t)e->id->context;
	if (e->param.conn.private_data) {
		out->priv_len = e->param.conn.private_data_len;
		if (out->priv_len > (int)sizeof out->priv)
			out->priv_len = sizeof out->priv;
		memcpy(out->priv, e->param.conn.private_data, out->priv_len);
	}
	return result(cm.ack_cm_event(e));
}

// kvw_cm_traffic_class sets the traffic class of the packets, before an address is resolved.
int kvw_cm_traffic_class(void *id, uint8_t traffic_class)
{
	return result(cm.set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &traffic_class, sizeof traffic_class));
}

static int rnr_retry(const struct kvw_qp_attr *a) { return a->rnr_retry ? a->rnr_retry : KVW_RNR_RETRY; }

static int to_state(struct rdma_cm_id *id, void *qp, enum ibv_qp_state state, const struct kvw_qp_attr *want)
{
	struct ibv_qp_attr a;
	int mask;
	memset(&a, 0, sizeof a);
	a.qp_state = state;
	if (cm.init_qp_attr(id, &a, &mask))
		return errno;
	if (state == IBV_QPS_RTR) { // rdma_cm leaves the timer at 0, which is 655 ms
		a.min_rnr_timer = KVW_MIN_RNR;
		if (a.path_mtu > want->mtu)
			a.path_mtu = want->mtu;
		a.max_dest_rd_atomic = want->responds;
		if (want->traffic_class)
			a.ah_attr.grh.traffic_class = want->traffic_class;
		if (want->service_level) // else that of the path record
			a.ah_attr.sl = want->service_level;
	} else {
		a.max_rd_atomic = want->initiates;
		if (!want->rnr_retry) // else rdma_cm's, 0.5 s or more: a long message took more than 67 ms in a guest, and was sent again and again
			a.timeout = KVW_TIMEOUT;
		a.retry_cnt = KVW_RETRY;
		a.rnr_retry = rnr_retry(want);
	}
	return kvw_modify(qp, &a, mask);
}

// kvw_cm_qp moves a queue pair from INIT to RTR and RTS, with the parameters of the request or answer on id.
int kvw_cm_qp(void *id, void *qp, const struct kvw_qp_attr *a)
{
	int err = to_state(id, qp, IBV_QPS_RTR, a);
	return err ? err : to_state(id, qp, IBV_QPS_RTS, a);
}

int kvw_cm_connect(void *id, uint32_t qp_num, const uint8_t *priv, int len, const struct kvw_qp_attr *a, int srq)
{
	struct rdma_conn_param p = {
		.private_data = priv, .private_data_len = len, .responder_resources = a->responds, .initiator_depth = a->initiates,
		.retry_count = KVW_RETRY, .rnr_retry_count = rnr_retry(a), .srq = srq, .qp_num = qp_num,
	};
	return result(cm.connect(id, &p));
}

int kvw_cm_accept(void *id, uint32_t qp_num, const struct kvw_qp_attr *a, int srq)
{
	struct rdma_conn_param p = {
		.responder_resources = a->responds, .initiator_depth = a->initiates, .rnr_retry_count = rnr_retry(a), .srq = srq, .qp_num = qp_num,
	};
	return result(cm.accept(id, &p));
}

int kvw_cm_reject(void *id) { return result(cm.reject(id, NULL, 0)); }

// kvw_cm_number sets the number that events of a request carry.
void kvw_cm_number(void *id, uint64_t number) { ((struct rdma_cm_id *)id)->context = (void *)(uintptr_t)number; }

// kvw_cm_peer returns the address of the other side.
int kvw_cm_peer(void *id, char *ip, int n, uint16_t *port)
{
	const struct sockaddr *a = rdma_get_peer_addr(id);
	const void *from;
	switch (a->sa_family) {
	case AF_INET:
		from = &((const struct sockaddr_in *)a)->sin_addr;
		*port = ntohs(((const struct sockaddr_in *)a)->sin_port);
		break;
	case AF_INET6:
		from = &((const struct sockaddr_in6 *)a)->sin6_addr;
		*port = ntohs(((const struct sockaddr_in6 *)a)->sin6_port);
		break;
	default:
		return EAFNOSUPPORT;
	}
	return inet_ntop(a->sa_family, from, ip, n) ? 0 : errno;
}

int kvw_cm_establish(void *id) { return result(cm.establish(id)); }
const char *kvw_cm_text(int type) { return cm.event_str(type); }
