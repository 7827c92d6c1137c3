/*
 * recvmsg() fills what is known to be next (the rest of a bulk, or of a large body) and behind it the thread's scratch
 * buffer, from which as many frames are taken as it holds. What is left over of an incomplete one is kept in a small
 * buffer of the connection (the stash) until more comes. So only a connection in mid-frame has memory.
 *
 * A connection whose owner said "not now" (paused), or that has too much to send (choked), is not read; what it brought
 * along waits in the stash, however much that is. One that is finishing is read to nowhere.
 */
#include "common/transport_frame.h"
#include "common/transport_tcp_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SCRATCH_SIZE   (64 * 1024)
#define RECEIVE_BUDGET (2 * 1024 * 1024) /* bytes of one connection before the others have their turn */

/* Used within one event on one thread, and empty between events. */
static _Thread_local uint8_t scratch[SCRATCH_SIZE];

/* --- the stash ---------------------------------------------------------------------------------------------------- */

static int stash_grow(struct tcp_conn *conn, size_t size)
{
	uint8_t *bigger;

	if (size <= conn->stash_size)
		return 0;
	bigger = realloc(conn->stash, size);
	if (bigger == NULL) {
		tcp_conn_fail(conn, -ENOMEM, "out of memory");
		return -ENOMEM;
	}
	conn->stash = bigger;
	conn->stash_size = size;
	return 0;
}

static void stash_clear(struct tcp_conn *conn)
{
	free(conn->stash);
	conn->stash = NULL;
	conn->stash_len = conn->stash_size = 0;
}

static void stash_append(struct tcp_conn *conn, const uint8_t *data, size_t size)
{
	if (size == 0 || stash_grow(conn, conn->stash_len + size) < 0)
		return;
	memcpy(conn->stash + conn->stash_len, data, size);
	conn->stash_len += size;
}

/* --- taking what has come ----------------------------------------------------------------------------------------- */

static void take_message(struct tcp_conn *conn)
{
	int err;

	conn->partial_since_ns = 0;
	err = conn->events->message(conn->owner, &conn->header);
	if (err < 0)
		tcp_conn_fail(conn, err, transport_frame_error(err));
}

/* The header and body at data, if complete. Returns the bytes used; 0: none yet. */
static size_t take_frame(struct tcp_conn *conn, const uint8_t *data, size_t size)
{
	struct frame_header header;
	void *bulk = NULL;
	size_t need;
	int err = transport_frame_parse(data, size, &header, &need);

	conn->need = 0;
	if (err == 0 && size < need) {
		conn->need = need;
		return 0;
	}
	if (err == 0)
		err = conn->events->frame(conn->owner, &header, data + FRAME_HEADER_SIZE, &bulk);
	if (conn->dead || conn->finishing)
		return 0;
	if (err == -EAGAIN) {
		conn->paused = true;
		return 0;
	}
	if (err < 0) {
		tcp_conn_fail(conn, err, transport_frame_error(err));
		return 0;
	}

	conn->header = header;
	conn->bulk = bulk;
	conn->bulk_base = bulk;
	conn->bulk_left = header.bulk_len;
	if (conn->bulk_left == 0)
		take_message(conn);
	return need;
}

/* So many bytes of the bulk have come; those in place already when data is NULL. */
static size_t take_bulk(struct tcp_conn *conn, const uint8_t *data, size_t size)
{
	size_t step = size < conn->bulk_left ? size : conn->bulk_left;

	if (conn->bulk != NULL) {
		if (data != NULL)
			memcpy(conn->bulk, data, step);
		conn->bulk += step;
	}
	conn->bulk_left -= step;
	if (conn->bulk_left == 0)
		take_message(conn);
	return step;
}

/* Take all that is complete; returns the bytes used. */
static size_t take(struct tcp_conn *conn, const uint8_t *data, size_t size)
{
	const size_t queue_max = conn->tcp->limits.queue_max;
	size_t used = 0, step;

	while (used < size && !conn->dead && !conn->paused) {
		if (conn->finishing)
			return size;
		conn->choked = queue_max != 0 && conn->queue.bytes > queue_max;
		if (conn->choked)
			break;

		if (!conn->framed)
			step = conn->events->bytes(conn->owner, data + used, size - used);
		else if (conn->bulk_left > 0)
			step = take_bulk(conn, data + used, size - used);
		else
			step = take_frame(conn, data + used, size - used);
		if (step == 0)
			break;
		used += step;
	}
	return used;
}

static void take_stash(struct tcp_conn *conn)
{
	size_t used;

	if (conn->stash_len == 0)
		return;
	used = take(conn, conn->stash, conn->stash_len);
	if (conn->dead)
		return;
	conn->stash_len -= used;
	if (conn->stash_len == 0)
		stash_clear(conn);
	else
		memmove(conn->stash, conn->stash + used, conn->stash_len);
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* Where the bytes of one recvmsg() go. */
struct landing {
	struct iovec iov[2]; /* the last one is in the scratch buffer */
	size_t count;
	size_t direct; /* bytes of a bulk or a large body that go to their place */
	size_t kept;   /* bytes of the stash that stand in the scratch buffer before the new ones */
	bool body;     /* direct is the rest of a body, in the stash */
};

/* -ENOMEM: the connection has ended. */
static int landing_prepare(struct tcp_conn *conn, struct landing *landing)
{
	if (conn->finishing)
		stash_clear(conn);
	*landing = (struct landing){ .body = conn->bulk_left == 0 && conn->need > SCRATCH_SIZE / 2 };
	if (conn->bulk_left > 0 && conn->bulk != NULL) {
		landing->direct = conn->bulk_left;
		landing->iov[landing->count++] = (struct iovec){ conn->bulk, landing->direct };
	} else if (landing->body) {
		if (stash_grow(conn, conn->need) < 0)
			return -ENOMEM;
		landing->direct = conn->need - conn->stash_len;
		landing->iov[landing->count++] = (struct iovec){ conn->stash + conn->stash_len, landing->direct };
	} else if (conn->stash_len > 0) {
		landing->kept = conn->stash_len;
		assert(landing->kept < SCRATCH_SIZE);
		memcpy(scratch, conn->stash, landing->kept);
	}
	landing->iov[landing->count++] = (struct iovec){ scratch + landing->kept, SCRATCH_SIZE - landing->kept };
	return 0;
}

/* So many bytes have come to their place. */
static void landed_direct(struct tcp_conn *conn, const struct landing *landing, size_t size)
{
	if (!landing->body) {
		take_bulk(conn, NULL, size);
		return;
	}
	conn->stash_len += size;
	if (size == landing->direct)
		take_stash(conn);
}

/* So many bytes have come into the scratch buffer. */
static void landed_scratch(struct tcp_conn *conn, const struct landing *landing, size_t size)
{
	size_t used;

	if (size == 0)
		return;
	if (conn->stash_len > 0 && landing->kept == 0) { /* paused with a large body: this waits there too */
		stash_append(conn, scratch, size);
		return;
	}
	size += landing->kept;
	used = take(conn, scratch, size);
	if (conn->dead)
		return;
	conn->stash_len = 0;
	if (used == size)
		stash_clear(conn);
	else
		stash_append(conn, scratch + used, size - used);
}

/* One recvmsg() and what it brought. Returns whether there may be more. */
static bool receive_some(struct tcp_conn *conn)
{
	struct landing landing;
	struct msghdr message = { .msg_iov = landing.iov };
	size_t direct, size;
	ssize_t received;

	if (landing_prepare(conn, &landing) < 0)
		return false;
	message.msg_iovlen = landing.count;
	received = recvmsg(conn->watch.fd, &message, MSG_DONTWAIT);
	conn->tcp->stats.receives++;
	if (received < 0) {
		if (errno != EAGAIN && errno != EINTR)
			tcp_conn_fail(conn, -errno, strerror(errno));
		return false;
	}
	if (received == 0) {
		tcp_conn_fail(conn, -ECONNRESET, "closed by the other end");
		return false;
	}

	size = (size_t)received;
	conn->tcp->stats.bytes_in += size;
	conn->received_ns = loop_now_ns(conn->tcp->loop);
	direct = size < landing.direct ? size : landing.direct;
	if (direct > 0)
		landed_direct(conn, &landing, direct);
	if (!conn->dead)
		landed_scratch(conn, &landing, size - direct);
	return !conn->dead && size == landing.direct + SCRATCH_SIZE - landing.kept;
}

/* After anything was taken: is a frame under way, whose rest must come in time? */
static void check_partial(struct tcp_conn *conn)
{
	bool partial = conn->framed && (conn->stash_len > 0 || conn->bulk_left > 0) && !conn->paused && !conn->choked;

	if (conn->dead)
		return;
	if (!partial)
		conn->partial_since_ns = 0;
	else if (conn->partial_since_ns == 0)
		conn->partial_since_ns = loop_now_ns(conn->tcp->loop);
	tcp_conn_arm(conn);
}

void tcp_receive(struct tcp_conn *conn)
{
	uint64_t until = conn->tcp->stats.bytes_in + RECEIVE_BUDGET;

	while (!conn->dead && !conn->paused && !conn->choked) {
		if (!receive_some(conn) || conn->tcp->stats.bytes_in >= until)
			break;
	}
	check_partial(conn);
}

void tcp_receive_kept(struct tcp_conn *conn)
{
	take_stash(conn);
	check_partial(conn);
}
