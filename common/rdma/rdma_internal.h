/*
 * What the files of the RDMA transport know of each other; nobody else includes it.
 *
 *   plugin.c        the transport: making it, its connections' turns
 *   device.c        its devices, which may go
 *   connect.c       rdma_connect() and leaving before the connection stands, and who waits for these
 *   conn.c          a connection's life: setting up, deadlines, its end
 *   listen.c        listeners, and what the connection manager tells
 *   receive.c       from receives to the owner's events
 *   send.c          from the owner's calls to sends
 *   domain.c        whose memory a device knows; regions.c: which
 *   bulk.[ch]       bulk from memory to memory, and whose the memory is
 *   windows.[ch]    what of it the other end may reach, on devices that can bound that
 *   segment.[ch]    what a SEND carries
 *   preface.[ch]    what stands before a frame
 *   credits.h       when it may be sent
 *   ports.c         for people who look: none of these
 *
 * A connection is a reliable queue pair with two completion queues. That of the receives wakes the loop, by the device's
 * channel; that of the sends is looked at when room is needed, and wakes the loop only when there is none, when bulk moves, or
 * when the connection waits for its end. What goes by SENDs is copied once at each end, between its owner and segments that
 * are registered for the connection's life: CONN_MEMORY bytes. Larger bulk moves from memory to memory (bulk.h).
 *
 * Life: RESOLVING (address, then route; the queue pair is made) -> CONNECTING -> OPEN -> dead. One that is accepted begins
 * as CONNECTING. What can go wrong on the way:
 *   - The fabric says so (refused, unreachable, disconnected), or a deadline passes: tcp's words, the same ends.
 *   - The other end's machine is gone, and nobody says so: it is asked now and then, and does not answer.
 *   - What came before a disconnection counts: the receives' queue is emptied before `closed` is told.
 *   - The owner closes: what was posted is sent (LINGER_MS), nothing else; then the queue pair goes. Where bulk moves it goes
 *     at once, since its memory is given back now.
 *   - The owner abandons: the queue pair goes at once, and the other end is not asked for its word.
 *   - The owner finishes: all is sent, then BYE, upon which the other end disconnects; or FINISH_MS pass.
 *   - The other end breaks the protocol (no credit, a wrong length, a foreign greeting): cut off, and said so.
 *
 * Who frees a connection: it is counted, like TCP's. Verbs objects go with the last count, and before the memory that they
 * know: when the queue pair is destroyed nothing is written to any.
 */
#ifndef STRAKE_COMMON_RDMA_INTERNAL_H
#define STRAKE_COMMON_RDMA_INTERNAL_H

#include "common/loop.h"
#include "common/rdma/bulk.h"
#include "common/rdma/credits.h"
#include "common/rdma/segment.h"
#include "common/rdma/windows.h"
#include "common/transport_queue.h"

#include <errno.h>
#include <pthread.h>
#include <rdma/rdma_cma.h>
#include <stdatomic.h>

#define RECEIVES    (CREDITS_OURS + CREDITS_CONTROL)
#define SENDS       32 /* segments that are being sent; CREDITS_CONTROL of them not for data */
#define SEND_WORK   (SENDS + PUSHES + READS + 1)                    /* one: WR_PROBE */
#define CONN_MEMORY ((size_t)(RECEIVES + SENDS + 1) * SEGMENT_SIZE) /* one: bounce_segment() */
/* The begin of one frame; and behind it what there were credits for. */
#define STASH_MAX                                                \
	(PREFACE_SIZE_MAX + FRAME_HEADER_SIZE + FRAME_BODY_MAX + \
	 (size_t)CREDITS_OURS * (SEGMENT_SIZE - SEGMENT_HEADER_SIZE))
/*
 * The most that a connection takes of memory, in bytes, at the end that answers: of these CONN_MEMORY, pinned, from its
 * making to its end, and the rest when the other end has it so. Besides them the device keeps RECEIVES and SEND_WORK pieces of work
 * (where it has windows WINDOW_WORK more) and a completion for each; the owner of the connection its requests and their bulk; and the
 * queue what it is given to send, which transport_limits bound. The end that asks has a bulk_offer for each of its calls.
 */
#define CONN_SUM (CONN_MEMORY + sizeof(struct rdma_conn) + STASH_MAX + PLACES_MAX * sizeof(struct bulk_place))

#define WR_PROBE       (UINT64_C(5) << 32) /* of a completion: beside those of bulk.h and windows.h */
#define RDMA_NOT_THERE "it does not answer any more"

enum conn_state { CONN_RESOLVING, CONN_CONNECTING, CONN_OPEN, CONN_DEAD };

/* What the connection manager has told of an id. */
struct rdma_told {
	enum rdma_cm_event_type type;
	struct rdma_cm_id *id; /* new, of who has come */
	int greeting_err;
	struct greeting greeting;
};

/* Every id's context: a connection's, a listener's, a device's. */
struct rdma_hears {
	void (*told)(struct rdma_hears *hears, const struct rdma_told *told);
};

struct rdma_domain {
	struct rdma_domain *next;
	struct ibv_context *context; /* the connection manager's; device.c says for how long */
	struct ibv_pd *pd;
	unsigned int refs;         /* of transports */
	uint8_t reads;             /* RDMA READs that a queue pair can have under way, at either end */
	bool windows;              /* the device has them */
	bool voids;                /* and it can void those of another end, as far as is known */
	unsigned int voided_flags; /* of a receive: that has voided one here */
	bool empty_pieces; /* what moves nothing has a piece all the same: siw takes what its queue's place held before */
};

struct rdma_device {
	struct rdma_device *next;
	struct transport_rdma *rdma;
	unsigned int refs; /* its connections, and the transport as long as it is there */
	struct rdma_hears hears;
	struct rdma_cm_id *id;
	struct rdma_domain *domain;
	struct ibv_comp_channel *channel;
	struct loop_watch watch;
	unsigned int wakes;
	int vector;   /* of its queues: which of the device's interrupts wakes their loop */
	bool voids;   /* it does void those of another end */
	bool crowded; /* it had more than one thing to tell last time */
};

struct rdma_conn {
	struct transport_conn base; /* first */
	struct rdma_hears hears;
	struct transport_rdma *rdma;
	const struct transport_events *events; /* NULL: the owner has let it go */
	void *owner;
	unsigned int refs;
	struct loop_timer timer;           /* set no later than the next deadline; often earlier */
	struct rdma_conn *next, *previous; /* all that live */
	struct rdma_conn *dirty_next;      /* have something new to send */
	struct rdma_conn *resumed_next;    /* may take on */
	uint64_t opening_until_ns;         /* also: of finishing and lingering */
	enum conn_state state;
	bool framed, dirty, resumed;
	bool unbegun;         /* accepted, and not begun: counted in the transport */
	uint64_t accepted_ns; /* then */
	bool finishing;       /* its owner has finished it */
	bool lingering;       /* its owner has closed it: waits for what is posted */
	bool may_begin;       /* on iWARP who was accepted sends after he has heard something */
	bool probing;         /* it is asked whether it is there */
	bool given_up;        /* it has not done something in time, or its owner has abandoned it */
	uint64_t heard_ns;    /* when anything has come of it, or it was asked */
	bool bye_sent, bye_came;
	bool paused;          /* the owner said "not now" */
	bool choked;          /* too much to send */
	bool goes_on;         /* neither any more, from its next turn on */
	bool receive_refused; /* the device did not take a receive */
	bool blocked;         /* no credits, or no segments, for what is to be sent */
	bool broken;          /* the device has refused something */
	const char *failure;  /* what a send has failed of by the other end's fault; NULL: nothing */
	int failure_err;
	bool flushed; /* its queue pair has failed before it stood */

	/* connect.c */
	bool connecting; /* by a thread that is not joined yet */
	pthread_t connect_thread;
	int connect_err; /* its own until: */
	_Atomic bool connect_over;
	struct rdma_conn *leaving_next;

	struct rdma_cm_id *id;
	struct rdma_device *device; /* once it is found */
	struct ibv_cq *receive_cq, *send_cq;
	struct ibv_mr *region;
	struct ibv_mr *bounce_region; /* of bounce_segment() alone */
	uint8_t *memory;              /* RECEIVES segments, then SENDS, then that one */
	struct credits credits;
	uint32_t segment_max; /* of those we send */
	bool peer_voids;      /* what windows show */

	/* receiving */
	uint8_t *stash; /* the begin of what is not complete, or may not be taken yet */
	size_t stash_len, stash_size;
	size_t need;   /* length of the stash's first frame, header and body; 0: not known */
	uint8_t *bulk; /* where the rest goes of what comes by the stream; NULL: skip it */
	void *bulk_base;
	size_t bulk_left;
	uint64_t partial_since_ns, received_ns;
	struct bulk_state moving;
	struct windows windows;

	/* sending */
	struct transport_queue queue;
	uint64_t stream_queued, stream_sent; /* bytes of the stream, ever */
	uint64_t progress_ns;
	uint64_t taken_ns;          /* when anything but a segment was over, or the only push that is out was posted */
	unsigned int sends_out;     /* posted and not known to be over */
	unsigned int free_count;    /* SENDS less those */
	uint16_t free_sends[SENDS]; /* their numbers */
};

struct rdma_listener;

struct transport_rdma {
	struct transport base; /* first */
	struct loop *loop;
	struct transport_limits limits;
	struct transport_stats stats;
	struct rdma_event_channel *channel; /* the connection manager's */
	struct loop_watch watch;
	struct loop_watch connects; /* an eventfd: a thread that connects has ended */
	struct loop_hook hook;
	bool hooked;
	struct loop_timer resume_timer;
	struct rdma_conn *all, *dirty; /* all: the newest first */
	struct rdma_conn *leaving;     /* not of `all` any more */
	unsigned int unbegun;          /* of them */
	struct rdma_conn *resumed_first, *resumed_last;
	struct transport_item_pool items;
	struct rdma_device *devices;
	struct rdma_listener *listeners;
};

static inline struct transport_rdma *rdma_of(struct transport *base)
{
	return (struct transport_rdma *)base;
}

static inline struct rdma_conn *rdma_conn_of(struct transport_conn *base)
{
	return (struct rdma_conn *)base;
}

/* It has a device. */
static inline bool is_iwarp(const struct rdma_conn *conn)
{
	return conn->id->verbs->device->transport_type == IBV_TRANSPORT_IWARP;
}

static inline uint8_t *receive_segment(const struct rdma_conn *conn, uint64_t i)
{
	return conn->memory + i * SEGMENT_SIZE;
}

static inline uint8_t *send_segment(const struct rdma_conn *conn, uint64_t i)
{
	return conn->memory + (RECEIVES + i) * SEGMENT_SIZE;
}

/* Where bulk goes whose own place cannot be registered (bulk.h). */
static inline uint8_t *bounce_segment(const struct rdma_conn *conn)
{
	return conn->memory + (RECEIVES + SENDS) * SEGMENT_SIZE;
}

/*
 * Of memory that is READ into. iWARP places what was read as if the other end wrote it. So while it is read the place has a key
 * that a misbehaving client of the same service could guess (the bounce segment always, but nothing stays there); elsewhere it has none.
 */
static inline unsigned int read_access(const struct rdma_conn *conn)
{
	return IBV_ACCESS_LOCAL_WRITE | (is_iwarp(conn) ? IBV_ACCESS_REMOTE_WRITE : 0u);
}

/* Of a call that hands work to the device: 0, or -errno. It should return errno, but siw's returns it negative. */
static inline int posted(int err)
{
	return err > 0 ? -err : err;
}

/* Bulk is being read, or was, and is not told of yet: there are frames besides the one whose bulk comes by the stream. */
static inline bool conn_is_pulling(const struct rdma_conn *conn)
{
	return conn->moving.arrival_count > (conn->bulk_left > 0 ? 1 : 0);
}

/* What comes next waits: for a reading to be over, for the bounce segment, or for an answer whose windows are being voided. */
static inline bool conn_waits(const struct rdma_conn *conn)
{
	return conn->moving.reads_out + PREFACE_PIECES > READS || conn->moving.arrival_count == ARRIVALS ||
	       conn->moving.bounce.arrival != NULL || conn->windows.voiding > 0;
}

/* Of rdma_create_event_channel(), which has failed: its library looks in several places, and errno is of the last. */
static inline int channel_error(void)
{
	return errno == ENOMEM || errno == EMFILE || errno == ENFILE ? -errno : -EUNATCH;
}

/* --- plugin.c ----------------------------------------------------------------------------------------------------- */

/* It has something new to send: in LOOP_STAGE_SEND. */
void rdma_send_later(struct rdma_conn *conn);

/* It may take on: from the loop, not from within this call. */
void rdma_resume_later(struct rdma_conn *conn);

/* --- device.c ----------------------------------------------------------------------------------------------------- */

/* The transport's that the id is at, made when it is first asked for. -ENOMEM and verbs' errors. */
int rdma_device_get(struct transport_rdma *rdma, struct rdma_cm_id *id, struct rdma_device **ret_device);
void rdma_device_put(struct rdma_device *device);

void rdma_devices_free(struct transport_rdma *rdma); /* no connection is left */

/* -errno */
int rdma_nonblocking(int fd);

/* --- conn.c ------------------------------------------------------------------------------------------------------- */

/* id NULL: one is made, to connect to somebody. Else it is taken over, also on failure. */
int rdma_conn_new(struct transport_rdma *rdma, struct rdma_cm_id *id, const struct transport_events *events,
		  void *owner, struct rdma_conn **ret_conn);

/* Its queue pair and what belongs to it, on the device that the connection manager has found. -ENOBUFS, and verbs' errors. */
int rdma_conn_set_up(struct rdma_conn *conn);

void rdma_conn_hold(struct rdma_conn *conn);
void rdma_conn_drop(struct rdma_conn *conn);

/* End its life: nothing comes up from it any more, and no memory of others is touched. Fine when it has ended. */
void rdma_conn_end(struct rdma_conn *conn);

/* It is accepted, and counts until it has begun or has ended: transport_limits.unbegun_max. */
void rdma_conn_accepted(struct rdma_conn *conn);

/* It ends, and not by its owner's will, who is told. The caller holds it, or touches it no more. */
void rdma_conn_fail(struct rdma_conn *conn, int err, const char *text);

/* The fabric has ended it: likewise, and whose fault it was, if that can be known. */
void rdma_conn_lost(struct rdma_conn *conn);

/* A deadline may have come nearer. */
void rdma_conn_arm(struct rdma_conn *conn);

/* It stands. */
void rdma_conn_opened(struct rdma_conn *conn);

/* Of struct transport_ops. */
int rdma_transport_connect(struct transport *base, const struct sockaddr *address, socklen_t address_len,
			   const struct transport_events *events, void *owner, struct transport_conn **ret_conn);
void rdma_transport_reclaim(struct transport *base, unsigned int idle_ms);

/* --- connect.c ---------------------------------------------------------------------------------------------------- */

/* The queue pair is made. What becomes of it is told by the connection manager, or ends the connection. -errno. */
int rdma_connect_begin(struct rdma_conn *conn);
/* Fine when it is over. */
void rdma_connect_stop(struct rdma_conn *conn);

/*
 * It is given up before it stands: a thread disconnects it, and its queue pair and all that belongs to it go when that is over, which
 * takes seconds where nobody answers. False: here that takes no time, or there can be no thread.
 */
bool rdma_leave_begin(struct rdma_conn *conn);
/* Wait for all of them. */
void rdma_leave_all(struct transport_rdma *rdma);

/* Of the transport's watch `connects`. */
void rdma_connects_ready(struct loop_watch *watch, uint32_t events);

/* --- listen.c ----------------------------------------------------------------------------------------------------- */

/* What the connection manager has to tell: of the transport's watch. */
void rdma_cm_ready(struct loop_watch *watch, uint32_t events);
/* Of a connection: its `hears`. */
void rdma_conn_told(struct rdma_hears *hears, const struct rdma_told *told);

void rdma_listeners_free(struct transport_rdma *rdma);

/* What both ends ask for. It points to greeting, which is written. The connection is set up. */
struct rdma_conn_param rdma_connection_param(const struct rdma_conn *conn, uint8_t greeting[GREETING_SIZE]);

/* Of struct transport_ops. */
int rdma_transport_listen(struct transport *base, const char *address, const struct transport_listener_events *events,
			  void *owner, uint16_t *ret_port);
bool rdma_transport_serves(struct transport *base, const char *host);
int rdma_transport_accept(struct transport_incoming *base, const struct transport_events *events, void *owner,
			  struct transport_conn **ret_conn);

/* --- receive.c ---------------------------------------------------------------------------------------------------- */

/* -errno: of ibv_post_recv(). */
int rdma_post_receive(struct rdma_conn *conn, uint64_t segment);

/* Take what has come, and have the loop woken for more. */
void rdma_receive(struct rdma_conn *conn);

/* Take what is kept: it may have become acceptable. */
void rdma_receive_kept(struct rdma_conn *conn);

/* --- domain.c ----------------------------------------------------------------------------------------------------- */

/* -ENOMEM and verbs' errors. */
int rdma_domain_get(struct ibv_context *context, struct rdma_domain **ret_domain);
void rdma_domain_put(struct rdma_domain *domain); /* nothing of the transport's is left in it */

/* --- regions.c ---------------------------------------------------------------------------------------------------- */

/*
 * Without access from afar: of memory that lasts the region that it has already, which is more than what is asked for; no key of
 * it lets anybody else in. Else one of its own. Its mr is NULL where none can be had.
 */
struct rdma_region rdma_region_new(const struct rdma_conn *conn, void *memory, size_t size, unsigned int access);
void rdma_region_free(struct rdma_region *region); /* fine without one */

/* --- send.c ------------------------------------------------------------------------------------------------------- */

/* Send what is queued, as far as credits and segments go, and what is owed. */
void rdma_flush(struct rdma_conn *conn);

/* Look which sends are over. arm: have the loop woken when the next one is. */
void rdma_reap(struct rdma_conn *conn, bool arm);

/* Of struct transport_conn_ops. */
int rdma_conn_send_bytes(struct transport_conn *base, const void *data, size_t size);
int rdma_conn_send(struct transport_conn *base, const struct transport_message *message);

#endif
