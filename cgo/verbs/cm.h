#ifndef KVW_CM_H
#define KVW_CM_H

#include <stdint.h>

// An event of rdma_cm: a connection request, or an answer to one.
struct kvw_cm_event {
	void *id;
	int type; // rdma_cm_event_type
	int status;
	uint64_t number; // of the request, by kvw_cm_number; 0: none
	uint8_t priv[32];
	int priv_len;
};

int kvw_cm_load(char *err, int n);
void *kvw_cm_channel(int *fd);
void kvw_cm_channel_free(void *ch);
void *kvw_cm_id(void *ch);
int kvw_cm_id_free(void *id);
int kvw_cm_listen(void *id, const char *ip, uint16_t *port);
int kvw_cm_resolve_addr(void *id, const char *from, const char *ip, uint16_t port, int timeout_ms);
int kvw_cm_resolve_route(void *id, int timeout_ms);
int kvw_cm_event(void *ch, struct kvw_cm_event *out);
struct kvw_qp_attr; // only mtu, initiates, responds, traffic_class and service_level are used
int kvw_cm_traffic_class(void *id, uint8_t traffic_class);
int kvw_cm_qp(void *id, void *qp, const struct kvw_qp_attr *a);
int kvw_cm_connect(void *id, uint32_t qp_num, const uint8_t *priv, int len, const struct kvw_qp_attr *a, int srq);
int kvw_cm_accept(void *id, uint32_t qp_num, const struct kvw_qp_attr *a, int srq);
int kvw_cm_reject(void *id);
void kvw_cm_number(void *id, uint64_t number);
int kvw_cm_peer(void *id, char *ip, int n, uint16_t *port);
int kvw_cm_establish(void *id);
const char *kvw_cm_text(int type);

#endif
