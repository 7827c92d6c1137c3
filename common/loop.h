/*
 * One event loop per thread: descriptors (epoll), timers, messages from other
 * threads, fibers that are ready, and hooks that run before the loop waits.
 *
 *   - An iteration: wait; descriptors; timers; posts; ready fibers until none
 *     is left; then the hooks, stage by stage. What a hook makes ready runs
 *     before the loop waits again. So everything that arrived together is
 *     handled together, is logged by one write (LOOP_STAGE_STORE) and answered
 *     by one send per connection (LOOP_STAGE_SEND).
 *   - A loop whose events come in quick succession looks for the next one
 *     for a while before it sleeps (spin.h).
 *   - All calls belong to the loop's own thread but loop_post(), loop_stop()
 *     and fiber_wake().
 *   - Watches, timers, hooks and posts are embedded in their owner, who must
 *     take them out before it goes. Zero-initialise them.
 *   - Times are CLOCK_MONOTONIC nanoseconds.
 */
#ifndef STRAKE_COMMON_LOOP_H
#define STRAKE_COMMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop; /* opaque: loop.c */

#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_SEC  UINT64_C(1000000000)

struct loop_watch {
	int fd;
	void (*ready)(struct loop_watch *watch, uint32_t events); /* EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP */
	struct loop *loop;                                        /* NULL while not added */
};

struct loop_timer {
	void (*expired)(struct loop_timer *timer); /* it is no longer set when this is called */
	uint64_t at_ns;
	struct loop *loop; /* NULL while not set */
	unsigned int heap_index;
};

struct loop_post {
	void (*run)(struct loop_post *post); /* on the loop's thread; the post may be freed or posted again in it */
	struct loop_post *next;
};

enum loop_stage {
	LOOP_STAGE_STORE, /* write the log, submit the ring */
	LOOP_STAGE_SEND,  /* send what is queued for the peers */
	LOOP_STAGES,
};

struct loop_hook {
	void (*run)(struct loop_hook *hook);
	struct loop_hook *next;
};

int loop_new(struct loop **ret_loop);
struct loop *loop_free(struct loop *loop); /* NULL is fine; returns NULL; its fibers have ended */

/* Runs until loop_stop(). The calling thread becomes the loop's own: loop_current() answers it from then on. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop); /* any thread */

/* The loop that runs on this thread, or NULL. */
struct loop *loop_current(void);

/* Now, as read once per iteration; clock_ns() reads the clock. */
uint64_t loop_now_ns(const struct loop *loop);
uint64_t loop_idle_ns(const struct loop *loop); /* for how long, in all, it had nothing to do */
uint64_t clock_ns(void);                        /* CLOCK_MONOTONIC */
uint64_t clock_real_ns(void);                   /* CLOCK_REALTIME */

int loop_watch_add(struct loop *loop, struct loop_watch *watch, uint32_t events);
int loop_watch_change(struct loop_watch *watch, uint32_t events);
void loop_watch_remove(struct loop_watch *watch); /* fine when not added; no event of this iteration comes after it */

/* Sets or moves it. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t at_ns);
void loop_timer_cancel(struct loop_timer *timer); /* fine when not set */

void loop_hook_add(struct loop *loop, enum loop_stage stage, struct loop_hook *hook);
void loop_hook_remove(struct loop *loop, enum loop_stage stage, struct loop_hook *hook);

/* Have post->run called on the loop's thread, in the order posted. Any thread. A post waits once at a time. */
void loop_post(struct loop *loop, struct loop_post *post);

#endif
