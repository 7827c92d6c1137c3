/* The order of operations on an object, and the locks that fibers of an OST share. */
#include "oss/fan_out.h"
#include "oss/group_sync.h"
#include "oss/object_queue.h"
#include "oss/share_lock.h"

#include "tests/unit/unit.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* --- object_queue ------------------------------------------------------------------------------------------------------ */

static struct object_op operation(uint64_t start, uint64_t end, bool write, bool direct)
{
	return (struct object_op){ .start = start, .end = end, .write = write, .direct = direct };
}

START_TEST(reads_share_writes_exclude)
{
	struct object_queue queue = { 0 };
	struct object_op a = operation(0, 100, false, false), b = operation(50, 150, false, false),
			 c = operation(90, 95, true, false), d = operation(200, 300, true, false);

	object_queue_add(&queue, &a);
	object_queue_add(&queue, &b);
	object_queue_add(&queue, &c);
	object_queue_add(&queue, &d);
	ck_assert(a.ready && b.ready && !c.ready && d.ready);
	object_queue_remove(&queue, &a, NULL);
	ck_assert(!c.ready);
	object_queue_remove(&queue, &b, NULL);
	ck_assert(c.ready);
	object_queue_remove(&queue, &d, NULL);
	object_queue_remove(&queue, &c, NULL);
	ck_assert(object_queue_is_empty(&queue));
}
END_TEST

START_TEST(nobody_overtakes_who_conflicts)
{
	struct object_queue queue = { 0 };
	struct object_op a = operation(0, 10, false, false), write = operation(0, 10, true, false),
			 late = operation(0, 10, false, false);

	object_queue_add(&queue, &a);
	object_queue_add(&queue, &write);
	object_queue_add(&queue, &late);
	ck_assert(a.ready && !write.ready && !late.ready);
	object_queue_remove(&queue, &a, NULL);
	ck_assert(write.ready && !late.ready);
	/* One that waits may give up. */
	object_queue_remove(&queue, &write, NULL);
	ck_assert(late.ready);
	object_queue_remove(&queue, &late, NULL);
}
END_TEST

START_TEST(direct_and_buffered_never_meet)
{
	struct object_queue queue = { 0 };
	struct object_op a = operation(0, 10, true, true), b = operation(1000, 1010, false, false),
			 c = operation(20, 30, true, true);

	object_queue_add(&queue, &a);
	object_queue_add(&queue, &b);
	object_queue_add(&queue, &c);
	ck_assert(a.ready && !b.ready && !c.ready); /* c waits behind b */
	object_queue_remove(&queue, &a, NULL);
	ck_assert(b.ready && !c.ready);
	object_queue_remove(&queue, &b, NULL);
	ck_assert(c.ready);
	object_queue_remove(&queue, &c, NULL);
}
END_TEST

#define MANY   40
#define ROUNDS 20000

static bool conflict(const struct object_op *a, const struct object_op *b)
{
	return a->direct != b->direct || ((a->write || b->write) && a->start < b->end && b->start < a->end);
}

/* Whatever comes and goes: those who run never conflict, and whoever waits has somebody before it to wait for. */
START_TEST(random_operations_keep_the_rules)
{
	unsigned int seed = (unsigned int)time(NULL);
	struct object_queue queue = { 0 };
	struct object_op ops[MANY];
	bool used[MANY] = { false };

	printf("seed %u\n", seed);
	for (int round = 0; round < ROUNDS; round++) {
		unsigned int i = (unsigned int)rand_r(&seed) % MANY;

		if (used[i] && ops[i].ready) {
			object_queue_remove(&queue, &ops[i], NULL);
			used[i] = false;
		} else if (!used[i]) {
			uint64_t start = (uint64_t)rand_r(&seed) % 100;

			ops[i] = operation(start, start + 1 + (uint64_t)rand_r(&seed) % 20, rand_r(&seed) % 2 == 0,
					   rand_r(&seed) % 5 == 0);
			object_queue_add(&queue, &ops[i]);
			used[i] = true;
		}
		for (struct object_op *a = queue.first; a; a = a->next) {
			bool blocked = false;

			for (struct object_op *b = queue.first; b != a; b = b->next)
				blocked |= conflict(a, b);
			ck_assert_msg(a->ready == !blocked, "seed printed above, round %d", round);
		}
	}
}
END_TEST

/* --- fibers ------------------------------------------------------------------------------------------------------------ */

static struct loop *loop;
static char trace[64];
static unsigned int living;

static void add(char letter)
{
	size_t n = strlen(trace);

	assert(n + 1 < sizeof(trace));
	trace[n] = letter;
	trace[n + 1] = '\0';
}

static void spawn(void (*fn)(void *arg), void *arg)
{
	int err = fiber_start(loop, fn, arg);

	assert(err == 0);
	living++;
}

static void ended(void)
{
	if (--living == 0)
		loop_stop(loop);
}

static void run_loop(void)
{
	ck_assert_int_eq(loop_run(loop), 0);
	loop = loop_free(loop);
}

static struct share_lock lock;

static void reader(void *arg)
{
	share_lock_shared(&lock);
	add(*(const char *)arg);
	fiber_yield();
	share_unlock_shared(&lock);
	ended();
}

static void writer(void *arg)
{
	share_lock_exclusive(&lock);
	assert(lock.shared == 0);
	add(*(const char *)arg);
	fiber_yield();
	assert(lock.shared == 0 && lock.exclusive);
	share_unlock_exclusive(&lock);
	ended();
}

START_TEST(share_lock_serves_in_order)
{
	static char names[] = "abWcXd";

	ck_assert_int_eq(loop_new(&loop), 0);
	trace[0] = '\0';
	for (size_t i = 0; i < strlen(names); i++)
		spawn(names[i] >= 'a' ? reader : writer, &names[i]);
	run_loop();
	ck_assert_str_eq(trace, "abWcXd");
	ck_assert(share_lock_is_free(&lock));
}
END_TEST

static struct group_sync group;
static unsigned int rounds;
static int round_errors[8];

static int one_round(void *arg)
{
	unsigned int round = rounds++;

	(void)arg;
	for (unsigned int i = 0; i < 16; i++) /* longer than it takes all to come, on any machine */
		fiber_yield();

	return round_errors[round];
}

static void syncer(void *arg)
{
	*(int *)arg = group_sync_run(&group, one_round, NULL);
	ended();
}

static void late_syncers(void *arg)
{
	int *results = arg;

	fiber_yield(); /* round 1 runs */
	assert(rounds == 1);
	for (int i = 1; i < 5; i++)
		spawn(syncer, &results[i]);
	ended();
}

START_TEST(syncs_are_shared_but_not_with_those_before)
{
	int results[5] = { 1, 1, 1, 1, 1 };

	ck_assert_int_eq(loop_new(&loop), 0);
	round_errors[1] = -EIO;
	spawn(syncer, &results[0]);
	spawn(late_syncers, results);
	run_loop();
	ck_assert_uint_eq(rounds, 2);
	ck_assert_int_eq(results[0], 0);
	for (int i = 1; i < 5; i++)
		ck_assert_int_eq(results[i], -EIO);
}
END_TEST

static unsigned int at_once, most, done;

static int fan_job(void *arg, size_t i)
{
	(void)arg;
	if (++at_once > most)
		most = at_once;
	fiber_yield();
	at_once--;
	done++;

	return i == 3 ? -ENOENT : i == 7 ? -EIO : 0;
}

static void fan_main(void *arg)
{
	(void)arg;
	assert(fan_out(loop, 0, 4, fan_job, NULL) == 0);
	assert(fan_out(loop, 20, 4, fan_job, NULL) == -ENOENT);
	ended();
}

START_TEST(fan_out_does_all_with_bounded_width)
{
	ck_assert_int_eq(loop_new(&loop), 0);
	spawn(fan_main, NULL);
	run_loop();
	ck_assert_uint_eq(done, 20);
	ck_assert_uint_eq(most, 4);
}
END_TEST

UNIT_MAIN("ost_queue", reads_share_writes_exclude, nobody_overtakes_who_conflicts, direct_and_buffered_never_meet,
	  random_operations_keep_the_rules, share_lock_serves_in_order, syncs_are_shared_but_not_with_those_before,
	  fan_out_does_all_with_bounded_width)
