/*
 * A receive is looked at once: its segment is used, or copied to where it waits, and posted again. What is incomplete waits
 * in a small buffer of the connection (the stash) until the rest comes; what comes while the owner said "not now" (paused),
 * or while there is too much to send (choked), waits there too, and its credits are not returned: so much and no more.
 */
#include "common/rdma/rdma_internal.h"

#include "common/transport_frame.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- the stash ---------------------------------------------------------------------------------------------------- */

static int stash_grow(struct rdma_conn *conn, size_t size)
{
	uint8_t *bigger;

	assert(size <= STASH_MAX);
	if (size <= conn->stash_size)
		return 0;
	if (size < conn->need)
		size = conn->need;
	if (size < 2 * conn->stash_size && conn->stash_size >= conn->need)
		size = 2 * conn->stash_size < STASH_MAX ? 2 * conn->stash_size : STASH_MAX;
	bigger = realloc(conn->stash, size);
	if (bigger == NULL) {
		rdma_conn_fail(conn, -ENOMEM, "out of memory");
		return -ENOMEM;
	}
	conn->stash = bigger;
	conn->stash_size = size;
	return 0;
}

static void stash_clear(struct rdma_conn *conn)
{
	free(conn->stash);
	conn->stash = NULL;
	conn->stash_len = conn->stash_size = 0;
}

static void stash_append(struct rdma_conn *conn, const uint8_t *data, size_t size)
{
	if (size == 0 || stash_grow(conn, conn->stash_len + size) < 0)
		return;
	memcpy(conn->stash + conn->stash_len, data, size);
	conn->stash_len += size;
}

/* --- taking what has come ----------------------------------------------------------------------------------------- */

static bool let_go(const struct rdma_conn *conn)
{
	return conn->state == CONN_DEAD || conn->finishing || conn->lingering;
}

static struct bulk_arrival *arrival_add(struct rdma_conn *conn, const struct frame_header *header)
{
	struct bulk_state *moving = &conn->moving;
	unsigned int at = (moving->arrival_first + moving->arrival_count) % ARRIVALS;

	assert(moving->arrival_count < ARRIVALS);
	moving->arrival_count++;
	moving->arrivals[at] = (struct bulk_arrival){ .header = *header };
	return &moving->arrivals[at];
}

/* Those that are complete, up to the first that is not. What comes by the stream is of the last one. */
static void take_messages(struct rdma_conn *conn)
{
	struct bulk_state *moving = &conn->moving;

	while (moving->arrival_count > 0 && !let_go(conn)) {
		const struct bulk_arrival *first = &moving->arrivals[moving->arrival_first];
		const struct frame_header header = first->header;
		int err;

		if (first->reads > 0 || (moving->arrival_count == 1 && conn->bulk_left > 0))
			return;
		moving->arrival_first = (moving->arrival_first + 1) % ARRIVALS;
		moving->arrival_count--;
		conn->partial_since_ns = 0;
		err = conn->events->message(conn->owner, &header);
		if (err < 0)
			rdma_conn_fail(conn, err, transport_frame_error(err));
	}
}

/* The preface, header and body at data, if they are complete: *ret_need <= size. Else so much they need. */
static int parse(const uint8_t *data, size_t size, struct preface *ret_preface, struct frame_header *ret_header,
		 size_t *ret_preface_size, size_t *ret_need)
{
	size_t need;
	int err = preface_decode(data, size, ret_preface, ret_preface_size);

	*ret_need = *ret_preface_size;
	if (err < 0 || size < *ret_preface_size)
		return err;
	err = transport_frame_parse(data + *ret_preface_size, size - *ret_preface_size, ret_header, &need);
	*ret_need += need;
	if (err < 0 || size < *ret_need)
		return err;
	/* What a frame may say of its bulk. */
	if (ret_preface->apart ? ret_header->bulk_len == 0 || ret_header->kind == FRAME_PUSH
			       : ret_preface->piece_count > 0)
		return -EPROTO;
	return ret_header->kind != FRAME_REQUEST &&
			       (ret_preface->piece_count > 0 || ret_preface->place.size > 0 || ret_preface->voidable)
		       ? -EPROTO
		       : 0;
}

/* The frame is its owner's, and its bulk does not come by the stream. */
static int take_apart(struct rdma_conn *conn, struct bulk_arrival *arrival, const struct preface *preface,
		      const void *placed_in)
{
	void *to = conn->bulk;
	size_t size = conn->bulk_left;
	int err;

	conn->bulk = NULL;
	conn->bulk_left = 0;
	if (arrival->header.kind == FRAME_REPLY)
		return to != NULL && to != placed_in ? -EPROTO : 0;
	if (to == NULL)
		return 0;
	conn->rdma->stats.bytes_in += size;
	err = bulk_pull(conn, arrival, preface, to, size);
	if (err == 0)
		rdma_send_later(conn); /* which looks for its end */
	return err;
}

/* The frame at data, if its preface, header and body are complete. Returns the bytes used; 0: none yet. */
static size_t take_frame(struct rdma_conn *conn, const uint8_t *data, size_t size)
{
	struct bulk_arrival *arrival;
	struct frame_header header;
	struct preface preface;
	void *bulk = NULL, *placed_in = NULL;
	size_t before, need;
	int err;

	if (size < conn->need)
		return 0;
	err = parse(data, size, &preface, &header, &before, &need);
	conn->need = 0;
	if (err == 0 && size < need) {
		conn->need = need;
		return 0;
	}
	if (err == 0 && header.kind == FRAME_REPLY && !bulk_answered(conn, header.xid))
		return 0;
	if (let_go(conn))
		return 0;
	if (err == 0 && preface.apart && header.kind == FRAME_REPLY)
		err = bulk_placed(conn, &header, &placed_in);
	if (err == 0)
		err = conn->events->frame(conn->owner, &header, data + before + FRAME_HEADER_SIZE, &bulk);
	if (let_go(conn))
		return 0;
	if (err == -EAGAIN) {
		conn->paused = true;
		return 0;
	}

	conn->moving.placed = false;
	arrival = arrival_add(conn, &header);
	conn->bulk = conn->bulk_base = bulk;
	conn->bulk_left = header.bulk_len;
	if (err == 0 && (preface.place.size > 0 || preface.voidable))
		err = bulk_place_add(conn, header.xid, &preface);
	if (err == 0 && preface.apart)
		err = take_apart(conn, arrival, &preface, placed_in);
	if (err < 0) {
		rdma_conn_fail(conn, err, transport_frame_error(err));
		return 0;
	}
	take_messages(conn);
	return need;
}

/* So many bytes of the bulk have come. */
static size_t take_bulk(struct rdma_conn *conn, const uint8_t *data, size_t size)
{
	size_t step = size < conn->bulk_left ? size : conn->bulk_left;

	if (conn->bulk != NULL) {
		memcpy(conn->bulk, data, step);
		conn->bulk += step;
	}
	conn->bulk_left -= step;
	if (conn->bulk_left == 0)
		take_messages(conn);
	return step;
}

/* Take all that is complete; returns the bytes used. */
static size_t take(struct rdma_conn *conn, const uint8_t *data, size_t size)
{
	const size_t queue_max = conn->rdma->limits.queue_max;
	size_t used = 0, step;

	while (used < size && conn->state != CONN_DEAD && !conn->paused && !conn_waits(conn)) {
		if (let_go(conn))
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

static void take_stash(struct rdma_conn *conn)
{
	size_t used;

	if (conn->stash_len == 0)
		return;
	used = take(conn, conn->stash, conn->stash_len);
	if (conn->state == CONN_DEAD)
		return;
	conn->stash_len -= used;
	if (let_go(conn) || conn->stash_len == 0)
		stash_clear(conn);
	else
		memmove(conn->stash, conn->stash + used, conn->stash_len);
}

/* After anything was taken. Is a frame under way, whose rest must come in time? */
static void check_partial(struct rdma_conn *conn)
{
	bool streams = (conn->stash_len > 0 || conn->bulk_left > 0) && !conn->paused && !conn->choked;
	bool partial = conn->framed && (streams || conn_is_pulling(conn)) && !let_go(conn);

	if (conn->state == CONN_DEAD)
		return;
	if (!partial)
		conn->partial_since_ns = 0;
	else if (conn->partial_since_ns == 0)
		conn->partial_since_ns = loop_now_ns(conn->rdma->loop);
	rdma_conn_arm(conn);
}

/* --- segments ----------------------------------------------------------------------------------------------------- */

int rdma_post_receive(struct rdma_conn *conn, uint64_t segment)
{
	struct ibv_sge sge = { (uintptr_t)receive_segment(conn, segment), SEGMENT_SIZE, conn->region->lkey };
	struct ibv_recv_wr wr = { .wr_id = segment, .sg_list = &sge, .num_sge = 1 }, *bad;

	return posted(ibv_post_recv(conn->id->qp, &wr, &bad));
}

static bool is_blocked(const struct rdma_conn *conn)
{
	return conn->paused || conn->choked || conn_waits(conn);
}

/*
 * Its credits return when all that has come is used, but for the begin of one frame: who is blocked again and again, and takes a
 * little in between, would otherwise keep ever more.
 */
static void return_credits(struct rdma_conn *conn)
{
	if (conn->state != CONN_DEAD && !is_blocked(conn))
		credits_used(&conn->credits);
}

static void take_new(struct rdma_conn *conn, const uint8_t *data, size_t size)
{
	const bool blocked = is_blocked(conn);
	size_t used = 0;

	if (!blocked && conn->stash_len == 0)
		used = take(conn, data, size);
	if (conn->state == CONN_DEAD)
		return;
	stash_append(conn, data + used, size - used);
	if (conn->state != CONN_DEAD && !blocked && used == 0)
		take_stash(conn);
}

static void take_data(struct rdma_conn *conn, const uint8_t *data, size_t size)
{
	if (credits_received(&conn->credits) < 0) {
		rdma_conn_fail(conn, -EPROTO, "more was sent than there were credits for");
		return;
	}
	conn->received_ns = loop_now_ns(conn->rdma->loop);
	conn->rdma->stats.bytes_in += size;
	if (!let_go(conn))
		take_new(conn, data, size);
	return_credits(conn);
}

static void take_segment(struct rdma_conn *conn, const uint8_t *segment, size_t size)
{
	struct segment_header header;

	if (segment_decode(segment, size, &header) < 0 || conn->bye_came ||
	    (header.kind == SEGMENT_CREDIT && !credits_suffice(&conn->credits, header.returned))) {
		rdma_conn_fail(conn, -EPROTO, "a segment that breaks the protocol");
		return;
	}
	if (credits_returned(&conn->credits, header.returned) < 0) {
		rdma_conn_fail(conn, -EPROTO, "more credits were returned than were used");
		return;
	}
	if (header.returned > 0)
		conn->progress_ns = loop_now_ns(conn->rdma->loop);
	if (header.kind == SEGMENT_DATA)
		take_data(conn, segment + SEGMENT_HEADER_SIZE, header.length);
	conn->bye_came = header.kind == SEGMENT_BYE;
}

/*
 * The queue pair has failed: everything that was posted comes back. What is kept must not wait for its owner. One that does
 * not stand yet leaves it to the connection manager to say why: on iWARP this comes before the word that it is refused.
 */
static void receive_failed(struct rdma_conn *conn, const struct ibv_wc *wc)
{
	if (conn->state != CONN_OPEN)
		conn->flushed = true;
	else if (wc->status == IBV_WC_WR_FLUSH_ERR)
		rdma_conn_lost(conn);
	else if (wc->status == IBV_WC_LOC_LEN_ERR)
		rdma_conn_fail(conn, -EPROTO, "a segment longer than allowed");
	else
		rdma_conn_fail(conn, -EIO, ibv_wc_status_str(wc->status));
}

/* Returns how many have come. */
static int receive_some(struct rdma_conn *conn)
{
	struct ibv_wc wc[16];
	int count = ibv_poll_cq(conn->receive_cq, 16, wc);

	if (count > 0)
		conn->rdma->stats.receives++;
	for (int i = 0; i < count && conn->state != CONN_DEAD; i++) {
		if (wc[i].status != IBV_WC_SUCCESS) {
			receive_failed(conn, &wc[i]);
			break;
		}
		/* It may come before the word that the connection stands. */
		conn->may_begin = true;
		rdma_conn_opened(conn);
		conn->heard_ns = loop_now_ns(conn->rdma->loop);
		if ((wc[i].wc_flags & conn->device->domain->voided_flags) != 0 &&
		    !window_voided(conn, wc[i].invalidated_rkey)) {
			rdma_conn_fail(conn, -EPROTO, "it has voided a key that it was not told of");
			break;
		}
		take_segment(conn, receive_segment(conn, wc[i].wr_id), wc[i].byte_len);
		/* A device may refuse it only because the other end has gone: what has come before that counts. */
		if (conn->state != CONN_DEAD && rdma_post_receive(conn, wc[i].wr_id) < 0)
			conn->receive_refused = true;
	}
	return count;
}

static void after_receiving(struct rdma_conn *conn)
{
	check_partial(conn);
	if (conn->state != CONN_OPEN)
		return;
	if (conn->bye_came && !is_blocked(conn) && !conn_is_pulling(conn))
		rdma_conn_fail(conn, -ECONNRESET, "closed by the other end");
	else if (conn->queue.first != NULL || conn->finishing || credits_due(&conn->credits))
		rdma_send_later(conn);
}

void rdma_receive(struct rdma_conn *conn)
{
	rdma_conn_hold(conn);
	take_messages(conn);
	/* No more can come than there are credits, and these are returned by what is sent later. */
	while (conn->state != CONN_DEAD && receive_some(conn) > 0)
		;
	if (conn->state != CONN_DEAD && ibv_req_notify_cq(conn->receive_cq, 0) != 0)
		rdma_conn_fail(conn, -EIO, "the device wakes nobody");
	while (conn->state != CONN_DEAD && receive_some(conn) > 0) /* what came before it was armed */
		;
	after_receiving(conn);
	if (conn->state != CONN_DEAD && conn->receive_refused && !conn->bye_came)
		rdma_conn_fail(conn, -EIO, "the device takes no more");
	rdma_conn_drop(conn);
}

void rdma_receive_kept(struct rdma_conn *conn)
{
	if (conn->state != CONN_OPEN)
		return;
	rdma_conn_hold(conn);
	take_messages(conn);
	take_stash(conn);
	return_credits(conn);
	after_receiving(conn);
	rdma_conn_drop(conn);
}
