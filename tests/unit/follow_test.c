/* Whom a thread follows to which CPU, and when it says that it is busy. */
#include "common/follow.h"
#include "common/loop.h"
#include "tests/unit/unit.h"

#define STEP_NS 50000

/* What a window of requests looks like: every others-th is of another, every together-th comes with the one before. */
struct shape {
	unsigned int others, together, nobodys;
	uint64_t bytes, step_ns;
	unsigned int busy_percent;
};

static struct follow_verdict judge(struct shape shape)
{
	struct follow follow;
	uint64_t now, step_ns = shape.step_ns ? shape.step_ns : STEP_NS;

	follow_begin(&follow);
	now = follow.began_ns;
	for (unsigned int i = 1; i <= FOLLOW_WINDOW; i++) {
		uint64_t whom = 7;

		if (shape.others && i % shape.others == 0)
			whom = 8;
		if (shape.nobodys && i % shape.nobodys == 0)
			whom = 0;
		if (shape.together == 0 || i % shape.together != 0)
			now += step_ns;
		if (follow_note(&follow, whom, shape.bytes, now))
			break;
		ck_assert_uint_lt(i, FOLLOW_WINDOW);
	}
	return follow_judge(&follow, now, follow.cpu_ns + (now - follow.began_ns) * shape.busy_percent / 100);
}

START_TEST(who_asks_alone_is_followed)
{
	ck_assert_uint_eq(judge((struct shape){ .bytes = 100, .busy_percent = 40 }).whom, 7);
	ck_assert_uint_eq(judge((struct shape){ .bytes = 32 * 1024 }).whom, 7);
	ck_assert_uint_eq(judge((struct shape){ .others = 16 }).whom, 7);
	ck_assert_uint_eq(judge((struct shape){ .together = 16 }).whom, 7);
	/* What the kernel sends of its own counts for nobody, and with nobody. */
	ck_assert_uint_eq(judge((struct shape){ .nobodys = 3 }).whom, 7);
	ck_assert_uint_eq(judge((struct shape){ .nobodys = 3, .together = 3 }).whom, 7);
	ck_assert_uint_eq(judge((struct shape){ .nobodys = 1 }).whom, 0);
}
END_TEST

START_TEST(nobody_is_followed_where_both_could_run)
{
	ck_assert_uint_eq(judge((struct shape){ .others = 2 }).whom, 0);
	ck_assert_uint_eq(judge((struct shape){ .together = 2 }).whom, 0);
	ck_assert_uint_eq(judge((struct shape){ .bytes = 33 * 1024 }).whom, 0);
	ck_assert_uint_eq(judge((struct shape){ .busy_percent = 80 }).whom, 0);
	ck_assert_uint_eq(judge((struct shape){ .step_ns = 10 * NSEC_PER_MSEC }).whom, 0);
	ck_assert_uint_eq(judge((struct shape){ .step_ns = NSEC_PER_SEC }).whom, 0);
}
END_TEST

START_TEST(who_runs_most_of_the_time_is_busy)
{
	ck_assert(judge((struct shape){ .busy_percent = 75 }).busy);
	ck_assert(judge((struct shape){ .busy_percent = 75, .others = 2, .bytes = 1 << 20 }).busy);
	ck_assert(!judge((struct shape){ .busy_percent = 65 }).busy);
}
END_TEST

START_TEST(a_window_is_short)
{
	struct follow follow;

	follow_begin(&follow);
	ck_assert(!follow_note(&follow, 7, 0, follow.began_ns));
	ck_assert(follow_note(&follow, 7, 0, follow.began_ns + NSEC_PER_SEC));
}
END_TEST

static int cpu_first(const cpu_set_t *cpus)
{
	int cpu = 0;

	while (!CPU_ISSET((size_t)cpu, cpus))
		cpu++;
	return cpu;
}

START_TEST(it_goes_there_and_comes_back)
{
	struct follow follow;
	cpu_set_t cpus, now;
	int cpu;

	follow_begin(&follow);
	cpus = follow.cpus;
	ck_assert_int_gt(CPU_COUNT(&cpus), 0);
	cpu = cpu_first(&cpus);

	follow_to(&follow, cpu);
	ck_assert_int_eq(sched_getaffinity(0, sizeof(now), &now), 0);
	ck_assert_int_eq(CPU_COUNT(&now), 1);
	ck_assert_int_eq(cpu_first(&now), cpu);

	/* One that it may not run on, and none. */
	CPU_CLR((size_t)cpu, &follow.cpus);
	follow_to(&follow, cpu);
	ck_assert_int_eq(follow.cpu, -1);
	follow.cpus = cpus;
	follow_to(&follow, cpu);
	follow_to(&follow, -1);
	ck_assert_int_eq(sched_getaffinity(0, sizeof(now), &now), 0);
	ck_assert(CPU_EQUAL(&now, &cpus));
	follow_to(&follow, CPU_SETSIZE);
	ck_assert_int_eq(follow.cpu, -1);
}
END_TEST

UNIT_MAIN("follow", who_asks_alone_is_followed, nobody_is_followed_where_both_could_run,
	  who_runs_most_of_the_time_is_busy, a_window_is_short, it_goes_there_and_comes_back)
