/*
 * A service: the server's side of the wire. It listens, takes connections
 * through the opening exchange, and hands every request to its handler.
 *
 *   - One service belongs to one loop and serves one target (an MGS, an MDT, an
 *     OST): whoever connects names the target and is refused when it is another.
 *   - A handler answers at once or later, by service_reply(), exactly once per
 *     request; the connection may be gone by then, which is fine. The request
 *     lives until it is answered.
 *   - Requests of one connection are handed on in the order of arrival; their
 *     handlers may finish in any order. A connection has at most `credits`
 *     requests under way; beyond that its socket is not read.
 *   - A client's lines (opening.h) have one connection at a time: what earlier ones
 *     have brought or will bring, and is not handed on, goes with them when a later
 *     one asks.
 *   - Answers are sent in LOOP_STAGE_SEND, all that a connection has in one call.
 *   - It listens by TCP, by RDMA or by both, as fabrics.h has it.
 *   - Who comes by RDMA while unproved_max are in their opening takes the place of one that has been in it for a second, or is
 *     refused: a peer tries again soon, by TCP at once where it may.
 *   - Nothing here waits: a peer that does not read its answers for
 *     SERVICE_STALL_MS, or goes silent in mid-frame for
 *     SERVICE_FRAME_DEADLINE_MS, is cut off and reported; after SERVICE_HOARD_MS
 *     (three times that who does not read) while others wait for the memory
 *     that it holds.
 */
#ifndef STRAKE_COMMON_SERVICE_H
#define STRAKE_COMMON_SERVICE_H

#include "common/address.h"
#include "common/bulk.h"
#include "common/fabrics.h"
#include "common/frame.h"
#include "common/key.h"
#include "common/loop.h"
#include "common/ops.h"
#include "common/uuid.h"

#include <sys/uio.h>

#define SERVICE_FRAME_DEADLINE_MS 10000
#define SERVICE_STALL_MS          30000
#define SERVICE_HOARD_MS          1000               /* silent in mid-bulk while others wait for memory: cut off */
#define SERVICE_QUEUE_MAX         (16 * 1024 * 1024) /* bytes of answers for one peer; beyond, it is not read */
#define SERVICE_CREDITS_DEFAULT   128
#define SERVICE_AGAIN_MS          30000 /* where there was no RDMA when it began */
#define SERVICE_UNPROVED_MAX      256   /* connections by RDMA in their opening: strangers pin so many times 544 KiB */

struct service;      /* opaque: service_internal.h */
struct service_conn; /* one connection */

struct request {
	struct service_conn *conn;
	struct frame_header header;
	const struct op *op;
	ProtobufCMessage *body; /* as op->request; freed with the request */
	const uint8_t *raw;     /* the body's bytes as received; header.body_len of them; freed with the request */
	struct bulk *bulk;  /* header.bulk_len bytes, or NULL; released with the request, unless taken (set to NULL) */
	void *handler_data; /* the handler's own */
};

struct service_config {
	struct uuid fs, target; /* who we are; target zero: not checked */
	enum role role;
	const struct key *key, *admin_key; /* borrowed for the service's life */
	uint16_t credits;                  /* 0: the default */
	size_t connections_max;            /* 0: 16384 */
	unsigned int unproved_max;         /* by RDMA, in their opening; 0: SERVICE_UNPROVED_MAX */
	unsigned int frame_deadline_ms;    /* 0: SERVICE_FRAME_DEADLINE_MS */
	unsigned int stall_ms;             /* a peer that reads nothing is cut off; 0: SERVICE_STALL_MS */
	unsigned int again_ms;             /* RDMA is looked for again; 0: SERVICE_AGAIN_MS */
	void *owner;                       /* for the callbacks below */

	/* A request has come; its sums in the frame are right. Unknown opcodes, other roles' and malformed bodies are
	 * refused before. */
	void (*handle)(void *owner, struct request *request);

	/* Memory for the bulk of a request that arrives: size bytes. NULL: none just now; the connection is not read
	 * until service_bulk_available(). NULL callback: none of its requests has bulk, and one that does is refused. */
	struct bulk *(*bulk_alloc)(void *owner, size_t size);

	/* A connection is gone. Its requests under way still want their service_reply(). May be NULL. */
	void (*closed)(void *owner, struct service_conn *conn);
};

int service_new(struct loop *loop, const struct service_config *config, struct service **ret_service);
/*
 * Closes all connections. Requests under way still want their service_reply(). Not from within the callbacks of the
 * config, nor from a bulk's release().
 */
struct service *service_free(struct service *service);

/*
 * Listen on "HOST:PORT" or "rdma://HOST:PORT" (port 0: any). Several calls, several addresses. By default who listens by TCP
 * also does so by RDMA where HOST has it, at the same port if that is free, unless it is listened on by RDMA already. Where there is no
 * device for HOST, or no connection manager, these are looked for every SERVICE_AGAIN_MS; not where HOST is a name.
 * ret_port is the real port. -EADDRINUSE, -EADDRNOTAVAIL, -EINVAL; -ENOSPC: more than ADDRESS_LIST_MAX; -EPROTONOSUPPORT: RDMA,
 * but only TCP is to be used; and those of fabrics_get().
 */
int service_listen(struct service *service, const char *address, uint16_t *ret_port);
/* What went wrong with it, err, and what to do, in words for who started the server. */
void service_listen_explain(const char *address, int err, char *error, size_t error_size);

/*
 * Under which addresses others reach it, of either kind: for each that it listens on, in order, as address_reachable() says.
 * Errors are its. There may be more of them later: of machines' addresses, and of RDMA.
 */
int service_reachable(const struct service *service, const char *preferred, struct address_list *ret_list);

/* While it is held, whoever comes is sent away without a word, as if nobody listened: he will come again. */
void service_hold(struct service *service, bool held);

/* Who is at the other end, for reports ("client 127.0.0.1:4711"); and what it said of itself. */
const char *service_conn_name(const struct service_conn *conn);
enum role service_conn_role(const struct service_conn *conn);
enum fabric service_conn_fabric(const struct service_conn *conn);
const struct uuid *service_conn_uuid(const struct service_conn *conn); /* as the peer gave it */

/* Something of the owner's that hangs on the connection (a session, say). */
void service_conn_set_data(struct service_conn *conn, void *data);
void *service_conn_data(const struct service_conn *conn);
void service_conn_close(struct service_conn *conn); /* safe within a handler */

/* All connections, for pushes: calls fn for each. */
void service_each_conn(struct service *service, void (*fn)(struct service_conn *conn, void *arg), void *arg);

struct reply {
	int err;                      /* 0 or -errno */
	const ProtobufCMessage *body; /* NULL: empty; or raw: */
	const uint8_t *raw;           /* already packed, raw_len long (a stored reply); used when body is NULL */
	size_t raw_len;
	uint64_t log_index, durable_index;
	struct iovec bulk[4]; /* sent without being copied */
	int bulk_count;
	int pipe; /* or, when pipe_len > 0, so many bytes that wait in this pipe */
	size_t pipe_len;
	struct bulk *owner; /* released when the bulk is sent or given up; may be NULL */
};

/* Answer and free the request. */
void service_reply(struct request *request, const struct reply *reply);
void service_reply_error(struct request *request, int err); /* the short form */

/* Send something that nobody asked for. Dropped, with the connection, when too much is queued. */
void service_push(struct service_conn *conn, uint16_t opcode, const ProtobufCMessage *message);

/* Somebody else waits for what bulk_alloc gives: who holds some, and sends nothing into it, is cut off. */
void service_bulk_wanted(struct service *service);

/* bulk_alloc would succeed again: read on from those who wait. */
void service_bulk_available(struct service *service);

struct service_stats {
	uint64_t connections, requests, replies, refused, bytes_in, bytes_out, sends, receives;
};
void service_stats(const struct service *service, struct service_stats *ret_stats);
/* Those that stand, by each fabric. */
void service_connections(const struct service *service, uint32_t ret_counts[FABRIC_COUNT]);

#endif
