/*
 * How bytes come in: recvmsg() fills what is known to be next (the rest of a bulk, or of a large body) and behind it
 * the thread's scratch buffer, from which as many frames are taken as it holds. What is left over of an incomplete one
 * is kept in a small buffer of the connection (the stash) until more comes. So only a connection in mid-frame has
 * memory.
 *
 * How bytes go out: a queue of items; each is so many bytes of the connection's pack buffer (headers and bodies of one
 * or many messages, back to back), then bulk by reference or a range of a file. Messages without bulk extend the last
 * item. The pack buffer goes when all is sent.
 *
 * Who frees a connection: it is counted. Being alive counts, so does standing in a list of the loop's, so does running
 * code that calls up; conn_teardown() ends the life, the last conn_drop() the memory.
 */
#include "common/transport_tcp.h"

#include "common/bulk_sums.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define SCRATCH_SIZE    (64 * 1024)
#define PACK_SIZE       (4 * 1024)        /* first size of a pack buffer */
#define ITEMS_SPARE_MAX 32                /* kept for reuse */
#define ITEM_IOV        4                 /* pieces of bulk without an array of their own */
#define SEND_IOV        256               /* pieces of one sendmsg() */
#define RECEIVE_BUDGET  (2 * 1024 * 1024) /* bytes of one connection before the others have their turn */
#define FINISH_MS       2000
#define STALL_FULL_PART 6 /* see struct transport_limits */

/* Used within one event on one thread, and empty between events. */
static _Thread_local uint8_t scratch[SCRATCH_SIZE];

struct out_item {
	struct out_item *next;
	size_t packed; /* so many bytes of the pack buffer go first */
	struct iovec inline_iov[ITEM_IOV];
	struct iovec *iov; /* what is left of the bulk: [iov_first, iov_count) */
	int iov_first, iov_count;
	int file;
	off_t file_offset;
	size_t file_left;
	void (*done)(void *arg);
	void *arg;
};

struct tcp_conn {
	struct transport_conn base;
	struct transport_tcp *tcp;
	const struct transport_events *events; /* NULL: the owner has let it go */
	void *owner;
	unsigned int refs;
	struct loop_watch watch;
	struct loop_timer timer;          /* set no later than the next deadline; often earlier */
	struct tcp_conn *next, *previous; /* all that live */
	struct tcp_conn *dirty_next;      /* have something new to send */
	struct tcp_conn *resumed_next;    /* may read on */
	uint32_t watched;                 /* epoll events asked for */
	uint64_t opening_until_ns;        /* also: of finishing */
	bool dead, connecting, framed, finishing, shut, dirty, resumed;
	bool paused;  /* the owner said "not now" */
	bool choked;  /* too much to send */
	bool blocked; /* the kernel takes no more for now */

	/* receiving */
	uint8_t *stash;
	size_t stash_len, stash_size;
	size_t need;                /* length of the frame's header and body, once known and not all there */
	struct frame_header header; /* of the frame whose bulk comes */
	uint8_t *bulk;              /* NULL: skip it */
	void *bulk_base;
	size_t bulk_left;
	uint64_t partial_since_ns; /* a frame has begun and is not complete; 0: none */

	/* sending */
	uint8_t *pack;
	size_t pack_sent, pack_len, pack_size;
	struct out_item *item_first, *item_last;
	size_t queued;
	uint64_t progress_ns;
};

struct transport_tcp {
	struct loop *loop;
	struct transport_limits limits;
	struct transport_stats stats;
	struct loop_hook hook; /* in the loop only while a connection is dirty: there may be many of us */
	bool hooked;
	struct loop_timer resume_timer;
	struct tcp_conn *all;
	struct tcp_conn *dirty;
	struct tcp_conn *resumed_first, *resumed_last; /* in the order in which they were resumed */
	struct out_item *spare_items;
	unsigned int spare_item_count;
};

static const struct transport_ops tcp_ops;

static struct tcp_conn *tcp_conn(struct transport_conn *base)
{
	return (struct tcp_conn *)base;
}

#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* --- life --------------------------------------------------------------------------------------------------------- */

static void conn_hold(struct tcp_conn *conn)
{
	conn->refs++;
}

static void conn_drop(struct tcp_conn *conn)
{
	assert(conn->refs > 0);
	if (--conn->refs == 0) {
		assert(conn->dead);
		free(conn);
	}
}

static struct out_item *item_new(struct transport_tcp *tcp)
{
	struct out_item *item = tcp->spare_items;

	if (item != NULL) {
		tcp->spare_items = item->next;
		tcp->spare_item_count--;
		memset(item, 0, sizeof(*item));
		return item;
	}
	return calloc(1, sizeof(*item));
}

static void item_free(struct transport_tcp *tcp, struct out_item *item)
{
	if (item->iov != item->inline_iov)
		free(item->iov);
	if (tcp->spare_item_count < ITEMS_SPARE_MAX) {
		item->next = tcp->spare_items;
		tcp->spare_items = item;
		tcp->spare_item_count++;
	} else {
		free(item);
	}
}

static void pack_release(struct tcp_conn *conn)
{
	free(conn->pack);
	conn->pack = NULL;
	conn->pack_sent = conn->pack_len = conn->pack_size = 0;
}

/* The first item's bytes have all gone, or never will: out of the queue, and its memory back to whose it is. */
static void item_pop(struct tcp_conn *conn)
{
	struct out_item *item = conn->item_first;
	void (*done)(void *arg) = item->done;
	void *arg = item->arg;

	conn->item_first = item->next;
	if (conn->item_first == NULL)
		conn->item_last = NULL;
	item_free(conn->tcp, item);
	if (done != NULL)
		done(arg);
}

/* End its life: nothing comes up from it any more, and no memory of others is touched. */
static void conn_teardown(struct tcp_conn *conn)
{
	struct transport_tcp *tcp = conn->tcp;

	if (conn->dead)
		return;
	conn->dead = true;
	conn->events = NULL;

	loop_watch_remove(&conn->watch);
	loop_timer_cancel(&conn->timer);
	close(conn->watch.fd);
	if (conn->previous != NULL)
		conn->previous->next = conn->next;
	else
		tcp->all = conn->next;
	if (conn->next != NULL)
		conn->next->previous = conn->previous;

	free(conn->stash);
	conn->stash = NULL;
	conn->bulk = NULL;
	while (conn->item_first != NULL)
		item_pop(conn);
	pack_release(conn);
	conn->queued = 0;
	conn_drop(conn);
}

/* It ends, and not by its owner's will. The caller holds it, or touches it no more. */
static void conn_fail(struct tcp_conn *conn, int err, const char *text)
{
	const struct transport_events *events = conn->events;
	void *owner = conn->owner;

	if (conn->dead)
		return;
	conn_teardown(conn);
	if (events != NULL)
		events->closed(owner, err, text);
}

static int socket_error(int fd)
{
	int err = 0;
	socklen_t size = sizeof(err);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) < 0)
		return -errno;
	return -err;
}

/* --- deadlines ---------------------------------------------------------------------------------------------------- */

/* When the next deadline passes; UINT64_MAX: there is none. ret_text says what has happened then. */
static uint64_t conn_due(const struct tcp_conn *conn, const char **ret_text)
{
	const struct transport_limits *limits = &conn->tcp->limits;
	uint64_t due = UINT64_MAX;

	if (conn->opening_until_ns != 0) {
		due = conn->opening_until_ns;
		*ret_text = conn->connecting ? "no connection in time" : "no complete greeting in time";
	}
	if (conn->partial_since_ns != 0 && limits->frame_ms != 0 &&
	    conn->partial_since_ns + limits->frame_ms * NSEC_PER_MSEC < due) {
		due = conn->partial_since_ns + limits->frame_ms * NSEC_PER_MSEC;
		*ret_text = "silent in the middle of a message";
	}
	if (conn->blocked && limits->stall_ms != 0) {
		bool full = limits->queue_max != 0 && conn->queued > limits->queue_max;
		uint64_t stall_ns = limits->stall_ms * NSEC_PER_MSEC / (full ? STALL_FULL_PART : 1);

		if (conn->progress_ns + stall_ns < due) {
			due = conn->progress_ns + stall_ns;
			*ret_text = "does not read what is sent to it";
		}
	}
	return due;
}

/* Deadlines move with every message, the timer seldom: when it goes off too early it is set anew. */
static void conn_arm(struct tcp_conn *conn)
{
	const char *text = NULL;
	uint64_t due = conn_due(conn, &text);

	if (due != UINT64_MAX && (conn->timer.loop == NULL || conn->timer.at_ns > due))
		loop_timer_set(conn->tcp->loop, &conn->timer, due);
}

static void conn_watch(struct tcp_conn *conn)
{
	uint32_t events = 0;

	if (conn->dead)
		return;
	if (conn->connecting || conn->blocked)
		events |= EPOLLOUT;
	if (!conn->connecting && !conn->paused && !conn->choked)
		events |= EPOLLIN;
	if (events != conn->watched) {
		conn->watched = events;
		if (loop_watch_change(&conn->watch, events) < 0)
			conn_fail(conn, -ENOMEM, "out of memory");
	}
}

/* --- receiving ---------------------------------------------------------------------------------------------------- */

static int stash_grow(struct tcp_conn *conn, size_t size)
{
	uint8_t *bigger;

	if (size <= conn->stash_size)
		return 0;
	bigger = realloc(conn->stash, size);
	if (bigger == NULL)
		return -ENOMEM;
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
	if (size == 0)
		return;
	if (stash_grow(conn, conn->stash_len + size) < 0) {
		conn_fail(conn, -ENOMEM, "out of memory");
		return;
	}
	memcpy(conn->stash + conn->stash_len, data, size);
	conn->stash_len += size;
}

static const char *frame_error_text(int err)
{
	switch (err) {
	case -EPROTONOSUPPORT:
		return "a message of another protocol version";
	case -EBADMSG:
		return "a damaged message";
	case -EMSGSIZE:
		return "a message longer than allowed";
	case -ENOMEM:
		return "out of memory";
	default:
		return "a message that breaks the protocol";
	}
}

static void conn_message(struct tcp_conn *conn)
{
	int err;

	conn->partial_since_ns = 0;
	err = conn->events->message(conn->owner, &conn->header);
	if (err < 0)
		conn_fail(conn, err, frame_error_text(err));
}

/* The header and body at data, if complete. Returns the bytes used; 0: none yet. */
static size_t conn_take_frame(struct tcp_conn *conn, const uint8_t *data, size_t size)
{
	const uint8_t *body = data + FRAME_HEADER_SIZE;
	struct frame_header header;
	void *bulk = NULL;
	int err;

	conn->need = 0;
	if (size < FRAME_HEADER_SIZE)
		return 0;
	err = frame_decode(data, &header);
	if (err == 0 && size - FRAME_HEADER_SIZE < header.body_len) {
		conn->need = FRAME_HEADER_SIZE + header.body_len;
		return 0;
	}
	if (err == 0 && crc32c(body, header.body_len) != header.body_sum)
		err = -EBADMSG;
	if (err == 0)
		err = conn->events->frame(conn->owner, &header, body, &bulk);
	if (conn->dead || conn->finishing)
		return 0;
	if (err == -EAGAIN) {
		conn->paused = true;
		return 0;
	}
	if (err < 0) {
		conn_fail(conn, err, frame_error_text(err));
		return 0;
	}

	conn->header = header;
	conn->bulk = bulk;
	conn->bulk_base = bulk;
	conn->bulk_left = header.bulk_len;
	if (conn->bulk_left == 0)
		conn_message(conn);
	return FRAME_HEADER_SIZE + header.body_len;
}

/* So many bytes of the bulk have come; those in place already when data is NULL. */
static size_t conn_take_bulk(struct tcp_conn *conn, const uint8_t *data, size_t size)
{
	size_t step = size < conn->bulk_left ? size : conn->bulk_left;

	if (conn->bulk != NULL) {
		if (data != NULL)
			memcpy(conn->bulk, data, step);
		conn->bulk += step;
	}
	conn->bulk_left -= step;
	if (conn->bulk_left == 0)
		conn_message(conn);
	return step;
}

/* Take all that is complete; returns the bytes used. */
static size_t conn_parse(struct tcp_conn *conn, const uint8_t *data, size_t size)
{
	size_t used = 0, step;

	while (used < size && !conn->dead && !conn->paused) {
		if (conn->finishing)
			return size;
		conn->choked = conn->tcp->limits.queue_max != 0 && conn->queued > conn->tcp->limits.queue_max;
		if (conn->choked)
			break;

		if (!conn->framed)
			step = conn->events->bytes(conn->owner, data + used, size - used);
		else if (conn->bulk_left > 0)
			step = conn_take_bulk(conn, data + used, size - used);
		else
			step = conn_take_frame(conn, data + used, size - used);
		if (step == 0)
			break;
		used += step;
	}
	return used;
}

/* What the stash holds may have become acceptable. */
static void conn_parse_stash(struct tcp_conn *conn)
{
	size_t used;

	if (conn->stash_len == 0)
		return;
	used = conn_parse(conn, conn->stash, conn->stash_len);
	if (conn->dead)
		return;
	conn->stash_len -= used;
	if (conn->stash_len == 0)
		stash_clear(conn);
	else
		memmove(conn->stash, conn->stash + used, conn->stash_len);
}

/* One recvmsg() and what it brought. Returns whether there may be more. */
static bool conn_receive_some(struct tcp_conn *conn)
{
	size_t direct = 0, kept = 0, room, rest;
	bool body = conn->bulk_left == 0 && conn->need > SCRATCH_SIZE / 2;
	struct iovec iov[2];
	struct msghdr message = { .msg_iov = iov };
	ssize_t received;

	if (conn->bulk_left > 0 && conn->bulk != NULL) {
		direct = conn->bulk_left;
		iov[message.msg_iovlen++] = (struct iovec){ conn->bulk, direct };
	} else if (body) {
		if (stash_grow(conn, conn->need) < 0) {
			conn_fail(conn, -ENOMEM, "out of memory");
			return false;
		}
		direct = conn->need - conn->stash_len;
		iov[message.msg_iovlen++] = (struct iovec){ conn->stash + conn->stash_len, direct };
	} else if (conn->stash_len > 0) {
		kept = conn->stash_len;
		assert(kept < SCRATCH_SIZE);
		memcpy(scratch, conn->stash, kept);
	}
	iov[message.msg_iovlen++] = (struct iovec){ scratch + kept, SCRATCH_SIZE - kept };
	room = direct + SCRATCH_SIZE - kept;

	received = recvmsg(conn->watch.fd, &message, MSG_DONTWAIT);
	conn->tcp->stats.receives++;
	if (received < 0) {
		if (errno != EAGAIN && errno != EINTR)
			conn_fail(conn, -errno, strerror(errno));
		return false;
	}
	if (received == 0) {
		conn_fail(conn, -ECONNRESET, "closed by the other end");
		return false;
	}
	conn->tcp->stats.bytes_in += (uint64_t)received;

	rest = (size_t)received;
	if (direct > 0) {
		size_t step = rest < direct ? rest : direct;

		rest -= step;
		if (body) {
			conn->stash_len += step;
			if (step == direct)
				conn_parse_stash(conn);
		} else {
			conn_take_bulk(conn, NULL, step);
		}
	}
	if (conn->dead)
		return false;
	if (conn->stash_len > 0 && kept == 0) { /* paused with a large body: what came behind it waits there too */
		stash_append(conn, scratch, rest);
	} else if (rest > 0) {
		size_t used = conn_parse(conn, scratch, kept + rest);

		if (conn->dead)
			return false;
		conn->stash_len = 0;
		if (used == kept + rest)
			stash_clear(conn);
		else
			stash_append(conn, scratch + used, kept + rest - used);
	}
	return (size_t)received == room;
}

static void conn_receive(struct tcp_conn *conn)
{
	uint64_t until = conn->tcp->stats.bytes_in + RECEIVE_BUDGET;

	while (!conn->dead && !conn->paused && !conn->choked) {
		if (!conn_receive_some(conn) || conn->tcp->stats.bytes_in >= until)
			break;
	}
}

/* After anything was read: is a frame under way, whose rest must come in time? */
static void conn_check_partial(struct tcp_conn *conn)
{
	bool partial = conn->framed && (conn->stash_len > 0 || conn->bulk_left > 0) && !conn->paused && !conn->choked;

	if (conn->dead)
		return;
	if (!partial)
		conn->partial_since_ns = 0;
	else if (conn->partial_since_ns == 0)
		conn->partial_since_ns = loop_now_ns(conn->tcp->loop);
	conn_arm(conn);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static void resume_later(struct tcp_conn *conn)
{
	struct transport_tcp *tcp = conn->tcp;

	if (conn->resumed)
		return;
	conn->resumed = true;
	conn_hold(conn);
	conn->resumed_next = NULL;
	if (tcp->resumed_last != NULL)
		tcp->resumed_last->resumed_next = conn;
	else
		tcp->resumed_first = conn;
	tcp->resumed_last = conn;
	loop_timer_set(tcp->loop, &tcp->resume_timer, loop_now_ns(tcp->loop));
}

/* So many bytes have been taken from the head of the queue. */
static void conn_sent(struct tcp_conn *conn, size_t size)
{
	conn->queued -= size;
	conn->tcp->stats.bytes_out += size;
	conn->progress_ns = loop_now_ns(conn->tcp->loop);

	while (conn->item_first != NULL) {
		struct out_item *item = conn->item_first;
		size_t step = size < item->packed ? size : item->packed;

		item->packed -= step;
		conn->pack_sent += step;
		size -= step;
		while (item->packed == 0 && item->iov_first < item->iov_count) {
			struct iovec *iov = &item->iov[item->iov_first];

			step = size < iov->iov_len ? size : iov->iov_len;
			iov->iov_base = (uint8_t *)iov->iov_base + step;
			iov->iov_len -= step;
			size -= step;
			if (iov->iov_len > 0)
				return;
			item->iov_first++;
		}
		if (item->packed > 0)
			return;
		step = size < item->file_left ? size : item->file_left;
		item->file_left -= step;
		size -= step;
		if (item->file_left > 0)
			return;
		item_pop(conn);
	}
	assert(size == 0);
}

/* What the next sendmsg() takes: as many pieces as fit, up to the first file. Returns its bytes; ret_more: not all. */
static size_t conn_gather(const struct tcp_conn *conn, struct iovec *iov, int *ret_count, bool *ret_more)
{
	size_t pack_at = conn->pack_sent, total = 0;
	int count = 0;
	bool more = false;

	for (const struct out_item *item = conn->item_first; item != NULL && !more; item = item->next) {
		if (item->packed > 0 && count < SEND_IOV) {
			iov[count++] = (struct iovec){ conn->pack + pack_at, item->packed };
			total += item->packed;
			pack_at += item->packed;
		} else {
			more = item->packed > 0;
		}
		for (int i = item->iov_first; i < item->iov_count && !more; i++) {
			more = count == SEND_IOV;
			if (!more) {
				iov[count++] = item->iov[i];
				total += item->iov[i].iov_len;
			}
		}
		more = more || item->file_left > 0;
	}
	*ret_count = count;
	*ret_more = more;
	return total;
}

/* One system call's worth. Returns whether to go on. */
static bool conn_flush_some(struct tcp_conn *conn)
{
	struct iovec iov[SEND_IOV];
	int count;
	bool more;
	size_t total = conn_gather(conn, iov, &count, &more);
	ssize_t sent;

	conn->tcp->stats.sends++;
	if (total > 0) {
		const struct msghdr message = { .msg_iov = iov, .msg_iovlen = (size_t)count };

		sent = sendmsg(conn->watch.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0));
	} else {
		struct out_item *item = conn->item_first;

		total = item->file_left;
		sent = sendfile(conn->watch.fd, item->file, &item->file_offset, item->file_left);
		if (sent == 0) {
			conn_fail(conn, -EIO, "a file to be sent is shorter than it was");
			return false;
		}
	}
	if (sent < 0) {
		if (errno == EINTR)
			return true;
		if (errno != EAGAIN) {
			conn_fail(conn, -errno, strerror(errno));
			return false;
		}
		sent = 0;
	}

	if (sent > 0)
		conn_sent(conn, (size_t)sent);
	if ((size_t)sent < total) {
		if (!conn->blocked && sent == 0)
			conn->progress_ns = loop_now_ns(conn->tcp->loop);
		conn->blocked = true;
		return false;
	}
	return true;
}

static void conn_flush(struct tcp_conn *conn)
{
	if (conn->dead || conn->connecting)
		return;
	conn_hold(conn);
	if (conn->item_first != NULL) {
		bool was_blocked = conn->blocked;

		conn->blocked = false;
		while (conn->item_first != NULL && conn_flush_some(conn))
			;
		if (!conn->dead && conn->blocked && !was_blocked)
			conn_arm(conn);
	}
	if (!conn->dead && conn->item_first == NULL) {
		conn->blocked = false;
		pack_release(conn);
		if (conn->finishing && !conn->shut) {
			conn->shut = true;
			shutdown(conn->watch.fd, SHUT_WR);
		}
	}
	if (!conn->dead && conn->choked && conn->queued <= conn->tcp->limits.queue_max / 2)
		resume_later(conn);
	conn_watch(conn);
	conn_drop(conn);
}

static void dirty_mark(struct tcp_conn *conn)
{
	struct transport_tcp *tcp = conn->tcp;

	if (conn->dirty || conn->blocked || conn->connecting)
		return;
	conn->dirty = true;
	conn_hold(conn);
	conn->dirty_next = tcp->dirty;
	tcp->dirty = conn;
	if (!tcp->hooked) {
		tcp->hooked = true;
		loop_hook_add(tcp->loop, LOOP_STAGE_SEND, &tcp->hook);
	}
}

/* Room for size bytes at the pack buffer's end. */
static int pack_reserve(struct tcp_conn *conn, size_t size)
{
	size_t bigger = conn->pack_size == 0 ? PACK_SIZE : conn->pack_size;
	uint8_t *pack;

	if (conn->pack_size - conn->pack_len >= size)
		return 0;
	if (conn->pack_sent > 0) {
		memmove(conn->pack, conn->pack + conn->pack_sent, conn->pack_len - conn->pack_sent);
		conn->pack_len -= conn->pack_sent;
		conn->pack_sent = 0;
	}
	while (bigger - conn->pack_len < size)
		bigger *= 2;
	if (bigger == conn->pack_size)
		return 0;

	pack = realloc(conn->pack, bigger);
	if (pack == NULL)
		return -ENOMEM;
	conn->pack = pack;
	conn->pack_size = bigger;
	return 0;
}

/* The item that takes the next bytes: the last one, unless bulk comes after its own. */
static struct out_item *item_for_bytes(struct tcp_conn *conn)
{
	struct out_item *item = conn->item_last;

	if (item != NULL && item->iov_count == 0 && item->file_left == 0 && item->done == NULL)
		return item;
	item = item_new(conn->tcp);
	if (item == NULL)
		return NULL;
	item->iov = item->inline_iov;
	if (conn->item_last != NULL)
		conn->item_last->next = item;
	else
		conn->item_first = item;
	conn->item_last = item;
	return item;
}

static int tcp_send_bytes(struct transport_conn *base, const void *data, size_t size)
{
	struct tcp_conn *conn = tcp_conn(base);
	struct out_item *item;

	if (conn->dead || conn->finishing)
		return -ECONNRESET;
	if (pack_reserve(conn, size) < 0)
		return -ENOMEM;
	item = item_for_bytes(conn);
	if (item == NULL)
		return -ENOMEM;

	memcpy(conn->pack + conn->pack_len, data, size);
	conn->pack_len += size;
	conn->queued += size;
	item->packed += size;
	dirty_mark(conn);
	return 0;
}

static int tcp_send(struct transport_conn *base, const struct transport_message *message)
{
	struct tcp_conn *conn = tcp_conn(base);
	struct frame_header header = message->header;
	size_t body_len = message->body != NULL ? protobuf_c_message_get_packed_size(message->body) : message->raw_len;
	size_t bulk_len = message->file_len;
	struct iovec *iov = NULL;
	struct out_item *item;
	uint8_t *out;

	if (conn->dead || conn->finishing)
		return -ECONNRESET;
	for (int i = 0; i < message->bulk_count; i++)
		bulk_len += message->bulk[i].iov_len;
	if (body_len > FRAME_BODY_MAX || bulk_len > FRAME_BULK_MAX)
		return -EMSGSIZE;
	if (message->bulk_count > ITEM_IOV) {
		iov = malloc((size_t)message->bulk_count * sizeof(*iov));
		if (iov == NULL)
			return -ENOMEM;
	}
	item = pack_reserve(conn, FRAME_HEADER_SIZE + body_len) < 0 ? NULL : item_for_bytes(conn);
	if (item == NULL) {
		free(iov);
		return -ENOMEM;
	}

	out = conn->pack + conn->pack_len;
	if (message->body != NULL)
		protobuf_c_message_pack(message->body, out + FRAME_HEADER_SIZE);
	else if (body_len > 0)
		memcpy(out + FRAME_HEADER_SIZE, message->raw, body_len);
	header.version = FRAME_VERSION;
	header.body_len = (uint32_t)body_len;
	header.bulk_len = (uint32_t)bulk_len;
	header.body_sum = crc32c(out + FRAME_HEADER_SIZE, body_len);
	frame_encode(&header, out);
	conn->pack_len += FRAME_HEADER_SIZE + body_len;
	conn->queued += FRAME_HEADER_SIZE + body_len + bulk_len;
	item->packed += FRAME_HEADER_SIZE + body_len;

	if (bulk_len > 0) {
		item->done = message->done;
		item->arg = message->arg;
	} else {
		assert(message->done == NULL);
	}
	if (message->file_len > 0) {
		assert(message->bulk_count == 0);
		item->file = message->file;
		item->file_offset = (off_t)message->file_offset;
		item->file_left = message->file_len;
	} else if (bulk_len > 0) {
		if (iov != NULL)
			item->iov = iov;
		memcpy(item->iov, message->bulk, (size_t)message->bulk_count * sizeof(*iov));
		item->iov_count = message->bulk_count;
		iov = NULL;
	}
	free(iov);
	dirty_mark(conn);
	return 0;
}

/* --- the owner's other calls -------------------------------------------------------------------------------------- */

static void tcp_begin(struct transport_conn *base, const struct transport_events *events, void *owner)
{
	struct tcp_conn *conn = tcp_conn(base);

	assert(!conn->framed);
	conn->framed = true;
	conn->opening_until_ns = 0;
	conn->events = events;
	conn->owner = owner;
}

static void tcp_resume(struct transport_conn *base)
{
	struct tcp_conn *conn = tcp_conn(base);

	if (!conn->dead && conn->paused)
		resume_later(conn);
}

/* Put a copy in the place of what an item still has to send of somebody's memory. */
static int item_copy_bulk(struct out_item *item)
{
	size_t total = 0, at = 0;
	uint8_t *copy;

	for (int i = item->iov_first; i < item->iov_count; i++)
		total += item->iov[i].iov_len;
	copy = malloc(total);
	if (copy == NULL)
		return -ENOMEM;
	for (int i = item->iov_first; i < item->iov_count; i++) {
		memcpy(copy + at, item->iov[i].iov_base, item->iov[i].iov_len);
		at += item->iov[i].iov_len;
	}
	item->iov[0] = (struct iovec){ copy, total };
	item->iov_first = 0;
	item->iov_count = 1;
	item->done = free;
	item->arg = copy;
	return 0;
}

static int tcp_forget(struct transport_conn *base, const void *arg, const void *bulk_in)
{
	struct tcp_conn *conn = tcp_conn(base);

	for (struct out_item *item = conn->item_first; item != NULL && arg != NULL; item = item->next) {
		void (*done)(void *arg) = item->done;
		void *done_arg = item->arg;
		int err;

		if (done == NULL || done_arg != arg || item->iov_count == 0)
			continue;
		err = item_copy_bulk(item);
		if (err < 0)
			return err;
		done(done_arg);
		break;
	}
	if (conn->bulk_left > 0 && bulk_in != NULL && conn->bulk_base == bulk_in)
		conn->bulk = NULL;
	return 0;
}

static size_t tcp_queued(const struct transport_conn *base)
{
	return ((const struct tcp_conn *)base)->queued;
}

static int tcp_local_host(const struct transport_conn *base, char *ret_host, size_t size)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);

	if (getsockname(((const struct tcp_conn *)base)->watch.fd, (struct sockaddr *)&address, &len) < 0)
		return -errno;
	if (getnameinfo((struct sockaddr *)&address, len, ret_host, (socklen_t)size, NULL, 0, NI_NUMERICHOST) != 0)
		return -EINVAL;
	return 0;
}

static void tcp_finish(struct transport_conn *base)
{
	struct tcp_conn *conn = tcp_conn(base);

	if (conn->dead)
		return;
	conn->events = NULL;
	conn->finishing = true;
	conn->paused = conn->choked = false;
	conn->bulk = NULL;
	conn->need = 0;
	conn->partial_since_ns = 0;
	conn->opening_until_ns = loop_now_ns(conn->tcp->loop) + FINISH_MS * NSEC_PER_MSEC;
	conn_arm(conn);
	dirty_mark(conn);
}

static void tcp_close(struct transport_conn *base)
{
	conn_teardown(tcp_conn(base));
}

static const struct transport_ops tcp_ops = {
	.send_bytes = tcp_send_bytes,
	.begin = tcp_begin,
	.send = tcp_send,
	.resume = tcp_resume,
	.forget = tcp_forget,
	.queued = tcp_queued,
	.local_host = tcp_local_host,
	.finish = tcp_finish,
	.close = tcp_close,
};

/* --- events of the loop ------------------------------------------------------------------------------------------- */

static void conn_ready(struct loop_watch *watch, uint32_t events)
{
	struct tcp_conn *conn = container_of(watch, struct tcp_conn, watch);
	int err;

	conn_hold(conn);
	if (conn->connecting) {
		err = socket_error(watch->fd);
		if (err < 0) {
			conn_fail(conn, err, strerror(-err));
		} else {
			conn->connecting = false;
			conn_flush(conn);
		}
	} else {
		if (events & EPOLLOUT)
			conn_flush(conn);
		if (!conn->dead && (events & (EPOLLIN | EPOLLERR | EPOLLHUP))) {
			if (!conn->paused && !conn->choked)
				conn_receive(conn);
			else if (events & (EPOLLERR | EPOLLHUP))
				conn_fail(conn, -ECONNRESET, "closed by the other end");
			conn_check_partial(conn);
		}
	}
	conn_watch(conn);
	conn_drop(conn);
}

static void conn_timer(struct loop_timer *timer)
{
	struct tcp_conn *conn = container_of(timer, struct tcp_conn, timer);
	const char *text = NULL;

	conn_hold(conn);
	/* Perhaps it was this thread that did not come round: what has arrived in time counts. */
	if (conn->partial_since_ns != 0 && conn_due(conn, &text) <= loop_now_ns(conn->tcp->loop)) {
		conn_receive(conn);
		conn_check_partial(conn);
	}
	if (!conn->dead && conn_due(conn, &text) <= loop_now_ns(conn->tcp->loop))
		conn_fail(conn, -ETIMEDOUT, text);
	if (!conn->dead)
		conn_arm(conn);
	conn_watch(conn);
	conn_drop(conn);
}

static void tcp_hook(struct loop_hook *hook)
{
	struct transport_tcp *tcp = container_of(hook, struct transport_tcp, hook);

	tcp->hooked = false;
	loop_hook_remove(tcp->loop, LOOP_STAGE_SEND, hook);
	while (tcp->dirty != NULL) {
		struct tcp_conn *conn = tcp->dirty;

		tcp->dirty = conn->dirty_next;
		conn->dirty = false;
		conn_flush(conn);
		conn_drop(conn);
	}
}

static void tcp_resume_timer(struct loop_timer *timer)
{
	struct transport_tcp *tcp = container_of(timer, struct transport_tcp, resume_timer);
	struct tcp_conn *resumed = tcp->resumed_first;

	/* Those who are told "not now" again, and want to be resumed again, get into a new list. */
	tcp->resumed_first = tcp->resumed_last = NULL;
	while (resumed != NULL) {
		struct tcp_conn *conn = resumed;

		resumed = conn->resumed_next;
		conn->resumed = false;
		conn->paused = conn->choked = false;
		if (!conn->dead) {
			conn_parse_stash(conn);
			conn_check_partial(conn);
			conn_watch(conn);
		}
		conn_drop(conn);
	}
}

/* --- making them -------------------------------------------------------------------------------------------------- */

int transport_tcp_new(struct loop *loop, const struct transport_limits *limits, struct transport_tcp **ret_tcp)
{
	struct transport_tcp *tcp = calloc(1, sizeof(*tcp));

	if (tcp == NULL)
		return -ENOMEM;
	tcp->loop = loop;
	tcp->limits = *limits;
	tcp->hook.run = tcp_hook;
	tcp->resume_timer.expired = tcp_resume_timer;
	*ret_tcp = tcp;
	return 0;
}

struct transport_tcp *transport_tcp_free(struct transport_tcp *tcp)
{
	if (tcp == NULL)
		return NULL;
	while (tcp->all != NULL)
		conn_teardown(tcp->all);
	loop_timer_cancel(&tcp->resume_timer);
	if (tcp->hooked)
		loop_hook_remove(tcp->loop, LOOP_STAGE_SEND, &tcp->hook);
	while (tcp->dirty != NULL) {
		struct tcp_conn *conn = tcp->dirty;

		tcp->dirty = conn->dirty_next;
		conn_drop(conn);
	}
	while (tcp->resumed_first != NULL) {
		struct tcp_conn *conn = tcp->resumed_first;

		tcp->resumed_first = conn->resumed_next;
		conn_drop(conn);
	}
	while (tcp->spare_items != NULL) {
		struct out_item *item = tcp->spare_items;

		tcp->spare_items = item->next;
		free(item);
	}
	free(tcp);
	return NULL;
}

void transport_tcp_stats(const struct transport_tcp *tcp, struct transport_stats *ret_stats)
{
	*ret_stats = tcp->stats;
}

/* Small messages leave at once; a machine that has vanished is noticed by the kernel in half a minute. */
static void socket_tune(int fd)
{
	const int one = 1, idle_s = 15, interval_s = 5, count = 3, unacknowledged_ms = 30000;

	/* None of these can fail on a TCP socket, and the connection works without. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms, sizeof(unacknowledged_ms));
}

/* Takes the socket over, also on failure. */
static int conn_new(struct transport_tcp *tcp, int fd, bool connecting, const struct transport_events *events,
		    void *owner, struct transport_conn **ret_conn)
{
	struct tcp_conn *conn = calloc(1, sizeof(*conn));
	int err;

	if (conn == NULL) {
		close(fd);
		return -ENOMEM;
	}
	socket_tune(fd);
	*conn = (struct tcp_conn){
		.base.ops = &tcp_ops,
		.tcp = tcp,
		.events = events,
		.owner = owner,
		.refs = 1,
		.watch = { .fd = fd, .ready = conn_ready },
		.timer.expired = conn_timer,
		.connecting = connecting,
		.watched = connecting ? EPOLLOUT : EPOLLIN,
	};
	if (tcp->limits.opening_ms != 0)
		conn->opening_until_ns = loop_now_ns(tcp->loop) + tcp->limits.opening_ms * NSEC_PER_MSEC;
	err = loop_watch_add(tcp->loop, &conn->watch, conn->watched);
	if (err < 0) {
		close(fd);
		free(conn);
		return err;
	}

	conn->next = tcp->all;
	if (tcp->all != NULL)
		tcp->all->previous = conn;
	tcp->all = conn;
	conn_arm(conn);
	*ret_conn = &conn->base;
	return 0;
}

int transport_tcp_connect(struct transport_tcp *tcp, const struct sockaddr *address, socklen_t address_len,
			  const struct transport_events *events, void *owner, struct transport_conn **ret_conn)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, address, address_len) < 0 && errno != EINPROGRESS) {
		int err = -errno;

		close(fd);
		return err;
	}
	return conn_new(tcp, fd, true, events, owner, ret_conn);
}

int transport_tcp_adopt(struct transport_tcp *tcp, int fd, const struct transport_events *events, void *owner,
			struct transport_conn **ret_conn)
{
	return conn_new(tcp, fd, false, events, owner, ret_conn);
}
