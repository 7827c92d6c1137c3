/* What an OST must not give back: bytes that were cut away, content that was destroyed, over the wire and through kills. */
#include "tests/unit/ost_fence.h"

#include "oss/index_internal.h"
#include "oss/operations.h"
#include "oss/ost_object.h"

/* --- truncates ----------------------------------------------------------------------------------------------------------- */

static void truncate_body(void)
{
	struct where cut1 = with_cut(a, 1, STRIPE + 3, UINT64_MAX), late = cut1;
	struct totals totals;

	for (uint64_t seq = 0; seq < 4; seq++)
		assert(write_text(at_seq(a, seq), 0, "0123456789") == 0);
	assert(cut(cut1) == 0);
	assert(text_is(a, 0, "0123456789") && text_is(at_seq(cut1, 1), 0, "012"));
	assert(text_is(at_seq(cut1, 2), 0, "") && text_is(at_seq(cut1, 3), 0, ""));
	assert(!object_file_exists(at_seq(a, 2)) && !object_file_exists(at_seq(a, 3)));
	assert(glimpse(cut1, &totals) == 0 && totals.end == STRIPE + 3 && totals.blocks == 16);

	/* Who has not heard of it may not write, but read. */
	assert(write_text(at_seq(a, 1), 5, "late") == -ESTALE);
	assert(text_is(at_seq(a, 1), 0, "012"));

	/* It grows again; the same cut, heard once more, takes nothing of that. */
	assert(write_text(at_seq(cut1, 2), 0, "new") == 0 && write_text(at_seq(cut1, 1), 3, "NEW") == 0);
	assert(cut(cut1) == 0);
	assert(text_is(at_seq(cut1, 1), 0, "012NEW") && text_is(at_seq(cut1, 2), 0, "new"));
	late.cut_start = 0;
	assert(cut(late) == 0 && text_is(at_seq(cut1, 2), 0, "new"));
	assert(commit(cut1, &totals) == 0 && totals.end == 2 * STRIPE + 3);
}

static void truncate_again(void)
{
	struct where cut1 = with_cut(a, 1, STRIPE + 3, UINT64_MAX);

	assert(write_text(a, 0, "late") == -ESTALE);
	assert(cut(cut1) == 0);
	assert(text_is(at_seq(cut1, 1), 0, "012NEW") && text_is(at_seq(cut1, 2), 0, "new"));
	/* Past all there is: nothing goes, but it counts. */
	assert(cut(with_cut(a, 2, 100 * STRIPE, UINT64_MAX)) == 0);
	assert(write_text(cut1, 0, "late") == -ESTALE);
	assert(text_is(at_seq(cut1, 2), 0, "new"));
}

START_TEST(truncates_cut_once)
{
	run_bodies(truncate_body, truncate_again);
}
END_TEST

static void newer_cut_body(void)
{
	struct where cut1 = with_cut(a, 1, 4, UINT64_MAX), cut2 = with_cut(a, 2, 2, UINT64_MAX);
	struct where cut3 = with_cut(a, 3, 1, UINT64_MAX);
	struct totals totals;
	char got[16];

	assert(write_text(a, 0, "0123456789") == 0);
	assert(write_text(cut1, 6, "xy") == 0); /* brings its cut along */
	assert(read_at(a, 0, got, sizeof(got)) == 8 && memcmp(got, "0123\0\0xy", 8) == 0);
	assert(read_at(cut2, 0, got, sizeof(got)) == 2);
	assert(glimpse(cut3, &totals) == 0 && totals.end == 1);
	assert(write_text(cut2, 0, "x") == -ESTALE);
	assert(cut(cut2) == 0 && text_is(a, 0, "0"));
}

START_TEST(whoever_brings_a_newer_cut_has_it_applied)
{
	run_bodies(newer_cut_body, NULL);
}
END_TEST

static uint64_t punch_blocks; /* what is left of a page that was emptied */

static void punch_body(void)
{
	struct where cut1 = with_cut(a, 1, STRIPE + 4, 3 * STRIPE + 4), cut2 = with_cut(a, 2, 0, 4 * STRIPE);
	struct totals totals;
	char got[16];

	for (uint64_t seq = 0; seq < 4; seq++)
		assert(write_text(at_seq(a, seq), 0, "0123456789") == 0);
	assert(cut(cut1) == 0);
	assert(text_is(a, 0, "0123456789"));
	assert(read_at(at_seq(a, 1), 0, got, 16) == 10 && memcmp(got, "0123\0\0\0\0\0\0", 10) == 0);
	assert(!object_file_exists(at_seq(a, 2)));
	assert(read_at(at_seq(a, 3), 0, got, 16) == 10 && memcmp(got, "\0\0\0\000456789", 10) == 0);
	assert(write_text(a, 0, "x") == -ESTALE);
	/* All of it: the last object stays, empty, and says how far the file reaches. */
	assert(cut(cut2) == 0);
	assert(glimpse(cut2, &totals) == 0 && totals.end == 3 * STRIPE + 10 && totals.blocks == punch_blocks);
	assert(read_at(at_seq(a, 3), 0, got, 16) == 10 && memcmp(got, "\0\0\0\0\0\0\0\0\0\0", 10) == 0);
	assert(!object_file_exists(a) && !object_file_exists(at_seq(a, 1)));
}

static int cannot_punch(void *arg, enum disk_op op)
{
	(void)arg;
	return op == DISK_ALLOCATE ? -EOPNOTSUPP : 0;
}

/* On a filesystem that has no holes. */
static void written_punch_body(void)
{
	disk_set_fault(ost->disk, cannot_punch, NULL);
	punch_body();
}

START_TEST(punches_leave_holes)
{
	run_bodies(punch_body, NULL);
	punch_blocks = 8; /* one page of zeros */
	run_bodies(written_punch_body, NULL);
}
END_TEST

static int cannot_unlink(void *arg, enum disk_op op)
{
	(void)arg;
	return op == DISK_UNLINK ? -EIO : 0;
}

/* A file that could not be unlinked does not come back with its bytes. */
static void left_body(void)
{
	struct where cut1 = with_cut(a, 1, 0, UINT64_MAX);
	char got[16];

	assert(write_text(a, 0, "old bytes") == 0 && commit(a, NULL) == 0);
	disk_set_fault(ost->disk, cannot_unlink, NULL);
	assert(cut(cut1) == -EIO && object_file_exists(a));
	disk_set_fault(ost->disk, NULL, NULL);
	assert(text_is(cut1, 0, ""));
	assert(write_text(cut1, 4, "new") == 0);
	assert(read_at(cut1, 0, got, sizeof(got)) == 7 && memcmp(got, "\0\0\0\0new", 7) == 0);
}

START_TEST(what_an_unlink_left_behind_is_empty)
{
	run_bodies(left_body, NULL);
}
END_TEST

/* --- killed in the middle ---------------------------------------------------------------------------------------------- */

static void killed_cut(void)
{
	write_four();
	disk_set_fault(ost->disk, die_at, NULL);
	(void)cut(with_cut(a, 1, STRIPE + 3, UINT64_MAX));
	abort();
}

static void after_killed_cut(void)
{
	struct where cut1 = with_cut(a, 1, STRIPE + 3, UINT64_MAX);
	char got[16];

	assert(ost->recovered);
	for (uint64_t seq = 0; seq < 4; seq++)
		assert(read_at(at_seq(a, seq), 0, got, sizeof(got)) >= 0); /* all, or cut: nothing looks lost */
	assert(cut(cut1) == 0);                                            /* the MDT has no answer yet */
	assert(text_is(a, 0, "0123456789") && text_is(at_seq(a, 1), 0, "012"));
	assert(text_is(at_seq(a, 2), 0, "") && text_is(at_seq(a, 3), 0, ""));
	assert(!object_file_exists(at_seq(a, 2)) && !object_file_exists(at_seq(a, 3)));
	assert(write_text(a, 0, "x") == -ESTALE);
	assert(ost->io_errors == 0);
}

static void killed_destroy(void)
{
	const uint64_t gen = 1;

	write_four();
	disk_set_fault(ost->disk, die_at, NULL);
	(void)destroy(&a.ino, &gen, 1, SESSION);
	abort();
}

static void after_killed_destroy(void)
{
	const uint64_t gen = 1;

	assert(destroy(&a.ino, &gen, 1, SESSION) == 0);
	for (uint64_t seq = 0; seq < 4; seq++)
		assert(!object_file_exists(at_seq(a, seq)));
	assert(write_text(a, 0, "x") == -ESTALE);
	assert(ost->io_errors == 0);
}

START_TEST(a_kill_in_a_cut_or_a_destroy_is_survived)
{
	kill_at(killed_cut, after_killed_cut, DISK_SYNC, 0);
	kill_at(killed_cut, after_killed_cut, DISK_UNLINK, 0);
	kill_at(killed_cut, after_killed_cut, DISK_UNLINK, 1);
	kill_at(killed_cut, after_killed_cut, DISK_SYNC, 1); /* the folder's */
	kill_at(killed_destroy, after_killed_destroy, DISK_UNLINK, 0);
	kill_at(killed_destroy, after_killed_destroy, DISK_UNLINK, 2);
}
END_TEST

/* --- killed when it had just answered ------------------------------------------------------------------------------------ */

static void commit_and_die(void)
{
	assert(write_text(a, 0, "0123456789") == 0);
	assert(commit(a, NULL) == 0);
	kill_self();
}

static void after_commit(void)
{
	assert(ost->recovered && ost->recovery.known == 1 && ost->recovery.entered == 0);
}

static void cut_and_die(void)
{
	assert(text_is(a, 0, "0123456789"));
	assert(cut(with_cut(a, 1, 3, UINT64_MAX)) == 0);
	kill_self();
}

static void after_cut(void)
{
	assert(ost->recovered && write_text(a, 0, "x") == -ESTALE);
	assert(text_is(with_cut(a, 1, 3, UINT64_MAX), 0, "012"));
}

static void destroy_and_die(void)
{
	const uint64_t gen = 1;

	assert(destroy(&a.ino, &gen, 1, SESSION) == 0);
	kill_self();
}

static void after_destroy(void)
{
	assert(ost->recovered && write_text(with_cut(a, 1, 3, UINT64_MAX), 0, "x") == -ESTALE);
}

START_TEST(what_was_answered_is_known_after_a_kill)
{
	fixture_format();
	fixture_run_killed(commit_and_die);
	fixture_run(after_commit);
	fixture_run_killed(cut_and_die);
	fixture_run(after_cut);
	fixture_run_killed(destroy_and_die);
	fixture_run(after_destroy);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* --- tombstones ---------------------------------------------------------------------------------------------------------- */

static void destroy_body(void)
{
	const uint64_t inos[] = { 100, 101, 102 }, gens[] = { 1, 1, 1 };
	const struct where next_gen = { .ino = 100, .gen = 2 };
	struct totals totals;
	char got[8];

	assert(write_text(a, 0, "old") == 0 && write_text(at_seq(a, 9), 0, "old") == 0);
	assert(write_text(next_gen, 0, "new") == 0);
	assert(write_text((struct where){ .ino = 101, .gen = 1 }, 0, "old") == 0);
	assert(destroy(inos, gens, 3, SESSION) == 0);
	assert(!object_file_exists(a) && !object_file_exists(at_seq(a, 9)));
	assert(write_text(a, 0, "late") == -ESTALE && !object_file_exists(a));
	assert(write_text((struct where){ .ino = 102, .gen = 1 }, 0, "late") == -ESTALE);
	assert(read_at(a, 0, got, sizeof(got)) == -ESTALE && glimpse(a, &totals) == -ESTALE);
	assert(commit(a, &totals) == 0 && totals.end == 0 && totals.blocks == 0);
	assert(cut(with_cut(a, 5, 0, UINT64_MAX)) == 0);
	assert(text_is(next_gen, 0, "new"));
	assert(destroy(inos, gens, 3, SESSION) == 0);
}

static int cannot_sync(void *arg, enum disk_op op)
{
	(void)arg;
	return op == DISK_SYNC ? -EIO : 0;
}

static void destroy_again(void)
{
	const uint64_t others[] = { SESSION + 1 }, both[] = { SESSION, SESSION + 1 };
	const uint64_t ino = 101, gen = 1;
	struct index_file row;
	char got[8];

	assert(write_text(a, 0, "late") == -ESTALE);
	assert(text_is((struct where){ .ino = 100, .gen = 2 }, 0, "new"));
	/* Sessions of that time live: it stays. */
	assert(push_sessions(mdt, 2, both, 2, SESSION + 1) == 0);
	ost_sweep_tombstones(ost);
	assert(write_text(a, 0, "late") == -ESTALE);
	/* Told of again in the time of a later session: it stays for that one, too. */
	assert(destroy(&ino, &gen, 1, SESSION + 1) == 0);
	assert(push_sessions(mdt, 3, others, 1, SESSION + 1) == 0);
	/* Not before the folders are synced: what was unlinked must not come back without it. */
	disk_set_fault(ost->disk, cannot_sync, NULL);
	ost_sweep_tombstones(ost);
	assert(read_at(a, 0, got, sizeof(got)) == -ESTALE);
	disk_set_fault(ost->disk, NULL, NULL);
	ost_sweep_tombstones(ost);
	assert(index_get_file(ost->index, a.ino, a.gen, &row) == -ENOENT);
	assert(index_get_file(ost->index, 102, 1, &row) == -ENOENT);
	assert(index_get_file(ost->index, 101, 1, &row) == 0 && row.destroyed);
	assert(read_at(a, 0, got, sizeof(got)) == 0);
}

/* What cannot be unlinked does not come back, whatever is cut or swept before a start can do it. */
static void not_unlinked_body(void)
{
	struct where cut1 = with_cut(a, 1, STRIPE, UINT64_MAX), other = { .ino = 300, .gen = 1 };
	const uint64_t later[] = { SESSION + 1 };
	struct index_file row;

	for (uint64_t seq = 0; seq < 3; seq++)
		assert(write_text(at_seq(a, seq), 0, "old") == 0);
	assert(write_text(other, 0, "old") == 0 && commit(a, NULL) == 0 && commit(other, NULL) == 0);
	disk_set_fault(ost->disk, cannot_unlink, NULL);
	assert(cut(cut1) == -EIO && cut(cut1) == 0);
	assert(destroy(&other.ino, &other.gen, 1, SESSION) == -EIO && destroy(&other.ino, &other.gen, 1, SESSION) == 0);
	disk_set_fault(ost->disk, NULL, NULL);
	assert(object_file_exists(at_seq(a, 1)) && object_file_exists(other));
	assert(text_is(at_seq(cut1, 0), 0, "old") && text_is(at_seq(cut1, 1), 0, ""));

	/* By the next cut it would not be known any more, nor without the tombstone. */
	assert(cut(with_cut(a, 2, 2 * STRIPE, UINT64_MAX)) == -EIO);
	assert(push_sessions(mdt, 2, later, 1, SESSION + 1) == 0);
	ost_sweep_tombstones(ost);
	assert(index_get_file(ost->index, other.ino, other.gen, &row) == 0 && row.destroyed);
}

static void not_unlinked_again(void)
{
	struct where cut2 = with_cut(a, 2, 2 * STRIPE, UINT64_MAX), other = { .ino = 300, .gen = 1 };

	assert(!object_file_exists(at_seq(a, 1)) && !object_file_exists(at_seq(a, 2)) && !object_file_exists(other));
	assert(cut(cut2) == 0 && text_is(at_seq(cut2, 0), 0, "old") && text_is(at_seq(cut2, 1), 0, ""));
}

START_TEST(what_cannot_be_unlinked_does_not_come_back)
{
	run_bodies(not_unlinked_body, not_unlinked_again);
}
END_TEST

START_TEST(the_destroyed_stay_dead_while_somebody_may_write)
{
	run_bodies(destroy_body, destroy_again);
}
END_TEST

#define BIG 3000

static void destroy_big(void)
{
	struct where big = { .ino = 500, .gen = 1 };
	const uint64_t gen = 1;
	unsigned int before = ost->object_count;

	for (uint64_t seq = 0; seq < BIG; seq++)
		assert(write_at(at_seq(big, seq), 0, "x", 1) == 0);
	assert(destroy(&big.ino, &gen, 1, SESSION) == 0);
	assert(ost->object_count == before);
	for (uint64_t seq = 0; seq < BIG; seq += 97)
		assert(!object_file_exists(at_seq(big, seq)));
}

START_TEST(big_files_go_too)
{
	run_bodies(destroy_big, NULL);
}
END_TEST

/* --- commits beside a cut ------------------------------------------------------------------------------------------------ */

static int cut_result;
static bool cut_over;

static void cut_fiber(void *arg)
{
	cut_result = cut(*(const struct where *)arg);
	cut_over = true;
}

/* A commit of all objects ends while a cut waits for the index: what the cut takes stays out of it. */
static void commit_in_cut_body(void)
{
	struct where cut1 = with_cut(a, 1, STRIPE, UINT64_MAX);
	struct index_object row;
	MDB_txn *txn;

	for (uint64_t seq = 0; seq < 4; seq++)
		assert(write_text(at_seq(a, seq), 0, "0123456789") == 0);
	assert(mdb_txn_begin(ost->index->env, NULL, 0, &txn) == 0); /* nobody else commits to it */
	assert(fiber_start(loop, cut_fiber, &cut1) == 0);
	while (index_get_object(ost->index, a.ino, a.gen, 3, &row) == 0)
		fiber_sleep_ms(1);
	assert(object_commit_all(ost) == 0);
	mdb_txn_abort(txn);
	wait_for(&cut_over);
	assert(cut_result == 0);
	for (uint64_t seq = 1; seq < 4; seq++)
		assert(text_is(at_seq(cut1, seq), 0, ""));
	assert(write_text(at_seq(cut1, 2), 0, "new") == 0 && text_is(at_seq(cut1, 2), 0, "new"));
}

START_TEST(a_commit_brings_back_nothing_that_a_cut_takes)
{
	run_bodies(commit_in_cut_body, NULL);
}
END_TEST

UNIT_MAIN("ost_cut", truncates_cut_once, what_cannot_be_unlinked_does_not_come_back,
	  whoever_brings_a_newer_cut_has_it_applied, punches_leave_holes, what_an_unlink_left_behind_is_empty,
	  a_kill_in_a_cut_or_a_destroy_is_survived, what_was_answered_is_known_after_a_kill,
	  the_destroyed_stay_dead_while_somebody_may_write, big_files_go_too,
	  a_commit_brings_back_nothing_that_a_cut_takes)
