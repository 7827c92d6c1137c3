/* Void numbers: nothing has them, nothing is made of them, whatever is under way or killed. */
#include "tests/unit/ost_fence.h"

#include "oss/operations.h"
#include "oss/ost_object.h"

static struct where content(uint64_t ino, uint64_t gen)
{
	return (struct where){ .ino = ino, .gen = gen };
}

/* As often as it takes. */
static int void_numbers(uint64_t first, uint64_t end)
{
	int err;

	while ((err = void_once(first, end)) == -EAGAIN)
		;

	return err;
}

static bool is_refused(struct where where)
{
	struct totals totals;
	char got[8];

	return write_text(where, 0, "late") == -ESTALE && read_at(where, 0, got, sizeof(got)) == -ESTALE &&
	       glimpse(where, &totals) == -ESTALE && seek(where, 0, false) == -ESTALE &&
	       commit(where, NULL) == -ESTALE && !object_file_exists(where);
}

static void void_body(void)
{
	const struct where made = content(2000, 2000), truncated = content(100, 2001), grown = content(2150, 2150);
	const struct where live[] = { content(100, 1), content(100, 2300), content(1999, 1999), content(2200, 2200) };

	for (int i = 0; i < 4; i++)
		assert(write_text(live[i], 0, "live") == 0);
	assert(write_text(made, 0, "old") == 0 && write_text(at_seq(made, 7), 0, "old") == 0);
	assert(commit(made, NULL) == 0);
	assert(write_text(truncated, 0, "old") == 0 && write_text(grown, 0, "old") == 0);
	assert(read_at(content(2002, 2002), 0, (char[8]){ 0 }, 8) == 0); /* in memory, without an object */
	assert(ost_void_end(ost) == 0);
	assert(void_numbers(2000, 2100) == 0);
	assert(is_refused(made) && !object_file_exists(at_seq(made, 7)));
	assert(is_refused(truncated) && is_refused(content(2002, 2002)) && is_refused(content(2099, 2099)));
	assert(ost_void_end(ost) == 2100);
	/* Again, and a part of it. */
	assert(void_once(2000, 2100) == 0 && void_once(2000, 2050) == 0 && ost_void_end(ost) == 2100);
	assert(text_is(grown, 0, "old"));
	assert(void_numbers(2000, 2200) == 0 && is_refused(grown));
	for (int i = 0; i < 4; i++)
		assert(text_is(live[i], 0, "live") && write_text(live[i], 0, "LIVE") == 0);

	/* What makes no sense. */
	assert(void_once(5, 5) == -EINVAL && void_once(6, 5) == -EINVAL);
	assert(void_numbers(3000, 3001) == 0 && void_numbers(10, 11) == 0);
	assert(is_refused(content(1, 10)) && is_refused(content(1, 3000)) && text_is(live[0], 0, "LIVE"));
}

/* The MDT has gone on from an older copy: what it tells now lies over what it told before. */
static void overlap_body(void)
{
	const struct where kept[] = { content(100, 99), content(100, 600) };
	const struct where gone[] = { content(100, 100), content(100, 299), content(100, 301), content(100, 599) };

	assert(void_numbers(200, 210) == 0 && void_numbers(300, 301) == 0 && void_numbers(550, 560) == 0);
	for (int i = 0; i < 2; i++)
		assert(write_text(kept[i], 0, "kept") == 0);
	for (int i = 0; i < 4; i++)
		assert(write_text(gone[i], 0, "gone") == 0);
	/* Between two, from the middle of one, to that of another, and over all. */
	assert(void_once(205, 208) == 0 && text_is(gone[0], 0, "gone"));
	assert(void_numbers(205, 300) == 0 && is_refused(gone[1]) && text_is(gone[2], 0, "gone"));
	assert(void_numbers(150, 205) == 0 && text_is(gone[0], 0, "gone"));
	assert(void_numbers(100, 600) == 0 && ost_void_end(ost) == 600);
	for (int i = 0; i < 4; i++)
		assert(is_refused(gone[i]));
	assert(is_refused(content(1, 205)) && is_refused(content(1, 300)) && is_refused(content(1, 555)));
	for (int i = 0; i < 2; i++)
		assert(text_is(kept[i], 0, "kept"));
	assert(void_once(100, 600) == 0 && void_once(120, 590) == 0);
}

static void overlap_again(void)
{
	assert(ost_void_end(ost) == 600 && is_refused(content(100, 100)) && is_refused(content(100, 599)));
	assert(void_once(100, 600) == 0 && text_is(content(100, 600), 0, "kept"));
}

START_TEST(void_numbers_lie_over_others)
{
	run_bodies(overlap_body, overlap_again);
}
END_TEST

static void void_again(void)
{
	const struct where made = content(2000, 2000);

	assert(!ost->recovered && ost_void_end(ost) == 3001);
	assert(is_refused(made) && is_refused(content(2150, 2150)) && is_refused(content(1, 10)));
	assert(void_once(2000, 2200) == 0 && void_once(3000, 3001) == 0);
	assert(text_is(content(2200, 2200), 0, "LIVE"));
	/* No session of that time lives: the tombstone goes, the range stays. */
	assert(push_sessions(mdt, 2, &(const uint64_t){ SESSION + 1 }, 1, SESSION + 1) == 0);
	ost_sweep_tombstones(ost);
	assert(read_at(made, 0, (char[8]){ 0 }, 8) == -ESTALE);
	file_forget_idle(ost);
	assert(read_at(made, 0, (char[8]){ 0 }, 8) == -ESTALE);
}

START_TEST(void_numbers_make_nothing)
{
	run_bodies(void_body, void_again);
}
END_TEST

#define VOID_FILES 700

/* What is only in the index, nothing in memory. */
static void forget_all(void)
{
	assert(object_commit_all(ost) == 0);
	object_close_idle(ost);
	file_forget_idle(ost);
}

static void void_many(void)
{
	const struct where other = content(1, 1);
	int pieces = 1, err;

	for (uint64_t i = 0; i < VOID_FILES; i++) {
		assert(write_text(content(2 + i, 2 + i), 0, "live") == 0);
		assert(write_text(content(2 + i, 5000 + i), 0, "lost") == 0);
		if (i % 100 == 0)
			assert(commit(content(0, 0), NULL) == 0);
	}
	forget_all();
	for (; (err = void_once(5000, 6000)) == -EAGAIN; pieces++)
		assert(write_text(other, 0, "goes on") == 0 && ost_void_end(ost) == 0);
	assert(err == 0 && pieces > 2 && ost_void_end(ost) == 6000);
	for (uint64_t i = 0; i < VOID_FILES; i++) {
		assert(text_is(content(2 + i, 2 + i), 0, "live"));
		assert(!object_file_exists(content(2 + i, 5000 + i)));
	}
	/* Ranges that come while others are under way are swept from the beginning. */
	for (uint64_t i = 0; i < VOID_FILES; i++)
		assert(write_text(content(2 + i, 7000 + i), 0, "lost") == 0);
	forget_all();
	assert(void_once(7000, 8000) == -EAGAIN);
	assert(void_numbers(2, 3) == 0 && is_refused(content(2, 2)) && is_refused(content(2, 7000)));
	assert(!object_file_exists(content(2 + VOID_FILES - 1, 7000 + VOID_FILES - 1)));
}

START_TEST(void_numbers_go_a_piece_at_a_time)
{
	run_bodies(void_many, NULL);
}
END_TEST

static int void_result;
static bool void_over;

static void void_fiber(void *arg)
{
	(void)arg;
	void_result = void_numbers(a.gen, a.gen + 1);
	void_over = true;
}

/* A write that is inside the content, on its way to the disk, and has made its object. */
static void void_beside_write(void)
{
	gate_closed = true;
	disk_set_fault(ost->disk, wait_at_gate, NULL);
	assert(fiber_start(loop, write_fiber, NULL) == 0);
	wait_for(&in_gate);
	assert(fiber_start(loop, void_fiber, NULL) == 0);
	while (!ost_is_void(ost, a.gen))
		fiber_sleep_ms(1);
	open_gate();
	wait_for(&write_over);
	wait_for(&void_over);
	assert(void_result == 0 && !object_file_exists(a) && is_refused(a));
}

START_TEST(void_numbers_wait_for_what_runs)
{
	run_bodies(void_beside_write, NULL);
}
END_TEST

static void void_killed(void)
{
	write_four();
	disk_set_fault(ost->disk, die_at, NULL);
	(void)void_numbers(1, 2);
	abort();
}

static void after_void_killed(void)
{
	/* Nobody need tell it again for it to know. */
	assert(ost->recovered && write_text(at_seq(a, 9), 0, "x") == -ESTALE);
	assert(write_text(content(101, 1), 0, "x") == -ESTALE);
	assert(ost_void_end(ost) == 0 && void_numbers(1, 2) == 0 && ost_void_end(ost) == 2);
	for (uint64_t seq = 0; seq < 4; seq++)
		assert(!object_file_exists(at_seq(a, seq)));
	assert(ost->io_errors == 0);
}

static void void_and_die(void)
{
	write_four();
	assert(void_numbers(1, 2) == 0);
	kill_self();
}

static void after_void(void)
{
	assert(ost->recovered && ost_void_end(ost) == 2 && is_refused(a));
}

START_TEST(void_numbers_survive_a_kill)
{
	kill_at(void_killed, after_void_killed, DISK_UNLINK, 0);
	kill_at(void_killed, after_void_killed, DISK_UNLINK, 2);
	fixture_format();
	fixture_run_killed(void_and_die);
	fixture_run(after_void);
	temp_dir_remove(fixture_dir);
}
END_TEST

UNIT_MAIN("ost_void", void_numbers_lie_over_others, void_numbers_make_nothing, void_numbers_go_a_piece_at_a_time,
	  void_numbers_wait_for_what_runs, void_numbers_survive_a_kill)
