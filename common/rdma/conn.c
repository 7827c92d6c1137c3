#include "common/container_of.h"
#include "common/rdma/rdma_internal.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FINISH_MS       2000
#define LINGER_MS       2000
#define SILENT_MS       2000
#define RESOLVE_MS      2000 /* of an address, and of a route */
#define STALL_FULL_PART 6    /* see struct transport_limits */

/* --- its end ------------------------------------------------------------------------------------------------------ */

void rdma_conn_hold(struct rdma_conn *conn)
{
	conn->refs++;
}

/* Nobody uses it any more: what the fabric has of it. The queue pair is gone already. */
static void conn_destroy(struct rdma_conn *conn)
{
	if (conn->receive_cq != NULL)
		ibv_destroy_cq(conn->receive_cq);
	if (conn->send_cq != NULL)
		ibv_destroy_cq(conn->send_cq);
	if (conn->region != NULL)
		ibv_dereg_mr(conn->region);
	if (conn->bounce_region != NULL)
		ibv_dereg_mr(conn->bounce_region);
	if (conn->memory != NULL)
		munmap(conn->memory, CONN_MEMORY);
	if (conn->id != NULL)
		rdma_destroy_id(conn->id);
	if (conn->device != NULL)
		rdma_device_put(conn->device);
	free(conn);
}

void rdma_conn_drop(struct rdma_conn *conn)
{
	assert(conn->refs > 0);
	if (--conn->refs == 0) {
		assert(conn->state == CONN_DEAD);
		conn_destroy(conn);
	}
}

void rdma_conn_accepted(struct rdma_conn *conn)
{
	conn->unbegun = true;
	conn->accepted_ns = loop_now_ns(conn->rdma->loop);
	conn->rdma->unbegun++;
}

static void not_unbegun(struct rdma_conn *conn)
{
	if (conn->unbegun)
		conn->rdma->unbegun--;
	conn->unbegun = false;
}

/*
 * On iWARP to disconnect is to wait for the other end's word, and some drivers do not let the queue pair go until that has come (cxgb4's:
 * a minute). So who is given up, has not answered, or has said nothing for a while, is not asked: the queue pair goes as it is, and he is
 * told that it is broken.
 */
static bool is_left_unsaid(const struct rdma_conn *conn)
{
	return is_iwarp(conn) && (conn->given_up || conn->probing ||
				  loop_now_ns(conn->rdma->loop) >= conn->heard_ns + SILENT_MS * NSEC_PER_MSEC);
}

static void conn_disconnect(struct rdma_conn *conn, enum conn_state was)
{
	if (was == CONN_CONNECTING || (was == CONN_OPEN && !is_left_unsaid(conn)))
		rdma_disconnect(conn->id); /* fails where the other end was first */
}

void rdma_conn_end(struct rdma_conn *conn)
{
	struct transport_rdma *rdma = conn->rdma;
	const enum conn_state state = conn->state;
	bool leaves;

	if (state == CONN_DEAD)
		return;
	conn->state = CONN_DEAD;
	conn->events = NULL;
	not_unbegun(conn);

	loop_timer_cancel(&conn->timer);
	rdma_connect_stop(conn);
	leaves = state == CONN_CONNECTING && rdma_leave_begin(conn);
	if (!leaves)
		conn_disconnect(conn, state);
	windows_free(conn);
	if (conn->id->qp != NULL && !leaves) /* of one that leaves nothing was shown */
		rdma_destroy_qp(conn->id);
	if (conn->previous != NULL)
		conn->previous->next = conn->next;
	else
		rdma->all = conn->next;
	if (conn->next != NULL)
		conn->next->previous = conn->previous;

	free(conn->stash);
	conn->stash = NULL;
	conn->bulk = NULL;
	bulk_end(conn);
	transport_queue_clear(&conn->queue);
	rdma_conn_drop(conn);
}

void rdma_conn_fail(struct rdma_conn *conn, int err, const char *text)
{
	const struct transport_events *events = conn->events;
	void *owner = conn->owner;

	if (conn->state == CONN_DEAD)
		return;
	conn->given_up = err == -ETIMEDOUT;
	rdma_conn_end(conn);
	if (events != NULL)
		events->closed(owner, err, text);
}

/* To go away is everybody's right, but not from what he has asked for: then he is told of as one that has failed. */
void rdma_conn_lost(struct rdma_conn *conn)
{
	if (conn->state == CONN_OPEN)
		rdma_reap(conn, false);
	if (conn->failure != NULL)
		rdma_conn_fail(conn, conn->failure_err, conn->failure);
	else if (bulk_is_moved(conn))
		rdma_conn_fail(conn, -EIO, "it went while its memory was being read or written");
	else
		rdma_conn_fail(conn, -ECONNRESET, "closed by the other end");
}

/* --- deadlines ---------------------------------------------------------------------------------------------------- */

/*
 * A machine that has vanished says nothing, and verbs have no keepalive. So who is not heard for keepalive_ms is asked to let himself
 * be read, nothing from nowhere: on every device that is answered by his card, or his kernel, whatever his program does. (A WRITE is so
 * only on InfiniBand and RoCE: on iWARP it is over when it has left.) MPA's peer-to-peer connections begin with such a READ, too
 * (RFC 6581, 9.2.3), so devices know it.
 */
static int probe_post(struct rdma_conn *conn)
{
	struct ibv_sge sge = { .addr = (uintptr_t)conn->memory, .lkey = conn->region->lkey };
	struct ibv_send_wr wr = {
		.wr_id = WR_PROBE,
		.sg_list = &sge, /* some libraries look at the first, whatever their number is */
		.num_sge = conn->device->domain->empty_pieces ? 1 : 0,
		.opcode = IBV_WR_RDMA_READ,
	}, *bad;

	conn->rdma->stats.sends++;
	return posted(ibv_post_send(conn->id->qp, &wr, &bad));
}

/* When it is asked, or should have answered. */
static uint64_t probe_due(const struct rdma_conn *conn)
{
	if (conn->state != CONN_OPEN || !conn->may_begin)
		return UINT64_MAX;
	return conn->heard_ns + transport_keepalive_ms(&conn->rdma->limits) * NSEC_PER_MSEC;
}

/* That it has answered is seen when it is due again. It has all of that time, though this thread may have stood still. */
static void probe(struct rdma_conn *conn)
{
	int err = probe_post(conn);

	conn->probing = true;
	conn->heard_ns = clock_ns();
	if (err < 0)
		rdma_conn_fail(conn, err, "the device takes no more");
}

/* When the next deadline passes; UINT64_MAX: there is none. ret_text says what has happened then. */
static uint64_t conn_due(const struct rdma_conn *conn, const char **ret_text)
{
	const struct transport_limits *limits = &conn->rdma->limits;
	uint64_t due = UINT64_MAX;

	if (conn->opening_until_ns != 0) {
		due = conn->opening_until_ns;
		*ret_text = conn->state != CONN_OPEN ? "no connection in time" : "no complete greeting in time";
	}
	if (conn->partial_since_ns != 0 && limits->frame_ms != 0 &&
	    conn->partial_since_ns + limits->frame_ms * NSEC_PER_MSEC < due) {
		due = conn->partial_since_ns + limits->frame_ms * NSEC_PER_MSEC;
		*ret_text = "silent in the middle of a message";
	}
	if (conn->blocked && limits->stall_ms != 0) {
		bool full = limits->queue_max != 0 && conn->queue.bytes > limits->queue_max;
		uint64_t stall_ns = limits->stall_ms * NSEC_PER_MSEC / (full ? STALL_FULL_PART : 1);

		if (conn->progress_ns + stall_ns < due) {
			due = conn->progress_ns + stall_ns;
			*ret_text = "does not read what is sent to it";
		}
	}
	if (conn->probing && probe_due(conn) < due) {
		due = probe_due(conn);
		*ret_text = RDMA_NOT_THERE;
	}
	return due;
}

/* Deadlines move with every message, the timer seldom: when it goes off too early it is set anew. */
void rdma_conn_arm(struct rdma_conn *conn)
{
	const char *text = NULL;
	uint64_t due = conn_due(conn, &text);

	if (probe_due(conn) < due)
		due = probe_due(conn);
	if (conn->state != CONN_DEAD && due != UINT64_MAX && (conn->timer.loop == NULL || conn->timer.at_ns > due))
		loop_timer_set(conn->rdma->loop, &conn->timer, due);
}

/* Perhaps it was this thread that did not come round: what has arrived in time counts. */
static void catch_up(struct rdma_conn *conn)
{
	rdma_reap(conn, false);
	rdma_receive(conn);
}

static void conn_timer(struct loop_timer *timer)
{
	struct rdma_conn *conn = container_of(timer, struct rdma_conn, timer);
	const uint64_t now = loop_now_ns(conn->rdma->loop);
	const char *text = NULL;

	rdma_conn_hold(conn);
	if (conn->state == CONN_OPEN && (conn_due(conn, &text) <= now || probe_due(conn) <= now))
		catch_up(conn);
	if (conn->state != CONN_DEAD && conn_due(conn, &text) <= now)
		rdma_conn_fail(conn, -ETIMEDOUT, text);
	if (probe_due(conn) <= now)
		probe(conn);
	rdma_conn_arm(conn);
	rdma_conn_drop(conn);
}

/* It has memory for what it does not send, or does not let be read. */
static bool is_silent(const struct rdma_conn *conn, uint64_t idle_ns)
{
	const bool streams = conn->bulk != NULL && conn->bulk_left > 0 && !conn->paused && !conn->choked;

	return (streams || conn_is_pulling(conn)) && loop_now_ns(conn->rdma->loop) - conn->received_ns >= idle_ns;
}

/*
 * It has memory with what it does not take: what is written to its memory, one WRITE after the other; or what goes by the stream, behind
 * these, and it returns no credits. That segments are over says nothing: credits are sent to who sends.
 */
static bool is_deaf(const struct rdma_conn *conn, uint64_t idle_ns)
{
	const uint64_t now = loop_now_ns(conn->rdma->loop), deaf_ns = DEAF_TIMES * idle_ns;

	if (now - conn->taken_ns < deaf_ns)
		return false;
	return conn->moving.pushes_out > 0 ||
	       (conn->blocked && now - conn->progress_ns >= deaf_ns && transport_queue_has_bulk(&conn->queue));
}

static struct rdma_conn *find_idle(const struct transport_rdma *rdma, uint64_t idle_ns)
{
	struct rdma_conn *conn = rdma->all;

	while (conn != NULL && !is_silent(conn, idle_ns) && !is_deaf(conn, idle_ns))
		conn = conn->next;
	return conn;
}

/* What comes up may end any connection: it is begun anew after each. */
void rdma_transport_reclaim(struct transport *base, unsigned int idle_ms)
{
	struct transport_rdma *rdma = rdma_of(base);
	const uint64_t idle_ns = idle_ms * NSEC_PER_MSEC;
	struct rdma_conn *conn;

	while ((conn = find_idle(rdma, idle_ns)) != NULL) {
		rdma_conn_hold(conn);
		catch_up(conn);
		rdma_flush(conn);
		if (conn->state != CONN_DEAD && is_silent(conn, idle_ns))
			rdma_conn_fail(conn, -ETIMEDOUT,
				       "silent in the middle of a message, and others wait for its memory");
		else if (conn->state != CONN_DEAD && is_deaf(conn, idle_ns))
			rdma_conn_fail(conn, -ETIMEDOUT,
				       "does not read what is sent to it, and others wait for its memory");
		rdma_conn_drop(conn);
	}
}

/* --- the owner's calls -------------------------------------------------------------------------------------------- */

static void conn_begin(struct transport_conn *base, const struct transport_events *events, void *owner)
{
	struct rdma_conn *conn = rdma_conn_of(base);

	assert(!conn->framed);
	conn->framed = true;
	not_unbegun(conn);
	/* Who begins at once has no opening; to connect takes its time all the same. */
	if (conn->state == CONN_OPEN)
		conn->opening_until_ns = 0;
	conn->events = events;
	conn->owner = owner;
}

static void conn_resume(struct transport_conn *base)
{
	struct rdma_conn *conn = rdma_conn_of(base);

	if (conn->state == CONN_DEAD || !conn->paused)
		return;
	conn->goes_on = true;
	rdma_resume_later(conn);
}

static int conn_forget(struct transport_conn *base, const void *arg, const void *bulk_in)
{
	struct rdma_conn *conn = rdma_conn_of(base);
	int err;

	if (bulk_touches(conn, arg, bulk_in))
		return -EBUSY;
	err = arg != NULL ? transport_queue_forget(&conn->queue, arg) : 0;

	if (err == 0 && conn->bulk_left > 0 && bulk_in != NULL && conn->bulk_base == bulk_in)
		conn->bulk = NULL;
	return err;
}

static size_t conn_queued(const struct transport_conn *base)
{
	return ((const struct rdma_conn *)base)->queue.bytes;
}

static int conn_local_host(const struct transport_conn *base, char *ret_host, size_t size)
{
	struct sockaddr *address = rdma_get_local_addr(((const struct rdma_conn *)base)->id);
	socklen_t len = address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

	return getnameinfo(address, len, ret_host, (socklen_t)size, NULL, 0, NI_NUMERICHOST) == 0 ? 0 : -EINVAL;
}

/* Nothing is taken for its owner any more. */
static void conn_let_go(struct rdma_conn *conn, unsigned int for_ms)
{
	conn->events = NULL;
	conn->paused = conn->choked = false;
	conn->bulk = NULL;
	conn->need = 0;
	conn->partial_since_ns = 0;
	conn->opening_until_ns = loop_now_ns(conn->rdma->loop) + for_ms * NSEC_PER_MSEC;
	rdma_conn_arm(conn);
}

static void conn_finish(struct transport_conn *base)
{
	struct rdma_conn *conn = rdma_conn_of(base);

	if (conn->state == CONN_DEAD)
		return;
	if (conn->moving.offers != NULL || conn_is_pulling(conn)) { /* what its owner takes back now */
		rdma_conn_end(conn);
		return;
	}
	conn->finishing = true;
	conn_let_go(conn, FINISH_MS);
	credits_used(&conn->credits);
	rdma_send_later(conn);
}

/* As with a socket: what the fabric has taken is still sent. */
static void conn_close(struct transport_conn *base)
{
	struct rdma_conn *conn = rdma_conn_of(base);

	if (conn->state == CONN_DEAD)
		return;
	rdma_conn_hold(conn);
	conn->lingering = true;
	conn_let_go(conn, LINGER_MS);
	transport_queue_clear(&conn->queue);
	if (conn->state == CONN_OPEN)
		rdma_reap(conn, true);
	if (conn->state != CONN_OPEN || conn->sends_out == 0 || bulk_is_out(conn))
		rdma_conn_end(conn);
	rdma_conn_drop(conn);
}

static void conn_abandon(struct transport_conn *base)
{
	struct rdma_conn *conn = rdma_conn_of(base);

	conn->given_up = true;
	rdma_conn_end(conn);
}

static const struct transport_conn_ops conn_ops = {
	.send_bytes = rdma_conn_send_bytes,
	.begin = conn_begin,
	.send = rdma_conn_send,
	.resume = conn_resume,
	.forget = conn_forget,
	.queued = conn_queued,
	.local_host = conn_local_host,
	.finish = conn_finish,
	.close = conn_close,
	.abandon = conn_abandon,
};

/* --- its beginning ------------------------------------------------------------------------------------------------ */

void rdma_conn_opened(struct rdma_conn *conn)
{
	if (conn->state != CONN_CONNECTING)
		return;
	conn->state = CONN_OPEN;
	if (conn->framed && !conn->finishing)
		conn->opening_until_ns = 0;
	conn->progress_ns = conn->heard_ns = loop_now_ns(conn->rdma->loop);
	rdma_conn_arm(conn);
	if (conn->queue.first != NULL || conn->finishing)
		rdma_send_later(conn);
}

int rdma_conn_set_up(struct rdma_conn *conn)
{
	struct rdma_cm_id *id = conn->id;
	struct ibv_qp_init_attr attr = {
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
		.cap = { .max_send_wr = SEND_WORK,
			 .max_recv_wr = RECEIVES,
			 .max_send_sge = PREFACE_PIECES,
			 .max_recv_sge = 1 },
	};
	int err = rdma_device_get(conn->rdma, id, &conn->device);

	if (err < 0)
		return err;
	if (conn->device->domain->windows)
		attr.cap.max_send_wr += WINDOW_WORK;
	conn->memory = mmap(NULL, CONN_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (conn->memory == MAP_FAILED) {
		conn->memory = NULL;
		return -ENOMEM;
	}
	conn->region =
		ibv_reg_mr(conn->device->domain->pd, conn->memory, CONN_MEMORY - SEGMENT_SIZE, IBV_ACCESS_LOCAL_WRITE);
	if (conn->region != NULL)
		conn->bounce_region =
			ibv_reg_mr(conn->device->domain->pd, bounce_segment(conn), SEGMENT_SIZE, read_access(conn));
	if (conn->bounce_region == NULL)
		return errno == ENOMEM || errno == EPERM ? -ENOBUFS : -errno; /* EPERM: a limit of 0 */
	conn->receive_cq = ibv_create_cq(id->verbs, RECEIVES, conn, conn->device->channel, conn->device->vector);
	if (conn->receive_cq == NULL)
		return -errno;
	conn->send_cq =
		ibv_create_cq(id->verbs, (int)attr.cap.max_send_wr, conn, conn->device->channel, conn->device->vector);
	if (conn->send_cq == NULL)
		return -errno;
	attr.send_cq = conn->send_cq;
	attr.recv_cq = conn->receive_cq;
	if (rdma_create_qp(id, conn->device->domain->pd, &attr) < 0)
		return -errno;

	conn->may_begin = conn->may_begin || !is_iwarp(conn);
	for (uint16_t i = 0; i < SENDS; i++)
		conn->free_sends[conn->free_count++] = (uint16_t)(SENDS - 1 - i);
	for (uint64_t i = 0; i < RECEIVES && err == 0; i++)
		err = rdma_post_receive(conn, i);
	if (err == 0 && ibv_req_notify_cq(conn->receive_cq, 0) != 0)
		err = -EIO;
	return err;
}

int rdma_conn_new(struct transport_rdma *rdma, struct rdma_cm_id *id, const struct transport_events *events,
		  void *owner, struct rdma_conn **ret_conn)
{
	struct rdma_conn *conn = calloc(1, sizeof(*conn));
	int err = conn == NULL ? -ENOMEM : 0;

	if (err == 0 && id == NULL && rdma_create_id(rdma->channel, &id, &conn->hears, RDMA_PS_TCP) < 0)
		err = -errno;
	if (err < 0) {
		free(conn);
		if (id != NULL)
			rdma_destroy_id(id);
		return err;
	}
	id->context = &conn->hears;
	*conn = (struct rdma_conn){
		.base.ops = &conn_ops,
		.hears.told = rdma_conn_told,
		.rdma = rdma,
		.events = events,
		.owner = owner,
		.refs = 1,
		.timer.expired = conn_timer,
		.id = id,
		.queue.pool = &rdma->items,
	};
	if (rdma->limits.opening_ms != 0)
		conn->opening_until_ns = loop_now_ns(rdma->loop) + rdma->limits.opening_ms * NSEC_PER_MSEC;
	conn->next = rdma->all;
	if (rdma->all != NULL)
		rdma->all->previous = conn;
	rdma->all = conn;
	rdma_conn_arm(conn);
	*ret_conn = conn;
	return 0;
}

int rdma_transport_connect(struct transport *base, const struct sockaddr *address, socklen_t address_len,
			   const struct transport_events *events, void *owner, struct transport_conn **ret_conn)
{
	struct sockaddr_storage to;
	struct rdma_conn *conn;
	int err = rdma_conn_new(rdma_of(base), NULL, events, owner, &conn);

	if (err < 0)
		return err;
	assert(address_len <= sizeof(to));
	memcpy(&to, address, address_len);
	conn->may_begin = true;
	if (rdma_resolve_addr(conn->id, NULL, (struct sockaddr *)&to, RESOLVE_MS) < 0) {
		err = -errno;
		rdma_conn_end(conn);
		return err;
	}
	*ret_conn = &conn->base;
	return 0;
}
