//go:build rdma && cgo && linux

// This process: its control segment, the thread that hands out descriptors, and the peers whose memory it has mapped.
//
// A process's number is in the name of its abstract unix socket, which the kernel frees when the process ends. Descriptors travel only between
// processes of one user: both ends check it.
#include "local.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

struct node node = { .dial = PTHREAD_MUTEX_INITIALIZER, .objects = PTHREAD_MUTEX_INITIALIZER, .timers = PTHREAD_MUTEX_INITIALIZER };

// Blocks of the segment's heap have sizes that are powers of two. Free ones are in lists, by their first word.
enum { BLOCK_MIN = 9, BLOCK_MAX = 28 };
static uint64_t free_blocks[BLOCK_MAX + 1], heap_end;

static int order_of(uint64_t bytes)
{
	int order = BLOCK_MIN;
	while (1ull << order < bytes)
		order++;
	return order;
}

// node_block returns the offset of a block of zeroes in the segment, or 0. The caller has node.objects.
uint64_t node_block(uint64_t bytes)
{
	int order = order_of(bytes);
	if (order > BLOCK_MAX) {
		errno = ENOMEM;
		return 0;
	}
	uint64_t at = free_blocks[order];
	if (at) {
		char *b = (char *)node.segment + at;
		memcpy(&free_blocks[order], b, 8);
		memset(b, 0, bytes);
		return at;
	}
	if (heap_end + (1ull << order) > SEGMENT_BYTES) {
		errno = ENOMEM;
		return 0;
	}
	at = heap_end;
	heap_end += 1ull << order;
	return at;
}

// node_free frees a block. Large ones give their memory back to the system.
void node_free(uint64_t block, uint64_t bytes)
{
	int order = order_of(bytes);
	if (order > 16)
		fallocate(node.segment_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)block, 1l << order);
	memcpy((char *)node.segment + block, &free_blocks[order], 8);
	free_blocks[order] = block;
}

// Requests and answers. An answer's descriptors come with it.
enum { MEMORY, TIMER };

struct request {
	uint32_t kind, layout;
	uint32_t cq, number; // of TIMER
};

struct answer {
	int32_t err;
	uint64_t memory_base, memory_bytes; // of MEMORY, with the control segment's descriptor and the memory's
};

static socklen_t name_of(struct sockaddr_un *a, uint32_t slot)
{
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	int n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "verbs-model-%u-%u", (unsigned)geteuid(), slot);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static bool same_user(int sock)
{
	struct ucred c;
	socklen_t n = sizeof c;
	return !getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &c, &n) && c.uid == geteuid();
}

enum { FDS = 2 };

static int send_answer(int sock, const struct answer *a, const int *fds, int count)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(FDS * sizeof(int))];
	} c;
	struct iovec v = { (void *)a, sizeof *a };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	if (count) {
		memset(&c, 0, sizeof c);
		m.msg_control = &c;
		m.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
		memcpy(CMSG_DATA(h), fds, (size_t)count * sizeof(int));
	}
	return sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
}

// receive_answer returns errno, and exactly count descriptors.
static int receive_answer(int sock, struct answer *a, int *fds, int count)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(FDS * sizeof(int))];
	} c;
	struct iovec v = { a, sizeof *a };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c };
	ssize_t n;
	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno;
	int got = 0;
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
		got = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(h), (size_t)got * sizeof(int));
	}
	int err = n != sizeof *a ? EPROTO : a->err ? a->err : got != count ? EPROTO : 0;
	for (int i = 0; err && i < got; i++)
		close(fds[i]);
	return err;
}

static int ask(int sock, const struct request *r, struct answer *a, int *fds, int count)
{
	ssize_t n;
	do
		n = send(sock, r, sizeof *r, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? errno : receive_answer(sock, a, fds, count);
}

// node_timer makes a timer in the channel of a completion queue. The caller has node.timers. It returns the descriptor, or -errno.
int node_timer(struct cq *c, int by)
{
	struct timer *t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	*t = (struct timer){ .next = c->timers, .cq = c, .by = by, .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK) };
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = t };
	if (t->fd < 0 || epoll_ctl(c->ib.channel->fd, EPOLL_CTL_ADD, t->fd, &e)) {
		int err = errno;
		if (t->fd >= 0)
			close(t->fd);
		free(t);
		return -err;
	}
	c->timers = t;
	return t->fd;
}

// stop_timers ends those timers of a completion queue that a connection's process sets, or all. The caller has node.timers.
static void stop_timers(struct cq *c, int by, bool all)
{
	for (struct timer **p = &c->timers; *p;) {
		struct timer *t = *p;
		if (!all && t->by != by) {
			p = &t->next;
			continue;
		}
		*p = t->next;
		epoll_ctl(c->ib.channel->fd, EPOLL_CTL_DEL, t->fd, NULL); // the peer has the descriptor, too
		close(t->fd);
		free(t);
	}
}

void node_stop_timers(struct cq *c) { stop_timers(c, 0, true); }

// serve answers a request of the process at the other end of sock; false: the connection has ended.
static bool serve(int sock)
{
	struct request r;
	ssize_t n = recv(sock, &r, sizeof r, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n != sizeof r)
		return false;
	struct answer a = { .memory_base = node.self.memory_base, .memory_bytes = node.self.memory_bytes };
	int fds[FDS] = { node.segment_fd, node.memory_fd };
	if (r.layout != LAYOUT)
		a.err = EPROTO;
	else if (r.kind == MEMORY)
		return !send_answer(sock, &a, fds, 2);
	else if (r.cq >= CQS)
		a.err = EINVAL;
	else {
		pthread_mutex_lock(&node.timers);
		struct cq *c = node.cqs[r.cq];
		int fd = c && c->sh->number == r.number ? c->ib.channel ? node_timer(c, sock) : -ENOENT : -ESTALE;
		bool sent = fd < 0 || !send_answer(sock, &a, &fd, 1);
		pthread_mutex_unlock(&node.timers);
		if (fd >= 0)
			return sent;
		a.err = -fd;
	}
	return !send_answer(sock, &a, NULL, 0);
}

// end removes a closed connection: one from another process (served), with the timers that it armed, or one to a process.
static void end(int sock, bool served)
{
	epoll_ctl(node.epoll, EPOLL_CTL_DEL, sock, NULL);
	pthread_mutex_lock(&node.timers);
	for (uint32_t i = 0; served && i < CQS; i++)
		if (node.cqs[i])
			stop_timers(node.cqs[i], sock, false);
	for (uint32_t i = 0; !served && i < PROCESSES; i++)
		if (node.peers[i] && node.peers[i]->sock == sock)
			atomic_store(&node.peers[i]->gone, true);
	pthread_mutex_unlock(&node.timers);
	if (served)
		close(sock);
}

enum { LISTENER, SERVED, PEER };

static int watch(int fd, uint32_t events, uint64_t kind)
{
	struct epoll_event e = { .events = events, .data.u64 = kind << 32 | (uint32_t)fd };
	return epoll_ctl(node.epoll, EPOLL_CTL_ADD, fd, &e);
}

// run is the thread: it moves no messages.
static void *run(void *unused)
{
	for (;;) {
		struct epoll_event e[16];
		int n = epoll_wait(node.epoll, e, 16, -1);
		for (int i = 0; i < n; i++) {
			int fd = (int)(uint32_t)e[i].data.u64;
			switch (e[i].data.u64 >> 32) {
			case LISTENER:
				fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
				if (fd >= 0 && (!same_user(fd) || watch(fd, EPOLLIN | EPOLLRDHUP, SERVED)))
					close(fd);
				break;
			case SERVED:
				if (!serve(fd))
					end(fd, true);
				break;
			case PEER:
				end(fd, false);
			}
		}
	}
	return unused;
}

static int bind_name(void)
{
	struct sockaddr_un a;
	for (uint32_t i = 0; i < PROCESSES - 1; i++) {
		uint32_t slot = 1 + ((uint32_t)getpid() + i) % (PROCESSES - 1);
		int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return -1;
		if (!bind(fd, (struct sockaddr *)&a, name_of(&a, slot)) && !listen(fd, 512)) {
			node.slot = slot;
			return fd;
		}
		int err = errno;
		close(fd);
		if (err != EADDRINUSE) {
			errno = err;
			return -1;
		}
	}
	errno = EADDRINUSE;
	return -1;
}

static void *map(int fd, uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_DONTFORK);
	madvise(p, bytes, MADV_DONTDUMP);
	return p;
}

static int start(void)
{
	int fd = memfd_create("verbs-model", MFD_CLOEXEC);
	if (fd < 0)
		return errno;
	int listener = -1, err = 0;
	node.epoll = -1;
	if (ftruncate(fd, SEGMENT_BYTES) || !(node.segment = map(fd, SEGMENT_BYTES)) || (node.epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 || (listener = bind_name()) < 0 ||
		watch(listener, EPOLLIN, LISTENER))
		err = errno;
	if (!err) {
		node.segment->layout = LAYOUT;
		heap_end = (sizeof(struct segment) + 4095) & ~4095ull;
		node.segment_fd = fd;
		node.self.segment = node.segment;
		node.self.sock = -1;
		sigset_t all, old;
		sigfillset(&all);
		pthread_sigmask(SIG_BLOCK, &all, &old); // signals are for the program's own threads
		pthread_t t;
		err = pthread_create(&t, NULL, run, NULL);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		if (!err) {
			pthread_detach(t);
			return 0;
		}
	}
	if (listener >= 0)
		close(listener);
	if (node.epoll >= 0)
		close(node.epoll);
	if (node.segment)
		munmap(node.segment, SEGMENT_BYTES);
	node.segment = NULL;
	close(fd);
	return err;
}

// node_start makes the segment and the thread, once. It returns errno.
int node_start(void)
{
	pthread_mutex_lock(&node.dial);
	int err = node.segment ? 0 : !node.self.memory ? ENODEV : start();
	pthread_mutex_unlock(&node.dial);
	return err;
}

static void forget(struct peer *p)
{
	munmap(p->segment, SEGMENT_BYTES);
	munmap(p->memory, p->memory_bytes);
	close(p->sock);
	for (struct waker *k = p->wakers; k;) {
		struct waker *next = k->next;
		close(k->fd);
		free(k);
		k = next;
	}
	free(p);
}

static struct peer *dial(uint32_t slot)
{
	struct sockaddr_un a;
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return NULL;
	struct timeval most = { .tv_sec = 2 }; // longer only if the process is stopped
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
	struct request r = { .kind = MEMORY, .layout = LAYOUT };
	struct answer b;
	int fds[FDS];
	if (connect(sock, (struct sockaddr *)&a, name_of(&a, slot)) || !same_user(sock) || ask(sock, &r, &b, fds, 2)) {
		close(sock);
		return NULL;
	}
	struct peer *p = calloc(1, sizeof *p);
	if (p) {
		*p = (struct peer){ .sock = sock, .memory_base = b.memory_base, .memory_bytes = b.memory_bytes, .segment = map(fds[0], SEGMENT_BYTES), .memory = map(fds[1], b.memory_bytes) };
		if (p->segment && p->memory && !watch(sock, EPOLLRDHUP, PEER)) {
			close(fds[0]);
			close(fds[1]);
			return p;
		}
		if (p->segment)
			munmap(p->segment, SEGMENT_BYTES);
		if (p->memory)
			munmap(p->memory, p->memory_bytes);
		free(p);
	}
	close(fds[0]);
	close(fds[1]);
	close(sock);
	return NULL;
}

// node_peer returns the process of that number, with one user more; NULL: it cannot be reached. The caller has node.dial.
struct peer *node_peer(uint32_t slot)
{
	if (slot == node.slot) {
		node.self.users++;
		return &node.self;
	}
	struct peer *p = node.peers[slot];
	char b;
	if (p && (atomic_load(&p->gone) || !recv(p->sock, &b, 1, MSG_PEEK | MSG_DONTWAIT))) { // the number may be another process's by now
		pthread_mutex_lock(&node.timers);
		node.peers[slot] = NULL;
		pthread_mutex_unlock(&node.timers);
		atomic_store(&p->gone, true);
		epoll_ctl(node.epoll, EPOLL_CTL_DEL, p->sock, NULL);
		if (!p->users)
			forget(p);
		p = NULL;
	}
	if (!p && (p = dial(slot))) {
		pthread_mutex_lock(&node.timers);
		node.peers[slot] = p;
		pthread_mutex_unlock(&node.timers);
	}
	if (p)
		p->users++;
	return p;
}

// node_leave ends a use of a process. The caller has node.dial.
void node_leave(struct peer *p)
{
	p->users--;
	if (p->users || p == &node.self || !atomic_load(&p->gone))
		return;
	pthread_mutex_lock(&node.timers);
	for (uint32_t i = 0; i < PROCESSES; i++)
		if (node.peers[i] == p)
			node.peers[i] = NULL;
	pthread_mutex_unlock(&node.timers);
	epoll_ctl(node.epoll, EPOLL_CTL_DEL, p->sock, NULL);
	forget(p);
}

// node_waker returns the waker of a peer's completion queue; NULL: it has no channel, or the peer is gone. The caller has node.dial.
struct waker *node_waker(struct peer *p, uint32_t cq, uint32_t number)
{
	for (struct waker *k = p->wakers; k; k = k->next)
		if (k->cq == cq && k->number == number)
			return k;
	struct request r = { .kind = TIMER, .layout = LAYOUT, .cq = cq, .number = number };
	struct answer a;
	int fd = -1;
	if (p == &node.self) {
		pthread_mutex_lock(&node.timers);
		struct cq *c = node.cqs[cq];
		struct waker *k = c && c->sh->number == number && c->ib.channel ? c->own : NULL;
		pthread_mutex_unlock(&node.timers);
		return k;
	}
	if (ask(p->sock, &r, &a, &fd, 1))
		return NULL;
	struct waker *k = calloc(1, sizeof *k);
	if (!k) {
		close(fd);
		return NULL;
	}
	*k = (struct waker){ .next = p->wakers, .cq = cq, .number = number, .fd = fd };
	p->wakers = k;
	return k;
}

// Wakers of this process's own queues are used again and never freed: a queue pair of this process may use one when its queue is gone.
static struct waker *free_wakers;

// node_own_waker returns the waker of a queue of this process, or NULL. The caller has node.timers.
struct waker *node_own_waker(uint32_t cq, uint32_t number, int fd)
{
	struct waker *k = free_wakers ? free_wakers : calloc(1, sizeof *k);
	if (!k)
		return NULL;
	free_wakers = free_wakers ? k->next : NULL;
	*k = (struct waker){ .cq = cq, .number = number, .fd = fd };
	return k;
}

// node_free_waker gives it back. The caller has node.timers.
void node_free_waker(struct waker *k)
{
	k->next = free_wakers;
	free_wakers = k;
}

// wake makes the channel readable at due, for the request armed.
void wake(struct waker *k, uint32_t armed, uint64_t due)
{
	spin_lock(&k->lock);
	if (k->armed != armed || due < k->at) {
		k->armed = armed;
		k->at = due;
		struct itimerspec t = { .it_value = { .tv_sec = (time_t)(due / 1000000000u), .tv_nsec = (long)(due % 1000000000u) } };
		timerfd_settime(k->fd, TFD_TIMER_ABSTIME, &t, NULL);
	}
	spin_unlock(&k->lock);
}
