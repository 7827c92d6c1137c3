/*
 * What other threads touch is the mail: posts and the wish to stop, under its
 * mutex. A loop that is about to sleep says so (mail.asleep) under the same
 * mutex, after it has seen that there is no mail; who brings mail and finds it
 * asleep writes the eventfd. So no mail is missed and a busy loop costs its
 * senders no system call.
 *
 * The eventfd is written with the mutex held: whoever has seen the effect of a
 * post or a stop may free the loop, because its sender no longer uses it.
 */
#include "common/loop.h"

#include "common/loop_internal.h"
#include "common/spin.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX       256 /* per iteration; the others come with the next */
#define TIMERS_MIN       64  /* first size of the heap */
#define EVENTS_UNMASKED  ((uint32_t)(EPOLLERR | EPOLLHUP))
#define TIMEOUT_MAX_MSEC (1000 * 60 * 60)

struct heap_entry {
	uint64_t at_ns;
	struct loop_timer *timer;
};

struct mail {
	pthread_mutex_t mutex;
	struct loop_post *first, *last;
	bool stop;
	atomic_bool asleep; /* becomes true under the mutex only */
};

struct loop {
	int epoll_fd;
	int event_fd;
	bool running;
	bool no_pwait2; /* the kernel has no epoll_pwait2() */
	uint64_t now_ns;
	uint64_t idle_ns;
	struct spin spin;

	/* The descriptors' stage: entries from event_next on are still to be told; a removed watch leaves NULL. */
	unsigned int event_next, event_count;
	struct epoll_event events[EVENTS_MAX];

	struct heap_entry *heap; /* binary heap, the earliest first */
	unsigned int timer_count, timer_max;

	struct loop_hook *hooks[LOOP_STAGES];
	struct loop_hook **hook_next; /* where the next hook of the running stage hangs */

	struct fiber_set fibers;
	struct mail mail;
};

static _Thread_local struct loop *current;

static uint64_t clock_read(clockid_t clock)
{
	struct timespec ts;
	int err;

	err = clock_gettime(clock, &ts);
	assert(err == 0);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t clock_ns(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

uint64_t clock_real_ns(void)
{
	return clock_read(CLOCK_REALTIME);
}

struct loop *loop_current(void)
{
	return current;
}

uint64_t loop_now_ns(const struct loop *loop)
{
	return loop->now_ns;
}

uint64_t loop_idle_ns(const struct loop *loop)
{
	return loop->idle_ns;
}

struct fiber_set *loop_fibers(struct loop *loop)
{
	return &loop->fibers;
}

/*
 * Level-triggered, an eventfd would have to be read after each wake-up. Edge-triggered, every write is an event of its
 * own and nobody reads. Its entry has no watch.
 */
static int wakeup_open(struct loop *loop)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return -errno;
	loop->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->event_fd < 0)
		return -errno;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->event_fd, &event) < 0)
		return -errno;
	return 0;
}

int loop_new(struct loop **ret_loop)
{
	struct loop *loop;
	int err;

	loop = calloc(1, sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	loop->epoll_fd = -1;
	loop->event_fd = -1;
	pthread_mutex_init(&loop->mail.mutex, NULL);
	loop->now_ns = clock_ns();

	err = wakeup_open(loop);
	if (err) {
		loop_free(loop);
		return err;
	}
	*ret_loop = loop;
	return 0;
}

struct loop *loop_free(struct loop *loop)
{
	if (!loop)
		return NULL;
	assert(!loop->running);
	fibers_release(&loop->fibers);
	if (loop->event_fd >= 0)
		close(loop->event_fd);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	pthread_mutex_destroy(&loop->mail.mutex);
	free(loop->heap);
	if (current == loop)
		current = NULL;
	free(loop);
	return NULL;
}

/* --- timers ------------------------------------------------------------------------------------------------------- */

static void heap_place(struct loop *loop, unsigned int index, struct heap_entry entry)
{
	loop->heap[index] = entry;
	entry.timer->heap_index = index;
}

/* Put the entry at the index, which is free, or above it. */
static void heap_rise(struct loop *loop, unsigned int index, struct heap_entry entry)
{
	while (index > 0) {
		unsigned int parent = (index - 1) / 2;

		if (loop->heap[parent].at_ns <= entry.at_ns)
			break;
		heap_place(loop, index, loop->heap[parent]);
		index = parent;
	}
	heap_place(loop, index, entry);
}

/* Put the entry at the index, which is free, or below it. */
static void heap_sink(struct loop *loop, unsigned int index, struct heap_entry entry)
{
	for (;;) {
		unsigned int child = 2 * index + 1;

		if (child >= loop->timer_count)
			break;
		if (child + 1 < loop->timer_count && loop->heap[child + 1].at_ns < loop->heap[child].at_ns)
			child++;
		if (entry.at_ns <= loop->heap[child].at_ns)
			break;
		heap_place(loop, index, loop->heap[child]);
		index = child;
	}
	heap_place(loop, index, entry);
}

/* The index is free: put the entry where it belongs from there. */
static void heap_settle(struct loop *loop, unsigned int index, struct heap_entry entry)
{
	if (index > 0 && entry.at_ns < loop->heap[(index - 1) / 2].at_ns)
		heap_rise(loop, index, entry);
	else
		heap_sink(loop, index, entry);
}

/* Setting a timer cannot fail: a process without memory for 16 bytes per timer is better ended than left without. */
static void heap_reserve(struct loop *loop)
{
	unsigned int max = loop->timer_max ? loop->timer_max * 2 : TIMERS_MIN;
	struct heap_entry *heap;

	if (loop->timer_count < loop->timer_max)
		return;
	heap = reallocarray(loop->heap, max, sizeof(*heap));
	if (!heap)
		abort();
	loop->heap = heap;
	loop->timer_max = max;
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t at_ns)
{
	struct heap_entry entry = { .at_ns = at_ns, .timer = timer };

	assert(timer->loop == NULL || timer->loop == loop);
	timer->at_ns = at_ns;
	if (timer->loop) {
		heap_settle(loop, timer->heap_index, entry);
		return;
	}
	heap_reserve(loop);
	timer->loop = loop;
	heap_rise(loop, loop->timer_count++, entry);
}

void loop_timer_cancel(struct loop_timer *timer)
{
	struct loop *loop = timer->loop;
	unsigned int index = timer->heap_index;

	if (!loop)
		return;
	assert(index < loop->timer_count && loop->heap[index].timer == timer);
	timer->loop = NULL;
	loop->timer_count--;
	if (index < loop->timer_count)
		heap_settle(loop, index, loop->heap[loop->timer_count]);
}

/* At most as many as there are at the beginning: a timer that sets itself to the past does not hold up the others. */
static void timers_run(struct loop *loop)
{
	for (unsigned int left = loop->timer_count; left > 0 && loop->timer_count > 0; left--) {
		struct loop_timer *timer = loop->heap[0].timer;

		if (timer->at_ns > loop->now_ns)
			break;
		loop_timer_cancel(timer);
		timer->expired(timer);
	}
}

/* --- descriptors -------------------------------------------------------------------------------------------------- */

static int watch_control(struct loop *loop, struct loop_watch *watch, int op, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	return epoll_ctl(loop->epoll_fd, op, watch->fd, &event) < 0 ? -errno : 0;
}

/* Take from the iteration's event of the watch, if one is still to come, all but these. */
static void watch_limit(struct loop_watch *watch, uint32_t events)
{
	struct loop *loop = watch->loop;

	for (unsigned int i = loop->event_next; i < loop->event_count; i++) {
		struct epoll_event *event = &loop->events[i];

		if (event->data.ptr != watch)
			continue;
		event->events &= events;
		if (event->events == 0)
			event->data.ptr = NULL;
		return; /* epoll reports a descriptor once at a time */
	}
}

int loop_watch_add(struct loop *loop, struct loop_watch *watch, uint32_t events)
{
	int err;

	assert(watch->loop == NULL);
	err = watch_control(loop, watch, EPOLL_CTL_ADD, events);
	if (err)
		return err;
	watch->loop = loop;
	return 0;
}

int loop_watch_change(struct loop_watch *watch, uint32_t events)
{
	int err;

	assert(watch->loop != NULL);
	err = watch_control(watch->loop, watch, EPOLL_CTL_MOD, events);
	if (err)
		return err;
	watch_limit(watch, events | EVENTS_UNMASKED);
	return 0;
}

void loop_watch_remove(struct loop_watch *watch)
{
	int err;

	if (!watch->loop)
		return;
	err = watch_control(watch->loop, watch, EPOLL_CTL_DEL, 0);
	assert(err == 0); /* else the descriptor was closed first, and its number may be another's by now */
	watch_limit(watch, 0);
	watch->loop = NULL;
}

static void events_run(struct loop *loop)
{
	while (loop->event_next < loop->event_count) {
		struct epoll_event *event = &loop->events[loop->event_next++];
		struct loop_watch *watch = event->data.ptr;

		if (watch)
			watch->ready(watch, event->events);
	}
}

/* --- mail from other threads -------------------------------------------------------------------------------------- */

/* The mutex is held. */
static void mail_wake(struct loop *loop)
{
	uint64_t one = 1;
	ssize_t n;

	if (!atomic_exchange_explicit(&loop->mail.asleep, false, memory_order_relaxed))
		return;
	n = write(loop->event_fd, &one, sizeof(one));
	assert(n == sizeof(one)); /* it would take 2^64 wake-ups to fill it */
}

void loop_post(struct loop *loop, struct loop_post *post)
{
	struct mail *mail = &loop->mail;

	pthread_mutex_lock(&mail->mutex);
	post->next = NULL;
	if (mail->first)
		mail->last->next = post;
	else
		mail->first = post;
	mail->last = post;
	mail_wake(loop);
	pthread_mutex_unlock(&mail->mutex);
}

void loop_stop(struct loop *loop)
{
	pthread_mutex_lock(&loop->mail.mutex);
	loop->mail.stop = true;
	mail_wake(loop);
	pthread_mutex_unlock(&loop->mail.mutex);
}

/* No mail and nothing to run: from now on who brings mail must wake us. */
static bool mail_fall_asleep(struct loop *loop)
{
	struct mail *mail = &loop->mail;
	bool asleep;

	if (fibers_pending(&loop->fibers))
		return false;
	pthread_mutex_lock(&mail->mutex);
	asleep = !mail->first && !mail->stop;
	atomic_store_explicit(&mail->asleep, asleep, memory_order_relaxed);
	pthread_mutex_unlock(&mail->mutex);
	return asleep;
}

/* Run what has been posted until now. ret_stop: whether the loop shall end after this iteration. */
static void mail_run(struct loop *loop, bool *ret_stop)
{
	struct mail *mail = &loop->mail;
	struct loop_post *post, *next;

	pthread_mutex_lock(&mail->mutex);
	post = mail->first;
	mail->first = mail->last = NULL;
	*ret_stop = mail->stop;
	mail->stop = false;
	pthread_mutex_unlock(&mail->mutex);

	for (; post; post = next) {
		next = post->next; /* run() may free it */
		post->run(post);
	}
}

/* --- hooks -------------------------------------------------------------------------------------------------------- */

void loop_hook_add(struct loop *loop, enum loop_stage stage, struct loop_hook *hook)
{
	struct loop_hook **link = &loop->hooks[stage];

	while (*link) {
		assert(*link != hook);
		link = &(*link)->next;
	}
	hook->next = NULL;
	*link = hook;
}

void loop_hook_remove(struct loop *loop, enum loop_stage stage, struct loop_hook *hook)
{
	struct loop_hook **link = &loop->hooks[stage];

	while (*link != hook) {
		assert(*link != NULL);
		link = &(*link)->next;
	}
	*link = hook->next;
	if (loop->hook_next == &hook->next)
		loop->hook_next = link;
	hook->next = NULL;
}

/* Hooks may add and remove hooks, themselves too. */
static void hooks_run(struct loop *loop)
{
	for (int stage = 0; stage < LOOP_STAGES; stage++) {
		loop->hook_next = &loop->hooks[stage];
		while (*loop->hook_next) {
			struct loop_hook *hook = *loop->hook_next;

			loop->hook_next = &hook->next;
			hook->run(hook);
		}
	}
	loop->hook_next = NULL;
}

/* --- the iteration ------------------------------------------------------------------------------------------------ */

/* A kernel before 5.11 counts in milliseconds; round up, or the loop would spin through the last of them. */
static int wait_msec(struct loop *loop, const struct timespec *timeout)
{
	int timeout_ms = -1;

	if (timeout && timeout->tv_sec >= TIMEOUT_MAX_MSEC / 1000)
		timeout_ms = TIMEOUT_MAX_MSEC;
	else if (timeout)
		timeout_ms = (int)(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999999) / 1000000);
	return epoll_wait(loop->epoll_fd, loop->events, EVENTS_MAX, timeout_ms);
}

static int wait_nsec(struct loop *loop, const struct timespec *timeout)
{
	int n;

	if (loop->no_pwait2)
		return wait_msec(loop, timeout);
	n = epoll_pwait2(loop->epoll_fd, loop->events, EVENTS_MAX, timeout, NULL);
	if (n >= 0 || errno != ENOSYS)
		return n;
	loop->no_pwait2 = true;
	return wait_msec(loop, timeout);
}

/* The time to the first timer, from the clock and not from now_ns, which is as old as the iteration was long. */
static const struct timespec *timeout_next(const struct loop *loop, struct timespec *timeout)
{
	uint64_t now, left;

	if (loop->timer_count == 0)
		return NULL;
	now = clock_ns();
	left = loop->heap[0].at_ns > now ? loop->heap[0].at_ns - now : 0;
	timeout->tv_sec = (time_t)(left / NSEC_PER_SEC);
	timeout->tv_nsec = (long)(left % NSEC_PER_SEC);
	return timeout;
}

/* Look again and again, and let others run in between. */
static int wait_awake(struct loop *loop, uint64_t until_ns)
{
	int n;

	do {
		n = epoll_wait(loop->epoll_fd, loop->events, EVENTS_MAX, 0);
		if (n != 0)
			break;
		sched_yield();
	} while (clock_ns() < until_ns);
	return n;
}

/* There is nothing to do until something comes. */
static int wait_idle(struct loop *loop)
{
	struct timespec timeout = { 0 };
	bool spun = spin_wanted(&loop->spin);
	uint64_t began_ns = clock_ns();
	int n = 0;

	if (spun)
		n = wait_awake(loop, began_ns + SPIN_NS);
	if (n == 0)
		n = wait_nsec(loop, timeout_next(loop, &timeout));
	loop->now_ns = clock_ns();
	loop->idle_ns += loop->now_ns - began_ns;
	spin_learn(&loop->spin, spun, n > 0, loop->now_ns - began_ns);
	return n;
}

/* Wait for events, not at all when there is something to run already, and read the clock. */
static int events_wait(struct loop *loop)
{
	int n;

	if (mail_fall_asleep(loop)) {
		n = wait_idle(loop);
	} else {
		n = epoll_wait(loop->epoll_fd, loop->events, EVENTS_MAX, 0);
		loop->now_ns = clock_ns();
	}
	if (n < 0 && errno != EINTR)
		return -errno;

	atomic_store_explicit(&loop->mail.asleep, false, memory_order_relaxed);
	loop->event_next = 0;
	loop->event_count = n > 0 ? (unsigned int)n : 0;
	return 0;
}

/*
 * A stop is mail: everything posted before it is still run, and the iteration
 * goes to its end, so that what it stored is stored and what it answered sent.
 */
int loop_run(struct loop *loop)
{
	bool stop = false;
	int err = 0;

	assert(!current || !current->running);
	assert(!loop->running);
	loop->running = true;
	current = loop;
	while (!stop) {
		err = events_wait(loop);
		if (err)
			break;
		events_run(loop);
		timers_run(loop);
		mail_run(loop, &stop);
		fibers_run(&loop->fibers);
		hooks_run(loop);
	}
	loop->running = false;
	return err;
}
