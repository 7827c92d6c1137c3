#include "oss/share_lock.h"

#include <assert.h>
#include <stddef.h>

static bool is_available(const struct share_lock *lock, bool exclusive)
{
	return !lock->exclusive && (!exclusive || lock->shared == 0);
}

/* Wait for one's turn, and then for the lock: who comes later waits behind. */
static void acquire(struct share_lock *lock, bool exclusive)
{
	uint64_t ticket = lock->tickets++;

	while (ticket != lock->turns || !is_available(lock, exclusive))
		fiber_wait(&lock->queue, NULL);
	lock->turns++;
	if (exclusive)
		lock->exclusive = true;
	else
		lock->shared++;
	fiber_wake_all(&lock->queue);
}

void share_lock_shared(struct share_lock *lock)
{
	acquire(lock, false);
}

void share_lock_exclusive(struct share_lock *lock)
{
	acquire(lock, true);
}

void share_unlock_shared(struct share_lock *lock)
{
	assert(lock->shared > 0);
	lock->shared--;
	fiber_wake_all(&lock->queue);
}

void share_unlock_exclusive(struct share_lock *lock)
{
	assert(lock->exclusive);
	lock->exclusive = false;
	fiber_wake_all(&lock->queue);
}
