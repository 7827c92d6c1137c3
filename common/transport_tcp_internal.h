/*
 * What the files of the TCP transport know of each other; nobody else includes it.
 *
 *   transport_tcp.c          the transport: making it and its connections, whose turn it is to send and to read on
 *   transport_tcp_conn.c     a connection's life: deadlines, what the loop tells it, its end
 *   transport_tcp_listen.c   listening sockets, and who comes by them
 *   transport_tcp_receive.c  from the socket to the owner's events
 *   transport_tcp_send.c     from the owner's calls to the socket
 *   transport_queue.c        what waits to be sent (any fabric's)
 *
 * Who frees a connection: it is counted. Being alive counts, so does standing in a list of the transport's, so does
 * running code that calls up; tcp_conn_end() ends the life, the last tcp_conn_drop() the memory.
 */
#ifndef STRAKE_COMMON_TRANSPORT_TCP_INTERNAL_H
#define STRAKE_COMMON_TRANSPORT_TCP_INTERNAL_H

#include "common/loop.h"
#include "common/transport_queue.h"
#include "common/transport_tcp.h"

struct tcp_conn {
	struct transport_conn base; /* first */
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
	uint8_t *stash; /* the begin of what is not complete, or may not be taken yet */
	size_t stash_len, stash_size;
	size_t need;                /* length of the stash's first frame, header and body; 0: not known */
	struct frame_header header; /* of the frame whose bulk comes */
	uint8_t *bulk;              /* where the rest of it goes; NULL: skip it */
	void *bulk_base;
	size_t bulk_left;
	uint64_t partial_since_ns; /* a frame has begun and is not complete; 0: none */
	uint64_t received_ns;      /* when something came last */

	/* sending */
	struct transport_queue queue;
	uint64_t progress_ns;
};

struct tcp_listener; /* transport_tcp_listen.c */

struct transport_tcp {
	struct transport base; /* first */
	struct loop *loop;
	struct transport_limits limits;
	struct transport_stats stats;
	struct loop_hook hook; /* in the loop only while a connection is dirty: there may be many of us */
	bool hooked;
	struct loop_timer resume_timer;
	struct tcp_conn *all;
	struct tcp_conn *dirty;
	struct tcp_conn *resumed_first, *resumed_last; /* in the order in which they were resumed */
	struct transport_item_pool items;
	struct tcp_listener *listeners;
};

static inline struct transport_tcp *tcp_of(struct transport *base)
{
	return (struct transport_tcp *)base;
}

static inline struct tcp_conn *tcp_conn_of(struct transport_conn *base)
{
	return (struct tcp_conn *)base;
}

/* --- transport_tcp.c ---------------------------------------------------------------------------------------------- */

/* It has something new to send: in LOOP_STAGE_SEND. */
void tcp_send_later(struct tcp_conn *conn);

/* It may read on: from the loop, not from within this call. */
void tcp_resume_later(struct tcp_conn *conn);

/* --- transport_tcp_conn.c ----------------------------------------------------------------------------------------- */

/* Takes the socket over, also on failure. */
int tcp_conn_new(struct transport_tcp *tcp, int fd, bool connecting, const struct transport_events *events, void *owner,
		 struct transport_conn **ret_conn);

void tcp_conn_hold(struct tcp_conn *conn);
void tcp_conn_drop(struct tcp_conn *conn);

/* End its life: nothing comes up from it any more, and no memory of others is touched. Fine when it has ended. */
void tcp_conn_end(struct tcp_conn *conn);

/* It ends, and not by its owner's will, who is told. The caller holds it, or touches it no more. */
void tcp_conn_fail(struct tcp_conn *conn, int err, const char *text);

/* A deadline may have come nearer. */
void tcp_conn_arm(struct tcp_conn *conn);

/* Of struct transport_ops. */
void tcp_reclaim(struct transport *base, unsigned int idle_ms);

/* What it waits for may have changed. */
void tcp_conn_watch(struct tcp_conn *conn);

/* --- transport_tcp_listen.c --------------------------------------------------------------------------------------- */

void tcp_listeners_free(struct transport_tcp *tcp);

/* Of struct transport_ops. */
int tcp_listen(struct transport *base, const char *address, const struct transport_listener_events *events, void *owner,
	       uint16_t *ret_port);
int tcp_accept(struct transport_incoming *base, const struct transport_events *events, void *owner,
	       struct transport_conn **ret_conn);

/* --- transport_tcp_receive.c -------------------------------------------------------------------------------------- */

/* Read and take what has come, within a budget. */
void tcp_receive(struct tcp_conn *conn);

/* Take what is kept: it may have become acceptable. */
void tcp_receive_kept(struct tcp_conn *conn);

/* --- transport_tcp_send.c ----------------------------------------------------------------------------------------- */

/* Send what is queued, as far as the kernel takes it. */
void tcp_flush(struct tcp_conn *conn);

/* Of struct transport_conn_ops. */
int tcp_send_bytes(struct transport_conn *base, const void *data, size_t size);
int tcp_send(struct transport_conn *base, const struct transport_message *message);

#endif
