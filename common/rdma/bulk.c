#include "common/rdma/bulk.h"

#include "common/bulk.h"
#include "common/rdma/rdma_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void regions_free(struct rdma_region *regions, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		rdma_region_free(&regions[i]);
}

/* Registers the pieces of a bulk that are not empty, for us. False: not possible, and nothing is registered. */
static bool pieces_register(struct rdma_conn *conn, const struct transport_message *message,
			    struct rdma_region regions[PREFACE_PIECES])
{
	unsigned int count = 0;

	for (int i = 0; i < message->bulk_count; i++) {
		const struct iovec *iov = &message->bulk[i];

		if (iov->iov_len == 0)
			continue;
		if (count < PREFACE_PIECES)
			regions[count] = rdma_region_new(conn, iov->iov_base, iov->iov_len, 0);
		if (count == PREFACE_PIECES || regions[count].mr == NULL) {
			regions_free(regions, count);
			return false;
		}
		count++;
	}
	return true;
}

/* --- offers ------------------------------------------------------------------------------------------------------- */

/*
 * Show it. With windows the region itself is shown to nobody. False: not possible.
 */
static bool shown_new(struct rdma_conn *conn, void *memory, size_t size, unsigned int access, struct bulk_shown *shown)
{
	const bool windows = conn->device->domain->windows;
	const unsigned int written = access & IBV_ACCESS_REMOTE_WRITE ? IBV_ACCESS_LOCAL_WRITE : 0;
	struct ibv_mw_bind_info what = {
		.addr = (uintptr_t)memory,
		.length = size,
		.mw_access_flags = access,
	};

	shown->window = NULL;
	shown->region =
		rdma_region_new(conn, memory, size, written | (windows ? (unsigned int)IBV_ACCESS_MW_BIND : access));
	if (shown->region.mr == NULL || !windows)
		return shown->region.mr != NULL;
	what.mr = shown->region.mr;
	shown->window = window_take(conn, &what);
	if (shown->window == NULL)
		rdma_region_free(&shown->region);
	return shown->window != NULL;
}

static struct remote_piece piece_of(const struct bulk_shown *shown, const void *memory, size_t size)
{
	const uint32_t key = shown->window != NULL ? shown->window->key : shown->region.mr->rkey;

	return (struct remote_piece){ (uintptr_t)memory, key, (uint32_t)size };
}

/* No key leads to it any more. */
static void shown_over(struct rdma_conn *conn, struct bulk_shown *shown)
{
	if (shown->window != NULL && conn->state != CONN_DEAD)
		window_give(conn, shown->window);
	rdma_region_free(&shown->region);
	*shown = (struct bulk_shown){ 0 };
}

/* The pieces of its bulk that are not empty. False: not possible, and nothing is shown. */
static bool show_bulk(struct rdma_conn *conn, const struct transport_message *message, struct bulk_offer *offer,
		      struct preface *preface)
{
	unsigned int count = 0;
	bool shown = true;

	for (int i = 0; i < message->bulk_count && shown; i++) {
		const struct iovec *iov = &message->bulk[i];

		if (iov->iov_len == 0)
			continue;
		shown = count < PREFACE_PIECES &&
			shown_new(conn, iov->iov_base, iov->iov_len, IBV_ACCESS_REMOTE_READ, &offer->shown[count]);
		if (shown) {
			preface->pieces[count] = piece_of(&offer->shown[count], iov->iov_base, iov->iov_len);
			count++;
		}
	}
	preface->piece_count = shown ? count : 0;
	while (!shown && count > 0)
		shown_over(conn, &offer->shown[--count]);
	return shown;
}

void bulk_offer_new(struct rdma_conn *conn, const struct transport_message *message, size_t bulk_len,
		    struct preface *ret_preface, struct bulk_offer **ret_offer)
{
	const bool out = bulk_len > BULK_INLINE && message->pipe_len == 0;
	const bool in = message->bulk_in != NULL && message->bulk_in_size > BULK_INLINE &&
			message->bulk_in_size <= FRAME_BULK_MAX;
	struct bulk_offer *offer = conn->state == CONN_OPEN && (out || in) ? calloc(1, sizeof(*offer)) : NULL;

	*ret_preface = (struct preface){ 0 };
	*ret_offer = NULL;
	if (offer == NULL)
		return;
	offer->xid = message->header.xid;
	if (out && show_bulk(conn, message, offer, ret_preface)) {
		ret_preface->apart = true;
		offer->done = message->done;
		offer->arg = message->arg;
	}
	if (in && shown_new(conn, message->bulk_in, message->bulk_in_size, IBV_ACCESS_REMOTE_WRITE,
			    &offer->shown[PREFACE_PIECES])) {
		ret_preface->place = piece_of(&offer->shown[PREFACE_PIECES], message->bulk_in, message->bulk_in_size);
		offer->bulk_in = message->bulk_in;
		offer->bulk_in_size = message->bulk_in_size;
	}
	ret_preface->voidable = conn->device->domain->windows && conn->peer_voids;
	if (ret_preface->apart || offer->bulk_in != NULL) {
		*ret_offer = offer;
	} else {
		free(offer);
		*ret_preface = (struct preface){ 0 };
	}
}

void bulk_offer_add(struct rdma_conn *conn, struct bulk_offer *offer)
{
	for (unsigned int i = 0; i <= PREFACE_PIECES; i++) {
		if (offer->shown[i].window != NULL)
			window_bind(conn, offer->shown[i].window);
	}
	offer->next = conn->moving.offers;
	conn->moving.offers = offer;
}

void bulk_offer_drop(struct rdma_conn *conn, struct bulk_offer *offer)
{
	for (unsigned int i = 0; i <= PREFACE_PIECES; i++)
		shown_over(conn, &offer->shown[i]);
	free(offer);
}

/* Nobody can reach its memory any more, and then it is given back. */
static void offer_over(struct rdma_conn *conn, struct bulk_offer *offer)
{
	void (*done)(void *arg) = offer->done;
	void *arg = offer->arg;

	bulk_offer_drop(conn, offer);
	if (done != NULL)
		done(arg);
}

/* Have what the answer has not voided voided here. Returns whether nothing of it is bound: false also when it cannot be one. */
static bool offer_void(struct rdma_conn *conn, const struct bulk_offer *offer)
{
	struct ibv_send_wr wr[PREFACE_PIECES + 1], *bad;
	unsigned int count = 0;

	for (unsigned int i = 0; i <= PREFACE_PIECES; i++) {
		struct window *window = offer->shown[i].window;

		if (window != NULL && window->state == WINDOW_DUE) { /* it answers what was not sent yet */
			conn->broken = true;
			rdma_send_later(conn);
			return false;
		}
	}
	for (unsigned int i = 0; i <= PREFACE_PIECES; i++) {
		struct window *window = offer->shown[i].window;

		if (window == NULL || window->state != WINDOW_BOUND)
			continue;
		window_void(conn, window, &wr[count]);
		if (count > 0)
			wr[count - 1].next = &wr[count];
		count++;
	}
	if (count == 0)
		return true;
	conn->rdma->stats.sends++;
	conn->broken = posted(ibv_post_send(conn->id->qp, wr, &bad)) < 0 || conn->broken;
	rdma_send_later(conn); /* which looks for its end */
	return false;
}

bool bulk_answered(struct rdma_conn *conn, uint64_t xid)
{
	struct bulk_offer **at = &conn->moving.offers, *offer;

	if (conn->moving.placed && conn->moving.placed_xid == xid)
		return true; /* this frame is told again */
	conn->moving.placed = false;
	while (*at != NULL && (*at)->xid != xid)
		at = &(*at)->next;
	offer = *at;
	if (offer == NULL)
		return true;
	if (!offer_void(conn, offer))
		return false;
	*at = offer->next;
	if (offer->bulk_in != NULL) {
		conn->moving.placed = true;
		conn->moving.placed_xid = xid;
		conn->moving.placed_in = offer->bulk_in;
		conn->moving.placed_size = offer->bulk_in_size;
	}
	offer_over(conn, offer);
	return true;
}

int bulk_placed(const struct rdma_conn *conn, const struct frame_header *header, void **ret_bulk_in)
{
	const struct bulk_state *moving = &conn->moving;

	if (header->kind != FRAME_REPLY || !moving->placed || moving->placed_xid != header->xid ||
	    header->bulk_len > moving->placed_size)
		return -EPROTO;
	*ret_bulk_in = moving->placed_in;
	return 0;
}

/* --- places ------------------------------------------------------------------------------------------------------- */

int bulk_place_add(struct rdma_conn *conn, uint64_t xid, const struct preface *preface)
{
	struct bulk_place *place;

	if (conn->moving.place_count == PLACES_MAX)
		return -EPROTO;
	place = malloc(sizeof(*place));
	if (place == NULL)
		return -ENOMEM;
	*place = (struct bulk_place){ .next = conn->moving.places, .xid = xid, .piece = preface->place };
	place->voidable = preface->voidable;
	place->void_key = place->voidable ? preface_void_key(preface) : 0;
	conn->moving.places = place;
	conn->moving.place_count++;
	return 0;
}

struct bulk_place *bulk_place_take(struct rdma_conn *conn, uint64_t xid)
{
	struct bulk_place **at = &conn->moving.places, *place;

	while (*at != NULL && (*at)->xid != xid)
		at = &(*at)->next;
	place = *at;
	if (place != NULL)
		*at = place->next;
	return place;
}

void bulk_place_free(struct rdma_conn *conn, struct bulk_place *place)
{
	free(place);
	conn->moving.place_count--;
}

void bulk_place_void(struct rdma_conn *conn, struct bulk_place *place, uint64_t end)
{
	struct bulk_state *moving = &conn->moving;

	if (moving->voids == NULL)
		moving->voids_end = &moving->voids;
	place->next = NULL;
	place->end = end;
	*moving->voids_end = place;
	moving->voids_end = &place->next;
}

/* Each SEND can void one. Of those that end with it, if ever there are several, the others are left to the one who asked. */
bool bulk_void_due(struct rdma_conn *conn, uint64_t until, uint32_t *ret_key)
{
	struct bulk_state *moving = &conn->moving;
	bool due = false;

	while (moving->voids != NULL && moving->voids->end <= until) {
		struct bulk_place *place = moving->voids;

		moving->voids = place->next;
		if (!due)
			*ret_key = place->void_key;
		due = true;
		bulk_place_free(conn, place);
	}
	return due;
}

/* --- pushes ------------------------------------------------------------------------------------------------------- */

struct bulk_push *bulk_push_new(struct rdma_conn *conn, const struct transport_message *message, size_t bulk_len,
				const struct remote_piece *place)
{
	struct bulk_push *push = conn->moving.pushes;

	if (bulk_len <= BULK_INLINE || message->pipe_len > 0 || bulk_len > place->size ||
	    conn->moving.pushes_out == PUSHES)
		return NULL;
	while (push->used)
		push++;
	if (!pieces_register(conn, message, push->regions))
		return NULL;
	push->used = true;
	push->done = message->done;
	push->arg = message->arg;
	conn->moving.pushes_out++;
	return push;
}

void bulk_push_free(struct rdma_conn *conn, struct bulk_push *push)
{
	regions_free(push->regions, PREFACE_PIECES);
	*push = (struct bulk_push){ 0 };
	conn->moving.pushes_out--;
}

static void push_over(struct rdma_conn *conn, struct bulk_push *push)
{
	void (*done)(void *arg) = push->done;
	void *arg = push->arg;

	bulk_push_free(conn, push);
	if (done != NULL)
		done(arg);
}

int bulk_push_post(struct rdma_conn *conn, struct bulk_push *push, const struct transport_message *message,
		   const struct remote_piece *place)
{
	struct ibv_sge sge[PREFACE_PIECES];
	struct ibv_send_wr wr = {
		.wr_id = WR_PUSH + (uint64_t)(push - conn->moving.pushes),
		.sg_list = sge,
		.opcode = IBV_WR_RDMA_WRITE,
		.wr.rdma = { .remote_addr = place->address, .rkey = place->key },
	}, *bad;

	for (int i = 0; i < message->bulk_count; i++) {
		const struct iovec *iov = &message->bulk[i];

		if (iov->iov_len == 0)
			continue;
		sge[wr.num_sge] = (struct ibv_sge){ (uintptr_t)iov->iov_base, (uint32_t)iov->iov_len,
						    push->regions[wr.num_sge].mr->lkey };
		wr.num_sge++;
	}
	return posted(ibv_post_send(conn->id->qp, &wr, &bad));
}

/* --- pulls -------------------------------------------------------------------------------------------------------- */

static struct ibv_send_wr read_wr(const struct rdma_conn *conn, const struct bulk_arrival *arrival,
				  const struct remote_piece *piece, struct ibv_sge *sge)
{
	return (struct ibv_send_wr){
		.wr_id = WR_PULL + (uint64_t)(arrival - conn->moving.arrivals),
		.sg_list = sge,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_READ,
		.wr.rdma = { .remote_addr = piece->address, .rkey = piece->key },
	};
}

/*
 * The owner's memory cannot be registered, as beyond RLIMIT_MEMLOCK: bulk is read to a segment of the connection's own, one READ at a
 * time, and copied. Who asked cannot send it by the stream any more, so every connection that stands must be able to read.
 */
static uint32_t bounce_size(const struct bulk_bounce *bounce)
{
	const uint32_t left = bounce->pieces[bounce->piece].size;

	return left < SEGMENT_SIZE ? left : SEGMENT_SIZE;
}

static int bounce_post(struct rdma_conn *conn)
{
	const struct bulk_bounce *bounce = &conn->moving.bounce;
	struct ibv_sge sge = { (uintptr_t)bounce_segment(conn), bounce_size(bounce), conn->bounce_region->lkey };
	struct ibv_send_wr wr = read_wr(conn, bounce->arrival, &bounce->pieces[bounce->piece], &sge), *bad;

	return posted(ibv_post_send(conn->id->qp, &wr, &bad));
}

static int bounce_begin(struct rdma_conn *conn, struct bulk_arrival *arrival, const struct preface *preface, void *to)
{
	struct bulk_bounce *bounce = &conn->moving.bounce;

	assert(bounce->arrival == NULL);
	*bounce = (struct bulk_bounce){ .arrival = arrival, .count = preface->piece_count, .to = to };
	memcpy(bounce->pieces, preface->pieces, sizeof(bounce->pieces));
	arrival->to = to;
	arrival->reads = 1; /* until all of it is there */
	conn->moving.reads_out++;
	return bounce_post(conn);
}

/* A READ of it is over. Returns whether there is another one. */
static bool bounce_goes_on(struct rdma_conn *conn)
{
	struct bulk_bounce *bounce = &conn->moving.bounce;
	struct remote_piece *piece = &bounce->pieces[bounce->piece];
	const uint32_t size = bounce_size(bounce);

	memcpy(bounce->to, bounce_segment(conn), size);
	bounce->to += size;
	piece->address += size;
	piece->size -= size;
	if (piece->size == 0 && ++bounce->piece == bounce->count) {
		bounce->arrival = NULL;
		return false;
	}
	conn->broken = bounce_post(conn) < 0 || conn->broken;
	rdma_send_later(conn); /* which looks for its end */
	return true;
}

int bulk_pull(struct rdma_conn *conn, struct bulk_arrival *arrival, const struct preface *preface, void *to,
	      size_t size)
{
	struct ibv_send_wr wr[PREFACE_PIECES], *bad;
	struct ibv_sge sge[PREFACE_PIECES];
	uint64_t at = 0;

	for (unsigned int i = 0; i < preface->piece_count; i++)
		at += preface->pieces[i].size;
	if (at != size || preface->piece_count == 0)
		return -EPROTO;
	assert(conn->moving.reads_out + preface->piece_count <= READS);
	arrival->region = rdma_region_new(conn, to, size, read_access(conn));
	if (arrival->region.mr == NULL)
		return bounce_begin(conn, arrival, preface, to);

	at = (uintptr_t)to;
	for (unsigned int i = 0; i < preface->piece_count; i++) {
		const struct remote_piece *piece = &preface->pieces[i];

		sge[i] = (struct ibv_sge){ at, piece->size, arrival->region.mr->lkey };
		wr[i] = read_wr(conn, arrival, piece, &sge[i]);
		wr[i].next = i + 1 < preface->piece_count ? &wr[i + 1] : NULL;
		at += piece->size;
	}
	arrival->to = to;
	arrival->reads = preface->piece_count;
	conn->moving.reads_out += preface->piece_count;
	return posted(ibv_post_send(conn->id->qp, wr, &bad));
}

static void read_over(struct rdma_conn *conn, struct bulk_arrival *arrival)
{
	conn->received_ns = conn->heard_ns = loop_now_ns(conn->rdma->loop);
	if (arrival == conn->moving.bounce.arrival && bounce_goes_on(conn))
		return;
	conn->moving.reads_out--;
	if (--arrival->reads > 0)
		return;
	rdma_region_free(&arrival->region);
	rdma_resume_later(conn);
}

/* --- all --------------------------------------------------------------------------------------------------------- */

/* One that failed leaves its memory to the connection's end, which the receives will tell of. */
void bulk_work_over(struct rdma_conn *conn, const struct ibv_wc *wc)
{
	if (wc->status != IBV_WC_SUCCESS)
		return;
	if (wc->wr_id >= WR_BIND)
		window_work_over(conn, wc->wr_id);
	else if (wc->wr_id >= WR_PULL)
		read_over(conn, &conn->moving.arrivals[wc->wr_id - WR_PULL]);
	else
		push_over(conn, &conn->moving.pushes[wc->wr_id - WR_PUSH]);
}

bool bulk_is_moved(const struct rdma_conn *conn)
{
	return conn->moving.pushes_out > 0 || conn->moving.reads_out > 0;
}

bool bulk_is_out(const struct rdma_conn *conn)
{
	return conn->moving.offers != NULL || bulk_is_moved(conn);
}

bool bulk_touches(const struct rdma_conn *conn, const void *arg, const void *bulk_in)
{
	for (const struct bulk_offer *offer = conn->moving.offers; offer != NULL; offer = offer->next) {
		if ((arg != NULL && offer->arg == arg) || (bulk_in != NULL && offer->bulk_in == bulk_in))
			return true;
	}
	for (unsigned int i = 0; i < PUSHES; i++) {
		if (arg != NULL && conn->moving.pushes[i].used && conn->moving.pushes[i].arg == arg)
			return true;
	}
	for (unsigned int i = 0; i < ARRIVALS; i++) {
		if (bulk_in != NULL && conn->moving.arrivals[i].reads > 0 && conn->moving.arrivals[i].to == bulk_in)
			return true;
	}
	return false;
}

void bulk_end(struct rdma_conn *conn)
{
	uint32_t key;

	for (unsigned int i = 0; i < ARRIVALS; i++) {
		rdma_region_free(&conn->moving.arrivals[i].region);
		conn->moving.arrivals[i].reads = 0;
	}
	conn->moving.arrival_count = conn->moving.reads_out = 0;
	conn->moving.bounce.arrival = NULL;
	while (conn->moving.places != NULL)
		bulk_place_free(conn, bulk_place_take(conn, conn->moving.places->xid));
	bulk_void_due(conn, UINT64_MAX, &key);
	while (conn->moving.offers != NULL) {
		struct bulk_offer *offer = conn->moving.offers;

		conn->moving.offers = offer->next;
		offer_over(conn, offer);
	}
	for (unsigned int i = 0; i < PUSHES; i++) {
		if (conn->moving.pushes[i].used)
			push_over(conn, &conn->moving.pushes[i]);
	}
}
