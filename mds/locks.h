/*
 * The cluster's locks on files: who holds what, and who waits for what. In memory only: after a restart of the MDT the
 * sessions tell what they hold (RECLAIM), and nothing new is granted before (mdt.h).
 *
 *   - What is granted is a lock_list per file (common/lock_list.h). Who waits stands in a queue per file; what becomes
 *     free is given to those of them it is enough for, in order of arrival. Who comes later and finds no conflict is
 *     not kept behind those that wait: two readers would wait for each other through a writer between them.
 *   - A waiter is known by (session, id). Asking again by the same id keeps its place, or finds it granted; asking again
 *     without waiting takes it out of the queue. So whatever message is lost, the asker asks again.
 *   - What was asked may be asked twice: the same lock again changes nothing.
 *   - Deadlock: before a POSIX lock is queued, who holds what is followed from owner to owner, over all files. Who would
 *     wait for himself is refused.
 *   - An APPEND lock is kept by its session until it is asked for by another: then its holder is told.
 *   - Pure: no clock, no I/O; who is to be told is told by the events. Memory shortage ends the process; what is bounded
 *     is refused: LOCKS_PER_FILE, LOCKS_MAX.
 */
#ifndef STRAKE_MDS_LOCKS_H
#define STRAKE_MDS_LOCKS_H

#include "common/lock_list.h"

#define LOCKS_PER_FILE 16384         /* what is asked of a file looks at all of them */
#define LOCKS_MAX      (1024 * 1024) /* held and waited for, in all */

struct locks; /* opaque: locks.c */

/* By what a session can be told something: a connection. Counted; `to` becomes NULL when it is gone. */
struct lock_route {
	unsigned int refs;
	void *to;
};
struct lock_route *lock_route_new(void *to);
void lock_route_put(struct lock_route *route); /* NULL is fine */

struct lock_events {
	void *owner;
	/* What that waiter waited for is his. */
	void (*granted)(void *owner, const struct lock_route *route, uint64_t waiter);
	/* Another session wants to append. */
	void (*recall)(void *owner, const struct lock_route *route, uint64_t ino);
};

struct lock_wish {
	uint64_t ino;
	struct lock lock; /* not LOCK_FREE */
	uint64_t waiter;  /* the asker's name for it, if he has waited or will; else 0 */
	bool wait;        /* false: and not any longer */
	struct lock_route *route;
};

struct locks *locks_new(const struct lock_events *events);
struct locks *locks_free(struct locks *locks);

/*
 * Ask for a lock. LOCK_CONFLICT: *ret_conflict is one that is in the way.
 * -ENOLCK  too many
 */
int locks_take(struct locks *locks, const struct lock_wish *wish, enum lock_outcome *ret_outcome,
	       struct lock *ret_conflict);
/* Would it be granted? If not *ret_conflict is one that is in the way. */
bool locks_test(const struct locks *locks, uint64_t ino, const struct lock *lock, struct lock *ret_conflict);

/* The range is free again, as far as the lock's holder has it. */
void locks_give(struct locks *locks, uint64_t ino, const struct lock *lock);
/* All POSIX locks of that owner; all locks that were taken through that handle. */
void locks_drop_owner(struct locks *locks, uint64_t ino, uint64_t session, uint64_t owner);
void locks_drop_handle(struct locks *locks, uint64_t ino, uint64_t session, uint64_t handle);
/* The session is no more: what it holds, and what it waits for. */
void locks_drop_session(struct locks *locks, uint64_t session);
bool locks_has_session(const struct locks *locks, uint64_t session);

/* Have whoever else may append to that file told to give that up: it is about to be cut. */
void locks_recall(struct locks *locks, uint64_t ino, uint64_t session);

/* A lock from before a restart. -EBUSY: it conflicts with another one; -ENOLCK. */
int locks_reclaim(struct locks *locks, uint64_t ino, const struct lock *lock, struct lock_route *route);

struct locks_stats {
	size_t files, held, waiting;
};
void locks_stats(const struct locks *locks, struct locks_stats *ret_stats);

#endif
