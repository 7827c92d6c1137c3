/*
 * What the files of the peer know of each other; nobody else includes it.
 *
 *   peer.c          the peer and what its owner asks of it
 *   peer_ways.c     addresses, attempts by one fabric and the other, and which of them is used
 *   peer_connect.c  a connection from its opening on: the owner's hook, probing, its end and what follows
 *   peer_calls.c    a call from peer_call() to its end; the queue of those that wait to be sent
 *   peer_flight.c   the table of calls under way: credits, sending, and what comes back
 *
 * The happy path: peer_call() puts the call in the queue; the first one dials. When the connection stands, the owner's
 * hook runs in a fiber, whose calls pass the queue by. Then calls go from the queue into the table of calls under way,
 * as far as there are credits; the answer's xid names the entry, and its fiber is woken.
 *
 * Possible failures, and what each does:
 *   - An attempt fails: the host's next address; after the last one, wait (backoff) and begin again. A refusal ends the
 *     calls that wait, anything else leaves them to their deadlines.
 *   - The connection is lost: calls under way end, those in the queue stay, a new attempt follows.
 *   - A deadline passes: in the queue, only that call ends; under way, the connection is given up, since an answer may
 *     be on its way into the call's memory.
 *   - RDMA falls silent, and TCP, or another address of RDMA, does not: the connection is given up for one by that.
 *   - RDMA opens and does not last: rounds begin with TCP until it has rested, ever longer.
 *   - A call is cancelled: the transport forgets its memory; its entry stays until the answer has come.
 */
#ifndef STRAKE_COMMON_PEER_INTERNAL_H
#define STRAKE_COMMON_PEER_INTERNAL_H

#include "common/address.h"
#include "common/dial.h"
#include "common/opening.h"
#include "common/peer.h"
#include "common/transport.h"

#define PEER_BACKOFF_MIN_MS 20

enum peer_state {
	PEER_IDLE,     /* nobody has called yet */
	PEER_DIALING,  /* an attempt is under way */
	PEER_GREETING, /* a connection stands; the hook runs. conn is NULL when it was lost meanwhile */
	PEER_READY,
	PEER_WAITING, /* for the next attempt */
};

enum call_state {
	CALL_ENDED, /* also: never begun */
	CALL_QUEUED,
	CALL_SENT, /* in the table */
};

/* A call under way. */
struct peer_entry {
	uint64_t xid;      /* 0: free */
	struct call *call; /* NULL: cancelled */
	uint64_t deadline_ns;
};

/* How it is reached by one fabric. */
struct peer_way {
	struct peer *peer;
	enum fabric fabric;
	size_t count;      /* of addresses */
	size_t at;         /* the one that worked last, or is tried next */
	size_t used;       /* the one that worked last */
	size_t tried;      /* in this round */
	struct dial *dial; /* NULL: no attempt is under way */
	uint64_t began_ns; /* the attempt */
};

struct peer {
	struct loop *loop;
	struct peer_config config;
	struct fabrics fabrics;
	bool dying;

	/* peer_ways.c */
	char (*addresses)[ADDRESS_SIZE];
	size_t address_count;
	bool any_rdma; /* among them */
	struct peer_way ways[FABRIC_COUNT];
	/*
	 * When the other fabric is looked at. In a round: the one that it has not begun with is tried, too. On TCP: RDMA is
	 * tried. On RDMA: is it silent? Then it is set while calls are under way or a push is awaited, no later than when the
	 * connection has been silent for too long.
	 */
	struct loop_timer other_timer;
	uint64_t watched_ns; /* since when */
	unsigned int silent_looks;
	unsigned int rest_ms;         /* RDMA's, when it does not do the next time */
	uint64_t rest_until_ns;       /* RDMA rests: rounds begin with TCP */
	char no_rdma[DIAL_TEXT_SIZE]; /* what was wrong with RDMA since it was used last; "": nothing that is known */

	/* peer_connect.c */
	enum peer_state state;
	uint32_t line; /* of all its connections: opening.h */
	struct transport_conn *conn;
	enum fabric fabric; /* conn's, or that of the last one */
	uint64_t connected_ns;
	struct opening_welcome server;
	struct fiber *hook_fiber;
	bool hook_runs;
	struct fiber_queue hook_over;
	int refusal; /* met in this round */
	unsigned int backoff_ms;
	uint64_t random;
	struct loop_timer retry_timer;
	struct loop_timer ping_timer;
	struct call ping;
	uint64_t heard_ns;
	uint64_t connects[FABRIC_COUNT];
	char last_error[DIAL_TEXT_SIZE];

	/* peer_calls.c */
	struct call *first, *last;        /* the queue */
	struct loop_timer deadline_timer; /* set no later than the earliest deadline; often earlier */
	uint64_t calls;

	/* peer_flight.c */
	struct peer_entry *entries;
	uint16_t *free_entries; /* free_count of them */
	unsigned int entry_count, free_count;
	unsigned int credits;  /* as the server last said, at most entry_count */
	unsigned int reserved; /* entries that are kept for a ping */
	uint64_t xid_next;
};

/* --- peer.c ------------------------------------------------------------------------------------------------------- */

/* The last step of peer_free(). */
void peer_destroy(struct peer *peer);

/* --- peer_ways.c -------------------------------------------------------------------------------------------------- */

void peer_ways_init(struct peer *peer);
/* -ENOMEM. Their memory goes with peer_destroy(). */
int peer_ways_set(struct peer *peer, const char *const *addresses, size_t count);

/* A round: every address once, until one leads to a connection: peer_adopt(); else peer_round_failed(). */
void peer_dial(struct peer *peer);

/* The connection may be used; a call goes out; it has ended, and text says how. */
void peer_ways_ready(struct peer *peer);
void peer_ways_busy(struct peer *peer);
void peer_ways_lost(struct peer *peer, int err, const char *text);

/* No attempt is under way any more. */
void peer_ways_stop(struct peer *peer);

/* The one that is used, or is tried next. */
const char *peer_way_address(const struct peer_way *way);

/* --- peer_connect.c ----------------------------------------------------------------------------------------------- */

void peer_connect_init(struct peer *peer);

/* The server refuses what we are: it will do so again. */
bool peer_error_is_refusal(int err);

/* The opening is over: this is the connection from now on, also if another one stands. */
void peer_adopt(struct peer *peer, enum fabric fabric, const struct dial_result *result);

/* No address leads to a connection; why not stands in last_error. */
void peer_round_failed(struct peer *peer);

/* Ask for a sign of life. There is a free entry, and none is asked for. */
void peer_ping(struct peer *peer, unsigned int deadline_ms);

/* Abandon the connection and go on as after any loss; text says why. */
void peer_give_up(struct peer *peer, int err, const char *text);

/* For ever, without a word to the owner: the peer is dying. */
void peer_disconnect(struct peer *peer);

/* --- peer_calls.c ------------------------------------------------------------------------------------------------- */

void peer_calls_init(struct peer *peer);

/* It is in no queue and no table any more, and no memory of it is touched. */
void peer_call_end(struct call *call, int result);

/* The queue's first call, out of it; NULL: none. */
struct call *peer_queue_take(struct peer *peer);

/* End all that wait. */
void peer_queue_end(struct peer *peer, int result);

/* Look at all deadlines no later than then. */
void peer_deadline_arm(struct peer *peer, uint64_t at_ns);

/* --- peer_flight.c ------------------------------------------------------------------------------------------------ */

/* A new connection: as many entries as the server grants credits; in replies it may take some back. -ENOMEM. */
int peer_flight_begin(struct peer *peer, unsigned int credits);

/* The transport has ended: so do the calls under way, with -ECONNRESET or what is known better of them. */
void peer_flight_end(struct peer *peer);

unsigned int peer_flight_count(const struct peer *peer);

/* Hand a call to the transport; there is a free entry. On failure it ends. */
void peer_flight_send(struct peer *peer, struct call *call);

/* Send what waits, as far as there are credits. */
void peer_flight_pump(struct peer *peer);

/* Mark those whose deadline has passed. Returns whether there are any; *next_ns: lowered to the next deadline. */
bool peer_flight_expired(struct peer *peer, uint64_t now_ns, uint64_t *next_ns);

/* Of struct transport_events. */
int peer_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk);
int peer_message(void *owner, const struct frame_header *header);

#endif
