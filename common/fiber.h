/*
 * Fibers: functions with a stack of their own that run on a loop and may wait,
 * so that a request which needs three answers reads from top to bottom.
 *
 *   - A fiber belongs to the loop it was started on and runs on its thread only.
 *   - It runs until it waits or returns; nothing preempts it. Between two waits
 *     no other fiber of the loop runs.
 *   - Never wait with a pthread mutex held but through fiber_wait(), which lets
 *     it go meanwhile.
 *   - Stacks are FIBER_STACK_SIZE with a guard page, and are kept for reuse.
 *
 * Switching is by _setjmp/_longjmp on stacks made by makecontext(3), as QEMU's
 * coroutines do: no system call per switch. Sanitizers are told of each switch.
 */
#ifndef STRAKE_COMMON_FIBER_H
#define STRAKE_COMMON_FIBER_H

#include "common/loop.h"

#include <pthread.h>

#define FIBER_STACK_SIZE (256 * 1024)

struct fiber; /* opaque: fiber.c */

/*
 * Start fn(arg) on the loop; it first runs after the caller has returned to the loop or waited.
 * The loop's own thread, or before loop_run(). -ENOMEM.
 */
int fiber_start(struct loop *loop, void (*fn)(void *arg), void *arg);

/* The fiber that runs, or NULL on the loop's own stack. */
struct fiber *fiber_self(void);

/* Let every other ready fiber and event of the loop run, then go on. */
void fiber_yield(void);

/* Go on at that time or later. */
void fiber_sleep_until(uint64_t at_ns);
void fiber_sleep_ms(unsigned int ms);

/*
 * A queue of fibers that wait for something, as a condition variable has it.
 * The queue is guarded by the mutex that every call names, or by its loop
 * where that is NULL (then all its fibers are of that one loop). Fibers of
 * several loops may wait in one queue. Zero-initialise it.
 */
struct fiber_waiter;
struct fiber_queue {
	struct fiber_waiter *first, *last;
};

/* Wait to be woken. The mutex (held, or NULL) is let go meanwhile and held again at return. Check your condition again. */
void fiber_wait(struct fiber_queue *queue, pthread_mutex_t *mutex);

/* The same, to that time at most (CLOCK_MONOTONIC). 0 when woken, -ETIMEDOUT otherwise. */
int fiber_wait_until(struct fiber_queue *queue, pthread_mutex_t *mutex, uint64_t at_ns);

/* Wake the first or all that wait. The queue's mutex is held; any thread where the queue has a mutex. */
void fiber_wake_one(struct fiber_queue *queue);
void fiber_wake_all(struct fiber_queue *queue);

/* A lock that fibers of one loop or several hold across waits. First come, first served. */
struct fiber_mutex {
	pthread_mutex_t guard;
	struct fiber *owner;
	struct fiber_queue queue;
};
#define FIBER_MUTEX_INIT                           \
	{                                          \
		.guard = PTHREAD_MUTEX_INITIALIZER \
	}
void fiber_mutex_lock(struct fiber_mutex *mutex);
void fiber_mutex_unlock(struct fiber_mutex *mutex);

#endif
