/*
 * A fabric in memory, under the verbs and the connection manager's calls that common/rdma makes: what a program that includes
 * this and links the transport statically has in the place of libibverbs and librdmacm. One process, one thread, one loop.
 *
 *   - Everything takes a time drawn from a seed, and what two connections do is interleaved by it; what one does keeps its
 *     order. Memory is read when a send is delivered, not when it is posted; a send may be known to be over long after its
 *     answer has come.
 *   - It is strict: a send that meets no receive (RNR), memory that is not registered, what is posted or destroyed out of
 *     order end the program; so does a window that is bound twice, or voided when it is not bound, or whose queue pair or
 *     region goes first.
 *   - Faults, by fabric.*: what is posted goes nowhere (silent), or what has to do with one port of a server (silent_port);
 *     RDMA READs and WRITEs are never over (bulk_is_lost), or break their connection (bulk_breaks), while SENDs pass;
 *     connections break by themselves (break_in); RDMA WRITEs
 *     come when they are let go, also after the end of the queue pair that they are from (writes_are_late), as from a card
 *     that does not keep to what it should; receives are refused (refuses_receives), as when the other end has gone;
 *     the connection manager cannot be opened (no_manager), or lets nobody listen (listen_errno); no more memory can be
 *     pinned (regions_end), or not always (unpinned); the device goes, and comes again as another (fabric_device_goes).
 *   - It refuses and counts what asks for memory by a key that is void, or that is not of that memory; a window's is of one
 *     queue pair.
 */
#ifndef STRAKE_TESTS_FAKE_VERBS_H
#define STRAKE_TESTS_FAKE_VERBS_H

#include "common/container_of.h"
#include "common/loop.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <rdma/rdma_cma.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define REGIONS         1000
#define WINDOWS_MAX     1000
#define FAKE_READS      10
#define FAKE_GIVE_UP_MS 300
#define WINDOW_KEYS     (UINT32_C(1) << 31) /* from there on; eight bits are the window's user's */

struct fake_cq {
	struct ibv_cq base; /* first */
	struct ibv_wc *wc;  /* [first, count) */
	int first, count, size;
	bool armed;
	int told; /* events that wait in the channel */
	int unacknowledged;
};

struct fake_channel {                 /* of completions */
	struct ibv_comp_channel base; /* first */
	struct fake_channel *next;    /* of all */
	int other_fd;                 /* what is written here wakes who waits for the base\'s; -1: its device is gone */
	struct fake_cq *cqs[512];     /* that have something to tell */
	int count;
};

struct fake_work {
	struct fake_work *next;
	uint64_t wr_id;
	enum ibv_wr_opcode opcode;
	struct ibv_sge sge[4];
	int sge_count;
	uint64_t remote_address;
	uint32_t remote_key;
	struct fake_window *window; /* to be bound, as the device knew it by: */
	uint32_t window_key;
	struct ibv_mw_bind_info what;
	uint32_t key; /* that it gets, or that is to be voided */
};

struct fake_window {
	struct ibv_mw base; /* first */
	uint32_t key;       /* the device's */
	struct ibv_mw_bind_info what;
	struct fake_qp *qp; /* NULL: it is not bound */
};

struct fake_qp {
	struct ibv_qp base; /* first */
	struct fake_id *id;
	struct fake_qp *peer; /* NULL: not connected, or the other is gone */
	struct fake_work *receives, *receives_last, *sends, *sends_last;
	unsigned int max_receives, max_sends, receive_count, send_count, read_count;
	uint64_t last_due_ns;    /* of what was posted last */
	bool failed;             /* only flushes */
	struct fake_work *stuck; /* it is never over, nor is what was posted behind it */
	bool jammed;             /* and that goes nowhere, either */
};

struct fake_id {
	struct rdma_cm_id base; /* first */
	struct fake_id *next;   /* of all */
	struct fake_id *peer;
	struct fake_qp *qp;
	bool listens, heard_first, initiator, disconnect_told, one_family;
	bool stood; /* it was connected */
	bool half;  /* accepted, and the third step has not come: to leave is to reject */
	int unacknowledged;
	uint8_t private_data[64];
	size_t private_len;
	_Atomic bool asked; /* rdma_connect(), perhaps by another thread */
	_Atomic bool waits; /* iWARP: so long it cannot be disconnected */
};

struct fake_told {
	struct rdma_cm_event event; /* first */
	struct fake_told *next;
	uint8_t private_data[64];
};

struct fake_events {
	struct rdma_event_channel base; /* first */
	struct fake_told *first, *last;
};

enum fake_step { STEP_WORK, STEP_OVER, STEP_TELL, STEP_CONNECT, STEP_BREAK, STEP_NOTICE };

/* What will happen. */
struct fake_later {
	struct fake_later *next;
	uint64_t due_ns;
	enum fake_step step;
	struct fake_qp *qp; /* NULL in the place of one that is gone */
	struct fake_cq *cq; /* likewise */
	struct fake_id *id;
	struct fake_work *work;
	enum ibv_wc_status status;
	enum rdma_cm_event_type type;
	uint8_t private_data[64];
	size_t private_len;
	struct fake_work *late; /* a WRITE and behind it its bytes, when the queue pair is gone */
	struct ibv_pd *late_pd;
};

static struct fake_fabric {
	struct loop *loop;
	uint64_t random;
	unsigned int notice_us;              /* so much later, every other time, is told of completions */
	unsigned int delay_us;               /* the most that anything takes */
	unsigned int third_us;               /* so much later hears who has accepted that it stands: but for iWARP */
	bool iwarp;                          /* who has connected must be heard first */
	_Atomic bool silent;                 /* what is posted from now on goes nowhere; who connects by iWARP waits */
	_Atomic uint16_t silent_port;        /* and so is what has to do with this port of a server; 0: none */
	bool bulk_is_lost, bulk_breaks;      /* RDMA READs and WRITEs of any bytes */
	_Atomic unsigned int leaving;        /* threads in fake_leave() */
	unsigned int break_in;               /* after so many sends the connection breaks; 0: never */
	unsigned int delivered;              /* sends */
	unsigned int vectors;                /* that queues have: bits */
	unsigned int waits_for_the_silent;   /* iWARP: to disconnect */
	unsigned int looks_in_vain;          /* for an event of a completion channel */
	bool writes_are_late;                /* RDMA WRITEs come when they are let go */
	bool refuses_receives;               /* it takes no more of them */
	bool no_manager;                     /* there is no connection manager to be opened */
	int listen_errno;                    /* why nobody can listen; 0: he can */
	unsigned int reads, writes, refused; /* RDMA */
	unsigned int probes;                 /* READs of nothing */
	unsigned int reads_at_once;          /* the most that one queue pair had under way */
	bool windows;                        /* the device has them */
	bool no_windows, no_voiding;         /* its library has none, and no SEND that voids those of another end */
	bool binds_wrongly;                  /* under another key than it was told */
	bool tells_wrongly;                  /* which key was voided */
	unsigned int binds, voided, voided_from_afar;
	struct loop_timer timer;
	struct fake_later *later;
	struct fake_id *ids;
	struct fake_channel *channels;
	uint16_t next_port;
	unsigned int objects; /* that live: contexts' users leave none */
	struct ibv_device device;
	struct ibv_context contexts[3]; /* of the device, each time that it has come */
	unsigned int comings;
	bool gone;
	struct ibv_port_attr port; /* of its only port, number 1 */
	struct ibv_mr *regions[REGIONS];
	int access[REGIONS];
	uint32_t keys;         /* given out, of regions */
	uint32_t regions_end;  /* from that one on none is had, as beyond RLIMIT_MEMLOCK; 0: all are */
	unsigned int unpinned; /* nor are so many of a hundred */
	struct fake_window *all_windows[WINDOWS_MAX];
} fabric;

static uint64_t fake_draw(uint64_t below)
{
	fabric.random ^= fabric.random << 13;
	fabric.random ^= fabric.random >> 7;
	fabric.random ^= fabric.random << 17;
	return below == 0 ? 0 : fabric.random % below;
}

static struct ibv_context *fake_context(void)
{
	return &fabric.contexts[fabric.comings];
}

/* librdmacm's: that of a device which has gone is closed when no id has it and the device has come again; then it is freed. */
static bool fake_is_open(const struct ibv_context *context)
{
	const struct fake_id *id = fabric.ids;

	while (id != NULL && id->base.verbs != context)
		id = id->next;
	return id != NULL || context == fake_context();
}

static bool fake_is_silent(const struct fake_id *id)
{
	const struct rdma_addr *at = &id->base.route.addr;
	const uint16_t port = ntohs(id->initiator ? at->dst_sin.sin_port : at->src_sin.sin_port);

	return fabric.silent || (port != 0 && port == fabric.silent_port);
}

static void *fake_new(size_t size)
{
	void *memory = calloc(1, size);

	assert(memory != NULL);
	fabric.objects++;
	return memory;
}

static void fake_free(void *memory)
{
	assert(fabric.objects > 0);
	fabric.objects--;
	free(memory);
}

/* --- time --------------------------------------------------------------------------------------------------------- */

static uint64_t fake_due(uint64_t not_before_ns)
{
	uint64_t due_ns = clock_ns() + fake_draw(fabric.delay_us + 1) * 1000;

	return due_ns > not_before_ns ? due_ns : not_before_ns;
}

static struct fake_later *fake_later_at(uint64_t due_ns, enum fake_step step)
{
	struct fake_later *later = fake_new(sizeof(*later)), **at = &fabric.later;

	later->due_ns = due_ns;
	later->step = step;
	while (*at != NULL && (*at)->due_ns <= due_ns)
		at = &(*at)->next;
	later->next = *at;
	*at = later;
	loop_timer_set(fabric.loop, &fabric.timer, fabric.later->due_ns);
	return later;
}

/* --- completions -------------------------------------------------------------------------------------------------- */

static void fake_fd_signal(int fd)
{
	const uint64_t one = 1;

	assert(write(fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
}

static void fake_fd_taken(int fd)
{
	uint64_t one;

	assert(read(fd, &one, sizeof(one)) == (ssize_t)sizeof(one));
}

static void fake_cq_tell(struct fake_cq *cq)
{
	struct fake_channel *channel = (struct fake_channel *)cq->base.channel;

	if (channel->other_fd < 0)
		return;
	assert(channel->count < 512);
	channel->cqs[channel->count++] = cq;
	cq->told++;
	fake_fd_signal(channel->other_fd);
}

static void fake_complete(struct ibv_cq *base, const struct ibv_wc *wc)
{
	struct fake_cq *cq = (struct fake_cq *)base;

	assert(cq->count - cq->first < cq->base.cqe); /* an overrun loses completions */
	if (cq->count == cq->size) {
		cq->size = 2 * cq->size + 16;
		cq->wc = realloc(cq->wc, (size_t)cq->size * sizeof(*cq->wc));
		assert(cq->wc != NULL);
	}
	cq->wc[cq->count++] = *wc;
	if (cq->armed) { /* who waits hears of it when he hears of it, and more may have come by then */
		cq->armed = false;
		fake_later_at(fake_due(0) + fake_draw(2) * fabric.notice_us * 1000, STEP_NOTICE)->cq = cq;
	}
}

static int fake_poll_cq(struct ibv_cq *base, int max, struct ibv_wc *wc)
{
	struct fake_cq *cq = (struct fake_cq *)base;
	int count = 0;

	while (count < max && cq->first < cq->count)
		wc[count++] = cq->wc[cq->first++];
	if (cq->first == cq->count)
		cq->first = cq->count = 0;
	return count;
}

static int fake_req_notify_cq(struct ibv_cq *base, int solicited_only)
{
	struct fake_cq *cq = (struct fake_cq *)base;

	assert(!solicited_only);
	cq->armed = true; /* only for what comes from now on */
	return 0;
}

struct ibv_cq *ibv_create_cq(struct ibv_context *context, int cqe, void *cq_context, struct ibv_comp_channel *channel,
			     int vector)
{
	struct fake_cq *cq = fake_new(sizeof(*cq));

	assert(vector >= 0 && vector < context->num_comp_vectors);
	fabric.vectors |= 1u << vector;
	cq->base.context = context;
	cq->base.cq_context = cq_context;
	cq->base.channel = channel;
	cq->base.cqe = cqe;
	return &cq->base;
}

int ibv_destroy_cq(struct ibv_cq *base)
{
	struct fake_cq *cq = (struct fake_cq *)base;
	struct fake_channel *channel = (struct fake_channel *)base->channel;
	int kept = 0;

	assert(cq->unacknowledged == 0); /* it would wait for ever */
	assert(fake_is_open(base->context));
	for (int i = 0; i < channel->count; i++) {
		if (channel->cqs[i] != cq)
			channel->cqs[kept++] = channel->cqs[i];
		else
			fake_fd_taken(channel->base.fd);
	}
	channel->count = kept;
	for (struct fake_later *later = fabric.later; later != NULL; later = later->next) {
		if (later->cq == cq)
			later->cq = NULL;
	}
	free(cq->wc);
	fake_free(cq);
	return 0;
}

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *context)
{
	struct fake_channel *channel = fake_new(sizeof(*channel));
	int fds[2]; /* readable as long as there is an event */

	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	channel->base.context = context;
	channel->base.fd = fds[0];
	channel->other_fd = fds[1];
	channel->next = fabric.channels;
	fabric.channels = channel;
	return &channel->base;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *base)
{
	struct fake_channel *channel = (struct fake_channel *)base, **at = &fabric.channels;

	assert(fake_is_open(base->context));
	while (*at != channel)
		at = &(*at)->next;
	*at = channel->next;
	close(base->fd);
	if (channel->other_fd >= 0)
		close(channel->other_fd);
	fake_free(channel);
	return 0;
}

int ibv_get_cq_event(struct ibv_comp_channel *base, struct ibv_cq **cq, void **cq_context)
{
	struct fake_channel *channel = (struct fake_channel *)base;
	struct fake_cq *first;

	assert(fcntl(base->fd, F_GETFL) & O_NONBLOCK);
	if (channel->count == 0) {
		fabric.looks_in_vain++;
		errno = channel->other_fd < 0 ? EIO : EAGAIN;
		return -1;
	}
	fake_fd_taken(base->fd);
	first = channel->cqs[0];
	memmove(channel->cqs, channel->cqs + 1, (size_t)--channel->count * sizeof(*channel->cqs));
	first->unacknowledged++;
	*cq = &first->base;
	*cq_context = first->base.cq_context;
	return 0;
}

void ibv_ack_cq_events(struct ibv_cq *cq, unsigned int count)
{
	((struct fake_cq *)cq)->unacknowledged -= (int)count;
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

struct ibv_pd *ibv_alloc_pd(struct ibv_context *context)
{
	struct ibv_pd *pd = fake_new(sizeof(*pd));

	pd->context = context;
	return pd;
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
	assert(fake_is_open(pd->context));
	for (int i = 0; i < REGIONS; i++)
		assert(fabric.regions[i] == NULL || fabric.regions[i]->pd != pd);
	fake_free(pd);
	return 0;
}

#undef ibv_reg_mr
struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *address, size_t size, int access)
{
	uint32_t i = (uint32_t)fake_draw(REGIONS / 2); /* a key is not soon another's */
	struct ibv_mr *region;

	if ((fabric.regions_end > 0 && fabric.keys + 1 >= fabric.regions_end) || fake_draw(100) < fabric.unpinned) {
		errno = ENOMEM;
		return NULL;
	}
	region = fake_new(sizeof(*region));
	while (fabric.regions[i] != NULL)
		assert(++i < REGIONS);
	*region = (struct ibv_mr){ .pd = pd,
				   .addr = address,
				   .length = size,
				   .lkey = 1000 + i,
				   .rkey = 100000 + 1000 * (++fabric.keys % 1000000) + i };
	fabric.access[i] = access;
	fabric.regions[i] = region;
	return region;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *address, size_t size, uint64_t iova, unsigned int access)
{
	assert(iova == (uintptr_t)address);
	return ibv_reg_mr(pd, address, size, (int)access);
}

int ibv_dereg_mr(struct ibv_mr *region)
{
	assert(fabric.regions[region->lkey - 1000] == region && fake_is_open(region->pd->context));
	for (int i = 0; i < WINDOWS_MAX; i++) {
		const struct fake_window *window = fabric.all_windows[i];

		assert(window == NULL || window->qp == NULL || window->what.mr != region);
	}
	fabric.regions[region->lkey - 1000] = NULL;
	fake_free(region);
	return 0;
}

/* Memory that a queue pair may use by that key. */
static void *fake_memory(const struct fake_qp *qp, const struct ibv_sge *sge)
{
	const struct ibv_mr *region;

	assert(sge->lkey >= 1000 && sge->lkey < 1000 + REGIONS);
	region = fabric.regions[sge->lkey - 1000];
	assert(region != NULL && region->pd == qp->base.pd);
	assert(sge->addr >= (uintptr_t)region->addr);
	assert(sge->addr + sge->length <= (uintptr_t)region->addr + region->length);
	return (void *)(uintptr_t)sge->addr;
}

static struct ibv_mw *fake_alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type)
{
	struct fake_window *window;
	uint32_t i = 0;

	assert(fabric.windows && type == IBV_MW_TYPE_2);
	if (fabric.no_windows) {
		errno = EOPNOTSUPP;
		return NULL;
	}
	window = fake_new(sizeof(*window));
	while (fabric.all_windows[i] != NULL)
		assert(++i < WINDOWS_MAX);
	fabric.all_windows[i] = window;
	window->key = WINDOW_KEYS + (i << 8) + (uint32_t)fake_draw(256);
	window->base = (struct ibv_mw){ .context = pd->context, .pd = pd, .type = type, .rkey = window->key };
	return &window->base;
}

static int fake_dealloc_mw(struct ibv_mw *base)
{
	struct fake_window *window = (struct fake_window *)base,
			   **at = &fabric.all_windows[(window->key >> 8) & 0xffff];

	assert(*at == window && fake_is_open(base->context));
	*at = NULL;
	fake_free(window);
	return 0;
}

/* The window that is bound under that key; NULL. */
static struct fake_window *fake_window_bound(uint32_t key)
{
	const uint32_t i = (key >> 8) & 0xffff;
	struct fake_window *window = key >= WINDOW_KEYS && i < WINDOWS_MAX ? fabric.all_windows[i] : NULL;

	return window != NULL && window->key == key && window->qp != NULL ? window : NULL;
}

/* ... to this queue pair. */
static struct fake_window *fake_window_of(const struct fake_qp *qp, uint32_t key)
{
	struct fake_window *window = fake_window_bound(key);

	return window != NULL && window->qp == qp ? window : NULL;
}

static void *fake_remote_window(const struct fake_window *window, uint64_t address, size_t size, unsigned int access)
{
	if (window == NULL || (window->what.mw_access_flags & access) == 0 || address < window->what.addr ||
	    address + size > window->what.addr + window->what.length) {
		fabric.refused++;
		return NULL;
	}
	return (void *)(uintptr_t)address;
}

/* BIND. */
static void fake_bind(struct fake_qp *qp, const struct fake_work *work)
{
	struct fake_window *window = work->window;
	const struct ibv_mr *region = work->what.mr;
	const int access = fabric.access[region->lkey - 1000];

	assert(window->qp == NULL && window->base.pd == qp->base.pd && region->pd == qp->base.pd);
	assert(work->window_key == window->key && work->key >> 8 == window->key >> 8);
	assert((access & IBV_ACCESS_MW_BIND) && !(access & (IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)));
	assert(!(work->what.mw_access_flags & IBV_ACCESS_REMOTE_WRITE) || (access & IBV_ACCESS_LOCAL_WRITE));
	assert(work->what.length > 0 && work->what.addr >= (uintptr_t)region->addr);
	assert(work->what.addr + work->what.length <= (uintptr_t)region->addr + region->length);
	window->key = work->key ^ (fabric.binds_wrongly ? 0x55 : 0);
	window->what = work->what;
	window->qp = qp;
	fabric.binds++;
}

static void *fake_remote_region(const struct ibv_pd *pd, uint64_t address, uint32_t key, size_t size, int access)
{
	const struct ibv_mr *region = fabric.regions[key % 1000];

	if (region == NULL || region->rkey != key || region->pd != pd || !(fabric.access[key % 1000] & access) ||
	    address < (uintptr_t)region->addr || address + size > (uintptr_t)region->addr + region->length) {
		fabric.refused++;
		return NULL;
	}
	return (void *)(uintptr_t)address;
}

/* Memory of the other end; NULL: refused. */
static void *fake_remote(const struct fake_qp *peer, uint64_t address, uint32_t key, size_t size, int access)
{
	if (key >= WINDOW_KEYS)
		return fake_remote_window(fake_window_of(peer, key), address, size, (unsigned int)access);
	return fake_remote_region(peer->base.pd, address, key, size, access);
}

static inline bool fake_overlap(uintptr_t a, size_t a_size, uintptr_t b, size_t b_size)
{
	return a_size > 0 && b_size > 0 && a < b + b_size && b < a + a_size;
}

/* Is there a key by which anybody reaches any of this memory from afar? A region that is for its own end alone has none. */
static inline bool fake_reachable(const void *memory, size_t size)
{
	const uintptr_t at = (uintptr_t)memory;

	for (unsigned int i = 0; i < REGIONS; i++) {
		const struct ibv_mr *region = fabric.regions[i];

		if (region != NULL && (fabric.access[i] & (IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)) != 0 &&
		    fake_overlap((uintptr_t)region->addr, region->length, at, size))
			return true;
	}
	for (unsigned int i = 0; i < WINDOWS_MAX; i++) {
		const struct fake_window *window = fabric.all_windows[i];

		if (window != NULL && window->qp != NULL &&
		    fake_overlap(window->what.addr, window->what.length, at, size))
			return true;
	}
	return false;
}

/* --- queue pairs -------------------------------------------------------------------------------------------------- */

static struct fake_work *fake_work_new(const struct fake_qp *qp, uint64_t wr_id, const struct ibv_sge *sge, int count)
{
	struct fake_work *work = fake_new(sizeof(*work));

	assert(count >= 0 && count <= 4);
	work->wr_id = wr_id;
	work->sge_count = count;
	for (int i = 0; i < count; i++) {
		fake_memory(qp, &sge[i]);
		work->sge[i] = sge[i];
	}
	return work;
}

static uint32_t fake_work_size(const struct fake_work *work)
{
	uint32_t size = 0;

	for (int i = 0; i < work->sge_count; i++)
		size += work->sge[i].length;
	return size;
}

static void fake_append(struct fake_work **first, struct fake_work **last, struct fake_work *work)
{
	if (*first == NULL)
		*first = work;
	else
		(*last)->next = work;
	*last = work;
}

static struct fake_work *fake_take(struct fake_work **first)
{
	struct fake_work *work = *first;

	*first = work->next;
	return work;
}

/* voided: the key that came with it; 0: none. */
static void fake_receive_over(struct fake_qp *qp, enum ibv_wc_status status, uint32_t size, uint32_t voided)
{
	struct fake_work *work = fake_take(&qp->receives);
	struct ibv_wc wc = {
		.wr_id = work->wr_id,
		.status = status,
		.opcode = IBV_WC_RECV,
		.byte_len = size,
		.wc_flags = voided != 0 ? IBV_WC_WITH_INV : 0,
		.invalidated_rkey = voided,
	};

	qp->receive_count--;
	fake_free(work);
	fake_complete(qp->base.recv_cq, &wc);
}

static void fake_send_over(struct fake_qp *qp, enum ibv_wc_status status)
{
	struct fake_work *work = fake_take(&qp->sends);
	struct ibv_wc wc = { .wr_id = work->wr_id, .status = status, .opcode = IBV_WC_SEND };

	qp->send_count--;
	qp->read_count -= work->opcode == IBV_WR_RDMA_READ;
	fake_free(work);
	fake_complete(qp->base.send_cq, &wc);
}

/* Into the error state: what is under way goes nowhere, everything that was posted comes back. */
static void fake_qp_fail(struct fake_qp *qp)
{
	if (qp->failed)
		return;
	qp->failed = true;
	for (struct fake_later *later = fabric.later; later != NULL; later = later->next) {
		if (later->qp == qp)
			later->qp = NULL;
	}
	while (qp->sends != NULL)
		fake_send_over(qp, IBV_WC_WR_FLUSH_ERR);
	while (qp->receives != NULL)
		fake_receive_over(qp, IBV_WC_WR_FLUSH_ERR, 0, 0);
}

static int fake_post_recv(struct ibv_qp *base, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct fake_qp *qp = (struct fake_qp *)base;

	(void)bad;
	if ((qp->failed && fabric.iwarp) || fabric.refuses_receives)
		return -EINVAL; /* as cxgb4's, of the wrong sign; siw's takes it */
	for (; wr != NULL; wr = wr->next) {
		assert(wr->num_sge == 1);
		assert(qp->receive_count < qp->max_receives);
		qp->receive_count++;
		fake_append(&qp->receives, &qp->receives_last, fake_work_new(qp, wr->wr_id, wr->sg_list, 1));
		if (qp->failed)
			fake_receive_over(qp, IBV_WC_WR_FLUSH_ERR, 0, 0);
	}
	return 0;
}

static bool fake_is_bulk(const struct fake_work *work)
{
	return (work->opcode == IBV_WR_RDMA_READ || work->opcode == IBV_WR_RDMA_WRITE) && fake_work_size(work) > 0;
}

static int fake_post_send(struct ibv_qp *base, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct fake_qp *qp = (struct fake_qp *)base;
	struct fake_later *later;

	if (qp->failed && fabric.iwarp)
		return -ENOTCONN; /* as siw's: of the wrong sign */
	for (; wr != NULL; wr = wr->next) {
		struct fake_work *work;

		if (wr->opcode == IBV_WR_SEND_WITH_INV && fabric.no_voiding) {
			*bad = wr;
			return EINVAL;
		}
		work = fake_work_new(qp, wr->wr_id, wr->sg_list, wr->num_sge);
		assert(qp->send_count < qp->max_sends);
		assert(!fabric.iwarp || qp->id->initiator || qp->id->heard_first);
		work->opcode = wr->opcode;
		if (wr->opcode == IBV_WR_BIND_MW) {
			work->window = (struct fake_window *)wr->bind_mw.mw;
			work->window_key = wr->bind_mw.mw->rkey;
			work->what = wr->bind_mw.bind_info;
			work->key = wr->bind_mw.rkey;
			assert(wr->num_sge == 0 && wr->invalidate_rkey == 0);
		} else if (wr->opcode == IBV_WR_LOCAL_INV || wr->opcode == IBV_WR_SEND_WITH_INV) {
			work->key = wr->invalidate_rkey;
			assert(wr->num_sge == (wr->opcode == IBV_WR_LOCAL_INV ? 0 : 1));
		} else {
			assert(wr->num_sge > 0 || wr->opcode == IBV_WR_RDMA_READ);
			work->remote_address = wr->wr.rdma.remote_addr;
			work->remote_key = wr->wr.rdma.rkey;
		}
		qp->send_count++;
		qp->read_count += wr->opcode == IBV_WR_RDMA_READ;
		if (qp->read_count > fabric.reads_at_once)
			fabric.reads_at_once = qp->read_count;
		fake_append(&qp->sends, &qp->sends_last, work);
		if (qp->failed) {
			fake_send_over(qp, IBV_WC_WR_FLUSH_ERR);
			continue;
		}
		if (fake_is_silent(qp->id) || qp->jammed)
			continue;
		if (fabric.bulk_is_lost && fake_is_bulk(work)) { /* a SEND overtakes a READ's answer, and no WRITE */
			qp->stuck = qp->stuck != NULL ? qp->stuck : work;
			qp->jammed = wr->opcode == IBV_WR_RDMA_WRITE;
			continue;
		}
		qp->last_due_ns = fake_due(qp->last_due_ns);
		if (wr->opcode == IBV_WR_RDMA_WRITE && fabric.writes_are_late)
			qp->last_due_ns = UINT64_MAX / 2;
		later = fake_later_at(qp->last_due_ns, STEP_WORK);
		later->qp = qp;
		later->work = work;
		if (wr->opcode == IBV_WR_RDMA_WRITE && fabric.writes_are_late && qp->peer != NULL) {
			/* What has left a card comes, whatever becomes of the card. */
			later->late = malloc(sizeof(*later->late) + fake_work_size(work));
			assert(later->late != NULL && wr->num_sge == 1);
			*later->late = *work;
			memcpy(later->late + 1, fake_memory(qp, work->sge), work->sge[0].length);
			later->late_pd = qp->peer->base.pd;
		}
	}
	return 0;
}

/* Whose work it was is told why, but on iWARP. */
static void fake_refused(struct fake_qp *qp, const struct fake_work *work)
{
	struct fake_qp *peer = qp->peer;

	while (qp->sends != work)
		fake_send_over(qp, IBV_WC_SUCCESS);
	if (!fabric.iwarp)
		fake_send_over(qp, IBV_WC_REM_ACCESS_ERR);
	fake_qp_fail(qp);
	fake_qp_fail(peer);
}

/* Returns false when it was refused: both ends have failed. */
static bool fake_send(struct fake_qp *qp, const struct fake_work *send)
{
	struct fake_work *receive = qp->peer->receives;
	struct fake_window *window = NULL;

	assert(receive != NULL && "a receiver is not ready (RNR)");
	assert(send->sge_count == 1 && send->sge[0].length <= receive->sge[0].length);
	memcpy(fake_memory(qp->peer, receive->sge), fake_memory(qp, send->sge), send->sge[0].length);
	qp->peer->id->heard_first = true;
	if (send->opcode == IBV_WR_SEND_WITH_INV) {
		window = fake_window_of(qp->peer, send->key);
		if (window == NULL) {
			fabric.refused++;
			fake_refused(qp, send);
			return false;
		}
		window->qp = NULL;
		fabric.voided_from_afar++;
	}
	fake_receive_over(qp->peer, IBV_WC_SUCCESS, send->sge[0].length,
			  send->key ^ (send->key != 0 && fabric.tells_wrongly ? 0x55 : 0));
	fabric.delivered++;
	return true;
}

/* What concerns no other end. */
static bool fake_work_here(struct fake_qp *qp, const struct fake_work *work)
{
	struct fake_window *window;

	if (work->opcode == IBV_WR_BIND_MW) {
		fake_bind(qp, work);
		return true;
	}
	if (work->opcode != IBV_WR_LOCAL_INV)
		return false;
	window = fake_window_of(qp, work->key);
	assert(window != NULL);
	window->qp = NULL;
	fabric.voided++;
	return true;
}

/* RDMA READ and WRITE. Returns false when it was refused: both ends have failed. */
static bool fake_move(struct fake_qp *qp, const struct fake_work *work)
{
	bool reads = work->opcode == IBV_WR_RDMA_READ;
	uint8_t *remote;

	if (reads && fake_work_size(work) == 0) { /* of no memory: no key is looked at */
		fabric.probes++;
		return true;
	}
	remote = fake_remote(qp->peer, work->remote_address, work->remote_key, fake_work_size(work),
			     reads ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_REMOTE_WRITE);
	assert(reads || work->opcode == IBV_WR_RDMA_WRITE);
	if (remote == NULL) {
		fake_refused(qp, work);
		return false;
	}
	for (int i = 0; i < work->sge_count; i++) {
		void *local = fake_memory(qp, &work->sge[i]);

		memcpy(reads ? local : remote, reads ? remote : local, work->sge[i].length);
		remote += work->sge[i].length;
	}
	if (reads)
		fabric.reads++;
	else
		fabric.writes++;
	return true;
}

static void fake_break(struct fake_qp *qp);

/* It reaches the other end. */
static void fake_deliver(struct fake_qp *qp, struct fake_work *work)
{
	struct fake_later *over;

	if (qp->peer == NULL || qp->peer->failed) {
		fake_qp_fail(qp);
		return;
	}
	if (fabric.bulk_breaks && fake_is_bulk(work)) {
		fake_break(qp);
		return;
	}
	if (!fake_work_here(qp, work) &&
	    !(work->opcode == IBV_WR_SEND || work->opcode == IBV_WR_SEND_WITH_INV ? fake_send(qp, work)
										  : fake_move(qp, work)))
		return;
	over = fake_later_at(fake_due(qp->last_due_ns), STEP_OVER);
	over->qp = qp;
	qp->last_due_ns = over->due_ns;
	if (fabric.break_in > 0 && --fabric.break_in == 0)
		fake_later_at(fake_due(0), STEP_BREAK)->qp = qp;
}

/* Both queue pairs may be gone, and it comes all the same: nothing but its key keeps it from that memory, a window's, too. */
static void fake_deliver_late(const struct fake_work *work, const struct ibv_pd *pd)
{
	const uint32_t key = work->remote_key, size = work->sge[0].length;
	void *remote = key >= WINDOW_KEYS
			       ? fake_remote_window(fake_window_bound(key), work->remote_address, size,
						    IBV_ACCESS_REMOTE_WRITE)
			       : fake_remote_region(pd, work->remote_address, key, size, IBV_ACCESS_REMOTE_WRITE);

	if (remote != NULL)
		memcpy(remote, work + 1, work->sge[0].length);
}

int rdma_create_qp(struct rdma_cm_id *base, struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	struct fake_id *id = (struct fake_id *)base;
	struct fake_qp *qp = fake_new(sizeof(*qp));

	assert(id->qp == NULL && attr->qp_type == IBV_QPT_RC && attr->sq_sig_all);
	assert(attr->send_cq->cqe >= (int)attr->cap.max_send_wr && attr->recv_cq->cqe >= (int)attr->cap.max_recv_wr);
	qp->base.context = base->verbs;
	qp->base.pd = pd;
	qp->base.send_cq = attr->send_cq;
	qp->base.recv_cq = attr->recv_cq;
	qp->max_receives = attr->cap.max_recv_wr;
	qp->max_sends = attr->cap.max_send_wr;
	qp->id = id;
	id->qp = qp;
	base->qp = &qp->base;
	return 0;
}

void rdma_destroy_qp(struct rdma_cm_id *base)
{
	struct fake_id *id = (struct fake_id *)base;
	struct fake_qp *qp = id->qp;

	fake_qp_fail(qp);
	for (int i = 0; i < WINDOWS_MAX; i++)
		assert(fabric.all_windows[i] == NULL || fabric.all_windows[i]->qp != qp);
	if (qp->peer != NULL)
		qp->peer->peer = NULL;
	id->qp = NULL;
	base->qp = NULL;
	fake_free(qp);
}

/* --- the connection manager --------------------------------------------------------------------------------------- */

struct rdma_event_channel *rdma_create_event_channel(void)
{
	struct fake_events *events;

	if (fabric.no_manager) {
		errno = ENOENT;
		return NULL;
	}
	events = fake_new(sizeof(*events));
	events->base.fd = eventfd(0, EFD_CLOEXEC);
	return &events->base;
}

void rdma_destroy_event_channel(struct rdma_event_channel *channel)
{
	assert(((struct fake_events *)channel)->first == NULL);
	close(channel->fd);
	fake_free(channel);
}

static void fake_tell_now(struct fake_id *id, struct fake_id *listener, enum rdma_cm_event_type type, const void *data,
			  size_t size)
{
	struct fake_events *events = (struct fake_events *)id->base.channel;
	struct fake_told *told = fake_new(sizeof(*told));

	told->event.id = &id->base;
	told->event.listen_id = listener != NULL ? &listener->base : NULL;
	told->event.event = type;
	memcpy(told->private_data, data, size);
	told->event.param.conn.private_data = size > 0 ? told->private_data : NULL;
	told->event.param.conn.private_data_len = (uint8_t)size;
	if (events->first == NULL)
		events->first = told;
	else
		events->last->next = told;
	events->last = told;
	fake_fd_signal(events->base.fd);
}

static struct fake_later *fake_tell(struct fake_id *id, enum rdma_cm_event_type type)
{
	struct fake_later *later = fake_later_at(fake_due(0), STEP_TELL);

	later->id = id;
	later->type = type;
	return later;
}

int rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **ret_id, void *context,
		   enum rdma_port_space ps)
{
	struct fake_id *id = fake_new(sizeof(*id));

	id->base.channel = channel;
	id->base.context = context;
	id->base.ps = ps;
	id->next = fabric.ids;
	fabric.ids = id;
	*ret_id = &id->base;
	return 0;
}

/* Until the other end has answered, or its driver gives up. By any thread. */
static void fake_leave(struct fake_id *id)
{
	atomic_fetch_add(&fabric.leaving, 1);
	for (int ms = 0; ms < FAKE_GIVE_UP_MS && atomic_load(&id->waits); ms++)
		usleep(1000);
	atomic_store(&id->waits, false);
	atomic_fetch_sub(&fabric.leaving, 1);
}

int rdma_disconnect(struct rdma_cm_id *base)
{
	struct fake_id *id = (struct fake_id *)base;

	if (atomic_load(&id->waits)) {
		fake_leave(id);
		errno = ENOTCONN;
		return -1;
	}
	/* Whatever has become of the other end: in silence no word of it comes. */
	if (id->stood && id->qp != NULL && !id->qp->failed && !id->disconnect_told)
		fabric.waits_for_the_silent += fabric.iwarp && fabric.silent;
	if (id->peer == NULL) {
		errno = ENOTCONN;
		return -1;
	}
	if (id->qp != NULL)
		fake_qp_fail(id->qp);
	if (!fake_is_silent(id) && !id->peer->disconnect_told) {
		id->peer->disconnect_told = true;
		fake_tell(id->peer, id->half ? RDMA_CM_EVENT_REJECTED : RDMA_CM_EVENT_DISCONNECTED);
	}
	id->peer->peer = NULL;
	id->peer = NULL;
	return 0;
}

int rdma_destroy_id(struct rdma_cm_id *base)
{
	struct fake_id *id = (struct fake_id *)base, **at = &fabric.ids;
	struct fake_events *events = (struct fake_events *)base->channel;
	struct fake_told **told = &events->first;

	assert(id->qp == NULL && id->unacknowledged == 0);
	rdma_disconnect(base);
	while (*at != id)
		at = &(*at)->next;
	*at = id->next;
	for (struct fake_later *later = fabric.later; later != NULL; later = later->next) {
		if (later->id == id)
			later->id = NULL;
	}
	events->last = NULL;
	while (*told != NULL) {
		struct fake_told *one = *told;

		if (one->event.id == base) {
			*told = one->next;
			fake_free(one);
		} else {
			events->last = one;
			told = &one->next;
		}
	}
	fake_free(id);
	return 0;
}

int rdma_set_option(struct rdma_cm_id *base, int level, int name, void *value, size_t size)
{
	assert(level == RDMA_OPTION_ID && name == RDMA_OPTION_ID_AFONLY && size == sizeof(int));
	((struct fake_id *)base)->one_family = *(const int *)value != 0;
	return 0;
}

/* Whoever listens is for a wildcard; one of the other family may be beside it only if both say so. */
static bool fake_port_is_taken(const struct fake_id *by, sa_family_t family)
{
	for (const struct fake_id *id = fabric.ids; id != NULL; id = id->next) {
		const bool apart = id->one_family && by->one_family && id->base.route.addr.src_addr.sa_family != family;

		if (id->listens && !apart &&
		    id->base.route.addr.src_sin.sin_port == by->base.route.addr.src_sin.sin_port)
			return true;
	}
	return false;
}

int rdma_bind_addr(struct rdma_cm_id *base, struct sockaddr *address)
{
	const sa_family_t family = address->sa_family;

	if (family == AF_INET6)
		base->route.addr.src_sin6 = *(struct sockaddr_in6 *)(void *)address;
	else
		base->route.addr.src_sin = *(struct sockaddr_in *)(void *)address;
	if (base->route.addr.src_sin.sin_port == 0) /* where IPv6's is, too */
		base->route.addr.src_sin.sin_port = htons(++fabric.next_port);
	if (fake_port_is_taken((struct fake_id *)base, family) ||
	    (family == AF_INET6 && !IN6_IS_ADDR_UNSPECIFIED(&base->route.addr.src_sin6.sin6_addr))) {
		errno = EADDRNOTAVAIL;
		return -1;
	}
	if (family == AF_INET6)
		return 0;
	if (base->route.addr.src_sin.sin_addr.s_addr != htonl(INADDR_ANY) &&
	    (base->route.addr.src_sin.sin_addr.s_addr != htonl(INADDR_LOOPBACK) || fabric.gone)) {
		errno = ENODEV;
		return -1;
	}
	if (base->route.addr.src_sin.sin_addr.s_addr != htonl(INADDR_ANY))
		base->verbs = fake_context();
	base->port_num = 1;
	return 0;
}

int rdma_listen(struct rdma_cm_id *base, int backlog)
{
	(void)backlog;
	if (fabric.listen_errno != 0) {
		errno = fabric.listen_errno;
		return -1;
	}
	/* iWARP's ports are TCP's; high ones are asked for where a socket of TCP listens. */
	if (fabric.iwarp && ntohs(base->route.addr.src_sin.sin_port) >= 10000) {
		errno = EADDRINUSE;
		return -1;
	}
	((struct fake_id *)base)->listens = true;
	return 0;
}

__be16 rdma_get_src_port(struct rdma_cm_id *base)
{
	return base->route.addr.src_sin.sin_port;
}

int rdma_resolve_addr(struct rdma_cm_id *base, struct sockaddr *from, struct sockaddr *to, int timeout_ms)
{
	const struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	(void)timeout_ms;
	assert(from == NULL && to->sa_family == AF_INET);
	base->route.addr.dst_sin = *(struct sockaddr_in *)(void *)to;
	base->route.addr.src_sin = any;
	base->route.addr.src_sin.sin_port = htons(++fabric.next_port);
	if (!fabric.gone)
		base->verbs = fake_context();
	fake_tell((struct fake_id *)base, fabric.gone ? RDMA_CM_EVENT_ADDR_ERROR : RDMA_CM_EVENT_ADDR_RESOLVED);
	return 0;
}

int rdma_resolve_route(struct rdma_cm_id *base, int timeout_ms)
{
	(void)timeout_ms;
	fake_tell((struct fake_id *)base, RDMA_CM_EVENT_ROUTE_RESOLVED);
	return 0;
}

/* The connection manager refuses more than the device can; the end that asks may have a smaller one than the other. */
static bool fake_asks_well(const struct rdma_conn_param *param)
{
	return param->responder_resources <= FAKE_READS && param->initiator_depth <= FAKE_READS;
}

static bool fake_answers_well(const struct rdma_conn_param *param)
{
	return param->responder_resources == RDMA_MAX_RESP_RES && param->initiator_depth == RDMA_MAX_INIT_DEPTH;
}

int rdma_connect(struct rdma_cm_id *base, struct rdma_conn_param *param)
{
	struct fake_id *id = (struct fake_id *)base;

	assert(base->qp != NULL && param->rnr_retry_count == 0 && fake_asks_well(param));
	id->initiator = true;
	while (fabric.iwarp && fake_is_silent(id)) { /* as siw does, until TCP gives up, or a signal comes */
		if (usleep(1000) < 0)
			return -1;
	}
	memcpy(id->private_data, param->private_data, param->private_data_len);
	id->private_len = param->private_data_len;
	id->asked = true;
	id->waits = fabric.iwarp;
	fake_fd_signal(base->channel->fd);
	return 0;
}

/* On the loop: what has been asked goes on its way. */
static void fake_take_asked(void)
{
	for (struct fake_id *id = fabric.ids; id != NULL; id = id->next) {
		struct fake_later *later;

		if (!id->asked)
			continue;
		id->asked = false;
		if (fake_is_silent(id))
			continue;
		later = fake_later_at(fake_due(0), STEP_CONNECT);
		later->id = id;
		memcpy(later->private_data, id->private_data, id->private_len);
		later->private_len = id->private_len;
	}
}

static void fake_connect(const struct fake_later *later)
{
	struct fake_id *asker = later->id, *listener, *id;
	struct rdma_cm_id *base;

	for (listener = fabric.ids; listener != NULL; listener = listener->next) {
		/* All are asked for by IPv4. iWARP's devices hear nobody of the one family by the other. */
		if (listener->listens &&
		    (listener->base.route.addr.src_addr.sa_family == AF_INET ||
		     !(fabric.iwarp || listener->one_family)) &&
		    listener->base.route.addr.src_sin.sin_port == asker->base.route.addr.dst_sin.sin_port)
			break;
	}
	if (listener == NULL) {
		fake_tell(asker, RDMA_CM_EVENT_REJECTED);
		return;
	}
	assert(rdma_create_id(listener->base.channel, &base, NULL, listener->base.ps) == 0);
	id = (struct fake_id *)base;
	base->verbs = fake_context();
	base->route.addr.src_sin = asker->base.route.addr.dst_sin;
	base->route.addr.dst_sin = asker->base.route.addr.src_sin;
	id->peer = asker;
	asker->peer = id;
	fake_tell_now(id, listener, RDMA_CM_EVENT_CONNECT_REQUEST, later->private_data, later->private_len);
}

int rdma_accept(struct rdma_cm_id *base, struct rdma_conn_param *param)
{
	struct fake_id *id = (struct fake_id *)base;
	struct fake_later *later;

	assert(id->qp != NULL && param->rnr_retry_count == 0 && fake_answers_well(param));
	if (id->peer == NULL || fake_is_silent(id))
		return 0; /* it will hear of nothing more */
	id->qp->peer = id->peer->qp;
	id->peer->qp->peer = id->qp;
	id->stood = id->peer->stood = true;
	later = fake_tell(id->peer, RDMA_CM_EVENT_ESTABLISHED);
	memcpy(later->private_data, param->private_data, param->private_data_len);
	later->private_len = param->private_data_len;
	/* The one who accepts hears of it after the other has. */
	id->half = !fabric.iwarp;
	later = fake_later_at(fake_due(later->due_ns) + (id->half ? fabric.third_us * 1000 : 0), STEP_TELL);
	later->id = id;
	later->type = RDMA_CM_EVENT_ESTABLISHED;
	return 0;
}

int rdma_reject(struct rdma_cm_id *base, const void *data, uint8_t size)
{
	struct fake_id *id = (struct fake_id *)base;

	(void)data, (void)size;
	if (id->peer != NULL) {
		struct fake_later *later = fake_later_at(fake_due(fake_due(0)), STEP_TELL);

		later->id = id->peer;
		later->type = RDMA_CM_EVENT_REJECTED;
		if (fabric.iwarp) /* siw tells by the queues first */
			fake_qp_fail(id->peer->qp);
		id->peer->peer = NULL;
		id->peer = NULL;
	}
	return 0;
}

int rdma_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **ret_event)
{
	struct fake_events *events = (struct fake_events *)channel;
	struct fake_told *told = events->first;
	uint64_t count;

	assert(fcntl(channel->fd, F_GETFL) & O_NONBLOCK);
	if (told == NULL) {
		(void)!read(channel->fd, &count, sizeof(count));
		fake_take_asked();
		errno = EAGAIN;
		return -1;
	}
	events->first = told->next;
	((struct fake_id *)told->event.id)->unacknowledged++;
	*ret_event = &told->event;
	return 0;
}

int rdma_ack_cm_event(struct rdma_cm_event *event)
{
	((struct fake_id *)event->id)->unacknowledged--;
	fake_free(event);
	return 0;
}

/* --- what happens ------------------------------------------------------------------------------------------------- */

/* Nobody's fault, and nobody is told but by what was posted; or by both. */
static void fake_break(struct fake_qp *qp)
{
	struct fake_qp *peer = qp->peer;

	fake_qp_fail(qp);
	if (peer == NULL)
		return;
	fake_qp_fail(peer);
	if (fake_draw(2) == 0 && peer->id->peer != NULL && !peer->id->disconnect_told) {
		peer->id->disconnect_told = true;
		fake_tell(peer->id, RDMA_CM_EVENT_DISCONNECTED);
	}
}

static void fake_step_run(struct fake_later *later)
{
	switch (later->step) {
	case STEP_WORK:
		if (later->qp != NULL)
			fake_deliver(later->qp, later->work);
		else if (later->late != NULL)
			fake_deliver_late(later->late, later->late_pd);
		break;
	case STEP_OVER:
		if (later->qp != NULL && later->qp->sends != later->qp->stuck)
			fake_send_over(later->qp, IBV_WC_SUCCESS);
		break;
	case STEP_TELL:
		if (later->id != NULL && later->type == RDMA_CM_EVENT_ESTABLISHED)
			later->id->half = false;
		if (later->id != NULL &&
		    (later->type == RDMA_CM_EVENT_ESTABLISHED || later->type == RDMA_CM_EVENT_REJECTED))
			later->id->waits = false;
		if (later->id != NULL)
			fake_tell_now(later->id, NULL, later->type, later->private_data, later->private_len);
		break;
	case STEP_CONNECT:
		if (later->id != NULL)
			fake_connect(later);
		break;
	case STEP_BREAK:
		if (later->qp != NULL)
			fake_break(later->qp);
		break;
	case STEP_NOTICE:
		if (later->cq != NULL)
			fake_cq_tell(later->cq);
		break;
	}
}

static void fake_timer(struct loop_timer *timer)
{
	(void)timer;
	while (fabric.later != NULL && fabric.later->due_ns <= clock_ns()) {
		struct fake_later *later = fabric.later;

		fabric.later = later->next;
		fake_step_run(later);
		free(later->late);
		fake_free(later);
	}
	if (fabric.later != NULL)
		loop_timer_set(fabric.loop, &fabric.timer, fabric.later->due_ns);
}

int ibv_query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
	(void)context;
	*attr = (struct ibv_device_attr){ .max_qp_rd_atom = FAKE_READS,
					  .max_qp_init_rd_atom = FAKE_READS,
					  .phys_port_cnt = 1 };
	if (fabric.windows)
		attr->device_cap_flags = IBV_DEVICE_MEM_WINDOW_TYPE_2B | IBV_DEVICE_MEM_MGT_EXTENSIONS;
	return 0;
}

#undef ibv_query_port /* which asks that one where a driver is as old as this one */
int ibv_query_port(struct ibv_context *context, uint8_t number, struct _compat_ibv_port_attr *attr)
{
	(void)context;
	assert(number == 1);
	*(struct ibv_port_attr *)attr = fabric.port;
	return 0;
}

struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	assert(device == &fabric.device);
	return fake_context();
}

int ibv_close_device(struct ibv_context *context)
{
	assert(context == fake_context());
	return 0;
}

const char *ibv_get_device_name(struct ibv_device *device)
{
	return device->name;
}

struct ibv_device **ibv_get_device_list(int *count)
{
	struct ibv_device **list = fake_new(2 * sizeof(*list));

	list[0] = &fabric.device;
	*count = 1;
	return list;
}

void ibv_free_device_list(struct ibv_device **list)
{
	fake_free(list);
}

const char *ibv_wc_status_str(enum ibv_wc_status status)
{
	return status == IBV_WC_SUCCESS ? "success" : "error";
}

/* What has left a card comes, whether the card is still there or not; once. */
static inline void fabric_let_late_writes_go(void)
{
	for (struct fake_later *later = fabric.later; later != NULL; later = later->next) {
		if (later->late == NULL)
			continue;
		fake_deliver_late(later->late, later->late_pd);
		free(later->late);
		later->late = NULL;
	}
}

/* --- its life ----------------------------------------------------------------------------------------------------- */

static void fabric_begin(struct loop *loop, uint64_t seed, unsigned int delay_us)
{
	fabric = (struct fake_fabric){
		.loop = loop,
		.random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1,
		.delay_us = delay_us,
		.notice_us = 3 * delay_us,
		.timer.expired = fake_timer,
		.next_port = 1000,
		.device.transport_type = IBV_TRANSPORT_IB,
	};
	for (size_t i = 0; i < sizeof(fabric.contexts) / sizeof(*fabric.contexts); i++)
		fabric.contexts[i] = (struct ibv_context){ .device = &fabric.device,
							   .num_comp_vectors = 8,
							   .ops = { .poll_cq = fake_poll_cq,
								    .req_notify_cq = fake_req_notify_cq,
								    .alloc_mw = fake_alloc_mw,
								    .dealloc_mw = fake_dealloc_mw,
								    .post_send = fake_post_send,
								    .post_recv = fake_post_recv } };
}

/* It is taken out, or fails: what is posted goes nowhere, its channels have nothing but errors; and, told: whoever is at it hears so. */
static inline void fabric_device_goes(bool told)
{
	fabric.gone = fabric.silent = true;
	for (struct fake_id *id = fabric.ids; id != NULL; id = id->next) {
		if (id->base.verbs == NULL) /* at a wildcard */
			continue;
		id->listens = false;
		if (told)
			fake_tell(id, RDMA_CM_EVENT_DEVICE_REMOVAL);
	}
	for (struct fake_channel *channel = fabric.channels; channel != NULL; channel = channel->next) {
		if (channel->other_fd >= 0)
			close(channel->other_fd);
		channel->other_fd = -1;
	}
}

static inline void fabric_device_comes(void)
{
	assert(++fabric.comings < sizeof(fabric.contexts) / sizeof(*fabric.contexts));
	fabric.gone = fabric.silent = false;
}

/* All transports are gone: nothing may be left of them. */
static void fabric_end(void)
{
	loop_timer_cancel(&fabric.timer);
	while (fabric.later != NULL) {
		struct fake_later *later = fabric.later;

		fabric.later = later->next;
		free(later->late);
		fake_free(later);
	}
	assert(fabric.objects == 0 && fabric.ids == NULL);
}

#endif
