//go:build rdma && cgo && linux

// Losses, and what they cost a reliable connection that goes back N: a receiver drops all packets behind a lost one, and reports the one that it expects
// (InfiniBand Architecture Specification, volume 1, 9.7.5 and 9.9). Arithmetic only: docs/adr/0047.
#include "local.h"

// is_lost draws whether a packet is lost (splitmix64: Steele, Lea and Flood, OOPSLA 2014).
bool is_lost(const struct model_link *l, uint64_t *random)
{
	uint64_t z = *random += 0x9E3779B97F4A7C15;
	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
	z = (z ^ z >> 27) * 0x94D049BB133111EB;
	return (uint32_t)((z ^ z >> 31) >> 32) < l->loss;
}

// part returns the time of a message's packets from one on until before another one.
static uint64_t part(const struct model_link *l, uint64_t bytes, uint64_t from, uint64_t until)
{
	uint64_t begin = from * l->mtu, end = until * l->mtu < bytes ? until * l->mtu : bytes;
	return link_time(l, end > begin ? end - begin : 0, until - from);
}

void model_pass(const struct model_link *l, uint64_t *random, unsigned retries, uint64_t start, uint64_t bytes, uint32_t from, struct model_passage *out)
{
	uint64_t n = packets_of(l, bytes), first = from, at = start;
	unsigned tries = 0;
	*out = (struct model_passage){ 0 };
	for (;;) {
		uint64_t lost = first, seen;
		while (lost < n && !is_lost(l, random))
			lost++;
		for (seen = lost + 1; seen < n && is_lost(l, random); seen++)
			out->lost++;
		out->lost += lost < n;
		out->from = (uint32_t)lost;
		if (seen >= n) { // all arrived, or all from lost on are lost
			out->unseen = lost < n;
			out->link += part(l, bytes, first, n);
			out->left = at + part(l, bytes, first, n);
			return;
		}
		tries = lost == first ? tries + 1 : 1;
		// The packet behind arrives, and the report comes back; meanwhile others leave for nothing.
		uint64_t report = part(l, bytes, first, seen + 1) + (l->rtt_ns << 4), sent = seen + 1;
		while (sent < n && part(l, bytes, first, sent) < report)
			sent++;
		out->link += part(l, bytes, first, sent);
		at += report;
		out->left = out->resent = at;
		if (tries > retries) {
			out->given_up = 1;
			return;
		}
		first = lost;
	}
}
