/*
 * A lock that many fibers share or one has alone, held across waits. First come, first served: who wants it alone does not
 * starve. For fibers of one loop. Zero-initialise it.
 */
#ifndef STRAKE_OSS_SHARE_LOCK_H
#define STRAKE_OSS_SHARE_LOCK_H

#include "common/fiber.h"

#include <stdbool.h>
#include <stdint.h>

struct share_lock {
	unsigned int shared;     /* how many hold it so */
	bool exclusive;          /* one holds it alone */
	uint64_t tickets, turns; /* given out to those who came; of them, how many have had it */
	struct fiber_queue queue;
};

void share_lock_shared(struct share_lock *lock);
void share_lock_exclusive(struct share_lock *lock);
void share_unlock_shared(struct share_lock *lock); /* any fiber, or none */
void share_unlock_exclusive(struct share_lock *lock);

static inline bool share_lock_is_free(const struct share_lock *lock)
{
	return lock->shared == 0 && !lock->exclusive && lock->tickets == lock->turns;
}

#endif
