/*
 * An operation on a file's locks: one is taken, asked for again and again, or given back. What locks.c, lock_op.c,
 * lock_barrier.c and append.c share; what it is all for stands in locks.h.
 *
 *     lock_op_start() -> its turn -> bring out -> LOCK -> [QUEUED: turn over, told, turn again] -> look anew -> over
 *
 * It is a fiber of the worker that began it. Its caller's reference is for waiting; without him it goes on all the same.
 */
#ifndef STRAKE_CLIENT_LOCK_OP_H
#define STRAKE_CLIENT_LOCK_OP_H

#include "client/inode.h"
#include "client/worker.h"
#include "common/lock_list.h"

enum append_state {
	APPEND_NONE,
	APPEND_ASKED, /* an operation is under way */
	APPEND_HELD,
	APPEND_ENDING, /* wanted elsewhere: given back when those who have their turn are done */
};

/* All guarded by inode->lock. */
struct inode_locks {
	struct lock_list held;
	uint64_t turn_next, turn_now;
	struct fiber_queue changed; /* turns, or the right to append */
	unsigned int operations;    /* under way, QUEUED ones too */
	uint64_t giving_ns; /* since then the one whose turn it is gives back, and has no answer; 0: it does not */
	bool laundered;     /* mapped pages were brought out since it was opened for writing */

	enum append_state append;
	uint64_t append_turn;                   /* of the operation that asks for it */
	bool recalled;                          /* while it is asked for */
	unsigned int appenders, append_waiting; /* now between begin and end; waiting for it */
	unsigned int append_due;                /* of those who wait, who have their turn before it goes */
	unsigned int append_failures;
	unsigned int append_losses; /* it went with the session */
	int append_error;
	uint64_t append_looked_ns;
};

/* One fs_lock() and the like. Of one worker. */
struct lock_op {
	struct worker *worker;
	struct inode *inode;
	unsigned int refs; /* its fiber, and whoever waits for it */
	struct lock lock;
	uint32_t drop; /* of LOCK_FREE */
	bool wait;
	bool ended; /* the caller wants to wait no longer */
	bool begun; /* it has had its turn */
	bool left;  /* and the caller is gone before that: what is taken would be nobody's */
	bool over;
	int err;
	uint64_t turn;
	bool queued;             /* it has no turn, and waits to be told */
	struct fiber_queue done; /* the caller waits here */
	struct fs_ctx ctx;

	uint64_t waiter; /* 0: never waits */
	bool told;       /* ask again */
	struct fiber_queue telling;
	struct lock_op *next, **link; /* of the worker's that may wait */
};

struct inode_locks *locks_get(struct inode *inode); /* made at need; NULL: no memory. inode->lock is held. */

/* inode->lock is held, and it is in line when this returns. The reference is the caller's: for one of the next two. -ENOMEM. */
int lock_op_start(struct inode *inode, const struct lock *lock, uint32_t drop, bool wait, struct lock_op **ret_op);
/* How it came out; or -EINTR, -ECANCELED, -EIO (soft): it goes on, but whose turn is yet to come takes nothing. */
int lock_op_wait(struct lock_op *op, struct fs_ctx *ctx);
void lock_op_put(struct lock_op *op);

/* All that are in line now, as long as the caller waits: -EINTR, -ECANCELED, -EIO (soft). */
int lock_turns_wait(struct inode *inode, struct fs_ctx *ctx);

/* How long a caller waits for others' operations: what is given back goes on until it is answered, also on a soft mount. */
uint64_t lock_patience_end(const struct fs *fs);

/* --- barriers: lock_barrier.c; for the operation's own fiber ---------------------------------------------------------- */

/* What was written here is out. Where that fails the error is told by close and fsync; it holds up no lock. */
void lock_bring_out(struct lock_op *op);
/* What others have written is seen. attr came with the grant; reclaims: as then. Errors of asking the OSTs. */
int lock_look_anew(struct lock_op *op, struct attr *attr, uint64_t asked_ns, uint64_t reclaims);

#endif
