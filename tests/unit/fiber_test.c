/*
 * Fibers on one loop and on two. What runs on fibers and threads checks with assert(); Check's own belongs to the
 * test's function.
 */
#include "common/fiber.h"

#include "tests/unit/unit.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif
#ifndef TSAN
#define TSAN 0
#endif

#define LOOPS 2

static struct loop *loops[LOOPS];
static struct loop *loop; /* the first */

/* What happened, a letter each; written on one loop. */
static char trace[256];

static void trace_add(char letter)
{
	size_t n = strlen(trace);

	assert(n + 1 < sizeof(trace));
	trace[n] = letter;
	trace[n + 1] = '\0';
}

static void loops_begin(void)
{
	trace[0] = '\0';
	for (unsigned int i = 0; i < LOOPS; i++) {
		int err = loop_new(&loops[i]);

		ck_assert_int_eq(err, 0);
	}
	loop = loops[0];
}

static void loops_end(void)
{
	for (unsigned int i = 0; i < LOOPS; i++)
		loops[i] = loop_free(loops[i]);
	loop = NULL;
}

static void start(struct loop *on, void (*fn)(void *arg), void *arg)
{
	int err = fiber_start(on, fn, arg);

	assert(err == 0);
}

/* Run what is there to run, and no more. */
static void loop_run_once(void)
{
	loop_stop(loop);
	ck_assert_int_eq(loop_run(loop), 0);
}

static void *loop_main(void *arg)
{
	int err = loop_run(arg);

	assert(err == 0);
	return NULL;
}

/* Each loop on a thread of its own, until each has been stopped. */
static void loops_run(void)
{
	pthread_t threads[LOOPS];

	for (unsigned int i = 0; i < LOOPS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, loop_main, loops[i]), 0);
	for (unsigned int i = 0; i < LOOPS; i++)
		pthread_join(threads[i], NULL);
}

static void lock(pthread_mutex_t *mutex)
{
	int err = pthread_mutex_lock(mutex);

	assert(err == 0);
}

static void unlock(pthread_mutex_t *mutex)
{
	int err = pthread_mutex_unlock(mutex);

	assert(err == 0);
}

/* xorshift: each fiber has its own, so that nobody shares a state. */
static uint32_t random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* --- one loop ----------------------------------------------------------------------------------------------------- */

static void yield_thrice(void *arg)
{
	struct fiber *self = fiber_self();

	assert(self != NULL);
	for (unsigned int i = 0; i < 3; i++) {
		trace_add(*(const char *)arg);
		fiber_yield();
		assert(fiber_self() == self);
	}
}

START_TEST(yielding_fibers_take_turns)
{
	static char names[] = "abc";

	loops_begin();
	for (unsigned int i = 0; i < 3; i++)
		start(loop, yield_thrice, &names[i]);
	ck_assert_str_eq(trace, "");
	ck_assert_ptr_null(fiber_self());
	for (unsigned int i = 0; i < 4; i++)
		loop_run_once();
	ck_assert_str_eq(trace, "abcabcabc");
	loops_end();
}
END_TEST

static void trace_post(struct loop_post *post)
{
	(void)post;
	assert(fiber_self() == NULL);
	trace_add('p');
}

static void trace_hook(struct loop_hook *hook)
{
	(void)hook;
	assert(fiber_self() == NULL);
	trace_add('h');
}

static void trace_fiber(void *arg)
{
	trace_add(*(const char *)arg);
}

static void yield_between(void *arg)
{
	static char other[] = "o";

	trace_add('1');
	loop_post(loop, arg);
	start(loop, trace_fiber, other);
	fiber_yield();
	trace_add('2');
}

START_TEST(yield_lets_events_and_fibers_run)
{
	struct loop_post post = { .run = trace_post };
	struct loop_hook hook = { .run = trace_hook };

	loops_begin();
	loop_hook_add(loop, LOOP_STAGE_STORE, &hook);
	start(loop, yield_between, &post);
	loop_run_once();
	loop_run_once();
	ck_assert_str_eq(trace, "1ohp2h");
	loop_hook_remove(loop, LOOP_STAGE_STORE, &hook);
	loops_end();
}
END_TEST

static struct fiber_queue queue;

static void wait_and_trace(void *arg)
{
	fiber_wait(&queue, NULL);
	trace_add(*(const char *)arg);
}

START_TEST(waiters_wake_first_come_first_served)
{
	static char names[] = "abcd";

	loops_begin();
	fiber_wake_one(&queue);
	fiber_wake_all(&queue);
	for (unsigned int i = 0; i < 4; i++)
		start(loop, wait_and_trace, &names[i]);
	loop_run_once();
	ck_assert_str_eq(trace, "");
	fiber_wake_one(&queue);
	fiber_wake_one(&queue);
	loop_run_once();
	ck_assert_str_eq(trace, "ab");
	fiber_wake_all(&queue);
	loop_run_once();
	ck_assert_str_eq(trace, "abcd");
	ck_assert_ptr_null(queue.first);
	loops_end();
}
END_TEST

static void wait_short(void *arg)
{
	uint64_t at_ns = clock_ns() + NSEC_PER_MSEC;
	int err = fiber_wait_until(&queue, NULL, at_ns);

	(void)arg;
	assert(err == -ETIMEDOUT);
	assert(clock_ns() >= at_ns);
	trace_add('t');
	assert(fiber_wait_until(&queue, NULL, 0) == -ETIMEDOUT); /* long past */
	trace_add('p');
	fiber_wake_one(&queue);
	loop_stop(loop);
}

static void wait_long(void *arg)
{
	int err = fiber_wait_until(&queue, NULL, UINT64_MAX);

	(void)arg;
	assert(err == 0);
	trace_add('w');
}

/* The one that times out first stands before and behind others in the queue. */
START_TEST(waiting_ends_by_time_or_wake)
{
	loops_begin();
	start(loop, wait_long, NULL);
	start(loop, wait_short, NULL);
	start(loop, wait_long, NULL);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_str_eq(trace, "tpw");
	fiber_wake_all(&queue);
	loop_run_once();
	ck_assert_str_eq(trace, "tpww");
	loops_end();
}
END_TEST

static void wait_race(void *arg)
{
	(void)arg;
	assert(fiber_wait_until(&queue, NULL, clock_ns() + 1) == 0);
	trace_add('w');
	fiber_yield();
	fiber_sleep_ms(1);
	trace_add('e');
	loop_stop(loop);
}

static void wake_hook(struct loop_hook *hook)
{
	(void)hook;
	fiber_wake_all(&queue);
}

/* A hook wakes it; the timer is due before it runs. It stays woken, and the timer does not come later. */
START_TEST(woken_fiber_is_not_timed_out)
{
	struct loop_hook hook = { .run = wake_hook };

	loops_begin();
	loop_hook_add(loop, LOOP_STAGE_SEND, &hook);
	start(loop, wait_race, NULL);
	loop_run_once();
	loop_hook_remove(loop, LOOP_STAGE_SEND, &hook);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_str_eq(trace, "we");
	loops_end();
}
END_TEST

static uint64_t bedtime_ns;

/* From one and the same time on: a busy machine may start one of them long after another. */
static void sleep_ms(void *arg)
{
	const char *name = arg;
	unsigned int ms = (unsigned int)(*name - 'a') * 2 + 1;
	uint64_t at_ns = bedtime_ns + ms * NSEC_PER_MSEC;

	fiber_sleep_until(at_ns);
	assert(clock_ns() >= at_ns);
	trace_add(*name);
	if (*name == 'c')
		loop_stop(loop);
}

START_TEST(sleepers_rise_in_order)
{
	static char names[] = "bca";

	loops_begin();
	bedtime_ns = clock_ns();
	for (unsigned int i = 0; i < 3; i++)
		start(loop, sleep_ms, &names[i]);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_str_eq(trace, "abc");
	loops_end();
}
END_TEST

/* --- stacks ------------------------------------------------------------------------------------------------------- */

#define FRAME_SIZE 1024

static unsigned int recurse(unsigned int depth)
{
	volatile unsigned char frame[FRAME_SIZE];
	unsigned int sum = 0;

	for (unsigned int i = 0; i < sizeof(frame); i++)
		frame[i] = (unsigned char)depth;
	if (depth > 0)
		sum = recurse(depth - 1);
	else
		fiber_yield();
	for (unsigned int i = 0; i < sizeof(frame); i++)
		assert(frame[i] == (depth & 0xff));
	return sum + frame[0];
}

static void recurse_deep(void *arg)
{
	unsigned int depth = FIBER_STACK_SIZE / FRAME_SIZE * 3 / 4;

	(void)arg;
	assert(recurse(depth) > 0);
	trace_add('r');
}

START_TEST(stacks_hold_deep_recursion)
{
	loops_begin();
	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < 10; i++)
			start(loop, recurse_deep, NULL);
		loop_run_once();
		loop_run_once();
	}
	ck_assert_uint_eq(strlen(trace), 30);
	loops_end();
}
END_TEST

/* ThreadSanitizer knows some 8000 fibers at most. */
#define ALIVE (TSAN ? 3000U : 10000U)

static unsigned int alive_now, alive_done;

static void alive_main(void *arg)
{
	unsigned int number = *(const unsigned int *)arg;
	char text[32];

	alive_now++;
	snprintf(text, sizeof(text), "fiber %u", number);
	for (unsigned int i = 0; i < 3; i++) {
		unsigned int read;

		fiber_wait(&queue, NULL);
		assert(sscanf(text, "fiber %u", &read) == 1 && read == number);
		if (number % 3 == 0)
			fiber_yield();
	}
	alive_now--;
	alive_done++;
}

/* More than the pool keeps; each knows its own when it goes on. */
START_TEST(ten_thousand_fibers_live)
{
	static unsigned int numbers[10000];

	loops_begin();
	for (unsigned int round = 1; round <= 2; round++) {
		for (unsigned int i = 0; i < ALIVE; i++) {
			numbers[i] = i;
			start(loop, alive_main, &numbers[i]);
		}
		for (unsigned int i = 0; i < 3; i++) {
			loop_run_once();
			loop_run_once();
			ck_assert_uint_eq(alive_now, ALIVE);
			fiber_wake_all(&queue);
		}
		loop_run_once();
		loop_run_once();
		ck_assert_uint_eq(alive_now, 0);
		ck_assert_uint_eq(alive_done, round * ALIVE);
	}
	loops_end();
}
END_TEST

static void count_and_start(void *arg)
{
	unsigned int *left = arg;

	if (--*left > 0)
		start(loop, count_and_start, left);
	else
		loop_stop(loop);
}

START_TEST(fibers_start_fibers)
{
	unsigned int left = 100000;

	loops_begin();
	start(loop, count_and_start, &left);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(left, 0);
	loops_end();
}
END_TEST

/* --- two loops ---------------------------------------------------------------------------------------------------- */

#define SERVES 50000 /* each side */

static struct {
	pthread_mutex_t mutex;
	struct fiber_queue queues[LOOPS];
	unsigned int turn;
	unsigned int hits;
} table = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static void play(void *arg)
{
	unsigned int side = *(const unsigned int *)arg;

	for (unsigned int i = 0; i < SERVES; i++) {
		lock(&table.mutex);
		while (table.turn != side)
			fiber_wait(&table.queues[side], &table.mutex);
		assert(table.hits++ == i * LOOPS + side);
		table.turn = !side;
		fiber_wake_one(&table.queues[!side]);
		unlock(&table.mutex);
	}
	assert(loop_current() == loops[side]);
	loop_stop(loops[side]);
}

START_TEST(ping_pong_of_two_loops)
{
	static unsigned int sides[LOOPS] = { 0, 1 };

	loops_begin();
	for (unsigned int i = 0; i < LOOPS; i++)
		start(loops[i], play, &sides[i]);
	loops_run();
	ck_assert_uint_eq(table.hits, SERVES * LOOPS);
	loops_end();
}
END_TEST

/*
 * Time against wake-ups: fibers of two loops wait up to some microseconds in one queue, while two threads without a
 * loop and a fiber of each loop wake. Every wake-up must be received by exactly one wait, and none may come late: the
 * fibers overwrite the stack of the wait at once, and end and begin anew, on each other's stacks, all the time.
 */
#define RACERS       16 /* per loop, at a time */
#define RACE_LIVES   (TSAN ? 60 : 300)
#define RACE_WAITS   20
#define RACE_WAKERS  2
#define RACE_STRETCH 20000 /* ns */

static struct {
	pthread_mutex_t mutex;
	struct fiber_queue queue;
	uint64_t wakes;
	uint64_t woken, timed_out;
	unsigned int racing;
	uint32_t seed;
} race = { .mutex = PTHREAD_MUTEX_INITIALIZER };

struct racer {
	struct loop *loop;
	uint32_t random;
	unsigned int lives;
};

static __attribute__((noinline)) void stack_scribble(void)
{
	volatile unsigned char junk[2048];

	for (unsigned int i = 0; i < sizeof(junk); i++)
		junk[i] = 0xa5;
	for (unsigned int i = 0; i < sizeof(junk); i++)
		assert(junk[i] == 0xa5);
}

static void race_live(void *arg)
{
	struct racer *racer = arg;

	for (unsigned int i = 0; i < RACE_WAITS; i++) {
		uint64_t wait_ns = random_next(&racer->random) % RACE_STRETCH;
		int err;

		lock(&race.mutex);
		err = fiber_wait_until(&race.queue, &race.mutex, clock_ns() + wait_ns);
		if (err == 0)
			race.woken++;
		else
			race.timed_out++;
		unlock(&race.mutex);
		stack_scribble();
		if (random_next(&racer->random) % 4 == 0)
			fiber_yield();
	}
	if (--racer->lives > 0) {
		start(racer->loop, race_live, racer);
		return;
	}
	lock(&race.mutex);
	race.racing--;
	unlock(&race.mutex);
}

/* Returns whether there is anybody left to wake. */
static bool race_wake(uint32_t *random)
{
	bool racing;

	lock(&race.mutex);
	if (random_next(random) % 8 == 0) {
		while (race.queue.first) {
			fiber_wake_one(&race.queue);
			race.wakes++;
		}
	} else if (race.queue.first) {
		fiber_wake_one(&race.queue);
		race.wakes++;
	}
	racing = race.racing > 0;
	unlock(&race.mutex);
	return racing;
}

static void race_wake_fiber(void *arg)
{
	struct racer *racer = arg;

	while (race_wake(&racer->random))
		fiber_sleep_until(clock_ns() + random_next(&racer->random) % RACE_STRETCH);
	loop_stop(racer->loop);
}

static void *race_wake_thread(void *arg)
{
	uint32_t random = race.seed + *(const unsigned int *)arg;

	while (race_wake(&random)) {
		uint64_t until_ns = clock_ns() + random_next(&random) % RACE_STRETCH;

		while (clock_ns() < until_ns)
			sched_yield();
	}
	return NULL;
}

START_TEST(timeouts_and_wakes_race)
{
	static struct racer racers[LOOPS][RACERS + 1];
	static unsigned int numbers[RACE_WAKERS] = { 1, 2 };
	pthread_t wakers[RACE_WAKERS];

	race.seed = (uint32_t)clock_ns() | 1;
	printf("timeouts_and_wakes_race: seed %u\n", race.seed);
	race.racing = LOOPS * RACERS;
	loops_begin();
	for (unsigned int i = 0; i < LOOPS; i++) {
		for (unsigned int k = 0; k <= RACERS; k++) {
			racers[i][k] = (struct racer){ .loop = loops[i],
						       .random = race.seed * (i * 100 + k + 3) | 1,
						       .lives = RACE_LIVES };
			start(loops[i], k < RACERS ? race_live : race_wake_fiber, &racers[i][k]);
		}
	}
	for (unsigned int i = 0; i < RACE_WAKERS; i++)
		ck_assert_int_eq(pthread_create(&wakers[i], NULL, race_wake_thread, &numbers[i]), 0);
	loops_run();
	for (unsigned int i = 0; i < RACE_WAKERS; i++)
		pthread_join(wakers[i], NULL);

	ck_assert_uint_eq(race.woken, race.wakes);
	ck_assert_uint_eq(race.woken + race.timed_out, LOOPS * RACERS * RACE_LIVES * RACE_WAITS);
	ck_assert_uint_gt(race.woken, 0);
	ck_assert_uint_gt(race.timed_out, 0);
	ck_assert_ptr_null(race.queue.first);
	loops_end();
}
END_TEST

/* --- the lock ----------------------------------------------------------------------------------------------------- */

static struct fiber_mutex mutex = FIBER_MUTEX_INIT;

static void lock_and_trace(void *arg)
{
	for (unsigned int i = 0; i < 3; i++) {
		fiber_mutex_lock(&mutex);
		trace_add(*(const char *)arg);
		fiber_yield();
		fiber_mutex_unlock(&mutex);
	}
}

/* Who unlocks and locks again at once goes to the end of the queue. */
START_TEST(mutex_is_handed_over_in_order)
{
	static char names[] = "abcd";

	loops_begin();
	for (unsigned int i = 0; i < 4; i++)
		start(loop, lock_and_trace, &names[i]);
	for (unsigned int i = 0; i < 14; i++)
		loop_run_once();
	ck_assert_str_eq(trace, "abcdabcdabcd");
	ck_assert_ptr_null(mutex.owner);
	loops_end();
}
END_TEST

#define RIVALS      8 /* per loop */
#define RIVAL_LOCKS 1000

static unsigned int rival_count; /* under the lock and nothing else */
static unsigned int rivals_left;
static atomic_uint rival_inside;

static void rival_main(void *arg)
{
	uint32_t random = *(const uint32_t *)arg;

	for (unsigned int i = 0; i < RIVAL_LOCKS; i++) {
		unsigned int count;

		fiber_mutex_lock(&mutex);
		assert(atomic_fetch_add(&rival_inside, 1) == 0);
		count = rival_count;
		if (random_next(&random) % 3 == 0)
			fiber_yield();
		rival_count = count + 1;
		assert(atomic_fetch_sub(&rival_inside, 1) == 1);
		fiber_mutex_unlock(&mutex);
	}

	fiber_mutex_lock(&mutex);
	if (--rivals_left == 0)
		for (unsigned int i = 0; i < LOOPS; i++)
			loop_stop(loops[i]);
	fiber_mutex_unlock(&mutex);
}

START_TEST(mutex_excludes_over_two_loops)
{
	static uint32_t seeds[LOOPS * RIVALS];

	loops_begin();
	rivals_left = LOOPS * RIVALS;
	for (unsigned int i = 0; i < LOOPS * RIVALS; i++) {
		seeds[i] = i + 1;
		start(loops[i % LOOPS], rival_main, &seeds[i]);
	}
	loops_run();
	ck_assert_uint_eq(rival_count, LOOPS * RIVALS * RIVAL_LOCKS);
	ck_assert_ptr_null(mutex.owner);
	loops_end();
}
END_TEST

/* --- programmers' errors ------------------------------------------------------------------------------------------ */

static void locks_twice(void *arg)
{
	(void)arg;
	fiber_mutex_lock(&mutex);
	fiber_mutex_lock(&mutex);
}

static void unlocks_unlocked(void *arg)
{
	(void)arg;
	fiber_mutex_unlock(&mutex);
}

static void locks_and_waits(void *arg)
{
	(void)arg;
	fiber_mutex_lock(&mutex);
	fiber_wait(&queue, NULL);
}

static void unlocks_others(void *arg)
{
	start(loop, locks_and_waits, NULL);
	fiber_yield();
	unlocks_unlocked(arg);
}

static void overflows(void *arg)
{
	(void)arg;
	recurse(8 * FIBER_STACK_SIZE / FRAME_SIZE);
}

static void waits_for_ever(void *arg)
{
	(void)arg;
	fiber_wait(&queue, NULL);
}

static void does_nothing(void *arg)
{
	(void)arg;
}

/* Whether a process dies that runs the fiber a little and frees the loop. */
static bool dies(void (*fn)(void *arg))
{
	struct rlimit no_core = { 0 };
	int status, null;
	pid_t pid;

	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (null < 0 || dup2(null, STDERR_FILENO) < 0 || loop_new(&loop) < 0)
			_exit(EXIT_SUCCESS);
		start(loop, fn, NULL);
		for (unsigned int i = 0; i < 3; i++) {
			loop_stop(loop);
			loop_run(loop);
		}
		loop_free(loop);
		_exit(EXIT_SUCCESS);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return !WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS;
}

START_TEST(programmers_errors_end_the_process)
{
	ck_assert(!dies(does_nothing));
	ck_assert(dies(locks_twice));
	ck_assert(dies(unlocks_unlocked));
	ck_assert(dies(unlocks_others));
	ck_assert(dies(waits_for_ever));
	ck_assert(dies(overflows));
}
END_TEST

UNIT_MAIN("fiber", yielding_fibers_take_turns, yield_lets_events_and_fibers_run, waiters_wake_first_come_first_served,
	  waiting_ends_by_time_or_wake, woken_fiber_is_not_timed_out, sleepers_rise_in_order,
	  stacks_hold_deep_recursion, ten_thousand_fibers_live, fibers_start_fibers, ping_pong_of_two_loops,
	  timeouts_and_wakes_race, mutex_is_handed_over_in_order, mutex_excludes_over_two_loops,
	  programmers_errors_end_the_process)
