/*
 * A fiber's life:
 *
 *   pool or new mapping -> ready -> running -> [parked -> ready -> running]... -> pool or unmapped
 *
 * Exactly one party makes a parked fiber ready, exactly once:
 *
 *   - A waiter lies on the stack of the fiber that waits, so it lives until
 *     the fiber runs again.
 *   - Who takes the waiter out of the queue, and nobody else, makes its fiber
 *     ready. It is taken out with the queue's mutex held: by fiber_wake_*(),
 *     or by the waiter's timer, which runs on the fiber's loop and takes the
 *     mutex as everybody does. If a waker of another thread was faster, the
 *     timer finds the waiter out of the queue and leaves it alone: the wake-up
 *     is in the mail. If the timer was faster, the waker finds another waiter
 *     or none.
 *   - The waker's last look at the waiter comes before it makes the fiber
 *     ready. The timer is on the fiber's own thread, where the fiber cancels it
 *     before its frame goes.
 *   - Between letting the mutex go and being parked a fiber can already be
 *     woken by another thread. That is only mail, and its loop reads mail when
 *     the fiber has left the processor.
 */

/* Its longjmp() takes a jump to another stack for an attack. */
#undef _FORTIFY_SOURCE

#include "common/fiber.h"
#include "common/container_of.h"

#include "common/fiber_sanitizer.h"
#include "common/loop_internal.h"

#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define POOL_MAX    1024 /* ended fibers kept per loop: some 8 KiB of memory each, if they did not recurse deeply */
#define FIBER_ALIGN 64

/* AddressSanitizer makes frames several times larger. */
#define STACK_SIZE ((size_t)FIBER_STACK_SIZE * (FIBER_ASAN ? 4 : 1))

/* Lies at the upper end of its own mapping: guard page, stack, fiber. */
struct fiber {
	struct fiber_context context; /* while it does not run */
	struct loop *loop;
	struct fiber_set *set; /* the loop's */
	struct fiber *next;    /* in one of the set's lists */
	void (*fn)(void *arg); /* NULL when it has ended */
	void *arg;
	struct loop_post wake; /* woken by another thread */
	void *mapping;
	size_t mapping_size;
	bool begun; /* context.env is valid */
};

struct fiber_waiter {
	struct fiber *fiber;
	struct fiber_queue *queue; /* NULL when taken out */
	struct fiber_waiter *prev, *next;
	pthread_mutex_t *mutex;
	struct loop_timer timer; /* fiber_wait_until() */
	bool timed_out;
};

#define waiter_of_timer(pointer) container_of(pointer, struct fiber_waiter, timer)
#define fiber_of_wake(pointer)   container_of(pointer, struct fiber, wake)

static void list_append(struct fiber_list *list, struct fiber *fiber)
{
	fiber->next = NULL;
	if (list->first)
		list->last->next = fiber;
	else
		list->first = fiber;
	list->last = fiber;
}

static struct fiber *list_take(struct fiber_list *list)
{
	struct fiber *fiber = list->first;

	if (fiber)
		list->first = fiber->next;
	return fiber;
}

static void list_append_all(struct fiber_list *list, struct fiber_list *from)
{
	if (!from->first)
		return;
	if (list->first)
		list->last->next = from->first;
	else
		list->first = from->first;
	list->last = from->last;
	from->first = from->last = NULL;
}

/* --- stacks and switches ------------------------------------------------------------------------------------------ */

/* Go on at `to`; returns when somebody goes on at `from`. */
static __attribute__((noinline)) void context_switch(struct fiber_context *from, struct fiber_context *to, bool ended)
{
	if (_setjmp(from->env) == 0) {
		context_leaving(from, to, ended);
		_longjmp(to->env, 1);
	}
	context_arrived(from, to);
}

/* What every fiber's stack runs, one fn after the other: ended fibers wait in the pool between two rounds. */
static void fiber_main(void)
{
	struct fiber *fiber = fiber_self();

	context_arrived(&fiber->context, &fiber->set->context);
	for (;;) {
		fiber->fn(fiber->arg);
		fiber->fn = NULL;
		context_switch(&fiber->context, &fiber->set->context, true);
	}
}

/* The first switch to a fiber: makecontext(3) is what puts us on its stack. */
static __attribute__((noinline)) void context_begin(struct fiber_context *from, struct fiber *fiber)
{
	ucontext_t ucontext;
	int err;

	err = getcontext(&ucontext);
	assert(err == 0);
	ucontext.uc_link = NULL;
	ucontext.uc_stack.ss_sp = (char *)fiber->mapping + (fiber->mapping_size - STACK_SIZE);
	ucontext.uc_stack.ss_size = fiber->context.stack_size;
	makecontext(&ucontext, fiber_main, 0);
	if (_setjmp(from->env) == 0) {
		context_leaving(from, &fiber->context, false);
		setcontext(&ucontext);
		abort(); /* it returns for a broken ucontext only */
	}
	context_arrived(from, &fiber->context);
}

static struct fiber *fiber_map(struct loop *loop)
{
	size_t guard = (size_t)sysconf(_SC_PAGESIZE);
	size_t size = guard + STACK_SIZE;
	struct fiber *fiber;
	char *mapping;

	mapping = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1,
		       0);
	if (mapping == MAP_FAILED)
		return NULL;
	if (mprotect(mapping, guard, PROT_NONE) < 0) {
		munmap(mapping, size);
		return NULL;
	}

	fiber = (struct fiber *)(void *)(mapping + size -
					 (sizeof(*fiber) + FIBER_ALIGN - 1) / FIBER_ALIGN * FIBER_ALIGN);
	fiber->context.stack = mapping + guard;
	fiber->context.stack_size = (size_t)((char *)fiber - (mapping + guard));
	fiber->loop = loop;
	fiber->set = loop_fibers(loop);
	fiber->mapping = mapping;
	fiber->mapping_size = size;
	context_init(&fiber->context);
	return fiber;
}

static void fiber_unmap(struct fiber *fiber)
{
	context_release(&fiber->context);
	munmap(fiber->mapping, fiber->mapping_size);
}

static struct fiber *pool_take(struct fiber_set *set)
{
	struct fiber *fiber = set->pool;

	if (fiber) {
		set->pool = fiber->next;
		set->pool_count--;
	}
	return fiber;
}

static void pool_put(struct fiber_set *set, struct fiber *fiber)
{
	if (set->pool_count == POOL_MAX) {
		fiber_unmap(fiber);
		return;
	}
	fiber->next = set->pool;
	set->pool = fiber;
	set->pool_count++;
}

void fibers_release(struct fiber_set *set)
{
	struct fiber *fiber;

	assert(set->unfinished == 0);
	while ((fiber = pool_take(set)))
		fiber_unmap(fiber);
}

/* --- running ------------------------------------------------------------------------------------------------------ */

/* On the fiber's own thread. */
static void fiber_ready(struct fiber *fiber)
{
	list_append(&fiber->set->ready, fiber);
}

static void wake_arrived(struct loop_post *post)
{
	fiber_ready(fiber_of_wake(post));
}

static void fiber_enter(struct fiber_set *set, struct fiber *fiber)
{
	set->running = fiber;
	if (fiber->begun) {
		context_switch(&set->context, &fiber->context, false);
	} else {
		fiber->begun = true;
		context_begin(&set->context, fiber);
	}
	set->running = NULL;

	if (!fiber->fn) {
		set->unfinished--;
		pool_put(set, fiber);
	}
}

void fibers_run(struct fiber_set *set)
{
	struct fiber *fiber;

	context_adopt(&set->context);
	list_append_all(&set->ready, &set->yielded);
	while ((fiber = list_take(&set->ready)))
		fiber_enter(set, fiber);
}

/* Leave the processor to the loop, until somebody calls fiber_ready(). */
static void fiber_park(struct fiber *fiber)
{
	context_switch(&fiber->context, &fiber->set->context, false);
}

int fiber_start(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct fiber_set *set = loop_fibers(loop);
	struct fiber *fiber;

	assert(fn != NULL);
	fiber = pool_take(set);
	if (!fiber)
		fiber = fiber_map(loop);
	if (!fiber)
		return -ENOMEM;
	fiber->fn = fn;
	fiber->arg = arg;
	fiber->wake.run = wake_arrived;
	set->unfinished++;
	fiber_ready(fiber);
	return 0;
}

struct fiber *fiber_self(void)
{
	struct loop *loop = loop_current();

	return loop ? loop_fibers(loop)->running : NULL;
}

void fiber_yield(void)
{
	struct fiber *self = fiber_self();

	assert(self != NULL);
	list_append(&self->set->yielded, self);
	fiber_park(self);
}

void fiber_sleep_until(uint64_t at_ns)
{
	struct fiber_queue nobody_wakes = { 0 };

	fiber_wait_until(&nobody_wakes, NULL, at_ns);
}

void fiber_sleep_ms(unsigned int ms)
{
	fiber_sleep_until(clock_ns() + ms * NSEC_PER_MSEC);
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

static void queue_append(struct fiber_queue *queue, struct fiber_waiter *waiter)
{
	assert(queue->first == NULL || queue->first->mutex == waiter->mutex);
	waiter->queue = queue;
	waiter->prev = queue->first ? queue->last : NULL;
	waiter->next = NULL;
	if (queue->first)
		queue->last->next = waiter;
	else
		queue->first = waiter;
	queue->last = waiter;
}

static void queue_remove(struct fiber_queue *queue, struct fiber_waiter *waiter)
{
	if (waiter->prev)
		waiter->prev->next = waiter->next;
	else
		queue->first = waiter->next;
	if (waiter->next)
		waiter->next->prev = waiter->prev;
	else
		queue->last = waiter->prev;
	waiter->queue = NULL;
}

static void guard_lock(pthread_mutex_t *mutex)
{
	int err = mutex ? pthread_mutex_lock(mutex) : 0;

	assert(err == 0);
}

static void guard_unlock(pthread_mutex_t *mutex)
{
	int err = mutex ? pthread_mutex_unlock(mutex) : 0;

	assert(err == 0);
}

/* The waiter is in its queue: let the mutex go until somebody has taken it out. */
static void waiter_park(struct fiber_waiter *waiter)
{
	guard_unlock(waiter->mutex);
	fiber_park(waiter->fiber);
	guard_lock(waiter->mutex);
}

void fiber_wait(struct fiber_queue *queue, pthread_mutex_t *mutex)
{
	struct fiber_waiter waiter = { .fiber = fiber_self(), .mutex = mutex };

	assert(waiter.fiber != NULL);
	queue_append(queue, &waiter);
	waiter_park(&waiter);
}

static void waiter_expired(struct loop_timer *timer)
{
	struct fiber_waiter *waiter = waiter_of_timer(timer);
	pthread_mutex_t *mutex = waiter->mutex;

	guard_lock(mutex);
	if (waiter->queue) {
		queue_remove(waiter->queue, waiter);
		waiter->timed_out = true;
		fiber_ready(waiter->fiber);
	}
	guard_unlock(mutex);
}

int fiber_wait_until(struct fiber_queue *queue, pthread_mutex_t *mutex, uint64_t at_ns)
{
	struct fiber_waiter waiter = { .fiber = fiber_self(), .mutex = mutex, .timer.expired = waiter_expired };

	assert(waiter.fiber != NULL);
	queue_append(queue, &waiter);
	loop_timer_set(waiter.fiber->loop, &waiter.timer, at_ns);
	waiter_park(&waiter);
	loop_timer_cancel(&waiter.timer);
	return waiter.timed_out ? -ETIMEDOUT : 0;
}

static void waiter_wake(struct fiber_queue *queue, struct fiber_waiter *waiter)
{
	struct fiber *fiber = waiter->fiber;
	bool here = fiber->loop == loop_current();

	assert(here || waiter->mutex != NULL);
	queue_remove(queue, waiter);
	if (here)
		fiber_ready(fiber);
	else
		loop_post(fiber->loop, &fiber->wake);
}

void fiber_wake_one(struct fiber_queue *queue)
{
	if (queue->first)
		waiter_wake(queue, queue->first);
}

void fiber_wake_all(struct fiber_queue *queue)
{
	while (queue->first)
		waiter_wake(queue, queue->first);
}

/* --- the lock ----------------------------------------------------------------------------------------------------- */

/* Unlocking hands the lock to the first that waits, so that nobody who comes later takes it before. */
void fiber_mutex_lock(struct fiber_mutex *mutex)
{
	struct fiber *self = fiber_self();

	assert(self != NULL);
	guard_lock(&mutex->guard);
	assert(mutex->owner != self);
	if (!mutex->owner)
		mutex->owner = self;
	while (mutex->owner != self)
		fiber_wait(&mutex->queue, &mutex->guard);
	guard_unlock(&mutex->guard);
}

void fiber_mutex_unlock(struct fiber_mutex *mutex)
{
	struct fiber *self = fiber_self();

	guard_lock(&mutex->guard);
	assert(self != NULL && mutex->owner == self);
	mutex->owner = mutex->queue.first ? mutex->queue.first->fiber : NULL;
	fiber_wake_one(&mutex->queue);
	guard_unlock(&mutex->guard);
}
