// A model of an RDMA device: libibverbs' functions, for processes of one user on one machine. Their reliable connected queue pairs reach
// each other through shared memory, and completions become visible when the modelled link would have delivered them.
#ifndef MODEL_H
#define MODEL_H

#include <stddef.h>
#include <stdint.h>

// The modelled link. All of a process's queue pairs share one port.
struct model_link {
	uint64_t rtt_ns;      // round trip of an empty message, without the time that programs take
	uint64_t kib_time;    // time that 1 KiB takes on the link, in 1/16 ns, each direction for itself; 0: none
	uint32_t mtu;         // bytes of payload of a packet: 256 to 4096, a power of two
	uint32_t wr_ns;       // time that posting a work request takes, besides what it takes here
	uint32_t doorbell_ns; // likewise, each call of ibv_post_send
	uint32_t read_ns;     // time that the peer's device takes for an RDMA READ
	uint32_t loss;        // probability that a packet is lost, in 1/2^32
	uint64_t seed;        // of the losses
};

// What this process has made and not freed.
struct model_objects {
	uint32_t qps, cqs, mrs, pds, srqs;
	uint64_t rnrs; // messages of this process that found no receive at the peer, each try
	uint64_t lost, unseen; // packets; those whose loss only the transport timer showed
};

// A message's way over a lossy link, with go-back-N. Times are in 1/16 ns.
struct model_passage {
	uint64_t left;    // when the last bit of its last packet leaves
	uint64_t link;    // time that its packets take on the link, with those that are sent for nothing
	uint64_t resent;  // when it was resent for the last time; 0: it was not
	uint32_t from;    // the first packet that has not arrived
	uint32_t lost;    // packets
	uint8_t unseen;   // the packets from that one on are lost, and none behind them shows it
	uint8_t given_up; // a packet was lost more often than it may be sent again
};

// model_pass sends the packets of a message of bytes, from packet from on, at start. random is the state of the generator of losses.
void model_pass(const struct model_link *link, uint64_t *random, unsigned retries, uint64_t start, uint64_t bytes, uint32_t from, struct model_passage *out);

// model_symbol returns the function of libibverbs with that name, or NULL.
void *model_symbol(const char *name);

// model_start sets the link, and the memory that may be registered: len bytes at base, a shared mapping of all of fd, a memfd. It may be called
// once, before any device is opened. It returns 0 or errno.
int model_start(const struct model_link *link, int fd, void *base, size_t len);

void model_count(struct model_objects *out);

#endif
