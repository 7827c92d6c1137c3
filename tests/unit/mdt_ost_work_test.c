/* What the OSTs get to do: the choice of OSTs for files, and the backlogs of destroys and cuts. */
#include "mdt_driver.h"
#include "unit.h"

#include "mds/backlog.h"

static void set_map(struct layout_chooser *chooser, const uint64_t *free_bytes, const int *states, size_t count)
{
	Strake__ClusterMap map = STRAKE__CLUSTER_MAP__INIT;
	Strake__Target targets[16], *pointers[16];

	for (size_t i = 0; i < count; i++) {
		strake__target__init(&targets[i]);
		targets[i].role = STRAKE__TARGET_ROLE__TARGET_OST;
		targets[i].index = (uint32_t)i;
		targets[i].state = (Strake__TargetState)(states ? states[i] : 0);
		targets[i].bytes_free = free_bytes[i];
		targets[i].bytes_total = free_bytes[i] * 2;
		targets[i].instance = 1;
		pointers[i] = &targets[i];
	}
	map.n_target = count;
	map.target = pointers;
	layout_chooser_set(chooser, &map);
}

static struct layout_chooser chooser;
static uint16_t chosen[LAYOUT_STRIPES_MAX];

START_TEST(equals_take_turns)
{
	const uint64_t free_bytes[] = { 1 << 30, 1 << 30, 1 << 30, 1 << 30 };
	unsigned int first[4] = { 0 };
	uint32_t count;

	chooser.count = 0;
	set_map(&chooser, free_bytes, NULL, 4);
	for (int i = 0; i < 400; i++) {
		ck_assert_int_eq(layout_choose(&chooser, 0, chosen, &count), 0);
		ck_assert_uint_eq(count, 4);
		for (uint32_t j = 1; j < 4; j++)
			ck_assert_uint_eq(chosen[j], (chosen[0] + j) % 4);
		first[chosen[0]]++;
	}
	for (int i = 0; i < 4; i++)
		ck_assert_uint_eq(first[i], 100);
}
END_TEST

START_TEST(shares_follow_free_space)
{
	const uint64_t free_bytes[] = { UINT64_C(3) << 40, UINT64_C(1) << 40, UINT64_C(1) << 40, UINT64_C(1) << 40 };
	unsigned int times[4] = { 0 };
	uint32_t count;

	chooser.count = 0;
	set_map(&chooser, free_bytes, NULL, 4);
	for (int i = 0; i < 600; i++) {
		ck_assert_int_eq(layout_choose(&chooser, 1, chosen, &count), 0);
		ck_assert_uint_eq(count, 1);
		times[chosen[0]]++;
	}
	ck_assert_uint_eq(times[0], 300);
	ck_assert_uint_eq(times[1], 100);
	for (int i = 0; i < 600; i++) {
		ck_assert_int_eq(layout_choose(&chooser, 2, chosen, &count), 0);
		ck_assert_uint_eq(count, 2);
		ck_assert_uint_ne(chosen[0], chosen[1]);
	}
}
END_TEST

/* One is much emptier than the others, and can get but one stripe of each file. */
START_TEST(what_cannot_be_had_is_not_owed)
{
	const uint64_t skewed[] = { UINT64_C(100) << 40, UINT64_C(1) << 40, UINT64_C(1) << 40 };
	const uint64_t even[] = { UINT64_C(1) << 40, UINT64_C(1) << 40, UINT64_C(1) << 40 };
	unsigned int times[3] = { 0 };
	uint32_t count;

	chooser.count = 0;
	set_map(&chooser, skewed, NULL, 3);
	for (int i = 0; i < 1000; i++) {
		ck_assert_int_eq(layout_choose(&chooser, 2, chosen, &count), 0);
		ck_assert_uint_eq(count, 2);
		ck_assert_uint_ne(chosen[0], chosen[1]);
	}
	set_map(&chooser, even, NULL, 3);
	for (int i = 0; i < 300; i++) {
		ck_assert_int_eq(layout_choose(&chooser, 1, chosen, &count), 0);
		times[chosen[0]]++;
	}
	for (int i = 0; i < 3; i++)
		ck_assert_uint_ge(times[i], 80);
}
END_TEST

START_TEST(only_the_fit_are_chosen)
{
	const uint64_t free_bytes[] = { 1 << 30, 1 << 30, 1 << 30, 1 << 30 };
	const int states[] = { STRAKE__TARGET_STATE__TARGET_FULL, STRAKE__TARGET_STATE__TARGET_UP,
			       STRAKE__TARGET_STATE__TARGET_DOWN, STRAKE__TARGET_STATE__TARGET_DEGRADED };
	const int none[] = { 1, 1, 1, 1 }, full[] = { 2, 2, 1, 2 };
	uint32_t count;

	chooser.count = 0;
	ck_assert_int_eq(layout_choose(&chooser, 0, chosen, &count), -EAGAIN);
	set_map(&chooser, free_bytes, states, 4);
	ck_assert_int_eq(layout_choose(&chooser, 3, chosen, &count), 0);
	ck_assert_uint_eq(count, 1);
	ck_assert_uint_eq(chosen[0], 1);
	set_map(&chooser, free_bytes, none, 4);
	ck_assert_int_eq(layout_choose(&chooser, 0, chosen, &count), -EAGAIN);
	set_map(&chooser, free_bytes, full, 4);
	ck_assert_int_eq(layout_choose(&chooser, 0, chosen, &count), -ENOSPC);
	set_map(&chooser, free_bytes, NULL, 2);
	ck_assert_uint_eq(chooser.count, 2);
}
END_TEST

/* Does it all and says how much there was. */
static size_t work_off(struct driver *driver, struct backlog *backlog, uint32_t ost)
{
	Strake__AckRecord record = STRAKE__ACK_RECORD__INIT;
	struct backlog_item item;
	struct destroy_row row;
	size_t count = 0;
	int err;

	record.n_destroyed_ino = record.n_destroyed_gen = record.n_destroyed_ost = 1;
	record.destroyed_ino = &item.ino;
	record.destroyed_gen = &item.gen;
	record.destroyed_ost = &ost;
	while ((err = backlog_peek(backlog, driver->state.view, &item)) != -ENOENT) {
		if (err == -EAGAIN)
			continue;
		backlog_drop(backlog);
		if (destroy_get(driver->state.view, item.ino, item.gen, &row) < 0 || !destroy_awaits(&row, ost))
			continue;
		driver_own(driver, RECORD_ACK, 0, &record.base);
		count++;
	}
	return count;
}

START_TEST(backlogs_forget_nothing)
{
	struct driver *driver = driver_new();
	struct backlog *first = malloc(sizeof(*first)), *second = malloc(sizeof(*second));
	const size_t files = BACKLOG_MAX + BACKLOG_MAX / 2;
	struct destroy_row row;
	char name[32];

	driver_set_osts(driver, 2);
	backlog_init(first, &backlog_destroys, 0);
	backlog_init(second, &backlog_destroys, 1);
	ck_assert_uint_eq(work_off(driver, first, 0), 0);
	for (size_t i = 0; i < files; i++) {
		snprintf(name, sizeof(name), "f%zu", i);
		driver_create(driver, DRIVER_ROOT, name);
		ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, name), 0);
		ck_assert_uint_eq(driver->outcome.destroyed, 1);
		/* The first OST is told as they come, and there is no room for all. */
		backlog_push(first, driver->outcome.destroyed_ino, driver->outcome.destroyed_gen);
	}
	ck_assert_uint_eq(work_off(driver, first, 0), files);
	ck_assert(backlog_is_empty(first));
	/* The second finds out by itself. */
	ck_assert_uint_eq(work_off(driver, second, 1), files);
	ck_assert_int_eq(destroy_from(driver->state.view, 0, 0, &row), -ENOENT);
	ck_assert_uint_eq(work_off(driver, second, 1), 0);
	free(first);
	free(second);
	driver_free(driver);
}
END_TEST

START_TEST(cuts_too)
{
	struct driver *driver = driver_new();
	struct backlog *backlog = malloc(sizeof(*backlog));
	struct backlog_item item;
	char name[32];
	size_t count = 0;
	int err;

	driver_set_osts(driver, 2);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ck_assert_int_eq(driver_truncate(driver, driver_create(driver, DRIVER_ROOT, name), 4711), 0);
	}
	backlog_init(backlog, &backlog_cuts, 1);
	while ((err = backlog_peek(backlog, driver->state.view, &item)) == 0) {
		backlog_drop(backlog);
		count++;
	}
	ck_assert_int_eq(err, -ENOENT);
	ck_assert_uint_eq(count, 100);
	backlog_init(backlog, &backlog_cuts, 5); /* is in no layout */
	ck_assert_int_eq(backlog_peek(backlog, driver->state.view, &item), -ENOENT);
	free(backlog);
	driver_free(driver);
}
END_TEST

UNIT_MAIN("mdt_ost_work", equals_take_turns, shares_follow_free_space, what_cannot_be_had_is_not_owed,
	  only_the_fit_are_chosen, backlogs_forget_nothing, cuts_too)
