/*
 * A transport moves frames between two programs: one queue of messages each way per connection. There is one struct
 * transport for the connections of one peer or service on one loop. Who stands on it (peer, service, dial) does not
 * know which fabric it is; only who makes it does (TCP: transport_tcp.h; RDMA: transport_rdma.h).
 *
 * The life of a connection:
 *   1. Opening, from transport_connect() or transport_accept() on. Bytes are moved as they are:
 *      transport_send_bytes(), events->bytes.
 *   2. transport_begin(): from then on frames, also those that came with the opening's last bytes.
 *   3. It ends by itself: events->closed, once, after which the pointer is dead. Or by the owner: transport_close(),
 *      transport_finish(), transport_abandon(); then no event comes any more. In both cases `done` of every message has been called before.
 *
 *   - All of it on the loop's thread. What is sent leaves in LOOP_STAGE_SEND, everything queued in one system call.
 *   - Every call is fine within every event, transport_close() too. No event comes from within a call but `done`.
 *   - Memory that a message names by reference belongs to the transport until its `done`. A request's `done` comes
 *     before the `frame` of its answer, where the other end keeps to the protocol: a fabric whose completions may be
 *     overtaken by the answer holds the answer back.
 */
#ifndef STRAKE_COMMON_TRANSPORT_H
#define STRAKE_COMMON_TRANSPORT_H

#include "common/frame.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct transport {
	const struct transport_ops *ops;
};

struct transport_conn {
	const struct transport_conn_ops *ops;
};

/* Somebody who wants to connect, while a listener's `incoming` runs. */
struct transport_incoming {
	struct transport *transport;
};

struct transport_listener_events {
	/* Somebody has come; name is "HOST:PORT". Refused without a word unless it is accepted within the call. */
	void (*incoming)(void *owner, struct transport_incoming *incoming, const char *name);
	/* Somebody has come and was refused, since he greets wrongly: text says how. May be NULL. */
	void (*refused)(void *owner, const char *name, const char *text);
	/* Nobody is let in for a while: -EMFILE and the like. */
	void (*paused)(void *owner, int err);
};

struct transport_events {
	/* Opening: bytes have come. Returns how many of them it has used; it is asked again when there are more. */
	size_t (*bytes)(void *owner, const uint8_t *data, size_t size);

	/*
	 * A frame's header and body have come, and are right (the body is borrowed for the call). Where does its bulk,
	 * if header->bulk_len is not 0, go? *ret_bulk stays NULL: to nowhere, it is skipped.
	 * -EAGAIN: not now; read nothing more, and ask again after transport_resume().
	 * Another error: the connection ends with it.
	 */
	int (*frame)(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk);

	/*
	 * The frame is complete: its bulk lies where `frame` said. Same errors, but -EAGAIN. In the order of the frames; of
	 * requests whose bulk the fabric moves by itself several may be told of before the message of the first.
	 */
	int (*message)(void *owner, const struct frame_header *header);

	/* The connection has ended: -errno, and what happened in words. */
	void (*closed)(void *owner, int err, const char *text);
};

struct transport_message {
	struct frame_header header; /* version, lengths and sums are filled in by the transport */

	const ProtobufCMessage *body; /* packed at once; or, when it is NULL: */
	const uint8_t *raw;           /* copied at once */
	size_t raw_len;

	/* Sent by reference; the array itself is copied. */
	const struct iovec *bulk;
	int bulk_count;
	/* Or so many bytes that wait in this pipe: they are taken out of it as they leave, and without being copied. */
	int pipe;
	size_t pipe_len;
	/* Only with bulk or a pipe: once, when no longer needed, sent or not. May come from within any call. */
	void (*done)(void *arg);
	void *arg;

	/* Requests: where the answer's bulk may be put by a fabric that writes to it from afar. */
	void *bulk_in;
	size_t bulk_in_size;
};

#define KEEPALIVE_MS 15000
#define DEAF_TIMES   3 /* see transport_reclaim() */

/* What connections may cost, each where not said. 0: no bound. */
struct transport_limits {
	unsigned int opening_ms; /* from the first to transport_begin() */
	unsigned int frame_ms;   /* from a frame's first byte to its last, while we read */
	unsigned int stall_ms;   /* with something to send and the other end taking nothing */
	size_t queue_max;        /* bytes to send; above it nothing is read, and a stall lasts a sixth of stall_ms */
	/* A machine of which nothing has come for so long is asked whether it is there, and has as long to answer; 0: KEEPALIVE_MS. */
	unsigned int keepalive_ms;
	/*
	 * So many that were accepted may be before transport_begin(), all together, on a fabric that pins memory for each: who comes then
	 * takes the place of the one that has been there the longest, if that is a second, or is refused.
	 */
	unsigned int unbegun_max;
};

struct transport_stats {
	uint64_t bytes_in, bytes_out, sends, receives; /* sends, receives: system calls */
};

struct transport_ops {
	int (*listen)(struct transport *transport, const char *address, const struct transport_listener_events *events,
		      void *owner, uint16_t *ret_port);
	int (*accept)(struct transport_incoming *incoming, const struct transport_events *events, void *owner,
		      struct transport_conn **ret_conn);
	int (*connect)(struct transport *transport, const struct sockaddr *address, socklen_t address_len,
		       const struct transport_events *events, void *owner, struct transport_conn **ret_conn);
	bool (*serves)(struct transport *transport, const char *host);
	void (*stats)(const struct transport *transport, struct transport_stats *ret_stats);
	void (*reclaim)(struct transport *transport, unsigned int idle_ms);
	void (*free)(struct transport *transport);
};

struct transport_conn_ops {
	int (*send_bytes)(struct transport_conn *conn, const void *data, size_t size);
	void (*begin)(struct transport_conn *conn, const struct transport_events *events, void *owner);
	int (*send)(struct transport_conn *conn, const struct transport_message *message);
	void (*resume)(struct transport_conn *conn);
	int (*forget)(struct transport_conn *conn, const void *arg, const void *bulk_in);
	size_t (*queued)(const struct transport_conn *conn);
	int (*local_host)(const struct transport_conn *conn, char *ret_host, size_t size);
	void (*finish)(struct transport_conn *conn);
	void (*close)(struct transport_conn *conn);
	void (*abandon)(struct transport_conn *conn);
};

/* Ends its listeners and connections without a word to their owners. NULL is fine; returns NULL. */
static inline struct transport *transport_free(struct transport *transport)
{
	if (transport != NULL)
		transport->ops->free(transport);
	return NULL;
}

static inline unsigned int transport_keepalive_ms(const struct transport_limits *limits)
{
	return limits->keepalive_ms != 0 ? limits->keepalive_ms : KEEPALIVE_MS;
}

static inline void transport_stats(const struct transport *transport, struct transport_stats *ret_stats)
{
	transport->ops->stats(transport, ret_stats);
}

/*
 * Connections in the middle of whose bulk nothing has come for so long, or that have taken nothing of the bulk for them for
 * DEAF_TIMES as long (it may be the link, which loses one packet four times), end: others wait for that memory. Not within an
 * event.
 */
static inline void transport_reclaim(struct transport *transport, unsigned int idle_ms)
{
	transport->ops->reclaim(transport, idle_ms);
}

/*
 * Listen, until the transport is freed. address is "HOST:PORT", HOST numeric, a name (looked up here and now: at start)
 * or a wildcard; port 0: any; ret_port is the real one. Several calls, several addresses.
 * -EADDRINUSE, -EADDRNOTAVAIL, -EINVAL, -ENOENT (no such host), and those of socket(2).
 */
static inline int transport_listen(struct transport *transport, const char *address,
				   const struct transport_listener_events *events, void *owner, uint16_t *ret_port)
{
	return transport->ops->listen(transport, address, events, owner, ret_port);
}

/* Can this fabric be listened on there? host: a numeric address of this machine. */
static inline bool transport_serves(struct transport *transport, const char *host)
{
	return transport->ops->serves(transport, host);
}

/*
 * Only within `incoming`, once. -EBUSY: too many have not begun (unbegun_max); -ENOMEM and others (-ENOBUFS: transport_rdma.h): it is
 * refused.
 */
static inline int transport_accept(struct transport_incoming *incoming, const struct transport_events *events,
				   void *owner, struct transport_conn **ret_conn)
{
	return incoming->transport->ops->accept(incoming, events, owner, ret_conn);
}

/* Begin to connect; it is in its opening from now on, and what is sent waits. A later failure comes as `closed`. */
static inline int transport_connect(struct transport *transport, const struct sockaddr *address, socklen_t address_len,
				    const struct transport_events *events, void *owner,
				    struct transport_conn **ret_conn)
{
	return transport->ops->connect(transport, address, address_len, events, owner, ret_conn);
}

/* Opening. -ENOMEM. */
static inline int transport_send_bytes(struct transport_conn *conn, const void *data, size_t size)
{
	return conn->ops->send_bytes(conn, data, size);
}

/* The opening is over; events (which need no `bytes`) and owner replace those of before. */
static inline void transport_begin(struct transport_conn *conn, const struct transport_events *events, void *owner)
{
	conn->ops->begin(conn, events, owner);
}

/*
 * Queue a frame. On failure nothing was taken, and `done` is not called:
 * -EMSGSIZE  body or bulk are over their bounds
 * -ENOMEM
 */
static inline int transport_send(struct transport_conn *conn, const struct transport_message *message)
{
	return conn->ops->send(conn, message);
}

/* `frame` said -EAGAIN: ask it again, from the loop. Fine when it did not. */
static inline void transport_resume(struct transport_conn *conn)
{
	conn->ops->resume(conn);
}

/*
 * When this returns, the transport no longer touches the bulk of the message that was sent with arg (its `done` has
 * been called), nor bulk_in. The message itself still arrives whole. -errno: not without ending the connection.
 */
static inline int transport_forget(struct transport_conn *conn, const void *arg, const void *bulk_in)
{
	return conn->ops->forget(conn, arg, bulk_in);
}

/* Bytes queued and not yet taken by the fabric. */
static inline size_t transport_queued(const struct transport_conn *conn)
{
	return conn->ops->queued(conn);
}

/* Our end's address, numeric. */
static inline int transport_local_host(const struct transport_conn *conn, char *ret_host, size_t size)
{
	return conn->ops->local_host(conn, ret_host, size);
}

/* Have what is queued sent and read by the other end, for a while, then close. */
static inline void transport_finish(struct transport_conn *conn)
{
	conn->ops->finish(conn);
}

static inline void transport_close(struct transport_conn *conn)
{
	conn->ops->close(conn);
}

/* Likewise, where the other end is given up, since it is silent, or has gone on by another connection: it is not waited for. */
static inline void transport_abandon(struct transport_conn *conn)
{
	conn->ops->abandon(conn);
}

#endif
