/*
 * The event loop. What runs in callbacks and threads checks with assert(); Check's own belongs to the test's function.
 */
#include "common/container_of.h"
#include "common/loop.h"

#include "common/fiber.h"
#include "tests/unit/unit.h"

#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct loop *loop;

/* What happened, a letter each. */
static char trace[256];

static void trace_add(char letter)
{
	size_t n = strlen(trace);

	assert(n + 1 < sizeof(trace));
	trace[n] = letter;
	trace[n + 1] = '\0';
}

static void loop_begin(void)
{
	int err = loop_new(&loop);

	ck_assert_int_eq(err, 0);
	trace[0] = '\0';
}

static void loop_end(void)
{
	loop = loop_free(loop);
	ck_assert_ptr_null(loop);
	ck_assert_ptr_null(loop_current());
}

/* Run what is there to run, and no more. */
static void loop_run_once(void)
{
	loop_stop(loop);
	ck_assert_int_eq(loop_run(loop), 0);
}

/* An eventfd that is readable from the beginning. */
static int readable_fd(void)
{
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	ck_assert_int_ge(fd, 0);
	return fd;
}

/* --- stages ------------------------------------------------------------------------------------------------------- */

static void stage_watch(struct loop_watch *watch, uint32_t events)
{
	uint64_t value;
	ssize_t n;

	assert(events == EPOLLIN);
	n = read(watch->fd, &value, sizeof(value));
	assert(n == sizeof(value));
	trace_add('d');
}

static void stage_timer(struct loop_timer *timer)
{
	assert(timer->loop == NULL);
	trace_add('t');
}

static void stage_post(struct loop_post *post)
{
	(void)post;
	assert(loop_current() == loop);
	trace_add('p');
}

static void stage_fiber(void *arg)
{
	(void)arg;
	trace_add('f');
}

static void stage_store(struct loop_hook *hook)
{
	(void)hook;
	trace_add('1');
}

static void stage_send(struct loop_hook *hook)
{
	(void)hook;
	trace_add('2');
}

START_TEST(iteration_has_its_order)
{
	struct loop_watch watch = { .ready = stage_watch };
	struct loop_timer timer = { .expired = stage_timer };
	struct loop_post post = { .run = stage_post };
	struct loop_hook store = { .run = stage_store }, send = { .run = stage_send };

	loop_begin();
	watch.fd = readable_fd();
	loop_hook_add(loop, LOOP_STAGE_SEND, &send);
	loop_hook_add(loop, LOOP_STAGE_STORE, &store);
	ck_assert_int_eq(fiber_start(loop, stage_fiber, NULL), 0);
	loop_post(loop, &post);
	loop_timer_set(loop, &timer, 1);
	ck_assert_int_eq(loop_watch_add(loop, &watch, EPOLLIN), 0);

	loop_run_once();
	ck_assert_str_eq(trace, "dtpf12");
	loop_run_once();
	ck_assert_str_eq(trace, "dtpf1212");

	loop_watch_remove(&watch);
	loop_watch_remove(&watch);
	close(watch.fd);
	loop_hook_remove(loop, LOOP_STAGE_STORE, &store);
	loop_hook_remove(loop, LOOP_STAGE_SEND, &send);
	loop_end();
}
END_TEST

static struct loop_post chain_post;
static struct loop_timer chain_guard;
static int chain_left;

static void chain_stop(void *arg)
{
	(void)arg;
	trace_add('f');
	loop_stop(loop);
}

static void chain_send(struct loop_hook *hook)
{
	(void)hook;
	if (chain_left == 2)
		loop_post(loop, &chain_post);
	else if (chain_left == 1)
		assert(fiber_start(loop, chain_stop, NULL) == 0);
	chain_left--;
}

static void chain_overslept(struct loop_timer *timer)
{
	(void)timer;
	abort(); /* the loop slept */
}

/* Nobody wakes the loop but its own hook: it must not sleep on what the hook left it. */
START_TEST(hooks_leave_work_and_the_loop_stays_awake)
{
	struct loop_hook send = { .run = chain_send };

	loop_begin();
	chain_left = 2;
	chain_post.run = stage_post;
	chain_guard.expired = chain_overslept;
	loop_timer_set(loop, &chain_guard, clock_ns() + 20 * NSEC_PER_SEC);
	loop_hook_add(loop, LOOP_STAGE_SEND, &send);
	loop_post(loop, &chain_post); /* the first iteration's */
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_str_eq(trace, "ppf");
	loop_timer_cancel(&chain_guard);
	loop_hook_remove(loop, LOOP_STAGE_SEND, &send);
	loop_end();
}
END_TEST

static struct loop_hook hook_a, hook_b, hook_c;

static void hook_run_a(struct loop_hook *hook)
{
	trace_add('a');
	loop_hook_remove(loop, LOOP_STAGE_STORE, hook);
	loop_hook_remove(loop, LOOP_STAGE_STORE, &hook_b);
}

static void hook_run_b(struct loop_hook *hook)
{
	(void)hook;
	trace_add('b');
}

static void hook_run_c(struct loop_hook *hook)
{
	trace_add('c');
	loop_hook_remove(loop, LOOP_STAGE_STORE, hook);
	loop_hook_add(loop, LOOP_STAGE_STORE, &hook_b);
}

START_TEST(hooks_add_and_remove_hooks)
{
	hook_a.run = hook_run_a;
	hook_b.run = hook_run_b;
	hook_c.run = hook_run_c;

	loop_begin();
	loop_hook_add(loop, LOOP_STAGE_STORE, &hook_a);
	loop_hook_add(loop, LOOP_STAGE_STORE, &hook_b);
	loop_hook_add(loop, LOOP_STAGE_STORE, &hook_c);
	loop_run_once();
	ck_assert_str_eq(trace, "acb");
	loop_run_once();
	ck_assert_str_eq(trace, "acbb");
	loop_hook_remove(loop, LOOP_STAGE_STORE, &hook_b);
	loop_end();
}
END_TEST

/* --- timers ------------------------------------------------------------------------------------------------------- */

#define TIMERS 2000

static struct loop_timer timers[TIMERS];
static unsigned int expired_count;
static uint64_t expired_last_ns;

static void timer_in_order(struct loop_timer *timer)
{
	assert(timer->loop == NULL);
	assert(timer->at_ns >= expired_last_ns);
	expired_last_ns = timer->at_ns;
	expired_count++;
}

START_TEST(timers_expire_in_order)
{
	unsigned int seed = (unsigned int)clock_ns(), set = 0;

	printf("timers_expire_in_order: seed %u\n", seed);
	srandom(seed);
	loop_begin();
	expired_count = 0;
	expired_last_ns = 0;
	for (unsigned int i = 0; i < TIMERS; i++)
		timers[i].expired = timer_in_order;
	for (unsigned int i = 0; i < 5 * TIMERS; i++) {
		struct loop_timer *timer = &timers[random() % TIMERS];

		if (random() % 4 == 0)
			loop_timer_cancel(timer);
		else
			loop_timer_set(loop, timer, (uint64_t)(random() % 5000));
	}
	for (unsigned int i = 0; i < TIMERS; i++)
		set += timers[i].loop != NULL;

	while (expired_count < set) {
		unsigned int before = expired_count;

		loop_run_once();
		ck_assert_uint_gt(expired_count, before);
	}
	loop_run_once();
	ck_assert_uint_eq(expired_count, set);
	loop_end();
}
END_TEST

static void timer_cancels_next(struct loop_timer *timer)
{
	trace_add('x');
	loop_timer_cancel(timer + 1);
	loop_timer_set(loop, timer + 2, UINT64_MAX);
}

START_TEST(timers_cancel_and_move_others)
{
	static struct loop_timer three[3] = { { .expired = timer_cancels_next },
					      { .expired = stage_timer },
					      { .expired = stage_timer } };

	loop_begin();
	for (unsigned int i = 0; i < 3; i++)
		loop_timer_set(loop, &three[i], i);
	loop_run_once();
	ck_assert_str_eq(trace, "x");
	ck_assert_ptr_null(three[1].loop);
	loop_timer_set(loop, &three[2], 5);
	loop_run_once();
	ck_assert_str_eq(trace, "xt");
	loop_timer_cancel(&three[2]);
	loop_end();
}
END_TEST

static void timer_again(struct loop_timer *timer)
{
	trace_add('a');
	loop_timer_set(loop, timer, 1);
}

START_TEST(timer_of_the_past_holds_nobody_up)
{
	struct loop_timer again = { .expired = timer_again }, later = { .expired = stage_timer };
	struct loop_post post = { .run = stage_post };

	loop_begin();
	loop_timer_set(loop, &again, 1);
	loop_timer_set(loop, &later, 2);
	loop_post(loop, &post);
	loop_run_once();
	ck_assert_str_eq(trace, "aap");
	loop_timer_cancel(&again);
	loop_run_once();
	ck_assert_str_eq(trace, "aapt");
	loop_end();
}
END_TEST

static unsigned int iterations;

static void iteration_count(struct loop_hook *hook)
{
	(void)hook;
	iterations++;
}

static void timer_on_time(struct loop_timer *timer)
{
	assert(loop_now_ns(loop) >= timer->at_ns);
	assert(clock_ns() >= loop_now_ns(loop));
	if (--expired_count == 0)
		loop_stop(loop);
	else
		loop_timer_set(loop, timer, clock_ns() + 700000 + expired_count);
}

/* Not early, and the loop sleeps until then: an iteration per timer, and a few that were woken for nothing at most. */
static void timers_wait(void)
{
	struct loop_timer timer = { .expired = timer_on_time };
	struct loop_hook count = { .run = iteration_count };

	loop_begin();
	iterations = 0;
	expired_count = 20;
	loop_hook_add(loop, LOOP_STAGE_SEND, &count);
	loop_timer_set(loop, &timer, clock_ns() + 300000);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_le(iterations, 30);
	loop_hook_remove(loop, LOOP_STAGE_SEND, &count);
	loop_end();
}

START_TEST(timers_are_waited_for)
{
	timers_wait();
}
END_TEST

/* The same where the kernel knows no epoll_pwait2(). It is taken away from this process, which Check made for the test.
 */
START_TEST(timers_are_waited_for_by_old_kernels)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(filter) / sizeof(*filter), .filter = filter };

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
		timers_wait();
}
END_TEST

/* --- posts and stop ----------------------------------------------------------------------------------------------- */

#define POSTERS         8
#define POSTS_EACH      20000
#define POSTS_IN_FLIGHT 16

struct poster {
	pthread_t thread;
	struct counted_post {
		struct loop_post post;
		struct poster *poster;
		unsigned int number;
		atomic_bool free;
	} posts[POSTS_IN_FLIGHT];
	unsigned int arrived;
};

static struct poster posters[POSTERS];
static unsigned int posters_left;

static void counted_run(struct loop_post *post)
{
	struct counted_post *counted = (struct counted_post *)(void *)post;
	struct poster *poster = counted->poster;

	assert(counted->number == poster->arrived);
	poster->arrived++;
	if (poster->arrived == POSTS_EACH && --posters_left == 0)
		loop_stop(loop);
	atomic_store(&counted->free, true);
}

static void *poster_main(void *arg)
{
	struct poster *poster = arg;

	for (unsigned int i = 0; i < POSTS_EACH; i++) {
		struct counted_post *counted = &poster->posts[i % POSTS_IN_FLIGHT];

		while (!atomic_load(&counted->free))
			sched_yield();
		atomic_store(&counted->free, false);
		counted->post.run = counted_run;
		counted->poster = poster;
		counted->number = i;
		loop_post(loop, &counted->post);
	}
	return NULL;
}

START_TEST(posts_of_many_threads_all_arrive_in_order)
{
	loop_begin();
	posters_left = POSTERS;
	for (unsigned int i = 0; i < POSTERS; i++) {
		for (unsigned int k = 0; k < POSTS_IN_FLIGHT; k++)
			atomic_init(&posters[i].posts[k].free, true);
		ck_assert_int_eq(pthread_create(&posters[i].thread, NULL, poster_main, &posters[i]), 0);
	}
	ck_assert_int_eq(loop_run(loop), 0);
	for (unsigned int i = 0; i < POSTERS; i++) {
		pthread_join(posters[i].thread, NULL);
		ck_assert_uint_eq(posters[i].arrived, POSTS_EACH);
	}
	loop_end();
}
END_TEST

static unsigned int posted_again;

static void post_again(struct loop_post *post)
{
	if (++posted_again == 1000)
		loop_stop(loop);
	else
		loop_post(loop, post);
}

static void post_free(struct loop_post *post)
{
	trace_add('p');
	free(post);
}

START_TEST(posts_are_freed_or_posted_again_in_run)
{
	struct loop_post again = { .run = post_again };

	loop_begin();
	posted_again = 0;
	for (unsigned int i = 0; i < 3; i++) {
		struct loop_post *post = calloc(1, sizeof(*post));

		post->run = post_free;
		loop_post(loop, post);
	}
	loop_post(loop, &again);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(posted_again, 1000);
	ck_assert_str_eq(trace, "ppp");
	loop_end();
}
END_TEST

static void *run_main(void *arg)
{
	int err;

	assert(loop_current() == NULL);
	err = loop_run(arg);
	assert(err == 0);
	assert(loop_current() == arg);
	return NULL;
}

/* Another thread's stop reaches the loop before, in and after its first sleep; who stopped it may free it. */
/* --- two loops that wait for each other ------------------------------------------------------------------------------ */

static unsigned int turns_left; /* whose turn it is counts */

struct side {
	struct loop *loop;
	struct loop_post post;
	struct side *other;
};

static void turn(struct loop_post *post)
{
	struct side *side = container_of(post, struct side, post);

	assert(loop_current() == side->loop);
	if (--turns_left > 0) {
		loop_post(side->other->loop, &side->other->post);
	} else {
		loop_stop(side->other->loop);
		loop_stop(side->loop);
	}
}

static void *side_run(void *arg)
{
	assert(loop_run(((struct side *)arg)->loop) == 0);
	return NULL;
}

/* Each looks for its turn before it sleeps, or sleeps: none is missed. */
START_TEST(turns_are_taken)
{
	struct side one = { .post.run = turn }, two = { .post.run = turn };
	pthread_t thread;

	ck_assert_int_eq(loop_new(&one.loop), 0);
	ck_assert_int_eq(loop_new(&two.loop), 0);
	turns_left = 10000;
	one.other = &two;
	two.other = &one;
	ck_assert_uint_eq(loop_idle_ns(one.loop), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, side_run, &two), 0);
	loop_post(one.loop, &one.post);
	ck_assert_int_eq(loop_run(one.loop), 0);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(turns_left, 0);
	ck_assert_uint_gt(loop_idle_ns(one.loop), 0);
	loop_free(one.loop);
	loop_free(two.loop);
}
END_TEST

START_TEST(stop_of_another_thread)
{
	for (unsigned int i = 0; i < 500; i++) {
		struct loop_post post = { .run = stage_post };
		pthread_t thread;

		loop_begin();
		ck_assert_int_eq(pthread_create(&thread, NULL, run_main, loop), 0);
		for (unsigned int k = 0; k < i % 50; k++)
			sched_yield();
		loop_post(loop, &post);
		loop_stop(loop);
		pthread_join(thread, NULL);
		ck_assert_str_eq(trace, "p");
		loop_end();
	}
}
END_TEST

/* --- watches ------------------------------------------------------------------------------------------------------ */

static struct loop_watch pair[2];
static unsigned int pair_told;

static struct loop_watch *pair_other(struct loop_watch *watch)
{
	return &pair[watch == &pair[0]];
}

static void pair_remove_other(struct loop_watch *watch, uint32_t events)
{
	struct loop_watch *other = pair_other(watch);

	(void)events;
	pair_told++;
	loop_watch_remove(other);
	assert(other->loop == NULL);
}

static void pair_readd_other(struct loop_watch *watch, uint32_t events)
{
	pair_remove_other(watch, events);
	assert(loop_watch_add(loop, pair_other(watch), EPOLLIN) == 0);
	loop_watch_remove(watch);
}

static void pair_change_other(struct loop_watch *watch, uint32_t events)
{
	(void)events;
	pair_told++;
	assert(loop_watch_change(pair_other(watch), 0) == 0);
}

static void pair_begin(void (*ready)(struct loop_watch *watch, uint32_t events))
{
	loop_begin();
	pair_told = 0;
	for (unsigned int i = 0; i < 2; i++) {
		pair[i] = (struct loop_watch){ .fd = readable_fd(), .ready = ready };
		ck_assert_int_eq(loop_watch_add(loop, &pair[i], EPOLLIN), 0);
	}
}

static void pair_end(void)
{
	for (unsigned int i = 0; i < 2; i++) {
		loop_watch_remove(&pair[i]);
		close(pair[i].fd);
	}
	loop_end();
}

START_TEST(removed_watch_gets_no_event_of_the_iteration)
{
	pair_begin(pair_remove_other);
	loop_run_once();
	ck_assert_uint_eq(pair_told, 1);
	loop_run_once();
	ck_assert_uint_eq(pair_told, 2); /* the one that stayed */
	pair_end();
}
END_TEST

START_TEST(watch_added_again_hears_in_the_next_iteration)
{
	pair_begin(pair_readd_other);
	loop_run_once();
	ck_assert_uint_eq(pair_told, 1);
	loop_run_once();
	ck_assert_uint_eq(pair_told, 2);
	pair_end();
}
END_TEST

START_TEST(changed_watch_gets_no_event_it_gave_up)
{
	pair_begin(pair_change_other);
	loop_run_once();
	ck_assert_uint_eq(pair_told, 1);
	pair_end();
}
END_TEST

static void watch_trace(struct loop_watch *watch, uint32_t events)
{
	(void)watch;
	trace_add(events == EPOLLIN ? 'i' : events == EPOLLOUT ? 'o' : events == (EPOLLIN | EPOLLOUT) ? 'b' : 'h');
}

START_TEST(watch_changes_and_fails)
{
	struct loop_watch watch = { .ready = watch_trace }, bad = { .fd = -1 };
	int fds[2];

	loop_begin();
	ck_assert_int_eq(loop_watch_add(loop, &bad, EPOLLIN), -EBADF);
	ck_assert_ptr_null(bad.loop);

	watch.fd = readable_fd();
	ck_assert_int_eq(loop_watch_add(loop, &watch, EPOLLIN | EPOLLOUT), 0);
	loop_run_once();
	ck_assert_int_eq(loop_watch_change(&watch, EPOLLOUT), 0);
	loop_run_once();
	ck_assert_int_eq(loop_watch_change(&watch, EPOLLIN), 0);
	loop_run_once();
	ck_assert_int_eq(loop_watch_change(&watch, 0), 0);
	loop_run_once();
	loop_watch_remove(&watch);
	close(watch.fd);
	ck_assert_str_eq(trace, "boi");

	ck_assert_int_eq(pipe(fds), 0);
	close(fds[1]);
	watch.fd = fds[0];
	ck_assert_int_eq(loop_watch_add(loop, &watch, 0), 0);
	loop_run_once();
	loop_watch_remove(&watch);
	close(fds[0]);
	ck_assert_str_eq(trace, "boih");
	loop_end();
}
END_TEST

#define WATCHES_MANY 700

static void many_ready(struct loop_watch *watch, uint32_t events)
{
	stage_watch(watch, events);
	trace[0] = '\0';
	pair_told++;
}

/* More at once than the loop takes at once. */
START_TEST(every_watch_has_its_turn)
{
	static struct loop_watch many[WATCHES_MANY];

	loop_begin();
	pair_told = 0;
	for (unsigned int i = 0; i < WATCHES_MANY; i++) {
		many[i] = (struct loop_watch){ .fd = readable_fd(), .ready = many_ready };
		ck_assert_int_eq(loop_watch_add(loop, &many[i], EPOLLIN), 0);
	}
	for (unsigned int i = 0; i < 10; i++)
		loop_run_once();
	ck_assert_uint_eq(pair_told, WATCHES_MANY);
	for (unsigned int i = 0; i < WATCHES_MANY; i++) {
		loop_watch_remove(&many[i]);
		close(many[i].fd);
	}
	loop_end();
}
END_TEST

START_TEST(nothing_is_freed_and_removed)
{
	struct loop_timer timer = { 0 };
	struct loop_watch watch = { 0 };

	ck_assert_ptr_null(loop_free(NULL));
	loop_timer_cancel(&timer);
	loop_watch_remove(&watch);
	ck_assert_uint_gt(clock_real_ns(), UINT64_C(1500000000) * NSEC_PER_SEC);
}
END_TEST

UNIT_MAIN("loop", iteration_has_its_order, hooks_leave_work_and_the_loop_stays_awake, hooks_add_and_remove_hooks,
	  timers_expire_in_order, timers_cancel_and_move_others, timer_of_the_past_holds_nobody_up,
	  timers_are_waited_for, timers_are_waited_for_by_old_kernels, posts_of_many_threads_all_arrive_in_order,
	  posts_are_freed_or_posted_again_in_run, stop_of_another_thread, turns_are_taken,
	  removed_watch_gets_no_event_of_the_iteration, watch_added_again_hears_in_the_next_iteration,
	  changed_watch_gets_no_event_it_gave_up, watch_changes_and_fails, every_watch_has_its_turn,
	  nothing_is_freed_and_removed)
