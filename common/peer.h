/*
 * A peer: the client's side of the wire. One remote target (an MGS, an MDT, an
 * OST) as one loop sees it: connects, proves the key, asks, reconnects.
 *
 *   - Belongs to its loop. peer_call() is for fibers; many may call at once and
 *     what they ask leaves in one send (LOOP_STAGE_SEND).
 *   - It connects on the first call and again after a loss, with a backoff from
 *     20 ms to 1 s (random half), trying the addresses in turn. Callers wait for
 *     the connection within their deadline.
 *   - Where it knows addresses of both kinds (fabrics.h) it has one attempt by
 *     each: RDMA's begins 200 ms earlier, and what stands first is used. On TCP
 *     it goes on trying RDMA, and goes over to it; on RDMA that is silent while
 *     somebody waits for a word it goes over to TCP if that answers, within 2 s, or
 *     to another address of RDMA where it knows none of TCP. After RDMA that
 *     did not last it begins with TCP. Going over is a loss like any other. That
 *     TCP is used, and why, is logged, and when that is over.
 *   - Its connections are one line (opening.h): what was sent by one that was lost is
 *     either executed before the next one's first request, or never.
 *   - Every attempt has a deadline. When it passes the connection is given up
 *     (a late answer must not land in memory that was handed back), and all
 *     calls on it end with -ECONNRESET: they may or may not have been executed.
 *     Resending, in the same slot, is the caller's business.
 *   - An idle connection is probed (PING) every PEER_PING_MS and given up after
 *     PEER_PING_DEADLINE_MS of silence.
 *   - At most as many calls as the server has granted credits are under way;
 *     the others queue here, in order.
 */
#ifndef STRAKE_COMMON_PEER_H
#define STRAKE_COMMON_PEER_H

#include "common/fabrics.h"
#include "common/fiber.h"
#include "common/frame.h"
#include "common/key.h"
#include "common/loop.h"
#include "common/ops.h"
#include "common/uuid.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

#define PEER_PING_MS          3000
#define PEER_PING_DEADLINE_MS 6000
#define PEER_ATTEMPT_MS       10000 /* the default deadline of one attempt */

struct arena;
struct peer; /* opaque: peer_internal.h */

/* What several peers of one server, of several threads, count together and log once. */
struct peer_tally {
	_Atomic uint64_t connections[FABRIC_COUNT]; /* that stand now */
	_Atomic uint64_t bulk[FABRIC_COUNT];        /* bytes of both directions */
	_Atomic uint64_t switches;                  /* connections by another fabric than that of the one before */
	_Atomic uint64_t silences; /* of RDMA, that a connection was given up for: another had answered */
	char name[16];             /* whose they are, for the log; "": nothing is logged */
	_Atomic bool by_tcp_said;  /* and nothing else since */
};

struct peer_config {
	struct uuid fs, target;       /* who must answer; zero: whoever does */
	enum role role;               /* of the one who must answer */
	enum role own_role;           /* of us */
	struct uuid own_uuid;         /* a target's or a mount's */
	const struct key *key;        /* borrowed */
	bool admin;                   /* key is the admin key */
	const char *const *addresses; /* copied */
	size_t address_count;
	struct peer_tally *tally; /* borrowed; may be NULL */
	void *owner;              /* for the callbacks */

	/* The server sent something unasked. May be NULL. The message is freed after. */
	void (*push)(void *owner, uint16_t opcode, const ProtobufCMessage *message);
	/* Does somebody wait for such a word, after a call that told him to? Then silence is looked for as while calls are under
	 * way. May be NULL. */
	bool (*awaits_push)(void *owner);
	/* A connection stands; runs in a fiber before any waiting call is sent, and may peer_call(). A result other
	 * than 0 gives the connection up. May be NULL. */
	int (*connected)(void *owner, struct peer *peer);
	/* It was lost. May be NULL. */
	void (*lost)(void *owner, int err);
};

int peer_new(struct loop *loop, const struct peer_config *config, struct peer **ret_peer);
/*
 * Calls under way end with -ECANCELED first. In a fiber it waits for `connected` to come to its end. Not from within
 * `push` and `lost`.
 */
struct peer *peer_free(struct peer *peer);

/* The target has moved (the map says so): used from the next connection on; an unchanged list changes nothing. */
int peer_set_addresses(struct peer *peer, const char *const *addresses, size_t count);

bool peer_is_connected(const struct peer *peer);
/* The fs and target UUIDs that the server proved at the last opening. */
const struct uuid *peer_fs(const struct peer *peer);
const struct uuid *peer_target(const struct peer *peer);
/* Our end's address of the connection, "HOST", for servers that must tell others how to reach them. -ENOTCONN. */
int peer_local_host(const struct peer *peer, char *ret_host, size_t size);
/* Why the last attempt to connect failed, in words; "" if it did not. */
const char *peer_last_error(const struct peer *peer);

struct call {
	/* in */
	uint16_t opcode;
	uint16_t flags;                  /* FRAME_RESENT, FRAME_SYNC */
	const ProtobufCMessage *request; /* NULL: empty */
	uint64_t session;
	uint32_t slot, seq;
	unsigned int attempt_ms;      /* 0: PEER_ATTEMPT_MS */
	const struct iovec *bulk_out; /* sent without being copied: must not change until the call ends */
	int bulk_out_count;
	void *bulk_in; /* where the answer's bulk goes */
	size_t bulk_in_size;

	/* out, also with an error from the server */
	ProtobufCMessage *reply; /* as the operation's table row says; call_release() frees it */
	size_t bulk_in_len;
	uint64_t log_index, durable_index;
	bool answered; /* the server answered: the result is its word, not the connection's */

	/* the peer's own */
	struct peer *peer;
	struct call *next, *previous; /* among those that wait to be sent */
	struct fiber_queue waiter;
	void (*ended)(struct call *call); /* instead of a waiting fiber */
	struct arena *memory;             /* what reply lies in */
	uint64_t deadline_ns;
	int result;
	uint32_t entry; /* in the table of calls under way */
	uint8_t state;
	bool sending; /* the transport still reads bulk_out */
};

/*
 * Ask once, and wait for the answer or the end of the attempt. The result of
 * the server (0 or -errno, answered = true), or with answered = false:
 *
 * -ETIMEDOUT   no connection, or no answer, within the attempt
 * -ECONNRESET  the connection broke before the answer
 * -ECANCELED   peer_free(), or call_cancel()
 * -EKEYREJECTED, -ESTALE, -EPROTO: the server refused us: wrong key; another
 *              filesystem or target; another version. Retried by later calls,
 *              with backoff: peer_last_error() says it in words.
 */
int peer_call(struct peer *peer, struct call *call);

/* End a call of this loop early: it returns -ECANCELED when the connection no longer touches its memory. */
void call_cancel(struct call *call);

/* Free what peer_call() put into it. The call may be used again then. */
void call_release(struct call *call);

struct peer_stats {
	uint64_t calls, sends, receives, connects, bytes_in, bytes_out;
	uint64_t connects_by[FABRIC_COUNT];
	enum fabric fabric; /* of the connection, or the last one */
};
void peer_stats(const struct peer *peer, struct peer_stats *ret_stats);

#endif
