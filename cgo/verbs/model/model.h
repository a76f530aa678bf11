// A model of an RDMA device: libibverbs' functions, for processes of one user on one machine. Their reliable connected queue pairs reach
// each other through shared memory, and completions become visible when the modelled link would have delivered them.
#ifndef MODEL_H
#define MODEL_H

#include <stddef.h>
#include <stdint.h>

// The modelled link. All of a process's queue pairs share one port.
struct model_link {
	uint64_t rtt_ns;      // round trip of an empty message, without the time that programs take
	uint64_t bits_per_s;  // of each direction; 0: endless
	uint32_t mtu;         // bytes of payload of a packet: 256 to 4096, a power of two
	uint32_t wr_ns;       // time that posting a work request takes, besides what it takes here
	uint32_t doorbell_ns; // likewise, each call of ibv_post_send
	uint32_t read_ns;     // time that the peer's device takes for an RDMA READ
};

// What this process has made and not freed.
struct model_objects {
	uint32_t qps, cqs, mrs, pds, srqs;
	uint64_t rnrs; // messages of this process that found no receive at the peer, each try
};

// model_symbol returns the function of libibverbs with that name, or NULL.
void *model_symbol(const char *name);

// model_start sets the link, and the memory that may be registered: len bytes at base, a shared mapping of all of fd, a memfd. It may be called
// once, before any device is opened. It returns 0 or errno.
int model_start(const struct model_link *link, int fd, void *base, size_t len);

void model_count(struct model_objects *out);

#endif
