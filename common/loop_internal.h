/*
 * What loop.c and fiber.c know of each other; nobody else includes it.
 *
 *   - Each loop holds one fiber_set; the loop calls fibers_*() in its
 *     iteration, fibers find their set by loop_fibers().
 *   - All of it belongs to the loop's own thread.
 */
#ifndef STRAKE_COMMON_LOOP_INTERNAL_H
#define STRAKE_COMMON_LOOP_INTERNAL_H

#include "common/loop.h"

#include <setjmp.h>
#include <stddef.h>

struct fiber;

/* One side of a switch: a stack that does not run, and where it goes on. */
struct fiber_context {
	jmp_buf env;
	const void *stack; /* lowest byte, and size: for AddressSanitizer */
	size_t stack_size;
	void *fake_stack; /* AddressSanitizer's and ThreadSanitizer's own, NULL without them */
	void *tsan_fiber;
};

struct fiber_list {
	struct fiber *first, *last;
};

struct fiber_set {
	struct fiber_context context; /* the loop's own stack, while a fiber runs */
	struct fiber *running;
	struct fiber_list ready;
	struct fiber_list yielded; /* become ready after the events of the next iteration */
	struct fiber *pool;        /* ended fibers, whose stacks are used again; the last ended first */
	unsigned int pool_count;
	unsigned int unfinished;
};

struct fiber_set *loop_fibers(struct loop *loop);

/* Run fibers until none is ready. Those that yielded before the call come last; who yields meanwhile waits for the
 * next. */
void fibers_run(struct fiber_set *set);

/* May the loop not sleep? */
static inline bool fibers_pending(const struct fiber_set *set)
{
	return set->ready.first != NULL || set->yielded.first != NULL;
}

/* Unmap the pool. All fibers have ended. */
void fibers_release(struct fiber_set *set);

#endif
