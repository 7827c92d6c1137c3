/*
 * A worker: one loop's view of a filesystem: a peer to the MDT, one to each OST, and its share of the session's slots.
 * Within libstrake only. All calls are for fibers of its loop.
 *
 * worker_mds_call() and worker_ost_call() see an operation through: they take a slot where the operation needs one,
 * send, and send again in the same slot (FRAME_RESENT) over new connections until the server has answered or the caller
 * gives up (soft, interrupt, fs closing). What they deal with themselves:
 *
 *   - EAGAIN: asked again, as a new request, after 2 to 50 ms.
 *   - ENOSESSION: the mount joins again, once, whoever sees it first; then the request is repeated in the new session,
 * but for what must not go there: worker_ost_call_while().
 *   - A request that was given up leaves its slot at once: the slot's next request has a higher number, and servers
 * take every number above the last as new and refuse what is below.
 *
 * Beside the server's own errors they return:
 *
 *   -EINTR      fs_interrupt(); the operation may have been executed
 *   -EIO        soft, or closing: no answer in time
 *   -ECANCELED  the worker is being freed: keep your state, fs_close() will try again
 */
#ifndef STRAKE_CLIENT_WORKER_H
#define STRAKE_CLIENT_WORKER_H

#include "client/fs.h"
#include "common/fiber.h"
#include "common/peer.h"

struct worker_peers; /* opaque: peers.c */
struct slot_share;   /* opaque: slot_share.c */
struct tell_queue;   /* opaque: tell.c */
struct lock_op;      /* lock_op.h */

struct worker {
	struct fs *fs;
	struct loop *loop;
	unsigned int index;
	struct worker_peers *peers; /* connections */
	struct slot_share *slots;   /* of the newest session seen here; NULL before the first */
	struct tell_queue *tells;   /* CLOSEs that wait to be sent together */

	bool stopping;             /* worker_free() has begun */
	unsigned int busy;         /* fibers of worker_spawn() */
	struct fiber_queue idle;   /* worker_free() waits here for busy == 0 */
	struct ctx_wait *waits;    /* all that wait on this worker */
	struct lock_op *lock_ops;  /* that may wait for a lock: lock_op.c */
	_Atomic bool map_posted;   /* map_post is on its way */
	struct loop_post map_post; /* the control loop says: a new map */
};

/* This thread's worker of that fs, which has one on every thread that may call; a thread may have workers of several. */
struct worker *fs_worker(struct fs *fs);

/* call->opcode, request, bulk are set; the rest is done here. The reply is call->reply until call_release(), which the
 * caller owes whatever the result. */
int worker_mds_call(struct worker *worker, struct fs_ctx *ctx, struct call *call);
int worker_ost_call(struct worker *worker, struct fs_ctx *ctx, uint32_t ost, struct call *call);
/*
 * The same for what only the session may do in which it was begun: may_go(arg) is asked each time the session is known
 * that it would be sent in next, when all that ends with the one before is done. Where it says no: -ENOSESSION, and
 * nothing was sent in that session.
 */
int worker_ost_call_while(struct worker *worker, struct fs_ctx *ctx, uint32_t ost, struct call *call,
			  bool (*may_go)(void *arg), void *arg);

/* The same, but gives up (-EIO) when there was no answer for patience_ms, also on a hard mount. */
int worker_mds_call_within(struct worker *worker, struct fs_ctx *ctx, struct call *call, unsigned int patience_ms);

/* A fiber of the worker's own that nobody waits for but worker_free(). -ENOMEM. */
int worker_spawn(struct worker *worker, void (*fn)(struct worker *worker, void *arg), void *arg);

/*
 * Run fn(worker, arg, 0 .. count-1), each on a fiber, and return when all have ended: the first error, by index.
 * The calls made in it may all use one ctx. With count 1 it is called directly.
 */
int worker_parallel(struct worker *worker, unsigned int count,
		    int (*fn)(struct worker *worker, void *arg, unsigned int i), void *arg);

#endif
