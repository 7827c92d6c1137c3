/* What stat-ahead keeps: what it tells, what it does not tell any more, and when it fetches. */
#include "client/layouts.h"
#include "client/stat_store.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>

#define DIR UINT64_C(77)
#define MS  NSEC_PER_MSEC

static const struct uuid key = { .bytes = "always the same" };
static struct stat_store *store;
static uint64_t now;

static void set_up(void)
{
	now = 1000 * NSEC_PER_SEC;
	store = stat_store_new(STAT_STORE_BYTES, &key);
	ck_assert_ptr_nonnull(store);
}

static void tear_down(void)
{
	store = stat_store_free(store);
}

static bool asked(uint64_t dir, const char *name)
{
	return stat_store_asked(store, dir, name, strlen(name), true, now);
}

/* So many lookups, one after the other; how many of them it takes to begin a fetch, 0: none has. */
static unsigned int lookups(uint64_t dir, unsigned int count)
{
	for (unsigned int i = 1; i <= count; i++)
		if (asked(dir, "someone"))
			return i;
	return 0;
}

/* Files first, first + 1, ... whose inodes have these numbers. */
static bool put(uint64_t dir, uint64_t mark, unsigned int first, unsigned int count)
{
	struct stat_page *page = stat_page_new(count, count * 16, mark, now);
	char name[16];

	ck_assert_ptr_nonnull(page);
	for (unsigned int i = first; i < first + count; i++) {
		struct attr attr = { .ino = i, .mode = S_IFREG, .size = i, .version = 5, .layout = &layout_none };

		snprintf(name, sizeof(name), "f%u", i);
		stat_page_add(page, store, name, strlen(name), &attr);
	}
	return stat_store_put(store, dir, page);
}

static bool find(uint64_t dir, unsigned int i, struct stat_found *ret_found)
{
	char name[16];

	snprintf(name, sizeof(name), "f%u", i);
	return stat_store_find(store, dir, name, strlen(name), now - NSEC_PER_SEC, ret_found);
}

static bool has(unsigned int i)
{
	struct stat_found found;
	bool is = find(DIR, i, &found);

	ck_assert(!is || (found.attr.ino == i && found.attr.size == i && stat_store_holds(store, &found)));
	return is;
}

static void fetched(unsigned int count)
{
	ck_assert_uint_eq(lookups(DIR, STAT_LOOKUPS), STAT_LOOKUPS);
	ck_assert(put(DIR, stat_store_mark(store), 1, count));
}

START_TEST(what_was_fetched_is_found_for_its_time)
{
	struct stat_found found;

	set_up();
	ck_assert(!has(1));
	fetched(100);
	ck_assert(put(DIR, stat_store_mark(store), 101, 3000)); /* more than there are buckets */
	for (unsigned int i = 1; i <= 3100; i++)
		ck_assert(has(i));
	ck_assert(!has(3101));
	ck_assert(!stat_store_find(store, DIR, "f1x", 3, 0, &found));
	ck_assert(!find(DIR + 1, 1, &found));
	now += NSEC_PER_SEC - 1;
	ck_assert(has(7));
	ck_assert(find(DIR, 7, &found));
	ck_assert_uint_eq(found.asked_ns, 1000 * NSEC_PER_SEC);
	now++;
	ck_assert(!has(7));
	stat_store_end(store, DIR, now);
	now -= 2;
	ck_assert(!has(7));
	ck_assert(!stat_store_holds(store, &found));
	tear_down();
}
END_TEST

START_TEST(what_is_learned_counts_for_what_was_asked_before)
{
	struct stat_found found, other;
	uint64_t mark;

	set_up();
	fetched(100);
	ck_assert(find(DIR, 1, &found) && find(DIR, 2, &other));
	mark = stat_store_mark(store);
	stat_store_name_changed(store, DIR, "f1", 2);
	ck_assert(!has(1) && !stat_store_holds(store, &found));
	ck_assert(has(2) && stat_store_holds(store, &other));
	stat_store_name_changed(store, DIR + 1, "f2", 2); /* elsewhere */
	ck_assert(has(2));
	stat_store_ino_changed(store, 3);
	ck_assert(!has(3) && has(4));
	ck_assert(!asked(DIR, "f4")); /* the MDT has said how it is since */
	ck_assert(!has(4));
	ck_assert(!stat_store_asked(store, DIR, "f5", 2, false, now)); /* ... that it is not there */
	ck_assert(!has(5));

	/* A page that was on its way meanwhile; and one that was not. */
	ck_assert(put(DIR, mark, 1, 10));
	ck_assert(!has(1) && !has(3) && !has(4) && !has(5) && has(6));
	stat_store_end(store, DIR, now);
	ck_assert_uint_eq(lookups(DIR, STAT_LOOKUPS_AGAIN), 0); /* little was used */
	now += STAT_PAUSE_S * NSEC_PER_SEC;
	fetched(10);
	for (unsigned int i = 1; i <= 10; i++)
		ck_assert(has(i));

	mark = stat_store_mark(store);
	stat_store_dir_changed(store, DIR + 1);
	ck_assert(has(6));
	stat_store_dir_changed(store, DIR);
	ck_assert(!has(6));
	ck_assert(put(DIR, mark, 20, 1) && !has(20));
	ck_assert(put(DIR, stat_store_mark(store), 21, 1) && has(21));
	mark = stat_store_mark(store);
	ck_assert(find(DIR, 21, &found));
	stat_store_void(store);
	ck_assert(!has(21) && !stat_store_holds(store, &found));
	ck_assert(put(DIR, mark, 22, 1) && !has(22));
	ck_assert(put(DIR, stat_store_mark(store), 23, 1) && has(23));
	tear_down();
}
END_TEST

START_TEST(many_lookups_within_a_second_begin_a_fetch)
{
	set_up();
	for (unsigned int i = 0; i < 10 * STAT_LOOKUPS; i++) {
		ck_assert(!asked(DIR, "x"));
		now += NSEC_PER_SEC / (STAT_LOOKUPS - 1) + 1;
	}
	now += NSEC_PER_SEC;
	for (unsigned int i = 0; i < 10 * STAT_LOOKUPS; i++) /* what is no file, or is not there, does not count */
		ck_assert(!stat_store_asked(store, DIR, "x", 1, false, now));
	for (uint64_t dir = 1; dir <= 1000; dir++)
		ck_assert_uint_eq(lookups(dir, STAT_LOOKUPS - 1), 0);
	ck_assert_uint_eq(lookups(DIR, STAT_LOOKUPS), STAT_LOOKUPS);
	ck_assert_uint_eq(lookups(DIR, 10 * STAT_LOOKUPS), 0); /* it is being fetched */

	/* It was worth it: then it takes fewer, for a while. */
	ck_assert(put(DIR, stat_store_mark(store), 1, 2 * STAT_WORTH));
	ck_assert(has(1) && has(2));
	now += NSEC_PER_SEC;
	stat_store_end(store, DIR, now);
	now += NSEC_PER_SEC / 2;
	ck_assert_uint_eq(lookups(DIR, STAT_LOOKUPS), STAT_LOOKUPS_AGAIN);
	ck_assert(put(DIR, stat_store_mark(store), 1, 1) && has(1));
	stat_store_end(store, DIR, now);
	now += NSEC_PER_SEC;
	ck_assert_uint_eq(lookups(DIR, STAT_LOOKUPS), STAT_LOOKUPS);
	tear_down();
}
END_TEST

START_TEST(what_is_not_used_is_fetched_ever_more_seldom)
{
	uint64_t pause_s = STAT_PAUSE_S;

	set_up();
	for (unsigned int round = 0; round < 10; round++) {
		fetched(STAT_WORTH + 1);
		ck_assert(has(1) && has(1)); /* one of too many, be it asked for twice */
		stat_store_end(store, DIR, now);
		now += pause_s * NSEC_PER_SEC - 1;
		ck_assert_uint_eq(lookups(DIR, 10 * STAT_LOOKUPS), 0);
		now += NSEC_PER_SEC;
		pause_s = pause_s < STAT_PAUSE_MAX_S ? 2 * pause_s : pause_s;
	}
	ck_assert_uint_eq(pause_s, STAT_PAUSE_MAX_S);
	now += NSEC_PER_SEC;
	fetched(STAT_WORTH);
	ck_assert(has(1));
	stat_store_end(store, DIR, now);
	now += NSEC_PER_SEC;
	ck_assert_uint_eq(lookups(DIR, STAT_LOOKUPS), STAT_LOOKUPS);
	stat_store_end(store, DIR, now); /* it could not be read: nothing was used */
	now += NSEC_PER_SEC;
	ck_assert_uint_eq(lookups(DIR, STAT_LOOKUPS), 0);
	tear_down();
}
END_TEST

START_TEST(a_large_directory_is_fetched_as_lookups_come)
{
	unsigned int count = STAT_FREE_ENTRIES;

	set_up();
	ck_assert(!stat_store_goes_on(store, DIR));
	ck_assert_uint_eq(lookups(DIR, STAT_LOOKUPS), STAT_LOOKUPS);
	ck_assert(stat_store_goes_on(store, DIR));
	ck_assert(put(DIR, stat_store_mark(store), 1, count - 1) && stat_store_goes_on(store, DIR));
	ck_assert(put(DIR, stat_store_mark(store), count, 1) && !stat_store_goes_on(store, DIR));
	ck_assert(has(1) && stat_store_goes_on(store, DIR)); /* told from it */
	ck_assert(put(DIR, stat_store_mark(store), count + 1, STAT_PACE) && !stat_store_goes_on(store, DIR));
	asked(DIR, "x"); /* or not */
	ck_assert(stat_store_goes_on(store, DIR));
	for (unsigned int i = 2; i < STAT_HITS; i++)
		asked(DIR, "x");
	ck_assert(stat_store_goes_on(store, DIR));
	asked(DIR, "x"); /* hardly ever told from it */
	ck_assert(!stat_store_goes_on(store, DIR));
	tear_down();
}
END_TEST

START_TEST(memory_is_bounded)
{
	struct stat_found found;
	unsigned int count = 0;
	uint64_t begun = 0;

	set_up();
	stat_store_free(store);
	store = stat_store_new(1 << 20, &key);
	ck_assert_uint_eq(lookups(DIR, STAT_LOOKUPS), STAT_LOOKUPS);
	ck_assert_uint_eq(lookups(DIR + 1, STAT_LOOKUPS), STAT_LOOKUPS);
	while (put(DIR, stat_store_mark(store), count + 1, 100))
		count += 100;
	ck_assert(count >= 2000 && count <= (1 << 20) / sizeof(struct attr));
	ck_assert(has(count) && !has(count + 1));
	ck_assert(!put(DIR + 1, stat_store_mark(store), 1, 100));
	stat_store_end(store, DIR, now);
	ck_assert(put(DIR + 1, stat_store_mark(store), 1, 100) && find(DIR + 1, 1, &found));
	ck_assert(!put(DIR, stat_store_mark(store), 1, 100)); /* nobody fetches it */
	stat_store_end(store, DIR + 1, now);

	/* So many at a time, and no more. */
	for (uint64_t dir = 1000; dir < 2000; dir++)
		begun += lookups(dir, STAT_LOOKUPS) != 0;
	ck_assert_uint_eq(begun, STAT_FETCHES);
	tear_down();
}
END_TEST

START_TEST(without_a_store_nothing_is_learned)
{
	stat_store_ino_changed(NULL, 1);
	stat_store_void(NULL);
	ck_assert_ptr_null(stat_store_free(NULL));
}
END_TEST

UNIT_MAIN("client_stat_store", what_was_fetched_is_found_for_its_time, what_is_learned_counts_for_what_was_asked_before,
	  many_lookups_within_a_second_begin_a_fetch, what_is_not_used_is_fetched_ever_more_seldom,
	  a_large_directory_is_fetched_as_lookups_come, memory_is_bounded, without_a_store_nothing_is_learned)
