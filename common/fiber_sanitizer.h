/*
 * Tell AddressSanitizer and ThreadSanitizer which stack runs: context_leaving()
 * right before the jump, context_arrived() right after it. Without sanitizers
 * all of this is nothing.
 *
 * These must be inlined: ThreadSanitizer counts function entries and exits per
 * fiber, and a function may not end in another fiber than it began.
 */
#ifndef STRAKE_COMMON_FIBER_SANITIZER_H
#define STRAKE_COMMON_FIBER_SANITIZER_H

#include "common/loop_internal.h"

#ifdef __has_feature
#define FIBER_HAS_FEATURE(name) __has_feature(name)
#else
#define FIBER_HAS_FEATURE(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || FIBER_HAS_FEATURE(address_sanitizer)
#define FIBER_ASAN 1
#include <sanitizer/common_interface_defs.h>
#else
#define FIBER_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__) || FIBER_HAS_FEATURE(thread_sanitizer)
#define FIBER_TSAN 1
#include <sanitizer/tsan_interface.h>
#else
#define FIBER_TSAN 0
#endif

#define FIBER_INLINE static inline __attribute__((always_inline))

FIBER_INLINE void context_init(struct fiber_context *context)
{
	(void)context;
#if FIBER_TSAN
	context->tsan_fiber = __tsan_create_fiber(0);
#endif
}

FIBER_INLINE void context_release(struct fiber_context *context)
{
	(void)context;
#if FIBER_TSAN
	__tsan_destroy_fiber(context->tsan_fiber);
#endif
}

/* ended: nothing that `from` has on its stack is used again, though the stack is. */
FIBER_INLINE void context_leaving(struct fiber_context *from, struct fiber_context *to, bool ended)
{
	(void)from;
	(void)to;
	(void)ended;
#if FIBER_ASAN
	from->fake_stack = NULL;
	__sanitizer_start_switch_fiber(ended ? NULL : &from->fake_stack, to->stack, to->stack_size);
#endif
#if FIBER_TSAN
	__tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
}

/* here: the side that goes on; from: the one that jumped. A loop's own stack gets known by the first jump away from it.
 */
FIBER_INLINE void context_arrived(struct fiber_context *here, struct fiber_context *from)
{
	(void)here;
	(void)from;
#if FIBER_ASAN
	__sanitizer_finish_switch_fiber(here->fake_stack, &from->stack, &from->stack_size);
#endif
}

/* The loop's own stack, which context_init() did not make. */
FIBER_INLINE void context_adopt(struct fiber_context *context)
{
	(void)context;
#if FIBER_TSAN
	context->tsan_fiber = __tsan_get_current_fiber();
#endif
}

#endif
