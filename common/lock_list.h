/*
 * The locks on one file, as fcntl(2) and flock(2) have them: who holds what, what conflicts, and what becomes of a holder's
 * locks when he takes or gives back a range. For the MDT, which decides, and for the client, which remembers what it was
 * given.
 *
 *   - A holder is (kind, session, owner). His own locks never conflict; kinds do not conflict with each other.
 *   - POSIX (and OFD, which the kernel does not tell apart): byte ranges. A lock replaces what its holder had there, splits
 *     what reaches beyond, and is joined with its neighbours of the same type that were taken through the same handle.
 *     Locks of two handles are never joined, so that closing one drops exactly what was taken through it.
 *   - FLOCK and APPEND: the whole file, one lock a holder.
 *   - Pure: no clock, no I/O, no locking.
 */
#ifndef STRAKE_COMMON_LOCK_LIST_H
#define STRAKE_COMMON_LOCK_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As on the wire. APPEND: a mount's right to place bytes at the end of a file (client/append.h). */
enum lock_kind { LOCK_POSIX = 1, LOCK_FLOCK = 2, LOCK_APPEND = 3 };
enum lock_type { LOCK_FREE = 0, LOCK_SHARED = 1, LOCK_EXCLUSIVE = 2 };
/* What giving back (LOCK_FREE) gives back: the range, or all of the owner's POSIX locks, or all of the handle's. */
enum lock_drop { LOCK_DROP_RANGE = 0, LOCK_DROP_OWNER = 1, LOCK_DROP_HANDLE = 2 };
/* What comes of asking the MDT. */
enum lock_outcome { LOCK_GRANTED = 1, LOCK_QUEUED = 2, LOCK_CONFLICT = 3, LOCK_DEADLOCK = 4 };

struct lock {
	enum lock_kind kind;
	enum lock_type type;
	uint32_t pid; /* only told, never compared */
	uint64_t session, owner;
	uint64_t handle;     /* through which it was taken */
	uint64_t start, end; /* both are part of it */
};

struct lock_list {
	struct lock *items; /* in no order */
	size_t count, room;
};

/* Frees what it holds; it is empty then. */
void lock_list_release(struct lock_list *list);

/* Room for whatever one lock_list_set() may add: -ENOMEM. */
int lock_list_reserve(struct lock_list *list);
/* From here on the holder has (LOCK_FREE: no longer has) that range so. Conflicts are the caller's business. */
void lock_list_set(struct lock_list *list, const struct lock *lock);

/* What keeps this one from being granted (of several the one that begins first, as F_GETLK tells), or NULL. Borrowed until the next change. */
const struct lock *lock_list_conflict(const struct lock_list *list, const struct lock *lock);

/* Has the lock's holder any of that range, at least of that type (LOCK_SHARED: any)? */
bool lock_list_holds(const struct lock_list *list, const struct lock *lock, enum lock_type type);

/* Has he this very range, of that type and through that handle? Then to set it again changes nothing. */
bool lock_list_has(const struct lock_list *list, const struct lock *lock);

/* Drop those that match; how many. */
size_t lock_list_drop(struct lock_list *list, bool (*match)(const struct lock *lock, const void *arg), const void *arg);

/* For lock_list_drop(): all of arg's holder; all that were taken through its handle, in its session. */
bool lock_of_owner(const struct lock *lock, const void *arg);
bool lock_of_handle(const struct lock *lock, const void *arg);

bool lock_same_holder(const struct lock *a, const struct lock *b);
bool lock_conflicts(const struct lock *a, const struct lock *b);

#endif
