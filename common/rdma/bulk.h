/*
 * Bulk that moves from memory to memory, driven by the one who answers: he reads what a request offers, and writes what his
 * answer brings to the place that the request has told. Used above BULK_INLINE bytes; below it, and whenever something is
 * in the way (no memory to register, too many pieces, a pipe), bulk travels in the stream.
 *
 *   - What is shown has a key for the one call, exactly as long as it is, which is void before anybody is told that the call is
 *     over: by the answer, or by the connection's end, whose queue pair is gone by then. So whatever comes late is refused
 *     by the device, and finds nobody's new data. The key is a window's, where the device has them (windows.h); else the memory
 *     is registered for the call.
 *   - What is not shown, the answerer's, may be of memory that is registered once (regions.c).
 *   - An offer (the asker's) lives from transport_send() to the answer's frame. transport_forget() of one is not possible
 *     without ending the connection.
 *   - A pull (the answerer's RDMA READs): as many at a time as there is room for. What comes behind its frame is taken meanwhile,
 *     but no message is told before those whose frames came before it. Where memory cannot be registered for one it goes by a
 *     segment of the connection's (struct bulk_bounce), and what comes behind it waits.
 *   - A push (his RDMA WRITE): posted before the answer's SEND, hence placed before it is seen.
 */
#ifndef STRAKE_COMMON_RDMA_BULK_H
#define STRAKE_COMMON_RDMA_BULK_H

#include "common/rdma/preface.h"
#include "common/transport.h"

#include <infiniband/verbs.h>

/*
 * Bytes. One call at a time on devices of software, in an idle guest of two CPUs, medians of five runs of half a second each, in us: by
 * the stream / from memory to memory. siw registers memory for each call, rxe has windows.
 *
 *                  1 KiB       4 KiB       8 KiB      16 KiB       32 KiB       64 KiB       128 KiB
 *     siw, READ  216 / 405   320 / 554   236 / 572   296 / 716    431 / 472    367 / 735    718 / 924
 *     siw, WRITE 307 / 630   308 / 570   245 / 756   328 / 1282   320 / 793    402 / 1185   674 / 1482
 *     rxe, READ  514 / 687   559 / 607   605 / 767   758 / 914    920 / 1168  1436 / 1591  2608 / 2361
 *     rxe, WRITE 529 / 853   502 / 851   640 / 760   746 / 1050  1021 / 1309  1494 / 1750  2546 / 2463
 *
 * Where the CPU does the card's work the stream is faster up to 64 KiB, with windows by ever less (1.3 to 1.6 times at 1 KiB, 1.1 to 1.2
 * at 64 KiB). A card does that work itself, and spares the copies at both ends; and the stream takes credits that small calls wait for: at
 * 16 KiB three of 32, at 64 KiB nine. So it is 16 KiB, of which ten calls may be under way; no card has been asked.
 */
#define BULK_INLINE 16384
#define PUSHES \
	15 /* under way, of a connection; one more, and SEND_WORK would be over 64, and cards make room for 128 */
#define READS      16   /* under way, of a connection */
#define ARRIVALS   16   /* frames of a connection that are told of, and their messages not */
#define PLACES_MAX 4096 /* requests not yet answered; more than any service takes */

/* Of a completion: the numbers below are segments. */
#define WR_PUSH (UINT64_C(1) << 32)
#define WR_PULL (UINT64_C(2) << 32)

struct rdma_conn;
struct window;

/* Memory that the device knows: regions.c. */
struct rdma_region {
	struct ibv_mr *mr; /* NULL: none */
	bool lasts;        /* it stays when the call is over */
};

/* Memory that the other end may reach. */
struct bulk_shown {
	struct rdma_region region; /* none: nothing is shown */
	struct window *window;     /* NULL: by the region's own key */
};

/* What a request of ours shows to the other end. */
struct bulk_offer {
	struct bulk_offer *next;
	uint64_t xid;
	struct bulk_shown shown[PREFACE_PIECES + 1];
	void *bulk_in; /* only if it is shown */
	size_t bulk_in_size;
	void (*done)(void *arg); /* of the request's bulk, if that is offered */
	void *arg;
};

/* What a request of the other end wants of its answer. */
struct bulk_place {
	struct bulk_place *next;
	uint64_t xid;
	struct remote_piece piece; /* where it may be written; none: nowhere */
	bool voidable;             /* by the answer's SEND: */
	uint32_t void_key;
	uint64_t end; /* of the answer's header and body, in the stream; once it is queued */
};

/* A frame that its owner was told of: its bulk is being read, or that of one before it; or it comes by the stream. */
struct bulk_arrival {
	struct frame_header header;
	struct rdma_region region; /* that its bulk is being read into, at: */
	void *to;
	unsigned int reads; /* not over yet */
};

/* A pull by way of bounce_segment(): one at a time. */
struct bulk_bounce {
	struct bulk_arrival *arrival;               /* NULL: there is none */
	struct remote_piece pieces[PREFACE_PIECES]; /* what is left of them, from `piece` on, of `count` */
	unsigned int piece, count;
	uint8_t *to; /* where the next of it goes */
};

struct bulk_push {
	bool used;
	struct rdma_region regions[PREFACE_PIECES];
	void (*done)(void *arg);
	void *arg;
};

struct bulk_state {
	struct bulk_offer *offers;
	struct bulk_place *places;
	unsigned int place_count;              /* with: */
	struct bulk_place *voids, **voids_end; /* whose answers are queued, in their order */
	struct bulk_push pushes[PUSHES];
	unsigned int pushes_out;

	struct bulk_arrival arrivals[ARRIVALS]; /* in the order of their frames, from arrival_first on, around */
	unsigned int arrival_first, arrival_count;
	unsigned int reads_out; /* of all of them */
	struct bulk_bounce bounce;

	/* The answer that has come last: its offer is over, but the frame may have to be told again. */
	bool placed;
	uint64_t placed_xid;
	void *placed_in;
	size_t placed_size;
};

/* A request's memory, as far as it can be offered: what its preface says. *ret_offer is NULL where nothing is. */
void bulk_offer_new(struct rdma_conn *conn, const struct transport_message *message, size_t bulk_len,
		    struct preface *ret_preface, struct bulk_offer **ret_offer);
void bulk_offer_add(struct rdma_conn *conn, struct bulk_offer *offer);
/* It was not added. */
void bulk_offer_drop(struct rdma_conn *conn, struct bulk_offer *offer);

/*
 * The answer to a request has come: its memory is its owner's again. `done` may call anything. False: not yet, its windows are
 * being voided (conn_waits()).
 */
bool bulk_answered(struct rdma_conn *conn, uint64_t xid);

/* Has this answer's bulk been placed rightly? -EPROTO. *ret_bulk_in: where. */
int bulk_placed(const struct rdma_conn *conn, const struct frame_header *header, void **ret_bulk_in);

/* A request of the other end is taken, and wants something of its answer. -EPROTO, -ENOMEM. */
int bulk_place_add(struct rdma_conn *conn, uint64_t xid, const struct preface *preface);
/* It is answered. NULL: there is none. It is the caller's, who frees it: */
struct bulk_place *bulk_place_take(struct rdma_conn *conn, uint64_t xid);
void bulk_place_free(struct rdma_conn *conn, struct bulk_place *place);
/* ... or has its key voided, by the SEND that brings the end of the answer's body. */
void bulk_place_void(struct rdma_conn *conn, struct bulk_place *place, uint64_t end);
/* A SEND goes that brings the stream up to there. Returns whether it voids a key. */
bool bulk_void_due(struct rdma_conn *conn, uint64_t until, uint32_t *ret_key);

/* Can the answer be written there just now? A push that bulk_push_post() needs. NULL: send it along. */
struct bulk_push *bulk_push_new(struct rdma_conn *conn, const struct transport_message *message, size_t bulk_len,
				const struct remote_piece *place);
void bulk_push_free(struct rdma_conn *conn, struct bulk_push *push);
/* -errno of ibv_post_send(). The push then goes with the connection. */
int bulk_push_post(struct rdma_conn *conn, struct bulk_push *push, const struct transport_message *message,
		   const struct remote_piece *place);

/*
 * Read a request's bulk to where its owner wants it. There is room for so many reads, and no bounce. -EPROTO: the pieces are not as
 * long.
 */
int bulk_pull(struct rdma_conn *conn, struct bulk_arrival *arrival, const struct preface *preface, void *to,
	      size_t size);

/* Work is over that is not a SEND. `done` may call anything. */
void bulk_work_over(struct rdma_conn *conn, const struct ibv_wc *wc);

/* By this end: it must hear when that is over. */
bool bulk_is_moved(const struct rdma_conn *conn);

/* Does the fabric still know memory that is not the connection's own? */
bool bulk_is_out(const struct rdma_conn *conn);

/* May the memory of a message with this arg, or this place of an answer, be touched? */
bool bulk_touches(const struct rdma_conn *conn, const void *arg, const void *bulk_in);

/* The queue pair is gone: everything back to whose it is. */
void bulk_end(struct rdma_conn *conn);

#endif
