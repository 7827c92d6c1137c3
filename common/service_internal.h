/*
 * What the files of the service know of each other; nobody else includes it.
 *
 *   service.c          the service: listening, and what its owner asks of it; what is said of others
 *   service_conn.c     a connection from the opening to its end
 *   service_request.c  from a frame to the owner's handler
 *   service_reply.c    answers and pushes
 *   service_net.c      what `strake net test` asks
 *
 * The happy path: a connection comes in and goes through the opening (opening.h); then the transport brings frames:
 * a request is made of each header and body, its bulk is received where it says, the owner's handler gets it,
 * service_reply() hands the answer to the transport.
 *
 * Who frees a connection: it counts its requests under way. When the transport has gone and the last one is answered,
 * it goes; likewise the service when it was freed and the last connection has gone.
 */
#ifndef STRAKE_COMMON_SERVICE_INTERNAL_H
#define STRAKE_COMMON_SERVICE_INTERNAL_H

#include "common/opening.h"
#include "common/service.h"
#include "common/transport.h"

#define SERVICE_LINES 1024 /* buckets */

struct service_box;     /* service_request.c: a request, and what the service keeps with it */
struct service_opening; /* service_conn.c */

struct service_conn {
	struct service *service;
	struct service_conn *next, *previous; /* of the service's */
	struct transport_conn *transport;     /* NULL: it is gone */
	enum fabric fabric;
	struct service_opening *opening; /* NULL: it is over */
	struct opening_hello hello;
	bool has_asked;                 /* its first request has come */
	struct service_conn *line_next; /* in its line's bucket */
	char name[ADDRESS_SIZE + 16];
	void *data;
	unsigned int running;                         /* requests under way, also the one that arrives */
	struct service_box *arriving, **arriving_end; /* what was told of, and is not complete, in its order */
	bool throttled;                               /* it has used up its credits */
	bool wants_memory; /* for a request's bulk: none was to be had when it was last asked for */
	bool starving;     /* it waits for that: in the service's list */
	struct service_conn *starving_next;
};

/* All that it listens on by one fabric, in order. */
struct service_listens {
	struct service_listen {
		char host[256];
		uint16_t port;
		bool waits; /* TCP's: RDMA is wanted beside it, and there was none when it was last tried */
	} at[ADDRESS_LIST_MAX];
	size_t count;
};

/* Lines about others' faults: what was said counts until enough time has passed for it. */
struct service_log_limit {
	uint64_t since_ns; /* from then on lines are given back */
	unsigned int lines, dropped;
};

/* Of NET_TEST: memory that bulk comes to and goes from, the same for all. */
struct service_net {
	struct bulk sink, source; /* data NULL: not wanted yet */
	unsigned int answers;     /* with bulk, that are not sent yet */
};

struct service {
	struct loop *loop;
	struct service_config config;
	struct opening_server opening;
	struct fabrics fabrics;
	struct service_listens listens[FABRIC_COUNT];
	struct loop_timer listen_timer; /* set while one of them waits */
	bool freed;                     /* and waits for its last requests */
	bool held;
	struct service_conn *conns;
	struct service_conn *lines[SERVICE_LINES]; /* by their line, those that are open, the latest first */
	size_t conn_count;                         /* also of those that are gone and have requests under way */
	struct service_conn *starving_first, *starving_last;
	struct loop_timer hoard_timer; /* set while bulk memory is wanted, or was a moment ago */
	uint64_t hoard_until_ns;
	struct service_box *spare; /* spare_count requests kept for reuse */
	unsigned int spare_count;
	uint32_t connections[FABRIC_COUNT]; /* that stand */
	struct service_stats stats;         /* but what the transport counts */
	struct service_log_limit log_limit;
	struct service_net net;
};

/* --- service.c ---------------------------------------------------------------------------------------------------- */

/* Log what somebody else did; only so many lines. */
void service_warn(struct service *service, const char *format, ...) __attribute__((format(printf, 2, 3)));

void service_destroy_if_over(struct service *service);

/* --- service_conn.c ----------------------------------------------------------------------------------------------- */

/* Of struct transport_listener_events. */
void service_incoming(void *owner, struct transport_incoming *incoming, const char *name);
void service_refused(void *owner, const char *name, const char *text);

/* The transport has ended: tell the owner; the memory goes with the last request. Of struct transport_events: */
void service_conn_closed(void *owner, int err, const char *text);

void service_conn_destroy_if_over(struct service_conn *conn);

/* Its first request comes: earlier connections of the same line are no more. */
void service_conn_asks(struct service_conn *conn);

/* --- service_request.c -------------------------------------------------------------------------------------------- */

extern const struct transport_events service_frames;

/* The request is answered, or never will be: the connection may take another one. May free the connection. */
void service_request_over(struct request *request);

/* The transport has gone: what it was bringing will not come, and bulk memory is not waited for. */
void service_request_abandon(struct service_conn *conn);

/* Of service.hoard_timer. */
void service_hoard_check(struct loop_timer *timer);

void service_spare_free(struct service *service);

/* --- service_net.c ------------------------------------------------------------------------------------------------ */

/* Where the bulk of a NET_TEST goes. NULL: no memory. */
struct bulk *service_net_sink(struct service *service);

void service_net_test(struct request *request);

/* With the service: no connection is left. */
void service_net_free(struct service *service);

#endif
