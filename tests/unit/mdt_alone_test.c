/* Who alone gives a directory names: when that is promised, who waits for its end, and what the answers say. */
#include "mds/alone.h"

#include "common/loop.h"
#include "mdt_driver.h"
#include "unit.h"

#define MS NSEC_PER_MSEC

static struct alone *alone_new(void)
{
	struct alone *alone = calloc(1, sizeof(*alone));

	ck_assert_ptr_nonnull(alone);
	return alone;
}

/* As many names as it takes for the promise, at now_ns. */
static void become_alone(struct alone *alone, uint64_t dir, uint64_t session, uint64_t now_ns)
{
	for (unsigned int i = 1; i <= ALONE_ADDS; i++) {
		ck_assert_uint_eq(alone_wait(alone, dir, session, now_ns), 0);
		ck_assert(alone_add(alone, dir, session, now_ns) == (i == ALONE_ADDS));
	}
}

START_TEST(others_wait_for_the_end)
{
	struct alone *alone = alone_new();
	uint64_t now_ns = 1000 * MS, end_ns = now_ns + ALONE_HELD_MS * MS;

	become_alone(alone, 10, 1, now_ns);
	ck_assert_uint_eq(alone_wait(alone, 10, 1, now_ns + MS), 0);
	ck_assert_uint_eq(alone_wait(alone, 11, 2, now_ns + MS), 0);
	ck_assert_uint_eq(alone_wait(alone, 10, 2, now_ns + MS), end_ns);
	/* It has waited: the promise is not renewed. */
	ck_assert(!alone_add(alone, 10, 1, now_ns + 2 * MS));
	ck_assert_uint_eq(alone_wait(alone, 10, 2, end_ns - 1), end_ns);
	ck_assert_uint_eq(alone_wait(alone, 10, 2, end_ns), 0);
	free(alone);
}
END_TEST

START_TEST(it_lasts_while_names_come)
{
	struct alone *alone = alone_new();
	uint64_t now_ns = 1000 * MS;

	become_alone(alone, 10, 1, now_ns);
	for (int i = 0; i < 10; i++) {
		now_ns += ALONE_MS * MS;
		ck_assert(alone_add(alone, 10, 1, now_ns));
	}
	ck_assert_uint_eq(alone_wait(alone, 10, 2, now_ns), now_ns + ALONE_HELD_MS * MS);
	free(alone);
}
END_TEST

/* Two that fill a directory together never wait; when one has stopped the other is alone in time. */
START_TEST(where_many_add_names_nobody_waits)
{
	struct alone *alone = alone_new();
	uint64_t now_ns = 1000 * MS;

	for (int i = 0; i < 100; i++, now_ns += MS) {
		ck_assert_uint_eq(alone_wait(alone, 10, 1 + (uint64_t)(i / 2 % 2), now_ns), 0);
		ck_assert(!alone_add(alone, 10, 1 + (uint64_t)(i / 2 % 2), now_ns));
	}
	for (int i = 0; i < 100; i++)
		ck_assert(!alone_add(alone, 10, 1, now_ns));
	now_ns += ALONE_SHARED_MS * MS;
	become_alone(alone, 10, 1, now_ns);
	free(alone);
}
END_TEST

/* Who comes after one that has ended, or long after, is alone at once. */
START_TEST(one_after_the_other)
{
	struct alone *alone = alone_new();
	uint64_t now_ns = 1000 * MS;

	become_alone(alone, 10, 1, now_ns);
	alone_end(alone, 1);
	ck_assert_uint_eq(alone_wait(alone, 10, 2, now_ns), now_ns + ALONE_HELD_MS * MS);
	now_ns += ALONE_HELD_MS * MS;
	become_alone(alone, 10, 2, now_ns);
	now_ns += ALONE_SHARED_MS * MS;
	become_alone(alone, 10, 3, now_ns);
	ck_assert(alone_add(alone, 10, 3, now_ns));
	now_ns += ALONE_HELD_MS * MS;
	for (unsigned int i = 0; i < 2 * ALONE_ADDS; i++)
		ck_assert(!alone_add(alone, 10, 2, now_ns));
	free(alone);
}
END_TEST

START_TEST(one_before_may_have_promised)
{
	struct alone *alone = alone_new();

	alone->start_ns = 500 * MS;
	ck_assert_uint_eq(alone_wait(alone, 10, 1, 501 * MS), (500 + ALONE_HELD_MS) * MS);
	ck_assert_uint_eq(alone_wait(alone, 10, 1, (500 + ALONE_HELD_MS) * MS), 0);
	free(alone);
}
END_TEST

START_TEST(a_place_that_is_taken)
{
	struct alone *alone = alone_new();
	uint64_t now_ns = 1000 * MS, other;

	become_alone(alone, 10, 1, now_ns);
	/* Find one that falls on the row of 10: it leaves that row as it is. */
	for (other = 11;; other++) {
		struct alone *probe = alone_new();
		bool same;

		become_alone(probe, 10, 1, now_ns);
		alone_add(probe, other, 2, now_ns);
		same = true;
		for (size_t i = 0; i < ALONE_ROWS; i++)
			same = same && probe->rows[i].dir != other;
		free(probe);
		if (same)
			break;
		ck_assert_uint_lt(other, 100000);
	}
	for (unsigned int i = 0; i < 2 * ALONE_ADDS; i++)
		ck_assert(!alone_add(alone, other, 2, now_ns));
	ck_assert_uint_eq(alone_wait(alone, other, 3, now_ns), 0);
	ck_assert_uint_gt(alone_wait(alone, 10, 3, now_ns), 0);
	/* When it is over the other has it. */
	now_ns += ALONE_HELD_MS * MS;
	become_alone(alone, other, 2, now_ns);
	ck_assert_uint_eq(alone_wait(alone, 10, 3, now_ns), 0);
	free(alone);
}
END_TEST

/* What is promised here ends after what is believed there, though clocks differ by a tenth. */
START_TEST(it_ends_there_first)
{
	ck_assert_uint_ge(ALONE_HELD_MS * 10, ALONE_MS * 11);
}
END_TEST

/* The answers tell, and of both directories which version they were of. */
START_TEST(answers_tell)
{
	struct driver *driver = driver_new();
	uint64_t from = driver_mkdir(driver, DRIVER_ROOT, "from"), to = driver_mkdir(driver, DRIVER_ROOT, "to"), file;
	uint64_t from_version, to_version;
	const Strake__RenameReply *rename;

	driver->alone = true;
	file = driver_create(driver, from, "a");
	ck_assert_uint_eq(driver_entry(driver)->parent_alone_ms, ALONE_MS);
	ck_assert_int_eq(driver_link(driver, file, from, "b"), 0);
	ck_assert_uint_eq(driver_entry(driver)->parent_alone_ms, ALONE_MS);
	from_version = driver_inode(driver, from).version;
	ck_assert_uint_eq(driver_entry(driver)->parent_attr->version, from_version);
	to_version = driver_inode(driver, to).version;
	ck_assert_int_eq(driver_rename(driver, from, "a", to, "c", 0), 0);
	rename = (const void *)driver->reply;
	ck_assert_uint_eq(rename->alone_ms, ALONE_MS);
	ck_assert(rename->has_parent_version_before && rename->has_new_parent_version_before);
	ck_assert_uint_eq(rename->parent_version_before, from_version);
	ck_assert_uint_eq(rename->new_parent_version_before, to_version);
	/* Two names of one file stay as they are, and so do the directories. */
	ck_assert_int_eq(driver_rename(driver, from, "b", to, "c", 0), 0);
	rename = (const void *)driver->reply;
	ck_assert_uint_eq(rename->parent_version_before, rename->parent_attr->version);

	driver->alone = false;
	driver_create(driver, from, "d");
	ck_assert(!driver_entry(driver)->has_parent_alone_ms);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

UNIT_MAIN("mdt_alone", others_wait_for_the_end, it_lasts_while_names_come, where_many_add_names_nobody_waits,
	  one_after_the_other, one_before_may_have_promised, a_place_that_is_taken, it_ends_there_first, answers_tell)
