/*
 * Bytes go from the queue into segments, as many of them as there are credits and segments for, and all of these are handed
 * to the fabric by one call; only then those whose bytes they were are told, so that they may do whatever they like.
 */
#include "common/rdma/rdma_internal.h"
#include "common/transport_frame.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define GATHER_IOV 64

/* What one call hands over. */
struct batch {
	struct ibv_send_wr wr[SENDS];
	struct ibv_sge sge[SENDS];
	unsigned int count;
};

static unsigned int data_room(const struct rdma_conn *conn)
{
	unsigned int segments = conn->free_count > CREDITS_CONTROL ? conn->free_count - CREDITS_CONTROL : 0;

	return segments < conn->credits.may_send ? segments : conn->credits.may_send;
}

/* A segment whose bytes are in its place already; it takes all that is owed along. */
static void batch_add(struct rdma_conn *conn, struct batch *batch, enum segment_kind kind, size_t length)
{
	uint16_t number = conn->free_sends[--conn->free_count];
	uint8_t *segment = send_segment(conn, number);
	struct ibv_sge *sge = &batch->sge[batch->count];
	struct ibv_send_wr *wr = &batch->wr[batch->count];
	uint32_t void_key;

	segment_encode(&(struct segment_header){ kind, credits_return(&conn->credits), (uint32_t)length }, segment);
	*sge = (struct ibv_sge){ (uintptr_t)segment, (uint32_t)(SEGMENT_HEADER_SIZE + length), conn->region->lkey };
	*wr = (struct ibv_send_wr){ .wr_id = number, .sg_list = sge, .num_sge = 1, .opcode = IBV_WR_SEND };
	if (batch->count > 0)
		batch->wr[batch->count - 1].next = wr;
	batch->count++;
	conn->sends_out++;
	if (kind != SEGMENT_DATA)
		return;
	conn->credits.may_send--;
	conn->stream_sent += length;
	if (bulk_void_due(conn, conn->stream_sent, &void_key) && conn->device->voids) {
		wr->opcode = IBV_WR_SEND_WITH_INV;
		wr->invalidate_rkey = void_key;
	}
}

/*
 * Libraries know no SEND that voids a key whose kernel says that its device can (bnxt_re's until 2025): so who asked does it, and
 * what was not taken is posted without.
 */
static int post_without_voiding(struct rdma_conn *conn, struct ibv_send_wr *first)
{
	struct ibv_send_wr *bad;

	conn->device->voids = false;
	for (struct ibv_send_wr *wr = first; wr != NULL; wr = wr->next) {
		if (wr->opcode == IBV_WR_SEND_WITH_INV)
			wr->opcode = IBV_WR_SEND;
	}
	return posted(ibv_post_send(conn->id->qp, first, &bad));
}

/* -errno: the connection has ended. */
static int batch_post(struct rdma_conn *conn, struct batch *batch)
{
	struct ibv_send_wr binds[WINDOWS], *bad = NULL;
	int err;

	if (batch->count == 0)
		return 0;
	conn->rdma->stats.sends++;
	err = posted(ibv_post_send(conn->id->qp, windows_bind(conn, binds, batch->wr), &bad));
	if (err < 0 && bad != NULL && bad->opcode == IBV_WR_SEND_WITH_INV && conn->device->voids)
		err = post_without_voiding(conn, bad);
	if (err < 0)
		rdma_conn_fail(conn, err, "the device takes no more");
	return err;
}

/* Where the bytes of the next segment go. */
static uint8_t *next_bytes(const struct rdma_conn *conn)
{
	return send_segment(conn, conn->free_sends[conn->free_count - 1]) + SEGMENT_HEADER_SIZE;
}

/* How much the next segment takes. It ends where an answer does whose SEND voids a key: each can void one. */
static size_t next_max(const struct rdma_conn *conn)
{
	const size_t max = conn->segment_max - SEGMENT_HEADER_SIZE;
	const struct bulk_place *voids = conn->moving.voids;

	return voids != NULL && voids->end - conn->stream_sent < max ? (size_t)(voids->end - conn->stream_sent) : max;
}

/* Cut so many pieces into segments. Returns the bytes that found room. */
static size_t fill_from_memory(struct rdma_conn *conn, struct batch *batch, const struct iovec *iov, int count)
{
	size_t max = next_max(conn), filled = 0, total = 0, step;

	for (int i = 0; i < count; i++) {
		const uint8_t *from = iov[i].iov_base;
		size_t left = iov[i].iov_len;

		while (left > 0 && data_room(conn) > 0) {
			step = left < max - filled ? left : max - filled;
			memcpy(next_bytes(conn) + filled, from, step);
			from += step;
			left -= step;
			filled += step;
			total += step;
			if (filled == max) {
				batch_add(conn, batch, SEGMENT_DATA, filled);
				filled = 0;
				max = next_max(conn);
			}
		}
	}
	if (filled > 0)
		batch_add(conn, batch, SEGMENT_DATA, filled);
	return total;
}

/* One segment of what waits in a pipe. -errno: there is less than was promised. */
static ssize_t fill_from_pipe(struct rdma_conn *conn, struct batch *batch, const struct transport_item *item)
{
	size_t max = conn->segment_max - SEGMENT_HEADER_SIZE;
	ssize_t size = read(item->pipe, next_bytes(conn), item->pipe_left < max ? item->pipe_left : max);

	if (size <= 0)
		return -EIO;
	batch_add(conn, batch, SEGMENT_DATA, (size_t)size);
	return size;
}

/* One call to the fabric, and what follows from it. Returns whether to go on. */
static bool flush_some(struct rdma_conn *conn)
{
	struct iovec iov[GATHER_IOV];
	struct batch batch;
	int count;
	bool more;
	ssize_t size;

	batch.count = 0;
	if (data_room(conn) == 0)
		return false;
	size = (ssize_t)transport_queue_gather(&conn->queue, iov, GATHER_IOV, &count, &more);
	if (size > 0)
		size = (ssize_t)fill_from_memory(conn, &batch, iov, count);
	else
		size = fill_from_pipe(conn, &batch, conn->queue.first);
	if (size < 0) {
		rdma_conn_fail(conn, (int)size, "there is less to send than was promised");
		return false;
	}
	if (batch_post(conn, &batch) < 0)
		return false;
	conn->rdma->stats.bytes_out += (uint64_t)size;
	conn->progress_ns = loop_now_ns(conn->rdma->loop);
	transport_queue_sent(&conn->queue, (size_t)size);
	return conn->state == CONN_OPEN;
}

/* What goes without data: all is sent, and there will be no more; or only credits are owed. */
static void flush_control(struct rdma_conn *conn)
{
	struct batch batch;

	batch.count = 0;
	if (conn->finishing && !conn->bye_sent && conn->queue.first == NULL && conn->free_count > 0) {
		conn->bye_sent = true;
		batch_add(conn, &batch, SEGMENT_BYE, 0);
	} else if (credits_due(&conn->credits) && conn->free_count > 0) {
		batch_add(conn, &batch, SEGMENT_CREDIT, 0);
	}
	batch_post(conn, &batch);
}

/* It has not kept what it has told, or is not there; where neither is known nothing is noted. */
static void note_failure(struct rdma_conn *conn, const struct ibv_wc *wc)
{
	conn->failure_err = -EIO;
	switch (wc->status) {
	case IBV_WC_RETRY_EXC_ERR:
		conn->failure = RDMA_NOT_THERE;
		conn->failure_err = -ETIMEDOUT;
		break;
	case IBV_WC_RNR_RETRY_EXC_ERR:
		conn->failure = "it has no receive for what it has given credits for";
		break;
	case IBV_WC_REM_INV_REQ_ERR:
	case IBV_WC_REM_ACCESS_ERR:
	case IBV_WC_REM_OP_ERR:
		conn->failure = wc->wr_id < SENDS      ? "its receives, or its keys, are not what it has said"
				: wc->wr_id < WR_PROBE ? "the memory that it has told of cannot be had"
						       : "it does not let itself be asked whether it is there";
		break;
	default: /* flushed, mostly: for another's fault */
		break;
	}
}

/* Sends that are over. Those that failed leave the end to the receives, which all fail then too, behind what has come. */
static void reap_once(struct rdma_conn *conn)
{
	struct ibv_wc wc[SEND_WORK];
	int count;

	do {
		count = ibv_poll_cq(conn->send_cq, SEND_WORK, wc);
		for (int i = 0; i < count && conn->state != CONN_DEAD; i++) {
			if (conn->failure == NULL)
				note_failure(conn, &wc[i]);
			if (wc[i].status == IBV_WC_SUCCESS && wc[i].wr_id >= SENDS)
				conn->taken_ns = loop_now_ns(conn->rdma->loop);
			if (wc[i].wr_id < SENDS) {
				conn->free_sends[conn->free_count++] = (uint16_t)wc[i].wr_id;
				conn->sends_out--;
			} else if (wc[i].wr_id == WR_PROBE) {
				conn->probing = wc[i].status != IBV_WC_SUCCESS;
			} else {
				bulk_work_over(conn, &wc[i]);
			}
		}
	} while (count == SEND_WORK && conn->state != CONN_DEAD);
}

void rdma_reap(struct rdma_conn *conn, bool arm)
{
	reap_once(conn);
	if (arm && conn->state != CONN_DEAD && ibv_req_notify_cq(conn->send_cq, 0) == 0)
		reap_once(conn); /* what came before it was armed */
}

void rdma_flush(struct rdma_conn *conn)
{
	if (conn->state != CONN_OPEN)
		return;
	rdma_conn_hold(conn);
	rdma_reap(conn, conn->lingering || conn->free_count <= CREDITS_CONTROL || bulk_is_moved(conn) ||
				conn->windows.voiding > 0);
	if (conn->lingering && conn->sends_out == 0)
		rdma_conn_end(conn);
	if (conn->broken)
		rdma_conn_fail(conn, -EIO, "the device takes no more");
	while (conn->state == CONN_OPEN && conn->queue.first != NULL && flush_some(conn))
		;
	if (conn->state == CONN_OPEN && conn->queue.first == NULL)
		transport_queue_trim(&conn->queue);
	if (conn->state == CONN_OPEN && !conn->lingering)
		flush_control(conn);

	if (conn->state == CONN_OPEN) {
		bool was_blocked = conn->blocked;

		conn->blocked = conn->queue.first != NULL;
		if (conn->blocked && !was_blocked)
			conn->progress_ns = loop_now_ns(conn->rdma->loop);
		if (conn->blocked && conn->free_count <= CREDITS_CONTROL)
			rdma_reap(conn, true);
		rdma_conn_arm(conn);
		if (conn->blocked && data_room(conn) > 0)
			rdma_send_later(conn);
		if (conn->choked && conn->queue.bytes <= conn->rdma->limits.queue_max / 2) {
			conn->goes_on = true;
			rdma_resume_later(conn);
		}
	}
	rdma_conn_drop(conn);
}

int rdma_conn_send_bytes(struct transport_conn *base, const void *data, size_t size)
{
	struct rdma_conn *conn = rdma_conn_of(base);
	int err;

	if (conn->state == CONN_DEAD || conn->finishing || conn->lingering)
		return -ECONNRESET;
	err = transport_queue_add_bytes(&conn->queue, data, size);
	if (err < 0)
		return err;
	conn->stream_queued += size;
	rdma_send_later(conn);
	return 0;
}

int rdma_conn_send(struct transport_conn *base, const struct transport_message *message)
{
	struct rdma_conn *conn = rdma_conn_of(base);
	struct preface preface = { 0 };
	struct bulk_place *place = NULL;
	struct bulk_offer *offer = NULL;
	struct bulk_push *push = NULL;
	uint8_t before[PREFACE_SIZE_MAX];
	size_t body_len, bulk_len, before_size, queued;
	int err;

	if (conn->state == CONN_DEAD || conn->finishing || conn->lingering)
		return -ECONNRESET;
	err = transport_frame_measure(message, &body_len, &bulk_len);
	if (err < 0)
		return err;
	if (message->header.kind == FRAME_REQUEST)
		bulk_offer_new(conn, message, bulk_len, &preface, &offer);
	else if (message->header.kind == FRAME_REPLY)
		place = bulk_place_take(conn, message->header.xid);
	if (place != NULL)
		push = bulk_push_new(conn, message, bulk_len, &place->piece);
	preface.apart = preface.apart || push != NULL;

	before_size = preface_encode(&preface, before);
	err = transport_queue_add(&conn->queue, before, before_size, message, preface.apart);
	if (err < 0) {
		if (offer != NULL)
			bulk_offer_drop(conn, offer);
		if (push != NULL)
			bulk_push_free(conn, push);
		if (place != NULL)
			bulk_place_free(conn, place);
		return err;
	}
	queued = before_size + FRAME_HEADER_SIZE + body_len;
	if (offer != NULL)
		bulk_offer_add(conn, offer);
	if (push != NULL) {
		if (conn->moving.pushes_out == 1)
			conn->taken_ns = loop_now_ns(conn->rdma->loop);
		conn->rdma->stats.bytes_out += bulk_len;
		conn->broken = bulk_push_post(conn, push, message, &place->piece) < 0 || conn->broken;
	}
	if (place != NULL && place->voidable)
		bulk_place_void(conn, place, conn->stream_queued + queued);
	else if (place != NULL)
		bulk_place_free(conn, place);
	conn->stream_queued += queued + (preface.apart ? 0 : bulk_len);
	rdma_send_later(conn);
	return 0;
}
