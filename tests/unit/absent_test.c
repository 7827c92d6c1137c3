/* Names that are surely not there: what makes them known, and what makes that known no more. */
#include "client/absent.h"

#include "common/loop.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>

#define MS    NSEC_PER_MSEC
#define NOW   (UINT64_C(1000) * MS)
#define UNTIL (NOW + 50 * MS)
#define DIR   7
#define SLOTS (1u << 16)
#define NAMES (SLOTS / 4) /* that fit into half of them */

static bool is_absent(struct absent *absent, const char *name)
{
	return absent_is(absent, DIR, name, strlen(name), NOW);
}

/* The directory goes from version to version + 1. */
static void change(struct absent *absent, uint64_t version, const char *came, const char *gone, uint64_t until_ns)
{
	absent_changed(absent,
		       &(struct absent_change){
			       .dir = DIR,
			       .version_before = version,
			       .version = version + 1,
			       .alone_until_ns = until_ns,
			       .came = came,
			       .gone = gone,
			       .came_len = came ? strlen(came) : 0,
			       .gone_len = gone ? strlen(gone) : 0,
		       },
		       NOW);
}

START_TEST(a_new_directory)
{
	struct absent *absent = absent_new(SLOTS);
	char longest[257];

	absent_made(absent, DIR, 1, NOW);
	ck_assert(!is_absent(absent, "a")); /* others may add names */
	change(absent, 1, "a", NULL, 0);
	ck_assert(!is_absent(absent, "b"));
	change(absent, 2, "b", NULL, UNTIL);
	ck_assert(!is_absent(absent, "a"));
	ck_assert(!is_absent(absent, "b"));
	ck_assert(is_absent(absent, "c"));
	ck_assert(!absent_is(absent, DIR + 1, "c", 1, NOW));
	ck_assert(absent_is(absent, DIR, "c", 1, UNTIL - 1));
	ck_assert(!absent_is(absent, DIR, "c", 1, UNTIL));

	change(absent, 3, "c", "a", UNTIL);
	ck_assert(is_absent(absent, "a"));
	ck_assert(!is_absent(absent, "c"));

	/* These are none of its names, and what cannot be a name is refused by others. */
	ck_assert(!is_absent(absent, "."));
	ck_assert(!is_absent(absent, ".."));
	ck_assert(is_absent(absent, "..."));
	memset(longest, 'x', sizeof(longest));
	ck_assert(absent_is(absent, DIR, longest, 255, NOW));
	ck_assert(!absent_is(absent, DIR, longest, 256, NOW));
	ck_assert(!absent_is(absent, DIR, longest, 0, NOW));
	absent_free(absent);
}
END_TEST

START_TEST(others_have_changed_it)
{
	struct absent *absent = absent_new(SLOTS);

	absent_made(absent, DIR, 1, NOW);
	change(absent, 1, "a", NULL, UNTIL);
	ck_assert(is_absent(absent, "b"));
	change(absent, 3, "c", NULL, UNTIL); /* 2 to 3 was not ours */
	ck_assert(!is_absent(absent, "b"));
	change(absent, 4, "d", NULL, UNTIL);
	ck_assert(!is_absent(absent, "b"));
	absent_free(absent);
}
END_TEST

START_TEST(it_is_read_when_that_is_worth_it)
{
	struct absent *absent = absent_new(SLOTS);
	uint64_t ticket;

	change(absent, 1, "a", NULL, UNTIL);
	for (int i = 1; i < ABSENT_MISSES; i++)
		ck_assert(!absent_missed(absent, DIR, NOW));
	ck_assert(!absent_missed(absent, DIR, UNTIL)); /* others may add names then */
	ck_assert(absent_missed(absent, DIR, NOW));
	ticket = absent_reading(absent, DIR);
	ck_assert_uint_ne(ticket, 0);
	ck_assert_uint_eq(absent_reading(absent, DIR), 0); /* one does */
	ck_assert(!absent_missed(absent, DIR, NOW));

	ck_assert(absent_read(absent, DIR, ticket, "a", 1));
	ck_assert(!is_absent(absent, "z"));
	change(absent, 2, "b", NULL, UNTIL); /* where it was read already */
	absent_all_read(absent, DIR, ticket, true);
	ck_assert(!is_absent(absent, "a"));
	ck_assert(!is_absent(absent, "b"));
	ck_assert(is_absent(absent, "z"));
	ck_assert(!absent_read(absent, DIR, ticket, "z", 1)); /* it is over */
	absent_free(absent);
}
END_TEST

/* Somebody else changes it meanwhile: then what was read is worth nothing, and the next reading begins later. */
START_TEST(it_is_read_in_vain)
{
	struct absent *absent = absent_new(SLOTS);
	uint64_t ticket;
	int missed = 1;

	change(absent, 1, "a", NULL, UNTIL);
	while (!absent_missed(absent, DIR, NOW))
		continue;
	ticket = absent_reading(absent, DIR);
	ck_assert(absent_read(absent, DIR, ticket, "a", 1));
	change(absent, 5, "b", NULL, UNTIL);
	ck_assert(!absent_read(absent, DIR, ticket, "c", 1));
	absent_all_read(absent, DIR, ticket, true);
	ck_assert(!is_absent(absent, "z"));
	while (!absent_missed(absent, DIR, NOW))
		missed++;
	ck_assert_int_eq(missed, 2 * ABSENT_MISSES);

	ticket = absent_reading(absent, DIR);
	absent_all_read(absent, DIR, ticket, false);
	ck_assert(!is_absent(absent, "z"));
	absent_free(absent);
}
END_TEST

START_TEST(there_are_too_many)
{
	struct absent *absent = absent_new(SLOTS);
	char name[16];

	absent_made(absent, DIR, 1, NOW);
	for (uint64_t i = 1; i <= NAMES; i++) {
		snprintf(name, sizeof(name), "%d", (int)i);
		change(absent, i, name, NULL, UNTIL);
	}
	ck_assert(is_absent(absent, "z"));
	change(absent, NAMES + 1, "one more", NULL, UNTIL);
	ck_assert(!is_absent(absent, "z"));
	for (int i = 0; i < 10 * ABSENT_MISSES; i++)
		ck_assert(!absent_missed(absent, DIR, NOW));
	absent_free(absent);
}
END_TEST

/* A large directory is not read for a few that were missed: the more, the more of it. */
START_TEST(a_large_one_is_read_later)
{
	struct absent *absent = absent_new(ABSENT_SLOTS_MAX);
	unsigned int names = 3 * ABSENT_READ_PER_MISS * ABSENT_MISSES, missed = 0, read;
	uint64_t ticket;
	char name[16];

	change(absent, 1, "a", NULL, UNTIL);
	do {
		while (!absent_missed(absent, DIR, NOW))
			missed++;
		ticket = absent_reading(absent, DIR);
		for (read = 0; read < names; read++) {
			snprintf(name, sizeof(name), "%u", read);
			if (!absent_read(absent, DIR, ticket, name, strlen(name)))
				break;
		}
		absent_all_read(absent, DIR, ticket, read == names);
	} while (read < names);
	ck_assert_uint_ge(missed, 6 * ABSENT_MISSES);
	ck_assert_uint_lt(missed, 7 * ABSENT_MISSES);
	ck_assert(!is_absent(absent, "0"));
	ck_assert(is_absent(absent, "z"));
	absent_free(absent);
}
END_TEST

/* What others do not need any more is given up for one that does. */
START_TEST(there_is_so_much_for_all)
{
	struct absent *absent = absent_new(SLOTS);
	uint64_t now_ns = NOW, dir = DIR;
	char name[16];

	for (int large = 0; large < 4; large++, dir++, now_ns += 100 * MS) {
		absent_made(absent, dir, 1, now_ns);
		for (uint64_t i = 1; i <= NAMES; i++) {
			snprintf(name, sizeof(name), "%d", (int)i);
			absent_changed(absent,
				       &(struct absent_change){
					       .dir = dir,
					       .version_before = i,
					       .version = i + 1,
					       .alone_until_ns = now_ns + 50 * MS,
					       .came = name,
					       .came_len = strlen(name),
				       },
				       now_ns);
		}
		ck_assert_msg(absent_is(absent, dir, "z", 1, now_ns), "directory %d", large);
	}
	absent_free(absent);
}
END_TEST

START_TEST(a_change_is_given_up)
{
	struct absent *absent = absent_new(SLOTS);

	absent_made(absent, DIR, 1, NOW);
	change(absent, 1, "a", NULL, NOW + 2 * ABSENT_DOUBT_MS * MS);
	absent_doubt(absent, NOW);
	ck_assert(!absent_is(absent, DIR, "z", 1, NOW));
	ck_assert(!absent_is(absent, DIR, "z", 1, NOW + ABSENT_DOUBT_MS * MS - 1));
	ck_assert(absent_is(absent, DIR, "z", 1, NOW + ABSENT_DOUBT_MS * MS));
	absent_free(absent);
}
END_TEST

START_TEST(all_is_forgotten)
{
	struct absent *absent = absent_new(SLOTS);

	absent_made(absent, DIR, 1, NOW);
	change(absent, 1, "a", NULL, UNTIL);
	absent_forget_all(absent);
	ck_assert(!is_absent(absent, "z"));
	change(absent, 2, "b", NULL, UNTIL);
	ck_assert(!is_absent(absent, "z"));
	absent_free(absent);
}
END_TEST

/* A directory in use keeps its place; when its time is over another gets it. */
START_TEST(a_place_that_is_taken)
{
	struct absent *absent = absent_new(SLOTS);
	unsigned int known = 0;

	absent_made(absent, DIR, 1, NOW);
	change(absent, 1, "a", NULL, UNTIL);
	for (uint64_t dir = DIR + 1; dir < DIR + 100 * ABSENT_DIRS; dir++) {
		absent_made(absent, dir, 1, NOW);
		absent_changed(absent,
			       &(struct absent_change){
				       .dir = dir, .version_before = 1, .version = 2, .alone_until_ns = UNTIL },
			       NOW);
		known += absent_is(absent, dir, "z", 1, NOW);
		ck_assert(is_absent(absent, "z"));
	}
	ck_assert_uint_eq(known, ABSENT_DIRS - 1);
	for (uint64_t dir = DIR + 1; dir < DIR + 100 * ABSENT_DIRS; dir++)
		absent_made(absent, dir, 1, UNTIL);
	ck_assert(!is_absent(absent, "z"));
	absent_free(absent);
}
END_TEST

/* As many names come and go as it takes to fill and empty the table in every way. */
START_TEST(names_come_and_go)
{
	enum { COUNT = 3000 };
	struct absent *absent = absent_new(SLOTS);
	bool there[COUNT] = { false };
	unsigned int seed = 1;
	uint64_t version = 1;
	char name[16];

	absent_made(absent, DIR, version, NOW);
	for (int step = 0; step < 60000; step++) {
		int i = rand_r(&seed) % COUNT;
		bool come = rand_r(&seed) % 1000 < (step / 10000 % 2 ? 200 : 800);

		snprintf(name, sizeof(name), "n%d", i);
		change(absent, version++, come ? name : NULL, come ? NULL : name, UNTIL);
		there[i] = come;
		i = rand_r(&seed) % COUNT;
		snprintf(name, sizeof(name), "n%d", i);
		ck_assert_msg(is_absent(absent, name) == !there[i], "step %d, name %d", step, i);
	}
	for (int i = 0; i < COUNT; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		ck_assert(is_absent(absent, name) == !there[i]);
	}
	absent_free(absent);
}
END_TEST

UNIT_MAIN("absent", a_new_directory, others_have_changed_it, it_is_read_when_that_is_worth_it, it_is_read_in_vain,
	  there_are_too_many, a_large_one_is_read_later, there_is_so_much_for_all, a_change_is_given_up,
	  all_is_forgotten, a_place_that_is_taken, names_come_and_go)
